//! Fewer rows than best fit where few samples are packed: complete rows by subset sums.
//!
//! With some 80 rows of three samples each, best fit decreasing wastes most of a row: its last samples meet rows whose
//! room no longer suits them. Here each row is completed at once instead. Its longest sample is given; which sums the
//! remaining samples can reach is a bit set (one shift and one "or" per sample), and the row takes a subset that leaves
//! no more room than the rows can spare on average, long samples first, so that short ones stay for later rows.

use super::{longest_first, Packing};

/// Samples that are packed anew at once; of more, those in the emptiest rows.
const MAX_SAMPLES: usize = 512;
/// Words of bit sets that may be written in all: some milliseconds.
const MAX_WORK: usize = 48 << 20;
/// Words of bit sets that may be held at a time: 64 MiB.
const MAX_MEMORY: usize = 8 << 20;
/// Share of the average spare room that a row may leave, in quarters; tried in turn until the goal is reached.
const TOLERANCES: [u64; 8] = [4, 2, 0, 6, 8, 3, 1, 5];

/// Packs the emptiest rows anew when that gets the number of rows down, at best to `goal`.
pub(super) fn refine(lengths: &[u32], capacity: u32, goal: usize, packing: &mut Packing) {
    if packing.num_rows <= goal {
        return;
    }
    let (chosen, positions) = emptiest_rows(lengths, packing);
    let sorted = longest_first_of(lengths, &positions);
    let weights: Vec<u32> = sorted.iter().map(|position| lengths[*position as usize]).collect();
    let tokens: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
    let fewest = tokens.div_ceil(u64::from(capacity)) as usize;
    let goal = fewest.max((chosen.len() + goal).saturating_sub(packing.num_rows));
    let words = capacity as usize / 64 + 1;
    if chosen.len() <= goal || words * (weights.len() + 1) > MAX_MEMORY {
        return;
    }
    let mut search = Search { weights: &weights, capacity, words, sums: Vec::new(), work: 0 };
    let mut best: Option<Vec<Vec<u32>>> = None;
    for tolerance in TOLERANCES {
        let bound = best.as_ref().map_or(chosen.len(), Vec::len);
        if bound <= goal || search.work >= MAX_WORK {
            break;
        }
        best = search.rows(goal, bound, tolerance).or(best);
    }
    if let Some(rows) = best {
        replace(packing, &chosen, &sorted, &rows);
    }
}

/// Rows with the most room, and their samples: all of them, or as many as may be packed anew.
fn emptiest_rows(lengths: &[u32], packing: &Packing) -> (Vec<u32>, Vec<u32>) {
    let mut tokens = vec![0u32; packing.num_rows];
    let mut counts = vec![0usize; packing.num_rows];
    for (position, row) in packing.row_of.iter().enumerate() {
        tokens[*row as usize] += lengths[position];
        counts[*row as usize] += 1;
    }
    let mut rows: Vec<u32> = (0..packing.num_rows as u32).collect();
    rows.sort_unstable_by_key(|row| (tokens[*row as usize], *row));
    let mut num_samples = 0;
    let fits = |row: &u32| {
        num_samples += counts[*row as usize];
        num_samples <= MAX_SAMPLES
    };
    let mut chosen: Vec<u32> = rows.into_iter().take_while(fits).collect();
    chosen.sort_unstable();
    let samples = (0..lengths.len() as u32)
        .filter(|position| chosen.binary_search(&packing.row_of[*position as usize]).is_ok())
        .collect();
    (chosen, samples)
}

fn longest_first_of(lengths: &[u32], positions: &[u32]) -> Vec<u32> {
    let some: Vec<u32> = positions.iter().map(|position| lengths[*position as usize]).collect();
    let all: Vec<u32> = (0..some.len() as u32).collect();
    longest_first(&some, &all).into_iter().map(|index| positions[index as usize]).collect()
}

/// Puts the new rows in the place of the chosen ones, and closes the gaps in the numbering.
fn replace(packing: &mut Packing, chosen: &[u32], sorted: &[u32], rows: &[Vec<u32>]) {
    let dropped = &chosen[rows.len()..];
    for row in &mut packing.row_of {
        *row -= dropped.partition_point(|gone| *gone < *row) as u32;
    }
    for (row, name) in rows.iter().zip(chosen) {
        for index in row {
            packing.row_of[sorted[*index as usize] as usize] = *name;
        }
    }
    packing.num_rows -= dropped.len();
}

/// One way after another of packing the same samples.
struct Search<'a> {
    /// Lengths, falling.
    weights: &'a [u32],
    capacity: u32,
    /// Words of a bit set with a bit for each sum from 0 to the capacity.
    words: usize,
    /// Bit set k holds the sums of the k shortest samples that are left.
    sums: Vec<u64>,
    /// Words written so far.
    work: usize,
}

impl Search<'_> {
    /// Rows of indices into `weights`; None when they would not be fewer than `bound`.
    fn rows(&mut self, goal: usize, bound: usize, tolerance: u64) -> Option<Vec<Vec<u32>>> {
        let mut left: Vec<u32> = (0..self.weights.len() as u32).rev().collect();
        let mut tokens: u64 = self.weights.iter().map(|weight| u64::from(*weight)).sum();
        let capacity = u64::from(self.capacity);
        let mut num_valid = 0;
        self.sums.clear();
        self.sums.resize(self.words * (self.weights.len() + 1), 0);
        self.sums[0] = 1;
        let mut rows = Vec::new();
        while !left.is_empty() {
            if rows.len() + tokens.div_ceil(capacity) as usize >= bound || self.work >= MAX_WORK {
                return None;
            }
            let rows_left = goal.saturating_sub(rows.len()).max(1) as u64;
            let spare = (rows_left * capacity).saturating_sub(tokens) * tolerance / (4 * rows_left);
            let row = self.complete_row(&mut left, &mut num_valid, spare.min(capacity) as usize);
            tokens -= row.iter().map(|index| u64::from(self.weights[*index as usize])).sum::<u64>();
            rows.push(row);
        }
        Some(rows)
    }

    /// Takes the longest sample out of `left` (shortest first) and others that leave at most `spare` tokens of room, or
    /// as few as can be. The first `num_valid` bit sets agree with `left`.
    fn complete_row(&mut self, left: &mut Vec<u32>, num_valid: &mut usize, spare: usize) -> Vec<u32> {
        let Some(longest) = left.pop() else { return Vec::new() };
        let mut room = (self.capacity - self.weights[longest as usize]) as usize;
        let num_fitting = left.partition_point(|index| self.weights[*index as usize] as usize <= room);
        *num_valid = (*num_valid).min(left.len());
        while *num_valid < num_fitting {
            self.add_sample(*num_valid, self.weights[left[*num_valid] as usize] as usize);
            *num_valid += 1;
        }
        let fullest = highest_bit(self.sums_of(num_fitting), 0, room).unwrap_or(0);
        let spare = spare.max(room - fullest);
        let mut row = vec![longest];
        let mut place = num_fitting;
        while room > spare && place > 0 {
            place -= 1;
            let weight = self.weights[left[place] as usize] as usize;
            // Take it if shorter ones can complete the row.
            if weight <= room {
                let rest = room - weight;
                if highest_bit(self.sums_of(place), rest.saturating_sub(spare), rest).is_some() {
                    row.push(left.remove(place));
                    *num_valid = (*num_valid).min(place);
                    room = rest;
                }
            }
        }
        row
    }

    fn sums_of(&self, num_samples: usize) -> &[u64] {
        &self.sums[num_samples * self.words..(num_samples + 1) * self.words]
    }

    /// Computes bit set k + 1 from bit set k and one more sample.
    fn add_sample(&mut self, k: usize, weight: usize) {
        let (before, after) = self.sums.split_at_mut((k + 1) * self.words);
        let (old, new) = (&before[k * self.words..], &mut after[..self.words]);
        let (skip, shift) = (weight / 64, weight % 64);
        new.copy_from_slice(old);
        let mut carry = 0;
        for (target, word) in new[skip..].iter_mut().zip(old) {
            *target |= (word << shift) | carry;
            carry = if shift == 0 { 0 } else { word >> (64 - shift) };
        }
        self.work += self.words;
    }
}

/// The highest bit that is set from `low` to `high`, both included.
fn highest_bit(words: &[u64], low: usize, high: usize) -> Option<usize> {
    let mut index = high / 64;
    let mut word = words[index] & (u64::MAX >> (63 - high % 64));
    while word == 0 {
        if index * 64 <= low {
            return None;
        }
        index -= 1;
        word = words[index];
    }
    let bit = index * 64 + 63 - word.leading_zeros() as usize;
    (bit >= low).then_some(bit)
}
