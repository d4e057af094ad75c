//! Questions as words, so that spelling, punctuation and most of LaTeX's typesetting make no difference.

use xxhash_rust::xxh3::xxh3_64;

/// A word of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    /// Hash of the word in lower case.
    pub(super) hash: u64,
    /// Whether it is the first of its line, or the first after a colon.
    pub(super) begins: bool,
    /// Whether it is the last of its line.
    pub(super) ends: bool,
}

/// Commands of LaTeX that say how something looks and not what it is.
const TYPESETTING: [&str; 34] = [
    "left",
    "right",
    "big",
    "bigl",
    "bigr",
    "Big",
    "Bigl",
    "Bigr",
    "bigg",
    "Bigg",
    "displaystyle",
    "textstyle",
    "text",
    "textbf",
    "textit",
    "textrm",
    "mathrm",
    "mathbf",
    "mathit",
    "operatorname",
    "emph",
    "quad",
    "qquad",
    "limits",
    "mbox",
    "hbox",
    "hspace",
    "vspace",
    "noindent",
    "rm",
    "bf",
    "it",
    "boldsymbol",
    "mathbb",
];

/// The words of `text`: runs of letters, and runs of digits. A character of a script without spaces is a word of its
/// own. `\frac`, `\sin` and the like are words, typesetting is not.
pub(super) fn words(text: &str) -> Vec<Word> {
    let mut reader = Reader { words: Vec::new(), word: String::new(), begins: true };
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        // A drawing in Asymptote is there in one edition of a question and missing in another.
        if let Some((_, after)) = rest.strip_prefix("[asy]").and_then(|drawing| drawing.split_once("[/asy]")) {
            reader.finish_word();
            rest = after;
            continue;
        }
        if c == '\\' {
            rest = reader.command(&rest[1..]);
            continue;
        }
        rest = &rest[c.len_utf8()..];
        reader.character(c);
    }
    reader.finish_word();
    reader.finish_line();
    reader.words
}

/// One number for some words in a row.
pub(super) fn sequence(words: &[Word]) -> u64 {
    let mut hash = words.len() as u64;
    for word in words {
        hash = (hash.rotate_left(23) ^ word.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 32;
    }
    hash
}

struct Reader {
    words: Vec<Word>,
    /// The word that is being read, in lower case.
    word: String,
    begins: bool,
}

impl Reader {
    fn character(&mut self, c: char) {
        if c.is_alphanumeric() {
            let digit = c.is_numeric();
            if is_wide(c)
                || self.word.chars().next_back().is_some_and(|last| last.is_numeric() != digit || is_wide(last))
            {
                self.finish_word();
            }
            match greek(c) {
                Some(name) => {
                    self.finish_word();
                    self.word.push_str(name);
                    self.finish_word();
                }
                None => self.word.extend(c.to_lowercase()),
            }
            return;
        }
        self.finish_word();
        match c {
            '\n' => self.finish_line(),
            ':' | '：' => self.begins = true,
            _ => {}
        }
    }

    /// Reads what follows a backslash, and returns what follows that.
    fn command<'a>(&mut self, text: &'a str) -> &'a str {
        self.finish_word();
        let length = text.bytes().take_while(u8::is_ascii_alphabetic).count();
        if length == 0 {
            // `\(`, `\,` and `\\` are one character long.
            let skipped = text.chars().next().map_or(0, char::len_utf8);
            return &text[skipped..];
        }
        let (name, rest) = text.split_at(length);
        match name {
            "begin" | "end" => {
                rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map_or(rest, |(_, rest)| rest)
            }
            _ if TYPESETTING.contains(&name) => rest,
            _ => {
                let name = match name {
                    "dfrac" | "tfrac" | "cfrac" => "frac",
                    "dbinom" | "tbinom" => "binom",
                    "varphi" => "phi",
                    "varepsilon" => "epsilon",
                    "leq" => "le",
                    "geq" => "ge",
                    "neq" => "ne",
                    name => name,
                };
                self.word.push_str(name);
                self.word.make_ascii_lowercase();
                self.finish_word();
                rest
            }
        }
    }

    fn finish_word(&mut self) {
        if !self.word.is_empty() {
            let hash = xxh3_64(self.word.as_bytes());
            self.words.push(Word { hash, begins: self.begins, ends: false });
            self.word.clear();
            self.begins = false;
        }
    }

    fn finish_line(&mut self) {
        if let Some(last) = self.words.last_mut() {
            last.ends = true;
        }
        self.begins = true;
    }
}

/// Scripts that are written without spaces.
fn is_wide(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{3fffd}')
}

/// The LaTeX name of a letter that mathematics uses.
fn greek(c: char) -> Option<&'static str> {
    Some(match c {
        'α' => "alpha",
        'β' => "beta",
        'γ' => "gamma",
        'δ' => "delta",
        'ε' | 'ϵ' => "epsilon",
        'θ' => "theta",
        'λ' => "lambda",
        'μ' | 'µ' => "mu",
        'π' => "pi",
        'ρ' => "rho",
        'σ' => "sigma",
        'τ' => "tau",
        'φ' | 'ϕ' => "phi",
        'ω' => "omega",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes(text: &str) -> Vec<u64> {
        words(text).iter().map(|word| word.hash).collect()
    }

    #[test]
    fn spellings_of_the_same() {
        for (a, b) in [
            ("Janet's ducks lay 16 eggs.", "Janet’s  DUCKS\nlay 16 eggs"),
            ("$x^2+3$", r"\(x^{2} + 3\)"),
            (r"$\dfrac{1}{2}$", r"\[\frac 1 2\]"),
            (r"\left( 3, \frac{\pi}{2} \right)", r"(3, \frac{π}{2})"),
            (r"if $x>2$", r"\text{ if } x > 2"),
            (r"\begin{align*}a&=b\\c&=d\end{align*}", "a = b, c = d"),
            ("2x", "2 x"),
            (r"\,\!\;\", ""),
            ("as shown. [asy] draw((0,0)--(1,1)); [/asy] Find it.", "As shown:\nfind it"),
        ] {
            assert_eq!(hashes(a), hashes(b), "{a} {b}");
        }
    }

    #[test]
    fn different_things_stay_different() {
        for (a, b) in [(r"\sin 60", r"\cos 60"), ("12", "1 2"), ("1/2", "12"), ("a cat", "acat"), (r"\sqrt{2}", "2")] {
            assert_ne!(hashes(a), hashes(b), "{a} {b}");
        }
    }

    #[test]
    fn numbers_of_words() {
        for (text, expected) in
            [("", 0), ("...", 0), ("问题：多少", 4), ("a1b2", 4), ("x_1", 2), ("日本のA", 4), (r"\", 0)]
        {
            assert_eq!(hashes(text).len(), expected, "{text}");
        }
    }

    #[test]
    fn lines_and_labels() {
        let flags: Vec<(bool, bool)> =
            words("Solve it.\nProblem: Two\n\nwords").iter().map(|w| (w.begins, w.ends)).collect();
        assert_eq!(flags, [(true, false), (false, true), (true, false), (true, true), (true, true)]);
        assert_ne!(sequence(&words("a b")), sequence(&words("b a")));
    }
}
