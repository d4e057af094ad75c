//! What computes ids: this crate's encoder where it is exact, else the crate `tokenizers`.

use tokenizers::Tokenizer;

use crate::encoder::{Encoder, Scratch};
use crate::error::{Error, Result};

/// A loaded tokenizer without its chat template.
#[derive(Debug)]
pub(super) enum Engine {
    /// Byte-level BPE, as nearly every reasoning model has it.
    Own(Box<Encoder>),
    /// Everything else, some hundred times slower.
    Library(Box<Tokenizer>),
}

impl Engine {
    /// From the content of `tokenizer.json`; the error is what `tokenizers` says of it.
    pub(super) fn new(tokenizer_json: &[u8], split_special_tokens: bool) -> std::result::Result<Self, String> {
        match Encoder::new(tokenizer_json) {
            Some(encoder) => Ok(Self::Own(Box::new(encoder.split_special_tokens(split_special_tokens)))),
            None => Self::library(tokenizer_json, split_special_tokens),
        }
    }

    /// The same, always by `tokenizers`.
    pub(super) fn library(tokenizer_json: &[u8], split_special_tokens: bool) -> std::result::Result<Self, String> {
        let mut tokenizer = Tokenizer::from_bytes(tokenizer_json).map_err(|error| error.to_string())?;
        // A stored truncation or padding would cut or lengthen samples; Hugging Face's call ignores both too.
        tokenizer.with_truncation(None).map_err(|error| error.to_string())?;
        tokenizer.with_padding(None);
        tokenizer.set_encode_special_tokens(split_special_tokens);
        Ok(Self::Library(Box::new(tokenizer)))
    }

    pub(super) fn encode_into(&self, text: &str, scratch: &mut Scratch, ids: &mut Vec<u32>) -> Result<()> {
        match self {
            Self::Own(_) if u32::try_from(text.len()).is_err() => {
                Err(Error::Encode(format!("a text of {} bytes; at most 4 GiB can be one text", text.len())))
            }
            Self::Own(encoder) => {
                encoder.encode(text, scratch, ids);
                Ok(())
            }
            Self::Library(tokenizer) => {
                let encoding = tokenizer.encode_fast(text, false).map_err(|error| Error::Encode(error.to_string()))?;
                ids.extend_from_slice(encoding.get_ids());
                Ok(())
            }
        }
    }

    pub(super) fn decode(&self, ids: &[u32]) -> Result<String> {
        match self {
            Self::Own(encoder) => Ok(encoder.decode(ids)),
            Self::Library(tokenizer) => tokenizer.decode(ids, false).map_err(|error| Error::Encode(error.to_string())),
        }
    }

    pub(super) fn token_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Own(encoder) => encoder.token_id(token),
            Self::Library(tokenizer) => tokenizer.token_to_id(token),
        }
    }

    /// The special token that `text` begins with, the longest one: its id and its bytes.
    pub(super) fn special_token_at_start(&self, text: &str) -> Option<(u32, usize)> {
        match self {
            Self::Own(encoder) => encoder.special_token_at_start(text),
            Self::Library(tokenizer) => {
                let added = tokenizer.get_added_tokens_decoder();
                let found = added.into_iter().filter(|(_, token)| token.special && text.starts_with(&token.content));
                found.map(|(id, token)| (id, token.content.len())).max_by_key(|(_, bytes)| *bytes)
            }
        }
    }

    /// One more than the largest id, added tokens included.
    pub(super) fn vocab_size(&self) -> usize {
        match self {
            Self::Own(encoder) => encoder.vocab_size(),
            Self::Library(tokenizer) => tokenizer.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1),
        }
    }
}
