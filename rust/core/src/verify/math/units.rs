//! Units of measurement at the end of an answer: math-verify drops them.

/// What counts as a unit there, by exact letters; a `.` stands for any character.
const UNITS: [&str; 131] = [
    "integerpoint",
    "feet",
    "sue",
    "digit",
    "pound",
    "meal",
    "edge",
    "student",
    "children ticket",
    "multiple",
    "east",
    "degree",
    "mph",
    "kmph",
    "ft",
    "m square",
    " m east",
    "sq m",
    "deg",
    "mile",
    "q .",
    "monkey",
    "prime",
    "ratio",
    "profit of rs",
    "rd",
    "o",
    "gm",
    "p . m",
    "lb",
    "tile",
    "per",
    "dm",
    "lt",
    "gain",
    "ab",
    "way",
    "west",
    "a .",
    "b .",
    "c .",
    "d .",
    "e .",
    "f .",
    "g .",
    "h .",
    "t",
    "h",
    "no change",
    "men",
    "soldier",
    "pie",
    "bc",
    "excess",
    "st",
    "inches",
    "noon",
    "cent",
    "by",
    "gal",
    "kmh",
    "c",
    "acre",
    "rise",
    "a . m",
    "th",
    "sq",
    "mark",
    "l",
    "toy",
    "coin",
    "sq . m",
    "gallon",
    "profit",
    "minw",
    "yr",
    "women",
    "am",
    "pm",
    "hr",
    "cu cm",
    "square",
    "are",
    "rupee",
    "rounds",
    "cubic",
    "cc",
    "mtr",
    "s",
    "ohm",
    "number",
    "day",
    "hour",
    "minute",
    "min",
    "second",
    "man",
    "woman",
    "sec",
    "cube",
    "mt",
    "sq inch",
    "mp",
    "hectare",
    "more",
    "unit",
    "cu . m",
    "cm 2",
    "rs .",
    "rs",
    "kg",
    "g",
    "month",
    "km",
    "m",
    "cm",
    "mm",
    "apple",
    "liter",
    "loss",
    "yard",
    "pure",
    "year",
    "increase",
    "decrease",
    "d",
    "less",
    "Surface",
    "litre",
    "pi sq m",
    "s .",
];
const MORE_UNITS: [&str; 3] = ["metre", "meter", "inch"];

/// The text without a closing `\text{...}` (and its power), and without up to two units at its end.
///
/// None where a pattern with a wildcard could match.
pub(super) fn without_units(text: &str) -> Option<String> {
    let mut text = without_closing_text(text);
    for _ in 0..2 {
        if let Some(kept) = unit_begins(&text)? {
            text.truncate(kept);
        }
    }
    Some(text)
}

/// From the first `\text{` to the end, if the text ends with a brace and maybe a power. Never the whole text.
fn without_closing_text(text: &str) -> String {
    let begin = ["\\text{", "\\mbox{"].iter().filter_map(|command| text.find(command)).min();
    let kept = match begin {
        Some(begin) if ends_with_group(&text[begin + 6..]) => &text[..begin],
        _ => text,
    };
    let kept = kept.trim();
    if kept.is_empty() {
        text.to_string()
    } else {
        kept.to_string()
    }
}

fn ends_with_group(text: &str) -> bool {
    let digit = |text: &str| text.len() == 1 && text.as_bytes()[0].is_ascii_digit();
    let power = |rest: &str| {
        let plain = rest.strip_prefix('^').is_some_and(digit);
        plain || rest.strip_prefix("{^").and_then(|rest| rest.strip_suffix('}')).is_some_and(digit)
    };
    text.match_indices('}').any(|(at, _)| text[at + 1..].is_empty() || power(&text[at + 1..]))
}

/// How much of the text is kept before a unit; Some(None) without a unit, None where that is uncertain.
fn unit_begins(text: &str) -> Option<Option<usize>> {
    let bytes = text.as_bytes();
    let end = text.trim_end().len();
    // The longest unit has 15 letters and takes an ending of two; the first place that fits is the one.
    let first = end.saturating_sub(40);
    for at in first..bytes.len() {
        let before = bytes[at];
        if !(before.is_ascii_digit() || before == b'}' || before.is_ascii_whitespace()) {
            continue;
        }
        let tail = &text[at + 1..];
        let unit = tail.trim_start();
        if tail.len() != unit.len() && unit.starts_with("m east") {
            return None;
        }
        if wildcard(unit) {
            return None;
        }
        let unit = unit.trim_end();
        if is_unit(unit) {
            return Some(Some(at + 1));
        }
    }
    // Units that stand behind more than 40 characters of white space are not looked for.
    if end < first + 40 || !bytes[first..end].iter().all(u8::is_ascii_whitespace) {
        Some(None)
    } else {
        None
    }
}

fn is_unit(unit: &str) -> bool {
    let is = |unit: &str| UNITS.contains(&unit) || MORE_UNITS.contains(&unit);
    is(unit) || unit.strip_suffix('s').is_some_and(is) || unit.strip_suffix("es").is_some_and(is)
}

/// Whether one of the units with a wildcard fits: a short word, a space, and any character, maybe " m", maybe a plural.
fn wildcard(unit: &str) -> bool {
    let ends = |rest: &str| matches!(rest.trim_end(), "" | "s" | "es");
    ["q", "a", "b", "c", "d", "e", "f", "g", "h", "s", "rs", "p", "sq", "cu"].iter().any(|word| {
        let Some(after) = unit.strip_prefix(word).and_then(|rest| rest.strip_prefix(' ')) else { return false };
        let mut rest = after.chars();
        rest.next().is_some() && (ends(rest.as_str()) || rest.as_str().strip_prefix(" m").is_some_and(ends))
    })
}
