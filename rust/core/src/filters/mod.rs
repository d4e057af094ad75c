//! Filters: each one drops rows for named reasons.
//!
//! A filter is one file here and one line in [`REGISTRY`]. It looks at one row at a time and knows nothing of the
//! others, so rows can be judged on any thread and any machine; what compares rows with each other is in
//! [`crate::duplicates`] and is a decision of the writer instead.

mod contaminated;
mod empty_answer;
mod options;
mod prompt_too_long;
mod repetition;
mod think_blocks;
mod undecodable;
mod wrong_script;

use std::fmt::Debug;

pub use contaminated::fingerprints;
pub use options::{FilterOptions, Think};
pub use repetition::{longest_loop, Loop};

use crate::error::Result;

/// What a filter sees of a row.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// Text of the last user turn.
    pub question: &'a str,
    /// The response as it will be trained, without the stop token.
    pub response: &'a str,
    /// Token ids of the response, without the stop id.
    pub response_ids: &'a [u32],
    /// Tokens of the rendered prompt.
    pub prompt_tokens: usize,
    /// Whether the rendered prompt ends inside an open `<think>` block, which the response then has to close.
    pub prompt_opens_think: bool,
}

/// Why a row is dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The reason in `rejects.jsonl` and in the account: snake_case, never changed once published.
    pub reason: &'static str,
    /// The reason in a sentence, with the offending value.
    pub detail: String,
}

/// One way to look at a row.
pub trait Filter: Debug + Send + Sync {
    /// Every reason that [`Filter::check`] can give.
    fn reasons(&self) -> &'static [&'static str];

    /// Why the row is dropped, the first reason found; None keeps it.
    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding>;
}

/// Makes a filter from the options, or nothing where they leave it out.
pub type Maker = fn(&FilterOptions) -> Result<Option<Box<dyn Filter>>>;

/// Every filter, in the order in which they are asked.
pub const REGISTRY: &[Maker] = &[
    prompt_too_long::make,
    think_blocks::make,
    empty_answer::make,
    undecodable::make,
    wrong_script::make,
    repetition::make,
    contaminated::make,
];

/// The filters that the options ask for, in the order of [`REGISTRY`].
///
/// Fails for options that cannot work, and for evaluation questions that cannot be read.
pub fn make(options: &FilterOptions) -> Result<Vec<Box<dyn Filter>>> {
    options.check()?;
    REGISTRY.iter().filter_map(|maker| maker(options).transpose()).collect()
}

/// A filter as the makers return it.
fn filter(filter: impl Filter + 'static) -> Result<Option<Box<dyn Filter>>> {
    Ok(Some(Box::new(filter)))
}

/// At most `limit` characters from `text`'s beginning, `...` where there are more.
fn beginning(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_string(),
    }
}

/// About `limit` bytes on each side of the byte `at`, which begins a character.
fn surroundings(text: &str, at: usize, limit: usize) -> &str {
    let start = (at.saturating_sub(limit)..=at).find(|start| text.is_char_boundary(*start)).unwrap_or(at);
    let end = (at..=(at + limit).min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(at);
    &text[start..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A candidate with this response and nothing else to object to.
    pub(super) fn response(response: &str) -> Candidate<'_> {
        Candidate { question: "", response, response_ids: &[], prompt_tokens: 1, prompt_opens_think: false }
    }

    /// The reason that the only filter of `make` gives.
    pub(super) fn reason(make: Maker, options: &FilterOptions, candidate: &Candidate<'_>) -> Option<&'static str> {
        let filter = make(options).unwrap().expect("the options ask for the filter");
        let finding = filter.check(candidate)?;
        assert!(filter.reasons().contains(&finding.reason), "{finding:?} is not announced");
        assert!(!finding.detail.is_empty());
        Some(finding.reason)
    }

    #[test]
    fn by_default_a_good_trace_passes_and_four_filters_look_at_it() {
        let filters = make(&FilterOptions::default()).unwrap();
        assert_eq!(filters.len(), 4);
        let good = response("<think>\n1 + 1 is 2.\n</think>\n\nThe answer is \\boxed{2}.");
        assert!(filters.iter().all(|filter| filter.check(&good).is_none()));
    }

    #[test]
    fn no_reason_belongs_to_two_filters() {
        let mut options = FilterOptions { max_prompt_tokens: Some(5), ..FilterOptions::default() };
        options.allowed_scripts = vec!["Latin".to_string()];
        let filters = make(&options).unwrap();
        let mut reasons: Vec<&str> = filters.iter().flat_map(|filter| filter.reasons().iter().copied()).collect();
        let num_reasons = reasons.len();
        reasons.sort_unstable();
        reasons.dedup();
        assert_eq!(reasons.len(), num_reasons);
    }

    #[test]
    fn excerpts_respect_characters() {
        assert_eq!(beginning("äöü", 2), "äö...");
        assert_eq!(beginning("äö", 2), "äö");
        assert_eq!(surroundings("äöüß", 4, 3), "öü");
        assert_eq!(surroundings("abc", 3, 10), "abc");
    }
}
