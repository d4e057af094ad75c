//! What one thread keeps between texts.

use super::long::LongWords;
use super::short::ShortWords;

/// What one thread remembers between calls of [`super::Encoder::encode`]. It makes encoding fast and never changes ids.
pub struct Scratch {
    /// The encoder that the words' ids come from.
    owner: u64,
    pub(super) short: ShortWords,
    pub(super) long: LongWords,
    /// Ids of one word, before they are remembered.
    pub(super) fresh: Vec<u32>,
}

impl Scratch {
    /// Room for words and their ids in at most about `max_bytes` bytes; it is taken only as words come.
    pub fn new(max_bytes: usize) -> Self {
        let max_bytes = max_bytes.min(1 << 31);
        let short = max_bytes / 4 * 3;
        Self { owner: 0, short: ShortWords::new(short), long: LongWords::new(max_bytes - short), fresh: Vec::new() }
    }

    /// Forgets the words of another encoder.
    pub(super) fn belong_to(&mut self, encoder: u64) {
        if self.owner != encoder {
            self.short.clear();
            self.long.clear();
            self.owner = encoder;
        }
    }
}

impl Default for Scratch {
    /// With 64 MiB.
    fn default() -> Self {
        Self::new(64 << 20)
    }
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scratch").field("owner", &self.owner).finish_non_exhaustive()
    }
}
