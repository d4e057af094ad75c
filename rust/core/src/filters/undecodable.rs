//! Text that was damaged on its way: replacement characters, control characters, code points that mean nothing.

use std::sync::LazyLock;

use unicode_script::{Script, UnicodeScript};

use super::{filter, surroundings, Candidate, Filter, FilterOptions, Finding};
use crate::error::Result;

/// Bytes that are looked at together; a block of plain text is passed over whole.
const BLOCK: usize = 32;
/// Code points below this one have a bit in [`MEANINGLESS`].
const TABLE_END: u32 = 0x4_0000;

/// One bit for each code point: set where it is control (but for tab and line ends), private, unassigned or U+FFFD.
static MEANINGLESS: LazyLock<Vec<u64>> = LazyLock::new(|| {
    let mut bits = vec![0u64; TABLE_END as usize / 64];
    for c in (0..TABLE_END).filter_map(char::from_u32).filter(|c| is_meaningless(*c)) {
        bits[c as usize / 64] |= 1 << (c as usize % 64);
    }
    bits
});

/// The script `Unknown` is Unicode's word for private, unassigned and non-characters.
fn is_meaningless(c: char) -> bool {
    let control = c.is_control() && !matches!(c, '\t' | '\n' | '\r');
    control || c == char::REPLACEMENT_CHARACTER || c.script() == Script::Unknown
}

#[derive(Debug)]
struct Undecodable {
    max_share: f64,
}

/// Made unless `max_undecodable_share` is None.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    options.max_undecodable_share.map_or(Ok(None), |max_share| filter(Undecodable { max_share }))
}

impl Filter for Undecodable {
    fn reasons(&self) -> &'static [&'static str] {
        &["undecodable"]
    }

    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        let text = candidate.response;
        let Found { number, first, nul } = find(text)?;
        let found = |what: String, at: usize| {
            let detail = format!("{what} at byte {at}: {:?}", surroundings(text, at, 20));
            Some(Finding { reason: "undecodable", detail })
        };
        if let Some(at) = nul {
            return found("a NUL character".to_string(), at);
        }
        let characters = text.chars().count();
        #[allow(clippy::cast_precision_loss)]
        let share = number as f64 / characters as f64;
        if share <= self.max_share {
            return None;
        }
        let limit = self.max_share * 100.0;
        let what = format!("{number} of {characters} characters mean nothing, more than {limit} %; the first");
        found(what, first)
    }
}

/// The damage in a text.
struct Found {
    /// Characters that mean nothing.
    number: usize,
    /// Byte offset of the first of them.
    first: usize,
    /// Byte offset of the first NUL.
    nul: Option<usize>,
}

fn find(text: &str) -> Option<Found> {
    let table = MEANINGLESS.as_slice();
    let bytes = text.as_bytes();
    let mut found: Option<Found> = None;
    // Where the next character that has not been looked at begins.
    let mut next = 0;
    for start in (0..bytes.len()).step_by(BLOCK) {
        let end = (start + BLOCK).min(bytes.len());
        if bytes[start..end].iter().fold(false, |any, byte| any | is_suspect(*byte)) {
            let from = next.max(start);
            // Characters that begin in this block; the last one may end in the next.
            for (offset, c) in text[from..].char_indices().take_while(|(offset, _)| from + offset < end) {
                next = from + offset + c.len_utf8();
                let code = c as usize;
                let meaningless = table.get(code / 64).map_or_else(|| is_meaningless(c), |w| w >> (code % 64) & 1 == 1);
                if meaningless {
                    let found = found.get_or_insert(Found { number: 0, first: from + offset, nul: None });
                    found.number += 1;
                    if c == '\0' && found.nul.is_none() {
                        found.nul = Some(from + offset);
                    }
                }
            }
        }
    }
    found
}

/// Whether the byte is part of no ordinary ASCII text. Without a branch, so that the compiler takes many at a time.
fn is_suspect(byte: u8) -> bool {
    (byte >= 0x7f) | ((byte < b' ') & (byte != b'\n') & (byte != b'\t') & (byte != b'\r'))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{reason, response};
    use super::*;

    fn found(text: &str) -> Option<(usize, usize)> {
        find(text).map(|found| (found.number, found.first))
    }

    #[test]
    fn each_kind_of_damage() {
        for text in
            ["\u{fffd}", "\u{8}oxed", "\u{c}rac", "\u{7f}", "\u{85}", "\u{e000}", "\u{378}", "\u{ffff}", "\u{10fffd}"]
        {
            assert_eq!(found(&format!("a{text}")), Some((1, 1)), "{text:?}");
        }
    }

    #[test]
    fn ordinary_text_of_any_language() {
        for text in [
            "",
            "a\r\n\tb",
            "π ≤ ∞ → ℝ ⟨x⟩",
            "你好，世界。",
            "Привет, мир",
            "😀👩\u{200d}🔬",
            "\u{feff}a\u{a0}\u{ad}b",
            "𝔸",
        ] {
            assert_eq!(found(text), None, "{text:?}");
        }
    }

    #[test]
    fn every_position_is_seen_once() {
        // Characters of 1, 2 and 3 bytes straddle the blocks in every way.
        for filler in ["a", "é", "中", "a中é"] {
            for before in 0..3 * BLOCK {
                let text = format!("{}\u{fffd}{}\u{1}", filler.repeat(before), filler.repeat(BLOCK));
                assert_eq!(found(&text), Some((2, filler.len() * before)), "{filler} {before}");
            }
        }
    }

    #[test]
    fn a_share_is_needed_but_one_nul_suffices() {
        let options = FilterOptions::default();
        for (text, expected) in [
            (format!("{}\u{fffd}", "a".repeat(998)), Some("undecodable")),
            (format!("{}\u{fffd}", "a".repeat(999)), None),
            (format!("{}\u{fffd}", "中".repeat(998)), Some("undecodable")),
            (format!("{}\0", "a".repeat(9999)), Some("undecodable")),
        ] {
            assert_eq!(reason(make, &options, &response(&text)), expected);
        }
        assert!(make(&FilterOptions { max_undecodable_share: None, ..options }).unwrap().is_none());
    }
}
