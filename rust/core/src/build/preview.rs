//! Samples as text: of a build that is only planned, and of shards.

use std::path::Path;

use serde_json::{json, Value};

use super::plan::Plan;
use super::process::{process, Outcome};
use super::source::{Job, Source};
use crate::config::BuildConfig;
use crate::error::Result;
use crate::reader::ShardSet;
use crate::rows::Position;
use crate::tokenizer::ChatTokenizer;

/// Processes rows until one passes, and returns it as JSON: `rows` looked at, `fingerprint`, and `sample`, a list of
/// sequences with `trained`, `tokens` and `text`; null when no row passes.
pub fn preview(config: &BuildConfig, tokenizer: &ChatTokenizer) -> Result<String> {
    config.check()?;
    let plan = Plan::new(config, tokenizer)?;
    let mut source = Source::all(&plan, Position::default());
    let mut worker = plan.policy.worker();
    let mut rows = 0;
    let mut sample = Value::Null;
    while let (Value::Null, Some(job)) = (&sample, source.next_job()?) {
        let block = match job {
            Job::Block(chunk) => process(&chunk, &plan.columns, &plan.policy, &mut worker)?,
            Job::Done(processed) => processed,
        };
        for row in &block.rows {
            rows += u64::from(!matches!(row.outcome, Outcome::Blank));
            if let Outcome::Kept(kept) = &row.outcome {
                sample = show(tokenizer, &kept.sequences, &block.ids)?;
                break;
            }
        }
    }
    let input_bytes: u64 = plan.inputs.iter().map(|input| input.size).sum();
    Ok(json!({"rows": rows, "fingerprint": plan.fingerprint()?, "input_bytes": input_bytes, "sample": sample})
        .to_string())
}

/// A sample of complete shards in the form of [`preview`]'s `sample`.
///
/// Fails when `prefixes` are no shards of `folder`, or there is no such sample.
pub fn show_sample(folder: &Path, prefixes: &[String], tokenizer: &ChatTokenizer, number: u64) -> Result<String> {
    let (tokens, trained) = ShardSet::open(folder, prefixes)?.sample(number)?;
    let ids: Vec<u32> = tokens.iter().map(|id| id.unsigned_abs()).collect();
    let sequences: Vec<u32> = trained.chunk_by(|one, next| one == next).map(|run| run.len() as u32).collect();
    Ok(show(tokenizer, &sequences, &ids)?.to_string())
}

fn show(tokenizer: &ChatTokenizer, sequences: &[u32], ids: &[u32]) -> Result<Value> {
    let mut start = 0;
    let mut shown = Vec::new();
    for (index, length) in sequences.iter().enumerate() {
        let end = start + *length as usize;
        let text = tokenizer.decode(&ids[start..end])?;
        shown.push(json!({"trained": index % 2 == 1, "tokens": length, "text": text}));
        start = end;
    }
    Ok(Value::Array(shown))
}
