//! Values of expressions at points of a curve.

use num_bigint::BigInt;
use num_rational::BigRational;

use super::numeric::sample;
use super::value::Node;

/// Value of an expression in a sample in which one symbol has a value of its own.
pub(super) fn evaluate_at(node: &Node, seed: u64, name: &str, value: f64) -> Option<f64> {
    // Fifteen decimals keep the error below every margin that is used.
    let scaled = (value * 1e15).round();
    if !scaled.is_finite() || scaled.abs() > 1e30 {
        return None;
    }
    let number = Node::Rational(BigRational::new(BigInt::from(scaled as i128), BigInt::from(10u64.pow(15))));
    sample(&replaced(node, name, &number), seed)
}

fn replaced(node: &Node, name: &str, number: &Node) -> Node {
    let each = |parts: &[Node]| parts.iter().map(|part| replaced(part, name, number)).collect();
    let boxed = |part: &Node| Box::new(replaced(part, name, number));
    match node {
        Node::Symbol { name: other, .. } if other == name => number.clone(),
        Node::Add(parts) => Node::Add(each(parts)),
        Node::Mul(parts) => Node::Mul(each(parts)),
        Node::Call(function, parts) => Node::Call(function.clone(), each(parts)),
        Node::Pow(base, exponent) => Node::Pow(boxed(base), boxed(exponent)),
        Node::Exp(part) => Node::Exp(boxed(part)),
        Node::Factorial(part) => Node::Factorial(boxed(part)),
        other => other.clone(),
    }
}
