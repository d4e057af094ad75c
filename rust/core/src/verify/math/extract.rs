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
    plain && !["\\boxed", "\\fbox"].iter().any(|word| text.contains(word)) && !contains_ignoring_case(text, "answer")
}

fn contains_ignoring_case(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()))
}

/// What math-verify reads from a box that it cannot parse.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fallback<'a> {
    /// Nothing: only the spelling is compared.
    Nothing,
    /// A number that stands alone in the text.
    Number(&'a str),
    /// Some number or calculation.
    Some,
}

/// What is left to read from a box that cannot be parsed; None where it may be more than numbers.
///
/// Numbers are looked for behind white space and behind "=", and the last one counts. `answer` is the whole content.
pub(super) fn fallback(answer: &str) -> Option<Fallback<'_>> {
    // Dollar signs and brackets with a backslash begin LaTeX; an escaped dollar sign does not.
    let dollars = answer.match_indices('$').any(|(at, _)| !answer[..at].ends_with('\\'));
    let brackets = answer.contains(" [") && answer.contains("] ");
    if dollars || brackets || ["\\(", "\\[", "**"].iter().any(|mark| answer.contains(mark)) {
        return None;
    }
    if answer.match_indices("\\frac{").any(|(at, command)| simple_fraction(&answer[at + command.len()..])) {
        return (answer.matches("\\frac").count() == 1).then_some(Fallback::Some);
    }
    let mut found = Fallback::Nothing;
    for (at, _) in answer.char_indices().filter(|(_, c)| c.is_ascii_whitespace() || *c == '=') {
        let rest = &answer[at + 1..];
        match number(rest) {
            Some(number) if !calculates(rest) => found = Fallback::Number(number),
            None if !calculates(rest) && !begins_number(rest) => {}
            // Powers of powers may be more than a calculation.
            _ => return (!answer.contains('^')).then_some(Fallback::Some),
        }
    }
    Some(found)
}

fn begins_number(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    text.strip_prefix('.').unwrap_or(text).starts_with(digit)
}

fn digit(c: char) -> bool {
    c.is_ascii_digit()
}

/// Whether a text begins a calculation: digits, points, white space and operators, with something behind an operator.
fn calculates(text: &str) -> bool {
    let text = text.strip_prefix('-').unwrap_or(text);
    let text = text.strip_prefix('(').unwrap_or(text);
    let text = text.strip_prefix('-').unwrap_or(text);
    let run = text.find(|c: char| !(digit(c) || c.is_ascii_whitespace() || ".+-*/^()".contains(c)));
    let run = &text[..run.unwrap_or(text.len())];
    run.starts_with(digit) && run[..run.len() - 1].contains(['+', '-', '*', '/', '^', '(', ')'])
}

/// `5` of `$5$.`, as sentences have it.
pub(super) fn before_a_point(answer: &str) -> Option<&str> {
    let inner = answer.trim().strip_prefix('$')?.strip_suffix("$.")?;
    (!inner.is_empty() && !inner.contains(['$', '\n']) && !inner.ends_with('\\')).then_some(inner)
}

/// Whether `rest` goes on as `1}{2}`: a fraction of two numbers is looked for anywhere.
fn simple_fraction(rest: &str) -> bool {
    let mut parts = rest.splitn(3, '}');
    let number = |part: Option<&str>| {
        part.is_some_and(|part| part.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'-' | b'.' | b',')))
    };
    number(parts.next()) && number(parts.next().and_then(|part| part.strip_prefix('{')))
}

/// The number that a text begins with, if it is plainly one: no separators, no percent sign, no calculation.
fn number(text: &str) -> Option<&str> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(text.starts_with('-'));
    let whole = digits(&text[sign..]);
    let mut length = sign + whole;
    if whole == 0 {
        return None;
    }
    if text[length..].starts_with('.') {
        let decimals = digits(&text[length + 1..]);
        length += if decimals > 0 { decimals + 1 } else { 0 };
    }
    let rest = &text[length..];
    let separated = rest.strip_prefix([' ', ',']).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let percent = rest.trim_start().starts_with(['%', 'p', 'P']);
    (!separated && !percent).then_some(&text[..length])
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
    fn what_is_left_of_a_box() {
        for (text, expected) in [
            ("5.", Some(Fallback::Nothing)),
            ("y = 1344.", Some(Fallback::Number("1344"))),
            ("n =  - 1.", Some(Fallback::Number("1"))),
            ("x=-2.5.", Some(Fallback::Number("-2.5"))),
            ("1, 2, 3.", Some(Fallback::Number("3"))),
            ("[2, 1, 1)", Some(Fallback::Number("1"))),
            ("[2, 1, 000)", Some(Fallback::Number("000"))),
            ("[2, 1 000)", Some(Fallback::Some)),
            ("x = 1 + 1.", Some(Fallback::Some)),
            ("x = 50%.", Some(Fallback::Some)),
            (r"\frac{1}{2}.", Some(Fallback::Some)),
            ("$5$.", None),
            ("9^9.", Some(Fallback::Nothing)),
            ("x=9^9.", None),
        ] {
            assert_eq!(fallback(text), expected, "{text}");
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
