//! Lays a conversation out as sequences that alternate masked and trained.
//!
//! What stands in front of a response is rendered by the chat template with its generation prompt; the response is
//! tokenized by itself and the stop id follows. So every context is what a model is given at inference, whatever the
//! template does to earlier turns.

use serde_json::Value;

use crate::error::Error;
use crate::reason::Reason;
use crate::rows::Fields;
use crate::sample::{Notice, Policy, Refusal, Worker};

/// The layout of a sample whose ids have been appended to the worker's buffer.
#[derive(Debug)]
pub(crate) struct Draft {
    /// The rendered context of the last response.
    pub(crate) rendered: String,
    /// Tokens of each sequence, alternating masked and trained.
    pub(crate) sequences: Vec<u32>,
    /// What is worth mentioning.
    pub(crate) notices: Vec<Notice>,
}

/// One masked sequence, all turns up to the last response, and one trained sequence.
pub(crate) fn last_turn(
    policy: &Policy<'_>,
    fields: &Fields<'_>,
    worker: &mut Worker,
    ids: &mut Vec<u32>,
) -> Result<Draft, Refusal> {
    let rendered = render(policy, &fields.messages)?;
    let mut layout = Layout::new(policy, worker, ids);
    layout.context(&rendered)?;
    layout.response(&fields.response)?;
    let mut draft = Draft { sequences: layout.sequences, notices: layout.notices, rendered };
    if drops_reasoning(&fields.messages, &draft.rendered) {
        draft.notices.push(Notice::EarlierReasoningDropped);
    }
    Ok(draft)
}

/// A masked and a trained sequence for every assistant turn.
///
/// The template must repeat earlier turns word for word, since they are trained where it puts them; the text behind
/// an earlier response belongs to the next context, but for the token that ends the turn, which is trained.
pub(crate) fn all_turns(
    policy: &Policy<'_>,
    fields: &Fields<'_>,
    worker: &mut Worker,
    ids: &mut Vec<u32>,
) -> Result<Draft, Refusal> {
    let turns = fields.messages.as_array().map_or(&[][..], Vec::as_slice);
    let rendered = render(policy, &fields.messages)?;
    let mut layout = Layout::new(policy, worker, ids);
    // Bytes of `rendered` that are laid out already.
    let mut done = 0;
    for (index, turn) in turns.iter().enumerate() {
        if index == 0 || turn.get("role").and_then(Value::as_str) != Some("assistant") {
            continue;
        }
        let content = turn.get("content").and_then(Value::as_str).unwrap_or("");
        let context = render(policy, &Value::Array(turns[..index].to_vec()))?;
        let rest = rendered.strip_prefix(context.as_str()).and_then(|rest| rest.strip_prefix(content));
        let Some(rest) = rest.filter(|_| context.len() > done && !content.is_empty()) else {
            let lost = if content.contains("</think>") { "drops or changes the reasoning of" } else { "changes" };
            let detail = format!("the template {lost} turn {index}; use --train-turns last");
            return Err((Reason::TURN_REWRITTEN, detail));
        };
        layout.context(&context[done..])?;
        let end = layout.earlier_response(content, rest)?;
        done = context.len() + content.len() + end;
    }
    layout.context(&rendered[done..])?;
    layout.response(&fields.response)?;
    Ok(Draft { sequences: layout.sequences, notices: layout.notices, rendered })
}

fn render(policy: &Policy<'_>, messages: &Value) -> Result<String, Refusal> {
    policy.tokenizer.render(messages, true).map_err(template_error)
}

fn template_error(error: Error) -> Refusal {
    (Reason::TEMPLATE_ERROR, error.to_string())
}

/// Whether an earlier assistant turn had reasoning that is not in the rendered context.
fn drops_reasoning(messages: &Value, rendered: &str) -> bool {
    let turns = messages.as_array().map_or(&[][..], Vec::as_slice);
    turns.iter().any(|turn| {
        let content = turn.get("content").and_then(Value::as_str).unwrap_or("");
        let assistant = turn.get("role").and_then(Value::as_str) == Some("assistant");
        let trace = content.split_once("</think>").map(|(trace, _)| trace.trim());
        assistant && trace.is_some_and(|trace| !trace.is_empty() && !rendered.contains(trace))
    })
}

/// Appends sequences to the worker's ids.
struct Layout<'a, 'p> {
    policy: &'a Policy<'p>,
    worker: &'a mut Worker,
    ids: &'a mut Vec<u32>,
    sequences: Vec<u32>,
    notices: Vec<Notice>,
}

impl<'a, 'p> Layout<'a, 'p> {
    fn new(policy: &'a Policy<'p>, worker: &'a mut Worker, ids: &'a mut Vec<u32>) -> Self {
        Self { policy, worker, ids, sequences: Vec::with_capacity(2), notices: Vec::new() }
    }

    fn encode(&mut self, text: &str) -> Result<usize, Refusal> {
        let start = self.ids.len();
        self.policy.tokenizer.encode_into(text, &mut self.worker.scratch, self.ids).map_err(template_error)?;
        Ok(self.ids.len() - start)
    }

    fn end_sequence(&mut self, length: usize) -> Result<(), Refusal> {
        let length = u32::try_from(length).map_err(|_| (Reason::TOO_LONG, "more than 2^32 tokens".to_string()))?;
        self.sequences.push(length);
        Ok(())
    }

    fn context(&mut self, text: &str) -> Result<(), Refusal> {
        let length = self.encode(text)?;
        if length == 0 {
            // Without context there is no position that could predict the first trained token.
            return Err((Reason::TEMPLATE_ERROR, "the chat template rendered an empty prompt".to_string()));
        }
        if self.sequences.is_empty() {
            self.check_bos(length)?;
        }
        self.end_sequence(length)
    }

    fn check_bos(&self, length: usize) -> Result<(), Refusal> {
        let first = &self.ids[self.ids.len() - length..];
        match (self.policy.tokenizer.bos_id, first) {
            (Some(bos), [one, two, ..]) if *one == bos && *two == bos => {
                let detail = "the prompt begins with the bos token twice: template and message both bring one";
                Err((Reason::DOUBLE_BOS, detail.to_string()))
            }
            _ => Ok(()),
        }
    }

    fn response(&mut self, text: &str) -> Result<(), Refusal> {
        let length = self.encode(text)?;
        if self.ids[self.ids.len() - length..].contains(&self.policy.stop_id) {
            self.notices.push(Notice::StopInsideResponse);
        }
        self.ids.push(self.policy.stop_id);
        self.end_sequence(length + 1)
    }

    /// A response that `rest` follows in the rendered text; returns the bytes of `rest` that its sequence took.
    fn earlier_response(&mut self, text: &str, rest: &str) -> Result<usize, Refusal> {
        let length = self.encode(text)?;
        let end = self.policy.tokenizer.special_token_at_start(rest);
        if let Some((id, _)) = end {
            self.ids.push(id);
        }
        self.end_sequence(length + usize::from(end.is_some()))?;
        Ok(end.map_or(0, |(_, bytes)| bytes))
    }
}
