//! Ids of the words that are too long for [`super::short`]: up to 31 bytes and seven ids.

use bytemuck::{Pod, Zeroable};

use super::prefetch::prefetch;
use super::table::Table;

/// Words of up to this many bytes are remembered.
pub(super) const MAX_BYTES: usize = 31;
/// Words of up to this many ids are remembered.
pub(super) const MAX_IDS: usize = 7;
const FIRST_SLOTS: usize = 1 << 8;

/// A word, zeros after it, and its length in the last byte.
#[derive(Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub(super) struct Key([u64; 4]);

/// By a word's length: the bits of a key that are the word's.
const BITS_OF_LENGTH: [[u64; 4]; MAX_BYTES + 1] = {
    let mut table = [[0; 4]; MAX_BYTES + 1];
    let mut length = 0;
    while length <= MAX_BYTES {
        let mut part = 0;
        while part < 4 {
            let begin = part * 8;
            table[length][part] = if length >= begin + 8 {
                u64::MAX
            } else if length > begin {
                (1 << (8 * (length - begin))) - 1
            } else {
                0
            };
            part += 1;
        }
        length += 1;
    }
    table
};

impl Key {
    /// The key of a word of `length` bytes that begins with `bytes`; None for words that are too long.
    #[inline]
    pub(super) fn new(bytes: &[u8; 32], length: usize) -> Option<Self> {
        let bits = BITS_OF_LENGTH.get(length)?;
        let mut parts = bytes.chunks_exact(8).filter_map(|part| part.first_chunk().copied().map(u64::from_le_bytes));
        let mut key: [u64; 4] = std::array::from_fn(|index| parts.next().unwrap_or_default() & bits[index]);
        key[3] |= (length as u64) << 56;
        Some(Key(key))
    }

    /// The key of `word`; None if it is too long.
    pub(super) fn of(word: &[u8]) -> Option<Self> {
        let mut bytes = [0; 32];
        bytes.get_mut(..word.len())?.copy_from_slice(word);
        Self::new(&bytes, word.len())
    }

    fn hash(self) -> u64 {
        let [a, b, c, d] = self.0;
        let mix = |left: u64, right: u64| {
            let product = u128::from(left ^ 0x9E37_79B9_7F4A_7C15) * u128::from(right ^ 0xD1B5_4A32_D192_ED03);
            (product >> 64) as u64 ^ product as u64
        };
        mix(mix(a, b), mix(c, d))
    }
}

/// One line of the processor's cache.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Slot {
    key: Key,
    ids: [u32; MAX_IDS],
    num_ids: u32,
}

/// No word has the length 0.
const FREE: Slot = Slot { key: Key([0; 4]), ids: [0; MAX_IDS], num_ids: 0 };

/// A table in which a word has two places; a new one takes the first, and what was there the second.
pub(super) struct LongWords {
    slots: Table<Slot>,
    num_used: usize,
    max_slots: usize,
}

impl LongWords {
    pub(super) fn new(max_bytes: usize) -> Self {
        // Rounded down to a power of two; while the table grows, the smaller one exists too.
        let max_slots = 1 << (max_bytes * 2 / 3 / size_of::<Slot>()).max(2).ilog2();
        Self { slots: Table::new(FIRST_SLOTS.min(max_slots)), num_used: 0, max_slots }
    }

    pub(super) fn clear(&mut self) {
        self.slots.fill(FREE);
        self.num_used = 0;
    }

    fn home(&self, key: Key) -> usize {
        key.hash() as usize & (self.slots.len() - 1)
    }

    /// Has the processor fetch what [`Self::find`] will read first for `key`.
    #[inline]
    pub(super) fn prefetch(&self, key: Key) {
        prefetch(&self.slots[self.home(key)]);
    }

    /// The ids of `key`, if it is remembered.
    pub(super) fn find(&self, key: Key) -> Option<&[u32]> {
        let home = self.home(key);
        let slot = [home, home ^ 1].into_iter().map(|at| &self.slots[at]).find(|slot| slot.key == key)?;
        slot.ids.get(..slot.num_ids as usize)
    }

    /// Remembers `ids` for `key`, which is not there yet, unless there are too many.
    pub(super) fn insert(&mut self, key: Key, ids: &[u32]) {
        let mut slot = Slot { key, num_ids: ids.len() as u32, ..FREE };
        let Some(own) = slot.ids.get_mut(..ids.len()) else { return };
        own.copy_from_slice(ids);
        if self.num_used * 2 >= self.slots.len() && self.slots.len() < self.max_slots {
            let larger = Table::new(self.slots.len() * 2);
            let old = std::mem::replace(&mut self.slots, larger);
            self.num_used = 0;
            old.iter().copied().filter(|slot| slot.key != FREE.key).for_each(|slot| self.place(slot));
        }
        self.place(slot);
    }

    fn place(&mut self, slot: Slot) {
        let home = self.home(slot.key);
        let before = std::mem::replace(&mut self.slots[home], slot);
        if before.key == FREE.key {
            self.num_used += 1;
            return;
        }
        let second = &mut self.slots[home ^ 1];
        self.num_used += usize::from(second.key == FREE.key);
        // Every word's other place is the neighbour, whichever of the two is its first.
        *second = before;
    }
}
