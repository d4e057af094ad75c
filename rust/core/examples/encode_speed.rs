//! Times the tokenizer on one thread: `encode_speed TOKENIZER_FOLDER ROWS.jsonl...`.
//!
//! The responses of all rows are read into memory first. The first pass starts with an empty memory of words, as a build
//! does; the others meet only words that the first one has seen (as far as they fit into the memory).
//!
//! Speeds are per second of the processor's time where Linux tells it, so that other programs disturb them little.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Instant;

use megatron_sft_core::encoder::Scratch;
use megatron_sft_core::tokenizer::ChatTokenizer;
use serde::Deserialize;

#[derive(Deserialize)]
struct Row {
    response: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().ok_or("usage: encode_speed TOKENIZER_FOLDER ROWS.jsonl...")?;
    let mut responses = Vec::new();
    for path in arguments {
        for line in BufReader::new(std::fs::File::open(path)?).lines() {
            responses.push(serde_json::from_str::<Row>(&line?)?.response);
        }
    }
    let start = Clock::now();
    let tokenizer = ChatTokenizer::from_folder(Path::new(&folder))?;
    println!("load           {:8.1} ms", start.seconds() * 1e3);

    let num_bytes: usize = responses.iter().map(String::len).sum();
    println!("responses      {:8}, {:.1} MB", responses.len(), num_bytes as f64 / 1e6);
    let mut scratch = Scratch::default();
    let mut ids = Vec::new();
    for pass in ["first pass", "second pass", "third pass", "fourth pass", "fifth pass"] {
        let start = Clock::now();
        let mut num_ids = 0;
        for response in &responses {
            ids.clear();
            tokenizer.encode_into(response, &mut scratch, &mut ids)?;
            num_ids += ids.len();
        }
        let seconds = start.seconds();
        let (speed, rate) = (num_bytes as f64 / 1e6 / seconds, num_ids as f64 / 1e6 / seconds);
        println!("{pass:<14} {speed:8.1} MB/s, {rate:.1} million ids/s, {num_ids} ids");
    }
    Ok(())
}

/// Measures this thread's time on a processor, or the time on the wall where that is not known.
struct Clock {
    processor: Option<f64>,
    wall: Instant,
}

impl Clock {
    fn now() -> Self {
        Self { processor: processor_seconds(), wall: Instant::now() }
    }

    fn seconds(&self) -> f64 {
        match (self.processor, processor_seconds()) {
            (Some(start), Some(end)) => end - start,
            _ => self.wall.elapsed().as_secs_f64(),
        }
    }
}

/// Seconds that this thread has run; the kernel counts nanoseconds.
fn processor_seconds() -> Option<f64> {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    Some(statistics.split_whitespace().next()?.parse::<f64>().ok()? / 1e9)
}
