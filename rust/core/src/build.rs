//! The build: a reader, workers that tokenize, and a writer that keeps the order of the input.
//!
//! Chunk `k` goes to worker `k % n`, and the writer takes results from the workers in the same turn. The order so is
//! that of the input whatever the number of workers, and the short queues in front of and behind each worker bound
//! the memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::mpsc::{sync_channel, Receiver, SyncSender};

use serde::Serialize;

use crate::config::BuildConfig;
use crate::error::{Error, Result};
use crate::indexed::IndexedWriter;
use crate::manifest::{fingerprint, Configuration, Counts, InputRecord, Lengths, Manifest, FORMAT, FORMAT_VERSION};
use crate::output::{OutputFile, OutputFolder, BIN, IDX, MANIFEST, REJECTS};
use crate::rows::{resolve, Chunk, ChunkReader, Input};
use crate::sample::{Policy, Reason, Rejection, Sample};
use crate::tokenizer::ChatTokenizer;

/// Chunks that may wait in front of a worker, and as many behind it.
const QUEUE: usize = 2;

/// Called with input bytes done and in all; returning false stops the build with [`Error::Cancelled`].
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> bool;

/// Builds the shards and returns the manifest's text, or that of equal shards that are there already.
pub fn build_shards(config: &BuildConfig, progress: Progress<'_>) -> Result<String> {
    config.check()?;
    let tokenizer = ChatTokenizer::from_folder(&config.tokenizer)?;
    let plan = Plan::new(config, &tokenizer)?;
    let folder = OutputFolder::open(&config.output)?;
    if let Some(manifest) = folder.existing(&plan.fingerprint, config.overwrite)? {
        return Ok(manifest);
    }
    folder.clear()?;
    match plan.run(&folder, progress) {
        Ok(manifest) => Ok(manifest),
        Err(error) => {
            folder.abandon();
            Err(error)
        }
    }
}

/// All that is settled before the first row is read.
struct Plan<'a> {
    inputs: Vec<Input>,
    policy: Policy<'a>,
    workers: usize,
    output: &'a Path,
    configuration: Configuration,
    stop_token: String,
    stop_source: &'static str,
    fingerprint: String,
}

impl<'a> Plan<'a> {
    fn new(config: &'a BuildConfig, tokenizer: &'a ChatTokenizer) -> Result<Self> {
        let inputs = resolve(&config.inputs)?;
        let (stop_token, stop_id, stop_source) = match &config.stop_token {
            Some(token) => (token.clone(), tokenizer.token_id(token)?, "--stop-token"),
            None => (tokenizer.eos_token.clone(), tokenizer.eos_id, "eos_token of tokenizer_config.json"),
        };
        let configuration = Configuration {
            max_length: config.max_length,
            over_length: "reject".to_string(),
            verify: config.verify,
            stop_token: config.stop_token.clone(),
            seed: config.seed,
        };
        let records: Vec<InputRecord> = inputs.iter().map(record).collect();
        Ok(Self {
            fingerprint: fingerprint(&tokenizer.fingerprint, stop_id, &configuration, &records),
            policy: Policy { tokenizer, stop_id, max_length: config.max_length, verify: config.verify },
            workers: config.workers,
            output: &config.output,
            inputs,
            configuration,
            stop_token,
            stop_source,
        })
    }

    fn run(&self, folder: &OutputFolder, progress: Progress<'_>) -> Result<String> {
        let mut sink = Sink::new(self, folder)?;
        self.process(&mut sink, progress)?;
        sink.finish(folder)
    }

    /// Reads, tokenizes and writes all rows.
    fn process(&self, sink: &mut Sink<'_>, progress: Progress<'_>) -> Result<()> {
        std::thread::scope(|scope| {
            let (mut chunks, mut results) = (Vec::new(), Vec::new());
            for _ in 0..self.workers {
                let (chunk_sender, chunk_receiver) = sync_channel(QUEUE);
                let (result_sender, result_receiver) = sync_channel(QUEUE);
                chunks.push(chunk_sender);
                results.push(result_receiver);
                scope.spawn(|| work(&self.policy, chunk_receiver, result_sender));
            }
            scope.spawn(|| read(&self.inputs, chunks));
            // When this returns early, the receivers are dropped with the closure and the threads end by themselves.
            self.drain(&results, sink, progress)
        })
    }

    fn drain(
        &self,
        results: &[Receiver<Result<Processed>>],
        sink: &mut Sink<'_>,
        progress: Progress<'_>,
    ) -> Result<()> {
        let total: u64 = self.inputs.iter().map(|input| input.size).sum();
        for worker in results.iter().cycle() {
            // A closed channel at its turn means that no later chunk exists.
            let Ok(processed) = worker.recv() else { break };
            let processed = processed?;
            let before: u64 = self.inputs[..processed.file].iter().map(|input| input.size).sum();
            let done = before + processed.bytes_done;
            sink.write(processed)?;
            if !progress(done, total) {
                return Err(Error::Cancelled);
            }
        }
        Ok(())
    }
}

fn record(input: &Input) -> InputRecord {
    let Input { name, size, sha256, .. } = input.clone();
    InputRecord { name, size, sha256, rows_read: 0, rows_kept: 0 }
}

/// A chunk after tokenization.
struct Processed {
    file: usize,
    blank_lines: u64,
    bytes_done: u64,
    rows: Vec<(u64, std::result::Result<Sample, Rejection>)>,
}

fn read(inputs: &[Input], workers: Vec<SyncSender<Result<Chunk>>>) {
    for (chunk, worker) in ChunkReader::new(inputs).zip(workers.iter().cycle()) {
        // The other end is gone only when the build has failed elsewhere.
        if worker.send(chunk).is_err() {
            return;
        }
    }
}

fn work(policy: &Policy<'_>, chunks: Receiver<Result<Chunk>>, results: SyncSender<Result<Processed>>) {
    for chunk in chunks {
        let processed = chunk.map(|chunk| {
            let Chunk { file, blank_lines, bytes_done, .. } = chunk;
            let rows =
                chunk.parse().into_iter().map(|(line, fields)| (line, fields.and_then(|fields| policy.apply(&fields))));
            Processed { file, blank_lines, bytes_done, rows: rows.collect() }
        });
        if results.send(processed).is_err() {
            return;
        }
    }
}

/// One line of `rejects.jsonl`.
#[derive(Serialize)]
struct RejectLine<'a> {
    file: &'a str,
    line: u64,
    id: &'a str,
    reason: Reason,
    detail: &'a str,
}

/// Takes processed chunks in order, writes files and keeps the account.
struct Sink<'a> {
    plan: &'a Plan<'a>,
    samples: IndexedWriter,
    rejects: OutputFile,
    inputs: Vec<InputRecord>,
    counts: Counts,
    lengths: Lengths,
    tokens: u64,
    trained_tokens: u64,
    first_reject: Option<String>,
}

impl<'a> Sink<'a> {
    fn new(plan: &'a Plan<'a>, folder: &OutputFolder) -> Result<Self> {
        Ok(Self {
            plan,
            samples: IndexedWriter::new(folder.create(BIN)?),
            rejects: folder.create(REJECTS)?,
            inputs: plan.inputs.iter().map(record).collect(),
            counts: Counts::default(),
            lengths: Lengths::new(plan.configuration.max_length),
            tokens: 0,
            trained_tokens: 0,
            first_reject: None,
        })
    }

    fn write(&mut self, processed: Processed) -> Result<()> {
        self.counts.blank_lines += processed.blank_lines;
        for (line, row) in processed.rows {
            self.counts.rows_read += 1;
            self.inputs[processed.file].rows_read += 1;
            match row {
                Ok(sample) => self.keep(processed.file, &sample)?,
                Err(rejection) => self.reject(processed.file, line, &rejection)?,
            }
        }
        Ok(())
    }

    fn keep(&mut self, file: usize, sample: &Sample) -> Result<()> {
        self.samples.write(&sample.prompt, &sample.response)?;
        self.inputs[file].rows_kept += 1;
        self.counts.rows_kept += 1;
        self.counts.stop_inside_response += u64::from(sample.stop_inside);
        self.lengths.add(sample.num_tokens());
        self.tokens += sample.num_tokens() as u64;
        self.trained_tokens += sample.response.len() as u64;
        Ok(())
    }

    fn reject(&mut self, file: usize, line: u64, rejection: &Rejection) -> Result<()> {
        let name = self.inputs[file].name.as_str();
        let default_id = format!("{name}:{line}");
        let id = rejection.id.as_deref().unwrap_or(&default_id);
        let entry = RejectLine { file: name, line, id, reason: rejection.reason, detail: &rejection.detail };
        let mut text = json(&entry);
        let reason = reason_name(rejection.reason);
        if self.first_reject.is_none() {
            self.first_reject = Some(format!("{name}:{line}: {reason}: {}", rejection.detail));
        }
        text.push('\n');
        self.rejects.write(text.as_bytes())?;
        self.counts.rows_rejected += 1;
        *self.counts.rejected_by_reason.entry(reason).or_default() += 1;
        Ok(())
    }

    /// Puts the files in place, the manifest last.
    fn finish(self, folder: &OutputFolder) -> Result<String> {
        if self.counts.rows_kept == 0 {
            return Err(self.nothing_kept());
        }
        let (bin, idx) = self.samples.finish(folder.create(IDX)?)?;
        let mut files = BTreeMap::new();
        for file in [bin, idx, self.rejects] {
            files.extend([file.commit()?]);
        }
        folder.sync()?;
        let Plan { policy, configuration, stop_token, stop_source, fingerprint, .. } = self.plan;
        let manifest = Manifest {
            format: FORMAT.to_string(),
            format_version: FORMAT_VERSION,
            builder_version: env!("CARGO_PKG_VERSION").to_string(),
            fingerprint: fingerprint.clone(),
            num_samples: self.counts.rows_kept,
            tokens: self.tokens,
            trained_tokens: self.trained_tokens,
            counts: self.counts,
            lengths: self.lengths,
            stop_token: stop_token.clone(),
            stop_id: policy.stop_id,
            stop_source: (*stop_source).to_string(),
            vocab_size: policy.tokenizer.vocab_size,
            tokenizer_fingerprint: policy.tokenizer.fingerprint.clone(),
            template_source: policy.tokenizer.template_source.clone(),
            template_sha256: policy.tokenizer.template_sha256.clone(),
            dtype: "int32".to_string(),
            configuration: configuration.clone(),
            inputs: self.inputs,
            files,
        };
        let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest is valid JSON");
        text.push('\n');
        let mut file = folder.create(MANIFEST)?;
        file.write(text.as_bytes())?;
        file.commit()?;
        folder.sync()?;
        Ok(text)
    }

    fn nothing_kept(&self) -> Error {
        let Some(first) = &self.first_reject else {
            return Error::output(self.plan.output, "no shards written: the inputs hold no row at all");
        };
        let reasons: Vec<String> =
            self.counts.rejected_by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        Error::output(
            self.plan.output,
            format!(
                "no shards written: all {} rows were rejected ({}); the first: {first}",
                self.counts.rows_read,
                reasons.join(", ")
            ),
        )
    }
}

fn reason_name(reason: Reason) -> String {
    json(&reason).trim_matches('"').to_string()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("plain data is valid JSON")
}
