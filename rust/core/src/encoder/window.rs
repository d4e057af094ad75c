//! Finds the words of up to 64 bytes of ASCII at once, by arithmetic on bit masks with one bit per byte.
//!
//! No branch depends on the kind of a character, so nothing is mispredicted; a window that begins at a word's start
//! needs to know nothing of the text before it, since none of the expressions looks back.

use wide::{i8x16, CmpEq, CmpGt, CmpLt};

use super::pattern::Pattern;

/// Bytes that one call looks at.
pub(super) const WINDOW: usize = 64;
/// A window with room behind it, so that 32 bytes can be read from each of its positions.
pub(super) const CHUNK: usize = WINDOW + 32;

/// Starts of the words in the first `valid` bytes of `chunk` as bits; the first byte must be one, and is bit 0.
///
/// A word is certain when the next one's start is known too, so the last bit only says where to go on. A window of one
/// word, or one that begins outside ASCII, gives just bit 0.
#[inline]
pub(super) fn word_starts(pattern: Pattern, chunk: &[u8; CHUNK], valid: usize) -> u64 {
    let masks = Masks::of(chunk);
    let length = (masks.high.trailing_zeros() as usize).min(valid);
    let seen = if length == WINDOW { u64::MAX } else { (1 << length) - 1 };
    let masks = masks.within(seen);
    let starts = match pattern {
        Pattern::Qwen => cl100k_starts(chunk, &masks, seen, masks.digit),
        Pattern::Llama3 => cl100k_starts(chunk, &masks, seen, triples(masks.digit)),
        Pattern::Gpt2 => gpt2_starts(chunk, &masks, seen, false),
        Pattern::Gpt2Digits => gpt2_starts(chunk, &masks, seen, true),
    };
    // How a run of white space is cut depends on all of it and on what follows: at the window's end that is unknown.
    let unfinished = (masks.space << (WINDOW - length.max(1))).leading_ones() as usize;
    let known = if unfinished == 0 { seen } else { (2u64 << (length - unfinished)).wrapping_sub(1) };
    (starts & known) | 1
}

/// One bit per byte of the window.
struct Masks {
    letter: u64,
    digit: u64,
    /// White space, line ends included.
    space: u64,
    /// Carriage return and line feed.
    line_end: u64,
    /// The space character itself.
    blank: u64,
    apostrophe: u64,
    /// Not ASCII.
    high: u64,
}

impl Masks {
    #[inline]
    fn of(chunk: &[u8; CHUNK]) -> Self {
        let mut masks = Masks { letter: 0, digit: 0, space: 0, line_end: 0, blank: 0, apostrophe: 0, high: 0 };
        for (index, lane) in chunk[..WINDOW].chunks_exact(16).enumerate() {
            // Compared as signed numbers, bytes outside ASCII are below all of ASCII.
            let bytes = i8x16::from(lane.first_chunk::<16>().map_or([0; 16], |lane| lane.map(|byte| byte as i8)));
            let is = |byte: u8| bytes.cmp_eq(splat(byte));
            let between =
                |bytes: i8x16, first: u8, last: u8| bytes.cmp_gt(splat(first - 1)) & bytes.cmp_lt(splat(last + 1));
            let bits = |mask: i8x16| u64::from(mask.move_mask() as u16) << (index * 16);
            let blank = is(b' ');
            masks.letter |= bits(between(bytes | splat(0x20), b'a', b'z'));
            masks.digit |= bits(between(bytes, b'0', b'9'));
            masks.space |= bits(blank | between(bytes, b'\t', b'\r'));
            masks.line_end |= bits(is(b'\r') | is(b'\n'));
            masks.blank |= bits(blank);
            masks.apostrophe |= bits(is(b'\''));
            masks.high |= bits(bytes);
        }
        masks
    }

    fn within(self, seen: u64) -> Self {
        Masks {
            letter: self.letter & seen,
            digit: self.digit & seen,
            space: self.space & seen,
            line_end: self.line_end & seen,
            blank: self.blank & seen,
            apostrophe: self.apostrophe & seen,
            high: self.high,
        }
    }
}

#[inline]
fn splat(byte: u8) -> i8x16 {
    i8x16::splat(byte as i8)
}

/// Every third digit of each run, from its first on.
#[inline]
fn triples(digit: u64) -> u64 {
    let within = digit & (digit << 1) & (digit << 2) & (digit << 3);
    let mut starts = digit & !(digit << 1);
    let mut newest = starts;
    while newest != 0 {
        newest = (newest << 3) & within;
        starts |= newest;
    }
    starts
}

/// The family of Qwen and Llama 3; `digits` are the starts of words of digits.
#[inline]
fn cl100k_starts(chunk: &[u8; CHUNK], masks: &Masks, seen: u64, digits: u64) -> u64 {
    let Masks { letter, digit, space, line_end, blank, apostrophe, .. } = *masks;
    let symbol = seen & !(letter | digit | space);
    // A blank before a symbol belongs to the symbol's word; so does every symbol after the first.
    let symbols = symbol & !((symbol | blank) << 1);
    // A letter begins a word unless it follows a letter, white space other than a line end, or a symbol that begins one.
    let letters = letter & ((digit | line_end | (symbol & !symbols)) << 1);
    // White space: a run begins a word, unless it begins with line ends that a symbol's word takes; its last character
    // begins one, unless it is a line end; and so does what follows the run's last line end.
    let taken = line_end & (symbol << 1);
    let first = space & !(space << 1) & !taken;
    let last = space & !(space >> 1) & !line_end;
    let indent = space & !line_end;
    let mut after_lines = indent & (line_end << 1);
    // Adding moves a bit through the rest of its run of `indent` to what follows: another line end?
    if after_lines.wrapping_add(indent) & !indent & line_end != 0 {
        after_lines = keep_last_indents(after_lines, indent, line_end, taken.wrapping_add(line_end) & !line_end);
    }
    let mut starts = digits | symbols | letters | first | last | after_lines;
    let quotes = apostrophe & symbols & (letter >> 1);
    if quotes != 0 {
        starts |= ends_of_contractions(chunk, quotes, true) & letter;
    }
    starts
}

/// The starts in `after_lines` whose run of white space has no later line end, and those that a symbol's word leaves
/// over (`left_over`).
#[cold]
fn keep_last_indents(after_lines: u64, indent: u64, line_end: u64, left_over: u64) -> u64 {
    let mut kept = after_lines & left_over;
    for at in bits(after_lines) {
        let end = at + (indent >> at).trailing_ones() as usize;
        if end >= WINDOW || line_end >> end & 1 == 0 {
            kept |= 1 << at;
        }
    }
    kept
}

/// The expression of [`Pattern::Gpt2`].
#[inline]
fn gpt2_starts(chunk: &[u8; CHUNK], masks: &Masks, seen: u64, split_digits: bool) -> u64 {
    let Masks { letter, digit, space, blank, apostrophe, .. } = *masks;
    let symbol = seen & !(letter | digit | space);
    let letters = letter & !((letter | blank) << 1);
    let symbols = symbol & !((symbol | blank) << 1);
    let mut last = space & !(space >> 1);
    let digits = if split_digits {
        // The part ends there, and with it the white space is a word as a whole.
        last &= !(digit >> 1);
        digit
    } else {
        digit & !((digit | blank) << 1)
    };
    let mut starts = letters | digits | symbols | (space & !(space << 1)) | last;
    let quotes = apostrophe & symbols & (letter >> 1);
    if quotes != 0 {
        let ends = ends_of_contractions(chunk, quotes, false);
        // The letter after the apostrophe is inside the contraction, and the first letter after it begins a word.
        starts = (starts & !inside_of_contractions(chunk, quotes)) | (ends & letter);
    }
    starts
}

/// Positions just after the contractions that begin at the apostrophes `quotes`, each followed by a letter.
#[inline]
fn ends_of_contractions(chunk: &[u8; CHUNK], quotes: u64, ignore_case: bool) -> u64 {
    let mut ends = 0;
    for at in bits(quotes) {
        let length = contraction_length(chunk, at, ignore_case);
        ends |= if length == 0 { 0 } else { (1u64 << at) << 1 << length };
    }
    ends
}

/// The letters just after the apostrophes that begin a contraction in lower case.
#[inline]
fn inside_of_contractions(chunk: &[u8; CHUNK], quotes: u64) -> u64 {
    bits(quotes)
        .filter(|at| contraction_length(chunk, *at, false) != 0)
        .fold(0, |inside, at| inside | ((1u64 << at) << 1))
}

/// Letters of the contraction after the apostrophe at `at`: 0 (none), 1 or 2.
#[inline]
fn contraction_length(chunk: &[u8; CHUNK], at: usize, ignore_case: bool) -> u32 {
    let fold = |byte: u8| if ignore_case { byte | 0x20 } else { byte };
    // `at` is below WINDOW, so both positions are inside the chunk.
    match (fold(chunk[(at & (WINDOW - 1)) + 1]), fold(chunk[(at & (WINDOW - 1)) + 2])) {
        (b's' | b't' | b'm' | b'd', _) => 1,
        (b'r' | b'v', b'e') | (b'l', b'l') => 2,
        _ => 0,
    }
}

/// The positions of the set bits, ascending.
#[inline]
fn bits(mut mask: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        if mask == 0 {
            return None;
        }
        let at = mask.trailing_zeros() as usize;
        mask &= mask - 1;
        Some(at)
    })
}
