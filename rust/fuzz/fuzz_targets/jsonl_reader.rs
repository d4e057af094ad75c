//! A line of JSON: it gives fields that keep their promises, or a rejection. What is read is JSON to serde too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megatron_sft_core::fuzzing::parse_json_line;
use serde_json::Value;

fuzz_target!(|line: &[u8]| {
    let Ok(fields) = parse_json_line(line) else { return };
    let turns = fields.messages.as_array().expect("messages are a list");
    assert!(!turns.is_empty());
    assert!(turns.iter().all(|turn| turn["role"].is_string() && turn["content"].is_string()));
    assert!(!fields.response.trim().is_empty());
    let text = std::str::from_utf8(line).expect("an accepted line is UTF-8");
    let value: Value = serde_json::from_str(text.trim()).expect("an accepted line is JSON");
    assert_eq!(value["response"].as_str(), Some(fields.response.as_str()));
});
