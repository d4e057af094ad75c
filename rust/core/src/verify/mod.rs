//! Is the final answer of a response right? What can be proven is decided here, the rest by math-verify in a process.

mod countdown;
mod external;
mod math;
mod verifier;

pub use countdown::verify_countdown;
pub use external::{Cause, ExternalVerifier, Limits, Verdict};
pub use math::{decide, verify_math, Decision};
pub use verifier::{DecidedBy, MathVerifier, Verdicts, VerifyReport};

use std::fmt;

/// Why a response is not verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// No complete `\boxed{...}` after the last `</think>`.
    NoBoxedAnswer,
    /// The boxed answer is not right, or not an answer at all; the text says in what way.
    WrongAnswer(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::NoBoxedAnswer => f.write_str("no_boxed_answer"),
            Failure::WrongAnswer(detail) => write!(f, "wrong_answer: {detail}"),
        }
    }
}

/// The last boxed text after the trace.
pub(crate) fn boxed_answer(response: &str) -> Result<&str, Failure> {
    crate::answer::last_boxed(crate::answer::answer_text(response)).ok_or(Failure::NoBoxedAnswer)
}

/// `text` cut to a length that fits in a message.
pub(crate) fn shown(text: &str) -> String {
    const MOST: usize = 80;
    match text.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &text[..end]),
        None => format!("{text:?}"),
    }
}
