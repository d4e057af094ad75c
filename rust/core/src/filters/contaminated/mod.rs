//! Rows that ask what an evaluation asks: training on them would make its score meaningless.
//!
//! Questions are compared as words (see [`words`]). A row repeats an evaluation question when it holds a large enough
//! share of the question's sequences of n words. Sequences that many questions of the evaluation share are its
//! phrasing and count for nothing, so another task in the same words is none of its questions. A question of fewer
//! than n words has to stand in the row as a whole, on lines of its own.

mod questions;
mod words;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use self::questions::Question;
use self::words::{sequence, words, Word};
use super::{beginning, filter, Candidate, Filter, FilterOptions, Finding};
use crate::error::Result;
use crate::rows::sha256_of_file;

/// A sequence in more different questions than this is phrasing.
const MAX_OWNERS: usize = 8;
/// Sequences that a row has to share, but for questions that have fewer: "which of the following is the best example of"
/// is half of a short question.
const MIN_SHARED: usize = 3;
/// Characters of the evaluation question in a detail.
const SHOWN: usize = 100;

/// Name and sha256 of each file of evaluation questions, in order: what [`super::make`] depends on besides the options.
pub fn fingerprints(options: &FilterOptions) -> Result<Vec<(String, String)>> {
    options.decontaminate.iter().map(|path| Ok((name_of(path), sha256_of_file(path)?))).collect()
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Made where `decontaminate` names any file.
pub(super) fn make(options: &FilterOptions) -> Result<Option<Box<dyn Filter>>> {
    if options.decontaminate.is_empty() {
        return Ok(None);
    }
    let mut contaminated = Contaminated {
        files: options.decontaminate.clone(),
        num_words: options.decontaminate_words,
        share: options.decontaminate_share,
        ..Contaminated::default()
    };
    let mut sequences = Vec::new();
    for (file, path) in options.decontaminate.iter().enumerate() {
        for question in questions::read(path, options.decontaminate_field.as_deref())? {
            contaminated.add(file, &question, &mut sequences);
        }
    }
    contaminated.sequences = Sequences::new(sequences, &mut contaminated.questions);
    filter(contaminated)
}

#[derive(Debug, Default)]
struct Contaminated {
    files: Vec<PathBuf>,
    num_words: usize,
    share: f64,
    questions: Vec<Known>,
    /// The hash of all words of a question, and its index.
    whole: HashMap<u64, u32>,
    /// Lengths in words of the questions that are shorter than `num_words`, in rising order.
    short_lengths: Vec<usize>,
    sequences: Sequences,
}

/// An evaluation question.
#[derive(Debug)]
struct Known {
    file: usize,
    line: usize,
    beginning: String,
    /// Sequences that are its own.
    num_sequences: usize,
}

impl Contaminated {
    fn add(&mut self, file: usize, question: &Question, sequences: &mut Vec<(u64, u32)>) {
        let words = words(&question.text);
        let index = u32::try_from(self.questions.len()).unwrap_or(u32::MAX);
        let whole = sequence(&words);
        // Benchmarks are published more than once; the same question again would make its sequences phrasing.
        if words.is_empty() || self.whole.contains_key(&whole) {
            return;
        }
        self.whole.insert(whole, index);
        if words.len() < self.num_words {
            if let Err(at) = self.short_lengths.binary_search(&words.len()) {
                self.short_lengths.insert(at, words.len());
            }
        } else {
            sequences.extend(words.windows(self.num_words).map(|words| (sequence(words), index)));
        }
        let text = question.text.split_whitespace().collect::<Vec<_>>().join(" ");
        let beginning = beginning(&text, SHOWN);
        self.questions.push(Known { file, line: question.line, beginning, num_sequences: 0 });
    }

    /// The question that the words hold as a whole: all of them, or one or more lines of their own.
    fn whole_question(&self, words: &[Word]) -> Option<&Known> {
        let known = |hash: u64| self.whole.get(&hash).map(|index| &self.questions[*index as usize]);
        known(sequence(words)).or_else(|| {
            let own_lines = |part: &&[Word]| part[0].begins && part[part.len() - 1].ends;
            let parts = self.short_lengths.iter().flat_map(|length| words.windows(*length).filter(own_lines));
            parts.map(sequence).find_map(known)
        })
    }

    /// The question of which the words hold the largest share, and that share.
    #[allow(clippy::cast_precision_loss)]
    fn partial_question(&self, words: &[Word]) -> Option<(&Known, f64)> {
        let mut hits: Vec<(u32, u64)> = Vec::new();
        for hash in words.windows(self.num_words).map(sequence) {
            hits.extend(self.sequences.owners(hash).iter().map(|(_, question)| (*question, hash)));
        }
        hits.sort_unstable();
        hits.dedup();
        let mut best: Option<(&Known, f64)> = None;
        for group in hits.chunk_by(|a, b| a.0 == b.0) {
            let known = &self.questions[group[0].0 as usize];
            let share = group.len() as f64 / known.num_sequences as f64;
            let enough = share >= self.share && group.len() >= MIN_SHARED.min(known.num_sequences);
            if enough && best.is_none_or(|(_, most)| share > most) {
                best = Some((known, share));
            }
        }
        best
    }
}

impl Filter for Contaminated {
    fn reasons(&self) -> &'static [&'static str] {
        &["contaminated"]
    }

    fn check(&self, candidate: &Candidate<'_>) -> Option<Finding> {
        let words = words(candidate.question);
        let (known, how) = match self.whole_question(&words) {
            Some(known) => (known, "repeats".to_string()),
            None => {
                let (known, share) = self.partial_question(&words)?;
                (known, format!("holds {:.0} % of", share * 100.0))
            }
        };
        let file = name_of(&self.files[known.file]);
        let detail = format!("the question {how} {file}:{}: {:?}", known.line, known.beginning);
        Some(Finding { reason: "contaminated", detail })
    }
}

/// Which questions own a sequence of words: sorted pairs, found by the first bits of the hash. 16 bytes a pair.
#[derive(Debug, Default)]
struct Sequences {
    pairs: Vec<(u64, u32)>,
    /// Where the hashes with the same first bits begin; one entry more than there are such prefixes.
    starts: Vec<u32>,
    shift: u32,
}

impl Sequences {
    /// Leaves phrasing out, and counts the sequences of each question.
    fn new(mut all: Vec<(u64, u32)>, questions: &mut [Known]) -> Self {
        all.sort_unstable();
        all.dedup();
        let mut pairs = Vec::with_capacity(all.len());
        for owners in all.chunk_by(|a, b| a.0 == b.0).filter(|owners| owners.len() <= MAX_OWNERS) {
            pairs.extend_from_slice(owners);
            for (_, question) in owners {
                questions[*question as usize].num_sequences += 1;
            }
        }
        let bits = pairs.len().next_power_of_two().trailing_zeros().clamp(1, 24);
        let shift = u64::BITS - bits;
        let mut starts = vec![0u32; (1 << bits) + 1];
        for (hash, _) in &pairs {
            starts[(hash >> shift) as usize + 1] += 1;
        }
        for prefix in 1..starts.len() {
            starts[prefix] += starts[prefix - 1];
        }
        Self { pairs, starts, shift }
    }

    fn owners(&self, hash: u64) -> &[(u64, u32)] {
        let prefix = (hash >> self.shift) as usize;
        let near = &self.pairs[self.starts[prefix] as usize..self.starts[prefix + 1] as usize];
        let begin = near.partition_point(|(known, _)| *known < hash);
        let length = near[begin..].iter().take_while(|(known, _)| *known == hash).count();
        &near[begin..begin + length]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::response;
    use super::*;

    const DUCKS: &str = "Janet's ducks lay 16 eggs per day. She eats three for breakfast and bakes muffins with four.";

    /// A filter that knows these questions, on lines 1, 2, ...
    fn knows(questions: &[&str]) -> Contaminated {
        let mut contaminated =
            Contaminated { files: vec!["dir/eval.jsonl".into()], num_words: 8, share: 0.5, ..Contaminated::default() };
        let mut sequences = Vec::new();
        for (line, text) in (1..).zip(questions) {
            contaminated.add(0, &Question { line, text: text.to_string() }, &mut sequences);
        }
        contaminated.sequences = Sequences::new(sequences, &mut contaminated.questions);
        contaminated
    }

    fn check(filter: &Contaminated, question: &str) -> Option<String> {
        let finding = filter.check(&Candidate { question, ..response("") })?;
        assert_eq!(finding.reason, "contaminated");
        Some(finding.detail)
    }

    #[test]
    fn a_question_is_found_in_other_spellings_and_wrappings() {
        let filter = knows(&["What is the capital of France, and why is it there?", DUCKS]);
        for question in [
            DUCKS.to_string(),
            DUCKS.to_uppercase().replace('\'', "’"),
            format!("Please solve this: {DUCKS} Put the answer into \\boxed{{}}."),
            DUCKS.replace("16", "sixteen"),
            DUCKS.replace("muffins", "$\\text{muffins}$"),
        ] {
            let detail = check(&filter, &question).unwrap();
            assert!(detail.contains("eval.jsonl:2") && detail.contains("Janet's ducks lay 16 eggs"), "{detail}");
        }
    }

    #[test]
    fn other_questions_pass() {
        let filter = knows(&[DUCKS, "Which of the following is the best example of inertia?"]);
        for question in [
            "",
            "Janet's ducks lay 16 eggs per day. How many is that in a week?",
            "Her cat sleeps 16 hours per day. It eats three for breakfast and plays with four mice.",
            "Which of the following is the best example of a fruit that one eats in winter?",
        ] {
            assert_eq!(check(&filter, question), None, "{question}");
        }
    }

    #[test]
    fn short_questions_have_to_stand_alone() {
        let filter = knows(&["Compute $\\dbinom{8}{4}$.", "What is it?"]);
        for (question, expected) in [
            ("Compute $\\binom 84$.".replace("84", "8 4"), true),
            ("Solve the problem.\nProblem: Compute $\\dbinom{8}{4}$.\nAnswer:".to_string(), true),
            ("Solve the problem.\nCompute\n\\[\\dbinom{8}{4}.\\]".to_string(), true),
            ("Compute $\\dbinom{8}{4} + 1$.".to_string(), false),
            ("He asked: what is it? Compute $\\dbinom{8}{4}$ and more".to_string(), false),
        ] {
            assert_eq!(check(&filter, &question).is_some(), expected, "{question}");
        }
    }

    #[test]
    fn what_many_questions_share_is_phrasing() {
        let ask = |numbers: &str, target: u32| {
            format!(
                "A conversation between User and Assistant. Using the numbers {numbers}, create an equation that equals \
                 {target}. You can use basic arithmetic operations and each number can only be used once."
            )
        };
        let questions: Vec<String> = (1..30).map(|n| ask(&format!("{n}, {}, {}", n + 31, n * 7), n + 100)).collect();
        let filter = knows(&questions.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(check(&filter, &questions[16]).is_some_and(|detail| detail.contains("eval.jsonl:17")));
        assert!(check(&filter, &format!("Think! {} Go.", questions[16])).is_some());
        assert_eq!(check(&filter, &ask("55, 66, 77", 99)), None);
    }

    #[test]
    fn a_question_that_is_there_twice_counts_once() {
        let many = vec![DUCKS; 20];
        assert!(check(&knows(&many), &format!("Say: {DUCKS}")).is_some_and(|detail| detail.contains("eval.jsonl:1")));
    }

    #[test]
    fn owners_by_definition() {
        let mut all: Vec<(u64, u32)> =
            (0..2000u32).map(|n| (u64::from(n % 700).wrapping_mul(1 << 54 | 977), n)).collect();
        all.extend((0..12).map(|n| (42, n)));
        let mut known: Vec<Known> =
            (0..2000).map(|_| Known { file: 0, line: 1, beginning: String::new(), num_sequences: 0 }).collect();
        let sequences = Sequences::new(all.clone(), &mut known);
        for hash in all.iter().map(|(hash, _)| *hash).chain([7, u64::MAX]).filter(|hash| *hash != 42) {
            let mut expected: Vec<(u64, u32)> = all.iter().filter(|pair| pair.0 == hash).copied().collect();
            expected.sort_unstable();
            assert_eq!(sequences.owners(hash), expected);
        }
        assert_eq!(sequences.owners(42), [], "twelve owners are too many");
    }

    #[test]
    fn fingerprints_are_names_and_hashes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("eval.jsonl");
        std::fs::write(&path, "abc").unwrap();
        let options = FilterOptions { decontaminate: vec![path], ..FilterOptions::default() };
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(fingerprints(&options).unwrap(), [("eval.jsonl".to_string(), sha256.to_string())]);
        assert!(fingerprints(&FilterOptions::default()).unwrap().is_empty());
    }
}
