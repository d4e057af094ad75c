//! Rows of the input files, read in blocks of bounded size.
//!
//! Reading is cheap and done by one thread at a time; finding the lines of a block and parsing them is done by the
//! worker that takes it.

mod block;
mod column;
mod fields;
mod hashes;
mod input;
mod jsonl;
mod table;

pub use block::{Chunk, ChunkReader, Limits, Line, Position};
pub(crate) use fields::kind;
pub use fields::{Answer, Fields};
pub use hashes::Hashes;
pub(crate) use input::sha256_of_file;
pub use input::{resolve, Format, Input};
#[doc(hidden)]
pub use jsonl::parse_line;

use crate::error::Error;
use crate::reason::{Reason, Rejection};

/// A rejection of the row as a whole.
fn reject<T>(reason: Reason, detail: impl Into<String>) -> std::result::Result<T, Rejection> {
    Err(Rejection { reason, detail: detail.into(), id: None })
}

fn unreadable(path: &std::path::Path, error: impl std::fmt::Display) -> Error {
    Error::input(path, format!("cannot be read: {error}"))
}
