//! `countdown`: the boxed expression uses each of the given numbers exactly once and equals the target.

use serde_json::Value;

use super::{kind, Judgement, Task, Tools, Verifier};
use crate::error::Result;
use crate::rows::Answer;
use crate::verify::verify_countdown;

#[derive(Debug)]
pub(super) struct Countdown;

impl Verifier for Countdown {
    fn name(&self) -> &'static str {
        "countdown"
    }

    fn task<'a>(&self, answer: &'a Answer) -> std::result::Result<Box<dyn Task + 'a>, String> {
        let Answer::Object(object) = answer else {
            return Err(format!("must be an object with numbers and target, found {}", kind(answer)));
        };
        let target = object.get("target").and_then(Value::as_i64).ok_or("must have an integer target")?;
        let numbers = object.get("numbers").and_then(Value::as_array).ok_or("must have a list of numbers")?;
        let numbers: Option<Vec<i64>> = numbers.iter().map(Value::as_i64).collect();
        Ok(Box::new(Puzzle { numbers: numbers.ok_or("must have numbers that are integers")?, target }))
    }
}

struct Puzzle {
    numbers: Vec<i64>,
    target: i64,
}

impl Task for Puzzle {
    fn judge(&self, response: &str, _tools: &mut Tools) -> Result<Judgement> {
        Ok(verify_countdown(response, &self.numbers, self.target).into())
    }
}
