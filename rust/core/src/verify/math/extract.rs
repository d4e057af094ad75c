//! Which piece of text math-verify reads: it searches its input for LaTeX before it parses anything.
//!
//! A gold answer is handed over as `$gold$`, a boxed one as `\boxed{answer}`. Where the text holds neither words that the
//! search reacts to nor further delimiters, the whole of it is what is found first.

/// Longer answers are left to math-verify.
const LONGEST: usize = 400;

/// What the delimiters around a gold answer enclose; None where the search may find something else.
pub(super) fn gold(gold: &str) -> Option<&str> {
    if !searchable(gold) || gold.contains('\n') {
        return None;
    }
    if let Some(inner) = gold.strip_prefix('$').and_then(|text| text.strip_suffix('$')) {
        // "$5$" arrives as "$$5$$": display mathematics. A lone "$" within it is dropped later on.
        let plain = !inner.is_empty() && !inner.starts_with('$') && !inner.ends_with(['$', '\\']);
        return (plain && !inner.contains("$$") && !inner.contains("\\$")).then_some(inner);
    }
    let escaped = gold.match_indices('$').all(|(at, _)| gold[..at].ends_with('\\'));
    (escaped && !gold.is_empty() && !gold.ends_with('\\')).then_some(gold)
}

/// Content of the box, stripped; None where the search may find something else.
pub(super) fn boxed(answer: &str) -> Option<&str> {
    // The box ends at its last brace only if those inside balance; an escaped brace counts like any other.
    let mut depth = 0usize;
    for byte in answer.bytes() {
        match byte {
            b'{' => depth += 1,
            b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
    }
    (depth == 0 && searchable(answer)).then(|| answer.trim())
}

fn searchable(text: &str) -> bool {
    let plain = text.len() <= LONGEST && text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n' | b'\t'));
    // "answer" and "final answer" move the search to another place; a box in the text does so too.
    plain && !["box", "fbox"].iter().any(|word| text.contains(word)) && !contains_ignoring_case(text, "answer")
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// Whether a failed parse of the box leaves nothing else to read: no other place in it begins a number, a simple fraction
/// or LaTeX. `answer` is the whole content, since white space counts.
pub(super) fn only_the_box(answer: &str) -> bool {
    let elsewhere = |at: usize| {
        // A number or a calculation is looked for at the start of words and behind "=".
        answer[at..].starts_with(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-' | '(' | '*' | '[' | '$'))
    };
    let begins = answer.char_indices().any(|(at, c)| (c.is_ascii_whitespace() || c == '=') && elsewhere(at + 1));
    let fraction = answer.match_indices("\\frac{").any(|(at, command)| elsewhere(at + command.len()));
    !begins && !fraction && !["$", "\\(", "\\["].iter().any(|mark| answer.contains(mark))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gold_answers() {
        for (text, expected) in [
            ("5", Some("5")),
            ("$5$", Some("5")),
            (r"\$5", Some(r"\$5")),
            ("$1$,$2$", Some("1$,$2")),
            ("$$5$$", None),
            ("5$", None),
            ("", None),
            ("the answer is 5", None),
            (r"\boxed{5}", None),
            ("5\n6", None),
        ] {
            assert_eq!(gold(text), expected, "{text}");
        }
    }

    #[test]
    fn boxed_answers() {
        for (text, expected) in [
            (" 5 ", Some("5")),
            (r"\frac{1}{2}", Some(r"\frac{1}{2}")),
            (r"\{1\}", Some(r"\{1\}")),
            (r"\{1", None),
            ("}{", None),
            ("é", None),
        ] {
            assert_eq!(boxed(text), expected, "{text}");
        }
    }
}
