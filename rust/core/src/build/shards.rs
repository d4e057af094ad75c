//! The sink that decides what compares rows with each other, and writes the shards.

use std::collections::BTreeMap;
use std::fs::File;
use std::thread::JoinHandle;

use super::account::Account;
use super::journal::{Journal, JOURNAL};
use super::plan::Plan;
use super::pool;
use super::process::{Outcome, Processed};
use super::seen::Seen;
use super::select::{self, Selection};
use super::sink::{Progress, Sink, Status};
use super::source::Source;
use super::spool;
use crate::error::{Error, Result};
use crate::indexed::ShardWriter;
use crate::manifest::{FileRecord, Manifest, ShardRecord, FORMAT, FORMAT_VERSION};
use crate::output::{remove, write_whole, OutputFile, OutputFolder, MANIFEST, REJECTS};
use crate::reason::Rejection;
use crate::rows::sha256_of_file;
use crate::sample::Sample;

/// What has been seen so far, for rows that repeat it; removed when the build is complete.
const SEEN: &str = "seen";

/// Builds all shards, going on where an interrupted build stopped.
pub(super) fn build(plan: &Plan<'_>, overwrite: bool, progress: Progress<'_>) -> Result<String> {
    let folder = OutputFolder::open(plan.output(), false)?;
    if overwrite {
        folder.clear()?;
        remove(&plan.spool_folder())?;
    } else if let Some(manifest) = existing(plan, &folder)? {
        // A build that was killed after its last step but one left these.
        tidy(plan, &folder)?;
        return Ok(manifest);
    }
    let journal = usable_journal(plan, &folder)?;
    let selection = if plan.policy.recipe.selects() {
        spool::fill(plan, progress)?;
        Some(select::select(plan)?)
    } else {
        None
    };
    let mut sink = match journal {
        Some(journal) => ShardSink::resume(plan, &folder, selection, journal)?,
        None => ShardSink::start(plan, &folder, selection)?,
    };
    let source = Source::all(plan, sink.account.position);
    if let Err(error) = pool::run(plan, source, &mut sink, progress) {
        let nothing_to_go_on_with = sink.shards.is_empty() && !plan.spool_folder().exists();
        drop(sink);
        if nothing_to_go_on_with {
            folder.abandon();
        }
        return Err(error);
    }
    if sink.account.counts.rows_kept == 0 {
        let error = sink.account.nothing_kept(plan.output());
        drop(sink);
        remove(&plan.spool_folder())?;
        folder.abandon();
        return Err(error);
    }
    sink.finish()
}

/// The manifest of the shards that the folder already holds, if it does.
fn existing(plan: &Plan<'_>, folder: &OutputFolder) -> Result<Option<String>> {
    if !folder.path().join(MANIFEST).exists() {
        return Ok(None);
    }
    folder.existing(&plan.fingerprint()?, plan.policy.recipe.shard_tokens)
}

/// The journal to go on from; None when there is nothing to go on with.
fn usable_journal(plan: &Plan<'_>, folder: &OutputFolder) -> Result<Option<Journal>> {
    let Some(journal) = Journal::read(folder.path())? else {
        folder.clear()?;
        return Ok(None);
    };
    let fingerprint = plan.fingerprint()?;
    if journal.fingerprint == fingerprint && journal.shard_tokens == plan.policy.recipe.shard_tokens {
        return Ok(Some(journal));
    }
    let message = format!(
        "holds an unfinished build of other inputs, tokenizer or options (fingerprint {}, this build: {fingerprint}); \
         finish that one, start over with --overwrite, or choose another --output",
        journal.fingerprint
    );
    Err(Error::output(folder.path(), message))
}

struct ShardSink<'a> {
    plan: &'a Plan<'a>,
    folder: &'a OutputFolder,
    selection: Option<Selection>,
    account: Account,
    seen: Seen,
    /// The shard that is being written; none until its first sample.
    shard: Option<ShardWriter>,
    shards: Vec<ShardRecord>,
    files: BTreeMap<String, FileRecord>,
    rejects: OutputFile,
    /// What `seen` is restored from.
    seen_file: OutputFile,
    /// Complete files on their way to the disk.
    syncing: Vec<JoinHandle<Result<()>>>,
    bytes_done: u64,
}

impl<'a> ShardSink<'a> {
    fn start(plan: &'a Plan<'a>, folder: &'a OutputFolder, selection: Option<Selection>) -> Result<Self> {
        let recipe = plan.policy.recipe;
        Ok(Self {
            plan,
            folder,
            selection,
            account: Account::new(&plan.inputs, recipe.max_length),
            seen: Seen::new(recipe),
            shard: None,
            shards: Vec::new(),
            files: BTreeMap::new(),
            rejects: folder.create(REJECTS)?,
            seen_file: folder.create(SEEN)?,
            syncing: Vec::new(),
            bytes_done: 0,
        })
    }

    fn resume(
        plan: &'a Plan<'a>,
        folder: &'a OutputFolder,
        selection: Option<Selection>,
        journal: Journal,
    ) -> Result<Self> {
        for (name, record) in &journal.files {
            take_back(folder, name)?;
            let path = folder.partial(name);
            if !path.is_file() || sha256_of_file(&path)? != record.sha256 {
                let message = format!("the unfinished build's {name} is damaged; start over with --overwrite");
                return Err(Error::output(folder.path(), message));
            }
        }
        take_back(folder, REJECTS)?;
        let seen_file = folder.reopen(SEEN, journal.seen_bytes)?;
        let mut seen = Seen::new(plan.policy.recipe);
        seen.restore(&folder.partial(SEEN))?;
        Ok(Self {
            plan,
            folder,
            selection,
            seen,
            shard: None,
            shards: journal.shards,
            files: journal.files,
            rejects: folder.reopen(REJECTS, journal.rejects_bytes)?,
            seen_file,
            account: journal.account,
            syncing: Vec::new(),
            bytes_done: 0,
        })
    }

    /// Why a sample that passed every check of its own is not kept after all.
    fn refuse(&mut self, sample: &Sample) -> Result<Option<Rejection>> {
        let refusal = self.selection.as_ref().and_then(|selection| {
            // The row is counted already.
            selection.refuse(sample, self.account.counts.rows_read - 1)
        });
        let refusal = match refusal {
            Some(refusal) => Some(refusal),
            None => self.seen.refuse(sample, |place| self.account.row_name(place)),
        };
        if refusal.is_none() {
            if let Some(record) = self.seen.remember(sample, self.account.position) {
                self.seen_file.write(&record)?;
            }
        }
        Ok(refusal.map(|(reason, detail)| Rejection { reason, detail, id: sample.id.clone() }))
    }

    fn reject(&mut self, rejection: &Rejection) -> Result<()> {
        let line = self.account.rejected(rejection);
        self.rejects.write(line.as_bytes())
    }

    fn keep(&mut self, sample: &Sample) -> Result<()> {
        if self.shard.is_none() {
            self.shard = Some(ShardWriter::new(self.folder, self.shards.len())?);
        }
        if let Some(shard) = &mut self.shard {
            shard.document(&sample.sequences);
        }
        self.account.kept(sample);
        Ok(())
    }

    fn write_ids(&mut self, ids: &[u32]) -> Result<()> {
        match &mut self.shard {
            Some(shard) if !ids.is_empty() => shard.write_ids(ids),
            _ => Ok(()),
        }
    }

    fn is_full(&self) -> bool {
        self.shard.as_ref().is_some_and(|shard| shard.tokens() >= self.plan.policy.recipe.shard_tokens)
    }

    /// Ends the shard and notes in the journal that the build can go on from here.
    fn end_shard(&mut self) -> Result<()> {
        let Some(shard) = self.shard.take() else { return Ok(()) };
        let (record, files) = shard.finish(self.folder)?;
        self.shards.push(record);
        for (name, record, file) in files {
            self.sync(&name, file);
            self.files.insert(name, record);
        }
        self.write_journal()
    }

    /// Brings a complete file to the disk while the build goes on. After a loss of power the journal may be ahead of
    /// the disk; the hashes that it holds tell when a build is resumed.
    fn sync(&mut self, name: &str, file: File) {
        let path = self.folder.partial(name);
        self.syncing.push(std::thread::spawn(move || file.sync_all().map_err(Error::io(&path, "sync"))));
    }

    fn write_journal(&mut self) -> Result<()> {
        let journal = Journal {
            fingerprint: self.plan.fingerprint()?,
            shard_tokens: self.plan.policy.recipe.shard_tokens,
            account: self.account.clone(),
            rejects_bytes: self.rejects.flush()?,
            seen_bytes: self.seen_file.flush()?,
            shards: self.shards.clone(),
            files: self.files.clone(),
        };
        journal.write(self.folder.path())
    }

    /// Puts the files in place, the manifest last.
    fn finish(mut self) -> Result<String> {
        self.end_shard()?;
        let Self { plan, folder, account, shards, mut files, rejects, syncing, .. } = self;
        let (name, record, file) = rejects.finish()?;
        files.insert(name, record);
        file.sync_all().map_err(Error::io(folder.path(), "sync"))?;
        for thread in syncing {
            thread.join().map_err(|_| Error::output(folder.path(), "a syncing thread failed"))??;
        }
        for name in files.keys() {
            folder.publish(name)?;
        }
        folder.sync()?;
        let text = manifest(plan, account, shards, files)?;
        write_whole(&folder.path().join(MANIFEST), text.as_bytes())?;
        folder.sync()?;
        tidy(plan, folder)?;
        Ok(text)
    }
}

impl Sink for ShardSink<'_> {
    fn take(&mut self, block: Processed) -> Result<()> {
        self.bytes_done = block.bytes_done;
        // Ids of kept samples that follow each other are written at once.
        let (mut start, mut end) = (0, 0);
        for row in block.rows {
            self.account.advance(block.file, block.offset + row.end);
            match row.outcome {
                Outcome::Blank => self.account.blank(),
                Outcome::Rejected(rejection) => {
                    self.account.row(row.decided);
                    self.reject(&rejection)?;
                }
                Outcome::Kept(sample) => {
                    self.account.row(row.decided);
                    let next = end + sample.num_tokens();
                    if let Some(rejection) = self.refuse(&sample)? {
                        self.write_ids(&block.ids[start..end])?;
                        start = next;
                        self.reject(&rejection)?;
                    } else {
                        self.keep(&sample)?;
                    }
                    end = next;
                    if self.is_full() {
                        self.write_ids(&block.ids[start..end])?;
                        start = end;
                        self.end_shard()?;
                    }
                }
            }
        }
        self.write_ids(&block.ids[start..end])
    }

    fn status(&self) -> Status {
        self.account.status("building", self.bytes_done)
    }
}

/// Removes what only an unfinished build needs.
fn tidy(plan: &Plan<'_>, folder: &OutputFolder) -> Result<()> {
    remove(&folder.partial(SEEN))?;
    remove(&folder.path().join(JOURNAL))?;
    remove(&plan.spool_folder())?;
    folder.sync()
}

/// A build that was killed while it put its files in place has some under their final names.
fn take_back(folder: &OutputFolder, name: &str) -> Result<()> {
    let (place, partial) = (folder.path().join(name), folder.partial(name));
    if place.is_file() && !partial.exists() {
        std::fs::rename(&place, &partial).map_err(Error::io(&place, "rename"))?;
    }
    Ok(())
}

fn manifest(
    plan: &Plan<'_>,
    mut account: Account,
    shards: Vec<ShardRecord>,
    files: BTreeMap<String, FileRecord>,
) -> Result<String> {
    for (file, input) in account.inputs.iter_mut().enumerate() {
        input.sha256 = plan.sha256(file)?;
    }
    let tokenizer = plan.policy.tokenizer;
    let manifest = Manifest {
        format: FORMAT.to_string(),
        format_version: FORMAT_VERSION,
        builder_version: env!("CARGO_PKG_VERSION").to_string(),
        fingerprint: plan.fingerprint()?,
        num_samples: account.counts.rows_kept,
        tokens: account.tokens,
        trained_tokens: account.trained_tokens,
        shards,
        counts: account.counts,
        notices: account.notices,
        verification: account.verification,
        lengths: account.lengths,
        stop_token: plan.stop_token.clone(),
        stop_id: plan.policy.stop_id,
        stop_source: plan.stop_source.to_string(),
        vocab_size: tokenizer.vocab_size,
        tokenizer_fingerprint: tokenizer.fingerprint.clone(),
        template_source: tokenizer.template_source.clone(),
        template_sha256: tokenizer.template_sha256.clone(),
        dtype: "int32".to_string(),
        configuration: plan.configuration.clone(),
        inputs: account.inputs,
        files,
    };
    let mut text = serde_json::to_string_pretty(&manifest).expect("a manifest is valid JSON");
    text.push('\n');
    Ok(text)
}
