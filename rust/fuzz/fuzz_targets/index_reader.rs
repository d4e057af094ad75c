//! The index of a shard: bytes are either refused, or every document lies inside the `.bin` file.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use megatron_sft_core::reader::Index;

/// Bytes of the header: magic, version 1, int32; then the two counts.
const HEADER: &[u8] = b"MMIDIDX\0\0\x01\0\0\0\0\0\0\0\x04";

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else { return };
    match mode % 4 {
        0 => check(rest, u64::from(*mode) << 24),
        1 => check(&announced(rest), total_bytes(rest)),
        2 => check(&one_after_the_other(rest).0, one_after_the_other(rest).1 ^ u64::from(mode / 128)),
        _ => {
            // A valid index with one byte changed: (place, flip), then lengths.
            let Some((&[low, high, flip], lengths)) = rest.split_first_chunk() else { return };
            let (mut bytes, bin_bytes) = one_after_the_other(lengths);
            let place = usize::from(u16::from_le_bytes([low, high])) % bytes.len();
            bytes[place] ^= flip;
            check(&bytes, bin_bytes);
        }
    }
});

fn check(bytes: &[u8], bin_bytes: u64) {
    let Ok(index) = Index::new(Path::new("fuzz.idx"), bytes, bin_bytes) else { return };
    let counts = index.counts();
    let mut lengths = Vec::new();
    index.for_each_length(|tokens, trained| lengths.push((u64::from(tokens), u64::from(trained))));
    assert_eq!(lengths.len() as u64, counts.num_samples);
    assert_eq!(counts.tokens * 4, bin_bytes);
    assert_eq!(counts.trained_tokens, lengths.iter().map(|(_, trained)| trained).sum::<u64>());
    let mut place = 0;
    for (number, (tokens, trained)) in lengths.into_iter().enumerate() {
        let (start, sequences) = index.document(number);
        let sequences: Vec<usize> = sequences.collect();
        assert_eq!(start as u64, place);
        assert!(sequences.len() >= 2 && sequences.len() % 2 == 0 && sequences.iter().all(|length| *length > 0));
        assert_eq!(sequences.iter().sum::<usize>() as u64, tokens);
        assert_eq!(sequences.iter().skip(1).step_by(2).sum::<usize>() as u64, trained);
        place += tokens;
    }
    assert_eq!(place, counts.tokens);
}

/// A header whose counts agree with the size, before arbitrary tables.
fn announced(tables: &[u8]) -> Vec<u8> {
    let num_sequences = tables.len() / 16;
    let num_entries = (tables.len() - 12 * num_sequences) / 8;
    let mut bytes = HEADER.to_vec();
    bytes.extend((num_sequences as u64).to_le_bytes());
    bytes.extend((num_entries as u64).to_le_bytes());
    bytes.extend(&tables[..12 * num_sequences + 8 * num_entries]);
    bytes
}

fn total_bytes(tables: &[u8]) -> u64 {
    let lengths = tables[..tables.len() / 16 * 4].chunks_exact(4);
    lengths.map(|chunk| 4 * u64::from(u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]))).sum()
}

/// A valid index: a byte for each sequence, its length in the low bits, the end of a document in the highest.
fn one_after_the_other(bytes: &[u8]) -> (Vec<u8>, u64) {
    let mut lengths: Vec<u32> = bytes.iter().map(|byte| u32::from(byte & 0x7f) + 1).collect();
    let mut ends: Vec<u64> = (0..)
        .zip(bytes)
        .filter(|(place, byte)| place % 2 == 1 && *byte & 0x80 != 0)
        .map(|(place, _)| place + 1)
        .collect();
    lengths.truncate(ends.last().map_or(0, |end| *end as usize));
    if lengths.is_empty() {
        (lengths, ends) = (vec![1, 1], vec![2]);
    }
    let mut index = HEADER.to_vec();
    index.extend((lengths.len() as u64).to_le_bytes());
    index.extend((ends.len() as u64 + 1).to_le_bytes());
    index.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
    let mut place = 0u64;
    for length in &lengths {
        index.extend(place.to_le_bytes());
        place += 4 * u64::from(*length);
    }
    index.extend(std::iter::once(0).chain(ends).flat_map(u64::to_le_bytes));
    (index, place)
}
