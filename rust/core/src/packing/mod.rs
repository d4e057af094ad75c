//! Packing: which samples share a row of `capacity` tokens, for one global batch or for a whole set of samples.
//!
//! Samples stay whole, every sample is in exactly one row, and no row overflows. The number of rows comes from best fit
//! decreasing ([`best_fit`]); where few samples are packed, a search for complete rows ([`refine`]) closes most of the
//! gap to the lower bound `ceil(tokens / capacity)`. Everything is a function of the arguments alone, in integers, so
//! that every rank draws the same plan on any machine.
//!
//! The number of a global batch's rows is a multiple of the ranks; what that adds to their number comes off their length
//! ([`fit`]). Rows are dealt to ranks, and where there are few, samples ([`balance`]).
//!
//! *Fill* is real tokens / tokens of the rows with their padding.

mod balance;
mod best_fit;
mod fit;
mod refine;
mod shuffle;

use crate::error::{Error, Result};
use shuffle::Shuffle;

/// Longest row, in tokens: the lists by remaining room take 4 bytes for each token of it.
pub const MAX_CAPACITY: i64 = 1 << 24;

/// Rows of samples in flat form.
#[derive(Debug, PartialEq, Eq)]
pub struct PackedRows {
    /// Positions of all samples, those of a row next to each other and ascending.
    pub order: Vec<i64>,
    /// Row k is `order[row_starts[k]..row_starts[k + 1]]`; one entry more than there are rows.
    pub row_starts: Vec<i64>,
}

/// Relative time of a row: `sum(linear * n + n * n)` over the lengths n of its samples, in arbitrary units.
#[derive(Debug, Clone, Copy)]
pub struct RowCost {
    /// Weight of a token against a pair of tokens: 12 h for a transformer of width h.
    pub linear: u32,
}

impl RowCost {
    fn of(self, length: u32) -> u64 {
        u64::from(length) * (u64::from(self.linear) + u64::from(length))
    }
}

/// Packs a whole set of samples.
///
/// Without a seed, ties go by position and rows stand in the order of their lowest position. With one, samples of equal
/// length are shuffled before packing and the rows after it.
///
/// Fails with [`Error::Data`] for a length below 1 or above `capacity`, a capacity outside 1 to [`MAX_CAPACITY`], or
/// 2^32 samples and more.
pub fn pack_rows<L: Copy + Into<i64>>(lengths: &[L], capacity: i64, seed: Option<u64>) -> Result<PackedRows> {
    let capacity = check_capacity(capacity)?;
    let lengths = check_lengths(lengths, capacity, "data")?;
    let mut positions: Vec<u32> = (0..lengths.len() as u32).collect();
    let mut shuffle = seed.map(Shuffle::new);
    if let Some(shuffle) = &mut shuffle {
        shuffle.apply(&mut positions);
    }
    let sorted = longest_first(&lengths, &positions);
    let mut packing = best_fit::best_fit(&lengths, &sorted, capacity);
    let goal = fewest_rows(&lengths, capacity);
    refine::refine(&lengths, capacity, goal, &mut packing);
    let mut names: Vec<u32> = packing.number_by_first_position();
    if let Some(shuffle) = &mut shuffle {
        shuffle.apply(&mut names);
    }
    Ok(packing.flatten(&names))
}

/// The rows of one global batch.
#[derive(Debug, PartialEq, Eq)]
pub struct RowPlan {
    /// Those of rank r are the rows from `r * rows / num_ranks` on.
    pub rows: PackedRows,
    /// Tokens of the longest row, rounded up.
    pub row_length: i64,
}

/// Packs the samples of one global batch and deals the rows to `num_ranks` data-parallel ranks.
///
/// Every rank gets the same number of rows, costliest first, with near equal total cost; there are as few as rows of
/// `capacity` tokens allow. No row is longer than the row length, which is a multiple of `multiple` (or the capacity
/// itself), and the least one found that so many rows can do with. Where there are fewer samples than rows, the rest is
/// empty.
///
/// Fails as [`pack_rows`] does, and for 0 ranks or a multiple below 1.
pub fn plan_rows<L: Copy + Into<i64>>(
    lengths: &[L],
    capacity: i64,
    multiple: i64,
    num_ranks: usize,
    cost: RowCost,
) -> Result<RowPlan> {
    let capacity = check_capacity(capacity)?;
    let lengths = check_lengths(lengths, capacity, "batch")?;
    if num_ranks == 0 {
        return Err(Error::Data("rows for 0 data-parallel ranks: there is at least 1".to_string()));
    }
    if multiple < 1 {
        return Err(Error::Data(format!("rows of a multiple of {multiple} tokens: choose at least 1")));
    }
    let multiple = multiple.min(i64::from(capacity)) as u32;
    let positions: Vec<u32> = (0..lengths.len() as u32).collect();
    let sorted = longest_first(&lengths, &positions);
    let fit = fit::Fit { lengths: &lengths, sorted: &sorted, capacity, num_ranks };
    let (packing, row_length) = fit.shortest(multiple);
    let batch = balance::Batch { lengths: &lengths, sorted: &sorted, capacity: row_length, cost };
    let rows = batch.complete(packing.rows(), num_ranks);
    let mut rows = batch.deal(rows, num_ranks);
    // With few rows a rank, rows cannot be exchanged to good effect any more, but samples can.
    if let Some(others) = batch.deal_samples(num_ranks, rows.len() / num_ranks) {
        if batch.largest_cost(&others, num_ranks) < batch.largest_cost(&rows, num_ranks) {
            rows = others;
        }
    }
    Ok(RowPlan { rows: flatten(&rows), row_length: i64::from(row_length) })
}

/// Which row each sample is in.
#[derive(Debug)]
struct Packing {
    row_of: Vec<u32>,
    num_rows: usize,
}

impl Packing {
    /// The samples of each row, ascending.
    fn rows(&self) -> Vec<Vec<u32>> {
        let mut rows = vec![Vec::new(); self.num_rows];
        for (position, row) in self.row_of.iter().enumerate() {
            rows[*row as usize].push(position as u32);
        }
        rows
    }

    /// For each row, its place when rows are ordered by their lowest position.
    fn number_by_first_position(&self) -> Vec<u32> {
        let mut names = vec![u32::MAX; self.num_rows];
        let mut next = 0;
        for row in &self.row_of {
            if names[*row as usize] == u32::MAX {
                names[*row as usize] = next;
                next += 1;
            }
        }
        names
    }

    /// Flat form, with row k in place `places[k]`.
    fn flatten(&self, places: &[u32]) -> PackedRows {
        let mut row_starts = vec![0i64; self.num_rows + 1];
        for row in &self.row_of {
            row_starts[places[*row as usize] as usize + 1] += 1;
        }
        for place in 0..self.num_rows {
            row_starts[place + 1] += row_starts[place];
        }
        let mut ends = row_starts.clone();
        let mut order = vec![0i64; self.row_of.len()];
        for (position, row) in self.row_of.iter().enumerate() {
            let end = &mut ends[places[*row as usize] as usize];
            order[*end as usize] = position as i64;
            *end += 1;
        }
        PackedRows { order, row_starts }
    }
}

fn flatten(rows: &[Vec<u32>]) -> PackedRows {
    let mut row_starts = vec![0];
    let mut order = Vec::new();
    for row in rows {
        order.extend(row.iter().map(|position| i64::from(*position)));
        row_starts.push(order.len() as i64);
    }
    PackedRows { order, row_starts }
}

/// `positions` by falling length; equal lengths keep their order. A counting sort.
fn longest_first(lengths: &[u32], positions: &[u32]) -> Vec<u32> {
    let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
    let mut starts = vec![0u32; longest + 1];
    for length in lengths {
        starts[longest - *length as usize] += 1;
    }
    let mut total = 0;
    for start in &mut starts {
        total += std::mem::replace(start, total);
    }
    let mut sorted = vec![0; positions.len()];
    for position in positions {
        let start = &mut starts[longest - lengths[*position as usize] as usize];
        sorted[*start as usize] = *position;
        *start += 1;
    }
    sorted
}

/// No packing has fewer rows.
fn fewest_rows(lengths: &[u32], capacity: u32) -> usize {
    let tokens: u64 = lengths.iter().map(|length| u64::from(*length)).sum();
    tokens.div_ceil(u64::from(capacity)) as usize
}

fn check_capacity(capacity: i64) -> Result<u32> {
    if !(1..=MAX_CAPACITY).contains(&capacity) {
        return Err(Error::Data(format!("--seq-length {capacity}: choose 1 to {MAX_CAPACITY} tokens")));
    }
    Ok(capacity as u32)
}

fn check_lengths<L: Copy + Into<i64>>(lengths: &[L], capacity: u32, what: &str) -> Result<Vec<u32>> {
    if u32::try_from(lengths.len()).is_err() {
        return Err(Error::Data(format!("{} samples to pack: pack fewer than 2^32 at once", lengths.len())));
    }
    let mut checked = Vec::with_capacity(lengths.len());
    for (position, length) in lengths.iter().enumerate() {
        let length: i64 = (*length).into();
        if length > i64::from(capacity) {
            return Err(Error::Data(format!(
                "sample {position} of the {what} has {length} tokens, --seq-length is {capacity}: raise it, or build \
                 the shards with a smaller --max-length"
            )));
        }
        if length < 1 {
            return Err(Error::Data(format!(
                "sample {position} of the {what} has {length} tokens, a sample has at least 1: the lengths do not come \
                 from a valid shard folder; build the shards again"
            )));
        }
        checked.push(length as u32);
    }
    Ok(checked)
}

#[cfg(test)]
mod tests;
