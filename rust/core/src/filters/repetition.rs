//! Responses in which the model went round in circles: the same tokens over and over.
//!
//! A *loop* is a stretch of tokens that repeats with some period p: `t[i] == t[i - p]` from the second turn on. It is
//! found in linear time without hashing every position (Shanks' baby steps and giant steps). Groups of [`GRAM`] tokens
//! are remembered at every [`STRIDE`]th position, and looked up at [`STRIDE`] positions in a row, once every
//! [`SPACING`] tokens. Among so many positions in a row there is one that lies a multiple of the stride after the
//! position it repeats, whatever the period:
//!
//! ```text
//! position    0       8       16      24      32 ...        64 65 66 67 68 69 70 71
//! remembered  x       x       x       x       x             ?  ?  ?  ?  ?  ?  ?  ?   looked up
//!                                                                    with p = 19: 67 repeats 48
//! ```
//!
//! Long runs of one character are loops that tokens hide: a tokenizer may have one token for sixteen line ends. They are
//! looked for in the text, where a period of [`RUN`] bytes covers runs of any one character and short patterns.
//!
//! What a look-up proposes is then compared token by token in both directions, so no collision can make a loop.

use super::{filter, Candidate, Filter, FilterOptions, Finding};
use crate::error::Result;

/// Tokens that are looked up together.
const GRAM: usize = 8;
/// Distance of the remembered positions, and number of positions in a row that are looked up.
const STRIDE: usize = 8;
/// Distance of the places where positions are looked up; a multiple of [`STRIDE`].
const SPACING: usize = 64;
/// Entries of the memory, at most: periods up to about `STRIDE` times as many tokens are found. A short response gets
/// fewer, yet eight for each remembered position, so that hardly one takes the place of another.
const MEMORY: usize = 4096;
/// Turns that make a loop of a repetition; a text that quotes a passage again stays below.
const MIN_TURNS: usize = 4;
/// Tokens of the shortest loop that counts. They are found, but for a rare collision: 3/4 of them
/// exceed a group, a spacing and a stride, so at least one of their places is looked up.
const MIN_TOKENS: usize = 128;
/// A multiple of the length of every character in bytes, and so a period of every run of one character.
const RUN: usize = 12;
const EMPTY: u32 = u32::MAX;

/// A stretch of tokens that repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loop {
    /// Index of its first token.
    pub start: usize,
    /// Its length in tokens, all turns together.
    pub length: usize,
    /// Length of one turn in tokens.
    pub period: usize,
}

#[derive(Debug)]
struct Repetition {
    max_tokens: usize,
    max_share: f64,
}

/// Made unless both `max_loop_tokens` and `max_loop_share` are None.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    if options.max_loop_tokens.is_none() && options.max_loop_share.is_none() {
        return Ok(None);
    }
    filter(Repetition {
        max_tokens: options.max_loop_tokens.unwrap_or(usize::MAX),
        max_share: options.max_loop_share.unwrap_or(1.0),
    })
}

impl Filter for Repetition {
    fn reasons(&self) -> &'static [&'static str] {
        &["repetition"]
    }

    #[allow(clippy::cast_precision_loss)]
    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        let text = candidate.response;
        if let Some((start, length)) = find_run(text.as_bytes(), self.max_tokens) {
            let end = (start + RUN..text.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(text.len());
            let begin = (0..=start).rev().find(|begin| text.is_char_boundary(*begin)).unwrap_or(0);
            let shape = format!("{:?} over and over from byte {start} on", &text[begin..end]);
            let detail = format!("a run of {length} bytes, the limit is {}: {shape}", self.max_tokens);
            return Some(Finding { reason: "repetition", detail });
        }
        let ids = candidate.response_ids;
        let loops = find_loops(ids);
        let longest = loops.iter().max_by_key(|found| found.length)?;
        let in_loops: usize = loops.iter().map(|found| found.length).sum();
        let turns = longest.length as f64 / longest.period as f64;
        let shape = format!("{turns:.1} times {} tokens, from token {} on", longest.period, longest.start);
        let detail = if longest.length >= self.max_tokens {
            format!("a loop of {} tokens, the limit is {}: {shape}", longest.length, self.max_tokens)
        } else if in_loops as f64 > self.max_share * ids.len() as f64 {
            let limit = self.max_share * 100.0;
            format!("{in_loops} of {} tokens are in loops, more than {limit} %; the longest: {shape}", ids.len())
        } else {
            return None;
        };
        Some(Finding { reason: "repetition", detail })
    }
}

/// The first stretch of at least `length` bytes that repeats with a period of [`RUN`]: where it begins, and its length.
fn find_run(bytes: &[u8], length: usize) -> Option<(usize, usize)> {
    let repeats = |at: usize| bytes[at..at + RUN] == bytes[at + RUN..at + 2 * RUN];
    // So close together that one of the places has its two periods within any run of the length.
    let last = bytes.len().checked_sub(length.max(2 * RUN))? + length;
    let mut place = 0;
    while place + 2 * RUN <= last {
        if repeats(place) {
            let backward = (RUN..place + RUN).rev().take_while(|at| bytes[*at] == bytes[at - RUN]).count();
            let forward = (place + RUN..bytes.len()).take_while(|at| bytes[*at] == bytes[at - RUN]).count();
            let found = backward + RUN + forward;
            if found >= length {
                return Some((place - backward, found));
            }
        }
        place += length.saturating_sub(2 * RUN).max(1);
    }
    None
}

/// The longest loop of at least 128 tokens and four turns, the first one among equals.
pub fn longest_loop(ids: &[u32]) -> Option<Loop> {
    find_loops(ids).into_iter().rev().max_by_key(|found| found.length)
}

/// Every loop of at least [`MIN_TOKENS`] tokens and [`MIN_TURNS`] turns; none overlaps another.
fn find_loops(ids: &[u32]) -> Vec<Loop> {
    if ids.len() < MIN_TOKENS {
        return Vec::new();
    }
    let mut search = Search::new(ids);
    let mut loops: Vec<Loop> = Vec::new();
    // Where positions are looked up next: at the regular places, and where a repetition ended that was no loop.
    let (mut regular, mut extra) = (0, usize::MAX);
    for place in (0..ids.len() - GRAM + 1).step_by(STRIDE) {
        if place >= search.floor && (place >= regular || place >= extra) {
            let (found, retry) = search.look_up(place);
            (regular, extra) = (place + SPACING, retry);
            if let Some(found) = found {
                search.floor = found.start + found.length;
                loops.push(Loop { period: shortest_period(&ids[found.start..search.floor], found.period), ..found });
            }
        }
        search.remember(place);
    }
    loops
}

struct Search<'a> {
    ids: &'a [u32],
    /// For each hash of a group, the last remembered position.
    memory: Vec<u32>,
    /// Takes a hash to its place in the memory.
    shift: u32,
    /// End of the last loop.
    floor: usize,
    /// The last few stretches that were compared, as distance and end: each is compared once however often it is
    /// proposed.
    compared: [(usize, usize); 8],
    num_compared: usize,
}

impl<'a> Search<'a> {
    fn new(ids: &'a [u32]) -> Self {
        let entries = ids.len().next_power_of_two().min(MEMORY);
        let shift = u64::BITS - entries.trailing_zeros();
        Self { ids, memory: vec![EMPTY; entries], shift, floor: 0, compared: [(0, 0); 8], num_compared: 0 }
    }

    fn slot(&self, at: usize) -> usize {
        // Callers leave a whole group after `at`.
        let gram = self.ids[at..].first_chunk().unwrap_or(&[0; GRAM]);
        (hash(gram) >> self.shift) as usize
    }

    fn remember(&mut self, at: usize) {
        let slot = self.slot(at);
        // A response of 2^32 tokens could not be stored in a shard.
        self.memory[slot] = u32::try_from(at).unwrap_or(EMPTY);
    }

    /// The loop of the shortest period around `place`, and where to look again: what repeats inside a turn can hide the
    /// turn itself from the one position that would tell, but the groups across the end of that repetition occur once a turn.
    fn look_up(&mut self, place: usize) -> (Option<Loop>, usize) {
        let mut best: Option<Loop> = None;
        let mut retry = usize::MAX;
        for at in place..(place + STRIDE).min(self.ids.len() - GRAM + 1) {
            let earlier = self.memory[self.slot(at)];
            if earlier == EMPTY || (earlier as usize) < self.floor {
                continue;
            }
            let distance = at - earlier as usize;
            if best.is_some_and(|best| best.period <= distance) {
                continue;
            }
            let known = self.compared.iter().find(|(known, stop)| *known == distance && at < *stop);
            let stop = match known {
                Some((_, stop)) => *stop,
                None => match stretch(self.ids, at, distance, self.floor) {
                    Some((start, stop)) => {
                        self.compared[self.num_compared % 8] = (distance, stop);
                        self.num_compared += 1;
                        let found = Loop { start, length: stop - start, period: distance };
                        if found.length >= MIN_TOKENS.max(MIN_TURNS * distance) {
                            best = Some(found);
                        }
                        stop
                    }
                    None => continue,
                },
            };
            retry = retry.min((stop + 1).saturating_sub(GRAM).max(place + STRIDE));
        }
        (best, retry)
    }
}

/// Where the longest stretch around `at`, not before `floor`, that repeats at `distance` begins, and where it ends.
/// None where the groups at `at` and at the earlier place differ after all.
fn stretch(ids: &[u32], at: usize, distance: usize, floor: usize) -> Option<(usize, usize)> {
    let earlier = at - distance;
    let forward = ids[at..].iter().zip(&ids[earlier..]).take_while(|(a, b)| a == b).count();
    if forward < GRAM {
        return None;
    }
    let before = ids[floor..at].iter().rev().zip(ids[floor..earlier].iter().rev());
    let backward = before.take_while(|(a, b)| a == b).count();
    Some((earlier - backward, at + forward))
}

/// The shortest period of a stretch of four turns of `period`: it divides every other one of so long a stretch.
fn shortest_period(stretch: &[u32], period: usize) -> usize {
    let repeats = |shorter: &usize| stretch[*shorter..period].iter().zip(stretch).all(|(a, b)| a == b);
    (1..period).filter(|shorter| period % shorter == 0).find(repeats).unwrap_or(period)
}

/// The high bits are the good ones. Cheap, since whatever it proposes is compared.
fn hash(gram: &[u32; GRAM]) -> u64 {
    let pair = |at: usize| u64::from(gram[at]) | u64::from(gram[at + 1]) << 32;
    let first = (pair(0) ^ pair(2).rotate_left(23)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let second = (pair(4) ^ pair(6).rotate_left(23)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    (first ^ second.rotate_left(32)).wrapping_mul(0xa076_1d64_78bd_642f)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{reason, response};
    use super::*;

    /// Tokens that do not repeat: a xorshift generator.
    fn noise(length: usize, seed: u64) -> Vec<u32> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let next = std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            u32::try_from(state >> 47).unwrap()
        });
        next.take(length).collect()
    }

    /// `length` tokens that repeat with `period`, between `before` and `after` tokens of noise.
    fn with_loop(before: usize, length: usize, period: usize, after: usize) -> Vec<u32> {
        let turn = noise(period, 77);
        let mut ids = noise(before, 1);
        ids.extend(turn.iter().cycle().take(length));
        ids.extend(noise(after, 2));
        ids
    }

    #[test]
    fn loops_of_every_period_and_position_are_found() {
        for period in [1, 2, 3, 5, 7, 8, 9, 16, 19, 31, 32, 33, 64, 100, 128, 333, 1000] {
            for before in [0, 1, 7, 8, 63, 64, 65, 500, 1001] {
                for length in [MIN_TOKENS.max(MIN_TURNS * period), MIN_TOKENS.max(MIN_TURNS * period) * 3 / 2 + 5] {
                    let found = longest_loop(&with_loop(before, length, period, 100)).unwrap();
                    let expected = Loop { start: before, length, period };
                    assert_eq!(found, expected, "{before} {length} {period}");
                }
            }
        }
    }

    #[test]
    fn a_turn_that_repeats_itself_inside_does_not_hide_the_loop() {
        let phrase = noise(30, 5);
        for filling in 1..=SPACING {
            let turn: Vec<u32> = [&phrase[..], &noise(filling, 6), &phrase, &noise(2, 7)].concat();
            let ids = [noise(300, 1), turn.repeat(9)].concat();
            let expected = Loop { start: 300, length: turn.len() * 9, period: turn.len() };
            assert_eq!(longest_loop(&ids), Some(expected), "{filling}");
        }
    }

    #[test]
    fn repetition_that_is_no_loop() {
        let quoted = [noise(200, 1), noise(800, 2), noise(300, 3), noise(800, 2), noise(100, 4)].concat();
        assert_eq!(longest_loop(&quoted), None);
        assert_eq!(longest_loop(&with_loop(100, 3 * 400, 400, 100)), None, "three turns are too few");
        assert_eq!(longest_loop(&with_loop(100, 100, 2, 100)), None, "100 tokens are too few");
        assert_eq!(longest_loop(&noise(20_000, 9)), None);
        // Counting: every turn differs in one token.
        let counting: Vec<u32> = (0..500).flat_map(|n| [n, 100_001, 100_002, 100_003, 100_004]).collect();
        assert_eq!(longest_loop(&counting), None);
        for length in 0..2 * MIN_TOKENS {
            assert_eq!(longest_loop(&noise(length, 3)), None);
        }
    }

    /// Every loop by definition, in quadratic time: maximal stretches of each distance.
    fn slow(ids: &[u32]) -> usize {
        let mut longest = 0;
        for distance in 1..=ids.len() / MIN_TURNS {
            let mut run = 0;
            for at in distance..ids.len() {
                run = if ids[at] == ids[at - distance] { run + 1 } else { 0 };
                if run > 0 && run + distance >= MIN_TOKENS.max(MIN_TURNS * distance) {
                    longest = longest.max(run + distance);
                }
            }
        }
        longest
    }

    #[test]
    fn as_many_tokens_as_by_definition() {
        let mut with = 0;
        for seed in 1..300u64 {
            let parts = noise(8, seed);
            let period = parts[0] as usize % 70 + 1;
            let turns = parts[1] as usize % 12;
            // Few different tokens, so that chance repeats short groups everywhere.
            let few = |length, seed| noise(length, seed).into_iter().map(|id| id % 5).collect::<Vec<u32>>();
            let turn = few(period, seed + 1000);
            let ids = [few(parts[2] as usize % 300, seed + 2000), turn.repeat(turns), few(200, seed + 3000)].concat();
            let expected = slow(&ids);
            with += usize::from(expected > 0);
            assert_eq!(longest_loop(&ids).map_or(0, |found| found.length), expected, "seed {seed}");
        }
        assert!(with > 50, "only {with} cases hold a loop");
    }

    #[test]
    fn limits() {
        let options = FilterOptions::default();
        let check = |options: &FilterOptions, ids: &[u32]| {
            reason(make, options, &Candidate { response_ids: ids, ..response("") }).is_some()
        };
        assert!(check(&options, &with_loop(4000, 512, 3, 4000)));
        assert!(!check(&options, &with_loop(4000, 511, 3, 4000)));
        assert!(check(&options, &with_loop(200, 200, 3, 200)), "a third of a short response");
        assert!(!check(&options, &with_loop(300, 200, 3, 200)));
        assert!(check(&options, &[with_loop(200, 200, 3, 200), with_loop(200, 200, 4, 100)].concat()), "both together");
        let only_tokens = FilterOptions { max_loop_share: None, ..FilterOptions::default() };
        assert!(!check(&only_tokens, &with_loop(200, 200, 3, 200)));
        let only_share = FilterOptions { max_loop_tokens: None, ..FilterOptions::default() };
        assert!(!check(&only_share, &with_loop(4000, 1000, 3, 4000)));
        assert!(make(&FilterOptions { max_loop_tokens: None, ..only_tokens }).unwrap().is_none());
    }

    #[test]
    fn runs_of_characters_that_tokens_hide() {
        let prose: String = (0..300).map(|n| format!("Sentence {n} says {}. ", n * n)).collect();
        for (character, passes) in [("\n", 511), ("-", 511), ("。", 170), ("😀", 127), ("- ", 255), ("\n\n ", 170)] {
            for (before, after) in [("", ""), ("", &prose[..]), (&prose[..], ""), (&prose[..777], &prose[..])] {
                let text = |number| format!("{before}{}{after}", character.repeat(number));
                let check = |text: &str| reason(make, &FilterOptions::default(), &response(text));
                assert_eq!(check(&text(passes)), None, "{character} {}", before.len());
                let more = format!("{before}{}{after}", character.repeat(passes + 2));
                assert_eq!(check(&more), Some("repetition"), "{character} {}", before.len());
            }
        }
    }

    #[test]
    fn hostile_input_takes_linear_time() {
        let mut fibonacci = vec![vec![0u32], vec![0, 1]];
        while fibonacci[fibonacci.len() - 1].len() < 500_000 {
            let (a, b) = (&fibonacci[fibonacci.len() - 1], &fibonacci[fibonacci.len() - 2]);
            fibonacci.push([&a[..], b].concat());
        }
        let passage = noise(20_000, 4);
        let quoted = (0..25).flat_map(|n| [&passage[..], &noise(n, n as u64 + 1)].concat()).collect();
        let started = std::time::Instant::now();
        for ids in [fibonacci.pop().unwrap(), quoted, vec![1; 500_000], vec![[1, 2]; 250_000].concat()] {
            find_loops(&ids);
        }
        assert!(started.elapsed().as_secs_f64() < 1.0, "{:?}", started.elapsed());
    }
}
