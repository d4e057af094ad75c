//! Whether math-verify takes two expressions for the same.

use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

use super::exact;
use super::numeric::{constant, differ, sample, SAMPLES};
use super::value::Node;
use super::Decision;

/// Compares two expressions in the order of math-verify's tests: symbols, numbers, all else.
pub(super) fn compare_expressions(gold: &Node, found: &Node) -> Decision {
    if gold == found {
        return Decision::Equal;
    }
    if let Some(decision) = compare_symbols(gold, found).or_else(|| compare_symbols(found, gold)) {
        return decision;
    }
    let infinite = |node: &Node| matches!(node, Node::Infinity { .. });
    if infinite(gold) || infinite(found) {
        let inside = |node: &Node| !infinite(node) && node.any(&infinite);
        return if inside(gold) || inside(found) { Decision::Unknown } else { Decision::Different };
    }
    let number = |node: &Node| number_of(node).is_some();
    if number(gold) || number(found) {
        let float = |node: &Node| matches!(number_of(node), Some(Node::Float(_)));
        if float(gold) || float(found) {
            return compare_rounded(gold, found);
        }
        if let (Some(Node::Rational(left)), Some(Node::Rational(right))) = (number_of(gold), number_of(found)) {
            let values_equal = exact::rational(gold) == exact::rational(found);
            // 9 and 9% are the same there.
            return match (left.is_integer() && right.is_integer() && left == right, values_equal) {
                (true, _) => Decision::Equal,
                (false, true) if gold.percentage().is_none() && found.percentage().is_none() => Decision::Equal,
                // An integral percentage against an integer, and fractions: equal values are found equal there as well,
                // but by ways that are not followed here.
                (false, true) => Decision::Unknown,
                (false, false) => apart(gold, found),
            };
        }
    }
    if exact::equal(gold, found) {
        return Decision::Equal;
    }
    apart(gold, found)
}

/// The number itself, or that of a percentage.
fn number_of(node: &Node) -> Option<&Node> {
    if node.is_number() {
        Some(node)
    } else {
        node.percentage()
    }
}

/// A float is compared after both sides are rounded to six decimals.
fn compare_rounded(gold: &Node, found: &Node) -> Decision {
    if !gold.is_constant() || !found.is_constant() {
        return apart(gold, found);
    }
    let (Some(left), Some(right)) = (constant(gold), constant(found)) else { return Decision::Unknown };
    if differ(left, right) {
        return Decision::Different;
    }
    let (Some(left), Some(right)) = (rounded(left), rounded(right)) else { return Decision::Unknown };
    if left == right {
        Decision::Equal
    } else {
        Decision::Different
    }
}

/// Millionths; None where floating point does not tell which way it is rounded.
fn rounded(value: f64) -> Option<f64> {
    let millionths = value * 1e6;
    let tie = (millionths.abs().fract() - 0.5).abs();
    (value.abs() < 1e8 && tie > 1e-3).then(|| millionths.round())
}

/// Different where the values are apart in a sample.
fn apart(gold: &Node, found: &Node) -> Decision {
    if gold.is_constant() && found.is_constant() {
        if let (Some(left), Some(right)) = (exact::rational(gold), exact::rational(found)) {
            return if left != right && beyond_rounding(&left, &right) {
                Decision::Different
            } else {
                Decision::Unknown
            };
        }
        return match (constant(gold), constant(found)) {
            (Some(left), Some(right)) if differ(left, right) => Decision::Different,
            _ => Decision::Unknown,
        };
    }
    let samples = (0..SAMPLES).any(|seed| match (sample(gold, seed), sample(found, seed)) {
        (Some(left), Some(right)) => differ(left, right),
        _ => false,
    });
    if samples {
        Decision::Different
    } else {
        Decision::Unknown
    }
}

/// Two rationals that are told apart even where math-verify compares 15 digits.
fn beyond_rounding(left: &BigRational, right: &BigRational) -> bool {
    if left.is_integer() && right.is_integer() {
        return true;
    }
    (left - right).abs().to_f64().is_some_and(|difference| difference > 1e-9)
}

/// Symbols are compared by name: with each other, with a product of letters that spells the name, and with what is
/// printed like it. None where `symbol` is no symbol.
fn compare_symbols(symbol: &Node, other: &Node) -> Option<Decision> {
    let Node::Symbol { name, .. } = symbol else { return None };
    let same = |same: bool| Some(if same { Decision::Equal } else { Decision::Different });
    match other {
        Node::Symbol { name: other, .. } => same(name == other),
        Node::E => same(name == "e"),
        Node::Mul(factors) => {
            let mut spelt = String::new();
            for factor in factors {
                match factor {
                    Node::Symbol { name, .. } => spelt.push_str(name),
                    Node::E => spelt.push('e'),
                    _ => return Some(printed(name, other)),
                }
            }
            same(*name == spelt)
        }
        _ => Some(printed(name, other)),
    }
}

/// A symbol against an expression's printed form.
fn printed(name: &str, other: &Node) -> Decision {
    let same = match other {
        Node::Rational(value) if value.is_integer() => name == value.numer().to_string(),
        Node::Rational(value) => name == format!("{}/{}", value.numer(), value.denom()),
        Node::Infinity { negative } => name == if *negative { "-oo" } else { "oo" },
        Node::Pi => name == "pi",
        // Whatever else is printed has an operator, a bracket or a decimal point in it.
        _ if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') => false,
        _ => return Decision::Unknown,
    };
    if same {
        Decision::Equal
    } else {
        Decision::Different
    }
}

/// The negative of an expression.
pub(super) fn minus(node: &Node) -> Node {
    node.clone().minus()
}
