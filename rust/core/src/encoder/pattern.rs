//! The ways of splitting text into words ("pre-tokens") that the encoder knows, one word at a time over all of Unicode.
//!
//! [`super::window`] finds many words at once where the text is ASCII; both must agree with the regular expressions.

use super::unicode::{Classes, LETTER, NUMBER, SPACE};

/// Qwen2, Qwen2.5, Qwen3 and `make_tokenizer`: one digit is a word.
pub(super) const QWEN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Llama 3: up to three digits are a word.
pub(super) const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// How a text is split into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    /// [`QWEN`].
    Qwen,
    /// [`LLAMA3`].
    Llama3,
    /// The expression inside `ByteLevel(use_regex=true)`:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// `Digits(individual_digits=true)`, then the same within each part.
    Gpt2Digits,
}

impl Pattern {
    /// End of the word that begins at byte `at` of `text`; `at` is smaller than the length.
    pub(super) fn word_end(self, text: &str, at: usize, classes: Classes) -> usize {
        let reader = Reader { text, classes, split_digits: self == Pattern::Gpt2Digits };
        match self {
            Pattern::Qwen => cl100k_end(&reader, at, 1),
            Pattern::Llama3 => cl100k_end(&reader, at, 3),
            Pattern::Gpt2 | Pattern::Gpt2Digits => gpt2_end(&reader, at),
        }
    }
}

/// The family of [`QWEN`] and [`LLAMA3`], alternative by alternative.
fn cl100k_end(reader: &Reader<'_>, at: usize, max_digits: usize) -> usize {
    let Some(first) = reader.at(at) else { return reader.text.len() };
    if first.character == '\'' {
        if let Some(end) = contraction_end(&reader.text[first.end..], true) {
            return first.end + end;
        }
    }
    if first.class & LETTER != 0 {
        return reader.run_end(first.end, |next| next.class & LETTER != 0);
    }
    if first.class & NUMBER != 0 {
        let mut left = max_digits;
        return reader.run_end(at, |next| {
            left = left.wrapping_sub(1);
            left < max_digits && next.class & NUMBER != 0
        });
    }
    let second = reader.at(first.end);
    if !is_line_end(first.character) && second.is_some_and(|next| next.class & LETTER != 0) {
        return reader.run_end(first.end, |next| next.class & LETTER != 0);
    }
    let symbols = if first.character == ' ' { first.end } else { at };
    let end = reader.run_end(symbols, Unit::is_symbol);
    if end > symbols {
        return reader.run_end(end, |next| is_line_end(next.character));
    }
    let run = reader.space_run(at);
    run.after_line_end.unwrap_or_else(|| run.end_before_word(reader))
}

/// The expression of [`Pattern::Gpt2`], alternative by alternative.
fn gpt2_end(reader: &Reader<'_>, at: usize) -> usize {
    let Some(first) = reader.at(at) else {
        // Only with `split_digits`: a digit is a part of its own.
        return at + reader.text[at..].chars().next().map_or(1, char::len_utf8);
    };
    if first.character == '\'' {
        if let Some(end) = contraction_end(&reader.text[first.end..], false) {
            return first.end + end;
        }
    }
    let start = if first.character == ' ' { first.end } else { at };
    let kind = reader.at(start).map(|unit| unit.class & (LETTER | NUMBER | SPACE));
    match kind {
        Some(kind) if kind & SPACE == 0 => reader.run_end(start, |next| next.class & (LETTER | NUMBER | SPACE) == kind),
        _ => reader.space_run(at).end_before_word(reader),
    }
}

/// Length of the contraction's letters at the start of `text`, which follows an apostrophe: s, t, re, ve, m, ll or d.
fn contraction_end(text: &str, ignore_case: bool) -> Option<usize> {
    let mut letters =
        text.chars().map(|character| if ignore_case { character.to_ascii_lowercase() } else { character });
    match letters.next()? {
        's' | 't' | 'm' | 'd' => Some(1),
        // The long s is the one other character that equals a letter of these when case does not count.
        '\u{17F}' if ignore_case => Some(2),
        'r' | 'v' => (letters.next()? == 'e').then_some(2),
        'l' => (letters.next()? == 'l').then_some(2),
        _ => None,
    }
}

fn is_line_end(character: char) -> bool {
    matches!(character, '\r' | '\n')
}

/// One character of the text.
#[derive(Clone, Copy)]
struct Unit {
    character: char,
    class: u8,
    /// Where the next one begins.
    end: usize,
}

impl Unit {
    fn is_symbol(self) -> bool {
        self.class & (LETTER | NUMBER | SPACE) == 0
    }
}

/// A run of white space.
struct SpaceRun {
    start: usize,
    end: usize,
    /// Where its last character begins.
    last: usize,
    /// Just after its last carriage return or line feed, when it has one.
    after_line_end: Option<usize>,
}

impl SpaceRun {
    /// `\s+(?!\S)|\s+`: leaves the last character to the word that follows, if there is one to leave.
    fn end_before_word(&self, reader: &Reader<'_>) -> usize {
        if reader.at(self.end).is_none() || self.last == self.start {
            self.end
        } else {
            self.last
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    classes: Classes,
    /// Whether a digit ends the text, since the text is split there before.
    split_digits: bool,
}

impl Reader<'_> {
    /// The character at byte `at`; None at the end.
    fn at(&self, at: usize) -> Option<Unit> {
        let character = self.text[at..].chars().next()?;
        // The split at digits asks Rust's standard library, whose Unicode version is another than the expression's.
        if self.split_digits && character.is_numeric() {
            return None;
        }
        Some(Unit { character, class: self.classes.of(character), end: at + character.len_utf8() })
    }

    /// Where the characters from `at` on stop to be `inside`.
    fn run_end(&self, mut at: usize, mut inside: impl FnMut(Unit) -> bool) -> usize {
        while let Some(unit) = self.at(at) {
            if !inside(unit) {
                break;
            }
            at = unit.end;
        }
        at
    }

    fn space_run(&self, start: usize) -> SpaceRun {
        let (mut last, mut after_line_end) = (start, None);
        let end = self.run_end(start, |unit| {
            let inside = unit.class & SPACE != 0;
            if inside {
                last = unit.end - unit.character.len_utf8();
                if is_line_end(unit.character) {
                    after_line_end = Some(unit.end);
                }
            }
            inside
        });
        SpaceRun { start, end, last, after_line_end }
    }
}
