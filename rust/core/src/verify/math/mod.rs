//! Whether math-verify would take a boxed answer for the gold one, decided without it where that can be proven.
//!
//! The reference is math-verify 0.9 with its default settings and without time limits:
//!
//! ```text
//! verify(parse("$" + gold + "$"), parse("\\boxed{" + answer + "}"))
//! ```
//!
//! where `answer` is the content of the last box after the trace. The gold answer is wrapped as it is, as in the paper's
//! reward function, also where it holds dollar signs of its own. What math-verify cannot read is different from everything.
//!
//! [`decide`] follows its steps, and gives up where it is not certain:
//!
//! 1. *What is read* (`extract`): the whole text, if it holds no words or delimiters that the search reacts to.
//! 2. *Spelling* (`normalise`): sizes of delimiters, spaces, dollar signs, units and closing `\text{...}` are dropped,
//!    fractions and roots completed, `and` and `or` become commas. Equal spellings are equal answers, readable or not.
//! 3. *Reading* (`tokens`, `expr`, `parse`): a part of its grammar. `2\frac{1}{2}` is 5/2, and so is any integer before a
//!    fraction or integer (`2(3)` is 5); `1,000` as a whole is a number, otherwise commas make a set; `(1,2)` is an open
//!    interval, `(2,1)` and `(1,2,3)` are tuples; degrees and the base of `52_8` count for nothing; letters are symbols,
//!    real unless a lone `i` occurs, upper and lower case alike; a decimal point makes a float, except in `0.5` alone. A
//!    point that belongs to no number, or a bracket that does not close, cannot be read; then the last number that
//!    stands alone in the box counts.
//! 4. *Comparing* (`compare`, `expressions`, `intervals`): an equation found counts as its right side where the gold
//!    answer is none, and a gold assignment as its right side where none is found. Sets compare in any order, tuples in
//!    theirs; an open interval beside two elements is a pair. Floats are equal if they agree to six decimals; `9` equals
//!    `9%`; symbols compare by name.
//!    - *Equal* is concluded from equal objects, or from exact arithmetic with rationals, roots of integers, pi and
//!      polynomials (`exact`), which math-verify's simplification reproduces.
//!    - *Different* is concluded from values that are apart at sampled points (`numeric`) by more than math-verify ever
//!      forgives: expressions that differ in one point are not the same, and no simplification makes them so.
//!
//! Numbers are limited to 60 digits, texts to 400 bytes, brackets to a few levels: `decide` takes microseconds.

mod compare;
mod exact;
mod expr;
mod expressions;
mod extract;
mod intervals;
mod names;
mod normalise;
mod numeric;
mod parse;
mod points;
mod relations;
mod tokens;
mod units;
mod value;

use super::{boxed_answer, shown, Failure};
use parse::{parse, Parsed};
use value::{Node, Value};

/// What is proven about a pair of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// math-verify takes them for the same.
    Equal,
    /// math-verify does not.
    Different,
    /// Only math-verify itself can tell.
    Unknown,
}

/// Decides about the content of a box, where math-verify's verdict is certain.
///
/// ```
/// use megatron_sft_core::verify::{decide, Decision};
/// assert_eq!(decide(r"\frac{1}{2}", "0.5"), Decision::Equal);
/// assert_eq!(decide("42", "41"), Decision::Different);
/// assert_eq!(decide("100!", "99! \\cdot 100"), Decision::Unknown);
/// ```
pub fn decide(gold: &str, answer: &str) -> Decision {
    if answer.is_empty() {
        return Decision::Different;
    }
    try_decide(gold, answer).unwrap_or(Decision::Unknown)
}

fn try_decide(gold: &str, answer: &str) -> Option<Decision> {
    let (gold, boxed) = (extract::gold(gold)?, extract::boxed(answer)?);
    if gold == boxed && stays_readable(gold) {
        return Some(Decision::Equal);
    }
    let (gold, spelt) = (normalise::normalise(gold)?, normalise::normalise(boxed)?);
    if gold.trim().is_empty() || spelt.trim().is_empty() {
        return None;
    }
    if gold.trim() == spelt.trim() && stays_readable(&gold) {
        return Some(Decision::Equal);
    }
    let (gold, found) = (parse(&gold)?, parse(&spelt)?);
    match (gold, found) {
        (Parsed::Value(gold), Parsed::Value(found)) => Some(compare::compare(&gold, &found)),
        (Parsed::Value(gold), Parsed::Nothing) => without_answer(&gold, answer),
        _ => None,
    }
}

/// The gold answer against one that cannot be parsed, and is spelt in another way.
fn without_answer(gold: &Value, answer: &str) -> Option<Decision> {
    if let Some(inner) = extract::before_a_point(answer) {
        // What is between the dollar signs is read instead.
        return match parse(&normalise::normalise(inner)?)? {
            Parsed::Value(found) => Some(compare::compare(gold, &found)),
            Parsed::Nothing => None,
        };
    }
    match extract::fallback(answer)? {
        extract::Fallback::Nothing => Some(Decision::Different),
        extract::Fallback::Number(text) => {
            let value = value::decimal(text.trim_start_matches('-'))?;
            let number = if text.contains('.') { Node::Float(value) } else { Node::Rational(value) };
            let number = if text.starts_with('-') { number.minus() } else { number };
            (text.len() <= 15).then(|| compare::compare(gold, &Value::Expr(number)))
        }
        // Whatever number it is, it is neither a pair nor an expression in x.
        extract::Fallback::Some => compare::is_no_number(gold).then_some(Decision::Different),
    }
}

/// Whether something is left of a text when it is normalised, and math-verify reads it in no time: equal spellings are
/// equal then.
fn stays_readable(text: &str) -> bool {
    let mut depth = 0usize;
    let mut deepest = 0;
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    let kept = text.bytes().any(|byte| byte.is_ascii_digit())
        || !text.contains('\\') && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    kept && deepest <= 5 && !text.contains('!') && text.matches('^').count() <= 8
}

/// Whether the last boxed text after the trace is proven equal to `answer`; what is not decided counts as a failure here.
pub fn verify_math(response: &str, answer: &str) -> Result<(), Failure> {
    let boxed = boxed_answer(response)?;
    match decide(answer, boxed) {
        Decision::Equal => Ok(()),
        _ if boxed.trim().is_empty() => Err(Failure::WrongAnswer("the box is empty".to_string())),
        _ => Err(Failure::WrongAnswer(format!("{} is not {}", shown(boxed), shown(answer)))),
    }
}

#[cfg(test)]
mod tests {
    use super::Decision::{Different, Equal, Unknown};
    use super::*;

    #[test]
    fn decisions() {
        for (gold, answer, expected) in [
            ("5", "5.0", Equal),
            ("5", "5.", Different),
            ("5", r"5\%", Equal),
            ("5", r"x = 5 \text{ cm}", Equal),
            ("x=5", "y=5", Different),
            ("1/3", "0.333333", Equal),
            ("1/3", "0.33333", Different),
            ("5/2", r"2\frac{1}{2}", Equal),
            ("6", "2(3)", Different),
            ("1000", "1,000", Equal),
            ("1000", "1, 000", Different),
            ("(1,2)", "1,2", Equal),
            ("(1,2)", "2,1", Different),
            ("1,2", "2,1", Equal),
            ("(2,1)", "(1,2)", Different),
            ("[1,2)", "(1,2)", Different),
            (r"[1,2]\cup[3,4]", r"[3,4] \cup [1,2]", Equal),
            (r"(-\infty,3]", r"[-\infty,3]", Equal),
            (r"\sqrt{8}", r"2\sqrt2", Equal),
            (r"\sqrt{2}", "1.414214", Equal),
            ("(x+1)^2", "x^2+2x+1", Equal),
            ("x(x+1)", "x^2", Different),
            ("y=2x+1", "2x-y+1=0", Equal),
            ("y=2x+1", "y=2x+2", Different),
            ("x<5", "5>x", Equal),
            ("x<5", r"x\le5", Different),
            (r"\text{(B)}", "B", Equal),
            (r"\text{even}", "even", Equal),
            (r"\text{even}", "odd", Different),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", Equal),
            (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 & 2 \end{pmatrix}", Different),
            ("5", "", Different),
            ("5", "the answer is 5", Unknown),
            ("5", "é", Unknown),
            ("5", "((((((((((5))))))))))", Unknown),
        ] {
            assert_eq!(decide(gold, answer), expected, "{gold} and {answer}");
        }
    }

    #[test]
    fn long_and_deep_texts_take_no_time() {
        let began = std::time::Instant::now();
        for text in ["(".repeat(100_000), "9^".repeat(100_000), "{".repeat(200) + &"}".repeat(200), "1,".repeat(190)] {
            assert_ne!(decide("5", &text), Equal);
            assert_ne!(decide(&text, "5"), Equal);
        }
        let nested = format!("{}1{}", "[".repeat(60), ")".repeat(60));
        assert_ne!(decide("5", &nested), Equal);
        assert!(began.elapsed().as_secs() < 2);
    }

    #[test]
    fn a_box_in_the_trace_is_no_answer() {
        assert_eq!(verify_math(r"<think>\boxed{1}</think>", "1"), Err(Failure::NoBoxedAnswer));
    }
}
