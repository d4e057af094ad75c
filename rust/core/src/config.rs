//! Options of a shard build.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use crate::filters::FilterOptions;
use crate::verifiers;

/// Everything a build is told. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildConfig {
    /// Files of rows, in the order in which their samples are written.
    pub inputs: Vec<PathBuf>,
    /// Folder that receives the shards.
    pub output: PathBuf,
    /// What decides over the content of the shards.
    pub recipe: Recipe,
    /// What does not.
    pub run: RunOptions,
}

/// The options that decide over the content of the shards; all of them are part of the fingerprint.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Most tokens of a sample, prompt, responses and stop tokens together.
    pub max_length: usize,
    /// What happens to longer ones.
    pub over_length: OverLength,
    /// Name of the check that the answers have to pass, see [`crate::verifiers`]; `none` for no check.
    pub verify: String,
    /// Processor time for one mathematical answer that no proof decides, in seconds.
    pub math_cpu_seconds: f64,
    /// Token that ends every trained response; the tokenizer's eos token when absent.
    pub stop_token: Option<String>,
    /// Seed of the random choices: `random-correct` and `num_queries`.
    pub seed: u64,
    /// Names of the columns.
    pub columns: Columns,
    /// Which assistant turns of a conversation are trained.
    pub train_turns: TrainTurns,
    /// Whether the think block is cut from every response, so that what follows `</think>` is left.
    pub strip_think: bool,
    /// Appended to the last user turn as it stands.
    pub prompt_suffix: String,
    /// Other files that the responses are taken from.
    pub join: Option<Join>,
    /// Which of several responses to the same query are kept.
    pub select: Select,
    /// Keep this many queries, drawn at random; all when absent.
    pub num_queries: Option<u64>,
    /// Whether a row with the same prompt and response as an earlier one is kept.
    pub keep_duplicates: bool,
    /// Drop rows whose estimated similarity to an earlier kept one is at least this (0 to 1); none when absent.
    pub near_duplicates: Option<f64>,
    /// Which rows the filters drop.
    pub filters: FilterOptions,
    /// A shard ends with the sample that brings it to this many tokens.
    pub shard_tokens: u64,
}

/// What happens to a sample of more than `max_length` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OverLength {
    /// The row is rejected as `too_long`.
    Reject,
    /// The end of the last response is cut, and with it the stop token: what the paper's trainer does. Teaches the
    /// model to go on without end; the manifest counts such samples.
    Truncate,
}

/// Names of the columns that are read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Columns {
    /// List of turns, or such a list as JSON text.
    pub message: String,
    /// Text of a single user turn, read where `message` is absent.
    pub prompt: String,
    /// What is trained; where absent, the last turn of `message`, if it is the assistant's.
    pub response: String,
    /// The known answer.
    pub answer: String,
    /// Label of the row.
    pub id: String,
    /// What rows with the same query share; the prompt's text where absent.
    pub query_id: String,
}

impl Default for Columns {
    fn default() -> Self {
        let name = str::to_string;
        Self {
            message: name("message"),
            prompt: name("prompt"),
            response: name("response"),
            answer: name("answer"),
            id: name("id"),
            query_id: name("query_id"),
        }
    }
}

/// Which assistant turns of a conversation are trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TrainTurns {
    /// The last one; earlier ones are context, as the template renders them.
    Last,
    /// Every one; the template must repeat earlier ones word for word.
    All,
}

/// Responses taken from other files, matched by query.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// Files of rows; their other columns than `query_id` and `response` are not looked at.
    pub files: Vec<PathBuf>,
    /// Names of their columns.
    pub columns: Columns,
}

/// Which of several responses to the same query are kept, among the rows that no filter drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Select {
    /// All of them.
    All,
    /// One drawn at random; the draw depends on seed, query and response alone.
    RandomCorrect,
    /// The first in the order of the inputs.
    FirstCorrect,
    /// The one of the fewest tokens; the first of equals.
    ShortestCorrect,
}

/// The options that change nothing in the output.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunOptions {
    /// Threads that read, tokenize and write.
    pub workers: usize,
    /// Memory to stay within, in bytes; decides how many rows are in work at once and how long a line may be.
    pub memory_bytes: u64,
    /// Whether to replace shards of another fingerprint in the output folder.
    pub overwrite: bool,
    /// The program, and its arguments, that is asked about mathematical answers that no proof decides.
    pub math_command: Vec<String>,
    /// Work on part k of n (counted from 1) only, and leave the result for a build without this option.
    pub part: Option<(usize, usize)>,
}

const SMALLEST_MEMORY: u64 = 256 << 20;

impl BuildConfig {
    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        if self.inputs.is_empty() {
            return Err(Error::Config("no input file; name at least one JSON Lines or Parquet file".to_string()));
        }
        self.recipe.check()?;
        if self.run.workers == 0 {
            return Err(Error::Config("--workers 0 cannot work; use 1 or more".to_string()));
        }
        if self.run.memory_bytes < SMALLEST_MEMORY {
            let message = format!("--memory of {} bytes is too small; use 256MiB or more", self.run.memory_bytes);
            return Err(Error::Config(message));
        }
        match self.run.part {
            Some((part, of)) if part == 0 || part > of => {
                Err(Error::Config(format!("--part {part}/{of} is none; parts count from 1 to {of}")))
            }
            _ => Ok(()),
        }
    }
}

impl Recipe {
    fn check(&self) -> Result<()> {
        // A sample holds at least one token of prompt, and the stop token.
        if self.max_length < 2 || i32::try_from(self.max_length).is_err() {
            let message = format!("--max-length {} is out of range; use 2 to {} tokens", self.max_length, i32::MAX);
            return Err(Error::Config(message));
        }
        verifiers::find(&self.verify)?;
        if !(self.math_cpu_seconds > 0.0 && self.math_cpu_seconds.is_finite()) {
            let seconds = self.math_cpu_seconds;
            return Err(Error::Config(format!("--math-limit {seconds} cannot work; use more than 0 seconds")));
        }
        if self.shard_tokens == 0 {
            return Err(Error::Config("--shard-tokens 0 cannot work; use 1 or more".to_string()));
        }
        if self.num_queries == Some(0) {
            return Err(Error::Config("--num-queries 0 keeps nothing; use 1 or more".to_string()));
        }
        if let Some(similarity) = self.near_duplicates {
            if !(similarity > 0.0 && similarity <= 1.0) {
                let message = format!("--near-duplicates {similarity} is out of range; use more than 0, at most 1");
                return Err(Error::Config(message));
            }
        }
        if self.join.as_ref().is_some_and(|join| join.files.is_empty()) {
            return Err(Error::Config("--join names no file".to_string()));
        }
        Ok(())
    }

    /// Whether rows have to be seen together before any of them can be kept.
    pub fn selects(&self) -> bool {
        self.select != Select::All || self.num_queries.is_some()
    }
}
