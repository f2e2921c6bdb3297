//! Layers are compared by the command: files, stores and networks on images.

mod common;

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use common::{CLASSIFIER, MODEL, ROOT, refuses, works};

#[test]
fn files_are_compared_by_every_estimator() {
    let golden = "fixtures/golden/cka.safetensors";
    let expected =
        std::fs::read_to_string(Path::new(ROOT).join("fixtures/golden/cka.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    for (name, more) in [
        ("biased.XY", &["--estimator", "biased"][..]),
        ("unbiased.XY", &["--estimator", "unbiased"]),
        (
            "minibatch60.XY",
            &["--estimator", "minibatch", "--batch-size", "60"],
        ),
    ] {
        let found = works(&[&["cka", golden, "--key", "X,Y"][..], more].concat());
        let (found, expected) = (&found["values"][0][1], &expected[name]);
        let error = found.as_f64().unwrap() - expected.as_f64().unwrap();
        // The command reads f64 as f32.
        assert!(error.abs() < 1e-6, "{name}: {found} {expected}");
    }
    let found = works(&[
        "cka",
        golden,
        golden,
        "--key",
        "X,Z",
        "--measure",
        "mutual-knn",
    ]);
    assert_eq!(found["values"][0][0], 1.0);
    refuses(&["cka", golden], &["U", "300", "500", "--key"]);
    refuses(
        &["cka", golden, "--key", "W"],
        &["no layer W", "U, X, Y, Z"],
    );
    refuses(
        &[
            "cka",
            golden,
            "--key",
            "X",
            "--neighbours",
            "300",
            "--measure",
            "cknna",
        ],
        &["300"],
    );
    refuses(&["cka", MODEL], &["--images"]);
    refuses(
        &[
            "cka",
            MODEL,
            "--images",
            "fixtures/fashion-mnist",
            "--limit",
            "9",
        ],
        &["--t"],
    );
}

#[test]
fn blocks_of_networks_are_compared_and_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("cka").display().to_string();
    let images = [
        "--images",
        "fixtures/fashion-mnist",
        "--limit",
        "40",
        "--t",
        "10",
        "--pool",
        "1",
    ];
    let args = [&["cka", MODEL, CLASSIFIER, "--out", &out][..], &images].concat();
    let found = works(&args);
    assert_eq!(
        (&found["samples"], &found["batches"]),
        (&40.into(), &1.into())
    );
    let rows = found["values"].as_array().unwrap();
    assert_eq!(rows.len(), 13, "the blocks of the diffusion model");
    for row in rows {
        for value in row.as_array().unwrap() {
            assert!(value.as_f64().unwrap() < 1.0);
        }
    }
    for file in ["cka.json", "cka.csv", "cka.svg", "cka.png", "cka.html"] {
        assert!(Path::new(&out).join(file).exists(), "{file}");
    }
    // The same block of the same network is alike itself, read from a store too.
    let store = dir.path().join("store").display().to_string();
    works(&[
        "extract",
        "fixtures/fashion-mnist",
        "--split",
        "test",
        "--limit",
        "40",
        "--checkpoint",
        MODEL,
        "--t",
        "10",
        "--block",
        "all",
        "--pool",
        "1",
        "--dtype",
        "f32",
        "--out",
        &store,
    ]);
    let args = [&["cka", MODEL, &store][..], &images].concat();
    let found = works(&args);
    for block in 0..13 {
        let value = found["values"][block][block].as_f64().unwrap();
        assert!((value - 1.0).abs() < 1e-6, "block {}: {value}", block + 1);
    }
}

#[test]
fn two_workers_fill_one_store_and_each_knows_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let extract = |out: &str, more: &[&str]| {
        let args = [
            "extract",
            "fixtures/fashion-mnist",
            "--limit",
            "60",
            "--checkpoint",
            MODEL,
            "--t",
            "10",
            "--block",
            "3",
            "--shard-rows",
            "10",
            "--out",
            out,
        ];
        let mut command = Command::new(env!("CARGO_BIN_EXE_diffrep"));
        command
            .args(args)
            .args(more)
            .args(["--json"])
            .current_dir(ROOT);
        command
    };
    let (whole, shared) = (at("whole"), at("shared"));
    assert!(
        extract(&whole, &["--worker", "none"])
            .output()
            .unwrap()
            .status
            .success()
    );
    let workers: Vec<_> = ["0/2", "1/2"]
        .into_iter()
        .map(|place| {
            let mut command = extract(&shared, &["--worker", place]);
            command
                .stdout(std::process::Stdio::piped())
                .stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for worker in workers {
        let done = worker.wait_with_output().unwrap();
        let said = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{said}");
        assert!(said.contains("/2"), "{said}");
    }
    // By the environment of torchrun: nothing is left to do.
    let last = extract(&shared, &[])
        .env("RANK", "1")
        .env("WORLD_SIZE", "2")
        .output()
        .unwrap();
    let found: Value = serde_json::from_slice(&last.stdout).unwrap();
    assert!(
        found["worker"].as_str().unwrap().contains("RANK"),
        "{found}"
    );
    assert_eq!(found["with_other_workers"], 0);
    for shard in 0..6 {
        let bytes = |run: &str| {
            std::fs::read(Path::new(run).join(format!("shard-{shard:05}.safetensors"))).unwrap()
        };
        assert!(bytes(&whole) == bytes(&shared), "shard {shard}");
    }
    let partial = extract(&shared, &[]).env("RANK", "1").output().unwrap();
    let said = String::from_utf8(partial.stderr).unwrap();
    assert!(
        !partial.status.success() && said.contains("WORLD_SIZE"),
        "{said}"
    );
}

/// The small network of fixtures/backbones/wrapped*.
const SMALL: &str = r#"{
    "kind": "resnet", "image_size": 32, "in_channels": 3, "width": 2, "depths": [1, 1],
    "block": "bottleneck", "inner": 1, "stem": "image_net", "classes": null
}"#;

#[test]
fn features_of_another_kind_of_network_are_extracted_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (config, store) = (at("small.json"), at("store"));
    std::fs::write(&config, SMALL).unwrap();
    let moco = "fixtures/backbones/wrapped_moco.pth.tar";
    let extract = |more: &[&'static str]| -> Vec<String> {
        let base = [
            "extract",
            "fixtures/fashion-mnist",
            "--split",
            "test",
            "--limit",
            "30",
            "--block",
            "all",
        ];
        let own = [
            "--pool",
            "1",
            "--dtype",
            "f32",
            "--backbone",
            &config,
            "--checkpoint",
            moco,
            "--out",
            &store,
        ];
        base.iter()
            .chain(&own)
            .chain(more)
            .map(ToString::to_string)
            .collect()
    };
    let words = extract(&[]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    refuses(&words, &["--normalise"]);
    let words = extract(&["--normalise", "imagenet"]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = works(&words);
    let columns = found["columns"].as_array().unwrap();
    assert!(
        columns[0].as_str().unwrap().starts_with("clean_b01"),
        "{found}"
    );
    // The diffusion model and the other network on the same images.
    let images = [
        "--images",
        "fixtures/fashion-mnist",
        "--limit",
        "30",
        "--t",
        "10",
        "--pool",
        "1",
    ];
    let found = works(&[&["cka", MODEL, &store][..], &images].concat());
    assert_eq!(found["columns"].as_array().unwrap().len(), columns.len());
    refuses(
        &[
            "extract",
            "fixtures/fashion-mnist",
            "--backbone",
            "resnet51",
            "--checkpoint",
            moco,
            "--block",
            "1",
            "--out",
            "x",
        ],
        &["resnet51", "resnet50"],
    );
}
