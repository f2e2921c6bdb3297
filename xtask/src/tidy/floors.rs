//! A crate depends only on crates of strictly lower floors.
//!
//! Dev-dependencies are free: a test may put a network from above to use.

use super::{Finding, manifest};
use crate::tree::Tree;

/// The floors of `docs/architecture.md`, from the ground up.
const FLOORS: [&[&str]; 7] = [
    &["rng", "artifact"],
    &[
        "stats", "datasets", "fetch", "cka", "store", "report", "state", "taps", "ops", "schedule",
        "fid",
    ],
    &["plan", "pool", "unet", "backbones", "latent"],
    &["heads", "train", "sample"],
    &["import", "extract", "pretrain"],
    &["probe"],
    &["cli"],
];

/// How many floors there are.
pub(super) const COUNT: usize = FLOORS.len();

/// The floor of a crate.
pub(super) fn floor(name: &str) -> Option<usize> {
    let short = name.strip_prefix("diffrep-")?;
    FLOORS.iter().position(|crates| crates.contains(&short))
}

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.crates() {
        let path = format!("crates/{name}/Cargo.toml");
        let Some(own) = floor(name) else {
            let hint =
                "give it a place in FLOORS in xtask/src/tidy/floors.rs and in docs/architecture.md";
            findings.push(Finding::new(
                path,
                0,
                format!("`{name}` stands on no floor"),
                hint,
            ));
            continue;
        };
        let text = &tree.get(&path).expect("the tree listed it").text;
        for entry in manifest::entries(text) {
            let needed = entry.name();
            let Some(other) = floor(needed) else { continue };
            let is_built = entry.is_in("dependencies") || entry.is_in("build-dependencies");
            if is_built && other >= own {
                findings.push(Finding::new(
                    &path,
                    entry.line,
                    format!("`{name}` (floor {own}) depends on `{needed}` (floor {other})"),
                    "depend on lower floors only: move the shared part down, or let the caller pass it in",
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(manifest: &str) -> Vec<usize> {
        let tree = Tree::of(&[("crates/diffrep-unet/Cargo.toml", manifest)]);
        check(&tree).iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn only_lower_floors_may_be_used() {
        assert!(lines("[dependencies]\ndiffrep-ops.workspace = true").is_empty());
        let beside_and_above = "[dependencies]\n\
            diffrep-pool.workspace = true\n\
            diffrep-probe = { workspace = true }\n";
        assert_eq!(lines(beside_and_above), [2, 3]);
        assert_eq!(
            lines("[target.'cfg(unix)'.dependencies]\ndiffrep-cli.workspace = true"),
            [2]
        );
    }

    #[test]
    fn tests_may_look_up() {
        assert!(lines("[dev-dependencies]\ndiffrep-probe.workspace = true").is_empty());
    }

    #[test]
    fn a_crate_without_a_floor_is_found() {
        let found = check(&Tree::of(&[("crates/diffrep-attic/Cargo.toml", "")]));
        assert!(found[0].what.contains("diffrep-attic"));
    }

    #[test]
    fn the_ground_is_zero_and_the_command_on_top() {
        assert_eq!(floor("diffrep-rng"), Some(0));
        assert_eq!(floor("diffrep-cli"), Some(COUNT - 1));
        assert_eq!(floor("rayon"), None);
    }
}
