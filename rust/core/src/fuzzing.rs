//! Doors for `rust/fuzz` to functions that are private otherwise.

use crate::rows::{self, Fields};
use crate::sample::Rejection;

/// One line of a JSON Lines file.
pub fn parse_json_line(line: &[u8]) -> std::result::Result<Fields, Rejection> {
    rows::parse_json_line(line)
}
