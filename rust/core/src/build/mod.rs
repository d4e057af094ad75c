//! The build: blocks of rows are tokenized on several threads and written in the order of the input.
//!
//! [`plan`] settles everything before the first row; [`pool`] runs the threads; [`process`] is what a thread does with a
//! block; a [`sink`] takes the results in order. There are two sinks: [`shards`] decides what compares rows with each
//! other and writes the shards; [`spool`] puts processed rows on disk for a later build, where rows must be seen
//! together before one is kept ([`select`]), or where files are spread over machines.

mod account;
mod journal;
mod plan;
mod pool;
mod preview;
mod process;
mod seen;
mod select;
mod shards;
mod sink;
mod source;
mod spool;

use crate::config::BuildConfig;
use crate::error::Result;
use crate::tokenizer::ChatTokenizer;

pub use preview::{preview, show_sample};
pub use sink::{Progress, Status};

/// Builds the shards and returns the manifest's text, or that of equal shards that are there already.
///
/// A build that was interrupted goes on behind the last complete shard. With `run.part`, only that part's files are
/// processed, and the returned JSON object says which.
pub fn build_shards(config: &BuildConfig, tokenizer: &ChatTokenizer, progress: Progress<'_>) -> Result<String> {
    config.check()?;
    let plan = plan::Plan::new(config, tokenizer)?;
    match config.run.part {
        Some((part, of)) => spool::build_part(&plan, part, of, progress),
        None => shards::build(&plan, config.run.overwrite, progress),
    }
}
