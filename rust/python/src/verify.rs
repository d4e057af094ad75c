//! Finding and checking answers.

use megatron_sft_core::{answer, verify};
use pyo3::prelude::*;

/// Content of the last brace-balanced `\boxed{...}`, or None.
#[pyfunction]
pub(crate) fn last_boxed(text: &str) -> Option<&str> {
    answer::last_boxed(text)
}

/// What follows the last `</think>`; the whole text when there is none.
#[pyfunction]
pub(crate) fn answer_text(response: &str) -> &str {
    answer::answer_text(response)
}

/// Whether the boxed expression solves the Countdown task, and if not, why.
#[pyfunction]
pub(crate) fn verify_countdown(py: Python<'_>, response: &str, numbers: Vec<i64>, target: i64) -> (bool, String) {
    verdict(py.detach(|| verify::verify_countdown(response, &numbers, target)))
}

/// Whether the boxed answer matches, and if not, why.
#[pyfunction]
pub(crate) fn verify_math(py: Python<'_>, response: &str, answer: &str) -> (bool, String) {
    verdict(py.detach(|| verify::verify_math(response, answer)))
}

/// `equal`, `different` or `unknown`: what is proven about a gold answer and the content of a box.
#[pyfunction]
pub(crate) fn decide_math(gold: &str, answer: &str) -> &'static str {
    match verify::decide(gold, answer) {
        verify::Decision::Equal => "equal",
        verify::Decision::Different => "different",
        verify::Decision::Unknown => "unknown",
    }
}

fn verdict(result: Result<(), verify::Failure>) -> (bool, String) {
    match result {
        Ok(()) => (true, String::new()),
        Err(failure) => (false, failure.to_string()),
    }
}
