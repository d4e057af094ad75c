//! Prompts beyond a limit of their own.

use super::{filter, Candidate, Filter, FilterOptions, Finding};
use crate::error::Result;

#[derive(Debug)]
struct PromptTooLong {
    max_prompt_tokens: usize,
}

/// Made where `max_prompt_tokens` is given.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    options.max_prompt_tokens.map_or(Ok(None), |max_prompt_tokens| filter(PromptTooLong { max_prompt_tokens }))
}

impl Filter for PromptTooLong {
    fn reasons(&self) -> &'static [&'static str] {
        &["prompt_too_long"]
    }

    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        (candidate.prompt_tokens > self.max_prompt_tokens).then(|| Finding {
            reason: "prompt_too_long",
            detail: format!(
                "the prompt has {} tokens, the limit is {}",
                candidate.prompt_tokens, self.max_prompt_tokens
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{reason, response};
    use super::*;

    #[test]
    fn the_limit_itself_passes() {
        let options = FilterOptions { max_prompt_tokens: Some(7), ..FilterOptions::default() };
        for (prompt_tokens, expected) in [(1, None), (7, None), (8, Some("prompt_too_long"))] {
            let candidate = Candidate { prompt_tokens, ..response("r") };
            assert_eq!(reason(make, &options, &candidate), expected, "{prompt_tokens}");
        }
        assert!(make(&FilterOptions::default()).unwrap().is_none());
    }
}
