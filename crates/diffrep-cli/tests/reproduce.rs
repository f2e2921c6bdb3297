//! The whole way from images to a report and a classifier, in miniature: killed, resumed, repeated.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn diffrep(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_diffrep"));
    command.args(args).current_dir(ROOT);
    command
}

/// Standard output and standard error of a command that must work.
fn works(args: &[&str]) -> (String, String) {
    let done = diffrep(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    let (stdout, stderr) = (text(done.stdout), text(done.stderr));
    assert!(done.status.success(), "{args:?}: {stderr}");
    (stdout, stderr)
}

fn results(run: &Path) -> Value {
    let text = std::fs::read_to_string(run.join("results.json")).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    record["data"].clone()
}

/// What lies in a folder, if it is there.
fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

#[test]
fn a_killed_reproduction_is_taken_up_and_a_second_one_does_nothing_again() {
    let dir = tempfile::tempdir().unwrap();
    let runs = dir.path().display().to_string();
    let run = dir.path().join("figure2-smoke");
    let args = ["reproduce", "smoke", "--runs", &runs];

    let mut killed = diffrep(&args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let shelf = dir.path().join("features/diffusion-train");
    let first = loop {
        assert!(start.elapsed() < Duration::from_secs(300), "no shard came");
        std::thread::sleep(Duration::from_millis(5));
        let stores = folders(&shelf)
            .into_iter()
            .flat_map(|images| folders(&images));
        let mut shards = stores.map(|store| store.join("shard-00000.safetensors"));
        if let Some(shard) = shards.find(|shard| shard.exists()) {
            break shard;
        }
    };
    killed.kill().unwrap();
    killed.wait().unwrap();
    let written = first.metadata().unwrap().modified().unwrap();

    let (_, steps) = works(&args);
    assert!(
        steps.contains("sweep-diffusion-t10: done before"),
        "{steps}"
    );
    assert_eq!(first.metadata().unwrap().modified().unwrap(), written);
    for name in [
        "report.html",
        "report.md",
        "results.json",
        "head.safetensors",
    ] {
        assert!(run.join(name).exists(), "{name} is missing");
    }
    let found = results(&run);

    let (table, again) = works(&args);
    let said: Vec<&str> = again.lines().filter(|line| line.contains(": ")).collect();
    let steps = said.iter().filter(|line| line.ends_with("done before"));
    assert_eq!(steps.count(), 10, "{again}");
    assert_eq!(results(&run), found);
    assert!(table.contains("diffusion model, linear probe"), "{table}");

    // The head that it saved classifies.
    let picture = dir.path().join("bag.png").display().to_string();
    image::GrayImage::from_fn(28, 28, |x, y| {
        let inside = (4..24).contains(&x) && (10..26).contains(&y);
        image::Luma([if inside { 200 } else { 0 }])
    })
    .save(&picture)
    .unwrap();
    let head = run.join("head.safetensors").display().to_string();
    // Elsewhere than in a clone there is no miniature to fall back on.
    let elsewhere = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_diffrep"));
        let done = command.arg("classify").args(args).current_dir(dir.path());
        String::from_utf8(done.output().unwrap().stderr).unwrap()
    };
    let said = elsewhere(&[&picture, "--head", &head]);
    assert!(
        said.contains("give --checkpoint the one that this head was trained on"),
        "{said}"
    );
    assert!(!said.contains("fixtures"), "{said}");
    let said = elsewhere(&[&picture]);
    assert!(said.contains("give --head a file that"), "{said}");
    let (json, _) = works(&["classify", &picture, "--head", &head, "--json"]);
    let json: Value = serde_json::from_str(&json).unwrap();
    let top = json[0]["top"]
        .as_array()
        .unwrap_or_else(|| panic!("{json}"));
    let probabilities: Vec<f64> = top
        .iter()
        .map(|class| class["probability"].as_f64().unwrap())
        .collect();
    assert_eq!(probabilities.len(), 5);
    assert!(probabilities.is_sorted_by(|a, b| a >= b), "{json}");
    let sum: f64 = probabilities.iter().sum();
    assert!(sum > 0.5 && sum <= 1.0 + 1e-6, "{json}");
}
