//! SentencePiece BPE models (`tokenizer.model`), turned into the `tokenizer.json` that transformers' converter makes of them.
//!
//! Merges are not in the file: every way to cut a piece into two others is one, the pieces of the highest score first.
//! Only what BPE models of language models use is read; a model with a normalization of its own, or a Unigram model, is
//! refused, and transformers can convert it.

use std::collections::HashMap;

use serde_json::{json, Value};

/// Kinds of pieces, as `sentencepiece_model.proto` numbers them.
const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
/// Model type BPE.
const BPE: u64 = 2;
/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";

struct Piece {
    text: String,
    score: f32,
    kind: u64,
}

/// The parts of the model that matter, with the defaults of the format.
struct Model {
    pieces: Vec<Piece>,
    model_type: u64,
    byte_fallback: bool,
    unk_piece: String,
    charsmap: bool,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

/// The content of a `tokenizer.json` for this `tokenizer.model`, or what keeps it from being converted.
pub(super) fn to_tokenizer_json(model: &[u8]) -> Result<Vec<u8>, String> {
    let model = Model::read(model).ok_or("is not a SentencePiece model, or is cut off")?;
    model.check()?;
    let vocab: serde_json::Map<String, Value> =
        model.pieces.iter().enumerate().map(|(id, piece)| (piece.text.clone(), json!(id))).collect();
    let mut normalizers = Vec::new();
    if model.add_dummy_prefix {
        normalizers.push(json!({"type": "Prepend", "prepend": SPACE}));
    }
    normalizers.push(json!({"type": "Replace", "pattern": {"String": " "}, "content": SPACE}));
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": SPACE}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if model.add_dummy_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let tokenizer = json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": model.added_tokens(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": model.unk_piece,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": true,
            "byte_fallback": model.byte_fallback,
            "ignore_merges": false,
            "vocab": vocab,
            "merges": model.merges(),
        },
    });
    Ok(tokenizer.to_string().into_bytes())
}

impl Model {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut model = Model {
            pieces: Vec::new(),
            model_type: 1,
            byte_fallback: false,
            unk_piece: "<unk>".to_string(),
            charsmap: false,
            add_dummy_prefix: true,
            remove_extra_whitespaces: true,
            escape_whitespaces: true,
        };
        let mut message = Message(bytes);
        while let Some((field, value)) = message.next()? {
            match (field, value) {
                (1, Field::Bytes(piece)) => model.pieces.push(Piece::read(piece)?),
                (2, Field::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        Some(model)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Option<()> {
        let mut message = Message(bytes);
        while let Some((field, value)) = message.next()? {
            match (field, value) {
                (3, Field::Number(kind)) => self.model_type = kind,
                (35, Field::Number(flag)) => self.byte_fallback = flag != 0,
                (45, Field::Bytes(text)) => self.unk_piece = text_of(text)?,
                _ => {}
            }
        }
        Some(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Option<()> {
        let mut message = Message(bytes);
        while let Some((field, value)) = message.next()? {
            match (field, value) {
                (2, Field::Bytes(charsmap)) => self.charsmap = !charsmap.is_empty(),
                (3, Field::Number(flag)) => self.add_dummy_prefix = flag != 0,
                (4, Field::Number(flag)) => self.remove_extra_whitespaces = flag != 0,
                (5, Field::Number(flag)) => self.escape_whitespaces = flag != 0,
                _ => {}
            }
        }
        Some(())
    }

    fn check(&self) -> Result<(), String> {
        let problem = if self.pieces.is_empty() {
            "holds no pieces"
        } else if self.model_type != BPE {
            "is not a BPE model"
        } else if self.charsmap || self.remove_extra_whitespaces || !self.escape_whitespaces {
            "normalizes text in ways that are not supported"
        } else {
            return Ok(());
        };
        Err(format!("{problem}; load the folder with transformers and save_pretrained() to get a tokenizer.json"))
    }

    fn added_tokens(&self) -> Vec<Value> {
        let added = self.pieces.iter().enumerate().filter(|(_, piece)| [CONTROL, USER_DEFINED].contains(&piece.kind));
        added
            .map(|(id, piece)| {
                json!({
                    "id": id,
                    "content": piece.text,
                    "single_word": false,
                    "lstrip": false,
                    "rstrip": false,
                    "normalized": false,
                    "special": piece.kind == CONTROL,
                })
            })
            .collect()
    }

    /// Every way to cut a piece in two pieces. The order is the converter's: by score, then by the lengths of both parts in
    /// characters, the longer first; among equals as the pieces stand in the model, and by the ids of the parts.
    fn merges(&self) -> Vec<[&str; 2]> {
        let ids: HashMap<&str, usize> =
            self.pieces.iter().enumerate().map(|(id, piece)| (piece.text.as_str(), id)).collect();
        let mut merges = Vec::new();
        for piece in &self.pieces {
            let cuts = piece.text.char_indices().skip(1).map(|(at, _)| piece.text.split_at(at));
            let mut parts: Vec<(usize, usize, &str, &str)> =
                cuts.filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?, left, right))).collect();
            parts.sort_unstable();
            merges.extend(parts.into_iter().map(|(_, _, left, right)| (piece.score, left, right)));
        }
        let length = |text: &str| text.chars().count();
        merges.sort_by(|one, other| {
            let key = |(_, left, right): &(f32, &str, &str)| (length(left), length(right));
            other.0.total_cmp(&one.0).then_with(|| key(other).cmp(&key(one)))
        });
        merges.into_iter().map(|(_, left, right)| [left, right]).collect()
    }
}

impl Piece {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut piece = Piece { text: String::new(), score: 0.0, kind: 1 };
        let mut message = Message(bytes);
        while let Some((field, value)) = message.next()? {
            match (field, value) {
                (1, Field::Bytes(text)) => piece.text = text_of(text)?,
                (2, Field::Bits(score)) => piece.score = f32::from_bits(score),
                (3, Field::Number(kind)) => piece.kind = kind,
                _ => {}
            }
        }
        Some(piece)
    }
}

fn text_of(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

/// A protocol buffer message that is read field by field. Outer None: it is damaged.
struct Message<'a>(&'a [u8]);

enum Field<'a> {
    Number(u64),
    Bits(u32),
    Bytes(&'a [u8]),
    /// Eight bytes, which no field that is read has.
    Skipped,
}

impl<'a> Message<'a> {
    #[allow(clippy::type_complexity)]
    fn next(&mut self) -> Option<Option<(u64, Field<'a>)>> {
        if self.0.is_empty() {
            return Some(None);
        }
        let tag = self.varint()?;
        let field = match tag & 7 {
            0 => Field::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Field::Skipped
            }
            2 => {
                let length = usize::try_from(self.varint()?).ok()?;
                Field::Bytes(self.take(length)?)
            }
            5 => Field::Bits(u32::from_le_bytes(self.take(4)?.try_into().ok()?)),
            _ => return None,
        };
        Some(Some((tag >> 3, field)))
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2, u8::try_from(content.len()).unwrap()];
        bytes.extend(content);
        bytes
    }

    fn piece(text: &str, score: f32, kind: u8) -> Vec<u8> {
        let mut content = field(1, text.as_bytes());
        content.push(2 << 3 | 5);
        content.extend(score.to_le_bytes());
        content.extend([3 << 3, kind]);
        field(1, &content)
    }

    /// A BPE model without normalization.
    fn model(pieces: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = pieces.concat();
        bytes.extend(field(2, &[3 << 3, 2]));
        bytes.extend(field(3, &[3 << 3, 0, 4 << 3, 0]));
        bytes
    }

    #[test]
    fn merges_follow_the_scores() {
        let pieces = [
            piece("<unk>", 0.0, 2),
            piece("<s>", 0.0, 3),
            piece("a", -3.0, 1),
            piece("b", -4.0, 1),
            piece("ab", -2.0, 1),
            piece("aba", -1.0, 1),
            piece("ba", -5.0, 1),
        ];
        let json: Value = serde_json::from_slice(&to_tokenizer_json(&model(&pieces)).unwrap()).unwrap();
        let merges = json!([["ab", "a"], ["a", "ba"], ["a", "b"], ["b", "a"]]);
        assert_eq!(json["model"]["merges"], merges);
        assert_eq!(json["model"]["vocab"]["aba"], 5);
        assert_eq!(json["added_tokens"].as_array().unwrap().len(), 1);
    }

    #[test]
    fn what_is_not_supported_is_refused_and_damage_is_no_panic() {
        let whole = model(&[piece("a", 0.0, 1)]);
        for length in 0..whole.len() {
            let _ = to_tokenizer_json(&whole[..length]);
        }
        assert!(to_tokenizer_json(&piece("a", 0.0, 1)).unwrap_err().contains("not a BPE model"));
        assert!(to_tokenizer_json(b"\xff\xff").unwrap_err().contains("not a SentencePiece model"));
        assert!(to_tokenizer_json(b"").unwrap_err().contains("no pieces"));
    }
}
