use std::cmp::Reverse;

use super::*;

const COST: RowCost = RowCost { linear: 12 * 64 };

/// Lengths that look like traces: log-normal of the given sigma and mean 6,400, at most 16,384. `mu` makes the mean.
fn traces(count: usize, mu: f64, sigma: f64, shuffle: &mut Shuffle) -> Vec<i64> {
    let mut unit = || (shuffle.next() >> 11) as f64 / (1u64 << 53) as f64;
    let mut lengths = Vec::new();
    while lengths.len() < count {
        let normal = (-2.0 * (1.0 - unit()).ln()).sqrt() * (std::f64::consts::TAU * unit()).cos();
        let length = (mu + sigma * normal).exp().round();
        if (1.0..=16384.0).contains(&length) {
            lengths.push(length as i64);
        }
    }
    lengths
}

fn rows_of(packed: &PackedRows) -> Vec<Vec<i64>> {
    packed.row_starts.windows(2).map(|ends| packed.order[ends[0] as usize..ends[1] as usize].to_vec()).collect()
}

fn check(lengths: &[i64], capacity: i64, packed: &PackedRows) -> Vec<Vec<i64>> {
    let rows = rows_of(packed);
    let mut all = packed.order.clone();
    all.sort_unstable();
    assert_eq!(all, (0..lengths.len() as i64).collect::<Vec<_>>(), "every sample exactly once");
    for row in &rows {
        assert!(row.iter().map(|position| lengths[*position as usize]).sum::<i64>() <= capacity);
        assert!(row.windows(2).all(|pair| pair[0] < pair[1]), "ascending in a row");
    }
    rows
}

/// Best fit decreasing as its definition says it, with a look at every row for every sample.
fn slow_best_fit(lengths: &[i64], capacity: i64) -> usize {
    let mut sorted = lengths.to_vec();
    sorted.sort_unstable_by_key(|length| Reverse(*length));
    let mut rooms: Vec<i64> = Vec::new();
    for length in sorted {
        match rooms.iter_mut().filter(|room| **room >= length).min() {
            Some(room) => *room -= length,
            None => rooms.push(capacity - length),
        }
    }
    rooms.len()
}

/// The least possible number of rows, by trying everything.
fn optimum(lengths: &[i64], capacity: i64, rooms: &mut Vec<i64>) -> usize {
    let Some((first, rest)) = lengths.split_first() else { return rooms.len() };
    let mut best = usize::MAX;
    for row in 0..=rooms.len() {
        if row == rooms.len() {
            rooms.push(capacity);
        }
        if rooms[row] >= *first {
            rooms[row] -= first;
            best = best.min(optimum(rest, capacity, rooms));
            rooms[row] += first;
        }
        if rooms[row] == capacity {
            rooms.pop();
        }
    }
    best
}

#[test]
fn best_fit_takes_the_fullest_row_that_has_room() {
    // 6 opens row 0 (room 4), 5 opens row 1 (room 5); 4 fits best into row 0; 3 and 2 go to row 1.
    let packed = pack_rows(&[2i32, 3, 4, 5, 6], 10, None).unwrap();
    assert_eq!(rows_of(&packed), [vec![0, 1, 3], vec![2, 4]]);
}

#[test]
fn best_fit_agrees_with_its_definition() {
    let mut shuffle = Shuffle::new(1);
    for _ in 0..300 {
        let capacity = 1 + shuffle.below(5000) as i64;
        let lengths: Vec<i64> =
            (0..1 + shuffle.below(300)).map(|_| 1 + shuffle.below(capacity as u64) as i64).collect();
        let short: Vec<u32> = lengths.iter().map(|length| *length as u32).collect();
        let sorted = longest_first(&short, &(0..short.len() as u32).collect::<Vec<_>>());
        let packing = best_fit::best_fit(&short, &sorted, capacity as u32);
        assert_eq!(packing.num_rows, slow_best_fit(&lengths, capacity));
    }
}

#[test]
fn never_more_rows_than_best_fit_and_never_fewer_than_the_optimum() {
    let mut shuffle = Shuffle::new(2);
    let (mut improved, mut optimal) = (0, 0);
    for trial in 0..400 {
        let capacity = 20 + shuffle.below(100) as i64;
        let lengths: Vec<i64> = (0..9).map(|_| 1 + shuffle.below(capacity as u64 * 2 / 3) as i64).collect();
        let rows = check(&lengths, capacity, &pack_rows(&lengths, capacity, (trial % 2 == 0).then_some(5)).unwrap());
        let (least, slow) = (optimum(&lengths, capacity, &mut Vec::new()), slow_best_fit(&lengths, capacity));
        assert!(least <= rows.len() && rows.len() <= slow, "{lengths:?} into {capacity}");
        improved += usize::from(rows.len() < slow);
        optimal += usize::from(rows.len() == least);
    }
    assert!(improved > 0 && optimal >= 398, "{improved} improved, {optimal} of 400 optimal");
}

#[test]
fn a_batch_of_256_traces_fills_its_rows() {
    for (mu, sigma) in [(8.683f64, 0.6), (8.742, 0.8)] {
        let mut shuffle = Shuffle::new(3);
        let (mut tokens, mut num_rows, mut fewest, mut slow) = (0, 0, 0, 0);
        for _ in 0..20 {
            let lengths = traces(256, mu, sigma, &mut shuffle);
            let rows = check(&lengths, 20480, &pack_rows(&lengths, 20480, None).unwrap());
            tokens += lengths.iter().sum::<i64>();
            num_rows += rows.len() as i64;
            fewest += (lengths.iter().sum::<i64>() + 20479) / 20480;
            slow += slow_best_fit(&lengths, 20480) as i64;
        }
        assert!(tokens as f64 / (num_rows * 20480) as f64 > 0.985);
        assert!(num_rows <= fewest + 3 && num_rows < slow, "{num_rows} rows, bound {fewest}, best fit {slow}");
    }
}

#[test]
fn a_seed_shuffles_ties_and_rows_and_nothing_else() {
    let lengths = traces(2000, 8.7, 0.7, &mut Shuffle::new(4));
    let plain = pack_rows(&lengths, 20480, None).unwrap();
    let first = pack_rows(&lengths, 20480, Some(7)).unwrap();
    assert_eq!(first, pack_rows(&lengths, 20480, Some(7)).unwrap());
    assert_ne!(first, pack_rows(&lengths, 20480, Some(8)).unwrap());
    let num_rows = check(&lengths, 20480, &plain).len();
    let rows = check(&lengths, 20480, &first);
    assert!(rows.len().abs_diff(num_rows) <= 1);
    // Rows in the order of best fit would begin with those of one long sample; here any tenth has short and long ones.
    let longest = |row: &Vec<i64>| row.iter().map(|position| lengths[*position as usize]).max().unwrap();
    let maxima: Vec<i64> = rows.iter().map(longest).collect();
    let mean = |part: &[i64]| part.iter().sum::<i64>() as f64 / part.len() as f64;
    for part in maxima.chunks_exact(rows.len() / 5) {
        assert!((mean(part) / mean(&maxima) - 1.0).abs() < 0.15);
    }
    let equal = pack_rows(&[5i32; 40], 10, Some(1)).unwrap();
    assert!(rows_of(&equal).iter().any(|row| row[1] != row[0] + 1), "equal lengths are paired at random");
}

#[test]
fn without_a_seed_rows_follow_the_order_of_the_samples() {
    let packed = pack_rows(&[1i64, 9, 5, 5, 10], 10, None).unwrap();
    assert_eq!(rows_of(&packed), [vec![0, 1], vec![2, 3], vec![4]]);
}

#[test]
fn ranks_get_equal_numbers_of_rows_of_near_equal_cost() {
    let cost = RowCost { linear: 12 * 1024 };
    let mut shuffle = Shuffle::new(5);
    for num_ranks in [1, 2, 3, 8] {
        let lengths = traces(256, 8.7, 0.7, &mut shuffle);
        let rows = check(&lengths, 20480, &plan_rows(&lengths, 20480, 128, num_ranks, cost).unwrap().rows);
        assert_eq!(rows.len() % num_ranks, 0);
        let of_row = |row: &Vec<i64>| row.iter().map(|p| cost.of(lengths[*p as usize] as u32)).sum::<u64>();
        let ranks: Vec<Vec<u64>> =
            rows.chunks(rows.len() / num_ranks).map(|rank| rank.iter().map(of_row).collect()).collect();
        assert!(ranks.iter().all(|rank| rank.windows(2).all(|pair| pair[0] >= pair[1])), "costliest row first");
        let totals: Vec<u64> = ranks.iter().map(|rank| rank.iter().sum()).collect();
        let mean = totals.iter().sum::<u64>() as f64 / num_ranks as f64;
        assert!(*totals.iter().max().unwrap() as f64 / mean < 1.01, "{totals:?}");
    }
}

#[test]
fn plans_of_all_shapes_keep_every_sample() {
    let mut shuffle = Shuffle::new(6);
    for _ in 0..500 {
        let lengths: Vec<i64> = (0..shuffle.below(60)).map(|_| 1 + shuffle.below(100) as i64).collect();
        let num_ranks = 1 + shuffle.below(5) as usize;
        let multiple = 1 + shuffle.below(30) as i64;
        let plan = plan_rows(&lengths, 100, multiple, num_ranks, COST).unwrap();
        let rows = check(&lengths, plan.row_length, &plan.rows);
        assert!(plan.row_length <= 100 && (plan.row_length % multiple == 0 || plan.row_length == 100), "{plan:?}");
        assert_eq!(rows.len() % num_ranks, 0);
        assert_eq!(rows.is_empty(), lengths.is_empty());
        let whole = plan_rows(&lengths, 100, 100, num_ranks, COST).unwrap();
        assert_eq!((whole.row_length, whole.rows.row_starts.len()), (100, plan.rows.row_starts.len()));
    }
}

#[test]
fn added_rows_take_samples_rather_than_stay_empty() {
    let sizes = |lengths: &[i64], num_ranks| -> Vec<usize> {
        rows_of(&plan_rows(lengths, 100, 100, num_ranks, COST).unwrap().rows).iter().map(Vec::len).collect()
    };
    assert_eq!(sizes(&[10; 8], 2), [4, 4]);
    assert_eq!(sizes(&[10], 2), [1, 0]);
    assert_eq!(sizes(&[60, 60, 60, 40, 40, 40], 4), [2, 2, 1, 1]);
}

#[test]
fn rows_are_only_as_long_as_their_number_needs() {
    let length =
        |lengths: &[i64], multiple, num_ranks| plan_rows(lengths, 100, multiple, num_ranks, COST).unwrap().row_length;
    // Three rows of 100 would do; four take 75 each.
    assert_eq!(length(&[25; 12], 1, 4), 75);
    assert_eq!(length(&[25; 12], 10, 4), 80);
    assert_eq!(length(&[25; 12], 100, 4), 100);
    // The longest sample still fits.
    assert_eq!(length(&[60, 10, 10], 1, 2), 60);
    assert_eq!(length(&[60, 10, 10], 64, 1), 100);
    assert_eq!(length(&[], 16, 2), 16);
    let mut shuffle = Shuffle::new(7);
    for num_ranks in [1, 4, 8, 16] {
        let lengths = traces(256, 8.7, 0.7, &mut shuffle);
        let plan = plan_rows(&lengths, 20480, 128, num_ranks, COST).unwrap();
        let computed = plan.row_length as usize * (plan.rows.row_starts.len() - 1);
        let fill = lengths.iter().sum::<i64>() as f64 / computed as f64;
        assert!(fill > 0.985, "{num_ranks} ranks: {fill}");
    }
}

#[test]
fn an_added_row_takes_from_the_costliest_rows_where_spreading_finds_no_room() {
    let lengths = [60, 60, 60, 40, 40, 40];
    let batch = balance::Batch { lengths: &lengths, sorted: &[0, 1, 2, 3, 4, 5], capacity: 100, cost: COST };
    let mut rows = vec![vec![0, 3], vec![1, 4], vec![2, 5], vec![]];
    batch.fill_from_others(&mut rows, 3);
    // A second sample would make the new row costlier than the one it comes from.
    assert_eq!(rows, [vec![0], vec![1, 4], vec![2, 5], vec![3]]);
}

#[test]
fn lengths_and_options_that_cannot_be() {
    let message = |result: Result<PackedRows>| result.unwrap_err().to_string();
    let plan =
        |lengths: &[i32], multiple, num_ranks| plan_rows(lengths, 100, multiple, num_ranks, COST).map(|plan| plan.rows);
    let long = message(plan(&[5, 101], 1, 1));
    assert!(long.starts_with("sample 1 of the batch has 101 tokens, --seq-length is 100: raise it"), "{long}");
    for length in [0, -3, i64::MIN] {
        let text = message(pack_rows(&[length], 100, None));
        assert!(text.contains(&format!("sample 0 of the data has {length} tokens")), "{text}");
    }
    assert!(message(pack_rows(&[i64::MAX], 100, None)).contains("9223372036854775807"));
    for capacity in [0, -1, MAX_CAPACITY + 1, i64::MAX] {
        assert!(message(pack_rows(&[1i32], capacity, None)).contains(&format!("--seq-length {capacity}")));
    }
    assert!(message(plan(&[1], 1, 0)).contains("0 data-parallel ranks"));
    assert!(message(plan(&[1], 0, 1)).contains("a multiple of 0 tokens"));
    assert_eq!(pack_rows::<i32>(&[], 10, Some(1)).unwrap(), PackedRows { order: vec![], row_starts: vec![0] });
    assert_eq!(rows_of(&pack_rows(&[MAX_CAPACITY, 1], MAX_CAPACITY, None).unwrap()), [[0], [1]]);
}
