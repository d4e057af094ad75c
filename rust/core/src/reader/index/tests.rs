use super::*;

/// Index bytes for documents given by the lengths of their sequences.
pub(crate) fn index_bytes(documents: &[&[i32]]) -> Vec<u8> {
    let lengths: Vec<i32> = documents.concat();
    let mut bytes = MAGIC.to_vec();
    bytes.extend(1u64.to_le_bytes());
    bytes.push(4);
    bytes.extend((lengths.len() as u64).to_le_bytes());
    bytes.extend((documents.len() as u64 + 1).to_le_bytes());
    bytes.extend(lengths.iter().flat_map(|length| length.to_le_bytes()));
    let mut pointer = 0i64;
    for length in &lengths {
        bytes.extend(pointer.to_le_bytes());
        pointer += i64::from(*length) * 4;
    }
    let mut first = 0i64;
    bytes.extend(first.to_le_bytes());
    for document in documents {
        first += document.len() as i64;
        bytes.extend(first.to_le_bytes());
    }
    bytes
}

fn open(bytes: &[u8], bin_bytes: u64) -> Result<Index<&[u8]>> {
    Index::new(Path::new("folder/samples-00003.idx"), bytes, bin_bytes)
}

// Sequences of 3 2 | 1 2 1 1 | 1 1 tokens, 12 in all. Lengths are at 34..66, pointers at 66..130, documents at 130..162.
const DOCUMENTS: [&[i32]; 3] = [&[3, 2], &[1, 2, 1, 1], &[1, 1]];

#[test]
fn documents_and_counts() {
    let bytes = index_bytes(&DOCUMENTS);
    let index = open(&bytes, 48).unwrap();
    assert_eq!(index.counts(), Counts { num_samples: 3, tokens: 12, trained_tokens: 6 });
    let mut lengths = Vec::new();
    index.for_each_length(|tokens, trained| lengths.push((tokens, trained)));
    assert_eq!(lengths, [(5, 2), (5, 3), (2, 1)]);
    for (number, (start, sequences)) in [(0, vec![3, 2]), (5, vec![1, 2, 1, 1]), (10, vec![1, 1])].iter().enumerate() {
        let (found, lengths) = index.document(number);
        assert_eq!((found, lengths.collect::<Vec<_>>()), (*start, sequences.clone()));
    }
}

#[test]
fn every_lie_is_named_with_file_and_remedy() {
    let good = index_bytes(&DOCUMENTS);
    let u64_at = |offset: usize, value: u64| (offset, value.to_le_bytes().to_vec());
    let i32_at = |offset: usize, value: i32| (offset, value.to_le_bytes().to_vec());
    let mut rewired = DOCUMENTS;
    rewired[1] = &[1, 2, 1];
    let odd = index_bytes(&[&rewired[..], &[&[1]]].concat()[..3]);
    assert!(open(&odd, 44).unwrap_err().to_string().contains("document 1 does not alternate"));
    for ((offset, value), expected) in [
        ((0, b"X".to_vec()), "magic \"XMIDIDX\\x00\\x00\" at offset 0"),
        (u64_at(9, 2), "version 2 at 9"),
        ((17, vec![8]), "type 8 at 17"),
        (u64_at(18, 9), "announces 174 bytes (9 sequences at offset 18"),
        (u64_at(18, u64::MAX), "18446744073709551615 sequences"),
        (u64_at(18, 1 << 63), "9223372036854775808 sequences"),
        (u64_at(26, 3), "announces 154 bytes"),
        (u64_at(26, u64::MAX), "18446744073709551615 entries"),
        (i32_at(34, -3), "sequence 0 has a length of -3"),
        (i32_at(34, i32::MIN), "sequence 0 has a length of -2147483648"),
        (i32_at(38, 0), "sequence 1 has a length of 0"),
        (i32_at(34, 2), "sequence 1 begins at byte 12, expected 8"),
        (i32_at(62, 2), "take 52 bytes, but the .bin file has 48"),
        (u64_at(66, 4), "sequence 0 begins at byte 4, expected 0"),
        (u64_at(66 + 8, 8), "sequence 1 begins at byte 8, expected 12"),
        (u64_at(66 + 56, u64::MAX), "sequence 7 begins at byte -1"),
        (u64_at(66 + 56, 1 << 62), "sequence 7 begins at byte"),
        (u64_at(130, 2), "do not cover its sequences: they go from 2 to 8 of 8"),
        (u64_at(130 + 24, 10), "they go from 0 to 10 of 8"),
        (u64_at(130 + 8, 3), "document 0 does not alternate masked and trained sequences: it has 3"),
        (u64_at(130 + 8, 0), "document 0 does not alternate"),
        (u64_at(130 + 16, 0), "document 1 does not alternate masked and trained sequences: it has -2"),
        (u64_at(130 + 8, u64::MAX - 1), "document 0 does not alternate"),
        (
            u64_at(130 + 8, 10),
            "document 0 does not alternate masked and trained sequences: it has 10 of them, 8 are left",
        ),
    ] {
        let mut bytes = good.clone();
        bytes[offset..offset + value.len()].copy_from_slice(&value);
        let message = open(&bytes, 48).unwrap_err().to_string();
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(message.starts_with("folder/samples-00003.idx: damaged index: "), "{message}");
        assert!(message.contains("tools/build_shards"), "{message}");
    }
}

#[test]
fn no_cut_of_the_file_is_taken() {
    let good = index_bytes(&DOCUMENTS);
    for size in 0..good.len() {
        let message = open(&good[..size], 48).unwrap_err().to_string();
        assert!(message.contains(&format!("{size} bytes")) || message.contains(&format!("has {size}")), "{message}");
    }
    assert!(open(&[&good[..], &[0]].concat(), 48).is_err());
    assert!(open(&index_bytes(&[]), 0).unwrap_err().to_string().contains("1 entries for documents"));
    for bin_bytes in [0, 47, 49, u64::MAX] {
        assert!(open(&good, bin_bytes).unwrap_err().to_string().contains(&format!(".bin file has {bin_bytes}")));
    }
}

#[test]
fn no_changed_byte_makes_it_panic() {
    let good = index_bytes(&DOCUMENTS);
    let mut refused = 0;
    for place in 0..good.len() {
        for flip in [1, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[place] ^= flip;
            refused += usize::from(open(&bytes, 48).is_err());
        }
    }
    assert_eq!(refused, 3 * good.len());
}

#[test]
fn a_document_longer_than_31_bits_is_refused() {
    let bytes = index_bytes(&[&[i32::MAX, 1]]);
    let message = open(&bytes, 4 << 31).unwrap_err().to_string();
    assert!(message.contains("document 0 has 2147483648 tokens"), "{message}");
    // A length that no memory could hold is fine as long as the file were that long: nothing is allocated for it.
    let bytes = index_bytes(&[&[i32::MAX - 1, 1], &[i32::MAX - 1, 1]]);
    assert_eq!(open(&bytes, 8 * i32::MAX as u64).unwrap().counts().tokens, 2 * i32::MAX as u64);
}
