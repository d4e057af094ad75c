//! Whether math-verify takes two answers for the same: relations first, then sets and tuples, then expressions.

use super::expressions::compare_expressions;
use super::intervals::{compare_intervals, compare_unions};
use super::numeric::{constant, differ, sample};
use super::relations::compare_relations;
use super::value::{Node, Value};
use super::Decision;

/// Compares what a gold answer and a boxed answer were read as.
pub(super) fn compare(gold: &Value, found: &Value) -> Decision {
    if gold == found {
        return Decision::Equal;
    }
    let (gold, found) = match sides(gold, found) {
        Some(sides) => sides,
        None => return Decision::Unknown,
    };
    if gold == found {
        return Decision::Equal;
    }
    match (gold, found) {
        (Value::Relation { .. }, Value::Relation { .. }) => compare_relations(gold, found),
        // An inequality or a proper equation is no number.
        (Value::Relation { .. }, Value::Expr(_)) | (Value::Expr(_), Value::Relation { .. }) => Decision::Different,
        (Value::Relation { .. }, _) | (_, Value::Relation { .. }) => Decision::Unknown,
        (Value::Expr(gold), Value::Expr(found)) => compare_expressions(gold, found),
        (Value::Matrix(gold), Value::Matrix(found)) => compare_matrices(gold, found),
        (Value::Matrix(_), Value::Expr(_)) | (Value::Expr(_), Value::Matrix(_)) => Decision::Different,
        (Value::Matrix(_), other) | (other, Value::Matrix(_)) => {
            if is_plural(other) {
                Decision::Different
            } else {
                Decision::Unknown
            }
        }
        (Value::Union(_), _) | (_, Value::Union(_)) => compare_unions(gold, found),
        (Value::Interval(_), _) | (_, Value::Interval(_)) => compare_intervals(gold, found),
        _ => compare_collections(gold, found),
    }
}

/// The parts of both that are compared: `x = 5` against `5` is 5 against 5, `x = 5` against `y = 5` stays as it is.
fn sides<'a>(gold: &'a Value, found: &'a Value) -> Option<(&'a Value, &'a Value)> {
    // Chains of relations fold up in ways of their own.
    if [gold, found].iter().any(|value| matches!(value, Value::Relation { ops, .. } if ops.len() > 1)) {
        return None;
    }
    let right = |value: &'a Value| match value {
        Value::Relation { terms, ops } if ops[0] == '=' => terms.get(1),
        _ => None,
    };
    match (right(gold), right(found)) {
        (None, Some(found)) => Some((gold, found)),
        (Some(inner), None) if is_assignment(gold) => Some((inner, found)),
        _ => Some((gold, found)),
    }
}

/// Element by element, as numbers: symbols have no names here.
fn compare_matrices(gold: &[Vec<Node>], found: &[Vec<Node>]) -> Decision {
    if gold.len() != found.len() || gold[0].len() != found[0].len() {
        return Decision::Different;
    }
    let is_symbol = |node: &Node| matches!(node, Node::Symbol { .. });
    let mut all = Decision::Equal;
    for (gold, found) in gold.iter().flatten().zip(found.iter().flatten()) {
        match compare_expressions(gold, found) {
            Decision::Different if !is_symbol(gold) && !is_symbol(found) => return Decision::Different,
            Decision::Equal if gold == found || !is_symbol(gold) && !is_symbol(found) => {}
            _ => all = Decision::Unknown,
        }
    }
    all
}

fn is_assignment(value: &Value) -> bool {
    match value {
        Value::Relation { terms, ops } => ops[0] == '=' && only_symbols(&terms[0]),
        _ => false,
    }
}

fn only_symbols(value: &Value) -> bool {
    match value {
        Value::Expr(node) => only_symbols_in(node),
        Value::Tuple(parts) => parts.iter().all(only_symbols),
        _ => false,
    }
}

fn only_symbols_in(node: &Node) -> bool {
    match node {
        Node::Symbol { .. } => true,
        Node::Add(parts) | Node::Mul(parts) | Node::Call(_, parts) => parts.iter().all(only_symbols_in),
        Node::Pow(base, exponent) if **exponent == Node::integer(-1) => only_symbols_in(base),
        Node::Pow(base, exponent) => only_symbols_in(base) && only_symbols_in(exponent),
        Node::Exp(part) | Node::Factorial(part) => only_symbols_in(part),
        _ => false,
    }
}

/// Elements of a set or tuple; an expression is the only element of its set.
fn elements(value: &Value) -> &[Value] {
    match value {
        Value::Set(elements) | Value::Tuple(elements) => elements,
        single => std::slice::from_ref(single),
    }
}

/// Sets, tuples, and an expression against one of them.
pub(super) fn compare_collections(gold: &Value, found: &Value) -> Decision {
    let (left, right) = (elements(gold), elements(found));
    if left.is_empty() || right.is_empty() {
        let (other, empty) = if left.is_empty() { (right, left) } else { (left, right) };
        return if other.len() == empty.len() { Decision::Unknown } else { Decision::Different };
    }
    match (gold, found) {
        (Value::Tuple(_), Value::Tuple(_) | Value::Expr(_)) | (Value::Expr(_), Value::Tuple(_)) => {
            in_order(left, right)
        }
        (Value::Tuple(_), _) if !repeats(right) => in_order(left, right),
        // An element counts once in a set.
        (Value::Set(_), Value::Set(_)) => as_sets(&distinct(left), &distinct(right)),
        _ => as_sets(left, right),
    }
}

/// Whether a value has at least two elements, so that nothing single equals it.
pub(super) fn is_plural(value: &Value) -> bool {
    match value {
        Value::Set(elements) => {
            let constants = elements.iter().all(|element| element.expr().is_some_and(Node::is_constant));
            constants && as_sets(&elements[..1.min(elements.len())], elements) == Decision::Different
        }
        Value::Tuple(elements) => elements.len() > 1,
        Value::Interval(_) | Value::Union(_) => true,
        _ => false,
    }
}

/// Whether no number equals a value: it is plural, an equation with more than a name on its left, or varies with a symbol.
pub(super) fn is_no_number(value: &Value) -> bool {
    match value {
        Value::Expr(node) => {
            let values = [1, 2].map(|seed| sample(node, seed));
            !matches!(node, Node::Symbol { .. }) && matches!(values, [Some(one), Some(other)] if differ(one, other))
        }
        Value::Relation { terms, ops } if is_assignment(value) => ops.len() == 1 && is_no_number(&terms[1]),
        Value::Relation { ops, .. } => ops.len() == 1,
        Value::Matrix(_) => true,
        _ => is_plural(value),
    }
}

/// Element by element.
pub(super) fn in_order(left: &[Value], right: &[Value]) -> Decision {
    if left.len() != right.len() {
        return Decision::Different;
    }
    let mut all = Decision::Equal;
    for (left, right) in left.iter().zip(right) {
        match compare(left, right) {
            Decision::Equal => {}
            Decision::Different => return Decision::Different,
            Decision::Unknown => all = Decision::Unknown,
        }
    }
    all
}

/// In any order. An element that differs from all others decides; so does one partner for each.
pub(super) fn as_sets(left: &[Value], right: &[Value]) -> Decision {
    let without_partner = |one: &Value, others: &[Value], swapped: bool| {
        others.iter().all(|other| {
            let decision = if swapped { compare(other, one) } else { compare(one, other) };
            decision == Decision::Different
        })
    };
    if left.len() * right.len() > 400 {
        return Decision::Unknown;
    }
    if left.iter().any(|one| without_partner(one, right, false))
        || right.iter().any(|one| without_partner(one, left, true))
    {
        return Decision::Different;
    }
    if left.len() != right.len() || repeats(left) || repeats(right) {
        return Decision::Unknown;
    }
    if left.iter().all(|one| right.contains(one)) {
        return Decision::Equal;
    }
    let (Some(left), Some(right)) = (sorted(left), sorted(right)) else { return Decision::Unknown };
    let same = left.iter().zip(&right).all(|(left, right)| compare(left, right) == Decision::Equal);
    if same {
        Decision::Equal
    } else {
        Decision::Unknown
    }
}

fn distinct(elements: &[Value]) -> Vec<Value> {
    let first = |(at, element): &(usize, &Value)| !elements[..*at].contains(element);
    elements.iter().enumerate().filter(first).map(|(_, element)| element.clone()).collect()
}

pub(super) fn repeats(elements: &[Value]) -> bool {
    elements.iter().enumerate().any(|(at, element)| elements[..at].contains(element))
}

/// Constants without a decimal point in order of their values, if these are clearly distinct.
fn sorted(elements: &[Value]) -> Option<Vec<&Value>> {
    let mut valued = Vec::new();
    for element in elements {
        let node = element.expr().filter(|node| !node.has_float() && node.percentage().is_none())?;
        valued.push((constant(node).filter(|value| value.is_finite())?, element));
    }
    valued.sort_by(|left, right| left.0.total_cmp(&right.0));
    let distinct = valued.windows(2).all(|pair| differ(pair[0].0, pair[1].0));
    distinct.then(|| valued.into_iter().map(|(_, element)| element).collect())
}
