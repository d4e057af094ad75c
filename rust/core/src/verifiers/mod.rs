//! Verifiers: each one decides whether the final answer of a response is right.
//!
//! A verifier is one file here and one entry of [`REGISTRY`]; its name is what `--verify` takes. What the two present ones
//! compute is in [`crate::verify`].

mod countdown;
mod math;

use std::fmt::Debug;

use crate::error::{Error, Result};
use crate::rows::Answer;
use crate::verify::{Failure, MathVerifier};

/// Decides about answers of one kind.
pub trait Verifier: Debug + Send + Sync {
    /// Its name on the command line and in the manifest.
    fn name(&self) -> &'static str;

    /// Reads the known answer of a row. The error says what it must be, and what it is.
    fn task<'a>(&self, answer: &'a Answer) -> std::result::Result<Box<dyn Task + 'a>, String>;
}

/// The known answer of a row, ready to be compared.
pub trait Task {
    /// Compares the final answer of `response`. Fails only when nothing can be decided about any row.
    fn judge(&self, response: &str, tools: &mut Tools) -> Result<Judgement>;
}

/// What a worker has for verification.
#[derive(Debug)]
pub struct Tools {
    /// Proofs, and math-verify in a process.
    pub math: MathVerifier,
}

/// What was found about an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// The verdict.
    pub finding: Finding,
    /// Who decided, and how, for the account of the manifest; it must not depend on the number of workers.
    pub decided: Option<String>,
}

/// A verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The answer is right.
    Right,
    /// There is no complete box after the trace.
    NoBox,
    /// The answer is wrong; the text says in what way.
    Wrong(String),
    /// No verdict within the limits; the text says why.
    Undecided(String),
}

impl From<std::result::Result<(), Failure>> for Judgement {
    fn from(result: std::result::Result<(), Failure>) -> Self {
        let finding = match result {
            Ok(()) => Finding::Right,
            Err(Failure::NoBoxedAnswer) => Finding::NoBox,
            Err(Failure::WrongAnswer(detail)) => Finding::Wrong(detail),
        };
        Judgement { finding, decided: None }
    }
}

/// Every verifier.
pub const REGISTRY: &[&dyn Verifier] = &[&math::MathAnswers, &countdown::Countdown];

/// The verifier of this name; None for `none`.
///
/// Fails for another name.
pub fn find(name: &str) -> Result<Option<&'static dyn Verifier>> {
    let found = REGISTRY.iter().find(|verifier| verifier.name() == name).copied();
    if found.is_none() && name != "none" {
        let names: Vec<&str> = REGISTRY.iter().map(|verifier| verifier.name()).collect();
        return Err(Error::Config(format!(
            "--verify {name}: there is none of this name; use none, {}",
            names.join(", ")
        )));
    }
    Ok(found)
}

/// The name of an answer's type, with an article.
fn kind(answer: &Answer) -> &'static str {
    match answer {
        Answer::Text(_) => "a string or number",
        Answer::Object(_) => "an object",
        Answer::Other(kind) => kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_find_their_verifier() {
        assert!(find("none").unwrap().is_none());
        for verifier in REGISTRY {
            assert_eq!(find(verifier.name()).unwrap().unwrap().name(), verifier.name());
        }
        assert!(find("maths").unwrap_err().to_string().contains("none, math, countdown"));
    }
}
