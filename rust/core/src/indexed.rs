//! Megatron-Core's `IndexedDataset`: a `.bin` file with the ids of all sequences one after the other, and an `.idx` file
//! which says where each begins and which of them make a document. `docs/shard-format.md` has the byte tables.

use crate::error::Result;
use crate::manifest::ShardRecord;
use crate::output::{Finished, OutputFile, OutputFolder};

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
/// Megatron's code for int32.
const DTYPE_INT32: u8 = 4;
const BYTES_PER_TOKEN: i64 = 4;

/// Writes one shard: documents of sequences that alternate masked and trained.
#[derive(Debug)]
pub struct ShardWriter {
    bin: OutputFile,
    record: ShardRecord,
    /// Tokens of each sequence.
    lengths: Vec<i32>,
    /// Sequences in front of each document, and in all.
    documents: Vec<i64>,
}

impl ShardWriter {
    /// Starts shard `number` with no documents.
    pub fn new(folder: &OutputFolder, number: usize) -> Result<Self> {
        let prefix = format!("samples-{number:05}");
        let bin = folder.create(&format!("{prefix}.bin"))?;
        let record = ShardRecord { prefix, num_samples: 0, tokens: 0, trained_tokens: 0 };
        Ok(Self { bin, record, lengths: Vec::new(), documents: vec![0] })
    }

    /// Adds a document of these sequences; its ids follow by [`Self::write_ids`].
    pub fn document(&mut self, sequences: &[u32]) {
        for (index, length) in sequences.iter().enumerate() {
            // A sample is at most 2^31 - 1 tokens long: the configuration is checked.
            self.lengths.push(i32::try_from(*length).unwrap_or(i32::MAX));
            self.record.tokens += u64::from(*length);
            self.record.trained_tokens += if index % 2 == 1 { u64::from(*length) } else { 0 };
        }
        self.documents.push(self.lengths.len() as i64);
        self.record.num_samples += 1;
    }

    /// Appends the ids of documents that were added.
    pub fn write_ids(&mut self, ids: &[u32]) -> Result<()> {
        if cfg!(target_endian = "little") {
            return self.bin.write(bytemuck::cast_slice(ids));
        }
        let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        self.bin.write(&bytes)
    }

    /// Tokens of all documents.
    pub fn tokens(&self) -> u64 {
        self.record.tokens
    }

    /// Documents so far.
    pub fn num_samples(&self) -> u64 {
        self.record.num_samples
    }

    /// Writes the index and returns the shard's record and both files, complete but not synced.
    pub fn finish(self, folder: &OutputFolder) -> Result<(ShardRecord, [Finished; 2])> {
        let mut idx = folder.create(&format!("{}.idx", self.record.prefix))?;
        idx.write(MAGIC)?;
        idx.write(&VERSION.to_le_bytes())?;
        idx.write(&[DTYPE_INT32])?;
        idx.write(&(self.lengths.len() as u64).to_le_bytes())?;
        idx.write(&(self.documents.len() as u64).to_le_bytes())?;
        for length in &self.lengths {
            idx.write(&length.to_le_bytes())?;
        }
        let mut pointer = 0i64;
        for length in &self.lengths {
            idx.write(&pointer.to_le_bytes())?;
            pointer += i64::from(*length) * BYTES_PER_TOKEN;
        }
        for document in &self.documents {
            idx.write(&document.to_le_bytes())?;
        }
        Ok((self.record, [self.bin.finish()?, idx.finish()?]))
    }
}
