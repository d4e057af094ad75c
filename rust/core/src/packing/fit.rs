//! The capacity of one global batch's rows: no more than that many rows of the ranks need.
//!
//! Every rank gets the same number of rows, so their number is rounded up; at full capacity that would leave up to a row
//! per rank empty. With the number given, rows of less capacity hold the batch as well, and are near equal in length.

use super::{best_fit, refine, Packing};

/// What the search takes.
pub(super) struct Fit<'a> {
    pub(super) lengths: &'a [u32],
    /// Positions, longest sample first.
    pub(super) sorted: &'a [u32],
    pub(super) capacity: u32,
    pub(super) num_ranks: usize,
}

impl Fit<'_> {
    /// The packing into as few rows per rank as the capacity allows, and the shortest row length found for it: a
    /// multiple of `multiple`, or the capacity.
    pub(super) fn shortest(&self, multiple: u32) -> (Packing, u32) {
        let tokens: u64 = self.lengths.iter().map(|length| u64::from(*length)).sum();
        let goal = tokens.div_ceil(u64::from(self.capacity)) as usize;
        let mut best = self.pack(self.capacity, goal.next_multiple_of(self.num_ranks));
        let num_rows = best.num_rows.next_multiple_of(self.num_ranks);
        let Some(longest) = self.sorted.first().map(|position| self.lengths[*position as usize]) else {
            return (best, multiple.min(self.capacity));
        };
        // Rows shorter than the longest sample or the mean row cannot do. Whether longer ones do is nearly, but not
        // wholly, monotonic: the search ends at a length that does, if not always at the shortest.
        let at_least = longest.max(tokens.div_ceil(num_rows as u64) as u32);
        let (mut low, mut high) = (at_least.div_ceil(multiple), self.capacity.div_ceil(multiple));
        while low < high {
            let middle = low + (high - low) / 2;
            let packing = self.pack(self.length(middle, multiple), num_rows);
            if packing.num_rows <= num_rows {
                (best, high) = (packing, middle);
            } else {
                low = middle + 1;
            }
        }
        (best, self.length(high, multiple))
    }

    fn length(&self, count: u32, multiple: u32) -> u32 {
        count.saturating_mul(multiple).min(self.capacity)
    }

    fn pack(&self, capacity: u32, goal: usize) -> Packing {
        let mut packing = best_fit::best_fit(self.lengths, self.sorted, capacity);
        refine::refine(self.lengths, capacity, goal, &mut packing);
        packing
    }
}
