//! Blocks of consecutive rows, and the reader that yields them in order.

use std::sync::Arc;

use super::jsonl::{self, Blocks};
use super::table::{self, Table};
use super::{Fields, Format, Input};
use crate::config::Columns;
use crate::error::{Error, Result};
use crate::reason::Rejection;
use arrow_array::RecordBatch;

/// A place in the inputs, between two rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Position {
    /// Index of the file among the inputs.
    pub file: usize,
    /// Bytes of the uncompressed file in front of it; rows, in a table.
    pub offset: u64,
    /// Lines in front of it; rows, in a table.
    pub line: u64,
}

/// Sizes that bound the memory of a block.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// A block ends with the line that brings it to this many bytes.
    pub block_bytes: usize,
    /// A longer line is rejected unread.
    pub line_bytes: usize,
}

/// Some consecutive rows of one input file.
#[derive(Debug)]
pub struct Chunk {
    /// Index of the file among the inputs.
    pub file: usize,
    /// Uncompressed bytes (rows, in a table) of the file in front of the block.
    pub offset: u64,
    /// Bytes of this file, as it lies on disk, that have been read so far: for progress.
    pub bytes_done: u64,
    pub(super) rows: Rows,
}

#[derive(Debug)]
pub(super) enum Rows {
    /// Whole lines; the last one may lack its newline at the end of a file.
    Lines(Vec<u8>),
    /// One line that was too long to be read: its rejection, and its bytes with the newline.
    Skipped(Rejection, u64),
    /// Rows of a table.
    Batch(RecordBatch),
}

/// What stands on one line.
#[derive(Debug)]
pub enum Line<'a> {
    /// Nothing but white space: no row.
    Blank,
    /// A row that cannot be read.
    Bad(Rejection),
    /// A row.
    Row(Fields<'a>),
}

impl Chunk {
    /// About how many bytes the block keeps in memory.
    pub fn weight(&self) -> usize {
        match &self.rows {
            Rows::Lines(bytes) => bytes.len(),
            Rows::Skipped(..) => 0,
            Rows::Batch(batch) => batch.get_array_memory_size(),
        }
    }

    /// Calls `take` for each line with its index in the block and the bytes (rows, in a table) up to its end.
    pub fn for_each(&self, columns: &Columns, mut take: impl FnMut(u64, u64, Line<'_>)) {
        match &self.rows {
            Rows::Lines(bytes) => {
                let (mut start, mut index) = (0, 0);
                while start < bytes.len() {
                    let end = memchr::memchr(b'\n', &bytes[start..]).map_or(bytes.len(), |at| start + at + 1);
                    let mut line = &bytes[start..end];
                    if self.offset == 0 && start == 0 {
                        line = line.strip_prefix(UTF8_BOM).unwrap_or(line);
                    }
                    take(index, end as u64, jsonl::parse(line, columns));
                    start = end;
                    index += 1;
                }
            }
            Rows::Skipped(rejection, bytes) => take(0, *bytes, Line::Bad(rejection.clone())),
            Rows::Batch(batch) => {
                for row in 0..batch.num_rows() {
                    let line = match table::parse_row(batch, row, columns) {
                        Ok(fields) => Line::Row(fields),
                        Err(rejection) => Line::Bad(rejection),
                    };
                    take(row as u64, row as u64 + 1, line);
                }
            }
        }
    }
}

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// Reads the blocks of some input files in order.
pub struct ChunkReader {
    inputs: Arc<Vec<Input>>,
    columns: Columns,
    limits: Limits,
    /// Files still to be read, the next one last.
    rest: Vec<usize>,
    start: Position,
    source: Option<(usize, Source)>,
}

enum Source {
    Blocks(Blocks),
    Table(Table),
}

impl ChunkReader {
    /// Reads the files whose indices are in `files`, the first one from `start` on if that lies in it.
    pub fn new(
        inputs: Arc<Vec<Input>>,
        files: impl DoubleEndedIterator<Item = usize>,
        start: Position,
        columns: &Columns,
        limits: Limits,
    ) -> Self {
        Self { inputs, columns: columns.clone(), limits, rest: files.rev().collect(), start, source: None }
    }

    /// The next block; None at the end.
    pub fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        loop {
            if let Some((file, source)) = &mut self.source {
                let chunk = match source {
                    Source::Blocks(blocks) => blocks.next_chunk(*file)?,
                    Source::Table(table) => table.next_chunk(*file)?,
                };
                if chunk.is_some() {
                    return Ok(chunk);
                }
                self.inputs[*file].check_unchanged()?;
                self.source = None;
            }
            let Some(file) = self.rest.pop() else { return Ok(None) };
            let offset = if file == self.start.file { self.start.offset } else { 0 };
            self.source = Some((file, self.open(file, offset)?));
        }
    }

    fn open(&self, file: usize, offset: u64) -> Result<Source> {
        let input = self.inputs.get(file).ok_or_else(|| Error::Config(format!("there is no input {file}")))?;
        Ok(match input.format {
            Format::Parquet => Source::Table(Table::open(input, offset, &self.columns)?),
            _ => Source::Blocks(Blocks::open(input, offset, self.limits)?),
        })
    }
}
