//! JSON Lines, plain or compressed. A bad line is a rejection and never ends the reading.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;

use flate2::read::MultiGzDecoder;
use serde::de::{DeserializeSeed, IgnoredAny};

use super::block::{Chunk, Limits, Line, Rows};
use super::column::RowSeed;
use super::{reject, unreadable, Fields, Format, Input};
use crate::config::Columns;
use crate::error::{Error, Result};
use crate::reason::{Reason, Rejection};

/// The blocks of one file.
pub(super) struct Blocks {
    path: PathBuf,
    reader: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
    limits: Limits,
    offset: u64,
    /// Bytes behind the last newline of the former block.
    rest: Vec<u8>,
    ended: bool,
}

impl Blocks {
    pub(super) fn open(input: &Input, offset: u64, limits: Limits) -> Result<Self> {
        let mut file = File::open(&input.path).map_err(Error::io(&input.path, "open"))?;
        let plain = input.format == Format::Jsonl;
        if plain {
            file.seek(SeekFrom::Start(offset)).map_err(Error::io(&input.path, "read"))?;
        }
        let consumed = Arc::new(AtomicU64::new(if plain { offset } else { 0 }));
        let counted = Counted { file, consumed: Arc::clone(&consumed) };
        let mut reader: Box<dyn Read + Send> = match input.format {
            Format::JsonlGz => Box::new(MultiGzDecoder::new(counted)),
            Format::JsonlZst => Box::new(zstd::Decoder::new(counted).map_err(|error| unreadable(&input.path, error))?),
            _ => Box::new(counted),
        };
        if !plain {
            // There is no way into the middle of a compressed stream but through its beginning.
            let skipped = std::io::copy(&mut (&mut reader).take(offset), &mut std::io::sink());
            skipped.map_err(|error| unreadable(&input.path, error))?;
        }
        let path = input.path.clone();
        Ok(Self { path, reader, consumed, limits, offset, rest: Vec::new(), ended: false })
    }

    /// Whole lines of together at least `block_bytes`, or what is left of the file.
    pub(super) fn next_chunk(&mut self, file: usize) -> Result<Option<Chunk>> {
        let mut block = std::mem::take(&mut self.rest);
        let mut target = self.limits.block_bytes;
        loop {
            self.fill(&mut block, target)?;
            if block.is_empty() {
                return Ok(None);
            }
            if let Some(end) = memchr::memrchr(b'\n', &block) {
                self.rest = block.split_off(end + 1);
            } else if !self.ended {
                if block.len() > self.limits.line_bytes {
                    return self.skip_line(file, block.len() as u64).map(Some);
                }
                target = block.len() + self.limits.block_bytes;
                continue;
            }
            let offset = self.offset;
            self.offset += block.len() as u64;
            return Ok(Some(self.chunk(file, offset, Rows::Lines(block))));
        }
    }

    fn chunk(&self, file: usize, offset: u64, rows: Rows) -> Chunk {
        Chunk { file, offset, bytes_done: self.consumed.load(Ordering::Relaxed), rows }
    }

    fn fill(&mut self, block: &mut Vec<u8>, target: usize) -> Result<()> {
        if block.len() >= target || self.ended {
            return Ok(());
        }
        let missing = target - block.len();
        block.reserve_exact(missing);
        let count = (&mut self.reader).take(missing as u64).read_to_end(block);
        let count = count.map_err(|error| {
            let done = self.offset + block.len() as u64;
            unreadable(&self.path, format!("{error} (after {done} bytes of rows); the file is damaged or incomplete"))
        })?;
        self.ended = count < missing;
        Ok(())
    }

    /// Reads to the end of a line that is too long, keeping nothing of it.
    fn skip_line(&mut self, file: usize, start: u64) -> Result<Chunk> {
        let (mut bytes, mut buffer) = (start, vec![0; 1 << 18]);
        loop {
            let count = self.reader.read(&mut buffer).map_err(|error| unreadable(&self.path, error))?;
            if count == 0 {
                self.ended = true;
                break;
            }
            if let Some(at) = memchr::memchr(b'\n', &buffer[..count]) {
                bytes += at as u64 + 1;
                self.rest = buffer[at + 1..count].to_vec();
                break;
            }
            bytes += count as u64;
        }
        let limit = self.limits.line_bytes >> 20;
        let detail = format!("{bytes} bytes; lines of more than {limit} MiB are not read (see --memory)");
        let rejection = Rejection { reason: Reason::LINE_TOO_LONG, detail, id: None };
        let offset = self.offset;
        self.offset += bytes;
        Ok(self.chunk(file, offset, Rows::Skipped(rejection, bytes)))
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

/// Parses one line, which may end in a newline.
pub(super) fn parse<'a>(line: &'a [u8], columns: &Columns) -> Line<'a> {
    if line.first() != Some(&b'{') && line.iter().all(u8::is_ascii_whitespace) {
        return Line::Blank;
    }
    match parse_line(line, columns) {
        Ok(fields) => Line::Row(fields),
        Err(rejection) => Line::Bad(rejection),
    }
}

/// The fields of a line that is not blank.
pub fn parse_line<'a>(line: &'a [u8], columns: &Columns) -> std::result::Result<Fields<'a>, Rejection> {
    let text = match std::str::from_utf8(line) {
        Ok(text) => text.trim(),
        Err(error) => return reject(Reason::INVALID_UTF8, format!("not UTF-8 from byte {} on", error.valid_up_to())),
    };
    if !text.starts_with('{') {
        serde_json::from_str::<IgnoredAny>(text).or_else(|error| malformed(&error))?;
        return reject(Reason::WRONG_TYPE, "the line must hold an object");
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let raw = RowSeed(columns).deserialize(&mut deserializer).or_else(|error| malformed(&error))?;
    deserializer.end().or_else(|error| malformed(&error))?;
    raw.check(columns)
}

fn malformed<T>(error: &serde_json::Error) -> std::result::Result<T, Rejection> {
    // Each line is parsed by itself, so serde's line number would mislead.
    let text = error.to_string();
    let message = text.split(" at line ").next().unwrap_or(&text);
    reject(Reason::MALFORMED_JSON, format!("{message} at column {}", error.column()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Answer;

    fn parse_line(line: &[u8]) -> std::result::Result<Fields<'_>, Rejection> {
        super::parse_line(line, &Columns::default())
    }

    fn reason(line: &[u8]) -> Reason {
        parse_line(line).unwrap_err().reason
    }

    #[test]
    fn a_whole_row() {
        let line = br#" {"prompt": "p", "response": "r\n", "answer": 1.50, "id": 7, "other": [1]} "#;
        let fields = parse_line(line).unwrap();
        assert_eq!(fields.id.as_deref(), Some("7"));
        assert_eq!(fields.response, "r\n");
        assert_eq!(fields.messages, serde_json::json!([{"role": "user", "content": "p"}]));
        assert_eq!(fields.answer, Some(Answer::Text("1.50".to_string())));
    }

    #[test]
    fn columns_by_name_and_one_column_for_two_fields() {
        let columns = Columns {
            prompt: "problem".to_string(),
            query_id: "problem".to_string(),
            response: "solution".to_string(),
            ..Columns::default()
        };
        let line = br#"{"problem": "p", "solution": "s", "response": ["ignored"], "message": null}"#;
        let fields = super::parse_line(line, &columns).unwrap();
        assert_eq!((fields.query_id.as_deref(), &*fields.response), (Some("p"), "s"));
    }

    #[test]
    fn the_last_turn_is_the_response_where_there_is_none() {
        let line = br#"{"message": [{"role": "user", "content": "p"}, {"role": "assistant", "content": "r"}]}"#;
        let fields = parse_line(line).unwrap();
        assert_eq!((fields.messages.as_array().unwrap().len(), &*fields.response), (1, "r"));
    }

    #[test]
    fn messages_as_text() {
        let line = br#"{"message": "[{\"role\": \"user\", \"content\": \"p\"}]", "response": "r"}"#;
        assert_eq!(parse_line(line).unwrap().messages, serde_json::json!([{"role": "user", "content": "p"}]));
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
            (&br#"{"prompt": "p", "response": "#[..], Reason::MALFORMED_JSON),
            (br#"{"prompt": "p", "response": "a"} x"#, Reason::MALFORMED_JSON),
            (br#"{"prompt": "\ud800", "response": "a"}"#, Reason::MALFORMED_JSON),
            (br#"{"prompt": "p", "response": "a", "response": "b"}"#, Reason::MALFORMED_JSON),
            (br#"{"prompt": "p", "response": NaN}"#, Reason::MALFORMED_JSON),
            (b"garbage", Reason::MALFORMED_JSON),
            (b"null", Reason::WRONG_TYPE),
            (br#"[[], "p", "r"]"#, Reason::WRONG_TYPE),
            (b"{\"prompt\": \"\xff\", \"response\": \"a\"}", Reason::INVALID_UTF8),
            (b"{}", Reason::MISSING_FIELD),
            (br#"{"prompt": "p"}"#, Reason::MISSING_FIELD),
            (br#"{"response": "r"}"#, Reason::MISSING_FIELD),
            (br#"{"prompt": "p", "response": null}"#, Reason::MISSING_FIELD),
            (br#"{"prompt": 1, "response": "r"}"#, Reason::WRONG_TYPE),
            (br#"{"prompt": "p", "response": ["r"]}"#, Reason::WRONG_TYPE),
            (br#"{"prompt": "p", "response": {"a": [1, "b"]}}"#, Reason::WRONG_TYPE),
            (br#"{"prompt": "p", "response": "r", "id": {}}"#, Reason::WRONG_TYPE),
            (br#"{"message": [], "response": "r"}"#, Reason::WRONG_TYPE),
            (br#"{"message": "hi", "response": "r"}"#, Reason::WRONG_TYPE),
            (br#"{"message": ["hi"], "response": "r"}"#, Reason::WRONG_TYPE),
            (br#"{"message": [{"role": "user"}], "response": "r"}"#, Reason::MISSING_FIELD),
            (br#"{"message": [{"role": "user", "content": 1}], "response": "r"}"#, Reason::WRONG_TYPE),
            (br#"{"message": [{"role": "assistant", "content": "a"}]}"#, Reason::MISSING_FIELD),
            (br#"{"prompt": "p", "response": " \n"}"#, Reason::EMPTY_RESPONSE),
        ] {
            assert_eq!(reason(line), expected, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn deep_nesting_is_rejected_not_a_crash() {
        let line = format!(r#"{{"message": {}, "response": "r"}}"#, "[".repeat(1_000_000));
        assert_eq!(reason(line.as_bytes()), Reason::MALFORMED_JSON);
    }

    #[test]
    fn a_rejection_keeps_the_id() {
        let rejection = parse_line(br#"{"id": "x", "prompt": "p"}"#).unwrap_err();
        assert_eq!((rejection.id.as_deref(), rejection.detail.as_str()), (Some("x"), "no response"));
    }
}
