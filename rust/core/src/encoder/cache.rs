//! The memory of one thread: words met before and their ids, within a fixed number of bytes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use xxhash_rust::xxh3::xxh3_64;

/// Words of up to this many bytes are keys by value.
pub(super) const MAX_SHORT: usize = 15;
/// Longer words than this are not remembered: they hardly come again.
const MAX_LONG: usize = 256;
/// Ids that fit into a slot.
const INLINE: usize = 3;
/// Slots that a key may lie in, from its home on.
const PROBES: usize = 8;
const FIRST_SLOTS: usize = 1 << 12;
/// In the length byte of a key whose ids do not fit into its slot.
const SPILLED: u64 = 0x80 << 56;
/// What an entry of the map of long words takes, beside its bytes and ids.
const LONG_ENTRY_BYTES: usize = 48;

/// Up to 15 bytes of a word, zeros after them, and the length in the last byte.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Key(u64, u64);

/// Which bits of a key are the word's, by its length.
const BYTES_OF_LENGTH: [(u64, u64); MAX_SHORT + 1] = {
    let mut table = [(0, 0); MAX_SHORT + 1];
    let mut length = 1;
    while length <= MAX_SHORT {
        let low = if length >= 8 { u64::MAX } else { (1 << (8 * length)) - 1 };
        let high = if length <= 8 { 0 } else { (1 << (8 * (length - 8))) - 1 };
        table[length] = (low, high);
        length += 1;
    }
    table
};

impl Key {
    /// The key of the first `length` bytes, which are at least 1 and at most [`MAX_SHORT`].
    #[inline]
    pub(super) fn new(bytes: [u8; 16], length: usize) -> Self {
        let both = u128::from_le_bytes(bytes);
        let (low, high) = BYTES_OF_LENGTH[length & MAX_SHORT];
        Key(both as u64 & low, ((both >> 64) as u64 & high) | (length as u64) << 56)
    }

    #[inline]
    fn hash(self) -> u64 {
        let product = u128::from(self.0 ^ 0x9E37_79B9_7F4A_7C15) * u128::from(self.1 ^ 0xD1B5_4A32_D192_ED03);
        (product >> 64) as u64 ^ product as u64
    }
}

/// Two slots are one cache line.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
struct Slot {
    key: Key,
    /// Up to [`INLINE`] ids, and their number at the end; of a spilled key where its ids begin, and their number.
    ids: [u32; INLINE + 1],
}

/// Zeros, so that the table comes from the system as untouched pages. No word has the length 0.
const FREE: Slot = Slot { key: Key(0, 0), ids: [0; INLINE + 1] };

/// Ids of short words.
pub(super) struct WordCache {
    slots: Vec<Slot>,
    num_used: usize,
    max_slots: usize,
    spilled: Vec<u32>,
    max_spilled: usize,
    /// Which slot of a full neighbourhood is given up next.
    clock: usize,
}

impl WordCache {
    fn new(max_bytes: usize) -> Self {
        let max_slots = (max_bytes * 7 / 8 / size_of::<Slot>()).max(PROBES);
        // Rounded down to a power of two.
        let max_slots = 1 << max_slots.ilog2();
        let slots = vec![FREE; FIRST_SLOTS.min(max_slots)];
        Self { slots, num_used: 0, max_slots, spilled: Vec::new(), max_spilled: max_bytes / 8 / 4, clock: 0 }
    }

    fn clear(&mut self) {
        self.slots.fill(FREE);
        self.spilled.clear();
        self.num_used = 0;
    }

    #[inline]
    fn home(&self, key: Key) -> usize {
        key.hash() as usize & (self.slots.len() - 1)
    }

    /// The ids of `key` (up to three, then their number) if it lies where it should: nearly always.
    #[inline]
    pub(super) fn at_home(&self, key: Key) -> Option<&[u32; INLINE + 1]> {
        let slot = &self.slots[self.home(key)];
        (slot.key == key).then_some(&slot.ids)
    }

    /// The ids of `key`, wherever they are; a key that was elsewhere moves to its home.
    pub(super) fn find(&mut self, key: Key) -> Option<&[u32]> {
        let home = self.home(key);
        let spilled = Key(key.0, key.1 | SPILLED);
        for probe in 0..PROBES {
            let at = (home + probe) & (self.slots.len() - 1);
            let slot = self.slots[at];
            if slot.key == key {
                self.slots.swap(home, at);
                return Some(&self.slots[home].ids[..slot.ids[INLINE] as usize]);
            }
            if slot.key == spilled {
                let start = slot.ids[0] as usize;
                return Some(&self.spilled[start..start + slot.ids[INLINE] as usize]);
            }
        }
        None
    }

    /// Remembers `ids` for `key`, which is not in the cache.
    pub(super) fn insert(&mut self, key: Key, ids: &[u32]) {
        if self.num_used * 2 >= self.slots.len() && self.slots.len() < self.max_slots {
            self.grow();
        }
        let mut slot = Slot { key, ids: [0; INLINE + 1] };
        slot.ids[INLINE] = ids.len() as u32;
        if let Some(inline) = slot.ids[..INLINE].get_mut(..ids.len()) {
            inline.copy_from_slice(ids);
        } else {
            if self.spilled.len() + ids.len() > self.max_spilled {
                self.clear();
            }
            slot.key.1 |= SPILLED;
            slot.ids[0] = self.spilled.len() as u32;
            self.spilled.extend_from_slice(ids);
        }
        self.place(slot);
    }

    fn place(&mut self, slot: Slot) {
        let home = self.home(Key(slot.key.0, slot.key.1 & !SPILLED));
        for probe in 0..PROBES {
            let at = (home + probe) & (self.slots.len() - 1);
            if self.slots[at].key == FREE.key {
                self.slots[at] = slot;
                self.num_used += 1;
                return;
            }
        }
        self.clock += 1;
        let at = (home + self.clock % PROBES) & (self.slots.len() - 1);
        self.slots[at] = slot;
    }

    fn grow(&mut self) {
        let larger = vec![FREE; (self.slots.len() * 4).min(self.max_slots)];
        let old = std::mem::replace(&mut self.slots, larger);
        self.num_used = 0;
        for slot in old.into_iter().filter(|slot| slot.key != FREE.key) {
            self.place(slot);
        }
    }
}

/// Ids of words that are longer than [`MAX_SHORT`] bytes.
#[derive(Default)]
pub(super) struct LongCache {
    /// By hash; the word itself is compared too, and of two with one hash the later one stays.
    entries: HashMap<u64, LongEntry, BuildHasherDefault<SameHash>>,
    bytes: Vec<u8>,
    ids: Vec<u32>,
    max_bytes: usize,
}

#[derive(Clone, Copy)]
struct LongEntry {
    word: (u32, u32),
    ids: (u32, u32),
}

impl LongCache {
    fn new(max_bytes: usize) -> Self {
        Self { max_bytes, ..Self::default() }
    }

    /// The ids of `word`, if it is remembered.
    pub(super) fn find(&self, word: &[u8]) -> Option<&[u32]> {
        if word.len() > MAX_LONG {
            return None;
        }
        let entry = self.entries.get(&xxh3_64(word))?;
        let known = &self.bytes[entry.word.0 as usize..entry.word.1 as usize];
        (known == word).then(|| &self.ids[entry.ids.0 as usize..entry.ids.1 as usize])
    }

    /// Remembers `ids` for `word`, unless it is too long for that; forgets everything first when the bytes are used up.
    pub(super) fn insert(&mut self, word: &[u8], ids: &[u32]) {
        if word.len() > MAX_LONG {
            return;
        }
        let used = self.bytes.len() + self.ids.len() * 4 + self.entries.len() * LONG_ENTRY_BYTES;
        // Vectors and maps double when they grow, so half of the bytes may be in use.
        if used * 2 > self.max_bytes {
            self.clear();
        }
        let (word_start, ids_start) = (self.bytes.len() as u32, self.ids.len() as u32);
        self.bytes.extend_from_slice(word);
        self.ids.extend_from_slice(ids);
        let entry = LongEntry { word: (word_start, self.bytes.len() as u32), ids: (ids_start, self.ids.len() as u32) };
        self.entries.insert(xxh3_64(word), entry);
    }

    fn clear(&mut self) {
        self.entries.clear();
        self.bytes.clear();
        self.ids.clear();
    }
}

/// The keys are hashes already.
#[derive(Default)]
struct SameHash(u64);

impl Hasher for SameHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64(bytes);
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// What one thread remembers between calls of [`super::Encoder::encode`]. It makes encoding fast and never changes ids.
pub struct Scratch {
    /// The encoder that the words' ids come from.
    pub(super) owner: u64,
    pub(super) words: WordCache,
    pub(super) long: LongCache,
    /// Ids of one word, before they are remembered.
    pub(super) fresh: Vec<u32>,
}

impl Scratch {
    /// Room for words and their ids in at most about `max_bytes` bytes; it is taken only as words come.
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(1 << 31);
        let long = max_bytes / 4;
        Self { owner: 0, words: WordCache::new(max_bytes - long), long: LongCache::new(long), fresh: Vec::new() }
    }

    /// Forgets the words of another encoder.
    pub(super) fn belong_to(&mut self, encoder: u64) {
        if self.owner != encoder {
            self.words.clear();
            self.long.clear();
            self.owner = encoder;
        }
    }
}

impl Default for Scratch {
    /// With 64 MiB.
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scratch").field("owner", &self.owner).finish_non_exhaustive()
    }
}
