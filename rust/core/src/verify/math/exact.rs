//! Exact equality of expressions: as fractions of polynomials in symbols, in pi, in square roots of primes.
//!
//! Products of distinct square roots of primes are independent over the rationals, so in lowest terms of those roots two
//! expressions are equal exactly if their cross products are the same polynomial. Whatever else occurs (powers with other
//! exponents, functions) is a variable of its own: equality stays sound, difference is not concluded from it.

use std::collections::BTreeMap;

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

use super::value::{one, Node};

const MOST_TERMS: usize = 60;
const MOST_BITS: u64 = 512;

/// Variables and their exponents, sorted. A root of a prime has exponent 1.
type Monomial = Vec<(String, i32)>;
type Polynomial = BTreeMap<Monomial, BigRational>;

/// Whether two expressions are equal by the rules of arithmetic; false where that is not found out.
pub(super) fn equal(left: &Node, right: &Node) -> bool {
    let (Some(left), Some(right)) = (quotient(left), quotient(right)) else { return false };
    match (product(&left.0, &right.1), product(&right.0, &left.1)) {
        (Some(left), Some(right)) => left == right,
        _ => false,
    }
}

/// The rational number that an expression is, if it is one.
pub(super) fn rational(node: &Node) -> Option<BigRational> {
    let (above, below) = quotient(node)?;
    let number = |polynomial: &Polynomial| match polynomial.len() {
        0 => Some(BigRational::zero()),
        1 => polynomial.get(&Vec::new()).cloned(),
        _ => None,
    };
    let below = number(&below)?;
    (!below.is_zero()).then(|| number(&above).map(|above| above / below)).flatten()
}

fn quotient(node: &Node) -> Option<(Polynomial, Polynomial)> {
    let whole = |polynomial| Some((polynomial, number(one())));
    match node {
        Node::Rational(value) => whole(number(value.clone())),
        Node::Hundredth => whole(number(BigRational::new(1.into(), 100.into()))),
        Node::Symbol { name, real } => whole(variable(format!("s{real}{name}"))),
        Node::Pi => whole(variable("pi".to_string())),
        Node::E => whole(variable("e".to_string())),
        Node::Float(_) | Node::Infinity { .. } => None,
        Node::Add(terms) => {
            let mut sum = (Polynomial::new(), number(one()));
            for term in terms {
                let term = quotient(term)?;
                let above = added(product(&sum.0, &term.1)?, product(&term.0, &sum.1)?)?;
                sum = (above, product(&sum.1, &term.1)?);
            }
            Some(sum)
        }
        Node::Mul(factors) => {
            let mut result = (number(one()), number(one()));
            for factor in factors {
                let factor = quotient(factor)?;
                result = (product(&result.0, &factor.0)?, product(&result.1, &factor.1)?);
            }
            Some(result)
        }
        Node::Pow(base, exponent) => power(base, exponent),
        Node::Exp(_) | Node::Factorial(_) | Node::Call(..) => {
            if node.has_float() {
                return None;
            }
            whole(variable(format!("{node:?}")))
        }
    }
}

fn power(base: &Node, exponent: &Node) -> Option<(Polynomial, Polynomial)> {
    let exponent = match exponent {
        Node::Rational(value) => value.clone(),
        _ => rational(exponent)?,
    };
    let base = match base {
        // The negative power of zero is no number.
        Node::Pow(..) | Node::Mul(_) | Node::Add(_) => base,
        other => other,
    };
    if let Some(half) =
        (&exponent * BigRational::from_integer(2.into())).to_i64().filter(|_| exponent.denom() == &2.into())
    {
        let radicand = rational(base)?;
        let root = square_root(&radicand)?;
        return raised((root, number(one())), half);
    }
    if !exponent.is_integer() {
        return None;
    }
    raised(quotient(base)?, exponent.to_i64()?)
}

fn raised(base: (Polynomial, Polynomial), exponent: i64) -> Option<(Polynomial, Polynomial)> {
    let base = if exponent < 0 { (base.1, base.0) } else { base };
    // 0^0 and division by zero are left alone.
    if base.1.is_empty() || base.0.is_empty() && exponent <= 0 {
        return None;
    }
    let mut result = (number(one()), number(one()));
    if exponent.unsigned_abs() > 400 {
        return None;
    }
    for _ in 0..exponent.unsigned_abs() {
        result = (product(&result.0, &base.0)?, product(&result.1, &base.1)?);
    }
    Some(result)
}

/// The root of a rational number, as a rational times roots of primes.
fn square_root(value: &BigRational) -> Option<Polynomial> {
    if value.is_negative() {
        return None;
    }
    let mut rest = (value.numer() * value.denom()).to_u64().filter(|n| *n <= 1 << 40)?;
    let mut outside = BigRational::new(BigInt::from(1), value.denom().clone());
    let mut primes = Vec::new();
    let mut prime = 2u64;
    while prime * prime <= rest {
        let mut count = 0;
        while rest % prime == 0 {
            rest /= prime;
            count += 1;
        }
        outside *= BigRational::from_integer(BigInt::from(prime).pow(count / 2));
        if count % 2 == 1 {
            primes.push(prime);
        }
        prime += 1;
        // A prime factor above this takes too long to find.
        if prime > 2000 {
            return None;
        }
    }
    if rest == 0 {
        return Some(Polynomial::new());
    }
    if rest > 1 {
        primes.push(rest);
    }
    let mut monomial: Monomial = primes.into_iter().map(|prime| (format!("r{prime}"), 1)).collect();
    monomial.sort();
    Some(Polynomial::from([(monomial, outside)]))
}

fn number(value: BigRational) -> Polynomial {
    if value.is_zero() {
        Polynomial::new()
    } else {
        Polynomial::from([(Vec::new(), value)])
    }
}

fn variable(name: String) -> Polynomial {
    Polynomial::from([(vec![(name, 1)], one())])
}

fn added(mut left: Polynomial, right: Polynomial) -> Option<Polynomial> {
    for (monomial, coefficient) in right {
        add_term(&mut left, monomial, coefficient);
    }
    (left.len() <= MOST_TERMS).then_some(left)
}

fn add_term(polynomial: &mut Polynomial, monomial: Monomial, coefficient: BigRational) {
    let sum = polynomial.entry(monomial).or_insert_with(BigRational::zero);
    *sum += coefficient;
    if sum.is_zero() {
        polynomial.retain(|_, coefficient| !coefficient.is_zero());
    }
}

fn product(left: &Polynomial, right: &Polynomial) -> Option<Polynomial> {
    if left.len() * right.len() > MOST_TERMS * 4 {
        return None;
    }
    let mut result = Polynomial::new();
    for (left_monomial, left_coefficient) in left {
        for (right_monomial, right_coefficient) in right {
            let mut coefficient = left_coefficient * right_coefficient;
            if coefficient.numer().bits().max(coefficient.denom().bits()) > MOST_BITS {
                return None;
            }
            let monomial = merged(left_monomial, right_monomial, &mut coefficient)?;
            add_term(&mut result, monomial, coefficient);
        }
    }
    (result.len() <= MOST_TERMS).then_some(result)
}

/// The product of two monomials; the square of a root of a prime goes into the coefficient.
fn merged(left: &Monomial, right: &Monomial, coefficient: &mut BigRational) -> Option<Monomial> {
    let mut exponents: BTreeMap<&str, i32> = BTreeMap::new();
    for (name, exponent) in left.iter().chain(right) {
        *exponents.entry(name).or_insert(0) += exponent;
    }
    let mut result = Monomial::new();
    for (name, exponent) in exponents {
        if let Some(prime) = name.strip_prefix('r') {
            if exponent == 2 {
                let prime: BigInt = prime.parse().ok()?;
                *coefficient *= BigRational::from_integer(prime);
                continue;
            }
        }
        if exponent > 40 {
            return None;
        }
        result.push((name.to_string(), exponent));
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::super::normalise::normalise;
    use super::super::parse::{parse, Parsed};
    use super::super::value::Value;
    use super::*;

    fn node(text: &str) -> Node {
        match parse(&normalise(text).unwrap()) {
            Some(Parsed::Value(Value::Expr(node))) => node,
            _ => panic!("{text}"),
        }
    }

    #[test]
    fn equal_expressions() {
        for (left, right) in [
            (r"\sqrt{8}", r"2\sqrt{2}"),
            (r"\frac{1}{\sqrt{2}}", r"\frac{\sqrt{2}}{2}"),
            (r"\sqrt{6}", r"\sqrt{2}\cdot\sqrt{3}"),
            (r"(\sqrt{2}+1)^2", r"3+2\sqrt{2}"),
            (r"\sqrt{\frac{3}{4}}", r"\frac{\sqrt{3}}{2}"),
            ("(x+1)^2", "x^2+2x+1"),
            (r"\frac{x^2-1}{x-1}", "x+1"),
            (r"2^{10}", "1024"),
            (r"\frac{2\pi}{4}", r"\frac{\pi}{2}"),
        ] {
            assert!(equal(&node(left), &node(right)), "{left} {right}");
        }
        for (left, right) in [(r"\sqrt{8}", r"2\sqrt{3}"), ("x+1", "x+2"), ("x", "y"), (r"\pi", "3")] {
            assert!(!equal(&node(left), &node(right)), "{left} {right}");
        }
    }
}
