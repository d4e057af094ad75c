//! The merge rules of byte-pair encoding, and their application to one word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// A rank that no rule has: "these two never merge".
const NEVER: u32 = u32::MAX;
/// Marks a byte without a token; such bytes give no id, as in Hugging Face's models without an unknown token.
pub(super) const NO_TOKEN: u32 = u32::MAX;
/// Ids and ranks must fit into the fields of a table entry.
pub(super) const MAX_IDS: usize = (1 << 20) - 1;
pub(super) const MAX_RULES: usize = (1 << 24) - 1;

/// Up to this many bytes, looking for the smallest rank in an array is faster than a heap.
const SHORT: usize = 64;
const EMPTY: u64 = u64::MAX;

/// The rules: which two tokens merge into which one, and in what order of precedence.
pub(super) struct Merges {
    /// Open addressing: left id (20 bits), right id (20 bits), rank (24 bits).
    slots: Vec<u64>,
    shift: u32,
    /// The token that the rule of a rank makes.
    merged: Vec<u32>,
    /// Id of each single byte.
    bytes: [u32; 256],
    /// Rank of each pair of single bytes, at `left << 8 | right`: the first step of every word.
    byte_pairs: Vec<u32>,
}

impl Merges {
    /// `rules` in order of rank as (left, right, merged); of rules for the same two tokens the last one counts.
    ///
    /// Ids must be below [`MAX_IDS`] and there must be at most [`MAX_RULES`] rules.
    pub(super) fn new(bytes: [u32; 256], rules: &[(u32, u32, u32)]) -> Self {
        // At most half full.
        let num_slots = (rules.len() * 2).next_power_of_two().max(16);
        let mut merges = Self {
            slots: vec![EMPTY; num_slots],
            shift: 64 - num_slots.trailing_zeros(),
            merged: rules.iter().map(|rule| rule.2).collect(),
            bytes,
            byte_pairs: Vec::new(),
        };
        for (rank, (left, right, _)) in rules.iter().enumerate() {
            merges.insert(*left, *right, rank as u32);
        }
        merges.byte_pairs = (0..1 << 16)
            .map(|pair| {
                let (left, right) = (bytes[pair >> 8], bytes[pair & 0xFF]);
                if left == NO_TOKEN || right == NO_TOKEN {
                    NEVER
                } else {
                    merges.rank(left, right)
                }
            })
            .collect();
        merges
    }

    fn insert(&mut self, left: u32, right: u32, rank: u32) {
        let pair = pair_of(left, right);
        let mut at = self.home(pair);
        while self.slots[at] != EMPTY && self.slots[at] >> 24 != pair {
            at = (at + 1) & (self.slots.len() - 1);
        }
        self.slots[at] = pair << 24 | u64::from(rank);
    }

    #[inline]
    fn home(&self, pair: u64) -> usize {
        (pair.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> self.shift) as usize
    }

    /// Rank of the rule for `left` and `right`, or [`NEVER`].
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = pair_of(left, right);
        let mut at = self.home(pair);
        loop {
            let slot = self.slots[at];
            if slot >> 24 == pair {
                return (slot & 0xFF_FFFF) as u32;
            }
            if slot == EMPTY {
                return NEVER;
            }
            at = (at + 1) & (self.slots.len() - 1);
        }
    }

    /// Appends the ids of `word` to `ids`: the rule of lowest rank is applied first, further left before further right.
    ///
    /// `word` must be shorter than 4 GiB.
    pub(super) fn apply(&self, word: &[u8], ids: &mut Vec<u32>) {
        if word.len() <= SHORT {
            self.apply_short(word, ids);
        } else {
            self.apply_long(word, ids);
        }
    }

    fn apply_short(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut tokens = [0; SHORT];
        // ranks[i] belongs to tokens i and i + 1.
        let mut ranks = [NEVER; SHORT];
        let mut length = 0;
        let mut previous = None;
        for byte in word {
            let id = self.bytes[usize::from(*byte)];
            if id == NO_TOKEN {
                continue;
            }
            tokens[length] = id;
            if let Some(left) = previous {
                ranks[length - 1] = self.byte_pairs[usize::from(left) << 8 | usize::from(*byte)];
            }
            previous = Some(*byte);
            length += 1;
        }
        while length > 1 {
            let (mut at, mut lowest) = (0, NEVER);
            for (index, rank) in ranks[..length - 1].iter().enumerate() {
                if *rank < lowest {
                    (at, lowest) = (index, *rank);
                }
            }
            if lowest == NEVER {
                break;
            }
            tokens[at] = self.merged[lowest as usize];
            tokens.copy_within(at + 2..length, at + 1);
            ranks.copy_within(at + 1..length - 1, at);
            length -= 1;
            if at > 0 {
                ranks[at - 1] = self.rank(tokens[at - 1], tokens[at]);
            }
            if at + 1 < length {
                ranks[at] = self.rank(tokens[at], tokens[at + 1]);
            }
        }
        ids.extend_from_slice(&tokens[..length]);
    }

    /// The same with a heap, in n log n steps.
    fn apply_long(&self, word: &[u8], ids: &mut Vec<u32>) {
        let start: Vec<u32> =
            word.iter().map(|byte| self.bytes[usize::from(*byte)]).filter(|id| *id != NO_TOKEN).collect();
        let mut chain = Chain::new(start);
        let entry = |rank: u32, at: usize| Reverse(u64::from(rank) << 40 | at as u64);
        let mut queue: BinaryHeap<_> = chain
            .ids
            .windows(2)
            .enumerate()
            .map(|(at, pair)| (self.rank(pair[0], pair[1]), at))
            .filter(|(rank, _)| *rank != NEVER)
            .map(|(rank, at)| entry(rank, at))
            .collect();
        while let Some(Reverse(next)) = queue.pop() {
            let (rank, at) = ((next >> 40) as u32, (next & 0xFF_FFFF_FFFF) as usize);
            // An entry outlives its two tokens when one of them merged with another neighbour.
            let Some(right) = chain.next(at) else { continue };
            if chain.ids[at] == NO_TOKEN || self.rank(chain.ids[at], chain.ids[right]) != rank {
                continue;
            }
            chain.merge(at, right, self.merged[rank as usize]);
            for (left, right) in [(chain.previous(at), Some(at)), (Some(at), chain.next(at))] {
                let (Some(left), Some(right)) = (left, right) else { continue };
                let rank = self.rank(chain.ids[left], chain.ids[right]);
                if rank != NEVER {
                    queue.push(entry(rank, left));
                }
            }
        }
        ids.extend(chain.ids.iter().filter(|id| **id != NO_TOKEN));
    }
}

#[inline]
fn pair_of(left: u32, right: u32) -> u64 {
    u64::from(left) << 20 | u64::from(right)
}

/// A list of tokens from which tokens vanish: two arrays, for words can be hundreds of megabytes.
struct Chain {
    /// The token that begins at a position; [`NO_TOKEN`] where one was merged away.
    ids: Vec<u32>,
    /// The number of positions that a token covers, written at its first and its last position.
    spans: Vec<u32>,
}

impl Chain {
    fn new(ids: Vec<u32>) -> Self {
        Self { spans: vec![1; ids.len()], ids }
    }

    fn next(&self, at: usize) -> Option<usize> {
        let next = at + self.spans[at] as usize;
        (next < self.ids.len()).then_some(next)
    }

    fn previous(&self, at: usize) -> Option<usize> {
        let before = at.checked_sub(1)?;
        Some(at - self.spans[before] as usize)
    }

    fn merge(&mut self, left: usize, right: usize, id: u32) {
        let span = self.spans[left] + self.spans[right];
        self.ids[left] = id;
        self.ids[right] = NO_TOKEN;
        self.spans[left] = span;
        self.spans[left + span as usize - 1] = span;
    }
}
