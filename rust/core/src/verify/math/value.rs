//! What an answer is once it is read: the objects that math-verify builds, without evaluating them.
//!
//! Two equal values come from texts that math-verify turns into equal objects: the constructors here flatten and fold
//! exactly where its parser does.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Signed, Zero};

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Node {
    /// An integer or a fraction of integers.
    Rational(BigRational),
    /// A number with a decimal point: a float there.
    Float(BigRational),
    /// The factor 1/100 of a percentage, which stays as it is.
    Hundredth,
    /// A symbol in lower case; symbols are real unless the text looks like a complex number.
    Symbol {
        name: String,
        real: bool,
    },
    Pi,
    /// Euler's number.
    E,
    /// Infinity, or minus infinity.
    Infinity {
        negative: bool,
    },
    Add(Vec<Node>),
    Mul(Vec<Node>),
    Pow(Box<Node>, Box<Node>),
    /// `e` to a power.
    Exp(Box<Node>),
    Factorial(Box<Node>),
    Call(String, Vec<Node>),
}

impl Node {
    pub(super) fn integer(value: i64) -> Node {
        Node::Rational(BigRational::from_integer(BigInt::from(value)))
    }

    /// Whether sympy calls it a number: it is not wrapped when it is subtracted.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Node::Rational(_) | Node::Float(_) | Node::Infinity { .. })
    }

    pub(super) fn minus(self) -> Node {
        match self {
            Node::Rational(value) => Node::Rational(-value),
            Node::Float(value) => Node::Float(-value),
            Node::Infinity { negative } => Node::Infinity { negative: !negative },
            other => Node::integer(-1).times(other),
        }
    }

    pub(super) fn plus(self, other: Node) -> Node {
        let mut terms = match self {
            Node::Add(terms) => terms,
            term => vec![term],
        };
        match other {
            Node::Add(more) => terms.extend(more),
            term => terms.push(term),
        }
        Node::Add(terms)
    }

    pub(super) fn times(self, other: Node) -> Node {
        let mut factors = match self {
            Node::Mul(factors) => factors,
            factor => vec![factor],
        };
        match other {
            Node::Mul(more) => factors.extend(more),
            factor => factors.push(factor),
        }
        Node::Mul(factors)
    }

    /// A quotient; of two integers it is a fraction. None for a division by zero.
    pub(super) fn over(self, other: Node) -> Option<Node> {
        if let (Node::Rational(above), Node::Rational(below)) = (&self, &other) {
            if below.is_zero() {
                return None;
            }
            if above.is_integer() && below.is_integer() {
                return Some(Node::Rational(above / below));
            }
        }
        Some(Node::Mul(vec![self, other.raised_to(Node::integer(-1))]))
    }

    pub(super) fn raised_to(self, exponent: Node) -> Node {
        Node::Pow(Box::new(self), Box::new(exponent))
    }

    /// Two factors side by side; an integer before a positive fraction (or integer!) is a mixed number.
    pub(super) fn beside(self, other: Node) -> Node {
        if let (Node::Rational(whole), Node::Rational(part)) = (&self, &other) {
            if whole.is_integer() && part.is_positive() {
                return Node::Rational(if whole.is_negative() { whole - part } else { whole + part });
            }
        }
        self.times(other)
    }

    /// `n` of `n%`, else None.
    pub(super) fn percentage(&self) -> Option<&Node> {
        match self {
            Node::Mul(factors) => match factors.as_slice() {
                [number, Node::Hundredth] if number.is_number() => Some(number),
                _ => None,
            },
            _ => None,
        }
    }

    /// Whether any part of it fits.
    pub(super) fn any(&self, fits: &impl Fn(&Node) -> bool) -> bool {
        fits(self)
            || match self {
                Node::Add(parts) | Node::Mul(parts) | Node::Call(_, parts) => parts.iter().any(|part| part.any(fits)),
                Node::Pow(base, exponent) => base.any(fits) || exponent.any(fits),
                Node::Exp(part) | Node::Factorial(part) => part.any(fits),
                _ => false,
            }
    }

    pub(super) fn is_constant(&self) -> bool {
        !self.any(&|part| matches!(part, Node::Symbol { .. } | Node::Call(..)))
    }

    pub(super) fn has_float(&self) -> bool {
        self.any(&|part| matches!(part, Node::Float(_)))
    }
}

/// A percentage.
pub(super) fn percent(number: Node) -> Node {
    Node::Mul(vec![number, Node::Hundredth])
}

/// The value of digits with at most one decimal point.
pub(super) fn decimal(text: &str) -> Option<BigRational> {
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits: BigInt = format!("0{whole}{part}").parse().ok()?;
    Some(BigRational::new(digits, num_traits::pow(BigInt::from(10), part.len())))
}

/// Everything that an answer may be.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Expr(Node),
    /// In the order of the text.
    Set(Vec<Value>),
    Tuple(Vec<Value>),
    Interval(Box<Interval>),
    Union(Vec<Value>),
    /// Rows of one length.
    Matrix(Vec<Vec<Node>>),
    /// `terms[0] ops[0] terms[1] ...`, with the signs of `Token::Sign`.
    Relation {
        terms: Vec<Value>,
        ops: Vec<char>,
    },
}

/// An interval, or with `symbolic` a pair that may as well be a tuple: its order is not known.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Interval {
    pub(super) low: Node,
    pub(super) high: Node,
    pub(super) low_open: bool,
    pub(super) high_open: bool,
    pub(super) symbolic: bool,
}

impl Value {
    /// The expression, if it is one.
    pub(super) fn expr(&self) -> Option<&Node> {
        match self {
            Value::Expr(node) => Some(node),
            _ => None,
        }
    }

    /// Several elements make a set, a single one is itself.
    pub(super) fn listed(mut elements: Vec<Value>) -> Option<Value> {
        match elements.len() {
            0 => None,
            1 => elements.pop(),
            _ => Some(Value::Set(elements)),
        }
    }
}

/// One, as a rational.
pub(super) fn one() -> BigRational {
    BigRational::one()
}
