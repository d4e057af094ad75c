//! Ids, decoded text and token tables equal those of `tokenizers`.

use megatron_sft_core::encoder::{Encoder, Scratch};
use tokenizers::Tokenizer;

use crate::shapes;
use crate::texts::{num_texts, text, Random};

/// Both tokenizers of one `tokenizer.json`.
struct Pair {
    name: String,
    ours: Encoder,
    theirs: Tokenizer,
    scratch: Scratch,
}

impl Pair {
    fn new(name: &str, json: &[u8], split_special: bool) -> Self {
        let mut theirs = Tokenizer::from_bytes(json).unwrap();
        theirs.set_encode_special_tokens(split_special);
        let ours = Encoder::new(json).unwrap_or_else(|| panic!("{name} is not supported"));
        // So little memory that words are forgotten all the time.
        let scratch = Scratch::new(20_000);
        Self {
            name: format!("{name}, split special {split_special}"),
            ours: ours.split_special_tokens(split_special),
            theirs,
            scratch,
        }
    }

    /// Compares the ids of `text`, and gives their number.
    fn compare(&mut self, text: &str) -> usize {
        let expected = self.theirs.encode_fast(text, false).unwrap();
        let mut ids = vec![7];
        self.ours.encode(text, &mut self.scratch, &mut ids);
        assert_eq!(&ids[1..], expected.get_ids(), "{}: {text:?}", self.name);
        ids.len() - 1
    }

    fn compare_random(&mut self, seed: u64, count: usize) {
        let mut random = Random(seed);
        let mut num_ids = 0;
        for number in 0..count {
            let text = text(&mut random);
            num_ids += self.compare(&text);
            if number % 16 == 0 {
                let ids = self.theirs.encode_fast(text.as_str(), false).unwrap();
                let expected = self.theirs.decode(ids.get_ids(), false).unwrap();
                assert_eq!(self.ours.decode(ids.get_ids()), expected, "{}: {text:?}", self.name);
            }
        }
        assert!(num_ids > count, "{}: {num_ids} ids", self.name);
    }
}

#[test]
fn random_texts_with_every_shape() {
    for (name, json) in shapes::all() {
        let json = serde_json::to_vec(&json).unwrap();
        for split_special in [false, true] {
            Pair::new(name, &json, split_special).compare_random(11, num_texts(30_000) / 12);
        }
    }
}

#[test]
fn random_texts_with_qwen3() {
    let Some(json) = shapes::qwen3() else { return };
    Pair::new("Qwen3", &json, false).compare_random(12, num_texts(30_000) / 2);
}

/// Every arrangement of a few characters of each kind, at every place of a window of 64 bytes.
#[test]
fn every_short_arrangement_of_kinds() {
    let kinds = ["a", "1", " ", "\n", "\t", ".", "'", "s", "é", "\u{A0}", "re"];
    for (name, json) in
        shapes::all().into_iter().filter(|(name, _)| ["qwen", "llama3", "gpt2", "smollm2"].contains(name))
    {
        let mut pair = Pair::new(name, &serde_json::to_vec(&json).unwrap(), false);
        let mut random = Random(13);
        for number in 0..kinds.len().pow(4) {
            let (mut arrangement, mut left) = (String::new(), number);
            for _ in 0..4 {
                arrangement.push_str(kinds[left % kinds.len()]);
                left /= kinds.len();
            }
            pair.compare(&arrangement);
            if random.below(8) == 0 {
                let before = "ab c".repeat(16);
                pair.compare(&format!("{}{arrangement}{arrangement}x", &before[random.below(20)..]));
            }
        }
    }
}

#[test]
fn long_runs() {
    for (name, json) in shapes::all() {
        let mut pair = Pair::new(name, &serde_json::to_vec(&json).unwrap(), false);
        for unit in ["a", "ab", "the", "-", " ", "\n", " \n", "7", "é", "中文字", "'s"] {
            for length in [14, 15, 16, 17, 47, 63, 64, 65, 66, 79, 80, 127, 128, 129, 1000, 20_000] {
                pair.compare(&unit.repeat(length));
                pair.compare(&format!("x {}y", unit.repeat(length)));
            }
        }
    }
}

#[test]
fn tables_equal() {
    for (name, json) in shapes::all() {
        let pair = Pair::new(name, &serde_json::to_vec(&json).unwrap(), false);
        let vocabulary = pair.theirs.get_vocab(true);
        assert_eq!(pair.ours.vocab_size(), *vocabulary.values().max().unwrap() as usize + 1, "{name}");
        for (token, id) in &vocabulary {
            assert_eq!(pair.ours.token_id(token), Some(*id), "{name}: {token:?}");
            assert_eq!(pair.ours.decode(&[*id]), pair.theirs.decode(&[*id], false).unwrap(), "{name}: {token:?}");
        }
        for missing in ["", "no such token", "中", "Ġ no", "<|"] {
            assert_eq!(pair.ours.token_id(missing), pair.theirs.token_to_id(missing), "{name}: {missing:?}");
        }
        assert_eq!(pair.ours.decode(&[9_999_999]), "");
    }
}

#[test]
fn one_scratch_serves_several_encoders_in_turn() {
    let shapes = shapes::all();
    let encoders: Vec<Encoder> =
        shapes.iter().map(|(_, json)| Encoder::new(&serde_json::to_vec(json).unwrap()).unwrap()).collect();
    let mut shared = Scratch::default();
    for text in ["the other cat, 12 of them", "the other cat, 12 of them"] {
        for encoder in &encoders {
            let (mut ids, mut alone) = (Vec::new(), Vec::new());
            encoder.encode(text, &mut shared, &mut ids);
            encoder.encode(text, &mut Scratch::new(0), &mut alone);
            assert_eq!(ids, alone);
            assert!(!ids.is_empty());
        }
    }
}
