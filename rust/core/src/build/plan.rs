//! All that is settled before the first row is read.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{BuildConfig, Columns};
use crate::error::Result;
use crate::filters;
use crate::join::JoinedResponses;
use crate::manifest::{configuration, fingerprint};
use crate::rows::{resolve, sha256_of_file, ChunkReader, Hashes, Input, Limits, Position};
use crate::sample::Policy;
use crate::tokenizer::ChatTokenizer;

/// A block's text; its ids take about twice as much again.
const BLOCK_BYTES: usize = 1 << 20;
/// Share of the memory that one line may take, and that blocks in work may take together.
const LINE_SHARE: u64 = 16;
const WINDOW_SHARE: u64 = 8;
/// Blocks in work at once: enough that no worker waits while another writes. More would only pile up before a slow disk.
const BLOCKS_IN_WORK: usize = 8;
const BLOCKS_PER_WORKER: usize = 4;
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
    /// What decides over the samples of one file, beside its content.
    pub(super) policy_fingerprint: String,
    hashes: Hashes,
}

impl<'a> Plan<'a> {
    pub(super) fn new(config: &'a BuildConfig, tokenizer: &'a ChatTokenizer) -> Result<Self> {
        let recipe = &config.recipe;
        let inputs = Arc::new(resolve(&config.inputs)?);
        let hashes = Hashes::start(&inputs, files_of(config, inputs.len()), config.run.workers);
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
                let others = resolve(&join.files)?;
                for input in &others {
                    files.push((input.name.clone(), sha256_of_file(&input.path)?));
                }
                let most = config.run.memory_bytes / JOIN_SHARE;
                Some(JoinedResponses::read(&inputs, &columns, join, others, limits, most)?)
            }
        };
        let configuration = configuration(recipe, &files);
        let policy_fingerprint = fingerprint(&tokenizer.fingerprint, stop_id, &configuration, std::iter::empty());
        Ok(Self {
            policy_fingerprint,
            hashes,
            policy: Policy::new(tokenizer, stop_id, recipe, joined, &config.run.math_command)?,
            columns,
            limits,
            window: usize::try_from(config.run.memory_bytes / WINDOW_SHARE)
                .unwrap_or(usize::MAX)
                .min((BLOCKS_IN_WORK + BLOCKS_PER_WORKER * config.run.workers) * BLOCK_BYTES),
            workers: config.run.workers,
            output: config.output.clone(),
            inputs,
            configuration,
            stop_token,
            stop_source,
        })
    }

    /// What decides over the samples; waits until all inputs are hashed.
    pub(super) fn fingerprint(&self) -> Result<String> {
        let hashes = (0..self.inputs.len()).map(|file| self.sha256(file)).collect::<Result<Vec<String>>>()?;
        let tokenizer = &self.policy.tokenizer.fingerprint;
        Ok(fingerprint(tokenizer, self.policy.stop_id, &self.configuration, hashes.iter().map(String::as_str)))
    }

    /// The hash of an input; waits until it is known.
    pub(super) fn sha256(&self, file: usize) -> Result<String> {
        self.hashes.get(file)
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

/// The inputs that this build reads.
fn files_of(config: &BuildConfig, num_inputs: usize) -> Vec<usize> {
    match config.run.part {
        Some((part, of)) => part_files(num_inputs, part, of).collect(),
        None => (0..num_inputs).collect(),
    }
}

/// The inputs of part `part` of `of`, counted from 1.
pub(super) fn part_files(num_inputs: usize, part: usize, of: usize) -> impl Iterator<Item = usize> {
    (part - 1..num_inputs).step_by(of)
}

/// Folder of processed rows inside the output folder.
const SPOOL: &str = "spool";
