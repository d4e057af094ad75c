//! A line of JSON: it gives fields that keep their promises, or a rejection. What is read is JSON to serde too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use megatron_sft_core::config::Columns;
use megatron_sft_core::rows::parse_line;
use serde_json::Value;

fuzz_target!(|line: &[u8]| {
    let Ok(fields) = parse_line(line, &Columns::default()) else { return };
    let turns = fields.messages.as_array().expect("messages are a list");
    assert!(!turns.is_empty());
    assert!(turns.iter().all(|turn| turn["role"].is_string() && turn["content"].is_string()));
    assert!(!fields.response.trim().is_empty());
    let text = std::str::from_utf8(line).expect("an accepted line is UTF-8");
    let value: Value = serde_json::from_str(text.trim()).expect("an accepted line is JSON");
    let turns = value["message"].as_array();
    let last = turns.and_then(|turns| turns.last()).map(|turn| &turn["content"]);
    // Where there is no response, the assistant's last turn is the response; a message may be JSON in a string.
    if !value["response"].is_null() {
        assert_eq!(value["response"].as_str(), Some(&*fields.response));
    } else if let Some(last) = last {
        assert_eq!(last.as_str(), Some(&*fields.response));
    }
});
