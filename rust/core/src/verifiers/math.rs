//! `math`: the boxed answer equals a string or number, by math-verify's own rules.

use super::{kind, Finding, Judgement, Task, Tools, Verifier};
use crate::error::Result;
use crate::rows::Answer;
use crate::verify::{boxed_answer, shown, DecidedBy, Verdict};

#[derive(Debug)]
pub(super) struct MathAnswers;

impl Verifier for MathAnswers {
    fn name(&self) -> &'static str {
        "math"
    }

    fn task<'a>(&self, answer: &'a Answer) -> std::result::Result<Box<dyn Task + 'a>, String> {
        match answer {
            Answer::Text(gold) => Ok(Box::new(Gold(gold))),
            other => Err(format!("must be a string or number, found {}", kind(other))),
        }
    }
}

struct Gold<'a>(&'a str);

impl Task for Gold<'_> {
    fn judge(&self, response: &str, tools: &mut Tools) -> Result<Judgement> {
        let boxed = match boxed_answer(response) {
            Ok(boxed) => boxed,
            Err(failure) => return Ok(Err(failure).into()),
        };
        let (verdict, by) = tools.math.verify(self.0, boxed)?;
        // A verdict from the cache is math-verify's: two workers may meet the same pair at once.
        let who = if by == DecidedBy::FastPath { "fast_path" } else { "math_verify" };
        let (finding, how) = match verdict {
            Verdict::Equal => (Finding::Right, "equal".to_string()),
            Verdict::Different => {
                (Finding::Wrong(format!("{} is not {}", shown(boxed), shown(self.0))), "different".to_string())
            }
            Verdict::Undecided(cause) => {
                let detail = format!("no verdict on {}: {}", shown(boxed), cause.name());
                (Finding::Undecided(detail), format!("undecided_{}", cause.name()))
            }
        };
        Ok(Judgement { finding, decided: Some(format!("{who}_{how}")) })
    }
}
