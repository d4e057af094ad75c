//! Values of expressions in floating point: what differs there by more than rounding differs.

use num_traits::ToPrimitive;

use super::value::Node;

/// Sets of values for the symbols that expressions are compared with.
pub(super) const SAMPLES: u64 = 5;

/// Value of an expression without symbols, infinity included.
pub(super) fn constant(node: &Node) -> Option<f64> {
    match node {
        Node::Infinity { negative } => Some(if *negative { f64::NEG_INFINITY } else { f64::INFINITY }),
        _ if node.is_constant() => finite(evaluate(node, 0)?),
        _ => None,
    }
}

/// Value of an expression where symbols have the values of a sample.
pub(super) fn sample(node: &Node, seed: u64) -> Option<f64> {
    finite(evaluate(node, seed)?)
}

/// Value of a symbol in a sample: between 0.4 and 1.6, in later samples some times that, and another one for every symbol.
pub(super) fn symbol_value(name: &str, real: bool, seed: u64) -> f64 {
    let mut hash = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ u64::from(real);
    for byte in name.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
    }
    hash ^= hash >> 29;
    hash = hash.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^= hash >> 32;
    // Steps, as of the greatest integer below, show at greater values only; powers at smaller ones.
    let scale = if seed < 3 { 1.0 } else { 7.3 };
    scale * (0.4 + 1.2 * ((hash >> 11) as f64 / (1u64 << 53) as f64))
}

/// Whether two values differ by more than math-verify ever forgives (it rounds to six decimals), and than rounding errors.
pub(super) fn differ(left: f64, right: f64) -> bool {
    (left - right).abs() > 2e-6 + 1e-9 * (left.abs() + right.abs())
}

fn finite(value: f64) -> Option<f64> {
    (value.is_finite() && value.abs() < 1e200).then_some(value)
}

fn evaluate(node: &Node, seed: u64) -> Option<f64> {
    let value = match node {
        Node::Rational(value) | Node::Float(value) => value.to_f64()?,
        Node::Hundredth => 0.01,
        Node::Symbol { name, real } => symbol_value(name, *real, seed),
        Node::Pi => std::f64::consts::PI,
        Node::E => std::f64::consts::E,
        Node::Infinity { .. } => return None,
        Node::Add(terms) => {
            let mut sum = 0.0;
            let mut largest: f64 = 0.0;
            for term in terms {
                let term = evaluate(term, seed)?;
                largest = largest.max(term.abs());
                sum += term;
            }
            // What nearly cancels has lost its digits.
            if largest > 1e4 * f64::abs(sum) && largest > 1e3 {
                return None;
            }
            sum
        }
        Node::Mul(factors) => {
            let mut product = 1.0;
            for factor in factors {
                product *= evaluate(factor, seed)?;
            }
            product
        }
        Node::Pow(base, exponent) => {
            let (base, exponent) = (evaluate(base, seed)?, evaluate(exponent, seed)?);
            // An angle near nothing below a fraction line, or 0^0, proves nothing.
            if base.abs() < 1e-6 && exponent <= 0.0 || base < 0.0 && exponent.fract() != 0.0 {
                return None;
            }
            // Errors of the base grow with the exponent.
            if exponent.abs() > 1e4 {
                return None;
            }
            base.powf(exponent)
        }
        Node::Exp(exponent) => evaluate(exponent, seed)?.exp(),
        Node::Factorial(inner) => factorial(evaluate(inner, seed)?)?,
        Node::Call(name, arguments) => call(name, arguments, seed)?,
    };
    finite(value)
}

/// The gamma function at `value + 1`, by Lanczos' approximation (g = 7, nine terms).
fn factorial(value: f64) -> Option<f64> {
    const TERMS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if !(-0.9..=100.0).contains(&value) {
        return None;
    }
    let sum = TERMS
        .iter()
        .enumerate()
        .fold(0.999_999_999_999_809_9, |sum, (at, term)| sum + term / (value + at as f64 + 1.0));
    let shifted = value + 7.5;
    Some((2.0 * std::f64::consts::PI).sqrt() * shifted.powf(value + 0.5) * (-shifted).exp() * sum)
}

fn call(name: &str, arguments: &[Node], seed: u64) -> Option<f64> {
    let value = evaluate(arguments.first()?, seed)?;
    let result = match name {
        "sin" => value.sin(),
        "cos" => value.cos(),
        "tan" => value.tan(),
        "csc" => value.sin().recip(),
        "sec" => value.cos().recip(),
        "cot" => value.tan().recip(),
        "arcsin" => value.asin(),
        "arccos" => value.acos(),
        "arctan" => value.atan(),
        "exp" => value.exp(),
        // Beside a step the value is certain.
        "floor" | "ceiling" if (value - value.round()).abs() > 1e-6 => {
            if name == "floor" {
                value.floor()
            } else {
                value.ceil()
            }
        }
        "log" if value > 0.0 => value.ln() / evaluate(arguments.get(1)?, seed)?.ln(),
        _ => match name.strip_prefix("f:") {
            // An unknown function: some number for every argument.
            Some(name) => symbol_value(&format!("{name}({value:.9e})"), true, seed),
            None => return None,
        },
    };
    // Near a pole a small error in the angle is a great one in the value.
    (result.abs() < 1e5).then_some(result)
}
