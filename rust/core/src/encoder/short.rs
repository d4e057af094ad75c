//! Ids of the words of at most 15 bytes and four ids, which nearly all text consists of.
//!
//! What looking up costs is waiting for memory, for texts have a long tail of rare words. So a lookup reads one line of
//! the processor's cache, takes no branch that depends on what is there, and nearly always finds the word: then the
//! processor runs ahead and waits for many lines at the same time.

use bytemuck::{Pod, Zeroable};

use super::prefetch::prefetch;
use super::table::Table;

/// Words of up to this many bytes are keys by value.
pub(super) const MAX_BYTES: usize = 15;
/// Ids that fit beside a key.
pub(super) const MAX_IDS: usize = 4;
/// Words that a key is asked for are shorter.
const TOO_LONG: usize = 128;
const FIRST_LINES: usize = 1 << 10;
/// Where a key's number of ids begins; the length is in the four bits below, and the word's bytes in those below that.
const COUNT_SHIFT: u32 = 60;
const LENGTH_SHIFT: u32 = 56;

/// Up to 15 bytes of a word, zeros after them, and in the last byte the length. In the table that byte also holds how
/// many ids the word has, which does not count when keys are compared.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Key(u64, u64);

/// By a word's length: which bits of the key are the word's, and the bits for the length. Too long words get a key that
/// no word in the table has.
const BY_LENGTH: [(u64, u64, u64); TOO_LONG] = {
    let mut table = [(0, 0, 1); TOO_LONG];
    let mut length = 1;
    while length <= MAX_BYTES {
        let low = if length >= 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
        let high = if length <= 8 { 0 } else { (1 << (8 * (length - 8))) - 1 };
        table[length] = (low, high, (length as u64) << LENGTH_SHIFT);
        length += 1;
    }
    table
};

impl Key {
    /// No word's.
    pub(super) const NONE: Key = Key(0, 0);

    /// The key of a word of `length` bytes, fewer than [`TOO_LONG`], that begins with `bytes`.
    #[inline]
    pub(super) fn new(bytes: [u8; 16], length: usize) -> Self {
        let both = u128::from_le_bytes(bytes);
        let (low, high, bits) = BY_LENGTH[length % TOO_LONG];
        Key(both as u64 & low, ((both >> 64) as u64 & high) | bits)
    }

    #[inline]
    pub(super) fn hash(self) -> u32 {
        let product = u128::from(self.0 ^ 0x9E37_79B9_7F4A_7C15) * u128::from(self.1 ^ 0xD1B5_4A32_D192_ED03);
        ((product >> 64) as u64 ^ product as u64) as u32
    }

    #[inline]
    fn is(self, other: Key) -> bool {
        (self.0 ^ other.0) | ((self.1 ^ other.1) << (64 - COUNT_SHIFT)) == 0
    }

    fn with_count(self, count: usize) -> Self {
        Key(self.0, self.without_count().1 | (count as u64) << COUNT_SHIFT)
    }

    fn without_count(self) -> Self {
        Key(self.0, self.1 & !(u64::MAX << COUNT_SHIFT))
    }

    #[inline]
    fn count(self) -> usize {
        (self.1 >> COUNT_SHIFT) as usize
    }

    /// No word has the length 0.
    fn is_free(self) -> bool {
        self.1 == 0
    }
}

/// Two words and their ids, the newer one first.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line {
    keys: [Key; 2],
    ids: [[u32; MAX_IDS]; 2],
}

const FREE: Line = Line { keys: [Key(0, 0); 2], ids: [[0; MAX_IDS]; 2] };

/// Ids of short words. A word lies in one line only, and a new one takes the place of the older one there.
pub(super) struct ShortWords {
    lines: Table<Line>,
    num_used: usize,
    max_lines: usize,
}

impl ShortWords {
    pub(super) fn new(max_bytes: usize) -> Self {
        // Rounded down to a power of two; while the table grows, the smaller one exists too.
        let max_lines = 1 << (max_bytes * 2 / 3 / size_of::<Line>()).max(1).ilog2();
        Self { lines: Table::new(FIRST_LINES.min(max_lines)), num_used: 0, max_lines }
    }

    pub(super) fn clear(&mut self) {
        self.lines.fill(FREE);
        self.num_used = 0;
    }

    #[inline]
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.lines.len() - 1)
    }

    /// Has the processor fetch what [`Self::find`] will read for a key with `hash`.
    #[inline]
    pub(super) fn prefetch(&self, hash: u32) {
        prefetch(&self.lines[self.home(hash)]);
    }

    /// The ids of `key`, whose hash is `hash`, and how many of the four numbers they are.
    #[inline]
    pub(super) fn find(&self, key: Key, hash: u32) -> Option<(&[u32; MAX_IDS], usize)> {
        let line = &self.lines[self.home(hash)];
        // Which of the two it can only be is computed, since it cannot be predicted; that it is there can.
        let place = usize::from(!line.keys[0].is(key));
        let known = line.keys[place];
        known.is(key).then_some((&line.ids[place], known.count()))
    }

    /// Remembers up to [`MAX_IDS`] ids for `key`, which is not there yet.
    pub(super) fn insert(&mut self, key: Key, ids: &[u32]) {
        // Half full at most, so that few lines have three words.
        if self.num_used >= self.lines.len() && self.lines.len() < self.max_lines {
            self.grow();
        }
        let mut own = [0; MAX_IDS];
        own[..ids.len()].copy_from_slice(ids);
        self.place(key.with_count(ids.len()), own);
    }

    fn place(&mut self, key: Key, ids: [u32; MAX_IDS]) {
        let home = self.home(key.without_count().hash());
        let line = &mut self.lines[home];
        self.num_used += usize::from(line.keys[1].is_free());
        *line = Line { keys: [key, line.keys[0]], ids: [ids, line.ids[0]] };
    }

    fn grow(&mut self) {
        let larger = Table::new(self.lines.len() * 2);
        let old = std::mem::replace(&mut self.lines, larger);
        self.num_used = 0;
        for line in old.iter().copied() {
            // The older word first, so that it stays the older one.
            for place in [1, 0] {
                if !line.keys[place].is_free() {
                    self.place(line.keys[place], line.ids[place]);
                }
            }
        }
    }
}
