//! Whole answers: lists, sets, tuples, intervals, unions and relations, read as math-verify's grammar reads them.

use super::expr::Parser;
use super::numeric::{constant, differ};
use super::tokens::{tokens, Token};
use super::value::{decimal, Interval, Node, Value};

/// What reading a normalised text comes to.
pub(super) enum Parsed {
    Value(Value),
    /// math-verify cannot parse it either.
    Nothing,
}

/// Reads a normalised text; None where this module is not certain of what math-verify makes of it.
pub(super) fn parse(text: &str) -> Option<Parsed> {
    let tokens = tokens(text)?;
    if tokens.contains(&Token::Period) || !balanced(&tokens) {
        // After more than one "=", the last part is tried alone.
        return (tokens.iter().filter(|token| **token == Token::Sign('=')).count() < 2).then_some(Parsed::Nothing);
    }
    if let Some(number) = separated_thousands(text) {
        return Some(Parsed::Value(Value::Expr(number)));
    }
    let mut parser = Parser::new(&tokens, !looks_complex(text));
    let assignment = parser.assignment();
    if let Some(value) = assignment.filter(|_| parser.at == tokens.len()) {
        return Some(Parsed::Value(value));
    }
    parser = Parser::new(&tokens, parser.real);
    if let Some(value) = parser.list().filter(|_| parser.at == tokens.len()) {
        return Some(Parsed::Value(value));
    }
    parser = Parser::new(&tokens, parser.real);
    let value = parser.union()?;
    (parser.at == tokens.len()).then_some(Parsed::Value(value))
}

/// Whether the brackets pair in a way that the grammar knows: with their own kind, or around the two ends of an interval.
fn balanced(tokens: &[Token<'_>]) -> bool {
    let mut open: Vec<(&Token<'_>, usize)> = Vec::new();
    for token in tokens {
        match token {
            Token::Sign('(' | '[' | '{') | Token::OpenSet => open.push((token, 0)),
            Token::Sign(',') => {
                if let Some((_, commas)) = open.last_mut() {
                    *commas += 1;
                }
            }
            Token::Sign(')' | ']' | '}') | Token::CloseSet => match (open.pop(), token) {
                (Some((Token::Sign('('), _)), Token::Sign(')'))
                | (Some((Token::Sign('['), _)), Token::Sign(']'))
                | (Some((Token::Sign('{'), _)), Token::Sign('}'))
                | (Some((Token::OpenSet, _)), Token::CloseSet)
                | (Some((Token::Sign('(' | '['), 1)), Token::Sign(')' | ']')) => {}
                _ => return false,
            },
            _ => {}
        }
    }
    open.is_empty()
}

/// A lone `i` makes all symbols non-real.
fn looks_complex(text: &str) -> bool {
    let bytes = text.as_bytes();
    let word = |at: Option<usize>| {
        at.and_then(|at| bytes.get(at)).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    };
    bytes.iter().enumerate().any(|(at, byte)| *byte == b'i' && !word(at.checked_sub(1)) && !word(Some(at + 1)))
}

/// `-1,234,567.5` as a whole is a number, not a set.
fn separated_thousands(text: &str) -> Option<Node> {
    let text = text.trim();
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, part) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let mut groups = whole.split(',');
    let first = groups.next()?;
    let mut groups = groups.peekable();
    groups.peek()?;
    // A number that begins with 0 is read with decimal commas.
    let separated = digits(first) && first.len() <= 3 && !first.starts_with('0') && digits(part);
    if !separated || !groups.all(|group| group.len() == 3 && digits(group)) || text.len() > 20 {
        return None;
    }
    let value = decimal(&unsigned.replace(',', ""))?;
    let node = if unsigned.contains('.') { Node::Float(value) } else { Node::Rational(value) };
    Some(if text.starts_with('-') { node.minus() } else { node })
}

impl Parser<'_> {
    /// `x = 1, 2`, `(x, y) = (1, 2)`, `x \in [1, 2]`: one equation with everything on its right.
    fn assignment(&mut self) -> Option<Value> {
        let left = self.atoms()?;
        if !self.take('=') {
            (self.peek() == Some(&Token::Command("in"))).then(|| self.at += 1)?;
        }
        let begin = self.at;
        let right = match self.elements(false).filter(|_| self.at == self.tokens.len()) {
            Some(elements) => Value::listed(elements)?,
            None => {
                self.at = begin;
                self.union()?
            }
        };
        Some(Value::Relation { terms: vec![left, right], ops: vec!['='] })
    }

    fn atoms(&mut self) -> Option<Value> {
        if !self.take('(') {
            return Some(Value::Expr(self.atom()?));
        }
        let mut atoms = vec![Value::Expr(self.atom()?)];
        while self.take(',') {
            atoms.push(Value::Expr(self.atom()?));
        }
        self.expect(')')?;
        Some(if atoms.len() == 1 { atoms.pop()? } else { Value::Tuple(atoms) })
    }

    fn atom(&mut self) -> Option<Node> {
        match self.peek()? {
            Token::Letter('e' | 'E' | 'I') => None,
            Token::Letter(_) | Token::Symbol(_) | Token::Accent(..) => {
                let node = self.named()?;
                (!matches!(node, Node::Call(..) | Node::Pi)).then_some(node)
            }
            _ => None,
        }
    }

    fn list(&mut self) -> Option<Value> {
        Value::listed(self.elements(true)?)
    }

    /// Elements with commas between them.
    fn elements(&mut self, relations: bool) -> Option<Vec<Value>> {
        let mut elements = Vec::new();
        loop {
            self.element(relations, &mut elements)?;
            if !self.take(',') {
                return Some(elements);
            }
            if elements.len() > 30 {
                return None;
            }
        }
    }

    fn element(&mut self, relations: bool, elements: &mut Vec<Value>) -> Option<()> {
        if self.peek() == Some(&Token::Command("pm")) {
            self.at += 1;
            let node = self.expr()?;
            elements.extend([Value::Expr(unary_minus(node.clone())), Value::Expr(node)]);
            return Some(());
        }
        if self.peek() == Some(&Token::OpenMatrix) {
            let matrix = self.matrix()?;
            elements.push(matrix);
            return self.ends_element().then_some(());
        }
        let (begin, depth) = (self.at, self.depth);
        if let Some(set) = self.set_atom().filter(|_| self.ends_element()) {
            elements.push(set);
            return Some(());
        }
        (self.at, self.depth) = (begin, depth);
        let first = self.expr()?;
        if self.peek() == Some(&Token::Command("pm")) {
            self.at += 1;
            let second = self.expr()?;
            elements.extend([
                Value::Expr(Node::Add(vec![first.clone(), second.clone()])),
                Value::Expr(Node::Add(vec![first, unary_minus(second)])),
            ]);
            return Some(());
        }
        let (mut terms, mut ops) = (vec![Value::Expr(first)], Vec::new());
        while let Some(Token::Sign(op @ ('=' | '<' | '>' | 'l' | 'g' | 'n'))) = self.peek() {
            self.at += 1;
            ops.push(*op);
            terms.push(Value::Expr(self.expr()?));
        }
        if ops.is_empty() {
            elements.append(&mut terms);
        } else if relations {
            elements.push(Value::Relation { terms, ops });
        } else {
            return None;
        }
        Some(())
    }

    fn matrix(&mut self) -> Option<Value> {
        self.at += 1;
        let mut rows = vec![Vec::new()];
        loop {
            rows.last_mut()?.push(self.expr()?);
            let token = self.peek()?;
            self.at += 1;
            match token {
                Token::Sign('&') => {}
                Token::RowEnd if self.peek() == Some(&Token::CloseMatrix) => {
                    self.at += 1;
                    break;
                }
                Token::RowEnd => rows.push(Vec::new()),
                Token::CloseMatrix => break,
                _ => return None,
            }
        }
        let columns = rows[0].len();
        rows.iter().all(|row| row.len() == columns).then_some(Value::Matrix(rows))
    }

    fn ends_element(&self) -> bool {
        matches!(self.peek(), None | Some(Token::Sign(',' | ')' | ']' | '}') | Token::CloseSet))
    }

    /// Brackets around elements: an interval, a tuple or a set. A single element in round or square brackets is itself.
    fn set_atom(&mut self) -> Option<Value> {
        let open = self.peek()?;
        if *open == Token::Command("emptyset") {
            self.at += 1;
            return Some(Value::Set(Vec::new()));
        }
        if !matches!(open, Token::Sign('(' | '[' | '{') | Token::OpenSet) {
            return None;
        }
        self.at += 1;
        self.depth += 1;
        if self.depth > 6 {
            return None;
        }
        let mut elements = self.elements(true)?;
        let close = self.peek()?;
        self.at += 1;
        self.depth -= 1;
        match (open, close) {
            (Token::Sign('{'), Token::Sign('}')) | (Token::OpenSet, Token::CloseSet) => Some(Value::Set(elements)),
            (Token::Sign(open @ ('(' | '[')), Token::Sign(close @ (')' | ']'))) => {
                let plain = elements.iter().all(|element| element.expr().is_some());
                // The two elements of one \pm are a tuple in any order.
                if elements.len() == 2 && plain && !self.tokens.contains(&Token::Command("pm")) {
                    let high = elements.pop()?.expr()?.clone();
                    let low = elements.pop()?.expr()?.clone();
                    return pair(low, high, *open == '(', *close == ')', self.real);
                }
                if (*open == '(') != (*close == ')') {
                    return None;
                }
                Some(if elements.len() == 1 { elements.pop()? } else { Value::Tuple(elements) })
            }
            _ => None,
        }
    }

    /// Sets with `\cup` between them. A tuple there, such as an interval whose ends are in the wrong order, is a set.
    fn union(&mut self) -> Option<Value> {
        let mut parts = vec![self.set_atom()?];
        while self.peek() == Some(&Token::Command("cup")) {
            self.at += 1;
            parts.push(self.set_atom()?);
        }
        for part in &mut parts {
            match part {
                Value::Tuple(elements) => *part = Value::Set(std::mem::take(elements)),
                Value::Interval(interval) if interval.symbolic => return None,
                Value::Set(_) | Value::Interval(_) => {}
                _ => return None,
            }
        }
        (parts.len() > 1).then_some(Value::Union(parts))
    }
}

fn unary_minus(node: Node) -> Node {
    match node {
        Node::Rational(value) => Node::Rational(-value),
        other => Node::Mul(vec![Node::integer(-1), other]),
    }
}

/// Two expressions in brackets: an interval, or a tuple if they are in the wrong order for one.
fn pair(low: Node, high: Node, low_open: bool, high_open: bool, real: bool) -> Option<Value> {
    let (Some(left), Some(right)) = (constant(&low), constant(&high)) else {
        let symbolic = !low.is_constant() || !high.is_constant();
        let interval = Interval { low, high, low_open, high_open, symbolic: true };
        return (symbolic && real).then(|| Value::Interval(Box::new(interval)));
    };
    let same = low == high && low.is_number();
    // Ends that nearly meet are in no certain order.
    if !same && !differ(left, right) && left.is_finite() && right.is_finite() {
        return None;
    }
    if same || right < left {
        return Some(match (low_open, high_open) {
            (true, true) => Value::Tuple(vec![Value::Expr(low), Value::Expr(high)]),
            (false, false) if same => Value::Set(vec![Value::Expr(low)]),
            (false, false) => Value::Tuple(vec![Value::Expr(low), Value::Expr(high)]),
            // Half open, it is empty.
            _ => Value::Set(Vec::new()),
        });
    }
    // An infinite end is open, whatever its bracket.
    let (low_open, high_open) = (low_open || left.is_infinite(), high_open || right.is_infinite());
    Some(Value::Interval(Box::new(Interval { low, high, low_open, high_open, symbolic: false })))
}
