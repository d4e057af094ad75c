//! What a worker does with a block of rows.

use crate::config::Columns;
use crate::reason::Rejection;
use crate::rows::{Chunk, Line};
use crate::sample::{Policy, Sample, Worker};

/// A block after tokenization.
#[derive(Debug, Default)]
pub(super) struct Processed {
    /// Index of the file.
    pub(super) file: usize,
    /// Uncompressed bytes (rows, in a table) in front of the block.
    pub(super) offset: u64,
    /// Bytes of the file on disk that were read so far.
    pub(super) bytes_done: u64,
    pub(super) rows: Vec<ProcessedRow>,
    /// Ids of all samples of the block, one after the other.
    pub(super) ids: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct ProcessedRow {
    /// Bytes (rows, in a table) from the start of the block to the row's end.
    pub(super) end: u64,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// A line of white space: no row.
    Blank,
    Kept(Sample),
    Rejected(Rejection),
}

pub(super) fn process(chunk: &Chunk, columns: &Columns, policy: &Policy<'_>, worker: &mut Worker) -> Processed {
    // Traces have about 2.5 bytes a token; a wrong guess costs a copy.
    let mut ids = Vec::with_capacity(chunk.weight() / 2);
    let mut rows = Vec::new();
    chunk.for_each(columns, |_, end, line| {
        let outcome = match line {
            Line::Blank => Outcome::Blank,
            Line::Bad(rejection) => Outcome::Rejected(rejection),
            Line::Row(fields) => match policy.apply(fields, worker, &mut ids) {
                Ok(sample) => Outcome::Kept(sample),
                Err(rejection) => Outcome::Rejected(rejection),
            },
        };
        rows.push(ProcessedRow { end, outcome });
    });
    Processed { file: chunk.file, offset: chunk.offset, bytes_done: chunk.bytes_done, rows, ids }
}
