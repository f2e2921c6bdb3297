//! No large files, no unfinished code, no tests that are switched off.

use super::{Finding, rust};
use crate::tree::Tree;

/// The largest file, in bytes: a clone stays small.
const LARGEST: u64 = 9_000_000;

/// What finished code does not contain, put together so that this file does not contain it.
const UNFINISHED: [(&str, &str); 6] = [
    (concat!("todo", "!("), "write it, or leave it out"),
    (
        concat!("unimplemented", "!("),
        "write it, or return a typed error",
    ),
    (concat!("dbg", "!("), "emit a tracing event"),
    (
        concat!("#[", "ignore"),
        "make the test fast, or let an environment variable switch it on and say so",
    ),
    (concat!("TO", "DO"), "do it, or open an issue"),
    (concat!("FIX", "ME"), "fix it, or open an issue"),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if file.size > LARGEST {
            let what = format!("{:.1} MB is too large", file.size as f64 / 1e6);
            let hint = "cut it down, or describe how to make or fetch it";
            findings.push(Finding::new(&file.path, 0, what, hint));
        }
    }
    for file in tree.with_extension("rs") {
        for (needle, hint) in UNFINISHED {
            // Words count in comments too, macros and attributes only in code.
            let is_word = needle.chars().all(char::is_alphabetic);
            let in_code = rust::code(&file.text).filter(|(_, line)| line.contains(needle));
            let anywhere = file
                .text
                .lines()
                .enumerate()
                .map(|(index, line)| (index + 1, line));
            let lines: Vec<usize> = if is_word {
                anywhere
                    .filter(|(_, line)| line.contains(needle))
                    .map(|(line, _)| line)
                    .collect()
            } else {
                in_code.map(|(line, _)| line).collect()
            };
            for line in lines {
                findings.push(Finding::new(
                    &file.path,
                    line,
                    format!("`{needle}` is left"),
                    hint,
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unfinished_code_is_found_and_comments_are_not_code() {
        for (needle, _) in UNFINISHED {
            let text = format!("fn f() {{\n    {needle})\n}}\n");
            let found = check(&Tree::of(&[("crates/a/tests/t.rs", text.as_str())]));
            assert_eq!(
                found.iter().map(|f| f.line).collect::<Vec<_>>(),
                [2],
                "{needle}"
            );
        }
        let macro_in_comment = format!("// no {} here\n", UNFINISHED[0].0);
        assert!(check(&Tree::of(&[("a.rs", macro_in_comment.as_str())])).is_empty());
        let word_in_comment = format!("// {}: later\n", UNFINISHED[4].0);
        assert_eq!(
            check(&Tree::of(&[("a.rs", word_in_comment.as_str())])).len(),
            1
        );
    }

    #[test]
    fn a_large_file_is_found() {
        let mut tree = Tree::of(&[("fixtures/a.bin", "")]);
        tree.files[0].size = LARGEST;
        assert!(check(&tree).is_empty());
        tree.files[0].size += 1;
        assert_eq!(check(&tree).len(), 1);
    }
}
