//! Text to ids for byte-level byte-pair encoding, with exactly the ids of Hugging Face's `tokenizers` and far less work.
//!
//! The path of a text, as there: added tokens are cut out ([`added`]), the rest is normalized ([`nfc`]), split into
//! words ([`pattern`], [`window`]), which wait a little ([`ahead`]) and are then merged ([`merges`]), unless their ids are
//! remembered ([`short`], [`long`]).
//! [`json`] reads `tokenizer.json` and refuses what is not known to be computed exactly; for that there is the crate
//! `tokenizers`.

mod added;
mod ahead;
mod json;
mod long;
mod merges;
mod nfc;
mod pattern;
mod prefetch;
mod scratch;
mod short;
mod table;
mod unicode;
mod unicode_ranges;
mod vocabulary;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};

use added::AddedTokens;
use ahead::{Ahead, Word};
use merges::Merges;
use pattern::Pattern;
pub use scratch::Scratch;
pub use unicode::classes_of;
use unicode::Classes;
use vocabulary::Vocabulary;
use window::{word_starts, CHUNK, WINDOW};

/// Bytes of text that room for ids is made for at once.
const STRETCH: usize = 4096;

/// Tells encoders apart, so that a [`Scratch`] never serves two.
static NEXT_ENCODER: AtomicU64 = AtomicU64::new(1);

/// A tokenizer that is computed here. Immutable, so threads may share it; each brings its own [`Scratch`].
pub struct Encoder {
    number: u64,
    vocabulary: Vocabulary,
    merges: Merges,
    pattern: Pattern,
    /// Whether text is brought to NFC first.
    compose: bool,
    /// Whether a word that is a token as a whole becomes this token, whatever the rules say.
    ignore_merges: bool,
    /// Tokens that are looked for in the text as it stands.
    raw: Option<AddedTokens>,
    /// Tokens that are looked for in the normalized text.
    normalized: Option<AddedTokens>,
    added: json::AddedIds,
    /// Whether the text of special tokens is text like any other.
    split_special: bool,
    classes: Classes,
}

impl Encoder {
    /// Reads the content of `tokenizer.json`. None if it is not one of the tokenizers that are computed here exactly, or
    /// not a tokenizer at all: the crate `tokenizers` then either loads it or says what is wrong.
    pub fn new(tokenizer_json: &[u8]) -> Option<Self> {
        let parts = json::read(tokenizer_json)?;
        Some(Self {
            number: NEXT_ENCODER.fetch_add(1, Ordering::Relaxed),
            vocabulary: parts.vocabulary,
            merges: parts.merges,
            pattern: parts.pattern,
            compose: parts.compose,
            ignore_merges: parts.ignore_merges,
            raw: AddedTokens::new(parts.raw),
            normalized: AddedTokens::new(parts.normalized),
            added: parts.added,
            split_special: false,
            classes: Classes::get(),
        })
    }

    /// Whether the text of a special token stays text (`split_special_tokens` of Hugging Face); at first it does not.
    #[must_use]
    pub fn split_special_tokens(mut self, split: bool) -> Self {
        self.split_special = split;
        self
    }

    /// Appends the ids of `text` to `ids`: those of Hugging Face's `tokenizer(text, add_special_tokens=False)`.
    ///
    /// `text` must be shorter than 4 GiB, or this panics.
    pub fn encode(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        assert!(u32::try_from(text.len()).is_ok(), "a text of {} bytes is too long for one call", text.len());
        scratch.belong_to(self.number);
        self.cut(self.raw.as_ref(), text, ids, &mut |part, ids| {
            if self.compose {
                let composed = nfc::normalize(part, self.classes);
                self.cut(self.normalized.as_ref(), &composed, ids, &mut |part, ids| self.split(part, scratch, ids));
            } else {
                self.cut(self.normalized.as_ref(), part, ids, &mut |part, ids| self.split(part, scratch, ids));
            }
        });
    }

    /// Hands the text between added tokens to `between`, and appends the ids of the tokens themselves.
    fn cut(
        &self,
        tokens: Option<&AddedTokens>,
        text: &str,
        ids: &mut Vec<u32>,
        between: &mut dyn FnMut(&str, &mut Vec<u32>),
    ) {
        let (mut done, mut from) = (0, 0);
        while let Some((at, token)) = tokens.and_then(|tokens| tokens.find(text.as_bytes(), from)) {
            from = at + token.text.len();
            // As in `tokenizers`, a special token that stays text still hides the tokens that begin inside it.
            if token.special && self.split_special {
                continue;
            }
            between(&text[done..at], ids);
            ids.push(token.id);
            done = from;
        }
        between(&text[done..], ids);
    }

    /// Appends the ids of `text`, which holds no added token and is normalized.
    fn split(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) {
        let bytes = text.as_bytes();
        let mut output = Output { ids, num_ids: 0, done: 0 };
        output.num_ids = output.ids.len();
        let mut ahead = Ahead::new();
        let mut rest = [0; CHUNK];
        let mut at = 0;
        while at < bytes.len() {
            let stretch = (bytes.len() - at).min(STRETCH);
            output.make_room(at + stretch + WINDOW);
            let end = at + stretch;
            while at < end {
                let chunk = bytes[at..].first_chunk::<CHUNK>().unwrap_or_else(|| {
                    rest.fill(0);
                    rest[..bytes.len() - at].copy_from_slice(&bytes[at..]);
                    &rest
                });
                let ascii = chunk[0] < 0x80 && chunk[1] < 0x80;
                let starts = if ascii { word_starts(self.pattern, chunk, bytes.len() - at) } else { 1 };
                at = if starts > 1 {
                    push_words(chunk, starts, at, scratch, &mut ahead)
                } else {
                    let end = self.pattern.word_end(text, at, self.classes);
                    if end - at > WINDOW {
                        while let Some(word) = ahead.take_any() {
                            self.look_up(bytes, word, scratch, &mut output);
                        }
                        output.ids.truncate(output.num_ids);
                        self.merge(&bytes[at..end], output.ids);
                        output.num_ids = output.ids.len();
                        output.done = end;
                        at = end;
                        break;
                    }
                    push_word(chunk, 0, end - at, at, scratch, &mut ahead);
                    end
                };
                while let Some(word) = ahead.take() {
                    self.look_up(bytes, word, scratch, &mut output);
                }
            }
        }
        while let Some(word) = ahead.take_any() {
            self.look_up(bytes, word, scratch, &mut output);
        }
        output.ids.truncate(output.num_ids);
    }

    /// Writes the ids of the word that begins where the last one written ended.
    #[inline]
    fn look_up(&self, text: &[u8], word: Word, scratch: &mut Scratch, output: &mut Output) {
        let room = &mut output.ids[output.num_ids..];
        output.num_ids += match scratch.short.find(word.key, word.hash) {
            Some((known, count)) => {
                // Always four numbers; what follows overwrites those that are no ids.
                room[..short::MAX_IDS].copy_from_slice(known);
                count
            }
            None => self.rare_word(&text[output.done..word.end as usize], word.key, scratch, room),
        };
        output.done = word.end as usize;
    }

    /// Writes the ids of a word that is not among the short ones to `ids`, and returns their number.
    #[inline(never)]
    fn rare_word(&self, word: &[u8], short_key: short::Key, scratch: &mut Scratch, ids: &mut [u32]) -> usize {
        let Scratch { short, long, fresh, .. } = scratch;
        // A short word with many ids is merged again each time: that takes less than asking for all that are new.
        let key = (word.len() > short::MAX_BYTES).then(|| long::Key::of(word)).flatten();
        if let Some(known) = key.and_then(|key| long.find(key)) {
            ids[..known.len()].copy_from_slice(known);
            return known.len();
        }
        fresh.clear();
        self.merge(word, fresh);
        ids[..fresh.len()].copy_from_slice(fresh);
        if word.len() <= short::MAX_BYTES && fresh.len() <= short::MAX_IDS {
            short.insert(short_key, fresh);
        } else if let Some(key) = key {
            long.insert(key, fresh);
        }
        fresh.len()
    }

    /// Appends the ids of one word of any length.
    fn merge(&self, word: &[u8], ids: &mut Vec<u32>) {
        match self.ignore_merges.then(|| self.vocabulary.id_of_bytes(word)).flatten() {
            Some(id) => ids.push(id),
            None => self.merges.apply(word, ids),
        }
    }

    /// The text of `ids`, special tokens included; ids without a token add nothing, bytes that are not UTF-8 become
    /// U+FFFD.
    pub fn decode(&self, ids: &[u32]) -> String {
        let mut bytes = Vec::with_capacity(ids.len() * 4);
        for id in ids {
            bytes.extend_from_slice(
                self.added.bytes_of(*id).or_else(|| self.vocabulary.bytes_of(*id)).unwrap_or_default(),
            );
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Id of the token whose text in `tokenizer.json` is exactly `token`.
    pub fn token_id(&self, token: &str) -> Option<u32> {
        self.added.id_of(token).or_else(|| self.vocabulary.id_of(token))
    }

    /// The special token that `text` begins with: its id and its bytes.
    pub fn special_token_at_start(&self, text: &str) -> Option<(u32, usize)> {
        let tokens = [&self.raw, &self.normalized];
        let found = tokens.into_iter().flatten().filter_map(|tokens| tokens.find(text.as_bytes(), 0));
        let first = found.filter(|(at, token)| *at == 0 && token.special).map(|(_, token)| token);
        first.map(|token| (token.id, token.text.len())).max_by_key(|(_, bytes)| *bytes)
    }

    /// One more than the largest id, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocabulary.end_of_ids().max(self.added.end_of_ids())
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Encoder")
            .field("pattern", &self.pattern)
            .field("compose", &self.compose)
            .finish_non_exhaustive()
    }
}

/// Where the ids of a text go.
struct Output<'a> {
    /// The ids, and room for more.
    ids: &'a mut Vec<u32>,
    num_ids: usize,
    /// Bytes of the text whose ids are written.
    done: usize,
}

impl Output<'_> {
    /// Makes room for the ids of the text up to its byte `end`: a token takes at least a byte.
    fn make_room(&mut self, end: usize) {
        let needed = self.num_ids + (end - self.done) + short::MAX_IDS;
        if self.ids.len() < needed {
            self.ids.resize(needed, 0);
        }
    }
}

/// Queues the words between the set bits of `starts`; `at` is the chunk's place in the text. Returns where they end.
#[inline]
fn push_words(chunk: &[u8; CHUNK], starts: u64, at: usize, scratch: &Scratch, ahead: &mut Ahead) -> usize {
    let mut start = 0;
    let mut left = starts & (starts - 1);
    while left != 0 {
        let end = left.trailing_zeros() as usize;
        left &= left - 1;
        push_word(chunk, start, end, at, scratch, ahead);
        start = end;
    }
    at + start
}

/// Queues the word from `start` to `end` of the chunk, and has its place in memory fetched.
#[inline]
fn push_word(chunk: &[u8; CHUNK], start: usize, end: usize, at: usize, scratch: &Scratch, ahead: &mut Ahead) {
    // `start` is in the window, so the bytes exist.
    let bytes = &chunk[start & (WINDOW - 1)..];
    let length = end - start;
    let key = short::Key::new(bytes.first_chunk().copied().unwrap_or_default(), length);
    let hash = key.hash();
    scratch.short.prefetch(hash);
    if length > short::MAX_BYTES {
        if let Some(key) = bytes.first_chunk().and_then(|bytes| long::Key::new(bytes, length)) {
            scratch.long.prefetch(key);
        }
    }
    ahead.push(Word { key, hash, end: (at + end) as u32 });
}
