//! Intervals and their unions. An open interval may also be meant as a pair.

use super::compare::{as_sets, compare_collections, in_order};
use super::expressions::compare_expressions;
use super::numeric::constant;
use super::value::{Interval, Node, Value};
use super::Decision;

/// Compares where at least one side is an interval, and neither a union.
pub(super) fn compare_intervals(gold: &Value, found: &Value) -> Decision {
    match (gold, found) {
        (Value::Interval(left), Value::Interval(right)) => compare_two(left, right),
        (Value::Interval(interval), other) => compare_with_elements(interval, gold, other, false),
        (other, Value::Interval(interval)) => compare_with_elements(interval, found, other, true),
        _ => Decision::Unknown,
    }
}

fn compare_two(left: &Interval, right: &Interval) -> Decision {
    let ends = [compare_expressions(&left.low, &right.low), compare_expressions(&left.high, &right.high)];
    if ends.contains(&Decision::Different) {
        return Decision::Different;
    }
    if left.symbolic || right.symbolic {
        return Decision::Unknown;
    }
    if (left.low_open, left.high_open) != (right.low_open, right.high_open) {
        return Decision::Different;
    }
    if ends.contains(&Decision::Unknown) {
        Decision::Unknown
    } else {
        Decision::Equal
    }
}

/// An open interval counts as the pair of its ends beside two elements; any other has no finite equal.
fn compare_with_elements(interval: &Interval, whole: &Value, other: &Value, interval_found: bool) -> Decision {
    let elements = match other {
        Value::Set(elements) | Value::Tuple(elements) => elements.as_slice(),
        single => std::slice::from_ref(single),
    };
    let in_set = matches!(other, Value::Set(_));
    let repeated = in_set && elements.iter().enumerate().any(|(at, element)| elements[..at].contains(element));
    if repeated {
        return Decision::Unknown;
    }
    if elements.is_empty() {
        return if interval.symbolic { Decision::Unknown } else { Decision::Different };
    }
    let ends = [Value::Expr(interval.low.clone()), Value::Expr(interval.high.clone())];
    if interval.symbolic {
        // Either reading is told apart by an element that fits neither end.
        let pair = Value::Tuple(ends.to_vec());
        let decision =
            if interval_found { compare_collections(other, &pair) } else { compare_collections(&pair, other) };
        return if decision == Decision::Different { decision } else { Decision::Unknown };
    }
    if !(interval.low_open && interval.high_open) || elements.len() != 2 {
        return Decision::Different;
    }
    debug_assert!(matches!(whole, Value::Interval(_)));
    match other {
        // A gold set is sorted before it is compared, and so is what it is compared with.
        Value::Set(_) if interval_found => as_sets(elements, &ends),
        _ if interval_found => in_order(elements, &ends),
        _ => in_order(&ends, elements),
    }
}

/// A stretch of the real line.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Stretch {
    low: f64,
    low_open: bool,
    high: f64,
    high_open: bool,
}

/// Compares where at least one side is a union: as sets of real numbers.
pub(super) fn compare_unions(gold: &Value, found: &Value) -> Decision {
    if matches!(gold, Value::Tuple(_)) || matches!(found, Value::Tuple(_)) {
        return Decision::Different;
    }
    // No finite set is a union with an interval in it.
    let endless = |value: &Value| match value {
        Value::Union(parts) => parts.iter().any(|part| matches!(part, Value::Interval(_))),
        _ => false,
    };
    let finite = |value: &Value| matches!(value, Value::Set(_) | Value::Expr(_));
    if endless(gold) && finite(found) || finite(gold) && endless(found) {
        return Decision::Different;
    }
    let (Some(left), Some(right)) = (stretches(gold), stretches(found)) else { return Decision::Unknown };
    if left == right {
        let parts = |value: &Value| match value {
            Value::Union(parts) => parts.clone(),
            other => vec![other.clone()],
        };
        let (left, right) = (parts(gold), parts(found));
        let same = left.len() == right.len() && left.iter().all(|part| right.contains(part));
        return if same { Decision::Equal } else { Decision::Unknown };
    }
    let near = |left: f64, right: f64| left == right || !super::numeric::differ(left, right);
    let alike = left.len() == right.len()
        && left.iter().zip(&right).all(|(left, right)| {
            near(left.low, right.low)
                && near(left.high, right.high)
                && left.low_open == right.low_open
                && left.high_open == right.high_open
        });
    if alike {
        Decision::Unknown
    } else {
        Decision::Different
    }
}

/// Disjoint stretches in order; None where ends nearly meet or are no numbers.
fn stretches(value: &Value) -> Option<Vec<Stretch>> {
    let mut all = Vec::new();
    collect(value, &mut all)?;
    all.sort_by(|left, right| left.low.total_cmp(&right.low).then(left.low_open.cmp(&right.low_open)));
    let mut merged: Vec<Stretch> = Vec::new();
    for next in all {
        let Some(last) = merged.last_mut() else {
            merged.push(next);
            continue;
        };
        if next.low != last.high && !super::numeric::differ(next.low, last.high) {
            return None;
        }
        let apart = next.low > last.high || next.low == last.high && next.low_open && last.high_open;
        if apart {
            merged.push(next);
        } else if next.high > last.high {
            (last.high, last.high_open) = (next.high, next.high_open);
        } else if next.high == last.high {
            last.high_open &= next.high_open;
        }
    }
    Some(merged)
}

fn collect(value: &Value, all: &mut Vec<Stretch>) -> Option<()> {
    let point = |node: &Node| {
        let value = constant(node).filter(|value| value.is_finite())?;
        Some(Stretch { low: value, low_open: false, high: value, high_open: false })
    };
    match value {
        Value::Union(parts) => parts.iter().try_for_each(|part| collect(part, all))?,
        Value::Interval(interval) if !interval.symbolic => all.push(Stretch {
            low: constant(&interval.low)?,
            low_open: interval.low_open,
            high: constant(&interval.high)?,
            high_open: interval.high_open,
        }),
        Value::Set(elements) => {
            for element in elements {
                all.push(point(element.expr()?)?);
            }
        }
        Value::Expr(node) => all.push(point(node)?),
        _ => return None,
    }
    Some(())
}
