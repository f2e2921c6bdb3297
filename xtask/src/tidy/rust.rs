//! What the rules see of a Rust file: lines that are compiled, with their numbers.

use crate::tree::{File, Tree};

/// A crate's own source: files below `src/`, without test modules in files of their own.
pub(super) fn sources(tree: &Tree) -> impl Iterator<Item = (&str, &File)> {
    tree.with_extension("rs").filter_map(|file| {
        let (name, rest) = match file.path.strip_prefix("crates/") {
            Some(inside) => inside.split_once('/')?,
            None => file.path.split_once('/')?,
        };
        let is_test = file.path.ends_with("/tests.rs") || file.path.contains("/tests/");
        (rest.starts_with("src/") && !is_test).then_some((name, file))
    })
}

/// Lines that are not comments.
pub(super) fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Lines that are not comments, up to the tests at the end of the file.
pub(super) fn code_before_tests(text: &str) -> impl Iterator<Item = (usize, &str)> {
    code(text).take_while(|(_, line)| line.trim() != "#[cfg(test)]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_what_ships() {
        let tree = Tree::of(&[
            ("crates/a/src/lib.rs", ""),
            ("crates/a/src/tests.rs", ""),
            ("crates/a/tests/t.rs", ""),
            ("crates/a/examples/e.rs", ""),
            ("xtask/src/main.rs", ""),
        ]);
        let found: Vec<_> = sources(&tree)
            .map(|(name, file)| (name, file.path.as_str()))
            .collect();
        assert_eq!(
            found,
            [("a", "crates/a/src/lib.rs"), ("xtask", "xtask/src/main.rs")]
        );
    }

    #[test]
    fn comments_and_tests_are_left_out() {
        let text = "one\n// two\nthree // four\n#[cfg(test)]\nfive\n";
        assert_eq!(code(text).count(), 4);
        assert_eq!(
            code_before_tests(text).collect::<Vec<_>>(),
            [(1, "one"), (3, "three // four")]
        );
    }
}
