//! One packed row as arrays: the shift between inputs and labels happens here and nowhere else.

/// T places of a row, real tokens first, and the boundaries of its documents. Padding is a document of its own.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// Input ids \[T\]; 0 in the padding.
    pub tokens: Vec<i64>,
    /// The id that follows in the same sample, where it is trained \[T\]; else 0.
    pub labels: Vec<i64>,
    /// Share of each place in the loss \[T\]; 0 where nothing is trained.
    pub loss_weights: Vec<f32>,
    /// Place in the document \[T\], from 0.
    pub position_ids: Vec<i64>,
    /// Boundaries of documents, from 0 to T.
    pub cu_seqlens: Vec<i32>,
    /// Tokens of the longest document.
    pub max_seqlen: i32,
    /// T without the padding.
    pub num_real_tokens: i32,
}

impl Row {
    /// A row of `total` places without documents.
    pub(super) fn zeros(total: usize) -> Self {
        Self {
            tokens: vec![0; total],
            labels: vec![0; total],
            loss_weights: vec![0.0; total],
            position_ids: vec![0; total],
            cu_seqlens: vec![0],
            max_seqlen: 0,
            num_real_tokens: 0,
        }
    }

    /// Appends a sample: `bytes` are its tokens as little-endian int32, `sequences` the lengths of its sequences, masked
    /// and trained by turns. False when an id is negative, which no tokenizer gives.
    ///
    /// Place t is asked for token t + 1. A sample 5 | 6 7 with one masked token and weight w has tokens 5 6 7, labels
    /// 6 7 0 and weights w w 0: place 0 is asked for 6, place 1 for 7, and nothing is asked of the last place.
    pub(super) fn append(&mut self, bytes: &[u8], sequences: impl Iterator<Item = usize>, weight: f32) -> bool {
        let start = self.num_real_tokens as usize;
        let end = start + bytes.len() / 4;
        let tokens = &mut self.tokens[start..end];
        let mut signs = 0;
        for (token, chunk) in tokens.iter_mut().zip(bytes.chunks_exact(4)) {
            let id = le_i32(chunk);
            signs |= id;
            *token = i64::from(id);
        }
        let mut place = start;
        for (number, length) in sequences.enumerate() {
            // The first sequence is masked, so a trained one never begins a sample: the place before it is the sample's.
            if number % 2 == 1 {
                self.labels[place - 1..place - 1 + length].copy_from_slice(&self.tokens[place..place + length]);
                self.loss_weights[place - 1..place - 1 + length].fill(weight);
            }
            place += length;
        }
        self.close_document(end);
        self.num_real_tokens = end as i32;
        signs >= 0
    }

    /// Makes the rest of the row a document without trained tokens.
    pub(super) fn pad(&mut self) {
        if (self.num_real_tokens as usize) < self.tokens.len() {
            self.close_document(self.tokens.len());
        }
    }

    fn close_document(&mut self, end: usize) {
        let start = self.cu_seqlens.last().map_or(0, |start| *start as usize);
        for (position, place) in self.position_ids[start..end].iter_mut().zip(0..) {
            *position = place;
        }
        self.cu_seqlens.push(end as i32);
        self.max_seqlen = self.max_seqlen.max((end - start) as i32);
    }
}

/// A chunk of 4 bytes as a token id.
pub(super) fn le_i32(chunk: &[u8]) -> i32 {
    chunk.first_chunk().map_or(0, |bytes| i32::from_le_bytes(*bytes))
}
