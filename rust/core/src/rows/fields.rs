//! The fields of a row, whatever file it came from.

use serde_json::{json, Map, Value};

use super::reject;
use crate::sample::{Reason, Rejection};

/// The columns that are read; others are ignored.
pub(crate) const COLUMNS: [&str; 5] = ["message", "prompt", "response", "answer", "id"];

/// A well-formed row.
#[derive(Debug, Clone, PartialEq)]
pub struct Fields {
    /// Name of the sample; None stands for file and line.
    pub id: Option<String>,
    /// A non-empty JSON array of objects with string `role` and `content`, keys beyond these kept for the template.
    pub messages: Value,
    /// What the model is trained to say, not empty.
    pub response: String,
    /// The known answer, where there is one.
    pub answer: Option<Answer>,
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

/// A row as it was read: null and absent are the same.
#[derive(Debug, Default)]
pub(crate) struct RawFields {
    pub(crate) message: Option<Value>,
    pub(crate) prompt: Option<Value>,
    pub(crate) response: Option<Value>,
    pub(crate) answer: Option<Answer>,
    pub(crate) id: Option<Value>,
}

impl RawFields {
    /// Checks presence and types; a rejection carries the row's id where that is sound.
    pub(crate) fn check(self) -> Result<Fields, Rejection> {
        let id = match self.id {
            None => None,
            Some(Value::String(id)) => Some(id),
            Some(Value::Number(id)) => Some(id.to_string()),
            Some(other) => {
                return reject(Reason::WrongType, format!("id must be a string or number, found {}", kind(&other)))
            }
        };
        let rest = || -> Result<(Value, String), Rejection> {
            Ok((messages(self.message, self.prompt)?, response(self.response)?))
        };
        match rest() {
            Ok((messages, response)) => Ok(Fields { id, messages, response, answer: self.answer }),
            Err(rejection) => Err(Rejection { id, ..rejection }),
        }
    }
}

fn messages(message: Option<Value>, prompt: Option<Value>) -> Result<Value, Rejection> {
    match (message, prompt) {
        (Some(message), _) => check_messages(message),
        (None, Some(Value::String(prompt))) => Ok(json!([{"role": "user", "content": prompt}])),
        (None, Some(other)) => reject(Reason::WrongType, format!("prompt must be a string, found {}", kind(&other))),
        (None, None) => reject(Reason::MissingField, "neither message nor prompt"),
    }
}

fn check_messages(message: Value) -> Result<Value, Rejection> {
    let Value::Array(turns) = &message else {
        return reject(Reason::WrongType, format!("message must be a list of turns, found {}", kind(&message)));
    };
    if turns.is_empty() {
        return reject(Reason::WrongType, "message must hold at least one turn, found an empty list");
    }
    for (index, turn) in turns.iter().enumerate() {
        if !turn.is_object() {
            let detail = format!("message[{index}] must be an object with role and content, found {}", kind(turn));
            return reject(Reason::WrongType, detail);
        }
        for key in ["role", "content"] {
            match turn.get(key) {
                Some(Value::String(_)) => {}
                None | Some(Value::Null) => {
                    return reject(Reason::MissingField, format!("message[{index}] has no {key}"));
                }
                Some(other) => {
                    let detail = format!("message[{index}].{key} must be a string, found {}", kind(other));
                    return reject(Reason::WrongType, detail);
                }
            }
        }
    }
    Ok(message)
}

fn response(response: Option<Value>) -> Result<String, Rejection> {
    match response {
        Some(Value::String(text)) if text.trim().is_empty() => {
            reject(Reason::EmptyResponse, "response has nothing but white space")
        }
        Some(Value::String(text)) => Ok(text),
        Some(other) => reject(Reason::WrongType, format!("response must be a string, found {}", kind(&other))),
        None => reject(Reason::MissingField, "no response"),
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
