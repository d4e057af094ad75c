//! The class of every code point: letter, number, white space, and what canonical composition may touch.

use std::sync::LazyLock;

use super::unicode_ranges::{LETTER as LETTERS, NUMBER as NUMBERS, SPACE as SPACES, UNSTABLE as UNSTABLES};

/// `\p{L}`.
pub(super) const LETTER: u8 = 1;
/// `\p{N}`.
pub(super) const NUMBER: u8 = 2;
/// `\s`.
pub(super) const SPACE: u8 = 4;
/// May change under NFC, or makes its neighbours change. Text without such characters is its own NFC.
pub(super) const UNSTABLE: u8 = 8;

const NUM_CODE_POINTS: usize = char::MAX as usize + 1;

/// One byte per code point: 1.1 MB, of which a text touches a few cache lines.
static CLASSES: LazyLock<Box<[u8]>> = LazyLock::new(|| {
    let mut classes = vec![0; NUM_CODE_POINTS];
    for (ranges, class) in [(LETTERS, LETTER), (NUMBERS, NUMBER), (SPACES, SPACE), (UNSTABLES, UNSTABLE)] {
        for range in ranges.chunks_exact(2) {
            for entry in &mut classes[range[0] as usize..range[1] as usize] {
                *entry |= class;
            }
        }
    }
    classes.into_boxed_slice()
});

/// Looks up classes; a copy of the reference saves the check that the table exists.
#[derive(Clone, Copy)]
pub(super) struct Classes(&'static [u8]);

impl Classes {
    /// The table, which the first call fills.
    pub(super) fn get() -> Self {
        Self(&CLASSES)
    }

    /// The union of the classes that `character` belongs to.
    #[inline]
    pub(super) fn of(self, character: char) -> u8 {
        self.0[character as usize]
    }
}

/// Classes of `character` as the bits 1 (`\p{L}`), 2 (`\p{N}`), 4 (`\s`) and 8 (NFC may change it).
///
/// Only the tests that compare the tables with their sources need it.
#[doc(hidden)]
pub fn classes_of(character: char) -> u8 {
    Classes::get().of(character)
}
