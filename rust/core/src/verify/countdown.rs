//! Countdown: combine the given numbers, each exactly once, with + - * / to reach the target.
//!
//! Grammar of the boxed text, after LaTeX spellings are replaced:
//!
//! ```text
//! answer  = sum [ "=" ["-"] integer ]
//! sum     = product { ("+" | "-") product }
//! product = factor { ("*" | "/") factor }
//! factor  = integer | "(" sum ")" | "\frac" "{" sum "}" "{" sum "}"
//! ```
//!
//! There is no sign in front of a number and no multiplication without an operator.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::Zero;

use super::{boxed_answer, shown, Failure};

/// Brackets nested deeper than this are refused, so hostile text cannot exhaust the stack.
const DEEPEST: usize = 100;
/// Digits of a literal; longer ones are no given number.
const MOST_DIGITS: usize = 30;

/// Checks the last boxed expression after the trace: it must use each of `numbers` exactly once and equal `target`.
///
/// ```
/// use megatron_sft_core::verify::verify_countdown;
/// assert!(verify_countdown(r"</think> \boxed{(25 - 3) \times 2}", &[2, 3, 25], 44).is_ok());
/// assert!(verify_countdown(r"\boxed{25 + 25 - 6}", &[6, 25], 44).is_err());
/// ```
pub fn verify_countdown(response: &str, numbers: &[i64], target: i64) -> Result<(), Failure> {
    let boxed = boxed_answer(response)?;
    let wrong = |detail: String| Failure::WrongAnswer(detail);
    let tokens = tokenize(boxed).map_err(wrong)?;
    let mut parser = Parser { tokens: &tokens, at: 0, depth: 0, used: Vec::new() };
    let value = parser.answer(target).map_err(|problem| wrong(format!("{problem} in {}", shown(boxed))))?;
    // The numbers come first: an expression that invents its own is refused for that reason, whatever its value.
    check_numbers(parser.used, numbers).map_err(wrong)?;
    let value = value.ok_or_else(|| wrong(format!("division by zero in {}", shown(boxed))))?;
    if value != BigRational::from_integer(target.into()) {
        return Err(wrong(format!("{} is {value}, not {target}", shown(boxed))));
    }
    Ok(())
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Number(BigInt),
    /// One of `+ - * / ( ) { } =`, or `f` for `\frac`.
    Symbol(char),
}

/// LaTeX and Unicode spellings, longest first where one begins another.
const SPELLINGS: [(&str, &str); 24] = [
    (r"\times", "*"),
    (r"\cdot", "*"),
    (r"\div", "/"),
    (r"\dfrac", "f"),
    (r"\tfrac", "f"),
    (r"\frac", "f"),
    (r"\left", ""),
    (r"\right", ""),
    (r"\,", ""),
    (r"\;", ""),
    (r"\!", ""),
    (r"\:", ""),
    (r"\ ", ""),
    ("$", ""),
    ("~", ""),
    ("×", "*"),
    ("·", "*"),
    ("⋅", "*"),
    ("∗", "*"),
    ("÷", "/"),
    ("∕", "/"),
    ("−", "-"),
    ("–", "-"),
    ("\u{2062}", "*"),
];

fn tokenize(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if let Some((spelling, plain)) = SPELLINGS.iter().find(|(spelling, _)| rest.starts_with(spelling)) {
            tokens.extend(plain.chars().map(Token::Symbol));
            rest = &rest[spelling.len()..];
        } else if first.is_ascii_digit() {
            let length = rest.bytes().take_while(u8::is_ascii_digit).count();
            let (digits, after) = rest.split_at(length);
            if length > MOST_DIGITS {
                return Err(format!("a number of {length} digits in {}", shown(text)));
            }
            tokens.push(Token::Number(digits.parse().map_err(|_| format!("bad number {digits}"))?));
            rest = after;
        } else if "+-*/(){}=".contains(first) {
            tokens.push(Token::Symbol(first));
            rest = &rest[1..];
        } else if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else {
            return Err(format!("unexpected {first:?} in {}", shown(text)));
        }
    }
    Ok(tokens)
}

/// A value, or None once something was divided by zero: parsing goes on, so that the numbers are still checked.
type Value = Option<BigRational>;

struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    depth: usize,
    used: Vec<BigInt>,
}

impl Parser<'_> {
    fn answer(&mut self, target: i64) -> Result<Value, String> {
        let value = self.sum()?;
        if self.take('=') {
            let negative = self.take('-');
            let Some(Token::Number(stated)) = self.tokens.get(self.at).cloned() else {
                return Err("no integer after \"=\"".to_string());
            };
            self.at += 1;
            let stated = if negative { -stated } else { stated };
            if stated != BigInt::from(target) {
                return Err(format!("the result after \"=\" is not {target}"));
            }
        }
        match self.tokens.get(self.at) {
            None => Ok(value),
            Some(token) => Err(format!("unexpected {}", name(token))),
        }
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut value = self.product()?;
        loop {
            if self.take('+') {
                value = combine(value, self.product()?, |a, b| Some(a + b));
            } else if self.take('-') {
                value = combine(value, self.product()?, |a, b| Some(a - b));
            } else {
                return Ok(value);
            }
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut value = self.factor()?;
        loop {
            if self.take('*') {
                value = combine(value, self.factor()?, |a, b| Some(a * b));
            } else if self.take('/') {
                value = combine(value, self.factor()?, quotient);
            } else {
                return Ok(value);
            }
        }
    }

    fn factor(&mut self) -> Result<Value, String> {
        if let Some(Token::Number(number)) = self.tokens.get(self.at) {
            self.at += 1;
            self.used.push(number.clone());
            // The value of an expression grows with its length; past any real task only the numbers matter.
            if self.used.len() > 64 {
                return Err("more than 64 numbers".to_string());
            }
            return Ok(Some(BigRational::from_integer(number.clone())));
        }
        if self.take('f') {
            let numerator = self.bracketed('{', '}')?;
            let denominator = self.bracketed('{', '}')?;
            return Ok(combine(numerator, denominator, quotient));
        }
        self.bracketed('(', ')')
    }

    fn bracketed(&mut self, opening: char, closing: char) -> Result<Value, String> {
        self.expect(opening)?;
        self.depth += 1;
        if self.depth > DEEPEST {
            return Err(format!("brackets nested more than {DEEPEST} deep"));
        }
        let value = self.sum()?;
        self.depth -= 1;
        self.expect(closing)?;
        Ok(value)
    }

    fn take(&mut self, symbol: char) -> bool {
        let found = self.tokens.get(self.at) == Some(&Token::Symbol(symbol));
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: char) -> Result<(), String> {
        if self.take(symbol) {
            return Ok(());
        }
        let wanted = if symbol == '(' { "a number or \"(\"".to_string() } else { format!("{symbol:?}") };
        let found = self.tokens.get(self.at).map_or("the end".to_string(), name);
        Err(format!("expected {wanted}, found {found}"))
    }
}

fn combine(a: Value, b: Value, operation: impl Fn(BigRational, BigRational) -> Value) -> Value {
    operation(a?, b?)
}

fn quotient(a: BigRational, b: BigRational) -> Value {
    (!b.is_zero()).then(|| a / b)
}

fn name(token: &Token) -> String {
    match token {
        Token::Number(number) => number.to_string(),
        Token::Symbol('f') => "\\frac".to_string(),
        Token::Symbol(symbol) => format!("{symbol:?}"),
    }
}

fn check_numbers(mut used: Vec<BigInt>, numbers: &[i64]) -> Result<(), String> {
    let mut given: Vec<BigInt> = numbers.iter().map(|number| BigInt::from(*number)).collect();
    used.sort();
    given.sort();
    if used == given {
        return Ok(());
    }
    let list = |numbers: &[BigInt]| numbers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    Err(format!("uses {}, but the numbers are {}", list(&used), list(&given)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, numbers: &[i64], target: i64) -> Result<(), Failure> {
        verify_countdown(&format!("<think>\\boxed{{0}}</think>\n\\boxed{{{expression}}}"), numbers, target)
    }

    #[test]
    fn right_expressions() {
        for (expression, numbers, target) in [
            ("3 + 5 * (7 - 2)", &[2, 3, 5, 7][..], 28),
            ("8 / (3 - 8 / 3)", &[3, 3, 8, 8], 24),
            (r"(25-3)\times 2 = 44", &[2, 3, 25], 44),
            (r"\left(25−3\right) × 2", &[2, 3, 25], 44),
            (r"6 \div 3 \cdot 5", &[3, 5, 6], 10),
            (r"\frac{6}{3} + \dfrac{8}{2}", &[2, 3, 6, 8], 6),
            ("3 - 5 = -2", &[3, 5], -2),
            ("$1+2$", &[1, 2], 3),
            ("7", &[7], 7),
        ] {
            assert_eq!(check(expression, numbers, target), Ok(()), "{expression}");
        }
    }

    #[test]
    fn wrong_expressions_say_why() {
        for (expression, numbers, target, why) in [
            ("3 + 5", &[3, 5][..], 9, "is 8, not 9"),
            ("3 + 3", &[3, 5], 6, "uses 3 3, but the numbers are 3 5"),
            ("3", &[3, 5], 3, "uses 3,"),
            ("7 / 2", &[2, 7], 3, "is 7/2, not 3"),
            ("5 / (3 - 3)", &[3, 3, 5], 1, "division by zero"),
            ("-3 + 5", &[3, 5], 2, "expected a number"),
            ("3 5", &[3, 5], 15, "unexpected 5"),
            ("2(3 + 4)", &[2, 3, 4], 14, "unexpected '('"),
            ("3 + 5 = 9", &[3, 5], 8, "after \"=\""),
            ("3 + 5 = 8 = 8", &[3, 5], 8, "unexpected '='"),
            ("2 ** 3", &[2, 3], 8, "expected a number"),
            ("3.0 + 5", &[3, 5], 8, "unexpected '.'"),
            ("x + 5", &[3, 5], 8, "unexpected 'x'"),
            ("(3 + 5", &[3, 5], 8, "found the end"),
            ("", &[3, 5], 8, "found the end"),
        ] {
            let Err(Failure::WrongAnswer(detail)) = check(expression, numbers, target) else {
                panic!("{expression} was accepted")
            };
            assert!(detail.contains(why), "{expression}: {detail}");
        }
    }

    #[test]
    fn the_answer_is_read_after_the_trace_only() {
        assert_eq!(verify_countdown(r"\boxed{1+2}</think> none", &[1, 2], 3), Err(Failure::NoBoxedAnswer));
    }

    #[test]
    fn hostile_text_ends_quickly() {
        assert!(check(&"(".repeat(1_000_000), &[1], 1).is_err());
        assert!(check(&"9".repeat(1_000_000), &[1], 1).is_err());
        assert!(check(&format!("1{}", "*9".repeat(1_000_000)), &[1], 1).is_err());
    }
}
