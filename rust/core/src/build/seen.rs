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

/// What is known of the kept rows: about 40 bytes a row for exact duplicates, more for near ones (see
/// [`NearDuplicates`]).
#[derive(Debug)]
pub(super) struct Seen {
    /// Content hash to row; None when duplicates are kept.
    exact: Option<HashMap<u128, u64, BuildHasherDefault<Folded>>>,
    near: Option<NearDuplicates>,
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
        if let Some(row) = self.exact.as_ref().and_then(|exact| exact.get(&sample.content)) {
            return Some((Reason::DUPLICATE, format!("same prompt and response as {}", name(position(*row)))));
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
            exact.insert(content, row);
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
struct Folded(u64);

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u128(&mut self, key: u128) {
        self.0 = (key ^ (key >> 64)) as u64;
    }
}
