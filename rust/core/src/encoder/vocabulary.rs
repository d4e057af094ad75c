//! The model's tokens: their bytes by id, and their ids by bytes.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use super::merges::MAX_IDS;

const EMPTY: u32 = u32::MAX;
/// The printable stand-ins for bytes end before this code point.
const NUM_STAND_INS: usize = 0x144;
const NOT_A_BYTE: u16 = u16::MAX;

/// GPT-2's table: what byte a character of a byte-level token stands for.
const BYTE_OF_CHARACTER: [u16; NUM_STAND_INS] = {
    let mut table = [NOT_A_BYTE; NUM_STAND_INS];
    let (mut byte, mut next) = (0, 0x100);
    while byte < 0x100 {
        // Visible characters of Latin-1 stand for themselves, all other bytes for the code points from U+0100 on.
        let visible = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
        if visible {
            table[byte] = byte as u16;
        } else {
            table[next] = byte as u16;
            next += 1;
        }
        byte += 1;
    }
    table
};

/// Appends the bytes that the byte-level `token` stands for; None, and `bytes` as before, if it holds another character.
pub(super) fn push_bytes(token: &str, bytes: &mut Vec<u8>) -> Option<()> {
    let before = bytes.len();
    for character in token.chars() {
        match BYTE_OF_CHARACTER.get(character as usize) {
            Some(byte) if *byte != NOT_A_BYTE => bytes.push(*byte as u8),
            _ => {
                bytes.truncate(before);
                return None;
            }
        }
    }
    Some(())
}

/// Tokens of the model, without the added ones.
pub(super) struct Vocabulary {
    /// The bytes of all tokens, one after the other.
    bytes: Vec<u8>,
    /// Begin and end in `bytes` by id; the end of an id without a token is 0 and its begin 1.
    spans: Vec<(u32, u32)>,
    /// Open addressing: ids by the hash of their bytes.
    slots: Vec<u32>,
    num_tokens: usize,
    /// Tokens that do not stand for bytes, by their text: text never becomes one of them.
    others: HashMap<String, u32>,
}

impl Vocabulary {
    pub(super) fn new() -> Self {
        const FIRST_SLOTS: usize = 1 << 10;
        Self {
            bytes: Vec::new(),
            spans: Vec::new(),
            slots: vec![EMPTY; FIRST_SLOTS],
            num_tokens: 0,
            others: HashMap::new(),
        }
    }

    /// Adds a token. None if the id is too large, or if its text or its id are there already.
    pub(super) fn push(&mut self, token: &str, id: u32) -> Option<()> {
        if id as usize >= MAX_IDS || self.bytes_of(id).is_some() {
            return None;
        }
        let start = self.bytes.len();
        let stands_for_bytes = push_bytes(token, &mut self.bytes).is_some();
        if !stands_for_bytes {
            self.bytes.extend_from_slice(token.as_bytes());
        }
        if self.spans.len() <= id as usize {
            self.spans.resize(id as usize + 1, (1, 0));
        }
        self.num_tokens += 1;
        // Still without a span, so that the search for the same bytes cannot find this token itself.
        let new = if stands_for_bytes {
            if self.num_tokens * 2 > self.slots.len() {
                self.grow();
            }
            match self.slot_of(&self.bytes[start..]) {
                Ok(_) => false,
                Err(free) => {
                    self.slots[free] = id;
                    true
                }
            }
        } else {
            self.others.insert(token.to_string(), id).is_none()
        };
        self.spans[id as usize] = (u32::try_from(start).ok()?, u32::try_from(self.bytes.len()).ok()?);
        new.then_some(())
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![EMPTY; old.len() * 4];
        for id in old.into_iter().filter(|id| *id != EMPTY) {
            if let Some(Err(free)) = self.bytes_of(id).map(|bytes| self.slot_of(bytes)) {
                self.slots[free] = id;
            }
        }
    }

    /// The slot that holds the token of `bytes`, or the free one where it belongs.
    fn slot_of(&self, bytes: &[u8]) -> Result<usize, usize> {
        let mask = self.slots.len() - 1;
        let mut at = xxh3_64(bytes) as usize & mask;
        loop {
            let id = self.slots[at];
            if id == EMPTY {
                return Err(at);
            }
            if self.bytes_of(id) == Some(bytes) {
                return Ok(at);
            }
            at = (at + 1) & mask;
        }
    }

    /// Id of the token that stands for exactly `bytes`.
    pub(super) fn id_of_bytes(&self, bytes: &[u8]) -> Option<u32> {
        self.slot_of(bytes).ok().map(|slot| self.slots[slot])
    }

    /// Id of the token written `token`, in the alphabet of byte-level tokens.
    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        let mut bytes = Vec::with_capacity(token.len());
        match push_bytes(token, &mut bytes) {
            Some(()) => self.id_of_bytes(&bytes),
            None => self.others.get(token).copied(),
        }
    }

    /// What `id` adds to a decoded text: the bytes that its token stands for, or its text if it does not stand for bytes.
    pub(super) fn bytes_of(&self, id: u32) -> Option<&[u8]> {
        let (start, end) = *self.spans.get(id as usize)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// Number of tokens.
    pub(super) fn len(&self) -> usize {
        self.num_tokens
    }

    /// One more than the largest id.
    pub(super) fn end_of_ids(&self) -> usize {
        self.spans.len()
    }
}
