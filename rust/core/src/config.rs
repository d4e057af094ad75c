//! Options of a shard build.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use crate::filters::FilterOptions;

/// How answers are checked before a row is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verify {
    /// Not at all; `answer` is not looked at.
    None,
    /// The boxed answer equals `answer`, see [`crate::verify::verify_math`].
    Math,
    /// The boxed expression solves `answer`, see [`crate::verify::verify_countdown`].
    Countdown,
}

/// Everything a build depends on. Unknown keys are errors.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildConfig {
    /// Files of rows, in the order in which their samples are written.
    pub inputs: Vec<PathBuf>,
    /// Folder that receives the shards.
    pub output: PathBuf,
    /// Folder of the tokenizer.
    pub tokenizer: PathBuf,
    /// Most tokens of a sample, prompt, response and stop token together; longer rows are rejected.
    pub max_length: usize,
    /// Which check the answers have to pass.
    pub verify: Verify,
    /// Token that ends every trained response; the tokenizer's eos token when absent.
    pub stop_token: Option<String>,
    /// Threads that tokenize; changes nothing in the output.
    pub workers: usize,
    /// Recorded in the manifest; no step draws at random.
    pub seed: u64,
    /// Whether to replace shards of another fingerprint in `output`.
    pub overwrite: bool,
}

impl BuildConfig {
    /// Refuses values that cannot work.
    pub fn check(&self) -> Result<()> {
        if self.inputs.is_empty() {
            return Err(Error::Config("no input file; name at least one JSON Lines or Parquet file".to_string()));
        }
        // A sample holds at least one token of prompt, and the stop token.
        if self.max_length < 2 || i32::try_from(self.max_length).is_err() {
            let message = format!("--max-length {} is out of range; use 2 to {} tokens", self.max_length, i32::MAX);
            return Err(Error::Config(message));
        }
        if self.workers == 0 {
            return Err(Error::Config("--workers 0 cannot work; use 1 or more".to_string()));
        }
        Ok(())
    }
}
