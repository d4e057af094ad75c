//! Whole builds with a tokenizer whose tokens are single letters: files byte for byte, order, cancellation.
// The helpers run in tests only, where a panic is the failure that is wanted.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use megatron_sft_core::build::{build_shards as build_with, Status};
use megatron_sft_core::config::{BuildConfig, Columns, OverLength, Recipe, RunOptions, Select, TrainTurns};
use megatron_sft_core::tokenizer::ChatTokenizer;
use megatron_sft_core::{Error, Result};
use serde_json::{json, Map, Value};
use tempfile::TempDir;

const STOP: i32 = 26;

/// Ids 0 to 25 for `a` to `z`, 26 for the stop token; the template is the content of the turns.
fn tokenizer(folder: &Path) -> PathBuf {
    let vocab: Map<String, Value> = ('a'..='z').zip(0..).map(|(c, id)| (c.to_string(), json!(id))).collect();
    let stop = json!({"id": STOP, "content": "<end>", "single_word": false, "lstrip": false, "rstrip": false,
                      "normalized": false, "special": true});
    let tokenizer =
        json!({"version": "1.0", "added_tokens": [stop], "model": {"type": "BPE", "vocab": vocab, "merges": []}});
    let config = json!({"eos_token": "<end>", "chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"});
    let path = folder.join("tokenizer");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(path.join("tokenizer_config.json"), config.to_string()).unwrap();
    path
}

fn config(folder: &TempDir, rows: &str, workers: usize) -> BuildConfig {
    let (path, input) = (folder.path(), folder.path().join("rows.jsonl"));
    std::fs::write(&input, rows).unwrap();
    if !path.join("tokenizer").exists() {
        tokenizer(path);
    }
    BuildConfig {
        inputs: vec![input],
        output: path.join(format!("out{workers}")),
        recipe: Recipe {
            max_length: 10,
            over_length: OverLength::Reject,
            verify: "none".to_string(),
            math_cpu_seconds: 1.0,
            stop_token: None,
            seed: 0,
            columns: Columns::default(),
            train_turns: TrainTurns::Last,
            strip_think: false,
            prompt_suffix: String::new(),
            join: None,
            select: Select::All,
            num_queries: None,
            keep_duplicates: true,
            near_duplicates: None,
            filters: Default::default(),
            shard_tokens: 1 << 30,
        },
        run: RunOptions { workers, memory_bytes: 1 << 30, overwrite: false, math_command: Vec::new(), part: None },
    }
}

/// Builds with the tokenizer beside the output folder.
fn build_shards(config: &BuildConfig, progress: &mut dyn FnMut(&Status) -> bool) -> Result<String> {
    let folder = config.output.parent().unwrap().join("tokenizer");
    build_with(config, &ChatTokenizer::from_folder(&folder)?, progress)
}

fn int32(bytes: &[u8]) -> Vec<i32> {
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn int64(bytes: &[u8]) -> Vec<i64> {
    bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
}

#[test]
fn files_byte_for_byte() {
    let folder = TempDir::new().unwrap();
    let rows = "{\"prompt\": \"ab\", \"response\": \"c\"}\n{\"prompt\": \"d\", \"response\": \"ef\"}\n";
    let config = config(&folder, rows, 1);
    build_shards(&config, &mut |_| true).unwrap();
    let bin = std::fs::read(config.output.join("samples-00000.bin")).unwrap();
    assert_eq!(int32(&bin), [0, 1, 2, STOP, 3, 4, 5, STOP]);
    let idx = std::fs::read(config.output.join("samples-00000.idx")).unwrap();
    assert_eq!(&idx[..9], b"MMIDIDX\0\0");
    assert_eq!(int64(&idx[9..17]), [1]);
    assert_eq!(idx[17], 4);
    assert_eq!(int64(&idx[18..34]), [4, 3]);
    assert_eq!(int32(&idx[34..50]), [2, 2, 1, 3]);
    assert_eq!(int64(&idx[50..82]), [0, 8, 16, 20]);
    assert_eq!(int64(&idx[82..]), [0, 2, 4]);
}

#[test]
fn order_and_account_for_any_number_of_workers() {
    let folder = TempDir::new().unwrap();
    let letter = |i: usize| char::from(b'a' + u8::try_from(i % 26).unwrap());
    let rows: String = (0..1000)
        .map(|i| match i % 10 {
            3 => "bad\n".to_string(),
            7 => "\n".to_string(),
            _ => format!("{{\"prompt\": \"{}\", \"response\": \"{}\"}}\n", letter(i), letter(i / 26)),
        })
        .collect();
    let mut outputs = Vec::new();
    for workers in [1, 3, 8] {
        let config = config(&folder, &rows, workers);
        let manifest: Value = serde_json::from_str(&build_shards(&config, &mut |_| true).unwrap()).unwrap();
        assert_eq!(manifest["counts"]["rows_read"], 900);
        assert_eq!(manifest["counts"]["rows_kept"], 800);
        assert_eq!(manifest["counts"]["blank_lines"], 100);
        let files = ["samples-00000.bin", "samples-00000.idx", "rejects.jsonl", "manifest.json"];
        outputs.push(files.map(|name| std::fs::read(config.output.join(name)).unwrap()));
    }
    assert_eq!(int32(&outputs[0][0])[..6], [0, 0, STOP, 1, 0, STOP]);
    assert!(outputs[1..].iter().all(|output| output == &outputs[0]));
}

#[test]
fn a_cancelled_build_without_a_complete_shard_leaves_nothing() {
    let folder = TempDir::new().unwrap();
    let rows = "{\"prompt\": \"ab\", \"response\": \"c\"}\n".repeat(1000);
    let config = config(&folder, &rows, 2);
    let result = build_shards(&config, &mut |status| {
        assert!(status.bytes_done <= status.bytes_total);
        false
    });
    assert!(matches!(result, Err(Error::Cancelled)));
    assert!(!config.output.exists());
}

#[test]
fn a_build_goes_on_behind_its_last_complete_shard() {
    let folder = TempDir::new().unwrap();
    let letter = |i: usize| char::from(b'a' + u8::try_from(i % 26).unwrap());
    let rows: String = (0..300)
        .map(|i| match i % 7 {
            5 => "bad\n\n".to_string(),
            // Every letter pair repeats: duplicates are found across the interruption too.
            _ => format!("{{\"prompt\": \"{}\", \"response\": \"{}\"}}\n", letter(i), letter(i / 26 % 4)),
        })
        .collect();
    let mut whole = config(&folder, &rows, 1);
    (whole.recipe.keep_duplicates, whole.recipe.shard_tokens) = (false, 20);
    build_shards(&whole, &mut |_| true).unwrap();
    let names = |path: &Path| -> Vec<String> {
        let mut names: Vec<String> =
            std::fs::read_dir(path).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    let expected = names(&whole.output);
    assert!(expected.len() > 10 && expected.contains(&"manifest.json".to_string()), "{expected:?}");

    // The second input cannot be read: the build fails behind the first one.
    let broken = folder.path().join("z.jsonl.gz");
    std::fs::write(&broken, b"no gzip").unwrap();
    let mut interrupted = whole.clone();
    interrupted.output = folder.path().join("interrupted");
    interrupted.inputs.push(broken);
    assert!(build_shards(&interrupted, &mut |_| true).is_err());
    let left = names(&interrupted.output);
    assert!(left.contains(&"build.journal".to_string()) && !left.contains(&"manifest.json".to_string()), "{left:?}");
    let other = build_shards(&BuildConfig { output: interrupted.output.clone(), ..whole.clone() }, &mut |_| true);
    assert!(other.unwrap_err().to_string().contains("an unfinished build of other inputs"));
}

#[test]
fn nothing_kept_is_an_error_that_counts_the_reasons() {
    let folder = TempDir::new().unwrap();
    let config = config(&folder, "bad\n{\"prompt\": \"abcdefghijk\", \"response\": \"c\"}\n", 2);
    let error = build_shards(&config, &mut |_| true).unwrap_err().to_string();
    assert!(error.contains("all 2 rows were rejected (1 malformed_json, 1 too_long)"), "{error}");
    assert!(error.contains("rows.jsonl:1"), "{error}");
}
