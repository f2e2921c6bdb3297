//! A process that is killed, or that meets a full disk, loses nothing it has written and leaves
//! nothing half-written; the same command goes on to the same bytes.
#![cfg(unix)]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn extract(out: &Path) -> Vec<String> {
    let mut args: Vec<String> = [
        "extract",
        "fixtures/fashion-mnist",
        "--checkpoint",
        "fixtures/mini/model.safetensors",
        "--t",
        "10",
        "--block",
        "7",
        "--pool",
        "4",
        "--limit",
        "256",
        "--shard-rows",
        "16",
        "--quiet",
        "--out",
    ]
    .map(String::from)
    .to_vec();
    args.push(out.display().to_string());
    args
}

fn diffrep(program: &str) -> Command {
    let mut command = Command::new(program);
    command.current_dir(ROOT).stdout(Stdio::null());
    command
}

/// Every file of a store but the lock, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        (name, std::fs::read(entry.path()).unwrap())
    });
    entries.filter(|(name, _)| !name.contains("lock")).collect()
}

#[test]
fn a_killed_extraction_meets_a_full_disk_and_goes_on_to_the_same_bytes() {
    let binary = env!("CARGO_BIN_EXE_diffrep");
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    let done = diffrep(binary).args(extract(&whole)).status().unwrap();
    assert!(done.success());

    // SIGKILL, as soon as the third of sixteen shards is there.
    let mut running = diffrep(binary).args(extract(&cut)).spawn().unwrap();
    let start = Instant::now();
    while !cut.join("shard-00002.safetensors").exists() {
        assert!(start.elapsed() < Duration::from_secs(120), "no shard came");
        std::thread::sleep(Duration::from_millis(1));
    }
    running.kill().unwrap();
    assert!(!running.wait().unwrap().success());
    let survived = files(&cut);
    let shards = |files: &BTreeMap<String, Vec<u8>>| {
        files
            .keys()
            .filter(|name| name.ends_with(".safetensors"))
            .count()
    };
    assert!(
        (3..16).contains(&shards(&survived)),
        "{}",
        shards(&survived)
    );

    // A disk on which no file may pass 4 KiB: writing fails as on a full one.
    let script = "trap '' XFSZ; ulimit -f 8; exec \"$0\" \"$@\"";
    let failed = diffrep("sh")
        .args(["-c", script, binary])
        .args(extract(&cut))
        .output()
        .unwrap();
    let stderr = String::from_utf8(failed.stderr).unwrap();
    assert!(!failed.status.success(), "wrote past the limit");
    assert!(!stderr.contains("panicked"), "{stderr}");
    let path = cut.display().to_string();
    assert!(
        stderr.contains(&path) && stderr.contains("shard-"),
        "{stderr}"
    );
    let left = files(&cut);
    for (name, bytes) in &survived {
        if name.ends_with(".safetensors") {
            assert_eq!(left.get(name), Some(bytes), "{name}");
        }
    }
    assert_eq!(shards(&left), shards(&survived));

    let done = diffrep(binary).args(extract(&cut)).status().unwrap();
    assert!(done.success());
    let (whole, cut) = (files(&whole), files(&cut));
    assert_eq!(
        whole.keys().collect::<Vec<_>>(),
        cut.keys().collect::<Vec<_>>()
    );
    for (name, bytes) in &whole {
        if name.ends_with(".safetensors") {
            assert!(cut[name] == *bytes, "{name} has other bytes");
        }
    }
}
