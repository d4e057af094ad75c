//! Options of the filters.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What the rows' `<think>` blocks have to look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Think {
    /// No block at all, or one complete block before everything else.
    #[default]
    Any,
    /// One complete block, not empty, before everything else.
    Required,
    /// No block.
    None,
    /// Blocks are not looked at.
    Off,
}

/// Which rows the filters drop. Unknown keys are errors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FilterOptions {
    /// What `<think>` blocks have to look like; `any` by default.
    pub think: Think,
    /// Whether to drop rows with nothing but white space after `</think>`; true by default.
    pub empty_answer: bool,
    /// A loop of this many tokens drops the row; 512 by default, None for no such limit.
    pub max_loop_tokens: Option<usize>,
    /// So does a larger share of the response in loops, 0 to 1; 0.3 by default, None for no such limit.
    pub max_loop_share: Option<f64>,
    /// Largest share of the response's characters, 0 to 1, that mean nothing (U+FFFD, control, private, unassigned);
    /// 0.001 by default, None for no check.
    pub max_undecodable_share: Option<f64>,
    /// Scripts by their Unicode names, such as `Latin` and `Han`; empty, the default, allows every script.
    pub allowed_scripts: Vec<String>,
    /// Largest share of the response's letters, 0 to 1, of scripts that are not allowed; 0.1 by default.
    pub max_other_script_share: f64,
    /// Most tokens of the rendered prompt; None, the default, for no limit.
    pub max_prompt_tokens: Option<usize>,
    /// Files of evaluation questions that rows must not repeat: JSON Lines, JSON, CSV or Parquet; none by default.
    pub decontaminate: Vec<PathBuf>,
    /// Field of these files that holds the question; None, the default, looks for the usual names.
    pub decontaminate_field: Option<String>,
    /// Words that are compared at a time; 8 by default.
    pub decontaminate_words: usize,
    /// Share of an evaluation question's word sequences, 0 to 1, that makes a row a repetition of it; 0.5 by default.
    pub decontaminate_share: f64,
}

impl Default for FilterOptions {
    fn default() -> Self {
        Self {
            think: Think::Any,
            empty_answer: true,
            max_loop_tokens: Some(512),
            max_loop_share: Some(0.3),
            max_undecodable_share: Some(0.001),
            allowed_scripts: Vec::new(),
            max_other_script_share: 0.1,
            max_prompt_tokens: None,
            decontaminate: Vec::new(),
            decontaminate_field: None,
            decontaminate_words: 8,
            decontaminate_share: 0.5,
        }
    }
}

impl FilterOptions {
    /// Refuses values that cannot work and options that have no effect.
    pub fn check(&self) -> Result<()> {
        let shares = [
            ("max_loop_share", self.max_loop_share),
            ("max_undecodable_share", self.max_undecodable_share),
            ("max_other_script_share", Some(self.max_other_script_share)),
            ("decontaminate_share", Some(self.decontaminate_share)),
        ];
        for (name, share) in shares {
            if share.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return Err(invalid(name, share.unwrap_or_default(), "use a share from 0 to 1"));
            }
        }
        if self.decontaminate_share == 0.0 {
            return Err(invalid("decontaminate_share", 0.0, "every row would be dropped; use more than 0"));
        }
        if self.max_loop_tokens.is_some_and(|tokens| tokens < 64) {
            let tokens = self.max_loop_tokens.unwrap_or_default();
            return Err(invalid("max_loop_tokens", tokens, "ordinary tables repeat as much; use at least 64"));
        }
        if self.decontaminate_words < 4 {
            let words = self.decontaminate_words;
            return Err(invalid("decontaminate_words", words, "so few words are common phrases; use at least 4"));
        }
        let defaults = Self::default();
        let unused = |name: &str, without: &str| invalid_use(name, without);
        if self.allowed_scripts.is_empty() && self.max_other_script_share != defaults.max_other_script_share {
            return unused("max_other_script_share", "allowed_scripts");
        }
        if self.decontaminate.is_empty() {
            if self.decontaminate_field.is_some() {
                return unused("decontaminate_field", "decontaminate");
            }
            if self.decontaminate_words != defaults.decontaminate_words {
                return unused("decontaminate_words", "decontaminate");
            }
            if self.decontaminate_share != defaults.decontaminate_share {
                return unused("decontaminate_share", "decontaminate");
            }
        }
        Ok(())
    }
}

fn invalid(name: &str, value: impl std::fmt::Display, remedy: &str) -> Error {
    Error::Config(format!("{name} {value} cannot work: {remedy}"))
}

fn invalid_use(name: &str, without: &str) -> Result<()> {
    Err(Error::Config(format!("{name} has no effect without {without}; leave it out or name {without}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<FilterOptions, String> {
        let options: FilterOptions = serde_json::from_str(text).map_err(|error| error.to_string())?;
        options.check().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn absent_keys_take_their_defaults() {
        assert_eq!(parse("{}"), Ok(FilterOptions::default()));
        let options = parse(r#"{"think": "required", "max_loop_tokens": null}"#).unwrap();
        assert_eq!((options.think, options.max_loop_tokens, options.empty_answer), (Think::Required, None, true));
    }

    #[test]
    fn each_mistake_is_named() {
        for (text, word) in [
            (r#"{"thinks": "any"}"#, "thinks"),
            (r#"{"think": "maybe"}"#, "maybe"),
            (r#"{"max_loop_share": 1.5}"#, "max_loop_share 1.5"),
            (r#"{"max_undecodable_share": -0.1}"#, "max_undecodable_share -0.1"),
            (r#"{"max_loop_tokens": 10}"#, "max_loop_tokens 10"),
            (r#"{"decontaminate": ["a.jsonl"], "decontaminate_words": 3}"#, "decontaminate_words 3"),
            (r#"{"decontaminate": ["a.jsonl"], "decontaminate_share": 0}"#, "decontaminate_share 0"),
            (r#"{"decontaminate_field": "q"}"#, "without decontaminate"),
            (r#"{"decontaminate_share": 0.9}"#, "without decontaminate"),
            (r#"{"decontaminate_words": 9}"#, "without decontaminate"),
            (r#"{"max_other_script_share": 0.2}"#, "without allowed_scripts"),
        ] {
            let message = parse(text).unwrap_err();
            assert!(message.contains(word), "{text}: {message}");
        }
    }
}
