//! The promises of the store, kept through its public interface.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use diffrep_artifact::ArtifactError;
use diffrep_store::{
    ColumnSpec, FeatureDtype, ShardData, ShardRange, Store, StoreError, StoreSpec, StoreWriter,
};
use proptest::prelude::*;

const WIDE: &str = "t10_b07_p4";
const NARROW: &str = "t90_b24_p1";

/// 10 samples in shards of 4, 4 and 2.
fn spec(dtype: FeatureDtype) -> StoreSpec {
    StoreSpec {
        columns: vec![ColumnSpec::new(WIDE, 3), ColumnSpec::new(NARROW, 1)],
        dtype,
        tags: Vec::new(),
        samples: 10,
        shard_rows: 4,
        key: "0123abcd".into(),
        info: serde_json::json!({"model": "toy"}),
        contract: 1,
    }
}

/// A value that every type holds exactly and that no other place has.
fn value(row: usize, column: usize, index: usize) -> f32 {
    (row * 8 + column * 4 + index) as f32 * 0.5 - 7.0
}

fn data(spec: &StoreSpec, range: ShardRange) -> ShardData {
    let rows = range.start..range.end;
    ShardData {
        ids: rows.clone().map(|row| 1000 + row as u64).collect(),
        labels: rows.clone().map(|row| row as i64 % 3 - 1).collect(),
        tags: (1..=spec.tags.len() as i64)
            .map(|tag| rows.clone().map(|row| row as i64 % 5 - tag).collect())
            .collect(),
        columns: (0..spec.columns.len())
            .map(|column| {
                rows.clone()
                    .flat_map(|row| {
                        (0..spec.columns[column].dim).map(move |index| value(row, column, index))
                    })
                    .collect()
            })
            .collect(),
    }
}

fn write_missing(writer: &mut StoreWriter) {
    for range in writer.missing_shards() {
        let data = data(writer.spec(), range);
        writer.write_shard(range, &data).unwrap();
    }
}

fn write_all(dir: &Path, spec: StoreSpec) {
    let mut writer = StoreWriter::open(dir, spec).unwrap();
    write_missing(&mut writer);
    writer.finish().unwrap();
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn missing(writer: &StoreWriter) -> Vec<usize> {
    let ranges = writer.missing_shards();
    ranges.iter().map(|range| range.index).collect()
}

fn shard(dir: &Path, index: usize) -> std::path::PathBuf {
    dir.join(format!("shard-{index:05}.safetensors"))
}

#[test]
fn every_type_round_trips_in_any_order() {
    for dtype in [FeatureDtype::F32, FeatureDtype::F16, FeatureDtype::Bf16] {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path(), spec(dtype));
        let store = Store::open(dir.path()).unwrap();
        store.verify().unwrap();
        assert_eq!(store.spec(), &spec(dtype));
        assert_eq!(store.len(), 10);
        assert_eq!(store.ids(), (1000..1010).collect::<Vec<u64>>());
        assert_eq!(store.labels()[..4], [-1, 0, 1, -1]);
        for (index, name) in [(0, WIDE), (1, NARROW)] {
            let column = store.column(name).unwrap();
            let dim = column.dim();
            let all = column.to_f32();
            let rows = [9, 0, 4, 3, 3, 8];
            let mut some = vec![0.0; rows.len() * dim];
            column.read_rows(&rows, &mut some).unwrap();
            for row in 0..10 {
                for i in 0..dim {
                    assert_eq!(all[row * dim + i], value(row, index, i), "{dtype}");
                }
            }
            for (place, row) in rows.into_iter().enumerate() {
                assert_eq!(some[place * dim..][..dim], all[row * dim..][..dim]);
            }
        }
    }
}

#[test]
fn a_killed_run_resumes_to_the_same_bytes() {
    let straight = tempfile::tempdir().unwrap();
    write_all(straight.path(), spec(FeatureDtype::F16));

    let killed = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::open(killed.path(), spec(FeatureDtype::F16)).unwrap();
    let range = writer.missing_shards()[1];
    let rows = data(writer.spec(), range);
    writer.write_shard(range, &rows).unwrap();
    drop(writer);
    // What a kill in the middle of a write leaves behind.
    let temp = killed.path().join(".shard-00002.safetensors.4711.0.tmp");
    fs::write(&temp, b"half a shard").unwrap();

    let mut writer = StoreWriter::open(killed.path(), spec(FeatureDtype::F16)).unwrap();
    assert!(!temp.exists());
    assert_eq!(missing(&writer), [0, 2]);
    write_missing(&mut writer);
    writer.finish().unwrap();
    assert_eq!(files(killed.path()), files(straight.path()));

    let writer = StoreWriter::open(killed.path(), spec(FeatureDtype::F16)).unwrap();
    assert!(writer.missing_shards().is_empty());
    writer.finish().unwrap();
    assert_eq!(files(killed.path()), files(straight.path()));
}

#[test]
fn an_unfinished_store_is_refused_with_its_first_missing_shard() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::open(dir.path(), spec(FeatureDtype::F32)).unwrap();
    let range = writer.missing_shards()[0];
    let rows = data(writer.spec(), range);
    writer.write_shard(range, &rows).unwrap();
    for error in [
        writer.finish().unwrap_err(),
        Store::open(dir.path()).unwrap_err(),
    ] {
        let StoreError::Missing {
            missing: 2,
            total: 3,
            first,
        } = error
        else {
            panic!("{error:?}");
        };
        assert_eq!(first, shard(dir.path(), 1));
    }
    let error = Store::open(dir.path().join("absent")).unwrap_err();
    assert!(matches!(
        error,
        StoreError::Artifact(ArtifactError::Read { .. })
    ));
}

#[test]
fn a_manifest_that_announces_more_shards_than_a_folder_can_hold_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::F32));
    let path = dir.path().join("manifest.json");
    let mut manifest: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    manifest["spec"]["samples"] = 1_000_000_000_000_000_u64.into();
    manifest["spec"]["shard_rows"] = 1.into();
    fs::write(&path, manifest.to_string()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    let StoreError::Missing {
        missing: 999_999_999_999_997,
        total: 1_000_000_000_000_000,
        first,
    } = error
    else {
        panic!("{error:?}");
    };
    assert_eq!(first, shard(dir.path(), 3));
}

#[test]
fn another_run_may_not_use_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::F32));
    let before = files(dir.path());
    let other = StoreSpec {
        key: "ffff".into(),
        ..spec(FeatureDtype::F32)
    };
    let error = StoreWriter::open(dir.path(), other).unwrap_err();
    let StoreError::OtherRun {
        expected, found, ..
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((expected.as_str(), found.as_str()), ("ffff", "0123abcd"));
    assert_eq!(files(dir.path()), before);
}

/// A way to spoil a shard.
type Damage = fn(Vec<u8>) -> Vec<u8>;

#[test]
fn a_damaged_shard_is_named_and_written_again() {
    let damages: [Damage; 7] = [
        |bytes| bytes[..bytes.len() - 1].to_vec(),
        |bytes| bytes[..40].to_vec(),
        |bytes| bytes[..3].to_vec(),
        |_| Vec::new(),
        |mut bytes| {
            bytes.push(0);
            bytes
        },
        |mut bytes| {
            bytes[12] ^= 0xff;
            bytes
        },
        |mut bytes| {
            bytes[..8].fill(0xff);
            bytes
        },
    ];
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::Bf16));
    let whole = files(dir.path());
    let path = shard(dir.path(), 1);
    for (case, damage) in damages.into_iter().enumerate() {
        fs::write(&path, damage(whole["shard-00001.safetensors"].clone())).unwrap();
        let error = Store::open(dir.path()).unwrap_err();
        assert!(
            error.to_string().contains("shard-00001.safetensors"),
            "{case}: {error}"
        );
        assert!(
            matches!(
                error,
                StoreError::Damaged { .. } | StoreError::Mismatch { .. }
            ),
            "{case}: {error:?}"
        );
        let mut writer = StoreWriter::open(dir.path(), spec(FeatureDtype::Bf16)).unwrap();
        assert_eq!(missing(&writer), [1], "{case}");
        write_missing(&mut writer);
        writer.finish().unwrap();
        assert_eq!(files(dir.path()), whole, "{case}");
    }
}

#[test]
fn a_shard_in_the_wrong_place_or_of_another_run_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::F32));
    fs::copy(shard(dir.path(), 0), shard(dir.path(), 1)).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Mismatch { what, .. } if what == "its place"),
        "{error}"
    );

    let other = tempfile::tempdir().unwrap();
    let spec_of_other = StoreSpec {
        key: "ffff".into(),
        ..spec(FeatureDtype::F32)
    };
    write_all(other.path(), spec_of_other);
    fs::copy(shard(other.path(), 1), shard(dir.path(), 1)).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Mismatch { what, .. } if what == "the key"),
        "{error}"
    );

    // A foreign safetensors file without our metadata.
    let bytes = safetensors::serialize(
        Vec::<(String, safetensors::tensor::TensorView)>::new(),
        None,
    );
    fs::write(shard(dir.path(), 1), bytes.unwrap()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Mismatch { what, .. } if what == "its metadata"),
        "{error}"
    );
}

#[test]
fn one_flipped_bit_is_found_by_verification() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::F32));
    let path = shard(dir.path(), 2);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let error = Store::open(dir.path()).unwrap().verify().unwrap_err();
    assert!(
        matches!(&error, StoreError::Hash { path: found } if *found == path),
        "{error:?}"
    );
}

#[test]
fn a_write_that_fails_leaves_the_earlier_shards() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::open(dir.path(), spec(FeatureDtype::F32)).unwrap();
    let ranges = writer.missing_shards();
    let rows = data(writer.spec(), ranges[0]);
    writer.write_shard(ranges[0], &rows).unwrap();
    let before = files(dir.path());
    // The bytes are written, but a folder holds the final name.
    fs::create_dir(shard(dir.path(), 1)).unwrap();
    fs::write(shard(dir.path(), 1).join("x"), b"x").unwrap();
    let rows = data(writer.spec(), ranges[1]);
    let error = writer.write_shard(ranges[1], &rows).unwrap_err();
    assert!(
        matches!(error, StoreError::Artifact(ArtifactError::Write { .. })),
        "{error:?}"
    );
    assert_eq!(missing(&writer), [1, 2]);
    fs::remove_dir_all(shard(dir.path(), 1)).unwrap();
    assert_eq!(files(dir.path()), before);
    write_missing(&mut writer);
    writer.finish().unwrap();
    Store::open(dir.path()).unwrap().verify().unwrap();
}

#[test]
fn what_is_not_finite_is_refused_by_sample_and_column() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for dtype in [FeatureDtype::F32, FeatureDtype::F16, FeatureDtype::Bf16] {
            let dir = tempfile::tempdir().unwrap();
            let mut writer = StoreWriter::open(dir.path(), spec(dtype)).unwrap();
            let range = writer.missing_shards()[1];
            let mut rows = data(writer.spec(), range);
            rows.columns[0][2 * 3 + 1] = bad;
            let error = writer.write_shard(range, &rows).unwrap_err();
            let StoreError::NonFinite {
                id: 1006,
                column,
                index: 1,
                value,
            } = &error
            else {
                panic!("{error:?}");
            };
            assert_eq!(column, WIDE);
            assert_eq!(value.to_bits(), bad.to_bits());
            assert!(!shard(dir.path(), 1).exists());
        }
    }
}

#[test]
fn what_is_too_large_for_the_type_is_refused_with_advice() {
    for (dtype, large, advice) in [
        (FeatureDtype::F16, -7e4, "f32 or bf16"),
        (FeatureDtype::Bf16, f32::MAX, "f32"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let mut writer = StoreWriter::open(dir.path(), spec(dtype)).unwrap();
        let range = writer.missing_shards()[2];
        let mut rows = data(writer.spec(), range);
        rows.columns[1][1] = large;
        let error = writer.write_shard(range, &rows).unwrap_err();
        assert!(
            matches!(
                &error,
                StoreError::TooLarge {
                    id: 1009,
                    index: 0,
                    ..
                }
            ),
            "{error:?}"
        );
        assert!(
            error.to_string().ends_with(&format!("store as {advice}")),
            "{error}"
        );
    }
}

#[test]
fn data_of_the_wrong_shape_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = StoreWriter::open(dir.path(), spec(FeatureDtype::F32)).unwrap();
    let range = writer.missing_shards()[0];
    let good = data(writer.spec(), range);
    let changes: [fn(&mut ShardData); 5] = [
        |rows| _ = rows.ids.pop(),
        |rows| rows.labels.push(0),
        |rows| _ = rows.columns.pop(),
        |rows| _ = rows.columns[1].pop(),
        |rows| rows.columns.swap(0, 1),
    ];
    for change in changes {
        let mut rows = good.clone();
        change(&mut rows);
        let error = writer.write_shard(range, &rows).unwrap_err();
        assert!(
            matches!(error, StoreError::Shape { shard: 0, .. }),
            "{error:?}"
        );
    }
    let mut rows = good.clone();
    rows.ids[3] = u64::MAX;
    let error = writer.write_shard(range, &rows).unwrap_err();
    assert!(matches!(error, StoreError::Id { id: u64::MAX }));
    for range in [
        ShardRange { end: 3, ..range },
        ShardRange {
            index: 3,
            start: 12,
            end: 16,
        },
    ] {
        let error = writer.write_shard(range, &good).unwrap_err();
        assert!(
            matches!(error, StoreError::Range { shards: 3, .. }),
            "{error:?}"
        );
    }
    assert_eq!(missing(&writer), [0, 1, 2]);
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let dir = tempfile::tempdir().unwrap();
    let first = StoreWriter::open(dir.path(), spec(FeatureDtype::F32)).unwrap();
    let error = StoreWriter::open(dir.path(), spec(FeatureDtype::F32)).unwrap_err();
    assert!(
        matches!(error, StoreError::Artifact(ArtifactError::Locked { .. })),
        "{error:?}"
    );
    assert!(error.to_string().contains(&std::process::id().to_string()));
    drop(first);
    StoreWriter::open(dir.path(), spec(FeatureDtype::F32)).unwrap();
}

#[test]
fn reading_checks_its_arguments() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::F32));
    let store = Store::open(dir.path()).unwrap();
    let error = store.column("t10").unwrap_err();
    assert!(error.to_string().contains(WIDE) && error.to_string().contains(NARROW));
    let column = store.column(WIDE).unwrap();
    let error = column.read_rows(&[0, 10], &mut [0.0; 6]).unwrap_err();
    assert!(matches!(error, StoreError::Row { row: 10, rows: 10 }));
    let error = column.read_rows(&[0, 1], &mut [0.0; 5]).unwrap_err();
    assert!(matches!(
        error,
        StoreError::Buffer {
            rows: 2,
            dim: 3,
            found: 5
        }
    ));
}

#[test]
fn any_safetensors_reader_can_read_a_shard() {
    let dir = tempfile::tempdir().unwrap();
    write_all(dir.path(), spec(FeatureDtype::F32));
    let bytes = fs::read(shard(dir.path(), 2)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let wide = tensors.tensor(WIDE).unwrap();
    assert_eq!(wide.dtype(), safetensors::Dtype::F32);
    assert_eq!(wide.shape(), [2, 3]);
    assert_eq!(wide.data()[..4], value(8, 0, 0).to_le_bytes());
    let labels = tensors.tensor("labels").unwrap();
    assert_eq!(labels.dtype(), safetensors::Dtype::I64);
    assert_eq!(labels.data(), [1i64, -1].map(i64::to_le_bytes).concat());
    // The data begins at a multiple of 8, so that mapped tensors are aligned.
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(header % 8, 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_the_shape_rows_come_back(
        samples in 1usize..40,
        shard_rows in 1usize..50,
        dims in prop::collection::vec(1usize..9, 1..4),
        picks in prop::collection::vec(0usize..1000, 0..60),
        tags in 0usize..3,
    ) {
        let dir = tempfile::tempdir().unwrap();
        let spec = StoreSpec {
            columns: dims.iter().enumerate().map(|(i, &dim)| ColumnSpec::new(format!("c{i}"), dim)).collect(),
            dtype: FeatureDtype::F32,
            samples,
            shard_rows,
            tags: (0..tags).map(|i| format!("tag{i}")).collect(),
            ..spec(FeatureDtype::F32)
        };
        write_all(dir.path(), spec);
        let store = Store::open(dir.path()).unwrap();
        for tag in 0..tags {
            let expected: Vec<i64> = (0..samples as i64).map(|row| row % 5 - 1 - tag as i64).collect();
            prop_assert_eq!(store.tag(&format!("tag{tag}")), Some(&expected[..]));
        }
        prop_assert_eq!(store.tag("none"), None);
        let rows: Vec<usize> = picks.iter().map(|pick| pick % samples).collect();
        for (index, &dim) in dims.iter().enumerate() {
            let column = store.column(&format!("c{index}")).unwrap();
            let mut out = vec![0.0; rows.len() * dim];
            column.read_rows(&rows, &mut out).unwrap();
            let expected: Vec<f32> = rows
                .iter()
                .flat_map(|&row| (0..dim).map(move |i| value(row, index, i)))
                .collect();
            prop_assert_eq!(out, expected);
        }
        prop_assert_eq!(store.labels().len(), samples);
    }
}
