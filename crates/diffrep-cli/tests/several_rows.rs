//! Draws and flips as rows of their own, and noise that is not drawn: from `extract` to `probe`.

mod common;

use std::path::Path;

use diffrep_store::Store;
use safetensors::{Dtype, serialize, tensor::TensorView};
use serde_json::{Value, json};

use common::{MODEL, refuses, works};

const COLUMN: &str = "t10_b05_p2";

fn args<'a>(split: &'a str, limit: &'a str, out: &'a str) -> Vec<&'a str> {
    let data = "fixtures/fashion-mnist";
    let setting = ["--t", "10", "--block", "5", "--pool", "2"];
    let mut args = vec!["extract", data, "--checkpoint", MODEL, "--split", split];
    args.extend(setting);
    args.extend(["--limit", limit, "--out", out]);
    args
}

fn rows(dir: &Path, rows: &[usize]) -> Vec<u32> {
    let store = Store::open(dir).unwrap();
    let column = store.column(COLUMN).unwrap();
    let mut values = vec![0.0; rows.len() * column.dim()];
    column.read_rows(rows, &mut values).unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

#[test]
fn draws_and_flips_train_and_vote_by_image() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (train, plain, test) = (at("train"), at("plain"), at("test"));
    let more = ["--draws", "2", "--flips", "--shard-rows", "70"];
    let told = works(&[&args("train", "160", &train)[..], &more, &["--dry-run"]].concat());
    let plan = &told["plan"];
    assert_eq!(
        [&plan["images"], &plan["rows"], &plan["forwards"]],
        [160, 640, 640]
    );
    assert_eq!((&plan["draws"], &plan["flips"]), (&json!(2), &json!(true)));
    let done = works(&[&args("train", "160", &train)[..], &more].concat());
    assert_eq!((&done["images"], &done["rows"]), (&json!(160), &json!(640)));
    // On disk is what was announced, but for headers and the manifest.
    let shards = (0..10).map(|i| Path::new(&train).join(format!("shard-{i:05}.safetensors")));
    let bytes: u64 = shards.map(|shard| shard.metadata().unwrap().len()).sum();
    let announced = plan["bytes_on_disk"].as_u64().unwrap();
    assert!(
        bytes > announced && bytes < announced + 10 * 1024,
        "{bytes}"
    );

    // The first row of an image is what an extraction without the options gives.
    works(&args("train", "160", &plain));
    let (all, first): (Vec<usize>, Vec<usize>) = (0..160).map(|i| (i, 4 * i)).unzip();
    assert_eq!(
        rows(Path::new(&plain), &all),
        rows(Path::new(&train), &first)
    );

    works(&[&args("test", "80", &test)[..], &["--draws", "3"]].concat());
    let probe =
        |more: &[&str]| works(&[&["probe", &train, &test, "--head", "ridge"][..], more].concat());
    let whole = probe(&[]);
    let run = &whole["runs"][0];
    // A fifth of the images of each class is held out to choose on.
    let trained_on = run["trained_on"].as_u64().unwrap();
    assert!((120..=136).contains(&trained_on), "{run}");
    assert_eq!(run["rows_each"], 4);
    let confusion = run["test"]["confusion"].as_array().unwrap();
    let counts = confusion.iter().flat_map(|row| row.as_array().unwrap());
    let scored: u64 = counts.map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(scored, 80, "an image is scored once");
    let validation = at("validation");
    works(&[&args("validation", "60", &validation)[..], &["--flips"]].concat());
    let few = probe(&["--per-class", "2", "--validation", &validation]);
    assert_eq!(few["runs"][0]["trained_on"], 20, "images are counted");
    // A head that saw several noises may be saved: `classify` draws one of them.
    let head = at("head.safetensors");
    probe(&["--save", &head]);
    assert!(Path::new(&head).exists());
}

#[test]
fn noise_may_be_absent_or_given() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (seeded, none, given) = (at("seeded"), at("none"), at("given"));
    let values = vec![0u8; 4 * 40 * 32 * 32];
    let zeros = TensorView::new(Dtype::F32, vec![40, 1, 32, 32], &values).unwrap();
    let file = at("zeros.safetensors");
    std::fs::write(&file, serialize([("noise", zeros)], None).unwrap()).unwrap();
    works(&args("train", "40", &seeded));
    works(&[&args("train", "40", &none)[..], &["--noise", "none"]].concat());
    works(&[&args("train", "40", &given)[..], &["--noise-file", &file]].concat());
    let all: Vec<usize> = (0..40).collect();
    let found = [&seeded, &none, &given].map(|store| rows(Path::new(store), &all));
    assert_ne!(found[0], found[1]);
    assert_eq!(found[1], found[2], "zeros in a file are no noise");
    let info = |store: &str| -> Value { Store::open(store).unwrap().spec().info["noise"].clone() };
    assert_eq!(info(&none), "none");
    assert_eq!(info(&given)["file"].as_str().unwrap().len(), 64);
    assert_eq!(info(&seeded), Value::Null);

    let part = at("part");
    works(&args("train", "20", &part));
    let words = ["share images", "of 20 ids", "20 have the same"];
    refuses(&["probe", &seeded, &part], &words);

    let test = at("test");
    works(&args("test", "40", &test));
    refuses(&["probe", &none, &test], &["their `noise` differs"]);
    let test = at("test-none");
    works(&[&args("test", "40", &test)[..], &["--noise", "none"]].concat());
    let head = at("head.safetensors");
    let probe = ["probe", &none, &test, "--head", "ridge", "--save", &head];
    refuses(&probe, &["cannot be saved", "--noise seeded"]);

    let other = at("other");
    let extract = args("train", "39", &other);
    let refused = |more: &[&str], words: &[&str]| refuses(&[&extract[..], more].concat(), words);
    refused(
        &["--noise-file", &file],
        &["noise for 40 rows", "39 images with 1 draw each"],
    );
    refused(&["--noise-file", MODEL], &["no tensor `noise`"]);
    refused(
        &["--noise", "none", "--draws", "2"],
        &["nothing to draw", "leave --draws out"],
    );
    refused(&["--draws", "0"], &["--draws"]);
    refused(&["--flip", "--flips"], &["--flip"]);
    refused(
        &["--draw", "4294967295", "--draws", "2"],
        &["draws 4294967295 to 4294967296"],
    );
    assert!(!Path::new(&other).exists(), "nothing is written");
}
