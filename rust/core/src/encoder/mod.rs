//! Text to ids for byte-level byte-pair encoding, with exactly the ids of Hugging Face's `tokenizers` and far less work.
//!
//! The path of a text, as there: added tokens are cut out ([`added`]), the rest is normalized ([`nfc`]), split into
//! words ([`pattern`], [`window`]), and each word is merged ([`merges`]) unless its ids are remembered ([`cache`]).
//! [`json`] reads `tokenizer.json` and refuses what is not known to be computed exactly; for that there is the crate
//! `tokenizers`.

mod added;
mod cache;
mod json;
mod merges;
mod nfc;
mod pattern;
mod unicode;
mod unicode_ranges;
mod vocabulary;
mod window;

use std::sync::atomic::{AtomicU64, Ordering};

use added::AddedTokens;
pub use cache::Scratch;
use cache::{Key, MAX_SHORT};
use merges::Merges;
use pattern::Pattern;
pub use unicode::classes_of;
use unicode::Classes;
use vocabulary::Vocabulary;
use window::{word_starts, CHUNK, WINDOW};

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
        // A token takes at least a byte, and room for three more lets each word write a fixed number of ids.
        let mut found = [0; WINDOW + 4];
        let mut rest = [0; CHUNK];
        let mut at = 0;
        while at < bytes.len() {
            let ascii = bytes[at] < 0x80 && bytes.get(at + 1).is_none_or(|byte| *byte < 0x80);
            let chunk = match bytes[at..].first_chunk::<CHUNK>() {
                Some(chunk) => chunk,
                None => {
                    rest.fill(0);
                    rest[..bytes.len() - at].copy_from_slice(&bytes[at..]);
                    &rest
                }
            };
            let starts = if ascii { word_starts(self.pattern, chunk, bytes.len() - at) } else { 1 };
            let end = WINDOW - 1 - starts.leading_zeros() as usize;
            if end == 0 {
                let end = self.pattern.word_end(text, at, self.classes);
                self.word(&bytes[at..end], scratch, ids);
                at = end;
                continue;
            }
            let num_found = self.words(chunk, starts, scratch, &mut found);
            ids.extend_from_slice(&found[..num_found]);
            at += end;
        }
    }

    /// Writes the ids of the words between the set bits of `starts` to `found` and returns their number.
    #[inline]
    fn words(&self, chunk: &[u8; CHUNK], starts: u64, scratch: &mut Scratch, found: &mut [u32; WINDOW + 4]) -> usize {
        let (mut start, mut num_found) = (0, 0);
        let mut left = starts & (starts - 1);
        while left != 0 {
            let end = left.trailing_zeros() as usize;
            left &= left - 1;
            let length = end - start;
            let key = key_at(chunk, start, length);
            match scratch.words.at_home(key) {
                // No key in the cache has a length above MAX_SHORT, so longer words never come here.
                Some(known) => {
                    // More than there may be: what follows overwrites the rest.
                    found[num_found..num_found + 4].copy_from_slice(known);
                    num_found += known[3] as usize;
                }
                None => {
                    let word = &chunk[start..end];
                    let fresh = self.ids_of_word(word, scratch);
                    found[num_found..num_found + fresh.len()].copy_from_slice(fresh);
                    num_found += fresh.len();
                }
            }
            start = end;
        }
        num_found
    }

    /// Appends the ids of one word of any length.
    fn word(&self, word: &[u8], scratch: &mut Scratch, ids: &mut Vec<u32>) {
        ids.extend_from_slice(self.ids_of_word(word, scratch));
    }

    /// The ids of `word`, from the scratch or by merging.
    #[inline(never)]
    fn ids_of_word<'a>(&self, word: &[u8], scratch: &'a mut Scratch) -> &'a [u32] {
        let Scratch { words, long, fresh, .. } = scratch;
        let key = (word.len() <= MAX_SHORT).then(|| {
            let mut padded = [0; 16];
            padded[..word.len()].copy_from_slice(word);
            Key::new(padded, word.len())
        });
        let known = match key {
            Some(key) => words.find(key),
            None => long.find(word),
        };
        fresh.clear();
        if let Some(known) = known {
            fresh.extend_from_slice(known);
            return fresh;
        }
        match self.ignore_merges.then(|| self.vocabulary.id_of_bytes(word)).flatten() {
            Some(id) => fresh.push(id),
            None => self.merges.apply(word, fresh),
        }
        match key {
            Some(key) => words.insert(key, fresh),
            None => long.insert(word, fresh),
        }
        fresh
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

/// The key of `length` bytes of `chunk` from `start` on.
#[inline]
fn key_at(chunk: &[u8; CHUNK], start: usize, length: usize) -> Key {
    // `start` lies in the window, so the 16 bytes always exist.
    let bytes = chunk[start & (WINDOW - 1)..].first_chunk().copied().unwrap_or_default();
    Key::new(bytes, length)
}
