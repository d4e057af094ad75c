//! The `.idx` file of an `IndexedDataset`, checked once and then read in place. `docs/shard-format.md` has its bytes.

use std::path::Path;

use crate::error::{Error, Result};

/// What to do about a damaged file.
pub(super) const REBUILD: &str = "build the shards again with tools/build_shards --overwrite";

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
const DTYPE_INT32: u8 = 4;
const HEADER_BYTES: usize = 34;
const TOKEN_BYTES: u64 = 4;

/// The index of one shard over its bytes `B`. Documents are samples; their sequences alternate masked, trained, ...
///
/// The arrays begin at odd places of the file, so they are read number by number from bytes, never cast.
#[derive(Debug)]
pub struct Index<B> {
    bytes: B,
    num_sequences: usize,
    num_documents: usize,
    counts: Counts,
}

/// What a shard holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Documents.
    pub num_samples: u64,
    /// Tokens of all sequences.
    pub tokens: u64,
    /// Tokens of the trained sequences, every second one of a document.
    pub trained_tokens: u64,
}

impl<B: AsRef<[u8]>> Index<B> {
    /// Checks every entry of the index `bytes` of the file `path` against each other and against the size of the `.bin`
    /// file, in bytes. After that no access can leave either file.
    ///
    /// Fails with [`Error::Shards`], which names the first entry that is wrong.
    pub fn new(path: &Path, bytes: B, bin_bytes: u64) -> Result<Self> {
        let damaged = |what: String| Error::shards(path, format!("damaged index: {what}; {REBUILD}"));
        let (num_sequences, num_entries) = header(bytes.as_ref()).map_err(damaged)?;
        if num_entries < 2 {
            return Err(damaged(format!("{num_entries} entries for documents (offset 26) are too few")));
        }
        let mut index = Self { bytes, num_sequences, num_documents: num_entries - 1, counts: Counts::default() };
        index.check_sequences(bin_bytes).map_err(damaged)?;
        index.counts = index.check_documents().map_err(damaged)?;
        Ok(index)
    }

    /// What the shard holds.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Calls `visit` with the tokens and the trained tokens of each document, in order.
    pub fn for_each_length(&self, mut visit: impl FnMut(u32, u32)) {
        let mut lengths = self.lengths();
        for sequences in self.sequences_per_document() {
            let (mut tokens, mut trained) = (0, 0);
            for (number, length) in lengths.by_ref().take(sequences as usize).enumerate() {
                tokens += length;
                trained += if number % 2 == 1 { length } else { 0 };
            }
            visit(tokens, trained);
        }
    }

    /// Place of a document's first token in the `.bin` file, in tokens, and the lengths of its sequences.
    ///
    /// Panics when there is no document of that number.
    pub fn document(&self, number: usize) -> (usize, impl Iterator<Item = usize> + Clone + '_) {
        assert!(number < self.num_documents, "document {number} of {}", self.num_documents);
        let [documents, pointers, lengths] = [self.documents_at(), self.pointers_at(), HEADER_BYTES];
        let bytes = self.bytes.as_ref();
        let first = read_u64(bytes, documents + 8 * number) as usize;
        let end = read_u64(bytes, documents + 8 * (number + 1)) as usize;
        let start = read_u64(bytes, pointers + 8 * first) / TOKEN_BYTES;
        let lengths = bytes[lengths + 4 * first..lengths + 4 * end].chunks_exact(4);
        (start as usize, lengths.map(|chunk| le_u32(chunk) as usize))
    }

    /// Lengths are at least 1, and pointers are where the lengths put them, from the start of the `.bin` file to its end.
    fn check_sequences(&self, bin_bytes: u64) -> std::result::Result<(), String> {
        let pointers = self.bytes.as_ref()[self.pointers_at()..self.documents_at()].chunks_exact(8).map(le_u64);
        let mut place = 0u64;
        for (number, (length, pointer)) in self.lengths().zip(pointers).enumerate() {
            // As a signed number: what does not fit into 31 bits is negative.
            if length == 0 || length > i32::MAX as u32 {
                return Err(format!("sequence {number} has a length of {}, it must be 1 or more", length as i32));
            }
            if pointer != place {
                return Err(format!(
                    "its sequences are not one after the other: sequence {number} begins at byte {}, expected {place}",
                    pointer as i64
                ));
            }
            // At most 2^31 * 4 bytes for each of at most 2^60 sequences might overflow; a file cannot be that long.
            place = place
                .checked_add(u64::from(length) * TOKEN_BYTES)
                .ok_or_else(|| format!("its sequences take more than 2^64 bytes by sequence {number}"))?;
        }
        if place != bin_bytes {
            return Err(format!("its sequences take {place} bytes, but the .bin file has {bin_bytes}"));
        }
        Ok(())
    }

    /// Documents have an even number of sequences and cover all of them; their lengths fit into 31 bits.
    fn check_documents(&self) -> std::result::Result<Counts, String> {
        let bytes = self.bytes.as_ref();
        let (first, last) = (self.documents_at(), self.documents_at() + 8 * self.num_documents);
        let (first, last) = (read_u64(bytes, first), read_u64(bytes, last));
        if first != 0 || last != self.num_sequences as u64 {
            return Err(format!(
                "its documents do not cover its sequences: they go from {} to {} of {}",
                first as i64, last as i64, self.num_sequences
            ));
        }
        let mut counts = Counts { num_samples: self.num_documents as u64, ..Counts::default() };
        let mut lengths = self.lengths();
        let mut left = self.num_sequences as u64;
        for (number, sequences) in self.sequences_per_document().enumerate() {
            // A falling entry gives a huge difference, which the second test refuses.
            if sequences == 0 || sequences % 2 == 1 || sequences > left {
                return Err(format!(
                    "document {number} does not alternate masked and trained sequences: it has {} of them, {left} \
                     are left",
                    sequences as i64
                ));
            }
            left -= sequences;
            let mut of_document = [0u64; 2];
            for (place, length) in lengths.by_ref().take(sequences as usize).enumerate() {
                of_document[place % 2] += u64::from(length);
            }
            let tokens = of_document[0] + of_document[1];
            if tokens > i32::MAX as u64 {
                return Err(format!("document {number} has {tokens} tokens, more than {}", i32::MAX));
            }
            counts.tokens += tokens;
            counts.trained_tokens += of_document[1];
        }
        Ok(counts)
    }

    fn lengths(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes.as_ref()[HEADER_BYTES..self.pointers_at()].chunks_exact(4).map(le_u32)
    }

    /// Differences between neighbouring entries, modulo 2^64.
    fn sequences_per_document(&self) -> impl Iterator<Item = u64> + '_ {
        let entries = &self.bytes.as_ref()[self.documents_at()..];
        let starts = entries.chunks_exact(8).map(le_u64);
        let ends = entries[8..].chunks_exact(8).map(le_u64);
        starts.zip(ends).map(|(start, end)| end.wrapping_sub(start))
    }

    fn pointers_at(&self) -> usize {
        HEADER_BYTES + 4 * self.num_sequences
    }

    fn documents_at(&self) -> usize {
        HEADER_BYTES + 12 * self.num_sequences
    }
}

/// Numbers of sequences and of entries for documents, when the file is as long as they say.
fn header(bytes: &[u8]) -> std::result::Result<(usize, usize), String> {
    let size = bytes.len();
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else {
        return Err(format!("{size} bytes are too few for a header of {HEADER_BYTES}"));
    };
    let (version, dtype) = (read_u64(header, 9), header[17]);
    if !header.starts_with(MAGIC) || version != VERSION || dtype != DTYPE_INT32 {
        return Err(format!(
            "not an int32 IndexedDataset index of version 1 (magic \"{}\" at offset 0, version {version} at 9, element \
             type {dtype} at 17)",
            header[..MAGIC.len()].escape_ascii()
        ));
    }
    let (num_sequences, num_entries) = (read_u64(header, 18), read_u64(header, 26));
    // In 128 bits the sum cannot overflow, and a sum equal to the size of the file fits into usize with all its parts.
    let announced = HEADER_BYTES as u128 + 12 * u128::from(num_sequences) + 8 * u128::from(num_entries);
    if announced != size as u128 {
        return Err(format!(
            "its header announces {announced} bytes ({num_sequences} sequences at offset 18, {num_entries} entries for \
             documents at 26), the file has {size}"
        ));
    }
    Ok((num_sequences as usize, num_entries as usize))
}

fn read_u64(bytes: &[u8], at: usize) -> u64 {
    le_u64(&bytes[at..at + 8])
}

/// A chunk of 8 bytes as a number.
fn le_u64(chunk: &[u8]) -> u64 {
    chunk.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// A chunk of 4 bytes as a number.
fn le_u32(chunk: &[u8]) -> u32 {
    chunk.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
pub(super) mod tests;
