//! Where blocks come from: the input files, or the spool where a file was processed before.

use std::collections::VecDeque;

use super::plan::Plan;
use super::process::Processed;
use super::spool::{self, SpoolReader};
use crate::error::Result;
use crate::rows::{Chunk, ChunkReader, Position};

/// A block to be processed, or one that was.
pub(super) enum Job {
    Block(Chunk),
    Done(Processed),
}

impl Job {
    /// About how many bytes of input it stands for.
    pub(super) fn weight(&self) -> usize {
        match self {
            Job::Block(chunk) => chunk.weight(),
            Job::Done(processed) => processed.ids.len() * 2,
        }
    }
}

/// Yields the blocks of some files in order.
pub(super) struct Source<'a> {
    plan: &'a Plan<'a>,
    /// Where to start in each file that is still to be read.
    rest: VecDeque<Position>,
    current: Option<Reader>,
    use_spool: bool,
}

enum Reader {
    Rows(Box<ChunkReader>),
    Spool(Box<SpoolReader>),
}

impl<'a> Source<'a> {
    /// All files from `start` on; those that are in the spool are taken from there.
    pub(super) fn all(plan: &'a Plan<'a>, start: Position) -> Self {
        let later = (start.file + 1..plan.inputs.len()).map(|file| Position { file, ..Position::default() });
        Self { plan, rest: std::iter::once(start).chain(later).collect(), current: None, use_spool: true }
    }

    /// One input file from `start` to its end.
    pub(super) fn file(plan: &'a Plan<'a>, start: Position) -> Self {
        Self { plan, rest: VecDeque::from([start]), current: None, use_spool: false }
    }

    pub(super) fn next_job(&mut self) -> Result<Option<Job>> {
        loop {
            let job = match &mut self.current {
                None => None,
                Some(Reader::Rows(reader)) => reader.next_chunk()?.map(Job::Block),
                Some(Reader::Spool(reader)) => reader.next_block()?.map(Job::Done),
            };
            if job.is_some() {
                return Ok(job);
            }
            let Some(start) = self.rest.pop_front() else { return Ok(None) };
            self.current = Some(if self.use_spool && spool::is_complete(self.plan, start.file)? {
                Reader::Spool(Box::new(SpoolReader::open(self.plan, start)?))
            } else {
                Reader::Rows(Box::new(self.plan.reader(start)))
            });
        }
    }
}
