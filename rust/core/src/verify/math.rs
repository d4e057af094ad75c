//! Exact match of a boxed answer, after light normalisation.
//!
//! Two answers agree when their normalised spellings are equal, or when both are plain numbers (integer, decimal or
//! fraction) of the same value. Nothing is simplified: `2\sqrt{2}` and `\sqrt{8}` differ here.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Pow, Zero};

use super::{final_answer, shown, Failure};

/// Answers longer than this are compared as text only: parsing a number of that length would take long.
const MOST_DIGITS: usize = 200;

/// Compares the last boxed text after the trace with `answer`.
///
/// ```
/// use megatron_sft_core::verify::verify_math;
/// assert!(verify_math(r"<think>..</think> \boxed{\dfrac{1}{2}}", "0.5").is_ok());
/// assert!(verify_math(r"<think>\boxed{0.5}</think> so a half", "0.5").is_err());
/// ```
pub fn verify_math(response: &str, answer: &str) -> Result<(), Failure> {
    let boxed = final_answer(response)?;
    let (found, expected) = (normalise(boxed), normalise(answer));
    if found.is_empty() {
        return Err(Failure::WrongAnswer("the box is empty".to_string()));
    }
    let same = found == expected
        || matches!((number(&found), number(&expected)), (Some(found), Some(expected)) if found == expected);
    if same {
        return Ok(());
    }
    Err(Failure::WrongAnswer(format!("{} is not {}", shown(boxed), shown(answer))))
}

/// One spelling for what differs only in typesetting.
fn normalise(answer: &str) -> String {
    let mut text = answer.trim().to_string();
    for (spelling, plain) in [
        ("−", "-"),
        (r"\dfrac", r"\frac"),
        (r"\tfrac", r"\frac"),
        (r"\left", ""),
        (r"\right", ""),
        (r"\!", ""),
        (r"\,", ""),
        (r"\;", ""),
        (r"\:", ""),
        (r"\ ", ""),
        (r"\(", ""),
        (r"\)", ""),
        (r"\$", ""),
        ("$", ""),
        ("{,}", ","),
    ] {
        // \left and \right must not eat the start of \leftarrow, nor \, the comma of \\,
        text = if spelling.ends_with(|c: char| c.is_ascii_alphabetic()) {
            replace_command(&text, spelling, plain)
        } else {
            text.replace(spelling, plain)
        };
    }
    for command in [r"\text", r"\mathrm", r"\textbf", r"\mathbf"] {
        text = unwrap_command(&text, command);
    }
    let mut text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
    if text.ends_with('.') {
        text.pop();
    }
    without_thousands_separators(&text).unwrap_or(text)
}

/// Replaces the LaTeX command, not a longer one that begins with it.
fn replace_command(text: &str, command: &str, plain: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(command) {
        let (before, after) = (&rest[..at], &rest[at + command.len()..]);
        result.push_str(before);
        let whole = !after.starts_with(|c: char| c.is_ascii_alphabetic());
        result.push_str(if whole { plain } else { command });
        rest = after;
    }
    result.push_str(rest);
    result
}

/// `\text{ab}c` becomes `abc`.
fn unwrap_command(text: &str, command: &str) -> String {
    let opening = format!("{command}{{");
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(&opening) {
        result.push_str(&rest[..at]);
        rest = &rest[at + opening.len()..];
        let Some(end) = closing_brace(rest) else {
            result.push_str(&opening);
            break;
        };
        result.push_str(&rest[..end]);
        rest = &rest[end + 1..];
    }
    result.push_str(rest);
    result
}

/// Where the brace that is open at the start of `text` closes.
fn closing_brace(text: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// `-1,234,567.5` without its commas; None when the commas do not separate thousands.
fn without_thousands_separators(text: &str) -> Option<String> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let whole = unsigned.split('.').next()?;
    let mut groups = whole.split(',');
    let digits = |group: &str| group.bytes().all(|byte| byte.is_ascii_digit());
    let first = groups.next()?;
    let grouped = (1..=3).contains(&first.len()) && digits(first);
    let mut rest = groups.peekable();
    let separated = rest.peek().is_some() && rest.all(|group| group.len() == 3 && digits(group));
    (grouped && separated && !unsigned[whole.len()..].contains(',')).then(|| text.replace(',', ""))
}

/// The value of an integer, a decimal, `a/b` or `\frac{a}{b}`, each with an optional sign.
fn number(text: &str) -> Option<BigRational> {
    if text.len() > MOST_DIGITS {
        return None;
    }
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let value = match fraction_parts(unsigned) {
        Some((numerator, denominator)) => {
            let denominator = signed_decimal(denominator)?;
            if denominator.is_zero() {
                return None;
            }
            signed_decimal(numerator)? / denominator
        }
        None => decimal(unsigned)?,
    };
    Some(if negative { -value } else { value })
}

fn fraction_parts(text: &str) -> Option<(&str, &str)> {
    if let Some(rest) = text.strip_prefix(r"\frac") {
        if let Some(rest) = rest.strip_prefix('{') {
            let (numerator, denominator) = rest.split_once("}{")?;
            return Some((numerator, denominator.strip_suffix('}')?));
        }
        // \frac12 is a half.
        let both_digits = rest.len() == 2 && rest.bytes().all(|byte| byte.is_ascii_digit());
        return both_digits.then(|| rest.split_at(1));
    }
    text.split_once('/')
}

fn signed_decimal(text: &str) -> Option<BigRational> {
    match text.strip_prefix('-') {
        Some(rest) => decimal(rest).map(|value| -value),
        None => decimal(text),
    }
}

fn decimal(text: &str) -> Option<BigRational> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = format!("{whole}{part}");
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let scale: BigInt = BigInt::from(10).pow(part.len());
    Some(BigRational::new(digits.parse().ok()?, scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(boxed: &str, answer: &str) -> bool {
        verify_math(&format!("</think>\\boxed{{{boxed}}}"), answer).is_ok()
    }

    #[test]
    fn equal_answers() {
        for (boxed, answer) in [
            ("42", "42"),
            (" 42. ", "42"),
            ("042", "42"),
            ("1,234", "1234"),
            ("1{,}234{,}567", "1234567"),
            ("3.50", "7/2"),
            (r"\dfrac{7}{2}", "3.5"),
            (r"-\frac{7}{2}", r"\frac{-7}{2}"),
            (r"\frac12", "0.5"),
            (r"\left( 1, 2 \right)", "(1,2)"),
            (r"\text{yes}", "yes"),
            (r"\text{ (B) }", "(B)"),
            (r"$x^2$", "x^2"),
            ("−5", "-5"),
            (r"2 \sqrt{3}", r"2\sqrt{3}"),
            ("100000000000000000000001", "100000000000000000000001.0"),
        ] {
            assert!(same(boxed, answer), "{boxed} and {answer}");
        }
    }

    #[test]
    fn different_answers() {
        for (boxed, answer) in [
            ("41", "42"),
            ("-42", "42"),
            ("", ""),
            ("1,23", "123"),
            ("(1,234)", "(1234)"),
            (r"\sqrt{8}", r"2\sqrt{2}"),
            ("100000000000000000000001", "100000000000000000000002"),
            ("1/0", "2/0"),
            ("3.14", r"\pi"),
            (r"\leftarrow", "arrow"),
            (r"\text{a", "a"),
        ] {
            assert!(!same(boxed, answer), "{boxed} and {answer}");
        }
    }

    #[test]
    fn a_box_in_the_trace_is_no_answer() {
        assert_eq!(verify_math(r"<think>\boxed{1}</think>", "1"), Err(Failure::NoBoxedAnswer));
    }
}
