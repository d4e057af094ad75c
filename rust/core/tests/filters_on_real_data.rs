//! The filters on real traces and evaluation questions, where they are at hand.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use megatron_sft_core::duplicates::{content_hash, NearDuplicates, Signature, DEFAULT_THRESHOLD};
use megatron_sft_core::filters::{make, Candidate, Filter, FilterOptions};
use serde_json::Value;

/// The folder of real data, or None (said aloud) where it is missing.
fn data() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("skipped: {} is missing", folder.display());
    None
}

fn read(path: &Path) -> Vec<Value> {
    let mut text = String::new();
    let mut file = File::open(path).unwrap();
    if path.extension().unwrap() == "gz" {
        MultiGzDecoder::new(file).read_to_string(&mut text).unwrap();
    } else {
        file.read_to_string(&mut text).unwrap();
    }
    match serde_json::from_str(&text) {
        Ok(Value::Array(rows)) => rows,
        _ => text.lines().map(|line| serde_json::from_str(line).unwrap()).collect(),
    }
}

struct Row {
    question: String,
    response: String,
    prompt_opens_think: bool,
}

impl Row {
    fn candidate<'a>(&'a self, ids: &'a [u32]) -> Candidate<'a> {
        let prompt_opens_think = self.prompt_opens_think;
        Candidate {
            question: &self.question,
            response: &self.response,
            response_ids: ids,
            prompt_tokens: 1,
            prompt_opens_think,
        }
    }
}

/// The rows of every file of traces, put together as their publisher meant them.
fn traces(folder: &Path) -> BTreeMap<String, Vec<Row>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(folder.join("traces")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().split('.').next().unwrap().to_string();
        let rows = read(&path);
        files.insert(name.clone(), rows.iter().map(|row| row_of(&name, row)).collect());
    }
    files
}

fn row_of(name: &str, row: &Value) -> Row {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_string();
    let (question, response, prompt_opens_think) = if name.starts_with("misguided") {
        (text("prompt"), format!("<think>\n{}\n</think>\n\n{}", text("thinking"), text("output")), false)
    } else if name.starts_with("unireason") {
        let input = text("input");
        let question =
            input.split("<|im_start|>user\n").nth(1).unwrap().split("<|im_end|>").next().unwrap().to_string();
        (question, text("output"), name.contains("sft"))
    } else if name.starts_with("rasbt") {
        let response = format!("<think>{}</think>{}", text("message_thinking"), text("message_content"));
        (text("problem"), response, false)
    } else if name.starts_with("thought") {
        (text("prompt"), text("solution"), true)
    } else if name.starts_with("deepseekmath") {
        (text("question"), row["model_prediction"]["proof"].as_str().unwrap().to_string(), false)
    } else if name == "corpus" {
        (row["message"][0]["content"].as_str().unwrap().to_string(), text("response"), false)
    } else {
        (text("question") + &text("instruction"), text("response"), false)
    };
    assert!(!question.is_empty(), "{name}");
    Row { question, response, prompt_opens_think }
}

/// Stand-ins for token ids, near to what a tokenizer makes: words with their space, single digits, other characters.
fn pieces(text: &str) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        let mut id = 0x811c_9dc5u32 ^ c as u32;
        if c.is_alphabetic() || c == ' ' {
            while let Some(next) = characters.next_if(|next| next.is_alphabetic()) {
                id = id.wrapping_mul(0x0100_0193) ^ next as u32;
            }
        }
        ids.push(id);
    }
    ids
}

#[test]
fn reasons_in_each_file_of_traces() {
    let Some(folder) = data() else { return };
    let filters = make(&FilterOptions::default()).unwrap();
    let mut account: BTreeMap<String, BTreeMap<&str, usize>> = BTreeMap::new();
    for (name, rows) in traces(&folder) {
        let counts = account.entry(name).or_default();
        for row in &rows {
            let ids = pieces(&row.response);
            let candidate = row.candidate(&ids);
            for finding in filters.iter().filter_map(|filter| filter.check(&candidate)) {
                *counts.entry(finding.reason).or_default() += 1;
            }
        }
    }
    let empty = |name: &str| account[name].is_empty();
    // Clean files stay whole ...
    for name in ["deepseekmathv2_cmo2024", "deepseekmathv2_imo2025", "misguided_r10528", "rasbt_r1_ollama_sample"] {
        assert!(empty(name), "{name}: {:?}", account[name]);
    }
    assert!(empty("star1_safety_r1") && empty("thought_anchors_math_base_solutions"));
    // ... and each reason finds the rows that were seen to have it.
    assert_eq!(account["marco_o1_cot_demo"], BTreeMap::from([("undecodable", 3)]));
    assert_eq!(account["misguided_phi4rp"], BTreeMap::from([("empty_answer", 26), ("repetition", 1)]));
    assert_eq!(account["misguided_q3_235b-think"], BTreeMap::from([("empty_answer", 9)]));
    assert_eq!(account["misguided_qwq-32b"], BTreeMap::from([("empty_answer", 17), ("repetition", 1)]));
    assert_eq!(account["unireason_rl_math500"], BTreeMap::from([("repetition", 4)]));
    assert_eq!(account["unireason_sft_math500"], BTreeMap::from([("repetition", 2), ("unfinished_trace", 68)]));
    // With the tokens of Qwen3 it is 132: one row's loops are a little shorter here than the share allows.
    assert_eq!(account["unireason_rl_ifeval"], BTreeMap::from([("repetition", 131)]));
}

#[test]
fn questions_of_an_evaluation_are_found_and_others_are_not() {
    let Some(folder) = data() else { return };
    let filters = |files: &[&str]| {
        let decontaminate = files.iter().map(|file| folder.join("eval").join(file)).collect();
        make(&FilterOptions { decontaminate, ..FilterOptions::default() }).unwrap()
    };
    let found = |filters: &[Box<dyn Filter>], questions: &[String]| {
        let row =
            |question: &String| Row { question: question.clone(), response: String::new(), prompt_opens_think: false };
        let check = |row: Row| filters.iter().rev().take(1).find_map(|filter| filter.check(&row.candidate(&[])));
        questions.iter().map(row).filter_map(check).count()
    };
    let questions = |rows: Vec<Row>| rows.into_iter().map(|row| row.question).collect::<Vec<_>>();
    let mut traces = traces(&folder);
    let mut of = |name: &str| questions(traces.remove(name).unwrap());
    let math = filters(&["math500.jsonl"]);
    assert_eq!(found(&math, &of("unireason_sft_math500")), 243, "they are questions of MATH-500");
    assert_eq!(found(&math, &of("unireason_rl_math500")), 243);
    let ifeval = filters(&["ifeval_input_data.jsonl"]);
    assert_eq!(found(&ifeval, &of("unireason_rl_ifeval")), 541, "they are the questions of IFEval");
    let others =
        filters(&["gsm8k_test.jsonl", "math500.jsonl", "aime25.jsonl", "TruthfulQA.csv", "mmlu_pro_test.parquet"]);
    for name in ["star1_safety_r1", "misguided_qwq-32b", "marco_o1_cot_demo"] {
        assert_eq!(found(&others, &of(name)), 0, "{name}");
    }
    let train: Vec<String> = read(&folder.join("eval/gsm8k_train.jsonl.gz"))
        .iter()
        .map(|row| row["question"].as_str().unwrap().to_string())
        .collect();
    // Two questions about a train that are word for word one about a plane, with other numbers.
    assert_eq!(found(&filters(&["gsm8k_test.jsonl"]), &train), 2);
    let aime: Vec<String> = read(&folder.join("eval/aime24_qwq_prompts.jsonl"))
        .iter()
        .map(|row| row["prompt"].as_str().unwrap().to_string())
        .collect();
    assert_eq!(found(&filters(&["aime24.jsonl"]), &aime), 30, "another edition of the same questions");
}

/// Jaccard similarity of the sets of five words in a row.
fn exact(a: &str, b: &str) -> f64 {
    let shingles = |text: &str| {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        let words: Vec<String> = words.map(str::to_lowercase).collect();
        words.windows(5).map(|words| words.join(" ")).collect::<HashSet<_>>()
    };
    let (a, b) = (shingles(a), shingles(b));
    a.intersection(&b).count() as f64 / a.union(&b).count().max(1) as f64
}

#[test]
fn similarity_of_real_traces() {
    let Some(folder) = data() else { return };
    let rows = traces(&folder).remove("star1_safety_r1").unwrap();
    let (mut kept, mut changed) = (NearDuplicates::new(DEFAULT_THRESHOLD), 0);
    for (number, row) in (0..).zip(&rows) {
        assert_eq!(kept.insert(number, &Signature::of("", &row.response)), None, "all are different");
    }
    let mut worst = 0f64;
    for (number, row) in (0..).zip(&rows) {
        // Every 40th to 10th word differs: similarities from about 0.8 down to 0.4.
        let every = 10 + number % 31;
        let words = row.response.split(' ').enumerate();
        let other: Vec<&str> = words.map(|(at, word)| if at % every == 7 { "changed" } else { word }).collect();
        let other = other.join(" ");
        let signature = Signature::of("", &other);
        let estimate = signature.similarity(&Signature::of("", &row.response));
        worst = worst.max((estimate - exact(&row.response, &other)).abs());
        changed += 1;
        let found = kept.insert(number as u64, &signature);
        assert_eq!(found.is_some(), estimate >= DEFAULT_THRESHOLD, "{number}: {estimate}");
        assert!(found.is_none_or(|(row, _)| row == number as u64));
    }
    assert_eq!(changed, 534);
    assert!(worst < 0.16, "{worst}");
}

fn signatures_of(rows: &[Row]) -> Vec<Signature> {
    rows.iter().map(|row| Signature::of(&row.question, &row.response)).collect()
}

/// Time of each filter on one core. Run it with `cargo test --release --test filters_on_real_data -- --ignored
/// --nocapture speed`; CORPUS names a JSON Lines file of rows to use instead of the real traces.
#[test]
#[ignore = "measures"]
fn speed() {
    let Some(folder) = data() else { return };
    let rows: Vec<Row> = match std::env::var_os("CORPUS") {
        Some(path) => read(Path::new(&path)).iter().map(|row| row_of("corpus", row)).collect(),
        None => traces(&folder).into_values().flatten().collect(),
    };
    let ids: Vec<Vec<u32>> = rows.iter().map(|row| pieces(&row.response)).collect();
    let bytes: usize = rows.iter().map(|row| row.response.len()).sum();
    let tokens: usize = ids.iter().map(Vec::len).sum();
    eprintln!("{} rows, {bytes} bytes, {tokens} tokens", rows.len());
    let time = |name: &str, mut pass: Box<dyn FnMut() -> usize + '_>| {
        pass();
        let runs = (0..7).map(|_| {
            let started = Instant::now();
            std::hint::black_box(pass());
            started.elapsed().as_secs_f64()
        });
        eprintln!("{name:30} {:.3} ns per byte", runs.fold(f64::MAX, f64::min) * 1e9 / bytes as f64);
    };
    let scripts = FilterOptions { allowed_scripts: vec!["Latin".to_string()], ..FilterOptions::default() };
    let decontaminate = vec![folder.join("eval/mmlu_pro_test.parquet"), folder.join("eval/gsm8k_test.jsonl")];
    let options = FilterOptions { decontaminate, max_prompt_tokens: Some(10), ..scripts };
    for filter in make(&options).unwrap() {
        let count = || rows.iter().zip(&ids).filter(|(row, ids)| filter.check(&row.candidate(ids)).is_some()).count();
        time(&format!("{:?}", filter.reasons())[..29.min(filter.reasons()[0].len() + 4)], Box::new(count));
    }
    let filters = make(&FilterOptions::default()).unwrap();
    let all = || {
        let first = |(row, ids): (&Row, &Vec<u32>)| filters.iter().find_map(|filter| filter.check(&row.candidate(ids)));
        rows.iter().zip(&ids).filter_map(first).count()
    };
    time("all default filters", Box::new(all));
    time(
        "content hash",
        Box::new(|| rows.iter().filter(|row| content_hash(&row.question, &row.response) == 0).count()),
    );
    let signatures = signatures_of(&rows);
    time("signature", Box::new(|| signatures_of(&rows).len()));
    let insert = || {
        let mut near = NearDuplicates::new(DEFAULT_THRESHOLD);
        (0..).zip(&signatures).filter(|(row, signature)| near.insert(*row, signature).is_some()).count()
    };
    eprintln!("{} near duplicates", insert());
    time("near duplicates, insertion", Box::new(insert));
}
