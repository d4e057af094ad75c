//! `manifest.json`: what a shard folder holds and how it came about. `docs/shard-format.md` describes every key.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{json, Value};
use sha2::{Digest, Sha256};

use crate::config::Recipe;
use crate::tokenizer::hex;

/// Name of the format, and its version: a reader refuses others.
pub const FORMAT: &str = "megatron-sft-shards";
/// Changes whenever a reader of the former version would misread a folder.
pub const FORMAT_VERSION: u32 = 2;
/// Changes whenever the same rows and options would give other samples; part of the fingerprint.
const POLICY_VERSION: u32 = 2;

/// Buckets of the length histogram.
const BUCKETS: usize = 32;

/// The whole manifest. Nothing in it depends on the machine, the time, or the number of workers.
#[derive(Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// Always [`FORMAT`].
    pub format: String,
    /// Always [`FORMAT_VERSION`].
    pub format_version: u32,
    /// Version of the package that built the shards.
    pub builder_version: String,
    /// sha256 over tokenizer, template, policy and the content of the inputs.
    pub fingerprint: String,
    /// Documents in the shards.
    pub num_samples: u64,
    /// Tokens in the shards.
    pub tokens: u64,
    /// Tokens of trained sequences.
    pub trained_tokens: u64,
    /// The shards, in the order of their samples.
    pub shards: Vec<ShardRecord>,
    /// What became of the rows.
    pub counts: Counts,
    /// Kept rows that are worth mentioning, by what for.
    pub notices: BTreeMap<String, NoticeRecord>,
    /// Mathematical answers by who decided about them, and how: `fast_path_equal`, `math_verify_different`, ...
    pub verification: BTreeMap<String, u64>,
    /// Lengths of the samples, in tokens.
    pub lengths: Lengths,
    /// Token that ends every response.
    pub stop_token: String,
    /// Its id.
    pub stop_id: u32,
    /// Where the stop token was named.
    pub stop_source: String,
    /// One more than the largest id of the tokenizer.
    pub vocab_size: usize,
    /// sha256 over tokenizer, template and special tokens.
    pub tokenizer_fingerprint: String,
    /// File of the tokenizer folder that held the chat template.
    pub template_source: String,
    /// sha256 of the chat template.
    pub template_sha256: String,
    /// Element type of the `.bin` files.
    pub dtype: String,
    /// The options that decide over the content, see [`configuration`].
    pub configuration: Value,
    /// The input files, in order.
    pub inputs: Vec<InputRecord>,
    /// Size and hash of every other file of the folder.
    pub files: BTreeMap<String, FileRecord>,
}

/// What became of the rows: `rows_read = rows_kept + rows_rejected`.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub struct Counts {
    /// Rows of all inputs.
    pub rows_read: u64,
    /// Rows in the shards.
    pub rows_kept: u64,
    /// Rows in `rejects.jsonl`.
    pub rows_rejected: u64,
    /// Of these, how many for which reason.
    pub rejected_by_reason: BTreeMap<String, u64>,
    /// Lines of white space, which are no rows.
    pub blank_lines: u64,
}

/// One pair of `.bin` and `.idx` files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRecord {
    /// Their name without the ending.
    pub prefix: String,
    /// Documents.
    pub num_samples: u64,
    /// Tokens.
    pub tokens: u64,
    /// Tokens of trained sequences.
    pub trained_tokens: u64,
}

/// Kept rows that were noticed for the same thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoticeRecord {
    /// How many.
    pub count: u64,
    /// The row's id, or file and line, of the first one.
    pub first: String,
}

/// Lengths of the samples, prompt, response and stop token together.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lengths {
    /// Shortest sample, in tokens.
    pub min: usize,
    /// Longest sample, in tokens.
    pub max: usize,
    /// Width of a histogram bucket, in tokens.
    pub bucket_tokens: usize,
    /// Entry `i` counts the samples of `i * bucket_tokens + 1` to `(i + 1) * bucket_tokens` tokens.
    pub histogram: Vec<u64>,
}

impl Lengths {
    /// An empty histogram for samples of up to `max_length` tokens.
    pub fn new(max_length: usize) -> Self {
        let bucket_tokens = max_length.div_ceil(BUCKETS);
        Self { min: 0, max: 0, bucket_tokens, histogram: vec![0; max_length.div_ceil(bucket_tokens)] }
    }

    /// Counts a sample of `length` tokens, at least 1.
    pub fn add(&mut self, length: usize) {
        self.min = if self.max == 0 { length } else { self.min.min(length) };
        self.max = self.max.max(length);
        self.histogram[(length - 1) / self.bucket_tokens] += 1;
    }
}

/// One input file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InputRecord {
    /// Path below the folder that holds all inputs.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Hash of the content.
    pub sha256: String,
    /// Rows read from it.
    pub rows_read: u64,
    /// Of these, rows in the shards.
    pub rows_kept: u64,
}

/// One file of the folder.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FileRecord {
    /// Bytes.
    pub size: u64,
    /// Hash of the content.
    pub sha256: String,
}

/// The options as the manifest shows them: files stand there by name and content, not by where they lie.
pub fn configuration(recipe: &Recipe, files: &[(String, String)]) -> Value {
    let mut value = serde_json::to_value(recipe).expect("options are plain data");
    for place in ["/filters/decontaminate", "/join/files"] {
        if let Some(listed) = value.pointer_mut(place).filter(|listed| !listed.is_null()) {
            *listed = Value::Null;
        }
    }
    if !files.is_empty() {
        value["files"] = files.iter().map(|(name, sha256)| json!({"name": name, "sha256": sha256})).collect();
    }
    value
}

/// The fingerprint: everything that decides which samples come out, and nothing else.
pub fn fingerprint<'a>(
    tokenizer_fingerprint: &str,
    stop_id: u32,
    configuration: &Value,
    inputs: impl Iterator<Item = &'a str>,
) -> String {
    let mut options = configuration.clone();
    if let Some(options) = options.as_object_mut() {
        // Where a shard ends changes no sample, nor does the seed of a draw that is not made.
        options.remove("shard_tokens");
        if options["select"] != "random-correct" && options["num_queries"].is_null() {
            options.remove("seed");
        }
    }
    let mut hash = Sha256::new();
    let mut part = |name: &str, value: &str| hash.update(format!("{name}={value}\n"));
    part("format", &FORMAT_VERSION.to_string());
    part("policy", &POLICY_VERSION.to_string());
    part("tokenizer", tokenizer_fingerprint);
    part("stop_id", &stop_id.to_string());
    part("configuration", &options.to_string());
    for sha256 in inputs {
        part("input", sha256);
    }
    hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histogram_edges() {
        let mut lengths = Lengths::new(64);
        for length in [1, 2, 3, 64] {
            lengths.add(length);
        }
        assert_eq!((lengths.min, lengths.max, lengths.bucket_tokens), (1, 64, 2));
        assert_eq!((lengths.histogram[0], lengths.histogram[1], lengths.histogram[31]), (2, 1, 1));
        let mut odd = Lengths::new(33);
        odd.add(33);
        assert_eq!(odd.histogram.iter().sum::<u64>(), 1);
    }
}
