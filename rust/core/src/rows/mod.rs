//! Rows of the input files, read in bounded chunks.

mod fields;
mod input;
mod jsonl;
mod table;

pub(crate) use fields::kind;
pub use fields::{Answer, Fields};
pub(crate) use input::sha256_of_file;
pub use input::{resolve, Format, Input};

use arrow_array::RecordBatch;

use crate::error::{Error, Result};
use crate::sample::{Reason, Rejection};
use jsonl::Lines;
use table::Table;

/// A chunk ends after this many rows ...
const CHUNK_ROWS: usize = 64;
/// ... or after this many bytes, whichever comes first. A longer row is a chunk of its own.
const CHUNK_BYTES: usize = 1 << 20;

/// Some consecutive rows of one input file.
#[derive(Debug)]
pub struct Chunk {
    /// Index of the file among the inputs.
    pub file: usize,
    /// Lines of white space that were skipped.
    pub blank_lines: u64,
    /// Bytes of this file that have been consumed so far, for progress.
    pub bytes_done: u64,
    rows: Rows,
}

#[derive(Debug)]
enum Rows {
    /// JSON texts with their 1-based line numbers; an over-long line arrives as its rejection.
    Lines(Vec<(u64, std::result::Result<Vec<u8>, Rejection>)>),
    /// A batch of a table and the 1-based number of its first row.
    Batch(u64, RecordBatch),
}

impl Chunk {
    /// Parses the rows: 1-based line (or row) number, and the fields or why they cannot be had.
    pub fn parse(self) -> Vec<(u64, std::result::Result<Fields, Rejection>)> {
        match self.rows {
            Rows::Lines(lines) => lines
                .into_iter()
                .map(|(number, line)| (number, line.and_then(|line| jsonl::parse_line(&line))))
                .collect(),
            Rows::Batch(first, batch) => {
                (0..batch.num_rows()).map(|row| (first + row as u64, table::parse_row(&batch, row))).collect()
            }
        }
    }
}

/// Reads all inputs in order. After an error the iteration is over.
pub struct ChunkReader<'a> {
    inputs: &'a [Input],
    next: usize,
    source: Option<Source>,
    failed: bool,
}

enum Source {
    Lines(Lines),
    Table(Table),
}

impl<'a> ChunkReader<'a> {
    /// Starts before the first row of the first input.
    pub fn new(inputs: &'a [Input]) -> Self {
        Self { inputs, next: 0, source: None, failed: false }
    }

    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some(source) = &mut self.source {
                let file = self.next - 1;
                let chunk = match source {
                    Source::Lines(lines) => lines.next_chunk(file)?,
                    Source::Table(table) => table.next_chunk(file)?,
                };
                if chunk.is_some() {
                    return Ok(chunk);
                }
                self.inputs[file].check_unchanged()?;
                self.source = None;
            }
            let Some(input) = self.inputs.get(self.next) else { return Ok(None) };
            self.next += 1;
            self.source = Some(match input.format {
                Format::Jsonl | Format::JsonlGz => Source::Lines(Lines::open(input)?),
                Format::Parquet => Source::Table(Table::open(input)?),
            });
        }
    }
}

impl Iterator for ChunkReader<'_> {
    type Item = Result<Chunk>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let item = self.next_chunk().transpose();
        self.failed = matches!(item, Some(Err(_)));
        item
    }
}

/// A rejection of the row as a whole.
fn reject<T>(reason: Reason, detail: impl Into<String>) -> std::result::Result<T, Rejection> {
    Err(Rejection { reason, detail: detail.into(), id: None })
}

fn unreadable(path: &std::path::Path, error: impl std::fmt::Display) -> Error {
    Error::input(path, format!("cannot be read: {error}"))
}
