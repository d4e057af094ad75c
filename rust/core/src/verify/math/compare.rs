//! Whether math-verify takes two answers for the same: relations first, then sets and tuples, then expressions.

use super::exact;
use super::expressions::{compare_expressions, minus};
use super::intervals::{compare_intervals, compare_unions};
use super::numeric::{constant, differ, SAMPLES};
use super::points::evaluate_at;
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

/// Two relations, with one sign each.
fn compare_relations(gold: &Value, found: &Value) -> Decision {
    let (Some((left, sign)), Some((right, other))) = (difference(gold), difference(found)) else {
        return compare_collections_of(gold, found);
    };
    if sign == 'n' || other == 'n' {
        return Decision::Unknown;
    }
    let flipped = match sign {
        '<' => '>',
        '>' => '<',
        'l' => 'g',
        'g' => 'l',
        same => same,
    };
    let negated = minus(&right);
    // A difference that is a lone symbol is compared by its spelling.
    let spelt = is_lone_symbol(&left) || is_lone_symbol(&right);
    if !spelt && (sign == other && exact::equal(&left, &right) || flipped == other && exact::equal(&left, &negated)) {
        return Decision::Equal;
    }
    if sign == '=' && other == '=' {
        if let Some(decision) = compare_functions(gold, found, &left, &right) {
            return decision;
        }
        return if on_one_curve(&left, &right) { Decision::Unknown } else { Decision::Different };
    }
    // Inequalities are equal as they stand or flipped; solving them leads nowhere there.
    let apart = |other: &Node| (0..SAMPLES).any(|seed| differing(&left, other, seed));
    let differ = (sign != other || apart(&right)) && (flipped != other || apart(&negated));
    if differ {
        Decision::Different
    } else {
        Decision::Unknown
    }
}

/// Left side minus right side, and the sign between them.
fn difference(value: &Value) -> Option<(Node, char)> {
    match value {
        Value::Relation { terms, ops } => {
            let (left, right) = (terms[0].expr()?, terms[1].expr()?);
            Some((left.clone().plus(minus(right)), ops[0]))
        }
        _ => None,
    }
}

/// Whether a sum is a symbol and maybe zeros.
fn is_lone_symbol(node: &Node) -> bool {
    let Node::Add(terms) = node else { return false };
    let mut rest = terms.iter().filter(|term| **term != Node::integer(0));
    matches!((rest.next(), rest.next()), (Some(Node::Symbol { .. }), None))
}

fn differing(left: &Node, right: &Node, seed: u64) -> bool {
    match (super::numeric::sample(left, seed), super::numeric::sample(right, seed)) {
        (Some(left), Some(right)) => differ(left, right),
        _ => false,
    }
}

/// `f(x) = ...` against another equation: one for an unknown function is not solved there, so it counts as it stands.
///
/// None where neither side is such an equation.
fn compare_functions(gold: &Value, found: &Value, left: &Node, right: &Node) -> Option<Decision> {
    let (Value::Relation { terms, .. }, Value::Relation { terms: others, .. }) = (gold, found) else { return None };
    let unknown = |node: &Node| {
        node.any(&|part| matches!(part, Node::Call(name, _) if name.starts_with("f:")) || !is_real(part))
            || node.any(&|part| matches!(part, Node::Factorial(_)))
    };
    let is_function = |terms: &[Value]| match (&terms[0], &terms[1]) {
        (Value::Expr(Node::Call(name, arguments)), Value::Expr(right)) => {
            let plain = arguments.iter().all(|part| matches!(part, Node::Symbol { .. }) && is_real(part));
            name.starts_with("f:") && plain && !unknown(right)
        }
        _ => false,
    };
    let decided = match (is_function(terms), is_function(others)) {
        (true, true) => true,
        // Two equations without a solution count as equal: the other one must have some.
        (true, false) => !unknown(right) && solvable(right),
        (false, true) => !unknown(left) && solvable(left),
        (false, false) => return None,
    };
    let apart = |other: &Node| (0..SAMPLES).any(|seed| differing(left, other, seed));
    Some(if decided && apart(right) && apart(&minus(right)) { Decision::Different } else { Decision::Unknown })
}

/// Whether an expression is linear in one of its symbols.
fn solvable(node: &Node) -> bool {
    let mut names = Vec::new();
    symbols(node, &mut names);
    names.iter().any(|name| linear_root(node, 1, name).is_some())
}

/// `x = 1, 2` twice: there is no arithmetic with sets, so that the sets on the right decide.
fn compare_collections_of(gold: &Value, found: &Value) -> Decision {
    let (Value::Relation { terms: left, ops }, Value::Relation { terms: right, ops: others }) = (gold, found) else {
        return Decision::Unknown;
    };
    let (one, other) = (&left[1], &right[1]);
    let collections = !matches!(one, Value::Expr(_) | Value::Relation { .. }) && other.expr().is_none();
    if !collections
        || ops[0] != '='
        || others[0] != '='
        || !matches!((&left[0], &right[0]), (Value::Expr(_), Value::Expr(_)))
    {
        return Decision::Unknown;
    }
    let sides = [compare(&left[0], &right[0]), compare(one, other)];
    if sides.contains(&Decision::Different) {
        return Decision::Different;
    }
    let (Value::Set(one), Value::Set(other)) = (one, other) else { return Decision::Unknown };
    let same = left[0] == right[0] && one.len() == other.len() && !repeats(one) && !repeats(other);
    if same && one.iter().all(|element| other.contains(element)) {
        Decision::Equal
    } else {
        Decision::Unknown
    }
}

/// False if a point that solves `gold = 0` is found not to solve `other = 0`.
///
/// math-verify also solves both equations and compares the solutions, which cannot agree then. It takes two equations that
/// it cannot solve for equal; so `gold` has to be linear in a symbol, and where symbols are not real, the solution has to
/// have symbols in it: it throws away a real one.
fn on_one_curve(gold: &Node, other: &Node) -> bool {
    let unsolvable = |node: &Node| node.any(&|part| matches!(part, Node::Factorial(_) | Node::Infinity { .. }));
    let real = |node: &Node| !node.any(&|part| !is_real(part));
    let mut names = Vec::new();
    symbols(gold, &mut names);
    if unsolvable(gold) || unsolvable(other) || real(gold) != real(other) || !real(gold) && names.len() < 3 {
        return true;
    }
    !names.iter().any(|name| {
        (1..=SAMPLES).any(|seed| {
            let root = linear_root(gold, seed, name);
            root.and_then(|root| evaluate_at(other, seed, name, root)).is_some_and(|rest| differ(rest, 0.0))
        })
    })
}

/// Where an expression vanishes that is linear in the symbol `name`, the other symbols having the values of a sample.
fn linear_root(node: &Node, seed: u64, name: &str) -> Option<f64> {
    let at = |value: f64| evaluate_at(node, seed, name, value);
    let (low, middle, high) = (at(0.5)?, at(1.0)?, at(2.0)?);
    let slope = (middle - low) * 2.0;
    let linear = (high - middle - slope).abs() < 1e-9 * (1.0 + high.abs() + low.abs());
    if !linear || slope.abs() < 1e-3 {
        return None;
    }
    let root = 1.0 - middle / slope;
    // Two equal-looking points prove a line only together with the root itself.
    (root.abs() < 1e6 && at(root)?.abs() < 1e-9 * (1.0 + middle.abs())).then_some(root)
}

fn symbols<'a>(node: &'a Node, names: &mut Vec<&'a str>) {
    match node {
        Node::Symbol { name, .. } if !names.contains(&name.as_str()) => names.push(name),
        Node::Add(parts) | Node::Mul(parts) | Node::Call(_, parts) => {
            parts.iter().for_each(|part| symbols(part, names))
        }
        Node::Pow(base, exponent) => {
            symbols(base, names);
            symbols(exponent, names);
        }
        Node::Exp(part) | Node::Factorial(part) => symbols(part, names),
        _ => {}
    }
}

fn is_real(node: &Node) -> bool {
    !matches!(node, Node::Symbol { real: false, .. })
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
        _ => as_sets(left, right),
    }
}

/// Whether a value has at least two elements, so that no number equals it.
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

fn repeats(elements: &[Value]) -> bool {
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
