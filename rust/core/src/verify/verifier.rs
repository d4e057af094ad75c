//! Verdicts on mathematical answers: proven here, remembered, or asked of math-verify.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use xxhash_rust::xxh3::Xxh3;

use super::external::{timed, ExternalVerifier, Limits, Verdict};
use super::math::{decide, Decision};
use crate::error::Result;

/// Entries of a cache, about 50 bytes each.
const MOST_VERDICTS: usize = 1 << 20;

/// Verdicts of math-verify by gold and boxed answer, shared by the threads of a build. Full, it keeps what it has.
#[derive(Debug, Default)]
pub struct Verdicts {
    known: Mutex<HashMap<u128, Verdict>>,
}

impl Verdicts {
    /// An empty cache.
    pub fn new() -> Self {
        Verdicts::default()
    }

    fn get(&self, key: u128) -> Option<Verdict> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&key).cloned()
    }

    fn insert(&self, key: u128, verdict: Verdict) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() < MOST_VERDICTS {
            known.insert(key, verdict);
        }
    }
}

/// A hash of the pair; its length keeps ("1", "23") and ("12", "3") apart.
fn key(gold: &str, answer: &str) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(&(gold.len() as u64).to_le_bytes());
    hash.update(gold.as_bytes());
    hash.update(answer.as_bytes());
    hash.digest128()
}

/// Who decided about a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecidedBy {
    /// A proof of this crate.
    FastPath,
    /// math-verify, for an equal pair before.
    Cache,
    /// math-verify.
    MathVerify,
}

impl DecidedBy {
    /// Name in reports.
    pub fn name(self) -> &'static str {
        match self {
            DecidedBy::FastPath => "fast_path",
            DecidedBy::Cache => "cache",
            DecidedBy::MathVerify => "math_verify",
        }
    }
}

/// Who decided how many pairs, and how.
///
/// All counts of pairs follow from the pairs alone, whatever the number of threads: a verdict from the cache counts as
/// math-verify's. `cache_hits` and `math_verify_seconds` do not, since two threads may meet the same pair at once. They
/// have no place in a manifest.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VerifyReport {
    /// Pairs proven equal here.
    pub fast_equal: u64,
    /// Pairs proven different here.
    pub fast_different: u64,
    /// Pairs that math-verify found equal.
    pub math_verify_equal: u64,
    /// Pairs that math-verify found different.
    pub math_verify_different: u64,
    /// Pairs without a verdict, by the name of their `Cause`.
    pub undecided: BTreeMap<String, u64>,
    /// Pairs whose verdict by math-verify was known already.
    pub cache_hits: u64,
    /// Seconds of waiting for math-verify, summed over threads, starts of its process included.
    pub math_verify_seconds: f64,
}

impl VerifyReport {
    /// Adds the figures of another thread.
    pub fn merge(&mut self, other: &VerifyReport) {
        self.fast_equal += other.fast_equal;
        self.fast_different += other.fast_different;
        self.math_verify_equal += other.math_verify_equal;
        self.math_verify_different += other.math_verify_different;
        for (cause, count) in &other.undecided {
            *self.undecided.entry(cause.clone()).or_default() += count;
        }
        self.cache_hits += other.cache_hits;
        self.math_verify_seconds += other.math_verify_seconds;
    }

    /// Pairs in all.
    pub fn num_pairs(&self) -> u64 {
        let decided = self.fast_equal + self.fast_different + self.math_verify_equal + self.math_verify_different;
        decided + self.undecided.values().sum::<u64>()
    }

    fn count(&mut self, verdict: &Verdict, by: DecidedBy) {
        let fast = by == DecidedBy::FastPath;
        match verdict {
            Verdict::Equal if fast => self.fast_equal += 1,
            Verdict::Equal => self.math_verify_equal += 1,
            Verdict::Different if fast => self.fast_different += 1,
            Verdict::Different => self.math_verify_different += 1,
            Verdict::Undecided(cause) => *self.undecided.entry(cause.name().to_string()).or_default() += 1,
        }
        self.cache_hits += u64::from(by == DecidedBy::Cache);
    }
}

/// Verifies mathematical answers on one thread.
#[derive(Debug)]
pub struct MathVerifier {
    external: ExternalVerifier,
    verdicts: Arc<Verdicts>,
    report: VerifyReport,
}

impl MathVerifier {
    /// A verifier whose process is started by `command` when it is first needed. Threads share `verdicts`.
    pub fn new(command: Vec<String>, limits: Limits, verdicts: Arc<Verdicts>) -> Self {
        MathVerifier { external: ExternalVerifier::new(command, limits), verdicts, report: VerifyReport::default() }
    }

    /// The verdict on a gold answer and the content of a box, and who decided it.
    ///
    /// # Errors
    /// As [`ExternalVerifier::verify`]: when math-verify is needed and does not work.
    pub fn verify(&mut self, gold: &str, boxed: &str) -> Result<(Verdict, DecidedBy)> {
        let (verdict, by) = match decide(gold, boxed) {
            Decision::Equal => (Verdict::Equal, DecidedBy::FastPath),
            Decision::Different => (Verdict::Different, DecidedBy::FastPath),
            Decision::Unknown => self.ask(gold, boxed)?,
        };
        self.report.count(&verdict, by);
        Ok((verdict, by))
    }

    fn ask(&mut self, gold: &str, boxed: &str) -> Result<(Verdict, DecidedBy)> {
        let key = key(gold, boxed);
        if let Some(verdict) = self.verdicts.get(key) {
            return Ok((verdict, DecidedBy::Cache));
        }
        let external = &mut self.external;
        let verdict = timed(&mut self.report.math_verify_seconds, || external.verify(gold, boxed))?;
        self.verdicts.insert(key, verdict.clone());
        Ok((verdict, DecidedBy::MathVerify))
    }

    /// What was decided so far.
    pub fn report(&self) -> &VerifyReport {
        &self.report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::Cause;

    /// Undecided about what holds a 7, equal otherwise.
    fn verifier(verdicts: &Arc<Verdicts>) -> MathVerifier {
        let script = r#"echo '{"ready": true}'; while read -r line; do
            case $line in *7*) v=undecided;; *) v=equal;; esac; echo "{\"verdict\": \"$v\", \"detail\": \"MemoryError\"}"; done"#;
        MathVerifier::new(["sh", "-c", script].map(str::to_string).to_vec(), Limits::default(), verdicts.clone())
    }

    #[test]
    fn who_decides_what() {
        let verdicts = Arc::new(Verdicts::new());
        let mut one = verifier(&verdicts);
        let failed = || Verdict::Undecided(Cause::Failed("MemoryError".to_string()));
        for (gold, boxed, expected) in [
            ("1/2", "0.5", (Verdict::Equal, DecidedBy::FastPath)),
            ("1", "2", (Verdict::Different, DecidedBy::FastPath)),
            ("5!", "120", (Verdict::Equal, DecidedBy::MathVerify)),
            ("5!", "120", (Verdict::Equal, DecidedBy::Cache)),
            ("7!", "5040", (failed(), DecidedBy::MathVerify)),
        ] {
            assert_eq!(one.verify(gold, boxed).unwrap(), expected, "{gold} {boxed}");
        }
        let mut other = verifier(&verdicts);
        assert_eq!(other.verify("7!", "5040").unwrap(), (failed(), DecidedBy::Cache));

        let mut report = one.report().clone();
        report.merge(other.report());
        report.math_verify_seconds = 0.0;
        assert_eq!(
            report,
            VerifyReport {
                fast_equal: 1,
                fast_different: 1,
                math_verify_equal: 2,
                undecided: BTreeMap::from([("MemoryError".to_string(), 2)]),
                cache_hits: 2,
                ..VerifyReport::default()
            }
        );
        assert_eq!(report.num_pairs(), 6);
    }

    #[test]
    fn keys_depend_on_where_the_gold_answer_ends() {
        assert_ne!(key("1", "23"), key("12", "3"));
        assert_eq!(key("1", "23"), key("1", "23"));
    }
}
