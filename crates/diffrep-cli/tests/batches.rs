//! `extract --batch` and `--memory-limit`: what is predicted is what is measured, what does not fit is refused
//! before anything is written, and no number depends on it.
#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Device;
use diffrep_import::{WeightDtype, write};
use diffrep_unet::{Heads, UNetConfig, random_network};
use serde_json::Value;

use common::{MODEL, refuses, works};

const DATA: &str = "fixtures/fashion-mnist";

/// A network of little work and large maps, so that these and not the program are what takes memory.
fn middle(dir: &Path) -> String {
    let config = UNetConfig {
        image_size: 128,
        model_channels: 32,
        channel_mult: vec![1.0, 1.0, 1.0],
        num_res_blocks: 1,
        attention_resolutions: vec![4],
        heads: Heads::Channels(32),
        ..UNetConfig::adm_256_uncond()
    };
    let network = random_network(&config, 0, &Device::flex()).unwrap();
    let path = dir.join("middle.safetensors");
    write(&path, &network, WeightDtype::F32, &BTreeMap::new()).unwrap();
    path.display().to_string()
}

#[test]
fn the_peak_is_predicted() {
    let dir = tempfile::tempdir().unwrap();
    let model = middle(dir.path());
    let out = dir.path().join("store").display().to_string();
    let setting = ["--t", "10", "--block", "9", "--pool", "2", "--limit", "32"];
    let args = ["extract", DATA, "--checkpoint", &model, "--out", &out];
    let plan = |more: &[&str]| {
        works(&[&args[..], &setting, &["--dry-run"], more].concat())["plan"].clone()
    };
    let bytes = |plan: &Value, what: &str| plan[what].as_u64().unwrap() as f64;
    let mut measured = Vec::new();
    for batch in ["4", "32"] {
        let plan = plan(&["--batch", batch]);
        let (told, found) = (
            bytes(&plan, "predicted_peak_bytes"),
            bytes(&plan, "measured_peak_bytes"),
        );
        let ratio = found / told;
        assert!((0.75..1.25).contains(&ratio), "{found} of {told}: {plan}");
        measured.push(found);
    }
    // Maps are what grows.
    assert!(measured[1] > 1.5 * measured[0], "{measured:?}");
    // Within a limit between the two, a smaller batch or fewer workers do.
    let limit = format!("{:.0}", (measured[0] + measured[1]) / 2.0);
    let auto = plan(&["--batch", "auto", "--memory-limit", &limit]);
    assert!(
        bytes(&auto, "measured_peak_bytes") <= limit.parse().unwrap(),
        "{auto}"
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn what_does_not_fit_is_refused_and_no_number_depends_on_the_batch() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let args = [
        "extract",
        DATA,
        "--checkpoint",
        MODEL,
        "--t",
        "10",
        "--block",
        "7",
    ];
    let with = |out: &str, more: &[&str]| {
        let to = [
            "--pool",
            "4",
            "--limit",
            "50",
            "--shard-rows",
            "20",
            "--out",
            out,
        ];
        [&args[..], &to, more]
            .concat()
            .iter()
            .map(|s| s.to_string())
            .collect::<Vec<_>>()
    };
    let run = |out: &str, more: &[&str]| {
        let args = with(out, more);
        works(&args.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let out = at("refused");
    let refused = |more: &[&str], words: &[&str]| {
        let args = with(&out, more);
        refuses(&args.iter().map(String::as_str).collect::<Vec<_>>(), words);
    };
    refused(
        &["--batch", "16", "--memory-limit", "64MiB"],
        &["may be used (--memory-limit)", "the least that would do"],
    );
    refused(
        &["--batch", "auto", "--memory-limit", "64MiB"],
        &["may be used (--memory-limit)"],
    );
    refused(&["--memory-limit", "8"], &["did you mean 8GiB?"]);
    refused(&["--batch", "0"], &["a batch is a number from 1"]);
    refused(&["--memory-limit", "8X"], &["is no size"]);
    // The largest that fits is named.
    let few = at("few");
    let base = run(&few, &["--batch", "1", "--dry-run"])["plan"]["predicted_peak_bytes"].clone();
    let limit = format!("{}", base.as_u64().unwrap() + (60 << 20));
    refused(
        &["--batch", "100000", "--memory-limit", &limit],
        &["a batch of 100000 images would take", "fits"],
    );
    assert!(!Path::new(&out).exists(), "nothing is written");

    let (usual, seven, auto) = (at("usual"), at("seven"), at("auto"));
    run(&usual, &[]);
    run(&seven, &["--batch", "7"]);
    run(&auto, &["--batch", "auto"]);
    for shard in 0..3 {
        let shard = format!("shard-{shard:05}.safetensors");
        let bytes = |store: &str| std::fs::read(Path::new(store).join(&shard)).unwrap();
        assert_eq!(bytes(&usual), bytes(&seven), "{shard}");
        assert_eq!(bytes(&usual), bytes(&auto), "{shard}");
    }
    let note = |store: &str| {
        let text = std::fs::read_to_string(Path::new(store).join("manifest.json")).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()["spec"]["info"]["note"].clone()
    };
    assert_eq!(note(&usual), Value::Null);
    assert_eq!(note(&seven)["batch"], 7);
    assert!(note(&auto)["measured_peak_bytes"].as_u64().unwrap() > 0);
    // A store that was begun with one batch is whole for another.
    let again = run(&seven, &["--batch", "3"]);
    assert_eq!(again["rows"], 50);
}
