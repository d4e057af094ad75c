//! Rows that repeat an earlier one.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasherDefault, Hasher};
use std::io::{BufReader, Read};
use std::path::Path;

use crate::config::Recipe;
use crate::error::{Error, Result};
use crate::output::OutputFile;
use crate::reason::Reason;
use crate::rows::Position;
use crate::sample::{Refusal, Sample};

/// Bytes of a kept row in the file that a resumed build reads: content hash, file, line.
const RECORD: usize = 32;

/// What is known of the kept rows: 32 bytes a row and the table's slack.
#[derive(Debug)]
pub(crate) struct Duplicates {
    keep: bool,
    /// Content hash to file and line.
    seen: HashMap<u128, (u32, u64), BuildHasherDefault<Folded>>,
}

impl Duplicates {
    pub(crate) fn new(recipe: &Recipe) -> Self {
        Self { keep: recipe.keep_duplicates, seen: HashMap::default() }
    }

    /// Reads what an interrupted build had seen.
    pub(crate) fn restore(&mut self, path: &Path) -> Result<()> {
        let mut file = BufReader::new(File::open(path).map_err(Error::io(path, "open"))?);
        let mut record = [0; RECORD];
        loop {
            match file.read_exact(&mut record) {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(Error::io(path, "read")(error)),
            }
            let (content, place) = record.split_at(16);
            let (file, line) = place.split_at(8);
            let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
            let content = content.iter().rev().fold(0, |sum, byte| sum << 8 | u128::from(*byte));
            self.seen.insert(content, (u32::try_from(number(file)).unwrap_or(u32::MAX), number(line)));
        }
    }

    /// Why the sample is not kept; None when nothing like it was seen.
    pub(crate) fn refuse(
        &self,
        sample: &Sample,
        _position: Position,
        name: impl Fn(Position) -> String,
    ) -> Option<Refusal> {
        if self.keep {
            return None;
        }
        self.seen.get(&sample.content).map(|(file, line)| {
            let place = Position { file: *file as usize, offset: 0, line: *line };
            (Reason::DUPLICATE, format!("same prompt and response as {}", name(place)))
        })
    }

    /// Notes a kept sample, in memory and in `file`.
    pub(crate) fn remember(&mut self, sample: &Sample, position: Position, file: &mut OutputFile) -> Result<()> {
        if self.keep {
            return Ok(());
        }
        let number = u32::try_from(position.file).unwrap_or(u32::MAX);
        self.seen.insert(sample.content, (number, position.line));
        let mut record = [0; RECORD];
        record[..16].copy_from_slice(&sample.content.to_le_bytes());
        record[16..24].copy_from_slice(&u64::from(number).to_le_bytes());
        record[24..].copy_from_slice(&position.line.to_le_bytes());
        file.write(&record)
    }
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
