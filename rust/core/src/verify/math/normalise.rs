//! The spelling that math-verify parses: commands and units that it drops, fractions and roots that it completes.
//!
//! Every step follows its namesake there, in the same order, since one step feeds the next. A text on which a step would do
//! something not written down here gives None.

use super::units::without_units;

/// What no step here deals with: each of these is rewritten there in ways that depend on what surrounds it.
const UNTOLD: [&str; 11] =
    ["{matrix", "array", "perc", "pct", ")_{", "^(", "^ (", "sqrt(", "sqrt (", "\\mathrm{T}", "\\rm"];

/// The text as math-verify parses it, None where that is not certain.
pub(super) fn normalise(text: &str) -> Option<String> {
    if UNTOLD.iter().any(|word| text.contains(word)) || text.contains('~') || bare_base(text) {
        return None;
    }
    let text = text.replace("\\mathrm{d}", "d");
    let text = without_delimiter_sizes(&text)?;
    let text = rewritten(&without_marks(&text)?)?;
    let text = text.replace(['\n', '\t'], " ");
    // Two of them end the rows of a matrix, and are a slip elsewhere.
    let text = if text.contains("matrix") { text } else { single_backslashes(&text) };
    let text = without_units(&text)?;
    let text = if text.starts_with('.') { format!("0{text}") } else { text };
    let text = if text == "0.5" { "\\frac{1}{2}".to_string() } else { text };
    let text = complete_fractions(&complete_roots(&text)?)?;
    Some(slash_fraction(&text).unwrap_or(text))
}

/// `\log_28`: one digit, or two, without braces.
fn bare_base(text: &str) -> bool {
    text.match_indices("\\log_")
        .any(|(at, command)| text[at + command.len()..].trim_start().starts_with(|c: char| c.is_ascii_digit()))
}

/// `\left(` and `\right)` become `(` and `)`. What follows another delimiter (`\left.`) is left to math-verify.
fn without_delimiter_sizes(text: &str) -> Option<String> {
    const OPENING: [&str; 12] =
        ["\\{", "{", "\\|", "|", "[", "(", "\\lbrace", "\\lbrack", "\\lvert", "\\lceil", "\\lfloor", "\\langle"];
    const CLOSING: [&str; 12] =
        ["\\}", "}", "\\|", "|", "]", ")", "\\rbrace", "\\rbrack", "\\rvert", "\\rceil", "\\rfloor", "\\rangle"];
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, command) = rest.split_at(at);
        result.push_str(before);
        let dropped = ["\\left", "\\mleft", "\\right", "\\mright"].iter().find(|word| command.starts_with(**word));
        let Some(word) = dropped else {
            result.push('\\');
            rest = &command[1..];
            continue;
        };
        let after = &command[word.len()..];
        // \leftarrow and its like are no delimiters, and no answers either.
        let delimiters = if word.ends_with("left") { OPENING } else { CLOSING };
        if !delimiters.iter().any(|delimiter| after.starts_with(delimiter)) {
            return None;
        }
        rest = after;
    }
    result.push_str(rest);
    Some(result)
}

/// Without dollar signs, quotes, `\!`, `\displaystyle`, and text of nothing.
fn without_marks(text: &str) -> Option<String> {
    if text.contains("\\'") || text.contains("\\\"") || text.contains("\\mathrm{th}") {
        return None;
    }
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("\\!") {
            rest = after.trim_start();
        } else if let Some(after) = rest.strip_prefix("\\$").or_else(|| rest.strip_prefix("\\displaystyle")) {
            rest = after;
        } else if let Some(after) = empty_text(rest) {
            rest = after;
        } else {
            if !matches!(first, '$' | '"' | '\'') {
                result.push(first);
            }
            rest = &rest[first.len_utf8()..];
        }
    }
    Some(result)
}

fn empty_text(rest: &str) -> Option<&str> {
    let after = rest.strip_prefix("\\text")?.trim_start();
    after.strip_prefix('{')?.trim_start().strip_prefix('}')
}

/// One spelling for fractions, texts, commas and conjunctions; one pass, first match first.
fn rewritten(text: &str) -> Option<String> {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let at = text.len() - rest.len();
        let after_letter = text[..at].ends_with(|c: char| c.is_ascii_alphabetic());
        if let Some((plain, length)) = replacement(rest, after_letter) {
            result.push_str(plain);
            rest = &rest[length..];
            continue;
        }
        // A \ before white space is a space, unless another \ stands before it.
        if first == '\\' && rest[1..].starts_with(|c: char| c.is_ascii_whitespace()) && !text[..at].ends_with('\\') {
            result.push(' ');
            rest = &rest[2..];
            continue;
        }
        if rest.starts_with("inf") && !text[..at].ends_with('\\') {
            return None;
        }
        result.push(first);
        rest = &rest[first.len_utf8()..];
    }
    Some(result)
}

fn replacement(rest: &str, after_letter: bool) -> Option<(&'static str, usize)> {
    const COMMANDS: [(&str, &str); 10] = [
        ("\\mathrm", "\\text"),
        ("\\mathit", "\\text"),
        ("\\mathbf", "\\text"),
        ("\\textnormal", "\\text"),
        ("\\textbf", "\\text"),
        ("\\textit", "\\text"),
        ("\\textrm", "\\text"),
        ("\\dfrac", "\\frac"),
        ("\\tfrac", "\\frac"),
        ("\\cfrac", "\\frac"),
    ];
    let first = rest.as_bytes()[0];
    if first == b'\\' {
        if let Some((command, plain)) = COMMANDS.iter().find(|(command, _)| rest.starts_with(command)) {
            return Some((plain, command.len()));
        }
    }
    if first.is_ascii_whitespace() && rest[1..].starts_with('.') {
        return Some((" 0.", 2));
    }
    if rest.starts_with("{.") {
        return Some(("{0.", 2));
    }
    if let Some(after) = rest.trim_start().strip_prefix('{') {
        if let Some(after) = after.trim_start().strip_prefix(',').and_then(|a| a.trim_start().strip_prefix('}')) {
            return Some((",", rest.len() - after.len()));
        }
    }
    if !matches!(first, b',' | b'a' | b'o' | b'\\') && !first.is_ascii_whitespace() {
        return (rest.starts_with(" sqrt")).then_some(("\\sqrt", 5));
    }
    let word = rest.strip_prefix(',').unwrap_or(rest).trim_start();
    for conjunction in ["and", "or"] {
        if let Some(after) = word.strip_prefix(conjunction) {
            if !after_letter && !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
                return Some((",", rest.len() - after.len()));
            }
        }
        let texted = word.strip_prefix("\\text{").and_then(|w| w.trim_start().strip_prefix(conjunction));
        if let Some(after) = texted.and_then(|after| after.trim_start().strip_prefix('}')) {
            return Some((",", rest.len() - after.len()));
        }
    }
    if let Some(after) = rest.strip_prefix(',').unwrap_or(rest).strip_prefix("\\ldots") {
        return Some((" ", rest.len() - after.len()));
    }
    rest.starts_with(" sqrt").then_some(("\\sqrt", 5))
}

fn single_backslashes(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\\\\") {
        result.push_str(&rest[..at]);
        result.push('\\');
        let after = &rest[at + 2..];
        if !after.starts_with(|c: char| c.is_ascii_alphabetic()) {
            result.push('\\');
        }
        rest = after;
    }
    result.push_str(rest);
    result
}

/// `\sqrt2` becomes `\sqrt{2}`; one letter or digit is the whole radicand.
fn complete_roots(text: &str) -> Option<String> {
    let mut parts = text.split("\\sqrt");
    let mut result = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let part = part.trim_start();
        result.push_str("\\sqrt");
        match part.chars().next() {
            Some('{' | '[') => result.push_str(part),
            Some(first) if first.is_ascii_alphanumeric() => {
                result.push_str(&format!("{{{first}}}{}", &part[1..]));
            }
            _ => return None,
        }
    }
    Some(result)
}

/// `\frac12` becomes `\frac{1}{2}`.
fn complete_fractions(text: &str) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut result = parts.next().unwrap_or_default().to_string();
    let mut fractions = false;
    for part in parts {
        fractions = true;
        let spaced = part.starts_with(' ');
        let part = if spaced { &part[1..] } else { part };
        result.push_str("\\frac");
        if part.trim_start().starts_with('{') {
            result.push_str(part.trim_start());
            continue;
        }
        let first = part.chars().next().filter(char::is_ascii_alphanumeric)?;
        let digits = first.is_ascii_digit();
        let after = if digits { part[1..].strip_prefix(' ').unwrap_or(&part[1..]) } else { &part[1..] };
        if after.starts_with('{') {
            result.push_str(&format!("{{{first}}}{after}"));
            continue;
        }
        let second = after.chars().next().filter(char::is_ascii_alphanumeric)?;
        // Two digits in a row take all that follow as the denominator, anything else takes one sign.
        let run = after.bytes().take_while(u8::is_ascii_digit).count();
        let length = if digits && second.is_ascii_digit() { run } else { 1 };
        if digits && !second.is_ascii_digit() && part.len() != after.len() + 1 {
            return None;
        }
        result.push_str(&format!("{{{first}}}{{{}}}{}", &after[..length], &after[length..]));
    }
    // A digit after a brace behind a fraction is put into braces of its own, wherever that may be.
    let begin = if fractions { text.find("\\frac")? } else { return Some(result) };
    let digit_after_brace = |text: &str| {
        text.match_indices('}').any(|(at, _)| {
            let after = &text[at + 1..];
            after.strip_prefix(' ').unwrap_or(after).starts_with(|c: char| c.is_ascii_digit())
        })
    };
    (!digit_after_brace(&text[begin..]) && !digit_after_brace(&result[begin..])).then_some(result)
}

/// `a/b` of two plain integers.
fn slash_fraction(text: &str) -> Option<String> {
    let plain = |number: &str| {
        let digits = number.strip_prefix('-').unwrap_or(number);
        let spelt = digits == "0" && digits == number || !digits.starts_with('0');
        spelt && !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (above, below) = text.split_once('/')?;
    (plain(above) && plain(below)).then(|| format!("\\frac{{{above}}}{{{below}}}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings() {
        for (text, expected) in [
            (r"\dfrac{1}{2}", Some(r"\frac{1}{2}")),
            (r"\frac12", Some(r"\frac{1}{2}")),
            (r"\frac 59", Some(r"\frac{5}{9}")),
            (r"\frac123", Some(r"\frac{1}{23}")),
            (r"\frac9{19}", Some(r"\frac{9}{19}")),
            (r"\frac{1}{2}3", None),
            (r"2\sqrt3", Some(r"2\sqrt{3}")),
            (r"\sqrt\pi", None),
            (r"\left( 3, \frac{\pi}{2} \right)", Some(r"( 3, \frac{\pi}{2} )")),
            (r"\left. x \right|", None),
            (r"10{,}000", Some("10,000")),
            (r"1 \text{ and } 2", Some("1, 2")),
            ("1, and 2", Some("1, 2")),
            ("odd or even", Some("odd , even")),
            (r"\$5", Some("5")),
            (r"5 \text{ cm}^2", Some("5")),
            (r"\text{Area} = \frac{1}{2}", Some(r"\text{Area} = \frac{1}{2}")),
            ("5 cm", Some("5")),
            (".5", Some(r"\frac{1}{2}")),
            (".25", Some("0.25")),
            ("2/3", Some(r"\frac{2}{3}")),
            ("02/3", Some("02/3")),
            (r"\mathrm{km}", Some(r"\text{km}")),
            ("infinity", None),
            (r"(-\infty, 5)", Some(r"(-\infty, 5)")),
            ("50 percent", None),
        ] {
            assert_eq!(normalise(text).as_deref(), expected, "{text}");
        }
    }
}
