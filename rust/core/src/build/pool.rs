//! The threads of a build. Each one does whatever is next: reads a block, tokenizes it, and writes what is due.
//!
//! Reading and writing are short and done by one thread at a time; n workers so keep n cores busy. Results wait in
//! `Turn::ready` until those in front of them are there, so the order is that of the input whatever the number of
//! workers. A worker takes a new block only while the blocks in work stay within the window: that bounds the memory.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::plan::Plan;
use super::process::{process, Processed};
use super::sink::{Progress, Sink, Status};
use super::source::{Job, Source};
use crate::error::{Error, Result};

/// How often progress is reported.
const TICK: Duration = Duration::from_millis(100);

/// Runs everything that `source` yields through the workers into `sink`.
pub(super) fn run(plan: &Plan<'_>, source: Source<'_>, sink: &mut dyn Sink, progress: Progress<'_>) -> Result<()> {
    let status = sink.status();
    let pool = Pool {
        plan,
        source: Mutex::new(Numbered { source, next: 0 }),
        sink: Mutex::new(sink),
        turn: Mutex::new(Turn { status, ..Turn::default() }),
        changed: Condvar::new(),
    };
    std::thread::scope(|scope| {
        for _ in 0..plan.workers {
            scope.spawn(|| pool.work());
        }
        pool.watch(progress);
    });
    let turn = pool.turn.into_inner().unwrap_or_else(PoisonError::into_inner);
    match turn.failure {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

struct Pool<'a, 'p> {
    plan: &'a Plan<'p>,
    source: Mutex<Numbered<'a>>,
    sink: Mutex<&'a mut dyn Sink>,
    turn: Mutex<Turn>,
    changed: Condvar,
}

struct Numbered<'a> {
    source: Source<'a>,
    next: u64,
}

/// What is in work, what is due, and whether to go on.
#[derive(Default)]
struct Turn {
    ready: BTreeMap<u64, (usize, Result<Processed>)>,
    /// Number of the block that is to be written next.
    next: u64,
    /// Whether some thread is writing.
    writing: bool,
    /// Bytes of the blocks that were read and are not yet written.
    in_work: usize,
    idle_workers: usize,
    status: Status,
    failure: Option<Error>,
}

impl Pool<'_, '_> {
    fn lock(&self) -> MutexGuard<'_, Turn> {
        // A panic of another worker ends the build when the scope joins it.
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        let _done = Done(self);
        let mut worker = self.plan.policy.worker();
        while self.wait_for_room() {
            let Some((number, weight, job)) = self.next_job() else { return };
            let result = job.and_then(|job| match job {
                Job::Block(chunk) => process(&chunk, &self.plan.columns, &self.plan.policy, &mut worker),
                Job::Done(processed) => Ok(processed),
            });
            self.lock().ready.insert(number, (weight, result));
            self.write_what_is_due();
        }
    }

    /// Waits until another block fits into memory; false when the build has failed.
    fn wait_for_room(&self) -> bool {
        let mut turn = self.lock();
        while turn.failure.is_none() && turn.in_work > self.plan.window {
            turn = self.changed.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        turn.failure.is_none()
    }

    fn next_job(&self) -> Option<(u64, usize, Result<Job>)> {
        let mut numbered = self.source.lock().unwrap_or_else(PoisonError::into_inner);
        let job = numbered.source.next_job().transpose()?;
        let weight = job.as_ref().map_or(0, Job::weight);
        self.lock().in_work += weight;
        let number = numbered.next;
        numbered.next += 1;
        Some((number, weight, job))
    }

    /// Hands finished blocks to the sink, in order, unless another thread is at it.
    fn write_what_is_due(&self) {
        let mut turn = self.lock();
        if turn.writing {
            return;
        }
        let mut sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner);
        while turn.failure.is_none() {
            let due = turn.next;
            let Some((weight, result)) = turn.ready.remove(&due) else { break };
            turn.writing = true;
            drop(turn);
            let taken = result.and_then(|processed| sink.take(processed));
            let status = sink.status();
            turn = self.lock();
            turn.writing = false;
            turn.status = status;
            turn.next += 1;
            turn.in_work -= weight;
            if let Err(error) = taken {
                turn.failure.get_or_insert(error);
            }
            self.changed.notify_all();
        }
    }

    /// Reports progress until all workers are done.
    fn watch(&self, progress: Progress<'_>) {
        let mut turn = self.lock();
        while turn.idle_workers < self.plan.workers {
            turn = self.changed.wait_timeout(turn, TICK).unwrap_or_else(PoisonError::into_inner).0;
            let status = turn.status.clone();
            drop(turn);
            let go_on = progress(&status);
            turn = self.lock();
            if !go_on {
                turn.failure.get_or_insert(Error::Cancelled);
                self.changed.notify_all();
            }
        }
        let status = turn.status.clone();
        drop(turn);
        progress(&status);
    }
}

/// Counts a worker as done, also when it panics, so that the watch ends.
struct Done<'a, 'b, 'p>(&'a Pool<'b, 'p>);

impl Drop for Done<'_, '_, '_> {
    fn drop(&mut self) {
        let mut turn = self.0.lock();
        turn.idle_workers += 1;
        if std::thread::panicking() {
            turn.failure.get_or_insert(Error::Cancelled);
        }
        drop(turn);
        self.0.changed.notify_all();
    }
}
