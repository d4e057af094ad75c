//! Why a row is not in the shards.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A reason in snake_case: the name in `rejects.jsonl` and in the account of the manifest, part of their format.
///
/// A type rather than an enum, so that a filter brings its own without touching a central list.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reason(Cow<'static, str>);

impl Reason {
    /// The reason of this name.
    pub const fn named(name: &'static str) -> Self {
        Reason(Cow::Borrowed(name))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The line is not JSON, or repeats a field.
    pub const MALFORMED_JSON: Reason = Reason::named("malformed_json");
    /// The line is longer than what memory allows.
    pub const LINE_TOO_LONG: Reason = Reason::named("line_too_long");
    /// The line is not UTF-8.
    pub const INVALID_UTF8: Reason = Reason::named("invalid_utf8");
    /// A field that is needed is absent or null.
    pub const MISSING_FIELD: Reason = Reason::named("missing_field");
    /// A field has a type that it must not have.
    pub const WRONG_TYPE: Reason = Reason::named("wrong_type");
    /// No row of the joined files has this query.
    pub const NO_JOINED_RESPONSE: Reason = Reason::named("no_joined_response");
    /// The response has nothing but white space.
    pub const EMPTY_RESPONSE: Reason = Reason::named("empty_response");
    /// The chat template or the tokenizer failed on this row.
    pub const TEMPLATE_ERROR: Reason = Reason::named("template_error");
    /// The rendered prompt begins with the bos token twice.
    pub const DOUBLE_BOS: Reason = Reason::named("double_bos");
    /// The template changed or dropped an earlier turn that should be trained.
    pub const TURN_REWRITTEN: Reason = Reason::named("turn_rewritten_by_template");
    /// Prompt, responses and stop tokens together exceed the length limit.
    pub const TOO_LONG: Reason = Reason::named("too_long");
    /// Verification needs an answer and the row has none.
    pub const MISSING_ANSWER: Reason = Reason::named("missing_answer");
    /// No complete box after the trace.
    pub const NO_BOXED_ANSWER: Reason = Reason::named("no_boxed_answer");
    /// The boxed answer is wrong.
    pub const WRONG_ANSWER: Reason = Reason::named("wrong_answer");
    /// The verifier came to no verdict within its limits.
    pub const UNDECIDED: Reason = Reason::named("undecided");
    /// An earlier row has the same prompt and response.
    pub const DUPLICATE: Reason = Reason::named("duplicate");
    /// An earlier kept row is nearly the same.
    pub const NEAR_DUPLICATE: Reason = Reason::named("near_duplicate");
    /// Another response to the same query was selected.
    pub const NOT_SELECTED: Reason = Reason::named("not_selected");
    /// The query was not drawn by `num_queries`.
    pub const QUERY_NOT_DRAWN: Reason = Reason::named("query_not_drawn");
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A row that is not kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejection {
    /// Why, in one word.
    pub reason: Reason,
    /// Why, in a sentence with the offending value.
    pub detail: String,
    /// The row's id, where it has one.
    pub id: Option<String>,
}
