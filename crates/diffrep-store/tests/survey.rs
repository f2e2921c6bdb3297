//! Looking after stores: their state, their checksums, their removal.

use std::fs;
use std::path::Path;

use diffrep_artifact::{ArtifactError, Lock};
use diffrep_store::{
    ColumnSpec, FeatureDtype, ShardData, ShardState, Store, StoreError, StoreSpec, StoreWriter,
    Survey, is_store, remove, verify,
};

/// A store of 10 rows in shards of 4, 4 and 2.
fn write(dir: &Path) {
    let spec = StoreSpec {
        columns: vec![ColumnSpec::new("t10_b07_p1", 2)],
        dtype: FeatureDtype::F32,
        tags: Vec::new(),
        samples: 10,
        shard_rows: 4,
        key: "key".into(),
        info: serde_json::Value::Null,
        contract: 1,
    };
    let mut writer = StoreWriter::open(dir, spec).unwrap();
    for range in writer.missing_shards() {
        let rows = range.start..range.end;
        let data = ShardData {
            ids: rows.clone().map(|row| row as u64).collect(),
            labels: rows.clone().map(|_| 0).collect(),
            tags: Vec::new(),
            columns: vec![rows.flat_map(|row| [row as f32, 0.5]).collect()],
        };
        writer.write_shard(range, &data).unwrap();
    }
    writer.finish().unwrap();
}

fn shard(dir: &Path, index: usize) -> std::path::PathBuf {
    dir.join(format!("shard-{index:05}.safetensors"))
}

#[test]
fn the_state_of_every_shard_is_told() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let survey = Survey::of(dir.path()).unwrap();
    assert!(survey.is_whole() && survey.whole_shards() == 3);
    let bytes: u64 = (0..3)
        .map(|index| shard(dir.path(), index).metadata().unwrap().len())
        .sum();
    assert!(survey.bytes > bytes);
    assert!(survey.modified.is_some());

    fs::remove_file(shard(dir.path(), 0)).unwrap();
    let whole = fs::read(shard(dir.path(), 2)).unwrap();
    fs::write(shard(dir.path(), 2), &whole[..whole.len() - 1]).unwrap();
    let survey = Survey::of(dir.path()).unwrap();
    assert_eq!(survey.shards[..2], [ShardState::Missing, ShardState::Whole]);
    assert!(matches!(&survey.shards[2], ShardState::Damaged(what) if what.contains("00002")));
    assert!(!survey.is_whole());
}

#[test]
fn every_changed_shard_is_found_by_its_checksum() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    assert!(verify(dir.path()).unwrap().is_empty());
    for index in [0, 2] {
        let mut bytes = fs::read(shard(dir.path(), index)).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        fs::write(shard(dir.path(), index), bytes).unwrap();
    }
    // Opening looks at headers and sizes alone.
    assert!(Store::open(dir.path()).is_ok());
    let wrong = verify(dir.path()).unwrap();
    let paths: Vec<_> = wrong
        .iter()
        .map(|error| match error {
            StoreError::Hash { path } => path.clone(),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(paths, [shard(dir.path(), 0), shard(dir.path(), 2)]);
    fs::remove_file(shard(dir.path(), 1)).unwrap();
    assert_eq!(verify(dir.path()).unwrap().len(), 3);
}

#[test]
fn removal_takes_the_store_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    write(&dir);
    assert!(is_store(&dir));
    let lock = Lock::acquire(&dir).unwrap();
    let error = remove(&Survey::of(&dir).unwrap()).unwrap_err();
    assert!(
        matches!(error, StoreError::Artifact(ArtifactError::Locked { .. })),
        "{error:?}"
    );
    assert!(
        Store::open(&dir).is_ok(),
        "a refused removal changes nothing"
    );
    drop(lock);
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    remove(&Survey::of(&dir).unwrap()).unwrap();
    let left: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(left, ["notes.txt"]);
    assert!(!is_store(&dir));

    let dir = root.path().join("other");
    write(&dir);
    remove(&Survey::of(&dir).unwrap()).unwrap();
    assert!(!dir.exists());
    assert!(
        Survey::of(root.path()).is_err(),
        "a folder that is no store"
    );

    // What was written to since it was looked at stays.
    let dir = root.path().join("grown");
    write(&dir);
    let seen = Survey::of(&dir).unwrap();
    fs::remove_file(dir.join("shard-00000.safetensors")).unwrap();
    let error = remove(&seen).unwrap_err();
    assert!(matches!(error, StoreError::Changed { .. }), "{error:?}");
    assert!(is_store(&dir));
}
