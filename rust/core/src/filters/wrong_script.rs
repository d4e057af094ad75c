//! Responses in another script than the wanted ones, as when a model slips into another language.

use unicode_script::{Script, UnicodeScript};

use super::{beginning, filter, Candidate, Filter, FilterOptions, Finding};
use crate::error::{Error, Result};

/// Code points below this one have a bit in the table; letters beyond are looked up.
const TABLE_END: u32 = 0x4_0000;

#[derive(Debug)]
struct WrongScript {
    allowed: Vec<Script>,
    /// The options' names, for the detail.
    names: String,
    /// Two bits for each code point: whether it is a letter, and whether it is one of another script.
    letters: Vec<u64>,
    others: Vec<u64>,
    max_share: f64,
}

/// Made where `allowed_scripts` names any.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    if options.allowed_scripts.is_empty() {
        return Ok(None);
    }
    // Mathematics is written with Greek letters in every language.
    let mut allowed = vec![Script::Common, Script::Inherited, Script::Greek];
    for name in &options.allowed_scripts {
        allowed.push(Script::from_full_name(name).ok_or_else(|| {
            Error::Config(format!(
                "allowed_scripts: {name:?} is no script; use Unicode's names, such as Latin, Han, Cyrillic, Arabic, \
                 Devanagari, Hangul, Hiragana, Katakana, Hebrew, Thai"
            ))
        })?);
    }
    let mut letters = vec![0u64; TABLE_END as usize / 64];
    let mut others = letters.clone();
    for c in (0..TABLE_END).filter_map(char::from_u32).filter(|c| c.is_alphabetic()) {
        letters[c as usize / 64] |= 1 << (c as usize % 64);
        if !allowed.contains(&c.script()) {
            others[c as usize / 64] |= 1 << (c as usize % 64);
        }
    }
    let names = options.allowed_scripts.join(", ");
    filter(WrongScript { allowed, names, letters, others, max_share: options.max_other_script_share })
}

impl Filter for WrongScript {
    fn reasons(&self) -> &'static [&'static str] {
        &["wrong_script"]
    }

    #[allow(clippy::cast_precision_loss)]
    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        let text = candidate.response;
        let (letters, others, first) = self.count(text);
        if others == 0 || others as f64 <= self.max_share * letters as f64 {
            return None;
        }
        let limit = self.max_share * 100.0;
        let sample = beginning(&text[first..], 20);
        let detail = format!(
            "{others} of {letters} letters are not {}, more than {limit} %; the first at byte {first}: {sample:?}",
            self.names
        );
        Some(Finding { reason: "wrong_script", detail })
    }
}

impl WrongScript {
    /// Letters, letters of other scripts, and the byte offset of the first of these.
    fn count(&self, text: &str) -> (usize, usize, usize) {
        let bytes = text.as_bytes();
        let mut letters = bytes.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        let mut others = if self.is_other('a') { letters } else { 0 };
        let mut first = (others > 0).then(|| bytes.iter().position(u8::is_ascii_alphabetic)).flatten();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at].is_ascii() {
                at += ascii_prefix(&bytes[at..]);
                continue;
            }
            let Some(c) = text[at..].chars().next() else { break };
            letters += usize::from(self.is_letter(c));
            if self.is_other(c) {
                others += 1;
                first = Some(first.map_or(at, |first| first.min(at)));
            }
            at += c.len_utf8();
        }
        (letters, others, first.unwrap_or(0))
    }

    fn is_letter(&self, c: char) -> bool {
        bit(&self.letters, c).unwrap_or_else(|| c.is_alphabetic())
    }

    fn is_other(&self, c: char) -> bool {
        bit(&self.others, c).unwrap_or_else(|| c.is_alphabetic() && !self.allowed.contains(&c.script()))
    }
}

fn bit(bits: &[u64], c: char) -> Option<bool> {
    bits.get(c as usize / 64).map(|word| word >> (c as usize % 64) & 1 == 1)
}

/// Length of the ASCII text that `bytes` begin with, eight bytes at a time.
fn ascii_prefix(bytes: &[u8]) -> usize {
    let mut length = 0;
    for word in bytes.chunks_exact(8) {
        let high = u64::from_le_bytes(word.try_into().unwrap_or([0xff; 8])) & 0x8080_8080_8080_8080;
        if high != 0 {
            return length + high.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + bytes[length..].iter().take_while(|byte| byte.is_ascii()).count()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{reason, response};
    use super::*;

    fn check(scripts: &[&str], text: &str) -> bool {
        let allowed_scripts = scripts.iter().map(ToString::to_string).collect();
        let options = FilterOptions { allowed_scripts, ..FilterOptions::default() };
        reason(make, &options, &response(text)).is_none()
    }

    #[test]
    fn scripts_and_texts() {
        for (scripts, text, passes) in [
            (&["Latin"][..], "Let α ≤ π² and x ∈ ℝ, naïve Übung, 𝔸.", true),
            (&["Latin"], "ααα βββ γγγ", true),
            (&["Latin"], "答案是四", false),
            (&["Latin"], "The answer is four (四), I think.", true),
            (&["Latin"], "Wait, 让我再想一想这个问题 again", false),
            (&["Latin"], "Привет", false),
            (&["Latin", "Han"], "Wait, 让我再想一想", true),
            (&["Han"], "让我再想一想: x", false),
            (&["Han"], "让我再想一想这个问题吧: x", true),
            (&["Han", "Hiragana", "Katakana"], "これはテストです、漢字", true),
            (&["Cyrillic"], "Привет", true),
            (&["Latin"], "12345 + 4 = ...", true),
            (&["Latin"], "", true),
        ] {
            assert_eq!(check(scripts, text), passes, "{scripts:?} {text}");
        }
    }

    #[test]
    fn the_share_itself_passes() {
        assert!(check(&["Latin"], &format!("{}四", "a".repeat(9))));
        assert!(!check(&["Latin"], &format!("{}四", "a".repeat(8))));
    }

    #[test]
    fn an_unknown_name_is_an_error() {
        let options = FilterOptions { allowed_scripts: vec!["Elvish".to_string()], ..FilterOptions::default() };
        let message = make(&options).unwrap_err().to_string();
        assert!(message.contains("Elvish") && message.contains("Latin"), "{message}");
    }

    #[test]
    fn ascii_prefix_counts_bytes() {
        for length in 0..40 {
            let text = format!("{}é", "a".repeat(length));
            assert_eq!(ascii_prefix(text.as_bytes()), length);
            assert_eq!(ascii_prefix(&text.as_bytes()[..length]), length);
        }
    }
}
