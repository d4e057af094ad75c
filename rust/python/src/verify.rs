//! Finding and checking answers.

use std::sync::{Arc, Mutex, PoisonError};

use megatron_sft_core::verify::{Cause, Limits, Verdict, Verdicts};
use megatron_sft_core::{answer, verify};
use pyo3::prelude::*;

use crate::errors;

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

/// Verifies mathematical answers: proven here, else by math-verify in a process that can be killed.
#[pyclass(frozen, module = "megatron_sft._native")]
pub(crate) struct MathVerifier {
    core: Mutex<Option<verify::MathVerifier>>,
}

#[pymethods]
impl MathVerifier {
    #[new]
    #[pyo3(signature = (command, cpu_seconds = 10.0, wall_seconds = None))]
    fn new(command: Vec<String>, cpu_seconds: f64, wall_seconds: Option<f64>) -> Self {
        let limits = Limits::cpu(cpu_seconds);
        let limits = Limits { wall_seconds: wall_seconds.unwrap_or(limits.wall_seconds), ..limits };
        let core = verify::MathVerifier::new(command, limits, Arc::new(Verdicts::new()));
        Self { core: Mutex::new(Some(core)) }
    }

    fn verify(&self, py: Python<'_>, gold: &str, answer: &str) -> PyResult<(&'static str, &'static str, String)> {
        let result = py.detach(|| match self.locked().as_mut() {
            Some(core) => core.verify(gold, answer).map_err(|error| error.to_string()),
            None => Err("the verifier is closed".to_string()),
        });
        let (verdict, by) = result.map_err(|problem| errors::message(py, problem))?;
        let (verdict, cause) = match verdict {
            Verdict::Equal => ("equal", String::new()),
            Verdict::Different => ("different", String::new()),
            Verdict::Undecided(cause) => ("undecided", Cause::name(&cause).to_string()),
        };
        Ok((verdict, by.name(), cause))
    }

    fn report(&self, py: Python<'_>) -> PyResult<String> {
        let report = self.locked().as_ref().map(|core| core.report().clone()).unwrap_or_default();
        serde_json::to_string(&report).map_err(|error| errors::message(py, error.to_string()))
    }

    fn close(&self, py: Python<'_>) {
        py.detach(|| self.locked().take());
    }
}

impl MathVerifier {
    fn locked(&self) -> std::sync::MutexGuard<'_, Option<verify::MathVerifier>> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
