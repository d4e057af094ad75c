//! Hashes of the input files, computed while the build is already at work: they are needed when something is stored.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use super::input::{sha256_of_file, Input};
use crate::error::{Error, Result};

/// sha256 of each input, in hex; asking for one waits until it is known.
#[derive(Debug)]
pub struct Hashes {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    inputs: Arc<Vec<Input>>,
    /// The files to hash, in this order.
    wanted: Vec<usize>,
    next: AtomicUsize,
    stopped: AtomicBool,
    known: Mutex<Vec<Option<std::result::Result<String, String>>>>,
    changed: Condvar,
}

impl Hashes {
    /// Starts to hash the files `wanted`, on at most `threads` threads.
    pub fn start(inputs: &Arc<Vec<Input>>, wanted: Vec<usize>, threads: usize) -> Self {
        let num_threads = threads.clamp(1, wanted.len().max(1));
        let shared = Arc::new(Shared {
            inputs: Arc::clone(inputs),
            known: Mutex::new(vec![None; inputs.len()]),
            wanted,
            next: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
            changed: Condvar::new(),
        });
        for _ in 0..num_threads {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || shared.work());
        }
        Self { shared }
    }

    /// The hash of a file that is wanted.
    ///
    /// Fails when it cannot be read.
    pub fn get(&self, file: usize) -> Result<String> {
        let mut known = self.shared.known.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &known[file] {
                Some(Ok(hash)) => return Ok(hash.clone()),
                Some(Err(problem)) => return Err(Error::input(&self.shared.inputs[file].path, problem.clone())),
                None => known = self.shared.changed.wait(known).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

impl Drop for Hashes {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn work(&self) {
        while !self.stopped.load(Ordering::Relaxed) {
            let Some(file) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)) else { return };
            let hash = sha256_of_file(&self.inputs[*file].path).map_err(|error| error.to_string());
            self.known.lock().unwrap_or_else(PoisonError::into_inner)[*file] = Some(hash);
            self.changed.notify_all();
        }
    }
}
