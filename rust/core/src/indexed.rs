//! Megatron-Core's `IndexedDataset`: `samples.bin` with the ids of all sequences one after the other, and `samples.idx`
//! which says where each begins and which of them make a document. `docs/shard-format.md` has the byte tables.

use crate::error::Result;
use crate::output::OutputFile;

const MAGIC: &[u8; 9] = b"MMIDIDX\0\0";
const VERSION: u64 = 1;
/// Megatron's code for int32.
const DTYPE_INT32: u8 = 4;
const BYTES_PER_TOKEN: i64 = 4;

/// Writes documents of two sequences each, masked then trained.
#[derive(Debug)]
pub struct IndexedWriter {
    bin: OutputFile,
    /// Tokens of each sequence; the one thing that grows with the data, by 8 bytes a sample.
    sequence_lengths: Vec<i32>,
}

impl IndexedWriter {
    /// Starts with no documents; `bin` receives the ids.
    pub fn new(bin: OutputFile) -> Self {
        Self { bin, sequence_lengths: Vec::new() }
    }

    /// Appends a document: `prompt` is sequence 0, masked; `response` is sequence 1, trained.
    pub fn write(&mut self, prompt: &[u32], response: &[u32]) -> Result<()> {
        for sequence in [prompt, response] {
            // Ids and lengths fit: a vocabulary or sample of 2^31 is refused long before.
            self.sequence_lengths.push(i32::try_from(sequence.len()).expect("sequence length fits in int32"));
            let bytes: Vec<u8> = sequence.iter().flat_map(|id| id.to_le_bytes()).collect();
            self.bin.write(&bytes)?;
        }
        Ok(())
    }

    /// Writes the index and returns both files, complete but not yet in place.
    pub fn finish(self, mut idx: OutputFile) -> Result<(OutputFile, OutputFile)> {
        let num_sequences = self.sequence_lengths.len() as u64;
        let num_documents = num_sequences / 2;
        idx.write(MAGIC)?;
        idx.write(&VERSION.to_le_bytes())?;
        idx.write(&[DTYPE_INT32])?;
        idx.write(&num_sequences.to_le_bytes())?;
        // The list of documents starts with an entry 0, so it is one longer than there are documents.
        idx.write(&(num_documents + 1).to_le_bytes())?;
        for length in &self.sequence_lengths {
            idx.write(&length.to_le_bytes())?;
        }
        let mut pointer = 0i64;
        for length in &self.sequence_lengths {
            idx.write(&pointer.to_le_bytes())?;
            pointer += i64::from(*length) * BYTES_PER_TOKEN;
        }
        for document in 0..=num_documents {
            idx.write(&(2 * document).to_le_bytes())?;
        }
        Ok((self.bin, idx))
    }
}
