//! The rows of one global batch, dealt to data-parallel ranks so that none waits long for another.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::RowCost;

/// Up to so many rows a rank, samples are dealt as well as rows.
const MAX_ROWS_DEALT: usize = 8;
/// Exchanges of rows between ranks, after which the totals are taken as they are.
const MAX_EXCHANGES: usize = 1000;

/// The samples of one global batch.
pub(super) struct Batch<'a> {
    pub(super) lengths: &'a [u32],
    /// Positions, longest sample first.
    pub(super) sorted: &'a [u32],
    pub(super) capacity: u32,
    pub(super) cost: RowCost,
}

impl Batch<'_> {
    /// Makes the number of rows a multiple of `num_ranks`. Added rows are needed anyway, so all rows are filled evenly
    /// rather than some left empty.
    pub(super) fn complete(&self, mut rows: Vec<Vec<u32>>, num_ranks: usize) -> Vec<Vec<u32>> {
        let num_packed = rows.len();
        let num_rows = num_packed.next_multiple_of(num_ranks);
        if num_rows > num_packed {
            rows = self.spread(num_rows).unwrap_or_else(|| {
                rows.resize(num_rows, Vec::new());
                self.fill_from_others(&mut rows, num_packed);
                rows
            });
        }
        rows
    }

    /// Each sample, longest first, into the cheapest row with room; None when some sample finds no room.
    fn spread(&self, num_rows: usize) -> Option<Vec<Vec<u32>>> {
        let shortest = self.length(*self.sorted.last()?);
        let mut rows = vec![Vec::new(); num_rows];
        let mut rooms = vec![self.capacity; num_rows];
        let mut by_cost: BinaryHeap<Reverse<(u64, usize)>> = (0..num_rows).map(|row| Reverse((0, row))).collect();
        let mut too_full = Vec::new();
        for position in self.sorted {
            let length = self.length(*position);
            let (cost, row) = loop {
                let Reverse((cost, row)) = by_cost.pop()?;
                if rooms[row] >= length {
                    break (cost, row);
                }
                too_full.push(Reverse((cost, row)));
            };
            rows[row].push(*position);
            rooms[row] -= length;
            by_cost.extend(too_full.drain(..));
            if rooms[row] >= shortest {
                by_cost.push(Reverse((cost + self.cost.of(length), row)));
            }
        }
        Some(rows)
    }

    /// Fills each row from `first_empty` on up to the average cost, a sample at a time from the row that costs most.
    pub(super) fn fill_from_others(&self, rows: &mut [Vec<u32>], first_empty: usize) {
        let mut costs: Vec<u64> = rows.iter().map(|row| self.cost_of(row)).collect();
        let average = costs.iter().sum::<u64>() / costs.len() as u64;
        for target in first_empty..rows.len() {
            let mut room = self.capacity;
            while costs[target] < average {
                // The row that costs most and has a sample whose move leaves it costlier than the target.
                let Some((donor, place)) = (0..first_empty)
                    .filter_map(|donor| {
                        let movable = |position: &u32| {
                            let moved = self.cost.of(self.length(*position));
                            self.length(*position) <= room && costs[target] + moved <= costs[donor] - moved
                        };
                        rows[donor].iter().position(movable).map(|place| (donor, place))
                    })
                    .max_by_key(|(donor, _)| (costs[*donor], Reverse(*donor)))
                else {
                    break;
                };
                let position = rows[donor].remove(place);
                let moved = self.cost.of(self.length(position));
                costs[donor] -= moved;
                costs[target] += moved;
                room -= self.length(position);
                rows[target].push(position);
            }
        }
    }

    /// Deals rows, whose number is a multiple of `num_ranks`; returns those of rank 0, then those of rank 1, and so on.
    pub(super) fn deal(&self, mut rows: Vec<Vec<u32>>, num_ranks: usize) -> Vec<Vec<u32>> {
        let rows_per_rank = rows.len() / num_ranks;
        let mut by_cost: Vec<(u64, usize)> = rows.iter().map(|row| self.cost_of(row)).zip(0..).collect();
        by_cost.sort_unstable_by_key(|(cost, row)| (Reverse(*cost), *row));
        let mut ranks: Vec<Rank> = (0..num_ranks).map(|_| Rank::default()).collect();
        // Costliest row first, to the rank with the least so far that has not got its number.
        let mut least: BinaryHeap<Reverse<(u128, usize)>> = (0..num_ranks).map(|rank| Reverse((0, rank))).collect();
        for (cost, row) in by_cost {
            let Some(Reverse((_, rank))) = least.pop() else { break };
            ranks[rank].insert(cost, row);
            if ranks[rank].rows.len() < rows_per_rank {
                least.push(Reverse((ranks[rank].total, rank)));
            }
        }
        exchange(&mut ranks);
        let order = ranks.iter().flat_map(|rank| &rank.rows);
        order
            .map(|(_, row)| {
                let mut samples = std::mem::take(&mut rows[*row]);
                samples.sort_unstable();
                samples
            })
            .collect()
    }

    /// Deals the samples themselves, costliest first, each to the rank with the least so far that can still pack what it
    /// has into `rows_per_rank` rows; then the rows of each rank. None when some sample finds no rank.
    pub(super) fn deal_samples(&self, num_ranks: usize, rows_per_rank: usize) -> Option<Vec<Vec<u32>>> {
        if rows_per_rank == 0 || rows_per_rank > MAX_ROWS_DEALT {
            return None;
        }
        let mut rows: Vec<Vec<Vec<u32>>> = vec![vec![Vec::new(); rows_per_rank]; num_ranks];
        let mut rooms = vec![vec![self.capacity; rows_per_rank]; num_ranks];
        let mut by_cost: BinaryHeap<Reverse<(u64, usize)>> = (0..num_ranks).map(|rank| Reverse((0, rank))).collect();
        let mut too_full = Vec::new();
        for position in self.sorted {
            let length = self.length(*position);
            let (cost, rank, row) = loop {
                let Reverse((cost, rank)) = by_cost.pop()?;
                // The fullest row with room: what stays open is open for longer samples.
                let row = (0..rows_per_rank)
                    .filter(|row| rooms[rank][*row] >= length)
                    .min_by_key(|row| (rooms[rank][*row], *row));
                match row {
                    Some(row) => break (cost, rank, row),
                    None => too_full.push(Reverse((cost, rank))),
                }
            };
            rows[rank][row].push(*position);
            rooms[rank][row] -= length;
            by_cost.extend(too_full.drain(..));
            by_cost.push(Reverse((cost + self.cost.of(length), rank)));
        }
        for rank in &mut rows {
            rank.sort_by_key(|row| Reverse(self.cost_of(row)));
            rank.iter_mut().for_each(|row| row.sort_unstable());
        }
        Some(rows.concat())
    }

    /// Total cost of the costliest rank.
    pub(super) fn largest_cost(&self, rows: &[Vec<u32>], num_ranks: usize) -> u64 {
        let per_rank = (rows.len() / num_ranks).max(1);
        rows.chunks(per_rank).map(|rank| rank.iter().map(|row| self.cost_of(row)).sum()).max().unwrap_or(0)
    }

    fn length(&self, position: u32) -> u32 {
        self.lengths[position as usize]
    }

    fn cost_of(&self, row: &[u32]) -> u64 {
        row.iter().map(|position| self.cost.of(self.length(*position))).sum()
    }
}

/// Rows of one rank, costliest first.
#[derive(Default)]
struct Rank {
    rows: Vec<(u64, usize)>,
    total: u128,
}

impl Rank {
    fn insert(&mut self, cost: u64, row: usize) {
        let place = self.rows.partition_point(|(other, name)| (*other, Reverse(*name)) > (cost, Reverse(row)));
        self.rows.insert(place, (cost, row));
        self.total += u128::from(cost);
    }

    fn remove(&mut self, place: usize) -> (u64, usize) {
        let (cost, row) = self.rows.remove(place);
        self.total -= u128::from(cost);
        (cost, row)
    }
}

/// Lowers the costliest rank's total by exchanging one of its rows for a cheaper one, as long as that helps.
fn exchange(ranks: &mut [Rank]) {
    for _ in 0..MAX_EXCHANGES {
        let Some(high) = (0..ranks.len()).max_by_key(|rank| (ranks[*rank].total, Reverse(*rank))) else { return };
        let best = (0..ranks.len())
            .filter(|low| *low != high)
            .filter_map(|low| best_exchange(&ranks[high], &ranks[low]).map(|(top, a, b)| (top, low, a, b)))
            .min();
        let Some((_, low, a, b)) = best else { return };
        let from_high = ranks[high].remove(a);
        let from_low = ranks[low].remove(b);
        ranks[high].insert(from_low.0, from_low.1);
        ranks[low].insert(from_high.0, from_high.1);
    }
}

/// The exchange after which the larger of two totals is least: that total and the places of both rows. None when no
/// exchange makes it smaller.
fn best_exchange(high: &Rank, low: &Rank) -> Option<(u128, usize, usize)> {
    let half_gap = u64::try_from((high.total - low.total) / 2).ok()?;
    let candidates = high.rows.iter().enumerate().flat_map(|(a, (cost, _))| {
        // The row whose cost is next to what would level both, from either side.
        let wanted = cost.saturating_sub(half_gap);
        let place = low.rows.partition_point(|(other, _)| *other > wanted);
        [place.checked_sub(1), Some(place)].into_iter().flatten().map(move |b| (a, b))
    });
    candidates
        .filter_map(|(a, b)| {
            let gain = high.rows[a].0.checked_sub(low.rows.get(b)?.0)?;
            let top = (high.total - u128::from(gain)).max(low.total + u128::from(gain));
            (top < high.total).then_some((top, a, b))
        })
        .min()
}
