//! Whether math-verify takes two equations or inequalities for the same.

use super::compare::{compare, repeats};
use super::exact;
use super::expressions::minus;
use super::numeric::{differ, sample, SAMPLES};
use super::points::evaluate_at;
use super::value::{Node, Value};
use super::Decision;

/// Two relations, with one sign each.
pub(super) fn compare_relations(gold: &Value, found: &Value) -> Decision {
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
        // An equation of numbers alone has no solutions to compare.
        let solved = right.is_constant() && !left.any(&|part| !is_real(part)) && solvable(&left);
        let apart = |other: &Node| (0..SAMPLES).any(|seed| differing(&left, other, seed));
        if solved && apart(&right) && apart(&negated) {
            return Decision::Different;
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
    match (sample(left, seed), sample(right, seed)) {
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
    if one.expr().is_some() || other.expr().is_some() {
        return Decision::Different;
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
