//! The kept rows so far, for rows that repeat one of them.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{BufReader, Read};
use std::path::Path;

use crate::config::Recipe;
use crate::duplicates::{NearDuplicates, Signature, SIGNATURE_BYTES};
use crate::error::{Error, Result};
use crate::reason::Reason;
use crate::rows::Position;
use crate::sample::{Refusal, Sample};

/// A record in the file that a resumed build reads: content hash, row, and the signature where there is one.
const EXACT_BYTES: usize = 16 + 8;
/// Bits of a row's number that hold its line; the rest hold its file.
const LINE_BITS: u32 = 40;

/// What is known of the kept rows: 17 to 39 bytes a row for exact duplicates, more for near ones (see
/// [`NearDuplicates`]).
#[derive(Debug)]
pub(super) struct Seen {
    /// Half of a content hash to its row, see [`Entry`]; None when duplicates are kept.
    exact: Option<HashMap<u64, Entry, BuildHasherDefault<Same>>>,
    near: Option<NearDuplicates>,
}

/// A kept row in 64 bits: 16 more bits of its hash, its file in 16 and its line in 32.
///
/// With 80 bits of hash the chance that any two of ten million rows are taken for the same is 4 in 10^11. A row beyond the
/// 65,534th file or the 4,294,967,294th line is found like any other, but not named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry(u64);

impl Entry {
    fn new(content: u128, row: Position) -> Self {
        let file = u64::try_from(row.file).unwrap_or(u64::MAX).min(u64::from(u16::MAX));
        let line = row.line.min(u64::from(u32::MAX));
        Entry(Self::check_of(content) << 48 | file << 32 | line)
    }

    fn check_of(content: u128) -> u64 {
        (content >> 112) as u64
    }

    fn is_of(self, content: u128) -> bool {
        self.0 >> 48 == Self::check_of(content)
    }

    /// The row, if it is one that can be named.
    fn row(self) -> Option<Position> {
        let (file, line) = (self.0 >> 32 & u64::from(u16::MAX), self.0 & u64::from(u32::MAX));
        let named = file < u64::from(u16::MAX) && line < u64::from(u32::MAX);
        named.then_some(Position { file: file as usize, offset: 0, line })
    }
}

impl Seen {
    pub(super) fn new(recipe: &Recipe) -> Self {
        Self {
            exact: (!recipe.keep_duplicates).then(HashMap::default),
            near: recipe.near_duplicates.map(NearDuplicates::new),
        }
    }

    /// Why the sample is not kept; None when nothing like it was kept.
    pub(super) fn refuse(&self, sample: &Sample, name: impl Fn(Position) -> String) -> Option<Refusal> {
        let found = self.exact.as_ref().and_then(|exact| exact.get(&(sample.content as u64)));
        if let Some(entry) = found.filter(|entry| entry.is_of(sample.content)) {
            let earlier = entry.row().map_or_else(|| "an earlier row".to_string(), name);
            return Some((Reason::DUPLICATE, format!("same prompt and response as {earlier}")));
        }
        let (row, similarity) = self.near.as_ref()?.find(&signature(sample)?)?;
        let detail = format!("{similarity:.2} similar to {}", name(position(row)));
        Some((Reason::NEAR_DUPLICATE, detail))
    }

    /// Notes a kept sample; returns its record for the file, where one is needed.
    pub(super) fn remember(&mut self, sample: &Sample, position: Position) -> Option<Vec<u8>> {
        if self.exact.is_none() && self.near.is_none() {
            return None;
        }
        let row = (position.file as u64) << LINE_BITS | position.line;
        let mut record = sample.content.to_le_bytes().to_vec();
        record.extend(row.to_le_bytes());
        if self.near.is_some() {
            record.extend(sample.signature.as_deref().unwrap_or(&[0; SIGNATURE_BYTES]));
        }
        self.insert(&record);
        Some(record)
    }

    /// Reads what an interrupted build had kept.
    pub(super) fn restore(&mut self, path: &Path) -> Result<()> {
        let mut file = BufReader::new(File::open(path).map_err(Error::io(path, "open"))?);
        let size = EXACT_BYTES + if self.near.is_some() { SIGNATURE_BYTES } else { 0 };
        let mut record = vec![0; size];
        loop {
            match file.read_exact(&mut record) {
                Ok(()) => self.insert(&record),
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(Error::io(path, "read")(error)),
            }
        }
    }

    fn insert(&mut self, record: &[u8]) {
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
        let (content, row) = (number(&record[..16]), number(&record[16..EXACT_BYTES]) as u64);
        if let Some(exact) = &mut self.exact {
            exact.entry(content as u64).or_insert(Entry::new(content, position(row)));
        }
        if let (Some(near), Ok(bytes)) = (&mut self.near, record[EXACT_BYTES..].try_into()) {
            near.keep(row, &Signature::from_bytes(bytes));
        }
    }
}

fn signature(sample: &Sample) -> Option<Signature> {
    sample.signature.as_deref()?.try_into().ok().map(Signature::from_bytes)
}

fn position(row: u64) -> Position {
    let file = usize::try_from(row >> LINE_BITS).unwrap_or(usize::MAX);
    Position { file, offset: 0, line: row & ((1 << LINE_BITS) - 1) }
}

/// The keys are hashes already.
#[derive(Debug, Default)]
struct Same(u64);

impl Hasher for Same {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_names_its_row() {
        let content = 0xabcd_0000_0000_0000_0000_0000_0000_0007;
        let place = |file, line| Position { file, offset: 0, line };
        let entry = Entry::new(content, place(3, 12));
        assert!(entry.is_of(content) && !entry.is_of(content ^ 1 << 112));
        assert_eq!(entry.row(), Some(place(3, 12)));
        for row in [place(65_535, 1), place(1 << 20, 1), place(0, u64::from(u32::MAX)), place(0, 1 << 40)] {
            assert_eq!(Entry::new(content, row).row(), None, "{row:?}");
            assert!(Entry::new(content, row).is_of(content));
        }
    }
}
