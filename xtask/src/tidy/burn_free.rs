//! Crates that promise not to need burn do not reach it, not even through others.

use anyhow::Result;

use super::Finding;
use crate::process;
use crate::tree::Tree;

/// They build in seconds and run where no tensor library does.
const BURN_FREE: [&str; 11] = [
    "diffrep-rng",
    "diffrep-artifact",
    "diffrep-stats",
    "diffrep-datasets",
    "diffrep-fetch",
    "diffrep-cka",
    "diffrep-store",
    "diffrep-report",
    "diffrep-plan",
    "diffrep-fid",
    "xtask",
];

pub(super) fn check(tree: &Tree) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for name in BURN_FREE {
        let folder = if name == "xtask" {
            name.to_owned()
        } else {
            format!("crates/{name}")
        };
        let manifest = format!("{folder}/Cargo.toml");
        if tree.get(&manifest).is_none() {
            continue;
        }
        let arguments = [
            "tree", "-p", name, "-e", "normal", "--prefix", "none", "--locked",
        ];
        let reached = process::output(&mut process::cargo(&arguments))?;
        findings.extend(finding(name, &manifest, &reached));
    }
    Ok(findings)
}

/// What the lines of `cargo tree` say about crate `name`.
fn finding(name: &str, manifest: &str, reached: &str) -> Option<Finding> {
    let is_burn = |line: &&str| {
        let dependency = line.split(' ').next().unwrap_or_default();
        dependency == "burn" || dependency.starts_with("burn-")
    };
    let burn = reached.lines().find(is_burn)?;
    let hint = format!(
        "see how with `cargo tree -p {name} -e normal -i {}`",
        burn.split(' ').next()?
    );
    Some(Finding::new(
        manifest,
        0,
        format!("`{name}` reaches {burn} but promises not to"),
        hint,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burn_is_found_however_deep() {
        let clean = "diffrep-rng v0.1.0 (/home)\nlibm v0.2.0\nburndown v1.0.0\n";
        assert_eq!(finding("diffrep-rng", "m", clean), None);
        let tainted = format!("{clean}burn-tensor v0.22.1\n");
        let found = finding("diffrep-rng", "m", &tainted).unwrap();
        assert!(found.what.contains("burn-tensor v0.22.1"), "{found}");
        assert!(found.hint.ends_with("-i burn-tensor`"), "{found}");
    }
}
