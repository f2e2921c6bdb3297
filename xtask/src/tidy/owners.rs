//! Each shared mechanism has one definition, and what is meant for the edges stays there.

use super::{Finding, manifest, rust};
use crate::tree::Tree;

/// Third-party crates that only some of ours may use, and why.
const DEPENDENCIES: [(&str, &[&str], &str); 8] = [
    (
        "anyhow",
        &["diffrep-cli", "xtask"],
        "libraries have typed errors with thiserror",
    ),
    ("clap", &["diffrep-cli"], "libraries know no command line"),
    (
        "indicatif",
        &["diffrep-cli"],
        "libraries report progress to their caller",
    ),
    (
        "tracing-subscriber",
        &["diffrep-cli"],
        "libraries emit spans; the command decides where they go",
    ),
    (
        "sha2",
        &["diffrep-artifact", "xtask"],
        "use diffrep_artifact::Sha256Hex",
    ),
    (
        "libm",
        &["diffrep-rng"],
        "use diffrep_rng::Key for random numbers",
    ),
    (
        "ureq",
        &["diffrep-fetch"],
        "use diffrep_fetch: no other crate speaks to a network",
    ),
    (
        "rand",
        &[],
        "use diffrep_rng::Key: what it gives does not depend on when it is asked",
    ),
];

/// Code that only one crate may contain, and what others use.
const CODE: [(&str, &str, &str); 2] = [
    (
        "fs::rename",
        "diffrep-artifact",
        "use diffrep_artifact::write_atomic",
    ),
    (
        "SystemTime::now",
        "diffrep-artifact",
        "use diffrep_artifact::unix_now, at the edge",
    ),
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.crates() {
        let path = format!("crates/{name}/Cargo.toml");
        let text = &tree.get(&path).expect("the tree listed it").text;
        for entry in manifest::entries(text)
            .iter()
            .filter(|entry| entry.is_in("dependencies"))
        {
            for (dependency, owners, hint) in DEPENDENCIES {
                if entry.name() == dependency && !owners.contains(&name) {
                    let what = format!("`{dependency}` is not for `{name}`");
                    findings.push(Finding::new(&path, entry.line, what, hint));
                }
            }
        }
    }
    for (name, file) in rust::sources(tree).filter(|(name, _)| *name != "xtask") {
        for (line, code) in rust::code_before_tests(&file.text) {
            for (needle, owner, hint) in CODE {
                if code.contains(needle) && name != owner {
                    let what = format!("`{needle}` is only for {owner}");
                    findings.push(Finding::new(&file.path, line, what, hint));
                }
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<usize> {
        check(&Tree::of(&[(path, text)]))
            .iter()
            .map(|finding| finding.line)
            .collect()
    }

    #[test]
    fn dependencies_stay_with_their_owners() {
        let text =
            "[dependencies]\nanyhow.workspace = true\n[dev-dependencies]\nsha2.workspace = true\n";
        assert_eq!(lines("crates/diffrep-store/Cargo.toml", text), [2]);
        assert!(lines("crates/diffrep-cli/Cargo.toml", text).is_empty());
    }

    #[test]
    fn mechanisms_stay_with_their_owners() {
        let text = "fn f() {\n    std::fs::rename(a, b)\n}\n#[cfg(test)]\nfn g() { std::fs::rename(a, b) }\n";
        assert_eq!(lines("crates/diffrep-store/src/write.rs", text), [2]);
        assert!(lines("crates/diffrep-artifact/src/atomic.rs", text).is_empty());
    }
}
