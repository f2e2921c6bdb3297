//! The files of the project: those that git tracks, and those that it would.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// One file.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// Path from the root of the workspace, with `/`.
    pub(crate) path: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// The content of text files (see [`is_text`]), empty for others.
    pub(crate) text: String,
}

/// All files, sorted by path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tree {
    pub(crate) files: Vec<File>,
}

impl Tree {
    /// Reads the files under `root` that git does not ignore.
    pub(crate) fn read(root: &Path) -> Result<Self> {
        let mut git = Command::new("git");
        git.args([
            "ls-files",
            "-z",
            "--cached",
            "--others",
            "--exclude-standard",
        ])
        .current_dir(root);
        let listed = process::output(&mut git).context("the project's files are listed by git")?;
        let mut paths: Vec<&str> = listed.split('\0').filter(|path| !path.is_empty()).collect();
        paths.sort_unstable();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            let full = root.join(path);
            // A file that was deleted but not yet staged is still listed.
            let Ok(metadata) = full.metadata() else {
                continue;
            };
            let text = if is_text(path) {
                std::fs::read_to_string(&full).with_context(|| format!("reading {path}"))?
            } else {
                String::new()
            };
            files.push(File {
                path: path.to_owned(),
                size: metadata.len(),
                text,
            });
        }
        Ok(Self { files })
    }

    /// A tree that exists only here, for tests.
    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let mut files: Vec<File> = files
            .iter()
            .map(|(path, text)| File {
                path: (*path).to_owned(),
                size: text.len() as u64,
                text: (*text).to_owned(),
            })
            .collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Self { files }
    }

    /// The file at `path`.
    pub(crate) fn get(&self, path: &str) -> Option<&File> {
        let at = self
            .files
            .binary_search_by(|file| file.path.as_str().cmp(path))
            .ok()?;
        Some(&self.files[at])
    }

    /// Whether `path` is a file, or a folder that holds one.
    pub(crate) fn holds(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.get(path).is_some()
            || self.files.iter().any(|file| file.path.starts_with(&folder))
    }

    /// Files whose name ends in `.EXTENSION`.
    pub(crate) fn with_extension(&self, extension: &str) -> impl Iterator<Item = &File> {
        self.files.iter().filter(move |file| {
            Path::new(&file.path)
                .extension()
                .is_some_and(|found| found == extension)
        })
    }

    /// The names of the crates under `crates/`, sorted.
    pub(crate) fn crates(&self) -> impl Iterator<Item = &str> {
        self.files.iter().filter_map(|file| {
            let name = file
                .path
                .strip_prefix("crates/")?
                .strip_suffix("/Cargo.toml")?;
            (!name.contains('/')).then_some(name)
        })
    }
}

/// Whether the checks read this file.
fn is_text(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|e| e.to_str());
    matches!(extension, Some("rs" | "toml" | "md"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_real_tree_holds_this_file_and_no_build_output() {
        let tree = Tree::read(&process::root()).unwrap();
        assert!(
            tree.get("xtask/src/tree.rs")
                .is_some_and(|file| file.text.contains("the_real_tree"))
        );
        assert!(tree.holds("xtask/src") && !tree.holds("target"));
        assert!(tree.crates().any(|name| name == "diffrep-rng"));
    }

    #[test]
    fn files_and_folders_are_told_from_prefixes() {
        let tree = Tree::of(&[("docs/a.md", ""), ("crates/b/Cargo.toml", "")]);
        assert!(tree.holds("docs") && tree.holds("docs/a.md") && tree.holds(""));
        assert!(!tree.holds("doc") && !tree.holds("docs/a"));
        assert_eq!(tree.crates().collect::<Vec<_>>(), ["b"]);
        assert_eq!(tree.with_extension("md").count(), 1);
    }
}
