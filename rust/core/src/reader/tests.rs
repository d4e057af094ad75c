use super::index::tests::index_bytes;
use super::*;

/// Writes shard `number` from documents of sequences of tokens.
fn write_shard(folder: &Path, number: usize, documents: &[&[&[i32]]]) -> String {
    let prefix = format!("samples-{number:05}");
    let lengths: Vec<Vec<i32>> =
        documents.iter().map(|document| document.iter().map(|sequence| sequence.len() as i32).collect()).collect();
    let lengths: Vec<&[i32]> = lengths.iter().map(Vec::as_slice).collect();
    let tokens = documents.iter().flat_map(|document| document.concat()).flat_map(i32::to_le_bytes);
    std::fs::write(folder.join(format!("{prefix}.bin")), tokens.collect::<Vec<u8>>()).unwrap();
    std::fs::write(folder.join(format!("{prefix}.idx")), index_bytes(&lengths)).unwrap();
    prefix
}

/// Two shards: samples 1 2 3 | 4 5 and 6 | 7 8 | 9 | 10, then 11 | 12.
fn two_shards() -> (tempfile::TempDir, ShardSet) {
    let folder = tempfile::tempdir().unwrap();
    let prefixes = [
        write_shard(folder.path(), 0, &[&[&[1, 2, 3], &[4, 5]], &[&[6], &[7, 8], &[9], &[10]]]),
        write_shard(folder.path(), 1, &[&[&[11], &[12]]]),
    ];
    let set = ShardSet::open(folder.path(), &prefixes).unwrap();
    (folder, set)
}

#[test]
fn samples_count_through_the_shards() {
    let (_folder, set) = two_shards();
    assert_eq!(set.num_samples(), 3);
    assert_eq!((set.lengths(), set.trained_lengths()), (vec![5, 5, 2], vec![2, 3, 1]));
    let counts: Vec<Counts> = set.counts().collect();
    assert_eq!(counts[0], Counts { num_samples: 2, tokens: 10, trained_tokens: 5 });
    assert_eq!(counts[1], Counts { num_samples: 1, tokens: 2, trained_tokens: 1 });
    assert_eq!(set.sample(0).unwrap(), (vec![1, 2, 3, 4, 5], vec![0, 0, 0, 1, 1]));
    assert_eq!(set.sample(1).unwrap(), (vec![6, 7, 8, 9, 10], vec![0, 1, 1, 0, 1]));
    assert_eq!(set.sample(2).unwrap(), (vec![11, 12], vec![0, 1]));
    for number in [3, u64::MAX] {
        assert!(set.sample(number).unwrap_err().to_string().contains("there are 3"));
    }
}

#[test]
fn a_row_has_labels_weights_positions_and_boundaries() {
    let (_folder, set) = two_shards();
    let row = set.fill_row(&[2, 1], Some(9), &[0.5, 0.25]).unwrap();
    let expected = Row {
        tokens: vec![11, 12, 6, 7, 8, 9, 10, 0, 0],
        labels: vec![12, 0, 7, 8, 0, 10, 0, 0, 0],
        loss_weights: vec![0.5, 0.0, 0.25, 0.25, 0.0, 0.25, 0.0, 0.0, 0.0],
        position_ids: vec![0, 1, 0, 1, 2, 3, 4, 0, 1],
        cu_seqlens: vec![0, 2, 7, 9],
        max_seqlen: 5,
        num_real_tokens: 7,
    };
    assert_eq!(row, expected);
    assert_eq!(set.fill_row(&[0], Some(5), &[1.0]).unwrap().cu_seqlens, [0, 5], "no padding, no document for it");
    assert_eq!(set.fill_row(&[0, 0], None, &[1.0; 2]).unwrap().tokens.len(), 10);
}

#[test]
fn a_row_without_samples_is_padding() {
    let (_folder, set) = two_shards();
    for (row_length, total) in [(None, 1), (Some(3), 3)] {
        let row = set.fill_row(&[], row_length, &[]).unwrap();
        assert_eq!((row.cu_seqlens, row.max_seqlen, row.num_real_tokens), (vec![0, total], total, 0));
        assert_eq!(row.position_ids, (0..i64::from(total)).collect::<Vec<_>>());
        assert_eq!(row.loss_weights, vec![0.0; total as usize]);
    }
}

#[test]
fn rows_that_cannot_be() {
    let (_folder, set) = two_shards();
    let message = |samples: &[i64], row_length, weights: &[f32]| {
        set.fill_row(samples, row_length, weights).unwrap_err().to_string()
    };
    assert!(message(&[0], Some(4), &[1.0]).contains("1 samples of 5 tokens do not fit into a row of 4"));
    assert!(message(&[], Some(0), &[]).contains("a row of 0"));
    assert!(message(&[0], Some(1 << 31), &[1.0]).contains("a row of 2147483648"));
    assert!(message(&[0], None, &[]).contains("0 weights for 1 samples"));
    for number in [3, -1, i64::MIN, i64::MAX] {
        assert!(message(&[0, number], None, &[1.0; 2]).contains(&format!("sample {number}: there are 3")));
    }
}

#[test]
fn damage_of_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = [write_shard(folder.path(), 0, &[&[&[1], &[-2]]])];
    let set = ShardSet::open(folder.path(), &prefix).unwrap();
    let message = set.fill_row(&[0], None, &[1.0]).unwrap_err().to_string();
    assert!(message.contains("samples-00000.bin: damaged: sample 0 has a negative token id"), "{message}");
    std::fs::write(folder.path().join("samples-00000.bin"), [0; 4]).unwrap();
    let message = ShardSet::open(folder.path(), &prefix).unwrap_err().to_string();
    assert!(message.contains("take 8 bytes, but the .bin file has 4"), "{message}");
    std::fs::remove_file(folder.path().join("samples-00000.bin")).unwrap();
    assert!(ShardSet::open(folder.path(), &prefix).unwrap_err().to_string().contains("samples-00000.bin: cannot open"));
}
