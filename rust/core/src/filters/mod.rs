//! Filters: each one drops rows for one named reason.
//!
//! A filter is one file here and one line in [`REGISTRY`]. It looks at one row at a time and knows nothing of the
//! others, so rows can be judged on any thread and any machine; what compares rows with each other (duplicates) is a
//! decision of the writer instead.

use std::fmt::Debug;

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

/// One reason to drop rows.
pub trait Filter: Debug + Send + Sync {
    /// The reason in `rejects.jsonl` and in the account: snake_case, never changed once published.
    fn reason(&self) -> &'static str;

    /// Why the row is dropped, with the offending value; None keeps it.
    fn check(&self, candidate: &Candidate<'_>) -> Option<String>;
}

/// Makes a filter from the options, or nothing where they leave it out.
pub type Maker = fn(&crate::config::FilterOptions) -> Result<Option<Box<dyn Filter>>>;

/// Every filter, in the order in which they are asked.
pub const REGISTRY: &[Maker] = &[];

/// The filters that the options ask for, in the order of [`REGISTRY`].
pub fn make(options: &crate::config::FilterOptions) -> Result<Vec<Box<dyn Filter>>> {
    REGISTRY.iter().filter_map(|maker| maker(options).transpose()).collect()
}
