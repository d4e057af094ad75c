//! Names: letters, Greek letters and texts with their subscripts, and functions called by such names.

use super::expr::Parser;
use super::tokens::Token;
use super::value::Node;

impl Parser<'_> {
    /// A symbol with its subscript and power, or the call of a function of that name.
    pub(super) fn named(&mut self) -> Option<Node> {
        let mut name = self.base_name()?;
        if self.take('_') {
            name.push_str(&self.subscript()?);
        }
        let mut power = None;
        if self.take('^') {
            power = Some(self.exponent()?);
            if self.take('_') {
                name.push_str(&self.subscript()?);
            }
        }
        if let Some(arguments) = self.call_arguments()? {
            return power.is_none().then(|| Node::Call(format!("f:{name}"), arguments));
        }
        if name.starts_with('I') {
            return None;
        }
        let symbol = self.symbol(&name);
        Some(match power {
            Some(power) => symbol.raised_to(power),
            None => symbol,
        })
    }

    pub(super) fn base_name(&mut self) -> Option<String> {
        let token = self.peek()?;
        self.at += 1;
        Some(match token {
            Token::Letter(letter) => letter.to_string(),
            Token::Symbol(name) => (*name).to_string(),
            Token::Accent("text" | "mbox", text, _) => {
                let text: String = text.chars().filter(|c| !matches!(c, ' ' | '(' | ')')).collect();
                if text.is_empty() || matches!(text.to_lowercase().as_str(), "gamma" | "rank" | "i") {
                    return None;
                }
                text
            }
            Token::Accent(accent, text, _) => {
                let accent = if *accent == "overline" { "bar" } else { accent };
                format!("{accent}{{{}}}", text.replace(' ', ""))
            }
            _ => return None,
        })
    }

    pub(super) fn symbol(&self, name: &str) -> Node {
        match name.to_lowercase() {
            name if name == "pi" => Node::Pi,
            name => Node::Symbol { name, real: self.real },
        }
    }

    /// The subscript as it stands in the symbol's name.
    pub(super) fn subscript(&mut self) -> Option<String> {
        let braced = self.take('{');
        let mut text = String::new();
        loop {
            match self.peek()? {
                Token::Sign('}') if braced => break,
                Token::Sign(',' | '+' | '-') if !braced => return None,
                Token::Sign(sign @ (',' | '+' | '-')) => text.push(*sign),
                Token::Letter(letter) => text.push(*letter),
                Token::Number(number) => text.push_str(number),
                Token::Accent(_, _, whole) => text.push_str(whole),
                Token::Symbol(name)
                    if !braced || text.is_empty() && self.tokens.get(self.at + 1) == Some(&Token::Sign('}')) =>
                {
                    text.push_str(&format!("\\{name}"));
                }
                _ => return None,
            }
            self.at += 1;
            if !braced {
                break;
            }
        }
        if braced {
            self.expect('}')?;
        }
        Some(if text.len() > 1 { format!("_{{{text}}}") } else { format!("_{text}") })
    }

    /// The arguments in brackets behind a name. A name before `(x)`, with a single atom or a comma, is a function; before
    /// `(x+1)` it is a factor. Some(None) where it is a factor.
    #[allow(clippy::option_option)]
    fn call_arguments(&mut self) -> Option<Option<Vec<Node>>> {
        let close = match self.peek() {
            Some(Token::Sign('(')) => ')',
            Some(Token::Sign('[')) => ']',
            Some(Token::Sign('{')) if matches!(self.tokens.get(self.at + 1), Some(Token::Sign('(' | '['))) => {
                return None
            }
            _ => return Some(None),
        };
        let begin = self.at;
        self.at += 1;
        let first_token = self.at;
        let first = self.expr()?;
        if self.sees(',') {
            return None;
        }
        let inner = &self.tokens[first_token..self.at];
        let atom = match inner {
            [Token::Command(name)] => *name == "infty",
            [Token::Function(_) | Token::Letter('e')] => false,
            [_] => true,
            // x_1, x^2 and the like are atoms too.
            [Token::Letter('e'), ..] => false,
            [Token::Letter(_) | Token::Symbol(_) | Token::Number(_) | Token::Accent(..), Token::Sign('_' | '^'), ..] => {
                let mut alone = Parser::new(inner, self.real);
                if alone.simple().is_some() && alone.at == inner.len() {
                    return None;
                }
                false
            }
            _ => false,
        };
        if atom && self.sees(close) {
            self.at += 1;
            return (!self.sees('^')).then_some(Some(vec![first]));
        }
        self.at = begin;
        Some(None)
    }
}
