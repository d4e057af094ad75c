//! All that is settled before the first row is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{BuildConfig, Columns};
use crate::error::Result;
use crate::filters;
use crate::join::JoinedResponses;
use crate::manifest::{configuration, fingerprint};
use crate::rows::{resolve, ChunkReader, Input, Limits, Position};
use crate::sample::Policy;
use crate::tokenizer::ChatTokenizer;

/// A block's text; its ids take about twice as much again.
const BLOCK_BYTES: usize = 1 << 20;
/// Share of the memory that one line may take, and that blocks in work may take together.
const LINE_SHARE: u64 = 16;
const WINDOW_SHARE: u64 = 8;
/// Share that joined responses may take.
const JOIN_SHARE: u64 = 3;

/// What a build does, and with what.
pub(super) struct Plan<'a> {
    pub(super) inputs: Arc<Vec<Input>>,
    pub(super) policy: Policy<'a>,
    pub(super) columns: Columns,
    pub(super) limits: Limits,
    /// Bytes of input that may be in work at once.
    pub(super) window: usize,
    pub(super) workers: usize,
    pub(super) output: PathBuf,
    /// The options as the manifest shows them.
    pub(super) configuration: serde_json::Value,
    pub(super) stop_token: String,
    pub(super) stop_source: &'static str,
    /// What decides over the samples.
    pub(super) fingerprint: String,
    /// The same without the inputs: what decides over the samples of one file.
    pub(super) policy_fingerprint: String,
}

impl<'a> Plan<'a> {
    pub(super) fn new(config: &'a BuildConfig, tokenizer: &'a ChatTokenizer) -> Result<Self> {
        let recipe = &config.recipe;
        let inputs = Arc::new(resolve(&config.inputs, config.run.workers)?);
        let (stop_token, stop_id, stop_source) = match &recipe.stop_token {
            Some(token) => (token.clone(), tokenizer.token_id(token)?, "--stop-token"),
            None => (tokenizer.eos_token.clone(), tokenizer.eos_id, "eos_token of tokenizer_config.json"),
        };
        let limits = Limits {
            block_bytes: BLOCK_BYTES,
            line_bytes: usize::try_from(config.run.memory_bytes / LINE_SHARE).unwrap_or(usize::MAX),
        };
        let mut columns = recipe.columns.clone();
        let mut files = filters::fingerprints(&recipe.filters)?;
        let joined = match &recipe.join {
            None => None,
            Some(join) => {
                columns.response = String::new();
                let others = resolve(&join.files, config.run.workers)?;
                files.extend(others.iter().map(|input| (input.name.clone(), input.sha256.clone())));
                let most = config.run.memory_bytes / JOIN_SHARE;
                Some(JoinedResponses::read(&inputs, &columns, join, others, limits, most)?)
            }
        };
        let configuration = configuration(recipe, &files);
        let identity = |inputs: &[Input]| {
            let hashes = inputs.iter().map(|input| input.sha256.as_str());
            fingerprint(&tokenizer.fingerprint, stop_id, &configuration, hashes)
        };
        Ok(Self {
            fingerprint: identity(&inputs),
            policy_fingerprint: identity(&[]),
            policy: Policy::new(tokenizer, stop_id, recipe, joined, &config.run.math_command)?,
            columns,
            limits,
            window: usize::try_from(config.run.memory_bytes / WINDOW_SHARE).unwrap_or(usize::MAX),
            workers: config.run.workers,
            output: config.output.clone(),
            inputs,
            configuration,
            stop_token,
            stop_source,
        })
    }

    /// Reads one file from `start` on.
    pub(super) fn reader(&self, start: Position) -> ChunkReader {
        let file = std::iter::once(start.file);
        ChunkReader::new(Arc::clone(&self.inputs), file, start, &self.columns, self.limits)
    }

    /// Where processed rows are put.
    pub(super) fn spool_folder(&self) -> PathBuf {
        self.output.join(SPOOL)
    }

    pub(super) fn output(&self) -> &Path {
        &self.output
    }
}

/// Folder of processed rows inside the output folder.
const SPOOL: &str = "spool";
