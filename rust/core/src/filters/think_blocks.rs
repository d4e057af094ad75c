//! Whether a response thinks where it should: one `<think>` block, complete, before everything else.
//!
//! A tag is a tag wherever it stands. One that the text merely quotes still becomes the tag's own token, teaches the
//! model to end its trace in the middle of a sentence, and moves the place where everyone looks for the answer.

use memchr::memmem;

use super::{filter, surroundings, Candidate, Filter, FilterOptions, Finding, Think};
use crate::error::Result;

const OPEN: &str = "<think>";
/// Bytes of context in a detail, on each side.
const CONTEXT: usize = 40;

#[derive(Debug)]
struct ThinkBlocks {
    required: bool,
    forbidden: bool,
}

/// Made unless `think` is `off`.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    match options.think {
        Think::Off => Ok(None),
        think => filter(ThinkBlocks { required: think == Think::Required, forbidden: think == Think::None }),
    }
}

/// The tags of a response.
#[derive(Debug, Default)]
struct Tags {
    /// Byte offsets of the first and the second opening tag.
    opens: [Option<usize>; 2],
    /// Byte offsets of the first and the second closing tag.
    closes: [Option<usize>; 2],
}

impl Tags {
    fn find(text: &str) -> Self {
        let mut tags = Self::default();
        // Both tags end alike, so one search finds them.
        for at in memmem::find_iter(text.as_bytes(), b"think>") {
            let before = &text[..at];
            let (found, start) = if before.ends_with("</") {
                (&mut tags.closes, at - 2)
            } else if before.ends_with('<') {
                (&mut tags.opens, at - 1)
            } else {
                continue;
            };
            match found {
                [first @ None, _] => *first = Some(start),
                [_, second @ None] => *second = Some(start),
                _ => {}
            }
        }
        tags
    }

    /// The first tag of the response.
    fn first(&self) -> Option<usize> {
        [self.opens[0], self.closes[0]].into_iter().flatten().min()
    }
}

impl Filter for ThinkBlocks {
    fn reasons(&self) -> &'static [&'static str] {
        &[
            "no_think_block",
            "unwanted_think_block",
            "several_think_blocks",
            "think_block_misplaced",
            "think_never_opened",
            "think_opened_twice",
            "unfinished_trace",
        ]
    }

    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        let text = candidate.response;
        let tags = Tags::find(text);
        let found = |reason, what: &str, at: Option<usize>| {
            let context = at.map(|at| format!(" at byte {at}: {:?}", surroundings(text, at, CONTEXT)));
            Some(Finding { reason, detail: format!("{what}{}", context.unwrap_or_default()) })
        };
        if self.forbidden {
            return match (candidate.prompt_opens_think, tags.first()) {
                (true, _) => {
                    found("unwanted_think_block", "the prompt opens a think block; use another template", None)
                }
                (false, Some(at)) => found("unwanted_think_block", "a think tag", Some(at)),
                (false, None) => None,
            };
        }
        let (content, close) = match (candidate.prompt_opens_think, tags.opens[0], tags.closes[0]) {
            (false, None, None) if self.required => return found("no_think_block", "no <think> in the response", None),
            (false, None, None) => return None,
            (true, Some(open), _) => {
                let what = "the prompt opens the think block already, but the response opens one";
                return found("think_opened_twice", what, Some(open));
            }
            (true, None, None) => {
                let what = "the prompt opens a think block that the response never closes";
                return found("unfinished_trace", what, Some(text.len()));
            }
            (true, None, Some(close)) => (0, close),
            (false, None, Some(close)) => return found("think_never_opened", "</think> without <think>", Some(close)),
            (false, Some(open), Some(close)) if close < open => {
                return found("think_never_opened", "</think> before any <think>", Some(close));
            }
            (false, Some(open), _) if !text[..open].trim().is_empty() => {
                return found("think_block_misplaced", "text comes before <think>", Some(open));
            }
            (false, Some(_), None) => {
                return found("unfinished_trace", "<think> is never closed; the response ends", Some(text.len()));
            }
            (false, Some(open), Some(close)) => (open + OPEN.len(), close),
        };
        if let Some(second) = [tags.opens[1], tags.closes[1]].into_iter().flatten().min() {
            return found("several_think_blocks", "one think block is complete, and another tag stands", Some(second));
        }
        if self.required && text[content..close].trim().is_empty() {
            return found("no_think_block", "the think block is empty", None);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{reason, response};
    use super::*;

    /// The reasons under `any`, `required` and `none`.
    fn reasons(text: &str, prompt_opens_think: bool) -> [Option<&'static str>; 3] {
        [Think::Any, Think::Required, Think::None].map(|think| {
            let options = FilterOptions { think, ..FilterOptions::default() };
            reason(make, &options, &Candidate { prompt_opens_think, ..response(text) })
        })
    }

    #[test]
    fn prompts_that_leave_the_block_to_the_response() {
        const UNWANTED: Option<&str> = Some("unwanted_think_block");
        for (text, expected, required) in [
            ("<think>a</think>b", None, None),
            ("\n <think>\na\n</think>\n\nb", None, None),
            ("<think>a</think>", None, None),
            ("<think>\n\n</think>\n\nb", None, Some("no_think_block")),
            ("b", None, Some("no_think_block")),
            ("<thinking>b</thinking>", None, Some("no_think_block")),
            ("I rethink>, so", None, Some("no_think_block")),
            ("<think>a", Some("unfinished_trace"), Some("unfinished_trace")),
            ("<think>", Some("unfinished_trace"), Some("unfinished_trace")),
            ("a</think>b", Some("think_never_opened"), Some("think_never_opened")),
            ("a</think>b<think>c</think>", Some("think_never_opened"), Some("think_never_opened")),
            ("Well, <think>a</think>b", Some("think_block_misplaced"), Some("think_block_misplaced")),
            ("Use the tag <think>.", Some("think_block_misplaced"), Some("think_block_misplaced")),
            ("<think>a</think>b<think>c</think>d", Some("several_think_blocks"), Some("several_think_blocks")),
            ("<think>a<think>c</think>d", Some("several_think_blocks"), Some("several_think_blocks")),
            ("<think>it said \"</think>\", ok</think>d", Some("several_think_blocks"), Some("several_think_blocks")),
            ("<think>a</think>The `<think>` tag", Some("several_think_blocks"), Some("several_think_blocks")),
        ] {
            let unwanted = if Tags::find(text).first().is_some() { UNWANTED } else { None };
            assert_eq!(reasons(text, false), [expected, required, unwanted], "{text:?}");
        }
    }

    #[test]
    fn prompts_that_open_the_block() {
        for (text, expected, required) in [
            ("a</think>b", None, None),
            ("\n</think>b", None, Some("no_think_block")),
            ("a", Some("unfinished_trace"), Some("unfinished_trace")),
            ("<think>a</think>b", Some("think_opened_twice"), Some("think_opened_twice")),
            ("a</think>b</think>c", Some("several_think_blocks"), Some("several_think_blocks")),
        ] {
            assert_eq!(reasons(text, true), [expected, required, Some("unwanted_think_block")], "{text:?}");
        }
    }

    #[test]
    fn the_detail_shows_the_place() {
        let filter = make(&FilterOptions::default()).unwrap().unwrap();
        let finding = filter.check(&response("<think>a</think>see \"</think>\"")).unwrap();
        assert!(finding.detail.contains("at byte 21"), "{}", finding.detail);
        let options = FilterOptions { think: Think::Off, ..FilterOptions::default() };
        assert!(make(&options).unwrap().is_none());
    }
}
