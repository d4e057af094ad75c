//! MinHash signatures: 256 bytes that tell how much of their text two rows have in common.
//!
//! A text is taken as its set of shingles (five words in a row, lower case, without punctuation). Its Jaccard
//! similarity to another text, common shingles over all shingles, is estimated by the share of equal values in the two
//! signatures; the standard error is at most 4.4 points (at 0.8, 3.5 points). Each shingle is hashed once: its hash
//! chooses one of the [`BINS`] and competes there for the smallest value. Bins that stay empty in a short text borrow
//! from a full one, always the same for the same bin (optimal densification, Shrivastava 2017).

/// Values of a signature.
pub(super) const BINS: usize = 128;
/// Words of a shingle.
const SHINGLE: usize = 5;
/// Size of a signature's byte form.
pub const SIGNATURE_BYTES: usize = 2 * BINS;

const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
/// `FACTOR` to the power of [`SHINGLE`]: takes the oldest word out of the rolling hash.
const OLDEST: u64 = {
    let mut power = 1u64;
    let mut i = 0;
    while i < SHINGLE {
        power = power.wrapping_mul(FACTOR);
        i += 1;
    }
    power
};

/// What is kept of a row's text to compare it with others. Equal texts have equal signatures, on every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(pub(super) [u16; BINS]);

impl Signature {
    /// The signature of a row. Texts of fewer than five words are one shingle as a whole.
    pub fn of(question: &str, response: &str) -> Self {
        let mut shingles = Shingles::default();
        each_word(question, |word| shingles.add(word));
        each_word(response, |word| shingles.add(word));
        shingles.finish()
    }

    /// Share of equal values, 0 to 1: the estimated similarity.
    #[allow(clippy::cast_precision_loss)]
    pub fn similarity(&self, other: &Signature) -> f64 {
        similarity(&self.0, &other.0)
    }

    /// The values, little-endian.
    pub fn to_bytes(&self) -> [u8; SIGNATURE_BYTES] {
        let mut bytes = [0; SIGNATURE_BYTES];
        for (pair, value) in bytes.chunks_exact_mut(2).zip(self.0) {
            pair.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    /// The inverse of [`Signature::to_bytes`].
    pub fn from_bytes(bytes: &[u8; SIGNATURE_BYTES]) -> Self {
        let mut values = [0; BINS];
        for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
            *value = u16::from_le_bytes([pair[0], pair[1]]);
        }
        Self(values)
    }
}

/// Share of equal values.
#[allow(clippy::cast_precision_loss)]
pub(super) fn similarity(a: &[u16; BINS], b: &[u16; BINS]) -> f64 {
    a.iter().zip(b).filter(|(a, b)| a == b).count() as f64 / BINS as f64
}

struct Shingles {
    /// Smallest value of each bin; `u64::MAX` where it is empty.
    smallest: [u64; BINS],
    /// Hashes of the last words, the oldest at `num_words % SHINGLE`.
    words: [u64; SHINGLE],
    num_words: usize,
    rolling: u64,
}

impl Default for Shingles {
    fn default() -> Self {
        Self { smallest: [u64::MAX; BINS], words: [0; SHINGLE], num_words: 0, rolling: 0 }
    }
}

impl Shingles {
    fn add(&mut self, word: u64) {
        let oldest = std::mem::replace(&mut self.words[self.num_words % SHINGLE], word);
        self.rolling = self.rolling.wrapping_mul(FACTOR).wrapping_add(word).wrapping_sub(oldest.wrapping_mul(OLDEST));
        self.num_words += 1;
        if self.num_words >= SHINGLE {
            self.count(self.rolling);
        }
    }

    fn count(&mut self, shingle: u64) {
        let mixed = mix(shingle);
        let smallest = &mut self.smallest[(mixed >> (u64::BITS - BINS.trailing_zeros())) as usize];
        // The bin's own bits are shifted out, so that every bin draws from the same numbers.
        *smallest = (*smallest).min(mixed << BINS.trailing_zeros() >> BINS.trailing_zeros());
    }

    fn finish(mut self) -> Signature {
        if self.num_words < SHINGLE {
            self.count(self.rolling ^ self.num_words as u64);
        }
        let mut values = [0; BINS];
        for (bin, value) in values.iter_mut().enumerate() {
            let mut donor = bin;
            let mut attempt = 0;
            while self.smallest[donor] == u64::MAX {
                attempt += 1;
                donor = (mix((bin as u64) << 32 | attempt) >> (u64::BITS - BINS.trailing_zeros())) as usize;
            }
            // The low bits of the smallest value: its high bits are zero more often than not.
            *value = (self.smallest[donor] & 0xffff) as u16;
        }
        Signature(values)
    }
}

/// A bijection that spreads every bit over all.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let value = (value ^ value >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    value ^ value >> 32
}

/// What a byte of text is to a word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Between words.
    Space,
    /// ASCII letter or digit, or part of a character of two bytes.
    Letter,
    /// First byte of a character of three or four bytes: scripts written without spaces, so each is a word.
    Wide,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Space; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = if (byte as u8).is_ascii_alphanumeric() || (byte >= 0x80 && byte < 0xe0) {
            Class::Letter
        } else if byte >= 0xe0 {
            Class::Wide
        } else {
            Class::Space
        };
        byte += 1;
    }
    classes
};

/// Hashes each word of `text`, ASCII letters in lower case.
fn each_word(text: &str, mut word: impl FnMut(u64)) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let start = at;
        match CLASSES[bytes[at] as usize] {
            Class::Space => {
                at += 1;
                continue;
            }
            Class::Letter => {
                while at < bytes.len() && CLASSES[bytes[at] as usize] == Class::Letter {
                    at += 1;
                }
            }
            Class::Wide => at += if bytes[at] >= 0xf0 { 4 } else { 3 },
        }
        word(hash_word(bytes, start, at));
    }
}

/// Eight bytes at a time; the end of the text is padded with zeros.
fn hash_word(bytes: &[u8], start: usize, end: usize) -> u64 {
    let mut hash = (end - start) as u64;
    let mut at = start;
    while at < end {
        let mut word = match bytes.get(at..at + 8) {
            Some(eight) => u64::from_le_bytes(eight.try_into().unwrap_or_default()),
            None => bytes[at..].iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        if end - at < 8 {
            word &= (1 << (8 * (end - at))) - 1;
        }
        // Sets the bit of lower case in ASCII; bytes of 0x80 and more keep theirs.
        let lower = 0x2020_2020_2020_2020 & !((word & 0x8080_8080_8080_8080) >> 2);
        hash = (hash ^ (word | lower)).wrapping_mul(FACTOR);
        hash ^= hash >> 29;
        at += 8;
    }
    hash
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Words of an invented language, the same for the same seed.
    pub(in crate::duplicates) fn document(num_words: u64, seed: u64) -> String {
        let words = (0..num_words).map(|at| format!("w{}", mix(seed << 32 | at) % 5000));
        words.collect::<Vec<_>>().join(" ")
    }

    /// The text with `changes` of its words replaced.
    pub(in crate::duplicates) fn shuffled(text: &str, changes: u64, seed: u64) -> String {
        let mut words: Vec<String> = text.split(' ').map(str::to_string).collect();
        for change in 0..changes {
            let at = mix(seed << 32 | change) as usize % words.len();
            words[at] = format!("new{seed}x{change}");
        }
        words.join(" ")
    }

    /// Jaccard similarity of the sets of shingles, by the definition.
    pub(in crate::duplicates) fn exact(a: &str, b: &str) -> f64 {
        let shingles = |text: &str| {
            let mut words: Vec<String> = Vec::new();
            for word in text.split(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric()) {
                let mut word = word.to_ascii_lowercase();
                while let Some(at) = word.find(|c: char| c.len_utf8() > 2) {
                    let rest = word.split_off(at);
                    let length = rest.chars().next().unwrap().len_utf8();
                    words.extend([word, rest[..length].to_string()]);
                    word = rest[length..].to_string();
                }
                words.push(word);
            }
            words.retain(|word| !word.is_empty());
            words.windows(SHINGLE).map(|shingle| shingle.join(" ")).collect::<HashSet<_>>()
        };
        let (a, b) = (shingles(a), shingles(b));
        a.intersection(&b).count() as f64 / a.union(&b).count() as f64
    }

    fn words(text: &str) -> Vec<u64> {
        let mut words = Vec::new();
        each_word(text, |word| words.push(word));
        words
    }

    #[test]
    fn words_are_runs_of_letters_whatever_their_case_and_place() {
        assert_eq!(words("The cat, the CAT."), words("the-cat\nthe cat"));
        assert_eq!(words("a b").len(), 2);
        assert_ne!(words("a"), words("b"));
        assert_ne!(words("\u{e0}"), words("\u{c0}"), "only ASCII has its case folded");
        assert_eq!(words("你好，世界").len(), 5, "each wide character is a word");
        assert_eq!(words("你好")[0], words("你")[0]);
        // A word has one hash, wherever it stands and however near the end of the text.
        for word in ["a", "abcdefg", "abcdefgh", "abcdefghi", "abcdefghijklmnopq"] {
            assert_eq!(words(word)[0], words(&format!("{word} and so on and on"))[0], "{word}");
            assert_eq!(words(&format!("x {word}"))[1], words(word)[0], "{word}");
            assert_eq!(words(&word.to_uppercase()), words(word), "{word}");
        }
    }

    #[test]
    fn the_estimate_is_near_the_definition() {
        let (mut sum, mut worst, mut pairs) = (0.0, 0.0f64, 0);
        for seed in 0..200 {
            let text = document(600, seed);
            let other = shuffled(&text, seed % 60, seed + 1);
            let error = Signature::of("", &text).similarity(&Signature::of("", &other)) - exact(&text, &other);
            sum += error;
            worst = worst.max(error.abs());
            pairs += 1;
        }
        assert!((sum / f64::from(pairs)).abs() < 0.01, "bias {}", sum / f64::from(pairs));
        assert!(worst < 0.18, "{worst}");
    }

    #[test]
    fn short_texts_have_signatures_too() {
        for text in ["", "!", "one", "one two three four", "one two three four five"] {
            assert_eq!(Signature::of("", text), Signature::of("", text));
        }
        assert_eq!(Signature::of("", "One, two"), Signature::of("", "one two"));
        assert!(Signature::of("", "one two").similarity(&Signature::of("", "one three")) < 0.1);
        let text = document(30, 1);
        let (a, b) = (Signature::of("", &text), Signature::of("", &document(30, 2)));
        assert!(a.similarity(&b) < 0.1);
        assert_eq!(a.similarity(&a), 1.0);
    }

    #[test]
    fn bytes_round_trip_and_never_change() {
        let signature = Signature::of("What is 1 + 1?", "It is two, as anyone can see.");
        assert_eq!(Signature::from_bytes(&signature.to_bytes()), signature);
        // Signatures are stored in the state of interrupted builds.
        assert_eq!(signature.to_bytes()[..4], [162, 199, 94, 132]);
    }
}
