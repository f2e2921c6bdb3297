//! Running the command in the root of the workspace.

#![allow(dead_code, reason = "each test file uses a part")]

use std::process::{Command, Output};

use serde_json::Value;

pub(crate) const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
pub(crate) const MODEL: &str = "fixtures/mini/model.safetensors";
#[allow(dead_code, reason = "not every test classifies")]
pub(crate) const CLASSIFIER: &str = "fixtures/mini/classifier.safetensors";

fn diffrep(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .current_dir(ROOT)
        .output()
        .unwrap()
}

/// What a command that must work prints as JSON.
pub(crate) fn works(args: &[&str]) -> Value {
    let done = diffrep(&[&["--json", "--quiet"], args].concat());
    let text = |bytes| String::from_utf8(bytes).unwrap();
    assert!(done.status.success(), "{args:?}: {}", text(done.stderr));
    serde_json::from_str(&text(done.stdout)).unwrap()
}

/// That a command fails with a message that has all these words, and without a panic.
pub(crate) fn refuses(args: &[&str], words: &[&str]) {
    let done = diffrep(args);
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success(), "{args:?}");
    for word in words {
        assert!(said.contains(word), "{args:?}: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}
