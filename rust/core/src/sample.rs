//! From a row to a sample: rendered, tokenized, measured, filtered, verified, or rejected with a reason.

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::{OverLength, Recipe, TrainTurns};
use crate::conversation::{self, Draft};
use crate::duplicates::{content_hash, Signature};
use crate::error::{Error, Result as CoreResult};
use crate::filters::{self, Candidate, Filter};
use crate::join::JoinedResponses;
use crate::reason::{Reason, Rejection};
use crate::rows::{Answer, Fields};
use crate::tokenizer::{ChatTokenizer, Scratch};
use crate::verifiers::{self, Finding, Task, Tools, Verifier};
use crate::verify::{Limits, MathVerifier, Verdicts};

/// Reason and detail of a rejection, before the row's id is known.
pub(crate) type Refusal = (Reason, String);

/// What a kept row is worth mentioning for; each is counted in the manifest with the first row's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// The response contains the stop token before its end.
    StopInsideResponse,
    /// The end of the response was cut, and with it the stop token.
    Truncated,
    /// The template drops the reasoning of earlier turns; they are context only.
    EarlierReasoningDropped,
}

impl Notice {
    /// Name in the manifest.
    pub fn name(self) -> &'static str {
        match self {
            Notice::StopInsideResponse => "stop_inside_response",
            Notice::Truncated => "truncated",
            Notice::EarlierReasoningDropped => "earlier_reasoning_dropped_by_template",
        }
    }
}

/// A row that no check of its own drops. Its ids stand in the buffer of the worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The row's own label.
    pub id: Option<String>,
    /// Tokens of each sequence, alternating masked and trained.
    pub sequences: Vec<u32>,
    /// Hash of rendered prompt and responses.
    pub content: u128,
    /// Hash of what rows with the same query share.
    pub query: u128,
    /// The [`Signature`] of its text, where near duplicates are looked for.
    pub signature: Option<Vec<u8>>,
    /// What the row is mentioned for.
    pub notices: Vec<Notice>,
}

/// Why a row gives no sample.
#[derive(Debug)]
pub enum Refused {
    /// The row is not kept.
    Rejected(Rejection),
    /// The build cannot go on.
    Failed(Error),
}

impl Sample {
    /// Tokens in all.
    pub fn num_tokens(&self) -> usize {
        self.sequences.iter().map(|length| *length as usize).sum()
    }

    /// Tokens of trained sequences.
    pub fn trained_tokens(&self) -> usize {
        self.sequences.iter().skip(1).step_by(2).map(|length| *length as usize).sum()
    }
}

/// What decides whether a row is kept, and how it is written. Shared by all workers.
#[derive(Debug)]
pub struct Policy<'a> {
    /// Renders and tokenizes.
    pub tokenizer: &'a ChatTokenizer,
    /// Ends every response.
    pub stop_id: u32,
    /// The options.
    pub recipe: &'a Recipe,
    filters: Vec<Box<dyn Filter>>,
    verifier: Option<&'static dyn Verifier>,
    joined: Option<JoinedResponses>,
    math_command: Vec<String>,
    verdicts: Arc<Verdicts>,
}

/// What a worker keeps from row to row.
#[derive(Debug)]
pub struct Worker {
    /// Cache and buffers of the tokenizer.
    pub scratch: Scratch,
    /// What verifiers need.
    tools: Tools,
    /// Who decided about the present row's answer, and how.
    pub decided: Option<String>,
}

impl<'a> Policy<'a> {
    /// Prepares the filters.
    pub fn new(
        tokenizer: &'a ChatTokenizer,
        stop_id: u32,
        recipe: &'a Recipe,
        joined: Option<JoinedResponses>,
        math_command: &[String],
    ) -> CoreResult<Self> {
        Ok(Self {
            tokenizer,
            stop_id,
            recipe,
            filters: filters::make(&recipe.filters)?,
            verifier: verifiers::find(&recipe.verify)?,
            joined,
            math_command: math_command.to_vec(),
            verdicts: Arc::new(Verdicts::new()),
        })
    }

    /// A worker's own part.
    pub fn worker(&self) -> Worker {
        let limits = Limits::cpu(self.recipe.math_cpu_seconds);
        let math = MathVerifier::new(self.math_command.clone(), limits, Arc::clone(&self.verdicts));
        Worker { scratch: self.tokenizer.scratch(), tools: Tools { math }, decided: None }
    }

    /// Makes the sample of a row and appends its ids to `ids`, or leaves `ids` as they were.
    pub fn apply(&self, fields: Fields<'_>, worker: &mut Worker, ids: &mut Vec<u32>) -> Result<Sample, Refused> {
        let (id, start) = (fields.id.clone(), ids.len());
        worker.decided = None;
        self.try_apply(fields, worker, ids).map_err(|stop| {
            ids.truncate(start);
            match stop {
                Stop::Refused((reason, detail)) => Refused::Rejected(Rejection { reason, detail, id }),
                Stop::Failed(error) => Refused::Failed(error),
            }
        })
    }

    fn try_apply(&self, mut fields: Fields<'_>, worker: &mut Worker, ids: &mut Vec<u32>) -> Result<Sample, Stop> {
        self.transform(&mut fields)?;
        let answer = fields.answer.take();
        let task = self.task(answer.as_ref())?;
        let start = ids.len();
        let draft = match self.recipe.train_turns {
            TrainTurns::Last => conversation::last_turn(self, &fields, worker, ids)?,
            TrainTurns::All => conversation::all_turns(self, &fields, worker, ids)?,
        };
        let mut notices = draft.notices.clone();
        let Draft { mut sequences, .. } = draft;
        self.limit(&mut sequences, ids, start, &mut notices)?;
        self.filter(&fields, &draft.rendered, &sequences, &ids[start..])?;
        if let Some(task) = task {
            let judgement = task.judge(&fields.response, &mut worker.tools).map_err(Stop::Failed)?;
            worker.decided = judgement.decided;
            judge(judgement.finding)?;
        }
        let query = fields
            .query_id
            .as_deref()
            .map_or_else(|| xxh3_128(draft.rendered.as_bytes()), |query| xxh3_128(query.as_bytes()));
        let content = content_hash(&draft.rendered, &fields.response);
        let near = self.recipe.near_duplicates.is_some();
        let signature = near.then(|| Signature::of(fields.question(), &fields.response).to_bytes().to_vec());
        Ok(Sample { id: fields.id, sequences, content, query, signature, notices })
    }

    /// The known answer, where it is to be compared.
    fn task<'r>(&self, answer: Option<&'r Answer>) -> Result<Option<Box<dyn Task + 'r>>, Refusal> {
        let Some(verifier) = self.verifier else { return Ok(None) };
        let missing = || (Reason::MISSING_ANSWER, "verification needs the known answer".to_string());
        let task = verifier.task(answer.ok_or_else(missing)?);
        task.map(Some).map_err(|problem| (Reason::WRONG_TYPE, format!("answer {problem}")))
    }

    /// Joins, cuts and appends as the options say.
    fn transform(&self, fields: &mut Fields<'_>) -> Result<(), Refusal> {
        if let Some(joined) = &self.joined {
            let response = joined
                .get(fields)
                .ok_or_else(|| (Reason::NO_JOINED_RESPONSE, "no row of the --join files has this query".to_string()))?;
            fields.response = Cow::Owned(response.to_string());
        }
        if self.recipe.strip_think {
            if let Some((_, answer)) = fields.response.rsplit_once("</think>") {
                fields.response = Cow::Owned(answer.trim_start().to_string());
            }
        }
        if fields.response.trim().is_empty() {
            return Err((Reason::EMPTY_RESPONSE, "nothing is left of the response".to_string()));
        }
        if !self.recipe.prompt_suffix.is_empty() {
            fields.append_to_question(&self.recipe.prompt_suffix);
        }
        Ok(())
    }

    /// Rejects or cuts a sample that is too long.
    fn limit(
        &self,
        sequences: &mut [u32],
        ids: &mut Vec<u32>,
        start: usize,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Refusal> {
        let (tokens, most) = (ids.len() - start, self.recipe.max_length);
        if tokens <= most {
            return Ok(());
        }
        let last = sequences.last_mut().map_or(0, |length| {
            *length = (*length as usize).saturating_sub(tokens - most) as u32;
            *length
        });
        if self.recipe.over_length == OverLength::Reject || last == 0 {
            return Err((Reason::TOO_LONG, format!("{tokens} tokens, the limit is {most}")));
        }
        ids.truncate(start + most);
        notices.push(Notice::Truncated);
        Ok(())
    }

    fn filter(&self, fields: &Fields<'_>, rendered: &str, sequences: &[u32], ids: &[u32]) -> Result<(), Refusal> {
        let response_tokens = sequences.last().map_or(0, |length| *length as usize);
        let (before, response) = ids.split_at(ids.len() - response_tokens);
        let candidate = Candidate {
            question: fields.question(),
            response: &fields.response,
            response_ids: response.strip_suffix(&[self.stop_id]).unwrap_or(response),
            prompt_tokens: before.len(),
            prompt_opens_think: rendered.trim_end().ends_with("<think>"),
        };
        match self.filters.iter().find_map(|filter| filter.check(&candidate)) {
            Some(finding) => Err((Reason::named(finding.reason), finding.detail)),
            None => Ok(()),
        }
    }
}

/// Why the work on a row ends.
enum Stop {
    Refused(Refusal),
    Failed(Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

fn judge(finding: Finding) -> Result<(), Refusal> {
    Err(match finding {
        Finding::Right => return Ok(()),
        Finding::NoBox => (Reason::NO_BOXED_ANSWER, "no \\boxed{...} after the trace".to_string()),
        Finding::Wrong(detail) => (Reason::WRONG_ANSWER, detail),
        Finding::Undecided(detail) => (Reason::UNDECIDED, detail),
    })
}
