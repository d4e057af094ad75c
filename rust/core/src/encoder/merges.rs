//! The merge rules of byte-pair encoding, and their application to one word.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bytemuck::{Pod, Zeroable};

use super::table::Table;

/// A rank that no rule has: "these two never merge".
const NEVER: u32 = u32::MAX;
/// Marks a byte without a token; such bytes give no id, as in Hugging Face's models without an unknown token.
pub(super) const NO_TOKEN: u32 = u32::MAX;
/// Ids and ranks must fit into the fields of a table entry.
pub(super) const MAX_IDS: usize = (1 << 20) - 1;
pub(super) const MAX_RULES: usize = (1 << 24) - 1;

/// Up to this many bytes, looking for the smallest rank in an array is faster than a heap.
const SHORT: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 6;
/// Up to this many bytes, the ranks fit into four vector registers.
const TINY: usize = 16;
const FILTER_BITS: u32 = 21;
const EMPTY: u64 = u64::MAX;

/// Half a cache line of rules, each as left id (20 bits), right id (20 bits) and rank (24 bits); the free places are last.
/// Comparing all four takes no branch that could be mispredicted, and hardly a bucket is full.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(32))]
struct Bucket([u64; 4]);

/// The rules: which two tokens merge into which one, and in what order of precedence.
pub(super) struct Merges {
    buckets: Table<Bucket>,
    /// How far a hash is moved down to number a bucket.
    shift: u32,
    /// One bit per hash value of [`FILTER_BITS`] bits: whether some rule has it. About half of the pairs that are asked
    /// for have no rule, and this is small enough for the processor's second-level cache.
    filter: Vec<u64>,
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
        // One or two rules per bucket.
        let num_buckets = (rules.len() / 2).next_power_of_two().max(2);
        let mut buckets = Table::new(num_buckets);
        buckets.fill(Bucket([EMPTY; 4]));
        let mut merges = Self {
            buckets,
            shift: 64 - num_buckets.trailing_zeros(),
            filter: vec![0; 1 << (FILTER_BITS - 6)],
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
        let hash = hash_of(pair);
        self.filter[(hash >> (70 - FILTER_BITS)) as usize] |= 1 << (hash >> (64 - FILTER_BITS) & 63);
        let mut at = (hash >> self.shift) as usize;
        loop {
            let place = self.buckets[at].0.iter_mut().find(|rule| **rule == EMPTY || **rule >> 24 == pair);
            if let Some(place) = place {
                *place = pair << 24 | u64::from(rank);
                return;
            }
            at = (at + 1) % self.buckets.len();
        }
    }

    /// Rank of the rule for `left` and `right`, or [`NEVER`].
    #[inline]
    fn rank(&self, left: u32, right: u32) -> u32 {
        let pair = pair_of(left, right);
        let hash = hash_of(pair);
        if self.filter[(hash >> (70 - FILTER_BITS)) as usize] >> (hash >> (64 - FILTER_BITS) & 63) & 1 == 0 {
            return NEVER;
        }
        let mut at = (hash >> self.shift) as usize;
        loop {
            let Bucket(rules) = &self.buckets[at];
            let mut rank = NEVER;
            for rule in rules {
                rank = if rule >> 24 == pair { (rule & 0xFF_FFFF) as u32 } else { rank };
            }
            if (rules[3] == EMPTY) | (rank != NEVER) {
                return rank;
            }
            at = (at + 1) & (self.buckets.len() - 1);
        }
    }

    /// Appends the ids of `word` to `ids`: the rule of lowest rank is applied first, further left before further right.
    ///
    /// `word` must be shorter than 4 GiB.
    pub(super) fn apply(&self, word: &[u8], ids: &mut Vec<u32>) {
        if word.len() <= TINY {
            self.apply_tiny(word, ids);
        } else if word.len() <= SHORT {
            self.apply_short(word, ids);
        } else {
            self.apply_long(word, ids);
        }
    }

    /// All in a few registers: tokens stay where they are, and those merged away lose their bit in `left`.
    fn apply_tiny(&self, word: &[u8], ids: &mut Vec<u32>) {
        // The last byte has no right neighbour, so there is one rank less than bytes; the rest are never chosen.
        let (mut tokens, mut ranks) = ([0; TINY], [NEVER; TINY]);
        let mut left: u32 = 0;
        for (index, byte) in word.iter().enumerate() {
            tokens[index] = self.bytes[usize::from(*byte)];
            left |= u32::from(tokens[index] != NO_TOKEN) << index;
        }
        if left.count_ones() as usize != word.len() {
            return self.apply_short(word, ids);
        }
        for (index, pair) in word.windows(2).enumerate() {
            ranks[index] = numbered(self.byte_pairs[usize::from(pair[0]) << 8 | usize::from(pair[1])], index);
        }
        loop {
            let lowest = ranks.iter().fold(NEVER, |lowest, rank| lowest.min(*rank));
            if lowest == NEVER {
                break;
            }
            let at = lowest as usize % TINY;
            let merged = self.merged[(lowest >> INDEX_BITS) as usize];
            let after = left & (u32::MAX << at << 1);
            let right = after.trailing_zeros() as usize % TINY;
            let beyond = after & after.wrapping_sub(1);
            left &= !(1 << right);
            tokens[at] = merged;
            ranks[right] = NEVER;
            ranks[at] = NEVER;
            if beyond != 0 {
                ranks[at] = numbered(self.rank(merged, tokens[beyond.trailing_zeros() as usize % TINY]), at);
            }
            let before = left & !(u32::MAX << at);
            if before != 0 {
                let previous = (31 - before.leading_zeros()) as usize % TINY;
                ranks[previous] = numbered(self.rank(tokens[previous], merged), previous);
            }
        }
        while left != 0 {
            ids.push(tokens[left.trailing_zeros() as usize % TINY]);
            left &= left - 1;
        }
    }

    fn apply_short(&self, word: &[u8], ids: &mut Vec<u32>) {
        let mut tokens = [0; SHORT];
        // ranks[i] belongs to tokens i and i + 1. Tokens move down, so their numbers are put in only when compared.
        let mut ranks = [NEVER; SHORT];
        let moved = |rank: u32| numbered(rank, 0);
        let mut length = 0;
        let mut previous = None;
        for byte in word {
            let id = self.bytes[usize::from(*byte)];
            if id == NO_TOKEN {
                continue;
            }
            tokens[length] = id;
            if let Some(left) = previous {
                ranks[length - 1] = moved(self.byte_pairs[usize::from(left) << 8 | usize::from(*byte)]);
            }
            previous = Some(*byte);
            length += 1;
        }
        while length > 1 {
            let lowest =
                ranks[..length - 1].iter().zip(0..).fold(NEVER, |lowest, (rank, index)| lowest.min(rank | index));
            if lowest == NEVER {
                break;
            }
            let at = lowest as usize % SHORT;
            tokens[at] = self.merged[(lowest >> INDEX_BITS) as usize];
            tokens.copy_within(at + 2..length, at + 1);
            ranks.copy_within(at + 1..length - 1, at);
            length -= 1;
            if at > 0 {
                ranks[at - 1] = moved(self.rank(tokens[at - 1], tokens[at]));
            }
            if at + 1 < length {
                ranks[at] = moved(self.rank(tokens[at], tokens[at + 1]));
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

/// A rank above the number of its place: the smallest of these is the leftmost of the lowest ranks.
#[inline]
fn numbered(rank: u32, place: usize) -> u32 {
    if rank == NEVER {
        NEVER
    } else {
        rank << INDEX_BITS | place as u32
    }
}

#[inline]
fn pair_of(left: u32, right: u32) -> u64 {
    u64::from(left) << 20 | u64::from(right)
}

#[inline]
fn hash_of(pair: u64) -> u64 {
    pair.wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
