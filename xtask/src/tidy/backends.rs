//! Only diffrep-ops and diffrep-cli name a backend: every other library takes a `&Device`.

use super::{Finding, manifest, rust};
use crate::tree::Tree;

const ALLOWED: [&str; 3] = ["diffrep-ops", "diffrep-cli", "xtask"];

/// What names a backend in code, or picks one silently.
const NAMES: [&str; 12] = [
    "Device::flex",
    "Device::cuda",
    "Device::rocm",
    "Device::wgpu",
    "Device::vulkan",
    "Device::metal",
    "Device::webgpu",
    "Device::cpu",
    "Device::ndarray",
    "Device::default()",
    "libtorch",
    "burn::backend",
];

/// Features of burn that switch a backend on.
const FEATURES: [&str; 9] = [
    "flex", "cuda", "rocm", "wgpu", "vulkan", "metal", "webgpu", "tch", "ndarray",
];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, file) in rust::sources(tree) {
        if ALLOWED.contains(&name) {
            continue;
        }
        for (line, code) in rust::code_before_tests(&file.text) {
            for found in NAMES.into_iter().filter(|found| code.contains(found)) {
                let hint = "take a `&Device` from the caller";
                let what = format!("`{found}` outside diffrep-ops and diffrep-cli");
                findings.push(Finding::new(&file.path, line, what, hint));
            }
        }
    }
    for name in tree.crates().filter(|name| !ALLOWED.contains(name)) {
        let path = format!("crates/{name}/Cargo.toml");
        let text = &tree.get(&path).expect("the tree listed it").text;
        for entry in manifest::entries(text) {
            let is_burn = entry.is_in("dependencies") && entry.name() == "burn";
            for feature in FEATURES {
                if is_burn && entry.value.contains(&format!("\"{feature}\"")) {
                    let hint =
                        "leave backends to diffrep-cli; tests get theirs from [dev-dependencies]";
                    let what = format!("burn's backend `{feature}` is switched on for all users");
                    findings.push(Finding::new(&path, entry.line, what, hint));
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
    fn a_backend_in_a_library_is_found() {
        let text = "fn f() {\n    g(&Device::flex());\n    g(&Device::default());\n}\n";
        assert_eq!(lines("crates/diffrep-heads/src/lib.rs", text), [2, 3]);
        assert!(lines("crates/diffrep-cli/src/device.rs", text).is_empty());
        assert!(lines("crates/diffrep-heads/tests/t.rs", text).is_empty());
    }

    #[test]
    fn tests_and_comments_may_name_one() {
        let text =
            "/// `Device::flex()`\n#[cfg(test)]\nmod tests {\n    fn f() { Device::flex() }\n}\n";
        assert!(lines("crates/diffrep-heads/src/lib.rs", text).is_empty());
    }

    #[test]
    fn a_backend_in_a_manifest_is_found() {
        let text = "[dependencies]\n\
            burn = { workspace = true, features = [\"std\", \"flex\"] }\n\
            [dev-dependencies]\n\
            burn = { workspace = true, features = [\"flex\"] }\n";
        assert_eq!(lines("crates/diffrep-heads/Cargo.toml", text), [2]);
    }
}
