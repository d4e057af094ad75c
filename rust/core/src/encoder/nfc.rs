//! Unicode's canonical composition, NFC, at the cost of a scan for text that has nothing to compose.

use std::borrow::Cow;

use unicode_normalization_alignments::UnicodeNormalization;

use super::unicode::{Classes, UNSTABLE};

/// First byte of the encoding of U+0300, before which no code point is unstable.
const FIRST_UNSTABLE_LEAD: u8 = 0xCC;

/// NFC of `text`, by the tables of the Hugging Face wheel; borrowed when nothing can change.
///
/// Between two stable characters a text can be cut: its NFC is that of the parts. So only the unstable characters, with
/// the one before them that they may join, go through the full algorithm.
pub(super) fn normalize(text: &str, classes: Classes) -> Cow<'_, str> {
    let Some(mut unstable) = find_unstable(text, 0, classes) else { return Cow::Borrowed(text) };
    let mut normalized = String::with_capacity(text.len() + 16);
    let mut copied = 0;
    loop {
        let start = text[copied..unstable].char_indices().next_back().map_or(copied, |(at, _)| copied + at);
        let end = text[unstable..]
            .char_indices()
            .find(|(_, character)| classes.of(*character) & UNSTABLE == 0)
            .map_or(text.len(), |(at, _)| unstable + at);
        normalized.push_str(&text[copied..start]);
        normalized.extend(text[start..end].nfc().map(|(character, _)| character));
        copied = end;
        match find_unstable(text, end, classes) {
            Some(next) => unstable = next,
            None => break,
        }
    }
    normalized.push_str(&text[copied..]);
    Cow::Owned(normalized)
}

/// Position of the first unstable character at or after `from`.
fn find_unstable(text: &str, from: usize, classes: Classes) -> Option<usize> {
    const BLOCK: usize = 64;
    let bytes = text.as_bytes();
    let mut at = from;
    loop {
        // A block's maximum is computed without a branch per byte.
        while let Some(block) = bytes.get(at..at + BLOCK) {
            if block.iter().fold(0, |max, byte| max.max(*byte)) >= FIRST_UNSTABLE_LEAD {
                break;
            }
            at += BLOCK;
        }
        // Continuation bytes are smaller than this lead, so the position is a character's first byte.
        at += bytes[at..].iter().position(|byte| *byte >= FIRST_UNSTABLE_LEAD)?;
        // Such characters come in groups: stay with them for a while before the next block.
        for (offset, character) in text[at..].char_indices().take(BLOCK) {
            if classes.of(character) & UNSTABLE != 0 {
                return Some(at + offset);
            }
        }
        at += text[at..].char_indices().nth(BLOCK).map(|(offset, _)| offset)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_without_marks_is_borrowed() {
        for text in
            ["", "plain text, and more than one block of it: 0123456789 0123456789 0123456789", "é ü 中文 한국 ½"]
        {
            assert!(matches!(normalize(text, Classes::get()), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn marks_join_what_stands_before_them() {
        for (text, expected) in [
            ("e\u{301}", "é"),
            ("x e\u{301}y", "x éy"),
            ("\u{301}a", "\u{301}a"),
            ("q\u{307}\u{323}", "q\u{323}\u{307}"),
            ("\u{1112}\u{1161}\u{11AB}", "한"),
            ("\u{212B}ngstrom", "\u{C5}ngstrom"),
        ] {
            assert_eq!(normalize(text, Classes::get()), expected);
            let long = format!("{}{text}", "中".repeat(200));
            assert_eq!(normalize(&long, Classes::get()), format!("{}{expected}", "中".repeat(200)));
        }
    }
}
