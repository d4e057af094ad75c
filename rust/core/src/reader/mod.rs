//! Reading shards for training: mapped into memory, checked when opened, samples laid out as rows.
//!
//! Opening reads the index tables once (32 bytes a sample of two sequences) and copies nothing, so millions of samples
//! take a fraction of a second. The manifest is not read here: it belongs to the caller.

mod index;
mod row;

use std::path::{Path, PathBuf};

pub use index::{Counts, Index};
pub use row::Row;

use crate::error::{Error, Result};
use crate::mmap::MappedFile;
use row::le_i32;

/// Several shards of one folder as one list of samples.
#[derive(Debug)]
pub struct ShardSet {
    shards: Vec<Shard>,
    /// Number of the first sample of each shard, then the number of all samples.
    starts: Vec<u64>,
}

#[derive(Debug)]
struct Shard {
    bin_path: PathBuf,
    tokens: MappedFile,
    index: Index<MappedFile>,
}

impl ShardSet {
    /// Maps and checks `PREFIX.bin` and `PREFIX.idx` in `folder` for each prefix; samples count through them in order.
    ///
    /// Fails with [`Error::Io`] for a file that cannot be read, and with [`Error::Shards`] for one that is damaged.
    pub fn open(folder: &Path, prefixes: &[String]) -> Result<Self> {
        let mut shards = Vec::with_capacity(prefixes.len());
        let mut starts = vec![0];
        let mut num_samples = 0;
        for prefix in prefixes {
            let (bin_path, idx_path) = (folder.join(format!("{prefix}.bin")), folder.join(format!("{prefix}.idx")));
            let tokens = MappedFile::open(&bin_path)?;
            let index = Index::new(&idx_path, MappedFile::open(&idx_path)?, tokens.as_ref().len() as u64)?;
            num_samples += index.counts().num_samples;
            starts.push(num_samples);
            shards.push(Shard { bin_path, tokens, index });
        }
        Ok(Self { shards, starts })
    }

    /// Samples of all shards.
    pub fn num_samples(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// What each shard holds, in order.
    pub fn counts(&self) -> impl Iterator<Item = Counts> + '_ {
        self.shards.iter().map(|shard| shard.index.counts())
    }

    /// Tokens of each sample.
    pub fn lengths(&self) -> Vec<i64> {
        self.collect_lengths(|tokens, _| tokens)
    }

    /// Trained tokens of each sample.
    pub fn trained_lengths(&self) -> Vec<i64> {
        self.collect_lengths(|_, trained| trained)
    }

    /// Tokens of a sample, and for each 1 where it belongs to a trained sequence.
    ///
    /// Fails with [`Error::Data`] when there is no such sample.
    pub fn sample(&self, number: u64) -> Result<(Vec<i32>, Vec<u8>)> {
        let (shard, document) = self.find(number)?;
        let (start, sequences) = shard.index.document(document);
        let mut trained = Vec::new();
        for (place, length) in sequences.enumerate() {
            trained.resize(trained.len() + length, (place % 2) as u8);
        }
        Ok((shard.bytes(start, trained.len()).chunks_exact(4).map(le_i32).collect(), trained))
    }

    /// Lays samples one after the other into a row of `row_length` places; None for as many as they have tokens (one
    /// place of padding when there are none). `token_weights` has for each of them the weight of its trained tokens.
    ///
    /// Fails with [`Error::Data`] for a sample that does not exist, another number of weights than samples, or a row that
    /// is too short or longer than 2^31 - 1; with [`Error::Shards`] for a negative token id.
    pub fn fill_row(&self, samples: &[i64], row_length: Option<u64>, token_weights: &[f32]) -> Result<Row> {
        if samples.len() != token_weights.len() {
            return Err(Error::Data(format!("{} weights for {} samples", token_weights.len(), samples.len())));
        }
        let mut documents = Vec::with_capacity(samples.len());
        let mut num_tokens = 0;
        for number in samples {
            // A negative number becomes one that is far too large.
            let (shard, document) = self.find(*number as u64)?;
            let (start, sequences) = shard.index.document(document);
            let length = sequences.clone().sum::<usize>();
            num_tokens += length as u64;
            documents.push((shard, start, length, sequences));
        }
        let total = row_length.unwrap_or(num_tokens.max(1));
        if total > i32::MAX as u64 || total == 0 || num_tokens > total {
            return Err(Error::Data(format!(
                "{} samples of {num_tokens} tokens do not fit into a row of {total}: a row has 1 to {} tokens",
                samples.len(),
                i32::MAX
            )));
        }
        let mut row = Row::zeros(total as usize);
        for ((number, weight), (shard, start, length, sequences)) in samples.iter().zip(token_weights).zip(documents) {
            if !row.append(shard.bytes(start, length), sequences, *weight) {
                let what = format!("damaged: sample {number} has a negative token id; {}", index::REBUILD);
                return Err(Error::shards(&shard.bin_path, what));
            }
        }
        row.pad();
        Ok(row)
    }

    /// The shard that holds a sample, and its number there.
    fn find(&self, number: u64) -> Result<(&Shard, usize)> {
        let shard = self.starts.partition_point(|start| *start <= number);
        match (self.shards.get(shard.wrapping_sub(1)), self.starts.get(shard.wrapping_sub(1))) {
            (Some(shard), Some(start)) => Ok((shard, (number - start) as usize)),
            _ => Err(Error::Data(format!("sample {}: there are {}", number as i64, self.num_samples()))),
        }
    }

    fn collect_lengths(&self, choose: impl Fn(u32, u32) -> u32) -> Vec<i64> {
        let mut lengths = Vec::with_capacity(self.num_samples() as usize);
        for shard in &self.shards {
            shard.index.for_each_length(|tokens, trained| lengths.push(i64::from(choose(tokens, trained))));
        }
        lengths
    }
}

impl Shard {
    /// The bytes of `length` tokens from token `start` on.
    fn bytes(&self, start: usize, length: usize) -> &[u8] {
        &self.tokens.as_ref()[4 * start..4 * (start + length)]
    }
}

#[cfg(test)]
mod tests;
