//! Rows that say what an earlier row said already, exactly or nearly.

mod near;
mod signature;

pub use near::{NearDuplicates, DEFAULT_THRESHOLD};
pub use signature::{Signature, SIGNATURE_BYTES};

use xxhash_rust::xxh3::Xxh3;

/// Hash of a row's text. Two rows with equal hashes are the same row: in a corpus of a billion rows the chance that
/// any two others meet is 10^-21.
///
/// The lengths are hashed too, so `("ab", "c")` and `("a", "bc")` differ.
pub fn content_hash(prompt: &str, response: &str) -> u128 {
    let mut hash = Xxh3::new();
    for part in [prompt, response] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hash.digest128()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_and_every_byte_count() {
        let mut hashes: Vec<u128> = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("ab", "C"), ("", "")]
            .iter()
            .map(|(prompt, response)| content_hash(prompt, response))
            .collect();
        assert_eq!(content_hash("ab", "c"), hashes[0]);
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 6);
    }

    #[test]
    fn the_hash_never_changes() {
        // xxh3 of 8 + 1 + 8 + 1 bytes; stored in the state of interrupted builds.
        assert_eq!(format!("{:032x}", content_hash("a", "b")), "4e8071d3974d16754bcb794c7d699bd6");
    }
}
