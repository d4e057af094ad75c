//! JSON Lines, plain or gzipped. A bad line is a rejection and never ends the reading.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use flate2::bufread::MultiGzDecoder;
use serde::de::IgnoredAny;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::Value;

use super::fields::{kind, Answer, RawFields};
use super::{reject, unreadable, Chunk, Fields, Format, Input, Rows, CHUNK_BYTES, CHUNK_ROWS};
use crate::error::{Error, Result};
use crate::sample::{Reason, Rejection};

/// A longer line is rejected instead of read into memory: no trace is that long, but a damaged file may be.
const LONGEST_LINE: u64 = 256 << 20;

const UTF8_BOM: &[u8] = b"\xef\xbb\xbf";

/// The lines of one file.
pub(super) struct Lines {
    path: PathBuf,
    reader: Box<dyn BufRead + Send>,
    consumed: Arc<AtomicU64>,
    number: u64,
}

impl Lines {
    pub(super) fn open(input: &Input) -> Result<Self> {
        let file = File::open(&input.path).map_err(Error::io(&input.path, "open"))?;
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = BufReader::with_capacity(1 << 18, Counted { file, consumed: Arc::clone(&consumed) });
        let reader: Box<dyn BufRead + Send> = match input.format {
            Format::JsonlGz => Box::new(BufReader::with_capacity(1 << 18, MultiGzDecoder::new(counted))),
            _ => Box::new(counted),
        };
        Ok(Self { path: input.path.clone(), reader, consumed, number: 0 })
    }

    pub(super) fn next_chunk(&mut self, file: usize) -> Result<Option<Chunk>> {
        let (mut lines, mut bytes, mut blank_lines) = (Vec::new(), 0, 0);
        while lines.len() < CHUNK_ROWS && bytes < CHUNK_BYTES {
            let Some(line) = self.next_line()? else { break };
            match line {
                Ok(text) if text.iter().all(u8::is_ascii_whitespace) => blank_lines += 1,
                Ok(text) => {
                    bytes += text.len();
                    lines.push((self.number, Ok(text)));
                }
                Err(rejection) => lines.push((self.number, Err(rejection))),
            }
        }
        if lines.is_empty() && blank_lines == 0 {
            return Ok(None);
        }
        let bytes_done = self.consumed.load(Ordering::Relaxed);
        Ok(Some(Chunk { file, blank_lines, bytes_done, rows: Rows::Lines(lines) }))
    }

    fn next_line(&mut self) -> Result<Option<std::result::Result<Vec<u8>, Rejection>>> {
        let mut line = Vec::new();
        let count = (&mut self.reader)
            .take(LONGEST_LINE)
            .read_until(b'\n', &mut line)
            .map_err(|error| unreadable(&self.path, error))?;
        if count == 0 {
            return Ok(None);
        }
        self.number += 1;
        if count as u64 == LONGEST_LINE && line.last() != Some(&b'\n') {
            self.skip_line()?;
            let detail = format!("the line is longer than {} MiB", LONGEST_LINE >> 20);
            return Ok(Some(reject(Reason::MalformedJson, detail)));
        }
        if self.number == 1 && line.starts_with(UTF8_BOM) {
            line.drain(..UTF8_BOM.len());
        }
        Ok(Some(Ok(line)))
    }

    fn skip_line(&mut self) -> Result<()> {
        loop {
            let buffer = self.reader.fill_buf().map_err(|error| unreadable(&self.path, error))?;
            if buffer.is_empty() {
                return Ok(());
            }
            let newline = buffer.iter().position(|byte| *byte == b'\n');
            let count = newline.map_or(buffer.len(), |at| at + 1);
            self.reader.consume(count);
            if newline.is_some() {
                return Ok(());
            }
        }
    }
}

/// Counts the bytes taken from a file, for progress.
struct Counted {
    file: File,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.consumed.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// The values stay unparsed at first, so that a bad one can be named, and a number keeps its spelling.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    answer: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
}

/// Parses one line, which may end in a newline.
pub(crate) fn parse_line(line: &[u8]) -> std::result::Result<Fields, Rejection> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim(),
        Err(error) => return reject(Reason::InvalidUtf8, format!("not UTF-8 from byte {} on", error.valid_up_to())),
    };
    if !text.starts_with('{') {
        // A struct can be read from a list too, so this case must not reach the parser below.
        serde_json::from_str::<IgnoredAny>(text).or_else(|error| malformed(&error))?;
        return reject(Reason::WrongType, "the line must hold an object");
    }
    let line: Line<'_> = serde_json::from_str(text).or_else(|error| malformed(&error))?;
    let raw = RawFields {
        message: parse_value(line.message)?,
        prompt: parse_value(line.prompt)?,
        response: parse_value(line.response)?,
        answer: parse_answer(line.answer)?,
        id: parse_value(line.id)?,
    };
    raw.check()
}

fn parse_value(raw: Option<&RawValue>) -> std::result::Result<Option<Value>, Rejection> {
    let Some(raw) = raw else { return Ok(None) };
    serde_json::from_str(raw.get()).map(Some).or_else(|error| malformed(&error))
}

fn parse_answer(raw: Option<&RawValue>) -> std::result::Result<Option<Answer>, Rejection> {
    let Some(value) = parse_value(raw)? else { return Ok(None) };
    Ok(Some(match value {
        Value::String(text) => Answer::Text(text),
        Value::Number(_) => Answer::Text(raw.map_or("", RawValue::get).to_string()),
        Value::Object(object) => Answer::Object(object),
        other => Answer::Other(kind(&other)),
    }))
}

fn malformed<T>(error: &serde_json::Error) -> std::result::Result<T, Rejection> {
    // Each line is parsed by itself, so serde's line number would mislead.
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    reject(Reason::MalformedJson, format!("{message} at column {}", error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(line: &[u8]) -> Reason {
        parse_line(line).unwrap_err().reason
    }

    #[test]
    fn a_whole_row() {
        let line = br#" {"prompt": "p", "response": "r", "answer": 1.50, "id": 7, "other": [1]} "#;
        let fields = parse_line(line).unwrap();
        assert_eq!(fields.id.as_deref(), Some("7"));
        assert_eq!(fields.messages, serde_json::json!([{"role": "user", "content": "p"}]));
        assert_eq!(fields.answer, Some(Answer::Text("1.50".to_string())));
    }

    #[test]
    fn big_numbers_keep_their_digits() {
        let line = br#"{"prompt": "p", "response": "r", "answer": 123456789012345678901234567890}"#;
        let answer = parse_line(line).unwrap().answer;
        assert_eq!(answer, Some(Answer::Text("123456789012345678901234567890".to_string())));
    }

    #[test]
    fn each_defect_has_its_reason() {
        for (line, expected) in [
            (&br#"{"prompt": "p", "response": "#[..], Reason::MalformedJson),
            (br#"{"prompt": "p", "response": "a"} x"#, Reason::MalformedJson),
            (br#"{"prompt": "\ud800", "response": "a"}"#, Reason::MalformedJson),
            (br#"{"prompt": "p", "response": "a", "response": "b"}"#, Reason::MalformedJson),
            (br#"{"prompt": "p", "response": NaN}"#, Reason::MalformedJson),
            (b"garbage", Reason::MalformedJson),
            (b"null", Reason::WrongType),
            (br#"[[], "p", "r"]"#, Reason::WrongType),
            (b"{\"prompt\": \"\xff\", \"response\": \"a\"}", Reason::InvalidUtf8),
            (b"{}", Reason::MissingField),
            (br#"{"prompt": "p"}"#, Reason::MissingField),
            (br#"{"response": "r"}"#, Reason::MissingField),
            (br#"{"prompt": "p", "response": null}"#, Reason::MissingField),
            (br#"{"prompt": 1, "response": "r"}"#, Reason::WrongType),
            (br#"{"prompt": "p", "response": ["r"]}"#, Reason::WrongType),
            (br#"{"prompt": "p", "response": "r", "id": {}}"#, Reason::WrongType),
            (br#"{"message": [], "response": "r"}"#, Reason::WrongType),
            (br#"{"message": "hi", "response": "r"}"#, Reason::WrongType),
            (br#"{"message": ["hi"], "response": "r"}"#, Reason::WrongType),
            (br#"{"message": [{"role": "user"}], "response": "r"}"#, Reason::MissingField),
            (br#"{"message": [{"role": "user", "content": 1}], "response": "r"}"#, Reason::WrongType),
            (br#"{"prompt": "p", "response": " \n"}"#, Reason::EmptyResponse),
        ] {
            assert_eq!(reason(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn deep_nesting_is_rejected_not_a_crash() {
        let line = format!(r#"{{"message": {}, "response": "r"}}"#, "[".repeat(1_000_000));
        assert_eq!(reason(line.as_bytes()), Reason::MalformedJson);
    }

    #[test]
    fn a_rejection_keeps_the_id() {
        let rejection = parse_line(br#"{"id": "x", "prompt": "p"}"#).unwrap_err();
        assert_eq!((rejection.id.as_deref(), rejection.detail.as_str()), (Some("x"), "no response"));
    }
}
