//! Responses that think and then say nothing.

use memchr::memmem;

use super::{filter, Candidate, Filter, FilterOptions, Finding};
use crate::error::Result;

#[derive(Debug)]
struct EmptyAnswer;

/// Made unless `empty_answer` is false.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    if options.empty_answer {
        filter(EmptyAnswer)
    } else {
        Ok(None)
    }
}

impl Filter for EmptyAnswer {
    fn reasons(&self) -> &'static [&'static str] {
        &["empty_answer"]
    }

    /// A trace that is never closed has no answer either, but that is the business of `unfinished_trace`.
    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        const CLOSE: &str = "</think>";
        // Searched from the end, and only white space is passed over: a long trace is not read.
        let thinking = candidate.response.trim_end();
        memmem::rfind(&thinking.as_bytes()[thinking.len().saturating_sub(CLOSE.len())..], CLOSE.as_bytes())?;
        let detail = format!("nothing follows {CLOSE} after {} bytes of response", thinking.len());
        Some(Finding { reason: "empty_answer", detail })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{reason, response};
    use super::*;

    #[test]
    fn only_an_answer_after_the_last_trace_counts() {
        for (text, expected) in [
            ("<think>a</think>", Some("empty_answer")),
            ("<think>a</think> \n\u{3000}", Some("empty_answer")),
            ("a</think>\n", Some("empty_answer")),
            ("<think>a</think>b</think>", Some("empty_answer")),
            ("<think>a</think>.", None),
            ("<think>a", None),
            ("think>", None),
            ("a", None),
        ] {
            assert_eq!(reason(make, &FilterOptions::default(), &response(text)), expected, "{text:?}");
        }
    }

    #[test]
    fn it_can_be_switched_off() {
        let options = FilterOptions { empty_answer: false, ..FilterOptions::default() };
        assert!(make(&options).unwrap().is_none());
    }
}
