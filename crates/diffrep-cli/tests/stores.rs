//! `diffrep store` on stores in every state.

mod common;

use std::path::{Path, PathBuf};

use diffrep_store::{ColumnSpec, FeatureDtype, ShardData, StoreSpec, StoreWriter};
use serde_json::{Value, json};

use common::{refuses, works};

/// A store with these columns, of `shards` shards of two rows, the last one missing unless `whole`.
fn write(dir: &Path, columns: &[&str], whole: bool) {
    let spec = StoreSpec {
        columns: columns
            .iter()
            .map(|name| ColumnSpec::new(*name, 1))
            .collect(),
        dtype: FeatureDtype::F16,
        tags: Vec::new(),
        samples: 6,
        shard_rows: 2,
        key: format!("{columns:?}"),
        info: json!({"arithmetic": 0}),
        contract: 1,
    };
    let mut writer = StoreWriter::open(dir, spec).unwrap();
    let shards = writer.missing_shards();
    for range in &shards[..shards.len() - usize::from(!whole)] {
        let data = ShardData {
            ids: vec![range.start as u64, range.start as u64 + 1],
            labels: vec![0, 1],
            tags: Vec::new(),
            columns: vec![vec![0.25, 0.5]; columns.len()],
        };
        writer.write_shard(*range, &data).unwrap();
    }
}

fn reasons(removals: &Value, root: &Path) -> Vec<(String, String)> {
    let removals = removals.as_array().unwrap().iter();
    let mut reasons: Vec<(String, String)> = removals
        .map(|one| {
            let folder = PathBuf::from(one["folder"].as_str().unwrap());
            let folder = folder.strip_prefix(root).unwrap().display().to_string();
            (folder, one["reason"].as_str().unwrap().to_owned())
        })
        .collect();
    reasons.sort();
    reasons
}

#[test]
fn stores_are_listed_verified_and_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let text = root.to_str().unwrap();
    let images = "features/diffusion-train/0123456789abcdef";
    let shelf = |name: &str| format!("{images}/{name}");
    let (whole, covered, half) = ("aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb", "cccccccccccccccc");
    write(&root.join("mine/train"), &["a", "b"], true);
    write(&root.join("mine/test"), &["a", "b"], false);
    write(&root.join(shelf(whole)), &["a", "b"], true);
    write(&root.join(shelf(covered)), &["b"], false);
    write(&root.join(shelf(half)), &["c"], false);

    let listed = works(&["store", "ls", text]);
    let listed = listed.as_array().unwrap();
    assert_eq!(listed.len(), 5);
    let finished = listed
        .iter()
        .filter(|store| store["finished"] == true)
        .count();
    assert_eq!(finished, 2);
    let train = listed
        .iter()
        .find(|one| one["folder"].as_str().unwrap().ends_with("mine/train"));
    let train = train.unwrap();
    assert_eq!(train["columns"], json!(["a", "b"]));
    assert_eq!((&train["rows"], &train["shards"]), (&json!(6), &json!(3)));

    let verified = works(&["store", "verify", root.join("mine/train").to_str().unwrap()]);
    assert_eq!(verified[0]["wrong"], json!([]));
    refuses(
        &["store", "verify", text],
        &["3 of 5 stores are not as they were written"],
    );

    // Without --delete nothing is removed. Folders beside each other are of the same images on a shelf only.
    let expected = [
        (shelf(whole), "other_version"),
        (shelf(covered), "superseded"),
        (shelf(half), "half_done"),
        ("mine/test".to_owned(), "half_done"),
    ];
    let expected = expected
        .map(|(folder, reason)| (folder, reason.to_owned()))
        .to_vec();
    assert_eq!(reasons(&works(&["store", "gc", text]), root), expected);
    assert_eq!(
        works(&["store", "gc", text, "--older-than", "1"]),
        json!([])
    );
    assert_eq!(works(&["store", "ls", text]).as_array().unwrap().len(), 5);

    let removed = works(&["store", "gc", text, "--delete"]);
    assert!(
        removed
            .as_array()
            .unwrap()
            .iter()
            .all(|one| one["removed"] == true),
        "{removed}"
    );
    let left = works(&["store", "ls", text]);
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert!(root.join("mine/train/manifest.json").exists());

    refuses(&["store", "ls", "no/such"], &["no/such is no folder"]);
    refuses(
        &["store", "gc", text, "--older-than=-1"],
        &["number of days"],
    );
}

#[test]
fn a_changed_byte_is_found_and_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &["a"], true);
    let shard = dir.path().join("shard-00001.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 0x40;
    std::fs::write(&shard, bytes).unwrap();
    refuses(
        &["store", "verify", dir.path().to_str().unwrap()],
        &["1 of 1 stores"],
    );
}

#[test]
fn what_lies_on_a_shelf_stays_while_experiments_run() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let store = root.join("features/diffusion-train/0123456789abcdef/aaaaaaaaaaaaaaaa");
    write(&store, &["a"], true);
    let clear = [
        "store",
        "gc",
        root.to_str().unwrap(),
        "--shelves",
        "--delete",
    ];
    let running = diffrep_artifact::Lock::acquire(root).unwrap();
    let told = works(&clear);
    assert_eq!(told[0]["removed"], false);
    assert!(told[0]["kept"].as_str().is_some(), "{told}");
    assert!(store.join("manifest.json").exists());
    drop(running);
    assert_eq!(works(&clear)[0]["removed"], true);
    assert!(!store.exists());
}
