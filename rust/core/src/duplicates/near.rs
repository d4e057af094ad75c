//! Which rows say nearly the same as an earlier one.

use super::signature::{similarity, Signature, BINS};

/// Similarity from which on two rows count as near duplicates, where nothing else is asked for.
pub const DEFAULT_THRESHOLD: f64 = 0.8;

/// The chance that a pair of exactly the threshold's similarity is compared at all.
const RECALL: f64 = 0.99;
/// Rows that a band finds, at most.
const MAX_ALIKE: usize = 32;
const EMPTY: u32 = u32::MAX;

/// The rows kept so far, by their signatures.
///
/// Signatures are cut into bands; rows that agree in a whole band are compared by their whole signatures. Bands are as
/// wide as the threshold allows: two rows of exactly its similarity are compared with a chance of at least 99 %, more
/// similar ones with a higher one. Memory for a kept row, at the default threshold (21 bands): 264 bytes, and 168 to
/// 336 bytes of tables, which double when they are half full.
///
/// Of the rows that agree in a band the first 32 are found by it. Without such a limit a corpus made from a template,
/// whose rows agree in some band without being duplicates, would be compared pair by pair.
#[derive(Debug)]
pub struct NearDuplicates {
    threshold: f64,
    /// Values of a band.
    width: usize,
    /// For each band a hash table of indices into `rows`, found by the band's values.
    tables: Vec<Vec<u32>>,
    rows: Vec<u64>,
    signatures: Vec<[u16; BINS]>,
}

impl NearDuplicates {
    /// Starts without rows. `threshold` is the estimated similarity, above 0 and at most 1, that makes a duplicate.
    pub fn new(threshold: f64) -> Self {
        let width = band_width(threshold);
        let tables = vec![vec![EMPTY; 64]; BINS / width];
        Self { threshold, width, tables, rows: Vec::new(), signatures: Vec::new() }
    }

    /// Whether `row` nearly repeats a row that was kept: that row, the most similar one and the earliest among equals,
    /// and the estimated similarity. Otherwise None, and `row` is kept.
    ///
    /// The answers depend on the rows and their order alone.
    pub fn insert(&mut self, row: u64, signature: &Signature) -> Option<(u64, f64)> {
        let found = self.find(signature);
        if found.is_none() {
            self.keep(row, signature);
        }
        found
    }

    /// The kept row that `signature` nearly repeats, and the estimated similarity.
    pub fn find(&self, signature: &Signature) -> Option<(u64, f64)> {
        self.most_similar(&signature.0)
    }

    /// Keeps `row` without comparing it: for rows that were kept before an interruption.
    pub fn keep(&mut self, row: u64, signature: &Signature) {
        if 2 * (self.rows.len() + 1) > self.tables[0].len() {
            self.grow();
        }
        // Rows are counted in 32 bits; with 2^32 of them the signatures alone would take a tebibyte.
        let index = u32::try_from(self.rows.len()).unwrap_or(EMPTY);
        self.rows.push(row);
        self.signatures.push(signature.0);
        for (band, table) in self.tables.iter_mut().enumerate() {
            place(table, &self.signatures, band, self.width, index);
        }
    }

    /// Number of rows that were kept.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether no row was kept.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn most_similar(&self, signature: &[u16; BINS]) -> Option<(u64, f64)> {
        let mut best: Option<(u32, f64)> = None;
        for (band, table) in self.tables.iter().enumerate() {
            let values = band_of(signature, band, self.width);
            let mask = table.len() - 1;
            let mut slot = hash(values) & mask;
            while table[slot] != EMPTY {
                let index = table[slot];
                let other = &self.signatures[index as usize];
                if band_of(other, band, self.width) == values {
                    let share = similarity(signature, other);
                    let better = |(known, most)| share > most || (share == most && index < known);
                    if share >= self.threshold && best.is_none_or(better) {
                        best = Some((index, share));
                    }
                }
                slot = (slot + 1) & mask;
            }
        }
        best.map(|(index, share)| (self.rows[index as usize], share))
    }

    fn grow(&mut self) {
        let entries = self.tables[0].len() * 2;
        for (band, table) in self.tables.iter_mut().enumerate() {
            *table = vec![EMPTY; entries];
            for (index, _) in (0..).zip(&self.signatures) {
                place(table, &self.signatures, band, self.width, index);
            }
        }
    }
}

/// The widest band for which pairs of the threshold's similarity agree in one of the bands often enough.
#[allow(clippy::cast_precision_loss)]
fn band_width(threshold: f64) -> usize {
    let recall = |width: usize| {
        let missed = 1.0 - threshold.powf(width as f64);
        1.0 - missed.powf((BINS / width) as f64)
    };
    (1..=BINS).rev().find(|width| recall(*width) >= RECALL).unwrap_or(1)
}

fn band_of(signature: &[u16; BINS], band: usize, width: usize) -> &[u16] {
    &signature[band * width..(band + 1) * width]
}

/// Linear probing from the band's hash on, for the row at `index`.
fn place(table: &mut [u32], signatures: &[[u16; BINS]], band: usize, width: usize, index: u32) {
    let values = band_of(&signatures[index as usize], band, width);
    let mask = table.len() - 1;
    let mut slot = hash(values) & mask;
    let mut alike = 0;
    while table[slot] != EMPTY {
        alike += usize::from(band_of(&signatures[table[slot] as usize], band, width) == values);
        if alike == MAX_ALIKE {
            return;
        }
        slot = (slot + 1) & mask;
    }
    table[slot] = index;
}

fn hash(band: &[u16]) -> usize {
    let sum = band.iter().fold(0u64, |sum, value| (sum ^ u64::from(*value)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    (sum >> 32) as usize
}

#[cfg(test)]
mod tests {
    use super::super::signature::tests::{document, exact, shuffled};
    use super::*;

    #[test]
    fn bands_suit_the_threshold() {
        assert_eq!([0.5, 0.8, 0.9, 1.0].map(band_width), [3, 6, 10, 128]);
    }

    #[test]
    fn the_most_similar_row_is_named_and_duplicates_are_not_kept() {
        let text = document(400, 1);
        let near = shuffled(&text, 4, 2);
        let nearer = shuffled(&text, 1, 3);
        let mut rows = NearDuplicates::new(DEFAULT_THRESHOLD);
        assert!(rows.is_empty());
        assert_eq!(rows.insert(10, &Signature::of("", &text)), None);
        assert_eq!(rows.insert(11, &Signature::of("", &document(400, 7))), None);
        assert_eq!(rows.insert(12, &Signature::of("", &text)), Some((10, 1.0)));
        let (row, share) = rows.insert(13, &Signature::of("", &near)).unwrap();
        assert_eq!(row, 10);
        assert!((share - exact(&text, &near)).abs() < 0.12, "{share} {}", exact(&text, &near));
        rows.keep(14, &Signature::of("", &near));
        assert_eq!(rows.insert(15, &Signature::of("", &near)), Some((14, 1.0)));
        assert_eq!(rows.insert(16, &Signature::of("", &nearer)).unwrap().0, 10);
        assert_eq!(rows.len(), 3);
    }

    #[test]
    fn near_duplicates_among_many_are_found_and_others_are_not() {
        let texts: Vec<String> = (0..1000).map(|seed| document(300, seed)).collect();
        let mut rows = NearDuplicates::new(DEFAULT_THRESHOLD);
        for (row, text) in (0..).zip(&texts) {
            assert_eq!(rows.insert(row, &Signature::of("q", text)), None, "{row}");
        }
        let (mut similar, mut found) = (0, 0);
        for (row, text) in (0..).zip(&texts) {
            let changed = shuffled(text, 3, row);
            // Well above the threshold, so that the estimate's error decides nothing.
            if exact(text, &changed) > 0.88 {
                similar += 1;
                found +=
                    usize::from(rows.most_similar(&Signature::of("q", &changed).0).is_some_and(|(at, _)| at == row));
            }
        }
        assert!(similar > 500, "{similar}");
        assert!(found * 100 >= similar * 98, "{found} of {similar}");
    }

    #[test]
    fn rows_that_agree_in_a_band_only_are_no_duplicates_and_no_burden() {
        let mut rows = NearDuplicates::new(DEFAULT_THRESHOLD);
        let mut values = [7; BINS];
        for row in 0..5000u16 {
            for (bin, value) in (0..).zip(&mut values).skip(20) {
                *value = row.wrapping_mul(31).wrapping_add(bin);
            }
            assert_eq!(rows.insert(u64::from(row), &Signature(values)), None);
        }
        let alike = rows.tables[0].iter().filter(|index| **index != EMPTY).count();
        assert_eq!((rows.len(), alike), (5000, MAX_ALIKE));
    }
}
