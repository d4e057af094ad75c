//! Which of several responses to a query is kept, and which queries are.

use std::collections::{HashMap, HashSet};

use xxhash_rust::xxh3::xxh3_128_with_seed;

use super::plan::Plan;
use super::process::Outcome;
use super::spool::SpoolReader;
use crate::config::Select;
use crate::error::{Error, Result};
use crate::reason::Reason;
use crate::rows::Position;
use crate::sample::{Refusal, Sample};

/// The choice, made over all rows that no filter dropped.
#[derive(Debug)]
pub(super) struct Selection {
    /// Number of the chosen row of each query; None keeps all of a query's rows.
    chosen: Option<HashMap<u128, u64>>,
    /// The drawn queries; None keeps all queries.
    drawn: Option<HashSet<u128>>,
}

impl Selection {
    /// Why row `number` (counted from 0 over all inputs) is not kept.
    pub(super) fn refuse(&self, sample: &Sample, number: u64) -> Option<Refusal> {
        if self.drawn.as_ref().is_some_and(|drawn| !drawn.contains(&sample.query)) {
            return Some((Reason::QUERY_NOT_DRAWN, "the query was not drawn by --num-queries".to_string()));
        }
        let chosen = self.chosen.as_ref()?.get(&sample.query)?;
        (*chosen != number)
            .then(|| (Reason::NOT_SELECTED, "another response to the same query was selected".to_string()))
    }
}

/// Chooses among the rows in the spool.
pub(super) fn select(plan: &Plan<'_>) -> Result<Selection> {
    let recipe = plan.policy.recipe;
    let mut best: HashMap<u128, (u128, u64)> = HashMap::new();
    let mut number = 0;
    for file in 0..plan.inputs.len() {
        let start = Position { file, ..Position::default() };
        SpoolReader::open(plan, start)?.for_each_row(|outcome| {
            if let Outcome::Kept(sample) = outcome {
                let rank = match recipe.select {
                    Select::All | Select::FirstCorrect => 0,
                    Select::ShortestCorrect => sample.num_tokens() as u128,
                    // Depends on nothing but seed and row: the same choice wherever the row stands.
                    Select::RandomCorrect => draw(recipe.seed, sample.content),
                };
                let entry = best.entry(sample.query).or_insert((rank, number));
                if (rank, number) < *entry {
                    *entry = (rank, number);
                }
            }
            number += u64::from(!matches!(outcome, Outcome::Blank));
        })?;
    }
    let drawn = match recipe.num_queries {
        None => None,
        Some(wanted) => Some(draw_queries(best.keys().copied(), wanted, recipe.seed)?),
    };
    let chosen =
        (recipe.select != Select::All).then(|| best.into_iter().map(|(query, (_, number))| (query, number)).collect());
    Ok(Selection { chosen, drawn })
}

fn draw(seed: u64, key: u128) -> u128 {
    xxh3_128_with_seed(&key.to_le_bytes(), seed)
}

fn draw_queries(queries: impl Iterator<Item = u128>, wanted: u64, seed: u64) -> Result<HashSet<u128>> {
    let mut ranked: Vec<(u128, u128)> = queries.map(|query| (draw(seed, query), query)).collect();
    if (ranked.len() as u64) < wanted {
        let found = ranked.len();
        let message =
            format!("--num-queries {wanted}, but only {found} queries have a row that may be kept; ask for fewer");
        return Err(Error::Config(message));
    }
    ranked.sort_unstable();
    Ok(ranked.into_iter().take(usize::try_from(wanted).unwrap_or(usize::MAX)).map(|(_, query)| query).collect())
}
