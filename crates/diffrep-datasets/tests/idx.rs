//! IDX files: what is written is read, and what is damaged is named.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use diffrep_datasets::DatasetError;
use diffrep_datasets::idx::{Idx, read_idx, write_idx_gz};
use proptest::prelude::*;
use tempfile::TempDir;

/// A 2x3 array of bytes, plain.
const SMALL: [u8; 18] = [0, 0, 8, 2, 0, 0, 0, 2, 0, 0, 0, 3, 1, 2, 3, 4, 5, 6];

fn file(content: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small-idx");
    fs::write(&path, content).unwrap();
    (folder, path)
}

fn error_of(content: &[u8]) -> DatasetError {
    let (_folder, path) = file(content);
    let error = read_idx::<u8>(&path).unwrap_err();
    assert!(error.to_string().contains("small-idx"), "{error}");
    error
}

fn gzipped(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

proptest! {
    #[test]
    fn bytes_round_trip(dims in prop::collection::vec(0_usize..5, 1..5), fill in any::<u8>()) {
        let count = dims.iter().product();
        let array = Idx { dims, data: (0..count).map(|i| fill.wrapping_add(i as u8)).collect() };
        let (_folder, path) = file(&[]);
        write_idx_gz(&path, &array).unwrap();
        prop_assert_eq!(read_idx::<u8>(&path).unwrap(), array);
    }

    #[test]
    fn integers_round_trip(data in prop::collection::vec(any::<i32>(), 0..50)) {
        let array = Idx { dims: vec![data.len()], data };
        let (_folder, path) = file(&[]);
        write_idx_gz(&path, &array).unwrap();
        prop_assert_eq!(read_idx::<i32>(&path).unwrap(), array);
    }

    #[test]
    fn arbitrary_bytes_never_panic(content in prop::collection::vec(any::<u8>(), 0..64)) {
        let (_folder, path) = file(&content);
        let _ = read_idx::<u8>(&path);
        let (_folder, path) = file(&[[0, 0, 8].as_slice(), &content].concat());
        let _ = read_idx::<u8>(&path);
    }
}

#[test]
fn plain_and_gzipped_content_read_the_same_whatever_the_name() {
    let expected = Idx {
        dims: vec![2, 3],
        data: vec![1, 2, 3, 4, 5, 6],
    };
    let (_folder, plain) = file(&SMALL);
    assert_eq!(read_idx::<u8>(&plain).unwrap(), expected);
    let (_folder, packed) = file(&gzipped(&SMALL));
    assert_eq!(read_idx::<u8>(&packed).unwrap(), expected);
}

#[test]
fn writing_twice_gives_the_same_bytes_without_a_time() {
    let array = Idx {
        dims: vec![1_000],
        data: (0..1_000).collect::<Vec<i32>>(),
    };
    let (_folder, path) = file(&[]);
    write_idx_gz(&path, &array).unwrap();
    let first = fs::read(&path).unwrap();
    write_idx_gz(&path, &array).unwrap();
    assert_eq!(fs::read(&path).unwrap(), first);
    assert_eq!(first[4..8], [0; 4], "the time stamp is zero");
}

#[test]
fn missing_bytes_are_counted() {
    for cut in [0, 3, 7, 17] {
        let error = error_of(&SMALL[..cut]);
        let DatasetError::Truncated {
            found, expected, ..
        } = error
        else {
            panic!("cut at {cut}: {error:?}");
        };
        assert_eq!(found, cut as u64);
        assert!(expected > found);
    }
    let packed = gzipped(&SMALL);
    let error = error_of(&packed[..packed.len() - 12]);
    assert!(
        matches!(error, DatasetError::Truncated { expected: 18, .. }),
        "{error:?}"
    );
}

#[test]
fn surplus_bytes_are_an_error() {
    let error = error_of(&[SMALL.as_slice(), &[7]].concat());
    assert!(
        matches!(error, DatasetError::TrailingBytes { expected: 18, .. }),
        "{error:?}"
    );
}

#[test]
fn other_files_and_types_are_told_apart() {
    let error = error_of(b"\x89PNG....");
    assert!(
        matches!(error, DatasetError::WrongMagic { .. }),
        "{error:?}"
    );
    let error = error_of(&[0, 0, 0x0d, 1, 0, 0, 0, 0]);
    assert!(
        matches!(
            error,
            DatasetError::WrongType {
                expected: 8,
                found: 13,
                ..
            }
        ),
        "{error:?}"
    );
}

#[test]
fn a_header_that_promises_too_much_takes_no_memory() {
    let mut content = vec![0, 0, 8, 4];
    content.extend([0xff; 16]);
    let error = error_of(&content);
    assert!(
        matches!(
            error,
            DatasetError::IdxTooLarge {
                promised: u64::MAX,
                ..
            }
        ),
        "{error:?}"
    );
    assert!(error.to_string().contains("idx::MAX_BYTES"), "{error}");
}

#[test]
fn damaged_compression_names_the_file() {
    // The checksum at the end: what is damaged inside shows differently in each decompressor.
    let mut packed = gzipped(SMALL.as_slice());
    let end = packed.len();
    packed[end - 8..end - 4].fill(0xff);
    let error = error_of(&packed);
    assert!(
        matches!(
            error,
            DatasetError::Io {
                action: "decompressed",
                ..
            }
        ),
        "{error:?}"
    );
}
