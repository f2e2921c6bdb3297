//! What the pages of the project tell a reader to run does run. (That the arguments of the other commands are right is
//! tested inside the program, in `src/typed.rs`.)
#![cfg(unix)]

mod shell;

use std::path::Path;
use std::process::Command;

use shell::{Kind, blocks, commands, pages};

#[test]
fn what_can_run_without_further_files_runs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let root = root.canonicalize().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_diffrep"));
    let here = program.parent().unwrap().display().to_string();
    let path = format!("{here}:{}", std::env::var("PATH").unwrap_or_default());
    let mut count = 0;
    for (page, blocks) in pages(&root) {
        let dir = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.join("fixtures"), dir.path().join("fixtures")).unwrap();
        for block in blocks.iter().filter(|block| block.kind == Kind::Run) {
            let done = Command::new("sh")
                .args(["-eu", "-c", &block.text])
                .current_dir(dir.path())
                .env("PATH", &path)
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{}: {said}", block.place);
            assert!(!said.contains("panicked"), "{page}: {said}");
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} blocks were found");
}

#[test]
fn words_are_those_of_a_shell() {
    let script = "# a comment\nA=b diffrep extract 'my photos' \\\n    --t 10,20 > out.json 2>&1 &\nls a#b; \
                  cat > x.toml <<'END'\nkind = \"probe\"\nEND\necho \"two words\" | wc -l\n";
    let expected: [&[&str]; 5] = [
        &["A=b", "diffrep", "extract", "my photos", "--t", "10,20"],
        &["ls", "a#b"],
        &["cat"],
        &["echo", "two words"],
        &["wc", "-l"],
    ];
    let found = commands(script);
    assert_eq!(found, expected);
}

#[test]
fn blocks_are_found_with_their_kinds() {
    let page = "text\n```rust\nlet a = 1;\n```\n```sh run\nls\n```\n  ```sh parse\n  ls\n  ```\n";
    let found = blocks("p.md", page);
    let kinds: Vec<_> = found
        .iter()
        .map(|block| (block.place.as_str(), block.kind))
        .collect();
    assert_eq!(kinds, [("p.md:5", Kind::Run), ("p.md:8", Kind::Parse)]);
    assert_eq!(found[0].text, "ls\n");
}

#[test]
#[should_panic(expected = "p.md:1: say `sh run` or `sh parse`")]
fn a_block_that_is_not_tested_is_an_error() {
    blocks("p.md", "```sh\nls\n```\n");
}
