//! Reads `tokenizer.json` without building a tree of its 300,000 strings, and refuses every setting whose effect is not
//! computed by this encoder.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{json, Value};
use tokenizers::{PaddingParams, PostProcessorWrapper, TruncationParams};
use unicode_normalization_alignments::UnicodeNormalization;

use super::added::Added;
use super::merges::{Merges, MAX_RULES, NO_TOKEN};
use super::pattern::{Pattern, LLAMA3, QWEN};
use super::vocabulary::{push_bytes, Vocabulary};

/// What an encoder is made of.
pub(super) struct Parts {
    pub(super) vocabulary: Vocabulary,
    pub(super) merges: Merges,
    pub(super) pattern: Pattern,
    pub(super) compose: bool,
    pub(super) ignore_merges: bool,
    pub(super) raw: Vec<Added>,
    pub(super) normalized: Vec<Added>,
    pub(super) added: AddedIds,
}

/// Added tokens by text and by id.
#[derive(Default)]
pub(super) struct AddedIds {
    ids: HashMap<String, u32>,
    /// What decoding writes.
    bytes: HashMap<u32, Vec<u8>>,
}

impl AddedIds {
    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.ids.get(token).copied()
    }

    pub(super) fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        self.bytes.get(&id).map(Vec::as_slice)
    }

    /// One more than the largest id.
    pub(super) fn end_of_ids(&self) -> usize {
        self.bytes.keys().max().map_or(0, |id| *id as usize + 1)
    }
}

/// None for what is no tokenizer, or none that the encoder computes exactly.
pub(super) fn read(tokenizer_json: &[u8]) -> Option<Parts> {
    let file: TokenizerFile = serde_json::from_slice(tokenizer_json).ok()?;
    if file.version.is_some_and(|version| version != "1.0") || !keeps_ids(&file.post_processor) {
        return None;
    }
    // Any decoder of this type does the same; its settings are those of the pre-tokenizer and have no effect.
    if file.decoder.get("type")? != "ByteLevel" {
        return None;
    }
    let pattern = pattern_of(&file.pre_tokenizer)?;
    let compose = composes(&file.normalizer)?;
    let Model { vocabulary, rules, ignore_merges, needs_all_bytes } = file.model;
    let bytes = ids_of_bytes(&vocabulary);
    if needs_all_bytes && bytes.contains(&NO_TOKEN) {
        return None;
    }
    let (raw, normalized, added) = added_tokens(file.added_tokens, &vocabulary, compose)?;
    let merges = Merges::new(bytes, &rules);
    Some(Parts { vocabulary, merges, pattern, compose, ignore_merges, raw, normalized, added })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenizerFile {
    version: Option<String>,
    // Both are checked for being well-formed; a data set's texts are never cut or padded.
    #[serde(rename = "truncation")]
    _truncation: Option<TruncationParams>,
    #[serde(rename = "padding")]
    _padding: Option<PaddingParams>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    post_processor: Value,
    #[serde(default)]
    decoder: Value,
    model: Model,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// Whether the post-processor leaves the ids as they are when no special tokens are asked for.
fn keeps_ids(processor: &Value) -> bool {
    let well_formed = || PostProcessorWrapper::deserialize(processor).is_ok();
    match processor.get("type").and_then(Value::as_str) {
        None => processor.is_null(),
        Some("ByteLevel") => well_formed(),
        Some("TemplateProcessing") => {
            let pieces = processor["single"].as_array().map(Vec::as_slice).unwrap_or_default();
            let mut sequences = pieces.iter().filter_map(|piece| piece.get("Sequence"));
            sequences.next().is_some_and(|first| first["id"] == "A") && sequences.next().is_none() && well_formed()
        }
        Some("Sequence") => {
            well_formed() && processor["processors"].as_array().is_some_and(|parts| parts.iter().all(keeps_ids))
        }
        Some(_) => false,
    }
}

/// The pattern that a pre-tokenizer splits by.
fn pattern_of(pre_tokenizer: &Value) -> Option<Pattern> {
    let is_byte_level = |part: &Value, use_regex: bool| {
        // Only how offsets are trimmed differs, and no offsets are asked for.
        let same = |trim: bool| {
            *part
                == json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": trim, "use_regex": use_regex})
        };
        same(true) || same(false)
    };
    if is_byte_level(pre_tokenizer, true) {
        return Some(Pattern::Gpt2);
    }
    let sequence = pre_tokenizer.as_object()?;
    if sequence.len() != 2 || sequence.get("type")? != "Sequence" {
        return None;
    }
    let [first, second] = sequence.get("pretokenizers")?.as_array()?.as_slice() else { return None };
    let splits_by = |expression: &str| {
        *first == json!({"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": false})
    };
    if *first == json!({"type": "Digits", "individual_digits": true}) {
        return is_byte_level(second, true).then_some(Pattern::Gpt2Digits);
    }
    let known = [(QWEN, Pattern::Qwen), (LLAMA3, Pattern::Llama3)];
    let (_, pattern) = known.into_iter().find(|(expression, _)| splits_by(expression))?;
    is_byte_level(second, false).then_some(pattern)
}

/// Whether the normalizer is NFC; None for one that is neither that nor nothing.
fn composes(normalizer: &Value) -> Option<bool> {
    if normalizer.is_null() {
        return Some(false);
    }
    if *normalizer == json!({"type": "NFC"})
        || *normalizer == json!({"type": "Sequence", "normalizers": [{"type": "NFC"}]})
    {
        return Some(true);
    }
    (*normalizer == json!({"type": "Sequence", "normalizers": []})).then_some(false)
}

fn ids_of_bytes(vocabulary: &Vocabulary) -> [u32; 256] {
    let mut ids = [NO_TOKEN; 256];
    for (byte, id) in (0..=u8::MAX).zip(&mut ids) {
        *id = vocabulary.id_of_bytes(&[byte]).unwrap_or(NO_TOKEN);
    }
    ids
}

/// The tokens to find in raw text, those to find in normalized text, and both by id.
fn added_tokens(
    listed: Vec<AddedToken>,
    vocabulary: &Vocabulary,
    compose: bool,
) -> Option<(Vec<Added>, Vec<Added>, AddedIds)> {
    let (mut raw, mut normalized, mut added) = (Vec::<Added>::new(), Vec::<Added>::new(), AddedIds::default());
    // `tokenizers` ignores the ids in the list: a token has the model's id, else the next free one.
    let mut next_id = vocabulary.len() as u32;
    for token in listed {
        let strange = token.single_word || token.lstrip || token.rstrip || token.content.is_empty();
        let id = vocabulary.id_of(&token.content).unwrap_or_else(|| {
            next_id += 1;
            next_id - 1
        });
        if strange || id != token.id || added.ids.insert(token.content.clone(), id).is_some() {
            return None;
        }
        let composed = token.normalized && compose;
        let text = if composed { token.content.nfc().map(|(character, _)| character).collect() } else { token.content };
        let mut bytes = Vec::new();
        if push_bytes(&text, &mut bytes).is_none() {
            bytes = text.clone().into_bytes();
        }
        let list = if token.normalized { &mut normalized } else { &mut raw };
        let twice = list.iter().any(|known| known.text == text);
        if twice || added.bytes.insert(id, bytes).is_some() {
            return None;
        }
        list.push(Added { text, id, special: token.special });
    }
    Some((raw, normalized, added))
}

/// The `model` of `tokenizer.json`.
struct Model {
    vocabulary: Vocabulary,
    /// (left, right, merged) in order of rank.
    rules: Vec<(u32, u32, u32)>,
    ignore_merges: bool,
    /// Whether a byte without a token would become something else than nothing.
    needs_all_bytes: bool,
}

impl<'de> Deserialize<'de> for Model {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ModelVisitor)
    }
}

struct ModelVisitor;

impl<'de> Visitor<'de> for ModelVisitor {
    type Value = Model;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a byte-level BPE model")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Model, A::Error> {
        let (mut vocabulary, mut rules, mut kind) = (None, None, None);
        let (mut ignore_merges, mut needs_all_bytes) = (None, false);
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "type" => kind = Some(map.next_value::<String>()?),
                // Without a token for some byte, these decide what it becomes.
                "unk_token" => needs_all_bytes |= map.next_value::<Option<String>>()?.is_some(),
                "byte_fallback" => needs_all_bytes |= map.next_value::<Option<bool>>()?.unwrap_or(false),
                "fuse_unk" => drop(map.next_value::<Option<bool>>()?),
                "dropout" => refuse(map.next_value::<Option<f32>>()?.is_some())?,
                "continuing_subword_prefix" | "end_of_word_suffix" => {
                    refuse(map.next_value::<Option<String>>()?.is_some_and(|text| !text.is_empty()))?;
                }
                "ignore_merges" => ignore_merges = map.next_value::<Option<bool>>()?,
                "vocab" => {
                    refuse(vocabulary.is_some())?;
                    vocabulary = Some(map.next_value_seed(VocabularySeed(Vocabulary::new()))?);
                }
                // The rules name tokens, so the vocabulary must stand before them, as it does in every saved file.
                "merges" => match &vocabulary {
                    Some(vocabulary) if rules.is_none() => {
                        rules = Some(map.next_value_seed(RulesSeed(vocabulary))?);
                    }
                    _ => refuse(true)?,
                },
                _ => refuse(true)?,
            }
        }
        refuse(kind.as_deref() != Some("BPE"))?;
        match (vocabulary, rules) {
            (Some(vocabulary), Some(rules)) => {
                Ok(Model { vocabulary, rules, ignore_merges: ignore_merges.unwrap_or(false), needs_all_bytes })
            }
            _ => Err(A::Error::custom("no vocab or no merges")),
        }
    }
}

fn refuse<E: Error>(refused: bool) -> Result<(), E> {
    if refused {
        Err(E::custom("not supported"))
    } else {
        Ok(())
    }
}

/// Fills a vocabulary from the object of tokens and ids.
struct VocabularySeed(Vocabulary);

impl<'de> DeserializeSeed<'de> for VocabularySeed {
    type Value = Vocabulary;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vocabulary, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for VocabularySeed {
    type Value = Vocabulary;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of tokens and ids")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Vocabulary, A::Error> {
        let mut token = String::new();
        while map.next_key_seed(IntoString(&mut token))?.is_some() {
            let id = map.next_value()?;
            refuse(self.0.push(&token, id).is_none())?;
        }
        Ok(self.0)
    }
}

/// Reads a string into one that exists, so that no memory is taken per string.
struct IntoString<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for IntoString<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IntoString<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.0.clear();
        self.0.push_str(text);
        Ok(())
    }
}

/// Reads the list of rules, whose entries are all `"left right"` or all `["left", "right"]`.
struct RulesSeed<'a>(&'a Vocabulary);

impl<'de> DeserializeSeed<'de> for RulesSeed<'_> {
    type Value = Vec<(u32, u32, u32)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for RulesSeed<'_> {
    type Value = Vec<(u32, u32, u32)>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list of merges")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let (mut rules, mut pair) = (Vec::new(), PairOfBytes::default());
        let mut as_lists = None;
        while let Some(is_list) = list.next_element_seed(&mut pair)? {
            // A list of both kinds is malformed.
            refuse(*as_lists.get_or_insert(is_list) != is_list || rules.len() >= MAX_RULES)?;
            let id = |bytes: &[u8]| self.0.id_of_bytes(bytes);
            let (left, right) = pair.bytes.split_at(pair.middle);
            match (id(left), id(right), id(&pair.bytes)) {
                (Some(left), Some(right), Some(merged)) => rules.push((left, right, merged)),
                _ => refuse(true)?,
            }
        }
        Ok(rules)
    }
}

/// The bytes of the two tokens of a rule, one after the other.
#[derive(Default)]
struct PairOfBytes {
    bytes: Vec<u8>,
    middle: usize,
    text: String,
}

impl PairOfBytes {
    fn set<E: Error>(&mut self, left: &str, right: &str) -> Result<(), E> {
        self.bytes.clear();
        refuse(left.is_empty() || push_bytes(left, &mut self.bytes).is_none())?;
        self.middle = self.bytes.len();
        refuse(right.is_empty() || push_bytes(right, &mut self.bytes).is_none())
    }
}

/// Gives whether the rule was a list.
impl<'de> DeserializeSeed<'de> for &mut PairOfBytes {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut PairOfBytes {
    type Value = bool;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("two tokens")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<bool, E> {
        // A comment in the old format, which `tokenizers` leaves out: not worth a rule of its own here.
        refuse(text.starts_with("#version"))?;
        match text.split_once(' ') {
            Some((left, right)) => self.set(left, right).map(|()| false),
            None => Err(E::custom("not two tokens")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<bool, A::Error> {
        let mut left = std::mem::take(&mut self.text);
        let mut right = String::new();
        let both = list.next_element_seed(IntoString(&mut left))?.and(list.next_element_seed(IntoString(&mut right))?);
        refuse(both.is_none() || list.next_element::<IgnoredAny>()?.is_some())?;
        self.set(&left, &right)?;
        self.text = left;
        Ok(true)
    }
}
