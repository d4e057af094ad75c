//! Added tokens: texts that become one id before anything else looks at them.

use memchr::{memchr, memchr2, memchr3};

/// A set of texts to look for: at the leftmost place the longest one is found.
pub(super) struct AddedTokens {
    /// Longest first, so that the first one that fits is the longest.
    tokens: Vec<Added>,
    /// The bytes that a token begins with.
    firsts: Vec<u8>,
    is_first: [bool; 256],
}

pub(super) struct Added {
    /// What is looked for; never empty.
    pub(super) text: String,
    pub(super) id: u32,
    pub(super) special: bool,
}

impl AddedTokens {
    /// None for no tokens.
    pub(super) fn new(mut tokens: Vec<Added>) -> Option<Self> {
        if tokens.is_empty() {
            return None;
        }
        tokens.sort_by_key(|token| std::cmp::Reverse(token.text.len()));
        let mut is_first = [false; 256];
        for token in &tokens {
            is_first[usize::from(token.text.as_bytes()[0])] = true;
        }
        let firsts = (0..=u8::MAX).filter(|byte| is_first[usize::from(*byte)]).collect();
        Some(Self { tokens, firsts, is_first })
    }

    /// The first token in `text` at or after byte `from`, with its position.
    pub(super) fn find(&self, text: &[u8], mut from: usize) -> Option<(usize, &Added)> {
        loop {
            let at = from + self.find_first_byte(&text[from..])?;
            let rest = &text[at..];
            let second = rest.get(1);
            // Most places are told apart by their second byte.
            let fits = |token: &&Added| {
                let token = token.text.as_bytes();
                token[0] == rest[0] && token.get(1).is_none_or(|byte| Some(byte) == second) && rest.starts_with(token)
            };
            if let Some(token) = self.tokens.iter().find(fits) {
                return Some((at, token));
            }
            from = at + 1;
        }
    }

    fn find_first_byte(&self, text: &[u8]) -> Option<usize> {
        match *self.firsts {
            [a] => memchr(a, text),
            [a, b] => memchr2(a, b, text),
            [a, b, c] => memchr3(a, b, c, text),
            _ => text.iter().position(|byte| self.is_first[usize::from(*byte)]),
        }
    }
}
