//! From a row to a sample: rendered, tokenized, measured, verified, or rejected with a reason.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::Verify;
use crate::error::Error;
use crate::rows::{Answer, Fields};
use crate::tokenizer::ChatTokenizer;
use crate::verify::{verify_countdown, verify_math, Failure};

/// Why a row is not in the shards. The serialized names are part of the format of `rejects.jsonl`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The line is not JSON, or repeats a field.
    MalformedJson,
    /// The line is not UTF-8.
    InvalidUtf8,
    /// A field that is needed is absent or null.
    MissingField,
    /// A field has a type that it must not have.
    WrongType,
    /// The response has nothing but white space.
    EmptyResponse,
    /// The chat template or the tokenizer failed on this row.
    TemplateError,
    /// Prompt, response and stop token together exceed the length limit.
    TooLong,
    /// Verification needs an answer and the row has none.
    MissingAnswer,
    /// No complete box after the trace.
    NoBoxedAnswer,
    /// The boxed answer is wrong.
    WrongAnswer,
}

/// A row that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence with the offending value.
    pub detail: String,
    /// The row's id, where it has one.
    pub id: Option<String>,
}

/// A row that is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// Ids of the rendered prompt: not trained.
    pub prompt: Vec<u32>,
    /// Ids of the response and, last, the stop id: trained.
    pub response: Vec<u32>,
    /// Whether the stop id occurs before the end of the response.
    pub stop_inside: bool,
}

impl Sample {
    /// Tokens in all.
    pub fn num_tokens(&self) -> usize {
        self.prompt.len() + self.response.len()
    }
}

/// What decides whether a row is kept, and how it is written.
#[derive(Debug)]
pub struct Policy<'a> {
    /// Renders and tokenizes.
    pub tokenizer: &'a ChatTokenizer,
    /// Ends every response.
    pub stop_id: u32,
    /// Most tokens of a sample.
    pub max_length: usize,
    /// Which check the answers have to pass.
    pub verify: Verify,
}

impl Policy<'_> {
    /// Makes the sample of a row.
    pub fn apply(&self, fields: &Fields) -> Result<Sample, Rejection> {
        self.try_apply(fields).map_err(|(reason, detail)| Rejection { reason, detail, id: fields.id.clone() })
    }

    fn try_apply(&self, fields: &Fields) -> Result<Sample, (Reason, String)> {
        let check = Check::new(self.verify, fields.answer.as_ref())?;
        let failed = |error: Error| (Reason::TemplateError, error.to_string());
        let rendered = self.tokenizer.render(&fields.messages, true).map_err(failed)?;
        let prompt = self.tokenizer.encode(&rendered).map_err(failed)?;
        if prompt.is_empty() {
            // Without context there is no position that could predict the first trained token.
            return Err((Reason::TemplateError, "the chat template rendered an empty prompt".to_string()));
        }
        let mut response = self.tokenizer.encode(&fields.response).map_err(failed)?;
        let stop_inside = response.contains(&self.stop_id);
        response.push(self.stop_id);
        let sample = Sample { prompt, response, stop_inside };
        if sample.num_tokens() > self.max_length {
            let detail = format!("{} tokens, the limit is {}", sample.num_tokens(), self.max_length);
            return Err((Reason::TooLong, detail));
        }
        check.run(&fields.response).map_err(|failure| match failure {
            Failure::NoBoxedAnswer => (Reason::NoBoxedAnswer, "no \\boxed{...} after the trace".to_string()),
            Failure::WrongAnswer(detail) => (Reason::WrongAnswer, detail),
        })?;
        Ok(sample)
    }
}

/// A verification with the answer it compares with.
enum Check<'a> {
    None,
    Math(&'a str),
    Countdown(Vec<i64>, i64),
}

impl<'a> Check<'a> {
    fn new(verify: Verify, answer: Option<&'a Answer>) -> Result<Self, (Reason, String)> {
        if verify == Verify::None {
            return Ok(Check::None);
        }
        let missing = || (Reason::MissingAnswer, "verification needs the field answer".to_string());
        match (verify, answer.ok_or_else(missing)?) {
            (Verify::Math, Answer::Text(text)) => Ok(Check::Math(text)),
            (Verify::Math, other) => {
                Err((Reason::WrongType, format!("answer must be a string or number, found {}", describe(other))))
            }
            (_, Answer::Object(object)) => countdown_task(object),
            (_, other) => Err((
                Reason::WrongType,
                format!("answer must be an object with numbers and target, found {}", describe(other)),
            )),
        }
    }

    fn run(&self, response: &str) -> Result<(), Failure> {
        match self {
            Check::None => Ok(()),
            Check::Math(answer) => verify_math(response, answer),
            Check::Countdown(numbers, target) => verify_countdown(response, numbers, *target),
        }
    }
}

fn countdown_task(object: &Map<String, Value>) -> Result<Check<'static>, (Reason, String)> {
    let wrong = |what: &str| (Reason::WrongType, format!("answer.{what}"));
    let target = object.get("target").and_then(Value::as_i64).ok_or_else(|| wrong("target must be an integer"))?;
    let numbers = object.get("numbers").and_then(Value::as_array);
    let numbers = numbers.ok_or_else(|| wrong("numbers must be a list of integers"))?;
    let numbers: Option<Vec<i64>> = numbers.iter().map(Value::as_i64).collect();
    Ok(Check::Countdown(numbers.ok_or_else(|| wrong("numbers must hold integers only"))?, target))
}

fn describe(answer: &Answer) -> &'static str {
    match answer {
        Answer::Text(_) => "a string or number",
        Answer::Object(_) => "an object",
        Answer::Other(kind) => kind,
    }
}
