//! The account of a build: what became of every row.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::sink::Status;
use crate::error::Error;
use crate::manifest::{Counts, InputRecord, Lengths, NoticeRecord};
use crate::reason::Rejection;
use crate::rows::{Input, Position};
use crate::sample::Sample;

/// Everything that the manifest counts; stored with each checkpoint of a build.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Account {
    /// Behind the last row that is accounted for.
    pub(super) position: Position,
    pub(super) counts: Counts,
    pub(super) notices: BTreeMap<String, NoticeRecord>,
    /// Answers by who decided about them, and how.
    pub(super) verification: BTreeMap<String, u64>,
    pub(super) lengths: Lengths,
    pub(super) inputs: Vec<InputRecord>,
    pub(super) tokens: u64,
    pub(super) trained_tokens: u64,
    first_reject: Option<String>,
}

impl Account {
    pub(super) fn new(inputs: &[Input], max_length: usize) -> Self {
        let record = |input: &Input| {
            let Input { name, size, .. } = input.clone();
            // The hash is filled in at the end.
            InputRecord { name, size, sha256: String::new(), rows_read: 0, rows_kept: 0 }
        };
        Self {
            position: Position::default(),
            counts: Counts::default(),
            notices: BTreeMap::new(),
            verification: BTreeMap::new(),
            lengths: Lengths::new(max_length),
            inputs: inputs.iter().map(record).collect(),
            tokens: 0,
            trained_tokens: 0,
            first_reject: None,
        }
    }

    /// Moves behind the next line, which ends at `end`; the line's number counts from 1.
    pub(super) fn advance(&mut self, file: usize, end: u64) {
        let line = if file == self.position.file { self.position.line + 1 } else { 1 };
        self.position = Position { file, offset: end, line };
    }

    pub(super) fn blank(&mut self) {
        self.counts.blank_lines += 1;
    }

    pub(super) fn row(&mut self, decided: Option<String>) {
        if let Some(decided) = decided {
            *self.verification.entry(decided).or_default() += 1;
        }
        self.counts.rows_read += 1;
        self.inputs[self.position.file].rows_read += 1;
    }

    /// The name of the row at `position`.
    pub(super) fn row_name(&self, position: Position) -> String {
        format!("{}:{}", self.inputs[position.file].name, position.line)
    }

    pub(super) fn kept(&mut self, sample: &Sample) {
        let file = self.position.file;
        self.inputs[file].rows_kept += 1;
        self.counts.rows_kept += 1;
        for notice in &sample.notices {
            let first = || sample.id.clone().unwrap_or_else(|| self.row_name(self.position));
            let record = self.notices.get(notice.name()).cloned();
            let mut record = record.unwrap_or_else(|| NoticeRecord { count: 0, first: first() });
            record.count += 1;
            self.notices.insert(notice.name().to_string(), record);
        }
        self.lengths.add(sample.num_tokens());
        self.tokens += sample.num_tokens() as u64;
        self.trained_tokens += sample.trained_tokens() as u64;
    }

    /// Counts a rejection and returns its line for `rejects.jsonl`.
    pub(super) fn rejected(&mut self, rejection: &Rejection) -> String {
        let file = self.inputs[self.position.file].name.as_str();
        let name = self.row_name(self.position);
        let Rejection { reason, detail, id } = rejection;
        let id = id.as_deref().unwrap_or(&name);
        let entry = RejectLine { file, line: self.position.line, id, reason: reason.name(), detail };
        let mut text = serde_json::to_string(&entry).expect("plain data is valid JSON");
        text.push('\n');
        if self.first_reject.is_none() {
            self.first_reject = Some(format!("{name}: {reason}: {detail}"));
        }
        self.counts.rows_rejected += 1;
        *self.counts.rejected_by_reason.entry(reason.name().to_string()).or_default() += 1;
        text
    }

    /// The error of a build that keeps nothing.
    pub(super) fn nothing_kept(&self, output: &std::path::Path) -> Error {
        let Some(first) = &self.first_reject else {
            return Error::output(output, "no shards written: the inputs hold no row at all");
        };
        let reasons: Vec<String> =
            self.counts.rejected_by_reason.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        let message = format!(
            "no shards written: all {} rows were rejected ({}); the first: {first}",
            self.counts.rows_read,
            reasons.join(", ")
        );
        Error::output(output, message)
    }

    /// How far the build is; `bytes` of the present file are done.
    pub(super) fn status(&self, stage: &'static str, bytes: u64) -> Status {
        let before: u64 = self.inputs[..self.position.file].iter().map(|input| input.size).sum();
        Status {
            stage,
            bytes_done: before + bytes,
            bytes_total: self.inputs.iter().map(|input| input.size).sum(),
            rows: self.counts.rows_read,
            kept: self.counts.rows_kept,
            tokens: self.tokens,
            rejected: self.counts.rejected_by_reason.clone(),
        }
    }
}

/// One line of `rejects.jsonl`.
#[derive(Serialize)]
struct RejectLine<'a> {
    file: &'a str,
    line: u64,
    id: &'a str,
    reason: &'a str,
    detail: &'a str,
}
