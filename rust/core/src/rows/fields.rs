//! The fields of a row, whatever file it came from.

use std::borrow::Cow;

use serde_json::{json, Map, Value};

use super::reject;
use crate::config::Columns;
use crate::reason::{Reason, Rejection};

/// A well-formed row.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields<'a> {
    /// Name of the sample; None stands for file and line.
    pub id: Option<String>,
    /// A non-empty JSON array of objects with string `role` and `content`, keys beyond these kept for the template:
    /// the turns in front of the response.
    pub messages: Value,
    /// What the model is trained to say, not empty.
    pub response: Cow<'a, str>,
    /// The known answer, where there is one.
    pub answer: Option<Answer>,
    /// What rows with the same query share, where the row names it.
    pub query_id: Option<String>,
}

impl Fields<'_> {
    /// Text of the last user turn; empty when there is none.
    pub fn question(&self) -> &str {
        let turns = self.messages.as_array().map_or(&[][..], Vec::as_slice);
        let user = turns.iter().rev().find(|turn| turn.get("role").and_then(Value::as_str) == Some("user"));
        user.and_then(|turn| turn.get("content")).and_then(Value::as_str).unwrap_or("")
    }

    /// Appends `suffix` to the last user turn.
    pub fn append_to_question(&mut self, suffix: &str) {
        let turns = self.messages.as_array_mut().map_or(&mut [][..], Vec::as_mut_slice);
        let user = turns.iter_mut().rev().find(|turn| turn.get("role").and_then(Value::as_str) == Some("user"));
        if let Some(Value::String(content)) = user.and_then(|turn| turn.get_mut("content")) {
            content.push_str(suffix);
        }
    }
}

/// The known answer of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// A string, or a number as it was spelt.
    Text(String),
    /// An object, such as Countdown's `numbers` and `target`.
    Object(Map<String, Value>),
    /// Anything else; the text names its type.
    Other(&'static str),
}

/// A string, or the name of what stands in its place.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Text<'a> {
    Some(Cow<'a, str>),
    Other(&'static str),
}

/// A row as it was read: null and absent are the same.
#[derive(Debug, Default)]
pub(super) struct RawFields<'a> {
    pub(super) message: Option<Value>,
    pub(super) prompt: Option<Text<'a>>,
    pub(super) response: Option<Text<'a>>,
    pub(super) answer: Option<Answer>,
    pub(super) id: Option<Value>,
    pub(super) query_id: Option<Value>,
}

impl<'a> RawFields<'a> {
    /// Checks presence and types; a rejection carries the row's id where that is sound.
    pub(super) fn check(self, columns: &Columns) -> Result<Fields<'a>, Rejection> {
        let id = label(self.id, &columns.id)?;
        let rest = || -> Result<Fields<'a>, Rejection> {
            let query_id = label(self.query_id, &columns.query_id)?;
            let mut messages = messages(self.message, self.prompt, columns)?;
            let response = match self.response {
                // No name: responses come from elsewhere.
                None if columns.response.is_empty() => Cow::Borrowed(""),
                None => last_turn(&mut messages, columns)?,
                Some(Text::Some(text)) => text,
                Some(Text::Other(kind)) => return wrong_type(&columns.response, "a string", kind),
            };
            if response.trim().is_empty() && !columns.response.is_empty() {
                let detail = format!("{} has nothing but white space", columns.response);
                return reject(Reason::EMPTY_RESPONSE, detail);
            }
            Ok(Fields { id: id.clone(), messages, response, answer: self.answer, query_id })
        };
        rest().map_err(|rejection| Rejection { id: id.clone(), ..rejection })
    }
}

fn wrong_type<T>(column: &str, expected: &str, found: &str) -> Result<T, Rejection> {
    reject(Reason::WRONG_TYPE, format!("{column} must be {expected}, found {found}"))
}

fn label(value: Option<Value>, column: &str) -> Result<Option<String>, Rejection> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(Value::Number(number)) => Ok(Some(number.to_string())),
        Some(other) => wrong_type(column, "a string or number", kind(&other)),
    }
}

fn messages(message: Option<Value>, prompt: Option<Text<'_>>, columns: &Columns) -> Result<Value, Rejection> {
    match (message, prompt) {
        (Some(message), _) => check_messages(parsed(message), &columns.message),
        (None, Some(Text::Some(prompt))) => Ok(json!([{"role": "user", "content": prompt}])),
        (None, Some(Text::Other(kind))) => wrong_type(&columns.prompt, "a string", kind),
        (None, None) => reject(Reason::MISSING_FIELD, format!("neither {} nor {}", columns.message, columns.prompt)),
    }
}

/// Some files hold the turns as JSON text.
fn parsed(message: Value) -> Value {
    match &message {
        Value::String(text) if text.trim_start().starts_with('[') => serde_json::from_str(text).unwrap_or(message),
        _ => message,
    }
}

fn check_messages(message: Value, column: &str) -> Result<Value, Rejection> {
    let Value::Array(turns) = &message else { return wrong_type(column, "a list of turns", kind(&message)) };
    if turns.is_empty() {
        return reject(Reason::WRONG_TYPE, format!("{column} must hold at least one turn, found an empty list"));
    }
    for (index, turn) in turns.iter().enumerate() {
        if !turn.is_object() {
            return wrong_type(&format!("{column}[{index}]"), "an object with role and content", kind(turn));
        }
        for key in ["role", "content"] {
            match turn.get(key) {
                Some(Value::String(_)) => {}
                None | Some(Value::Null) => {
                    return reject(Reason::MISSING_FIELD, format!("{column}[{index}] has no {key}"));
                }
                Some(other) => return wrong_type(&format!("{column}[{index}].{key}"), "a string", kind(other)),
            }
        }
    }
    Ok(message)
}

/// Takes the assistant's last turn off the messages, where the row has no response of its own.
fn last_turn<'a>(messages: &mut Value, columns: &Columns) -> Result<Cow<'a, str>, Rejection> {
    let missing = || reject(Reason::MISSING_FIELD, format!("no {}", columns.response));
    let Value::Array(turns) = messages else { return missing() };
    let is_answer =
        turns.len() > 1 && turns.last().and_then(|turn| turn.get("role")).and_then(Value::as_str) == Some("assistant");
    if !is_answer {
        return missing();
    }
    match turns.pop() {
        Some(Value::Object(mut turn)) => match turn.remove("content") {
            Some(Value::String(text)) => Ok(Cow::Owned(text)),
            _ => missing(),
        },
        _ => missing(),
    }
}

/// The JSON name of a value's type, with an article.
pub(crate) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
