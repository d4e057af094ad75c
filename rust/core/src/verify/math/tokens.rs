//! The tokens of math-verify's grammar, for the part of it that is dealt with here.

/// A token. White space and spacing commands have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// Digits, with or without a decimal point.
    Number(&'a str),
    /// A number and its percent sign.
    Percent(&'a str),
    /// A single letter, `e` and `E` included.
    Letter(char),
    /// `d` and a letter: the differential of a variable.
    Differential(char),
    /// A Greek letter or other symbol, without its backslash.
    Symbol(&'a str),
    /// `\text{...}` and other accents: the command, what stands in its braces, and all of it.
    Accent(&'a str, &'a str, &'a str),
    /// A function: `sin`, `ln`, ...
    Function(&'a str),
    /// `\sqrt`, `\frac`, `\binom`, `\infty`, `\cup`, `\in`, `\pm`, without the backslash.
    Command(&'a str),
    /// One of `+ - * / ( ) [ ] { } , ; ^ _ ! =`, `<` and `>`; `l` and `g` for at most and at least, `n` for unequal.
    Sign(char),
    /// `\{` and `\}`.
    OpenSet,
    CloseSet,
    /// `\begin{pmatrix}` and `\end{pmatrix}`, or `bmatrix`: the kind counts for nothing.
    OpenMatrix,
    CloseMatrix,
    /// `\\`.
    RowEnd,
    /// `^\circ`, which means nothing.
    Degree,
    /// A decimal point that belongs to no number: no sentence of the grammar has one.
    Period,
}

const GREEK: [&str; 35] = [
    "alpha",
    "beta",
    "delta",
    "Delta",
    "epsilon",
    "varepsilon",
    "zeta",
    "eta",
    "theta",
    "Theta",
    "vartheta",
    "iota",
    "kappa",
    "lambda",
    "Lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "Sigma",
    "tau",
    "phi",
    "Phi",
    "varphi",
    "chi",
    "psi",
    "omega",
    "Omega",
    "prime",
    "angle",
    "triangle",
    "ell",
    "hbar",
];
const FUNCTIONS: [&str; 12] =
    ["sin", "cos", "tan", "csc", "sec", "cot", "ln", "log", "arcsin", "arccos", "arctan", "exp"];
const COMMANDS: [&str; 12] =
    ["sqrt", "frac", "binom", "infty", "cup", "in", "pm", "emptyset", "lfloor", "rfloor", "lceil", "rceil"];
const SPACES: [&str; 2] = ["quad", "qquad"];
const ACCENTS: [&str; 9] = ["text", "mbox", "vec", "hat", "bar", "overline", "dot", "ddot", "tilde"];
/// Words that are tokens of their own although they have no backslash.
const WORDS: [&str; 24] = [
    "arsinh", "arcsinh", "arcosh", "arccosh", "artanh", "arctanh", "gcd", "lcm", "floor", "ceil", "eye", "zeros",
    "ones", "cols", "rows", "diag", "norm", "rank", "tr", "rref", "stack", "orth", "eig", "svd",
];

/// The tokens of a text, None where it holds one that is not dealt with here.
pub(super) fn tokens(text: &str) -> Option<Vec<Token<'_>>> {
    if has_word(text) {
        return None;
    }
    let mut tokens = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(&first) = rest.as_bytes().first() {
        let (token, length) = match first {
            b' ' => (None, 1),
            b'\\' => command(rest)?,
            b'0'..=b'9' | b'.' => number(rest)?,
            b'^' => caret(rest)?,
            b'd' => differential(rest)?,
            b'a'..=b'z' | b'A'..=b'Z' => (Some(Token::Letter(first as char)), 1),
            b'<' | b'>' | b'=' => relation(rest)?,
            b'!' if rest[1..].starts_with('=') => return None,
            b'&' | b'+' | b'-' | b'*' | b'/' | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b',' | b';' | b'_' | b'!'
            | b':' => (Some(Token::Sign(first as char)), 1),
            _ => return None,
        };
        tokens.extend(token);
        rest = &rest[length..];
    }
    Some(tokens)
}

fn has_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_alphabetic() {
            at += 1;
            continue;
        }
        let length = bytes[at..].iter().take_while(|byte| byte.is_ascii_alphabetic()).count();
        let word = &text[at..at + length];
        let is_command = at > 0 && bytes[at - 1] == b'\\' || matches!(word, "pmatrix" | "bmatrix");
        if length > 1 && !is_command && WORDS.iter().any(|known| word.contains(known) || word.contains("SVD")) {
            return true;
        }
        at += length;
    }
    false
}

type Lexed<'a> = Option<(Option<Token<'a>>, usize)>;

fn command(rest: &str) -> Lexed<'_> {
    let length = rest[1..].bytes().take_while(u8::is_ascii_alphabetic).count();
    if length == 0 {
        return match rest.as_bytes().get(1)? {
            b',' | b':' | b';' | b'!' => Some((None, 2)),
            b'{' => Some((Some(Token::OpenSet), 2)),
            b'}' => Some((Some(Token::CloseSet), 2)),
            b'\\' => Some((Some(Token::RowEnd), 2)),
            _ => None,
        };
    }
    let name = &rest[1..1 + length];
    let sign = |sign: char| Some((Some(Token::Sign(sign)), 1 + length));
    for kind in ["{pmatrix}", "{bmatrix}"] {
        if rest[1 + length..].starts_with(kind) && matches!(name, "begin" | "end") {
            let token = if name == "begin" { Token::OpenMatrix } else { Token::CloseMatrix };
            return Some((Some(token), 1 + length + kind.len()));
        }
    }
    match name {
        "cdot" | "times" => return sign('*'),
        "div" => return sign('/'),
        "le" | "leq" | "leqslant" => return sign('l'),
        "ge" | "geq" | "geqslant" => return sign('g'),
        "lt" => return sign('<'),
        "gt" => return sign('>'),
        "ne" | "neq" => return sign('n'),
        "lbrace" => return Some((Some(Token::OpenSet), 1 + length)),
        "rbrace" => return Some((Some(Token::CloseSet), 1 + length)),
        _ => {}
    }
    if ACCENTS.contains(&name) {
        let after = &rest[1 + length..];
        let spaces = usize::from(after.starts_with(' '));
        let content = after[spaces..].strip_prefix('{')?;
        let end = content.find('}')?;
        // A brace in the braces ends the accent early; nothing good comes of that.
        let text = matches!(name, "text" | "mbox");
        if content[..end].contains('{') || text && content[..end].contains('\\') {
            return None;
        }
        let total = 1 + length + spaces + 1 + end + 1;
        return Some((Some(Token::Accent(name, &content[..end], &rest[..total])), total));
    }
    let token = if GREEK.contains(&name) {
        Some(Token::Symbol(name))
    } else if FUNCTIONS.contains(&name) {
        Some(Token::Function(name))
    } else if COMMANDS.contains(&name) {
        Some(Token::Command(name))
    } else if SPACES.contains(&name) {
        None
    } else {
        return None;
    };
    Some((token, 1 + length))
}

fn number(rest: &str) -> Lexed<'_> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let mut length = digits(rest);
    if rest[length..].starts_with('.') {
        let decimals = digits(&rest[length + 1..]);
        if decimals > 0 {
            length += 1 + decimals;
        } else if length == 0 {
            return Some((Some(Token::Period), 1));
        }
    }
    let after = &rest[length..];
    let exponent = after.strip_prefix('E').map(|text| text.strip_prefix(['+', '-']).unwrap_or(text));
    if exponent.is_some_and(|text| digits(text) > 0) {
        return None;
    }
    let sign = after.strip_prefix(' ').unwrap_or(after);
    for percent in ["\\%", "%"] {
        if let Some(behind) = sign.strip_prefix(percent) {
            return Some((Some(Token::Percent(&rest[..length])), rest.len() - behind.len()));
        }
    }
    Some((Some(Token::Number(&rest[..length])), length))
}

fn caret(rest: &str) -> Lexed<'_> {
    for degree in ["^{\\circ}", "^\\circ", "^{\\degree}", "^\\degree"] {
        if let Some(after) = rest.strip_prefix(degree) {
            let whole = degree.ends_with('}') || !after.starts_with(|c: char| c.is_ascii_alphabetic());
            return whole.then_some((Some(Token::Degree), degree.len()));
        }
    }
    // ^T transposes.
    if rest.starts_with("^T") || rest.starts_with("^{T}") {
        return None;
    }
    Some((Some(Token::Sign('^')), 1))
}

fn differential(rest: &str) -> Lexed<'_> {
    let after = rest[1..].trim_start();
    match after.chars().next() {
        Some(letter) if letter.is_ascii_alphabetic() => {
            Some((Some(Token::Differential(letter)), rest.len() - after.len() + 1))
        }
        Some('\\') if after[1..].starts_with(|c: char| c.is_ascii_alphabetic()) => None,
        _ => Some((Some(Token::Letter('d')), 1)),
    }
}

fn relation(rest: &str) -> Lexed<'_> {
    if rest.starts_with("<-") || rest.starts_with("<=>") || rest.starts_with("==") {
        return None;
    }
    let (sign, length) = match (rest.as_bytes()[0], rest.as_bytes().get(1)) {
        (b'<', Some(b'=')) => ('l', 2),
        (b'>', Some(b'=')) => ('g', 2),
        (first, _) => (first as char, 1),
    };
    Some((Some(Token::Sign(sign)), length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_signs() {
        assert_eq!(
            tokens(r"2.5\% + .5^\circ \le 3."),
            Some(vec![
                Token::Percent("2.5"),
                Token::Sign('+'),
                Token::Number(".5"),
                Token::Degree,
                Token::Sign('l'),
                Token::Number("3"),
                Token::Period,
            ])
        );
    }

    #[test]
    fn letters() {
        assert_eq!(
            tokens(r"x dt\text{ A b}"),
            Some(vec![Token::Letter('x'), Token::Differential('t'), Token::Accent("text", " A b", r"\text{ A b}")])
        );
        for unknown in [r"\gamma", "trace", "1E5", r"\text{a\b}", "a^T", "#", r"\unknown"] {
            assert_eq!(tokens(unknown), None, "{unknown}");
        }
    }
}
