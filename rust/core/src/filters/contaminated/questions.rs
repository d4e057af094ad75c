//! Evaluation questions, from the files in which benchmarks are published.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::MultiGzDecoder;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Where a question stands, best guess first. Compared without regard to case.
const FIELDS: [&str; 15] = [
    "question",
    "problem",
    "prompt",
    "query",
    "user_query",
    "instruction",
    "goal",
    "behavior",
    "message",
    "messages",
    "input",
    "task",
    "text",
    "turns",
    "conversations",
];

/// One question of an evaluation.
#[derive(Debug)]
pub(super) struct Question {
    /// 1-based line of a JSON file, 1-based record otherwise.
    pub(super) line: usize,
    pub(super) text: String,
}

type Record = Map<String, Value>;

/// Reads the questions of `path`, which stand in `field` or else in the first of the usual fields that there is.
///
/// Fails for a file that cannot be read, has no records or not such a field, and for a record without a question.
pub(super) fn read(path: &Path, field: Option<&str>) -> Result<Vec<Question>> {
    let records = read_records(path, field)?;
    let Some((_, first)) = records.first() else {
        return Err(Error::input(path, "has no questions; leave it out of decontaminate"));
    };
    let field = find_field(first, field).ok_or_else(|| {
        let found: Vec<&str> = first.keys().map(String::as_str).collect();
        let wanted = field.map_or(format!("none of {}", FIELDS.join(", ")), |field| format!("no field {field}"));
        let remedy = "name the field of the question with decontaminate_field";
        Error::input(path, format!("has {wanted}; its fields are {}; {remedy}", found.join(", ")))
    })?;
    let question = |(line, record): &(usize, Record)| {
        let text = record.get(&field).and_then(text_of).ok_or_else(|| {
            let message = format!("line {line}: {field} holds no text; remove the line or name another field");
            Error::input(path, message)
        })?;
        Ok(Question { line: *line, text })
    };
    records.iter().map(question).collect()
}

fn find_field(record: &Record, field: Option<&str>) -> Option<String> {
    if let Some(field) = field {
        return record.contains_key(field).then(|| field.to_string());
    }
    let usable =
        |name: &str| record.iter().find(|(key, value)| key.eq_ignore_ascii_case(name) && text_of(value).is_some());
    FIELDS.iter().find_map(|name| usable(name)).map(|(key, _)| key.clone())
}

/// A text, or that of the last turn of a conversation that the user has.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Array(turns) => turns.iter().rev().find_map(|turn| match turn {
            Value::String(text) => Some(text.clone()),
            Value::Object(turn) => {
                let role = turn.get("role").or_else(|| turn.get("from")).and_then(Value::as_str);
                let content = turn.get("content").or_else(|| turn.get("value")).and_then(Value::as_str);
                content.filter(|_| matches!(role, Some("user" | "human"))).map(str::to_string)
            }
            _ => None,
        }),
        _ => None,
    }
}

fn read_records(path: &Path, field: Option<&str>) -> Result<Vec<(usize, Record)>> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let plain = name.trim_end_matches(".gz").trim_end_matches(".zst");
    if plain.ends_with(".parquet") {
        return read_parquet(path);
    }
    let json = [".json", ".jsonl", ".ndjson"].iter().any(|ending| plain.ends_with(ending));
    if !json && !plain.ends_with(".csv") {
        let message =
            "has an unknown ending; evaluation questions are read from .jsonl, .json and .csv, also with .gz \
                       or .zst, and from .parquet";
        return Err(Error::input(path, message));
    }
    let text = read_text(path, &name)?;
    let text = text.trim_start_matches('\u{feff}');
    if json {
        read_json(path, text, field)
    } else {
        read_csv(path, text)
    }
}

fn read_text(path: &Path, name: &str) -> Result<String> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut text = String::new();
    let result = if name.ends_with(".gz") {
        MultiGzDecoder::new(file).read_to_string(&mut text)
    } else if name.ends_with(".zst") {
        zstd::Decoder::new(file).and_then(|mut decoder| decoder.read_to_string(&mut text))
    } else {
        { file }.read_to_string(&mut text)
    };
    result.map_err(Error::io(path, "read"))?;
    Ok(text)
}

/// JSON Lines, a list of objects, or an object with such a list in it.
fn read_json(path: &Path, text: &str, field: Option<&str>) -> Result<Vec<(usize, Record)>> {
    let mut values = parse_json(path, text)?;
    if let [(_, only)] = &mut values[..] {
        let list = match only {
            Value::Object(record) if find_field(record, field).is_none() => record.values_mut().find(|v| is_list(v)),
            other => Some(other),
        };
        if let Some(Value::Array(items)) = list {
            values = (1..).zip(std::mem::take(items)).collect();
        }
    }
    let record = |(line, value): (usize, Value)| match value {
        Value::Object(record) => Ok((line, record)),
        other => {
            let message = format!("line {line}: expected an object, found {}", crate::rows::kind(&other));
            Err(Error::input(path, message))
        }
    };
    values.into_iter().map(record).collect()
}

fn is_list(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

/// The JSON values of a file and the lines on which they begin.
fn parse_json(path: &Path, text: &str) -> Result<Vec<(usize, Value)>> {
    let mut values = Vec::new();
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let (mut line, mut counted) = (1, 0);
    loop {
        let begin = text.len() - text[stream.byte_offset()..].trim_start().len();
        line += text[counted..begin].matches('\n').count();
        counted = begin;
        match stream.next() {
            None => return Ok(values),
            Some(Ok(value)) => values.push((line, value)),
            Some(Err(error)) => return Err(Error::input(path, format!("is not JSON: {error}"))),
        }
    }
}

/// Comma-separated values with a line of names, fields quoted with `"` where needed (RFC 4180).
fn read_csv(path: &Path, text: &str) -> Result<Vec<(usize, Record)>> {
    let mut rows: Vec<Vec<String>> = vec![vec![String::new()]];
    let mut quoted = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let Some(row) = rows.last_mut() else { break };
        let Some(cell) = row.last_mut() else { break };
        match c {
            '"' if quoted && characters.peek() == Some(&'"') => {
                characters.next();
                cell.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if cell.is_empty() => quoted = true,
            ',' if !quoted => row.push(String::new()),
            '\r' if !quoted && characters.peek() == Some(&'\n') => {}
            '\n' if !quoted => rows.push(vec![String::new()]),
            c => cell.push(c),
        }
    }
    if quoted {
        return Err(Error::input(path, "ends inside a quoted field; is it complete?"));
    }
    rows.retain(|row| row.len() > 1 || !row[0].is_empty());
    let mut rows = rows.into_iter();
    let names = rows.next().unwrap_or_default();
    let record = |(number, row): (usize, Vec<String>)| {
        if row.len() != names.len() {
            let message = format!("record {number} has {} fields, the first line names {}", row.len(), names.len());
            return Err(Error::input(path, message));
        }
        Ok((number, names.iter().cloned().zip(row.into_iter().map(Value::String)).collect()))
    };
    (1..).zip(rows).map(record).collect()
}

fn read_parquet(path: &Path) -> Result<Vec<(usize, Record)>> {
    let failed = |error: parquet::errors::ParquetError| Error::input(path, format!("cannot be read: {error}"));
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let reader = SerializedFileReader::new(file).map_err(failed)?;
    let rows = reader.get_row_iter(None).map_err(failed)?;
    let record = |(number, row): (usize, parquet::errors::Result<parquet::record::Row>)| {
        let row = row.map_err(failed)?;
        Ok((number, row.get_column_iter().map(|(name, field)| (name.clone(), from_parquet(field))).collect()))
    };
    (1..).zip(rows).map(record).collect()
}

/// Texts and what holds them; everything else is null.
fn from_parquet(field: &Field) -> Value {
    match field {
        Field::Str(text) => Value::from(text.as_str()),
        Field::ListInternal(list) => list.elements().iter().map(from_parquet).collect(),
        Field::Group(row) => {
            Value::Object(row.get_column_iter().map(|(name, field)| (name.clone(), from_parquet(field))).collect())
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Lines and texts of a file of this name and content.
    fn read_bytes(name: &str, bytes: &[u8], field: Option<&str>) -> std::result::Result<Vec<(usize, String)>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let questions = read(&path, field).map_err(|error| error.to_string())?;
        Ok(questions.into_iter().map(|question| (question.line, question.text)).collect())
    }

    fn expected(pairs: &[(usize, &str)]) -> std::result::Result<Vec<(usize, String)>, String> {
        Ok(pairs.iter().map(|(line, text)| (*line, text.to_string())).collect())
    }

    #[test]
    fn each_format() {
        let lines = "{\"id\": 1, \"question\": \"a\"}\n\n{\"question\": \"b\\nc\"}\n";
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(lines.as_bytes()).unwrap();
        for (name, bytes) in [
            ("q.jsonl", lines.as_bytes().to_vec()),
            ("Q.JSON", lines.as_bytes().to_vec()),
            ("q.jsonl.gz", gz.finish().unwrap()),
            ("q.jsonl.zst", zstd::encode_all(lines.as_bytes(), 1).unwrap()),
        ] {
            assert_eq!(read_bytes(name, &bytes, None), expected(&[(1, "a"), (3, "b\nc")]), "{name}");
        }
        let list = br#"[{"Problem": "a"}, {"Problem": "b"}]"#;
        assert_eq!(read_bytes("q.json", list, None), expected(&[(1, "a"), (2, "b")]));
        let inner = br#"{"name": "set", "results": [{"question": "a"}, {"question": "b"}]}"#;
        assert_eq!(read_bytes("q.json", inner, None), expected(&[(1, "a"), (2, "b")]));
        let csv = "\u{feff}Type,Question\r\nx,\"He said \"\"a, b\"\"\nthere\"\r\ny,c\r\n";
        assert_eq!(read_bytes("q.csv", csv.as_bytes(), None), expected(&[(1, "He said \"a, b\"\nthere"), (2, "c")]));
    }

    #[test]
    fn the_field_is_guessed_or_named() {
        let row = br#"{"text": "t", "Behavior": "b", "answer": "x", "prompt": [1], "n": 3}"#;
        assert_eq!(read_bytes("q.jsonl", row, None), expected(&[(1, "b")]));
        assert_eq!(read_bytes("q.jsonl", row, Some("answer")), expected(&[(1, "x")]));
        let chat = br#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}"#;
        assert_eq!(read_bytes("q.jsonl", chat, None), expected(&[(1, "a")]));
    }

    #[test]
    fn mistakes_name_file_line_and_fields() {
        for (name, text, field, words) in [
            (
                "q.jsonl",
                "{\"Puzzles\": \"1 1 4 6\", \"Rank\": 1}",
                None,
                &["q.jsonl", "Puzzles, Rank", "decontaminate_field"][..],
            ),
            ("q.jsonl", "{\"question\": \"a\"}", Some("ask"), &["no field ask", "question"]),
            ("q.jsonl", "{\"question\": \"a\"}\n{\"question\": 3}", None, &["line 2", "question"]),
            ("q.jsonl", "{\"question\": \"a\"}\n[1]", None, &["line 2", "a list"]),
            ("q.jsonl", "{\"question\": \"a\"\n", None, &["not JSON", "line"]),
            ("q.jsonl", "", None, &["no questions"]),
            ("q.csv", "question,answer\na\n", None, &["record 1", "1 fields", "2"]),
            ("q.csv", "question\n\"a\n", None, &["quoted"]),
            ("q.txt", "a", None, &["ending"]),
            ("q.parquet", "a", None, &["q.parquet", "cannot be read"]),
        ] {
            let message = read_bytes(name, text.as_bytes(), field).unwrap_err();
            for word in words {
                assert!(message.contains(word), "{text}: {message}");
            }
        }
    }
}
