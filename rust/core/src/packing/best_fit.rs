//! Best fit decreasing in constant time per sample.

use super::Packing;

const NONE: u32 = u32::MAX;

/// Puts each sample, in the given order (longest first), into the fullest row that still has room for it.
pub(super) fn best_fit(lengths: &[u32], sorted: &[u32], capacity: u32) -> Packing {
    let mut open = OpenRows::new(capacity);
    let mut row_of = vec![NONE; lengths.len()];
    let mut num_rows = 0;
    for position in sorted {
        let length = lengths[*position as usize];
        let (row, room) = open.take(length).unwrap_or_else(|| {
            num_rows += 1;
            (num_rows - 1, capacity)
        });
        row_of[*position as usize] = row;
        open.put(row, room - length);
    }
    Packing { row_of, num_rows: num_rows as usize }
}

/// Rows with room left: for each amount of room a linked list of rows, and above it a tree of bits in which "the
/// smallest amount of at least n" takes a few steps, however many rows there are.
struct OpenRows {
    /// First row of each list, by room.
    heads: Vec<u32>,
    /// The row after each row in its list.
    next: Vec<u32>,
    /// `levels[0]` has a bit per list that is not empty; each further level a bit per word of the one below.
    levels: Vec<Vec<u64>>,
}

impl OpenRows {
    fn new(capacity: u32) -> Self {
        let mut levels = Vec::new();
        let mut bits = capacity as usize + 1;
        loop {
            let words = bits.div_ceil(64);
            levels.push(vec![0; words]);
            if words == 1 {
                break;
            }
            bits = words;
        }
        Self { heads: vec![NONE; capacity as usize + 1], next: Vec::new(), levels }
    }

    /// Files `row` under its `room`; a full row is of no more use.
    fn put(&mut self, row: u32, room: u32) {
        if row as usize == self.next.len() {
            self.next.push(NONE);
        }
        if room == 0 {
            return;
        }
        let head = &mut self.heads[room as usize];
        self.next[row as usize] = *head;
        if *head == NONE {
            let mut bit = room as usize;
            for level in &mut self.levels {
                let word = &mut level[bit / 64];
                let was_empty = *word == 0;
                *word |= 1 << (bit % 64);
                if !was_empty {
                    break;
                }
                bit /= 64;
            }
        }
        *head = row;
    }

    /// Removes a row with the least room of at least `length`, and says how much it has.
    fn take(&mut self, length: u32) -> Option<(u32, u32)> {
        let room = self.at_least(length as usize)?;
        let row = self.heads[room];
        self.heads[room] = self.next[row as usize];
        if self.heads[room] == NONE {
            let mut bit = room;
            for level in &mut self.levels {
                let word = &mut level[bit / 64];
                *word &= !(1 << (bit % 64));
                if *word != 0 {
                    break;
                }
                bit /= 64;
            }
        }
        Some((row, room as u32))
    }

    /// The lowest bit of level 0 that is set and not below `from`.
    fn at_least(&self, from: usize) -> Option<usize> {
        let mut bit = from;
        // Up, until a word has a bit at or after the wanted one ...
        let mut depth = 0;
        let found = loop {
            let word = self.levels.get(depth)?.get(bit / 64)? & (u64::MAX << (bit % 64));
            if word != 0 {
                break bit / 64 * 64 + word.trailing_zeros() as usize;
            }
            bit = bit / 64 + 1;
            depth += 1;
        };
        // ... and down again along the lowest bits.
        Some(
            self.levels[..depth].iter().rev().fold(found, |bit, level| bit * 64 + level[bit].trailing_zeros() as usize),
        )
    }
}
