//! Expressions: sums, products, powers, functions, as math-verify's grammar has them.

use num_rational::BigRational;
use num_traits::{Signed, Zero};

use super::tokens::Token;
use super::value::{decimal, percent, Node};

/// Brackets nested deeper are left to math-verify, which takes exponential time for them.
const DEEPEST: usize = 8;
/// Steps of one parse; trying two readings of a bracket may take many.
const MOST_STEPS: usize = 20_000;
/// Digits of a number.
const MOST_DIGITS: usize = 60;

/// Reads tokens; every function gives None for what it does not deal with.
pub(super) struct Parser<'a> {
    pub(super) tokens: &'a [Token<'a>],
    pub(super) at: usize,
    /// Whether symbols are real.
    pub(super) real: bool,
    pub(super) depth: usize,
    steps: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(tokens: &'a [Token<'a>], real: bool) -> Self {
        Parser { tokens, at: 0, real, depth: 0, steps: 0 }
    }

    pub(super) fn peek(&self) -> Option<&'a Token<'a>> {
        self.tokens.get(self.at)
    }

    pub(super) fn sees(&self, sign: char) -> bool {
        self.peek() == Some(&Token::Sign(sign))
    }

    pub(super) fn take(&mut self, sign: char) -> bool {
        let seen = self.sees(sign);
        self.at += usize::from(seen);
        seen
    }

    pub(super) fn expect(&mut self, sign: char) -> Option<()> {
        self.take(sign).then_some(())
    }

    pub(super) fn expr(&mut self) -> Option<Node> {
        self.depth += 1;
        self.steps += 1;
        if self.depth > DEEPEST || self.steps > MOST_STEPS {
            return None;
        }
        let mut sum = self.product()?;
        loop {
            if self.take('+') {
                sum = sum.plus(self.product()?);
            } else if self.take('-') {
                let term = self.product()?;
                // Only a number changes its sign; everything else is multiplied by -1.
                sum = sum.plus(if term.is_number() { term.minus() } else { Node::integer(-1).times(term) });
            } else {
                self.depth -= 1;
                return Some(sum);
            }
        }
    }

    fn product(&mut self) -> Option<Node> {
        let mut product = self.unary()?;
        loop {
            if self.take('*') {
                product = product.times(self.unary()?);
            } else if self.take('/') || self.take(':') {
                product = product.over(self.unary()?)?;
            } else {
                return Some(product);
            }
        }
    }

    fn unary(&mut self) -> Option<Node> {
        self.steps += 1;
        if self.steps > MOST_STEPS {
            return None;
        }
        if self.take('+') {
            return self.unary();
        }
        if self.take('-') {
            let negative = self.unary()?;
            return Some(if negative.is_number() { negative.minus() } else { Node::integer(-1).times(negative) });
        }
        self.factors(true)
    }

    /// Factors side by side. They combine from the right, which decides what is a mixed number.
    fn factors(&mut self, functions: bool) -> Option<Node> {
        let mut factors = vec![self.factor()?];
        while self.begins_factor(functions) {
            factors.push(self.factor()?);
        }
        let last = factors.pop()?;
        Some(factors.into_iter().rev().fold(last, |right, left| left.beside(right)))
    }

    fn begins_factor(&self, functions: bool) -> bool {
        match self.peek() {
            Some(Token::Function(_)) => functions,
            Some(Token::Command(name)) => {
                matches!(*name, "frac" | "infty" | "lfloor" | "lceil") || functions && *name == "sqrt"
            }
            Some(Token::Letter('e')) => functions,
            Some(Token::Sign(sign)) => matches!(sign, '(' | '{' | '['),
            Some(Token::OpenSet) => true,
            Some(
                Token::CloseSet
                | Token::OpenMatrix
                | Token::CloseMatrix
                | Token::RowEnd
                | Token::Degree
                | Token::Period,
            )
            | None => false,
            Some(_) => true,
        }
    }

    fn factor(&mut self) -> Option<Node> {
        let mut factor = self.simple()?;
        loop {
            if self.take('^') {
                let exponent = self.exponent()?;
                if self.sees('_') {
                    return None;
                }
                factor = factor.raised_to(exponent);
            } else if self.take('!') {
                factor = Node::Factorial(Box::new(factor));
                if self.sees('^') {
                    return None;
                }
            } else if self.peek() == Some(&Token::Degree) {
                self.at += 1;
                if self.sees('^') {
                    return None;
                }
            } else {
                return Some(factor);
            }
        }
    }

    pub(super) fn exponent(&mut self) -> Option<Node> {
        if self.take('{') {
            let exponent = self.expr()?;
            self.expect('}')?;
            return Some(exponent);
        }
        let exponent = match self.peek()? {
            Token::Number(_) | Token::Percent(_) | Token::Letter('E') => self.simple()?,
            Token::Letter('e') => return None,
            Token::Letter('I') => return None,
            Token::Letter(_) | Token::Symbol(_) | Token::Accent(..) => {
                let name = self.base_name()?;
                self.symbol(&name)
            }
            Token::Command("infty") => self.simple()?,
            _ => return None,
        };
        // A letter in the exponent would take what follows for itself.
        (!self.sees('^') && !self.sees('_')).then_some(exponent)
    }

    pub(super) fn simple(&mut self) -> Option<Node> {
        let token = self.peek()?;
        match token {
            Token::Sign(open @ ('(' | '{' | '[')) => {
                self.at += 1;
                let inner = self.expr()?;
                self.expect(match open {
                    '(' => ')',
                    '{' => '}',
                    _ => ']',
                })?;
                Some(inner)
            }
            Token::OpenSet => {
                self.at += 1;
                let inner = self.expr()?;
                (self.peek() == Some(&Token::CloseSet)).then(|| self.at += 1)?;
                Some(inner)
            }
            Token::Number(text) => {
                self.at += 1;
                // A subscript (the base of a number) counts for nothing.
                if self.take('_') {
                    self.subscript()?;
                }
                number(text)
            }
            Token::Percent(text) => {
                self.at += 1;
                Some(percent(number(text)?))
            }
            Token::Letter('e') => {
                self.at += 1;
                if !self.take('^') {
                    return Some(Node::E);
                }
                Some(match self.exponent()? {
                    Node::Rational(value) if value.is_zero() => Node::integer(1),
                    Node::Rational(value) if value == super::value::one() => Node::E,
                    // The exponential of infinity is evaluated at once.
                    exponent if exponent.any(&|part| matches!(part, Node::Infinity { .. })) => return None,
                    exponent => Node::Exp(Box::new(exponent)),
                })
            }
            Token::Letter('E') => {
                self.at += 1;
                Some(Node::Symbol { name: "e".to_string(), real: self.real })
            }
            // The imaginary unit, unless it is the name of a function.
            Token::Letter('I') if !matches!(self.tokens.get(self.at + 1), Some(Token::Sign('('))) => None,
            Token::Differential(letter) => {
                self.at += 1;
                Some(Node::Symbol { name: format!("d{letter}"), real: self.real })
            }
            Token::Letter(_) | Token::Symbol(_) | Token::Accent(..) => self.named(),
            Token::Function(name) => {
                self.at += 1;
                self.function(name)
            }
            Token::Command(name) => {
                self.at += 1;
                self.command(name)
            }
            _ => None,
        }
    }

    fn command(&mut self, name: &str) -> Option<Node> {
        match name {
            "infty" => Some(Node::Infinity { negative: false }),
            "lfloor" | "lceil" => {
                let (close, function) = if name == "lfloor" { ("rfloor", "floor") } else { ("rceil", "ceiling") };
                let inner = self.expr()?;
                (self.peek() == Some(&Token::Command(close))).then(|| self.at += 1)?;
                Some(Node::Call(function.to_string(), vec![inner]))
            }
            "sqrt" => {
                let mut exponent = BigRational::new(1.into(), 2.into());
                if self.take('[') {
                    let Node::Rational(root) = self.expr()? else { return None };
                    self.expect(']')?;
                    if !root.is_integer() || !root.is_positive() {
                        return None;
                    }
                    exponent = root.recip();
                }
                Some(self.braced()?.raised_to(Node::Rational(exponent)))
            }
            "frac" => {
                if let [Token::Sign('{'), above @ .., Token::Sign('}')] = self.tokens.get(self.at..self.at + 3)? {
                    if let Some(derivative) = self.derivative(above) {
                        return Some(derivative);
                    }
                }
                let above = self.braced()?;
                // Anything else over a lone differential is a derivative too.
                if matches!(self.tokens.get(self.at..self.at + 3)?, [_, Token::Differential(_), Token::Sign('}')]) {
                    return None;
                }
                above.over(self.braced()?)
            }
            _ => None,
        }
    }

    /// `\frac{dx}{dt}`, of which nothing is known but its letters.
    fn derivative(&mut self, above: &[Token<'_>]) -> Option<Node> {
        let below = self.tokens.get(self.at + 3..self.at + 6)?;
        let [Token::Differential(top)] = above else { return None };
        let [Token::Sign('{'), Token::Differential(bottom), Token::Sign('}')] = below else { return None };
        self.at += 6;
        let top = self.symbol(&top.to_string());
        let bottom = Node::Symbol { name: bottom.to_string(), real: self.real };
        Some(Node::Call("derivative".to_string(), vec![top, bottom, Node::integer(1)]))
    }

    fn braced(&mut self) -> Option<Node> {
        self.expect('{')?;
        let inner = self.expr()?;
        self.expect('}')?;
        Some(inner)
    }

    fn function(&mut self, name: &str) -> Option<Node> {
        let base = if self.take('_') { Some(self.exponent()?) } else { None };
        let power = if self.take('^') { Some(self.exponent()?) } else { None };
        if base.is_some() != (name == "log") && base.is_some() || power.is_some() && base.is_some() {
            return None;
        }
        if power.as_ref().is_some_and(|power| !matches!(power, Node::Rational(value) if value.is_positive())) {
            return None;
        }
        let argument = if self.take('(') {
            let argument = self.expr()?;
            self.expect(')')?;
            if self.sees('^') || self.sees('!') {
                return None;
            }
            argument
        } else {
            let argument = self.factors(false)?;
            // A product without brackets would go on as the argument.
            if self.sees('*') || self.sees('/') || self.sees(':') {
                return None;
            }
            argument
        };
        let base = base.unwrap_or_else(|| if name == "ln" { Node::E } else { Node::integer(10) });
        let call = match name {
            "ln" | "log" => Node::Call("log".to_string(), vec![argument, base]),
            _ => Node::Call(name.to_string(), vec![argument]),
        };
        Some(match power {
            Some(power) => call.raised_to(power),
            None => call,
        })
    }
}

fn number(text: &str) -> Option<Node> {
    if text.len() > MOST_DIGITS {
        return None;
    }
    let value = decimal(text)?;
    // Floats have 15 digits at least; more of them means another precision.
    if text.contains('.') {
        return (text.trim_start_matches(['0', '.']).len() <= 16).then_some(Node::Float(value));
    }
    Some(Node::Rational(value))
}
