//! The class of every code point, and the one surprise of comparing without case.

use megatron_sft_core::encoder::classes_of;
use onig::Regex;
use unicode_normalization_alignments::{char as tables, UnicodeNormalization};

fn code_points() -> impl Iterator<Item = char> {
    (0..=u32::from(char::MAX)).filter_map(char::from_u32)
}

#[test]
fn letters_numbers_and_spaces_are_onigurumas() {
    for (bit, expression) in [(1, r"\p{L}"), (2, r"\p{N}"), (4, r"\s")] {
        let regex = Regex::new(expression).unwrap();
        let mut num_members = 0;
        for character in code_points() {
            let expected = regex.is_match(character.encode_utf8(&mut [0; 4]));
            assert_eq!(classes_of(character) & bit != 0, expected, "{expression} on U+{:04X}", character as u32);
            num_members += usize::from(expected);
        }
        assert!(num_members >= 20, "{expression} matched {num_members} code points");
    }
}

/// Stable is a code point that composes to itself, is no mark, and stands first in every decomposition it occurs in;
/// so is then the first character of its own decomposition.
#[test]
fn stable_characters_never_change_under_nfc() {
    let size = char::MAX as usize + 1;
    let (mut first, mut joins) = (vec!['\0'; size], vec![false; size]);
    for character in code_points() {
        let mut position = 0;
        tables::decompose_canonical(character, |part| {
            if position == 0 {
                first[character as usize] = part;
            } else {
                joins[part as usize] = true;
            }
            position += 1;
        });
    }
    let mark = |character| tables::canonical_combining_class(character) != 0;
    for character in code_points() {
        let text = character.to_string();
        let changed = !text.as_str().nfc().map(|(part, _)| part).eq(text.chars());
        let start = first[character as usize];
        let expected = changed || mark(character) || mark(start) || joins[character as usize] || joins[start as usize];
        assert_eq!(classes_of(character) & 8 != 0, expected, "U+{:04X}", character as u32);
        assert!(!expected || character >= '\u{300}', "the scan relies on U+0300 being the first");
    }
}

/// `(?i:'s)` matches an apostrophe and the long s (U+017F), and no other character stands for letters of a contraction.
#[test]
fn only_the_long_s_folds_into_contractions() {
    let regex = Regex::new(r"^(?i:'s|'t|'re|'ve|'m|'ll|'d)$").unwrap();
    let mut matched = Vec::new();
    for character in code_points().filter(|character| !character.is_ascii()) {
        for text in ["", "l", "e", "r", "v"].iter().flat_map(|letter| {
            [format!("'{character}{letter}"), format!("'{letter}{character}"), format!("{character}{letter}")]
        }) {
            if regex.is_match(&text) {
                matched.push(text);
            }
        }
    }
    matched.dedup();
    assert_eq!(matched, ["'\u{17F}"]);
}
