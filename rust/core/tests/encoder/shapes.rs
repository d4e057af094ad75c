//! Small tokenizers of every shape that the encoder knows, trained here, and Qwen3's where it has been collected.

use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde_json::{json, Value};
use tokenizers::models::bpe::{BpeTrainerBuilder, BPE};
use tokenizers::models::TrainerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, Tokenizer};

use crate::texts::{text, Random};

const QWEN: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// The content of `tokenizer.json` for each shape, by name.
pub(crate) fn all() -> Vec<(&'static str, Value)> {
    static SHAPES: LazyLock<Vec<(&str, Value)>> = LazyLock::new(make_all);
    SHAPES.clone()
}

fn make_all() -> Vec<(&'static str, Value)> {
    let llama3 = {
        let mut file = trained(Value::Null, split(LLAMA3), true);
        file["model"]["ignore_merges"] = json!(true);
        // Tokens that no rule makes: only taking whole words as they are finds them.
        let (vocabulary, next) = (file["model"]["vocab"].as_object_mut().unwrap(), 10_000);
        for (index, word) in ["Ġthe", "CamelCase", "123", "ĠĠĠĠ", "Ċ", "æĸĩåŃĹ"].iter().enumerate() {
            vocabulary.entry(*word).or_insert(json!(next + index));
        }
        file["added_tokens"] = json!([]);
        file
    };
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    let digits =
        json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level]});
    let mut gpt2 = trained(Value::Null, byte_level, true);
    // The old spelling of rules, and tokens that are looked for in normalized text.
    for rule in gpt2["model"]["merges"].as_array_mut().unwrap() {
        *rule = json!(format!("{} {}", rule[0].as_str().unwrap(), rule[1].as_str().unwrap()));
    }
    gpt2["added_tokens"].as_array_mut().unwrap().iter_mut().for_each(|token| token["normalized"] = json!(true));
    let mut mixed = trained(json!({"type": "NFC"}), split(QWEN), true);
    mixed["added_tokens"][1]["normalized"] = json!(true);
    mixed["added_tokens"][3]["normalized"] = json!(true);
    vec![
        ("qwen", trained(json!({"type": "NFC"}), split(QWEN), true)),
        ("llama3", llama3),
        ("gpt2", gpt2),
        ("smollm2", trained(json!({"type": "Sequence", "normalizers": []}), digits, true)),
        ("bytes are missing", trained(Value::Null, split(QWEN), false)),
        ("mixed added tokens", mixed),
    ]
}

fn split(expression: &str) -> Value {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false},
    ]})
}

/// Learns some hundred rules from generated texts; without `all_bytes` only the bytes of a few ASCII letters are tokens.
fn trained(normalizer: Value, pre_tokenizer: Value, all_bytes: bool) -> Value {
    let empty = json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": serde_json::to_value(BPE::default()).unwrap(),
    });
    let mut tokenizer: Tokenizer = serde_json::from_value(empty).unwrap();
    let alphabet = if all_bytes { ByteLevel::alphabet().into_iter().collect() } else { Default::default() };
    let mut trainer: TrainerWrapper =
        BpeTrainerBuilder::new().show_progress(false).vocab_size(1200).initial_alphabet(alphabet).build().into();
    let mut random = Random(5);
    let texts: Vec<String> = if all_bytes {
        (0..2000).map(|_| text(&mut random)).collect()
    } else {
        vec!["the cat and the dog, and then the other cat and the other dog. 12 and 12 and 3".to_string(); 3]
    };
    tokenizer.train(&mut trainer, texts.iter().map(String::as_str)).unwrap();
    let special = |text: &str| AddedToken::from(text, true).normalized(false);
    tokenizer.add_special_tokens(["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(special)).unwrap();
    let plain = |text: &str| AddedToken::from(text, false).normalized(false);
    tokenizer.add_tokens(["<think>", "</think>", "e\u{301}x", "<|im"].map(plain)).unwrap();
    serde_json::to_value(&tokenizer).unwrap()
}

/// Qwen3's `tokenizer.json`, or None, said aloud, where the collected data is not beside the repository.
#[allow(clippy::print_stderr)]
pub(crate) fn qwen3() -> Option<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/tokenizers/qwen3/tokenizer.json.gz");
    if !path.is_file() {
        eprintln!("skipped: {} is not there", path.display());
        return None;
    }
    let mut bytes = Vec::new();
    GzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut bytes).unwrap();
    Some(bytes)
}
