//! `--log json`: what a program that watches a run can read.

mod common;

use std::process::Command;

use serde_json::Value;

use common::{MODEL, ROOT};

/// Standard error of a command, a value a line.
fn events(args: &[&str]) -> (bool, Vec<Value>) {
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .args(["--log", "json"])
        .current_dir(ROOT)
        .output()
        .unwrap();
    let lines = String::from_utf8(done.stderr).unwrap();
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"));
    (done.status.success(), lines.lines().map(parse).collect())
}

#[test]
fn messages_progress_and_errors_are_objects_with_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("features");
    let data = "fixtures/fashion-mnist";
    let (worked, events) = events_of_extraction(data, out.to_str().unwrap());
    assert!(worked, "{events:?}");
    assert!(
        events.iter().all(|event| event["timestamp"].is_string()),
        "{events:?}"
    );
    let progress = events
        .iter()
        .rfind(|event| event["message"] == "progress")
        .unwrap();
    assert_eq!(
        (&progress["done"], &progress["total"]),
        (&20.into(), &20.into())
    );
    assert!(progress["seconds_left"].is_number() && progress["step"].is_string());

    let (worked, events) = events_of_extraction("no/such/folder", out.to_str().unwrap());
    assert!(!worked);
    let error = events.last().unwrap();
    assert_eq!(error["level"], "ERROR");
    assert!(
        error["message"]
            .as_str()
            .unwrap()
            .contains("no/such/folder"),
        "{error}"
    );
}

fn events_of_extraction(data: &str, out: &str) -> (bool, Vec<Value>) {
    events(&[
        "extract",
        data,
        "--split",
        "test",
        "--limit",
        "20",
        "--checkpoint",
        MODEL,
        "--t",
        "10",
        "--block",
        "5",
        "--pool",
        "1",
        "--out",
        out,
    ])
}
