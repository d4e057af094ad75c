//! Words that are found but whose ids are not looked up yet, so that the memory that holds them arrives meanwhile.

use super::short::Key;

/// Words that wait before they are looked up. Fewer do not hide the way to the main memory, more push each other's ids
/// out of the nearest cache.
const WAITING: u32 = 32;
/// A power of two with room for those, and for the words of one window.
const ROOM: usize = 128;

/// A word on its way.
#[derive(Clone, Copy)]
pub(super) struct Word {
    pub(super) key: Key,
    pub(super) hash: u32,
    /// Where it ends in the text; it begins where the one before ends.
    pub(super) end: u32,
}

/// A queue of words; all of a text go through it in order.
pub(super) struct Ahead {
    words: [Word; ROOM],
    first: u32,
    next: u32,
}

impl Ahead {
    pub(super) fn new() -> Self {
        Self { words: [Word { key: Key::NONE, hash: 0, end: 0 }; ROOM], first: 0, next: 0 }
    }

    /// Adds a word; at most as many as a window has may be added before the next call of [`Self::take`].
    #[inline]
    pub(super) fn push(&mut self, word: Word) {
        self.words[self.next as usize % ROOM] = word;
        self.next = self.next.wrapping_add(1);
    }

    /// The oldest word, if it has waited long enough.
    #[inline]
    pub(super) fn take(&mut self) -> Option<Word> {
        self.take_of_more_than(WAITING)
    }

    /// The oldest word.
    pub(super) fn take_any(&mut self) -> Option<Word> {
        self.take_of_more_than(0)
    }

    #[inline]
    fn take_of_more_than(&mut self, waiting: u32) -> Option<Word> {
        if self.next.wrapping_sub(self.first) <= waiting {
            return None;
        }
        let word = self.words[self.first as usize % ROOM];
        self.first = self.first.wrapping_add(1);
        Some(word)
    }
}
