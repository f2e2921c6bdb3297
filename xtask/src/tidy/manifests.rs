//! The root manifest decides, the crates' manifests inherit, and every dependency is argued.

use super::Finding;
use super::manifest::{Entry, entries};
use crate::tree::Tree;

/// What `[package]` takes from the workspace.
const INHERITED: [&str; 6] = [
    "version",
    "edition",
    "rust-version",
    "license",
    "repository",
    "authors",
];

/// Crates take versions, settings and dependencies from the workspace and have a description.
pub(super) fn check_crates(tree: &Tree) -> Vec<Finding> {
    let crates = tree
        .crates()
        .map(|name| (name, format!("crates/{name}/Cargo.toml")));
    let xtask = ("xtask", "xtask/Cargo.toml".to_owned());
    let mut findings = Vec::new();
    for (name, path) in crates.chain([xtask]) {
        if let Some(file) = tree.get(&path) {
            check_crate(name, &path, &file.text, &mut findings);
        }
    }
    findings
}

fn check_crate(name: &str, path: &str, text: &str, findings: &mut Vec<Finding>) {
    let mut report = |line, what: String, hint: &str| {
        findings.push(Finding::new(path, line, what, hint));
    };
    let entries = entries(text);
    let package = |key: &str| {
        entries
            .iter()
            .find(|entry| entry.section == "package" && entry.key == key)
    };
    match package("name") {
        Some(entry) if entry.string() == name => {}
        _ => report(
            0,
            format!("the crate is not called `{name}`"),
            "folder and crate share a name",
        ),
    }
    match package("description") {
        Some(entry) if !entry.string().is_empty() => {
            if entry.string().ends_with('.') {
                report(
                    entry.line,
                    "the description ends in a full stop".into(),
                    "leave it out",
                );
            }
        }
        _ => report(
            0,
            "there is no description".into(),
            "say in one line what the crate is for",
        ),
    }
    for key in INHERITED {
        if package(&format!("{key}.workspace")).is_none() {
            let line = package(key).map_or(0, |entry| entry.line);
            let hint = format!("write `{key}.workspace = true` in [package]");
            report(line, format!("`{key}` is not inherited"), &hint);
        }
    }
    if !entries
        .iter()
        .any(|e| e.section == "lints" && e.key == "workspace" && e.value == "true")
    {
        report(
            0,
            "the workspace's lints are not on".into(),
            "add `[lints]` with `workspace = true`",
        );
    }
    for entry in entries
        .iter()
        .filter(|entry| entry.is_dependency() && !inherits(entry))
    {
        report(
            entry.line,
            format!("`{}` is not inherited", entry.name()),
            "name the version once, in [workspace.dependencies], and write `workspace = true` here",
        );
    }
    for (index, line) in text.lines().enumerate() {
        if line.contains("dependencies.") && line.trim_start().starts_with('[') {
            let hint = "write the dependency on one line below [dependencies]";
            report(
                index + 1,
                "a dependency has a table of its own".into(),
                hint,
            );
        }
    }
}

/// `name.workspace = true`, or `name = { workspace = true, ... }` without a source of its own.
fn inherits(entry: &Entry<'_>) -> bool {
    if entry.key.ends_with(".workspace") {
        return entry.value == "true";
    }
    let has = |key: &str| {
        entry.value.split(['{', ',', '}']).any(|part| {
            part.split_once('=')
                .is_some_and(|(found, _)| found.trim() == key)
        })
    };
    has("workspace") && !["version", "path", "git"].into_iter().any(has)
}

/// Each third-party crate of the workspace says why it is there.
pub(super) fn check_reasons(tree: &Tree) -> Vec<Finding> {
    let path = "Cargo.toml";
    let Some(root) = tree.get(path) else {
        return Vec::new();
    };
    entries(&root.text)
        .iter()
        .filter(|entry| entry.section == "workspace.dependencies")
        .filter(|entry| !entry.name().starts_with("diffrep-") && !entry.commented)
        .map(|entry| {
            let what = format!("`{}` is not argued", entry.name());
            Finding::new(
                path,
                entry.line,
                what,
                "say behind `#` on the same line what it is for",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "\
[package]
name = \"diffrep-rng\"
description = \"Random numbers\"
version.workspace = true
edition.workspace = true
rust-version.workspace = true
license.workspace = true
repository.workspace = true
authors.workspace = true
[lints]
workspace = true
[dependencies]
libm.workspace = true
burn = { workspace = true, features = [\"std\"] }
";

    /// What is wrong with [`GOOD`] where `from` was replaced by `to`.
    fn found(from: &str, to: &str) -> Vec<String> {
        assert!(GOOD.contains(from));
        let text = GOOD.replace(from, to);
        let tree = Tree::of(&[("crates/diffrep-rng/Cargo.toml", text.as_str())]);
        check_crates(&tree)
            .into_iter()
            .map(|f| format!("{}: {}", f.line, f.what))
            .collect()
    }

    #[test]
    fn a_manifest_that_inherits_passes() {
        assert!(found("libm", "libm").is_empty());
    }

    #[test]
    fn what_is_not_inherited_is_found() {
        let not_inherited = |name| [format!("{name} is not inherited")];
        assert_eq!(
            found("edition.workspace = true", "edition = \"2021\""),
            not_inherited("5: `edition`")
        );
        assert_eq!(
            found("libm.workspace = true", "libm = \"0.2\""),
            not_inherited("13: `libm`")
        );
        assert_eq!(
            found("burn = { workspace = true", "burn = { path = \"..\""),
            not_inherited("14: `burn`")
        );
        let two_sources = found("{ workspace = true", "{ workspace = true, git = \"there\"");
        assert_eq!(two_sources, not_inherited("14: `burn`"));
        let table = found(
            "libm.workspace = true",
            "[dependencies.libm]\nworkspace = true",
        );
        assert!(
            table.iter().any(|what| what.contains("table of its own")),
            "{table:?}"
        );
    }

    #[test]
    fn name_description_and_lints_are_required() {
        assert_eq!(found("\"diffrep-rng\"", "\"rng\"").len(), 1);
        assert_eq!(found("description = \"Random numbers\"\n", "").len(), 1);
        assert_eq!(found("numbers\"", "numbers.\"").len(), 1);
        assert_eq!(found("[lints]\nworkspace = true\n", "").len(), 1);
    }

    #[test]
    fn a_dependency_without_a_reason_is_found() {
        let text = "[workspace.dependencies]\n\
            diffrep-rng = { path = \"crates/diffrep-rng\" }\n\
            libm = \"0.2\" # logarithms\n\
            rayon = \"1\" #\n\
            image = { version = \"1\", features = [\n  \"png\",\n] }\n";
        let found = check_reasons(&Tree::of(&[("Cargo.toml", text)]));
        assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), [4, 5]);
    }
}
