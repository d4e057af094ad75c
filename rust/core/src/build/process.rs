//! What a worker does with a block of rows.

use crate::config::Columns;
use crate::error::Result;
use crate::reason::Rejection;
use crate::rows::{Chunk, Line};
use crate::sample::{Policy, Refused, Sample, Worker};

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
    /// Who decided about the answer, and how.
    pub(super) decided: Option<String>,
    pub(super) outcome: Outcome,
}

#[derive(Debug)]
pub(super) enum Outcome {
    /// A line of white space: no row.
    Blank,
    Kept(Sample),
    Rejected(Rejection),
}

/// Fails only when a row cannot be judged at all.
pub(super) fn process(chunk: &Chunk, columns: &Columns, policy: &Policy<'_>, worker: &mut Worker) -> Result<Processed> {
    // Traces have about 2.5 bytes a token; a wrong guess costs a copy.
    let mut ids = Vec::with_capacity(chunk.weight() / 2);
    let (mut rows, mut failure) = (Vec::new(), None);
    chunk.for_each(columns, |_, end, line| {
        let mut decided = None;
        let outcome = match line {
            _ if failure.is_some() => return,
            Line::Blank => Outcome::Blank,
            Line::Bad(rejection) => Outcome::Rejected(rejection),
            Line::Row(fields) => {
                let result = policy.apply(fields, worker, &mut ids);
                decided = worker.decided.take();
                match result {
                    Ok(sample) => Outcome::Kept(sample),
                    Err(Refused::Rejected(rejection)) => Outcome::Rejected(rejection),
                    Err(Refused::Failed(error)) => {
                        failure = Some(error);
                        return;
                    }
                }
            }
        };
        rows.push(ProcessedRow { end, decided, outcome });
    });
    match failure {
        Some(error) => Err(error),
        None => Ok(Processed { file: chunk.file, offset: chunk.offset, bytes_done: chunk.bytes_done, rows, ids }),
    }
}
