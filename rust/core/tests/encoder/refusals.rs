//! What the encoder leaves to `tokenizers`.

use megatron_sft_core::encoder::Encoder;
use serde_json::{json, Value};

use crate::shapes;

fn accepted(file: &Value) -> bool {
    Encoder::new(&serde_json::to_vec(file).unwrap()).is_some()
}

/// The tokenizer of shape `name`, changed at the JSON pointer `at`.
fn changed(name: &str, at: &str, value: Value) -> Value {
    let (_, mut file) = shapes::all().into_iter().find(|(shape, _)| *shape == name).unwrap();
    let (parent, key) = at.rsplit_once('/').unwrap();
    match file.pointer_mut(parent).unwrap() {
        Value::Array(list) => list[key.parse::<usize>().unwrap()] = value,
        object => object[key] = value,
    }
    file
}

#[test]
fn settings_without_effect_are_accepted() {
    let template = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<|im_start|>", "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<|im_start|>": {"id": "<|im_start|>", "ids": [1], "tokens": ["<|im_start|>"]}}});
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": false, "use_regex": true});
    let truncation = json!({"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    for (at, value) in [
        ("/post_processor", template.clone()),
        ("/post_processor", json!({"type": "Sequence", "processors": [byte_level, template]})),
        ("/truncation", truncation),
        ("/model/unk_token", json!("<unk>")),
        ("/model/continuing_subword_prefix", json!("")),
        ("/normalizer", Value::Null),
    ] {
        assert!(accepted(&changed("qwen", at, value.clone())), "{at} {value}");
    }
}

#[test]
fn settings_with_an_effect_that_is_not_computed_are_refused() {
    for (at, value) in [
        ("/version", json!("2.0")),
        ("/unknown", json!(1)),
        ("/normalizer", json!({"type": "NFKC"})),
        ("/normalizer", json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]})),
        ("/pre_tokenizer", Value::Null),
        ("/pre_tokenizer/pretokenizers/0/pattern/Regex", json!(r"\p{N}|\s+")),
        ("/pre_tokenizer/pretokenizers/0/behavior", json!("Removed")),
        ("/pre_tokenizer/pretokenizers/0/invert", json!(true)),
        ("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true)),
        ("/pre_tokenizer/pretokenizers/1/use_regex", json!(true)),
        ("/post_processor", json!({"type": "TemplateProcessing", "single": [], "pair": [], "special_tokens": {}})),
        ("/post_processor", json!({"type": "BertProcessing", "sep": ["a", 1], "cls": ["b", 2]})),
        ("/decoder", Value::Null),
        ("/decoder", json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true})),
        ("/model/type", json!("WordPiece")),
        ("/model/dropout", json!(0.1)),
        ("/model/continuing_subword_prefix", json!("##")),
        ("/model/end_of_word_suffix", json!("</w>")),
        ("/model/unknown", json!(1)),
        ("/model/merges/0", json!(["Ġ", "no such token"])),
        ("/model/merges/0", json!("Ġ t")),
        ("/model/merges/0", json!(["Ġ", "t", "h"])),
        ("/model/vocab/Ġ", json!(1)),
        ("/model/vocab/Ġ", json!(-1)),
        ("/model/vocab/Ġ", json!(1 << 20)),
        ("/added_tokens/0/lstrip", json!(true)),
        ("/added_tokens/0/rstrip", json!(true)),
        ("/added_tokens/0/single_word", json!(true)),
        ("/added_tokens/0/id", json!(3)),
        ("/added_tokens/0/content", json!("")),
        ("/added_tokens/0/content", json!("<|im_end|>")),
    ] {
        assert!(!accepted(&changed("qwen", at, value.clone())), "{at} {value}");
    }
    for (at, value) in [("/model/unk_token", json!("the")), ("/model/byte_fallback", json!(true))] {
        assert!(!accepted(&changed("bytes are missing", at, value.clone())), "{at} {value}");
    }
}

#[test]
fn damaged_files_are_refused() {
    let whole = serde_json::to_string(&shapes::all()[0].1).unwrap();
    assert!(Encoder::new(whole.as_bytes()).is_some());
    for text in ["", "{}", "[]", "null", &whole[..whole.len() - 1], &format!("{whole}}}"), &whole[..whole.len() / 2]] {
        assert!(Encoder::new(text.as_bytes()).is_none());
    }
    // Rules before the tokens that they name: `tokenizers` reads that, so nothing is lost.
    let mut file = shapes::all()[0].1.clone();
    let vocabulary = file["model"].as_object_mut().unwrap().shift_remove("vocab").unwrap();
    file["model"]["vocab"] = vocabulary;
    assert!(!accepted(&file));
}
