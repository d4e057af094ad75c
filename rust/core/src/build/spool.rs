//! The spool: processed rows of whole input files on disk.
//!
//! A file's rows are kept in segments, `00012-0003.rows` (JSON lines: one for every line of the input) and
//! `00012-0003.ids` (token ids, little-endian uint32). A segment counts once its `.done` file is there, which says for
//! which input and options it was made and where the next one begins. Machines that share the folder can so work on
//! different files, and a build that was interrupted goes on with the next segment.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::plan::{part_files, Plan};
use super::pool;
use super::process::{Outcome, Processed, ProcessedRow};
use super::sink::{Progress, Sink, Status};
use super::source::Source;
use crate::error::{Error, Result};
use crate::output::{write_whole, OutputFolder};
use crate::reason::Rejection;
use crate::rows::Position;
use crate::sample::Sample;

/// A segment ends with the block that brings it to this many ids, or to the size of a shard.
const SEGMENT_IDS: u64 = 32 << 20;
/// A block read from the spool ends with the row that brings it to this many ids, or with this many rows.
const BLOCK_IDS: usize = 1 << 18;
const BLOCK_ROWS: usize = 1024;

/// One line of a `.rows` file.
#[derive(Serialize, Deserialize)]
struct SpooledRow {
    /// Uncompressed bytes (rows, in a table) of the input up to the row's end.
    end: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    decided: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<Sample>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Rejection>,
}

/// A `.done` file.
#[derive(Serialize, Deserialize)]
struct Done {
    policy: String,
    input_sha256: String,
    /// Where the next segment begins.
    next: Position,
    /// Whether this segment reaches the end of the input.
    last: bool,
    rows_bytes: u64,
    ids_bytes: u64,
}

/// Processes the files of one part of the inputs and leaves them in the spool; returns what was done as JSON.
pub(super) fn build_part(plan: &Plan<'_>, part: usize, of: usize, progress: Progress<'_>) -> Result<String> {
    let _folder = OutputFolder::open(plan.output(), true)?;
    let files: Vec<usize> = part_files(plan.inputs.len(), part, of).collect();
    for file in &files {
        spool_file(plan, *file, progress)?;
    }
    let names: Vec<&str> = files.iter().map(|file| plan.inputs[*file].name.as_str()).collect();
    Ok(serde_json::json!({"part": part, "of": of, "files": names, "spool": plan.spool_folder()}).to_string())
}

/// Processes all files that are not yet in the spool.
pub(super) fn fill(plan: &Plan<'_>, progress: Progress<'_>) -> Result<()> {
    (0..plan.inputs.len()).try_for_each(|file| spool_file(plan, file, progress))
}

/// Whether the whole file is in the spool, processed with these options.
pub(super) fn is_complete(plan: &Plan<'_>, file: usize) -> Result<bool> {
    let mut segment = 0;
    while let Some(done) = read_done(plan, file, segment)? {
        if done.last {
            return Ok(true);
        }
        segment += 1;
    }
    Ok(false)
}

fn spool_file(plan: &Plan<'_>, file: usize, progress: Progress<'_>) -> Result<()> {
    let (mut segment, mut position) = (0, Position { file, ..Position::default() });
    while let Some(done) = read_done(plan, file, segment)? {
        if done.last {
            return Ok(());
        }
        position = done.next;
        segment += 1;
    }
    let folder = plan.spool_folder();
    std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create the folder"))?;
    let mut sink = SpoolSink { plan, position, segment, open: None, status: start_status(plan, file) };
    pool::run(plan, Source::file(plan, position), &mut sink, progress)?;
    sink.end_segment(true)
}

fn start_status(plan: &Plan<'_>, file: usize) -> Status {
    let size = |inputs: &[crate::rows::Input]| inputs.iter().map(|input| input.size).sum();
    Status {
        stage: "processing",
        bytes_done: size(&plan.inputs[..file]),
        bytes_total: size(&plan.inputs),
        ..Status::default()
    }
}

fn segment_path(plan: &Plan<'_>, file: usize, segment: usize, ending: &str) -> PathBuf {
    plan.spool_folder().join(format!("{file:05}-{segment:04}.{ending}"))
}

/// The `.done` file of a segment, where it is there and belongs to this input and these options.
fn read_done(plan: &Plan<'_>, file: usize, segment: usize) -> Result<Option<Done>> {
    let path = segment_path(plan, file, segment, "done");
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let Ok(done) = serde_json::from_str::<Done>(&text) else { return Ok(None) };
    if done.policy != plan.policy_fingerprint || done.input_sha256 != plan.sha256(file)? {
        return Ok(None);
    }
    for (ending, size) in [("rows", done.rows_bytes), ("ids", done.ids_bytes)] {
        let path = segment_path(plan, file, segment, ending);
        if std::fs::metadata(&path).map(|metadata| metadata.len()).ok() != Some(size) {
            return Ok(None);
        }
    }
    Ok(Some(done))
}

/// Writes the segments of one file.
struct SpoolSink<'a> {
    plan: &'a Plan<'a>,
    position: Position,
    segment: usize,
    open: Option<Segment>,
    status: Status,
}

struct Segment {
    rows: BufWriter<File>,
    ids: BufWriter<File>,
    num_ids: u64,
}

impl SpoolSink<'_> {
    fn path(&self, ending: &str) -> PathBuf {
        segment_path(self.plan, self.position.file, self.segment, ending)
    }

    fn segment(&mut self) -> Result<&mut Segment> {
        if self.open.is_none() {
            let create = |path: PathBuf| File::create(&path).map_err(Error::io(&path, "create"));
            let rows = BufWriter::new(create(self.path("rows"))?);
            let ids = BufWriter::with_capacity(1 << 18, create(self.path("ids"))?);
            self.open = Some(Segment { rows, ids, num_ids: 0 });
        }
        Ok(self.open.as_mut().expect("just opened"))
    }

    /// Completes the segment; an empty file has one empty segment.
    fn end_segment(&mut self, last: bool) -> Result<()> {
        self.segment()?;
        let Some(segment) = self.open.take() else { return Ok(()) };
        let (rows_path, ids_path) = (self.path("rows"), self.path("ids"));
        let done = Done {
            policy: self.plan.policy_fingerprint.clone(),
            input_sha256: self.plan.sha256(self.position.file)?,
            next: self.position,
            last,
            rows_bytes: close(segment.rows, &rows_path)?,
            ids_bytes: close(segment.ids, &ids_path)?,
        };
        let text = serde_json::to_string(&done).expect("plain data is valid JSON");
        write_whole(&self.path("done"), text.as_bytes())?;
        self.segment += 1;
        Ok(())
    }
}

/// Brings a file to the disk and returns its size.
fn close(writer: BufWriter<File>, path: &Path) -> Result<u64> {
    let file = writer.into_inner().map_err(|error| Error::io(path, "write")(error.into_error()))?;
    file.sync_all().map_err(Error::io(path, "sync"))?;
    Ok(file.metadata().map_err(Error::io(path, "look at"))?.len())
}

impl Sink for SpoolSink<'_> {
    fn take(&mut self, block: Processed) -> Result<()> {
        let (rows_path, ids_path) = (self.path("rows"), self.path("ids"));
        let most = SEGMENT_IDS.min(self.plan.policy.recipe.shard_tokens);
        let segment = self.segment()?;
        let (mut lines, mut position) = (0, block.offset);
        let (mut kept, mut rejected) = (0, Vec::new());
        for row in block.rows {
            position = block.offset + row.end;
            lines += 1;
            let (sample, rejection) = match row.outcome {
                Outcome::Blank => (None, None),
                Outcome::Kept(sample) => (Some(sample), None),
                Outcome::Rejected(rejection) => (None, Some(rejection)),
            };
            kept += u64::from(sample.is_some());
            rejected.extend(rejection.as_ref().map(|rejection| rejection.reason.name().to_string()));
            let row = SpooledRow { end: position, decided: row.decided, kept: sample, rejected: rejection };
            let mut line = serde_json::to_vec(&row).expect("plain data is valid JSON");
            line.push(b'\n');
            segment.rows.write_all(&line).map_err(Error::io(&rows_path, "write"))?;
        }
        for ids in block.ids.chunks(1 << 16) {
            let bytes: Vec<u8> = ids.iter().flat_map(|id| id.to_le_bytes()).collect();
            segment.ids.write_all(&bytes).map_err(Error::io(&ids_path, "write"))?;
        }
        segment.num_ids += block.ids.len() as u64;
        let full = segment.num_ids >= most;
        self.position.offset = position;
        self.position.line += lines;
        let before: u64 = self.plan.inputs[..block.file].iter().map(|input| input.size).sum();
        self.status.bytes_done = before + block.bytes_done;
        self.status.rows += kept + rejected.len() as u64;
        self.status.kept += kept;
        self.status.tokens += block.ids.len() as u64;
        for reason in rejected {
            *self.status.rejected.entry(reason).or_default() += 1;
        }
        if full {
            self.end_segment(false)?;
        }
        Ok(())
    }

    fn status(&self) -> Status {
        self.status.clone()
    }
}

/// Reads a file's rows back.
pub(super) struct SpoolReader {
    file: usize,
    size: u64,
    /// The segments that are still to be read: rows and ids.
    rest: std::vec::IntoIter<(PathBuf, PathBuf)>,
    open: Option<(BufReader<File>, BufReader<File>, PathBuf)>,
    /// Rows up to here were taken before.
    skip: u64,
}

impl SpoolReader {
    /// Opens the spooled rows of a file behind `start`. The file must be complete in the spool.
    pub(super) fn open(plan: &Plan<'_>, start: Position) -> Result<Self> {
        let (file, mut segments) = (start.file, Vec::new());
        while let Some(done) = read_done(plan, file, segments.len())? {
            let number = segments.len();
            segments.push((segment_path(plan, file, number, "rows"), segment_path(plan, file, number, "ids")));
            if done.last {
                break;
            }
        }
        let size = plan.inputs[file].size;
        Ok(Self { file, size, rest: segments.into_iter(), open: None, skip: start.offset })
    }

    /// Calls `take` for every row, without reading the ids.
    pub(super) fn for_each_row(mut self, mut take: impl FnMut(&Outcome)) -> Result<()> {
        while let Some(row) = self.next_row()? {
            take(&outcome(row));
        }
        Ok(())
    }

    /// The next rows with their ids; None at the end.
    pub(super) fn next_block(&mut self) -> Result<Option<Processed>> {
        let mut block = Processed { file: self.file, bytes_done: self.size, ..Processed::default() };
        while block.ids.len() < BLOCK_IDS && block.rows.len() < BLOCK_ROWS {
            let Some(row) = self.next_row()? else { break };
            let end = row.end;
            let num_ids = row.kept.as_ref().map_or(0, Sample::num_tokens);
            let start = block.ids.len();
            self.read_ids(num_ids, &mut block.ids)?;
            if end <= self.skip {
                block.ids.truncate(start);
                continue;
            }
            block.rows.push(ProcessedRow { end, decided: row.decided.clone(), outcome: outcome(row) });
        }
        Ok((!block.rows.is_empty()).then_some(block))
    }

    fn next_row(&mut self) -> Result<Option<SpooledRow>> {
        loop {
            let Some((rows, _, path)) = &mut self.open else {
                let Some((rows_path, ids_path)) = self.rest.next() else { return Ok(None) };
                let open = |path: &Path| File::open(path).map(BufReader::new).map_err(Error::io(path, "open"));
                self.open = Some((open(&rows_path)?, open(&ids_path)?, rows_path));
                continue;
            };
            let mut line = Vec::new();
            if rows.read_until(b'\n', &mut line).map_err(Error::io(path, "read"))? == 0 {
                self.open = None;
                continue;
            }
            return serde_json::from_slice(&line).map(Some).map_err(|error| {
                Error::input(path, format!("is damaged ({error}); remove the spool folder and build again"))
            });
        }
    }

    fn read_ids(&mut self, count: usize, ids: &mut Vec<u32>) -> Result<()> {
        let Some((_, reader, path)) = &mut self.open else { return Ok(()) };
        let mut bytes = vec![0; count * 4];
        reader.read_exact(&mut bytes).map_err(Error::io(path, "read the ids of"))?;
        ids.extend(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        Ok(())
    }
}

fn outcome(row: SpooledRow) -> Outcome {
    match (row.kept, row.rejected) {
        (Some(sample), _) => Outcome::Kept(sample),
        (None, Some(rejection)) => Outcome::Rejected(rejection),
        (None, None) => Outcome::Blank,
    }
}
