//! The filters on real traces and evaluation questions, where they are at hand.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Instant;

use flate2::read::MultiGzDecoder;
use megatron_sft_core::duplicates::{NearDuplicates, Signature, DEFAULT_THRESHOLD};
use megatron_sft_core::filters::{longest_loop, make, Candidate, FilterOptions};
use megatron_sft_core::tokenizer::ChatTokenizer;
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
    } else {
        (text("question") + &text("instruction"), text("response"), false)
    };
    assert!(!question.is_empty(), "{name}");
    Row { question, response, prompt_opens_think }
}

#[test]
#[ignore]
fn account() {
    let Some(folder) = data() else { return };
    let tokenizer = ChatTokenizer::from_folder(&folder.join("tokenizers/qwen3")).unwrap();
    let filters = make(&FilterOptions::default()).unwrap();
    for (name, rows) in traces(&folder) {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for (number, row) in rows.iter().enumerate() {
            let ids = tokenizer.encode(&row.response).unwrap();
            let candidate = row.candidate(&ids);
            if let Some(found) = longest_loop(&ids) {
                let text = tokenizer.decode(&ids[found.start..found.start + found.period.min(60)]).unwrap();
                eprintln!("    LOOP {name}:{number} of {} tokens {found:?} {text:?}", ids.len());
            }
            for filter in &filters {
                if let Some(finding) = filter.check(&candidate) {
                    *counts.entry(finding.reason).or_default() += 1;
                    if !["unfinished_trace"].contains(&finding.reason) {
                        eprintln!("    {name}:{number} {finding:?}");
                    }
                }
            }
        }
        eprintln!("{name}: {} rows {counts:?}", rows.len());
    }
}
