//! `cargo xtask release`: what must hold before the crates are published, and in which order they are.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tidy::manifest;
use crate::tree::Tree;

const HELP: &str = "\
Check the crates as products, and keep the order in which they are published.

Usage: cargo xtask release [--check | --write | --package]

  --check    each crate has an example that is tested, words to be found by and a line in the changelog, and
             docs/release.md has the order in which the crates are published (what it does without an option)
  --write    write that order into docs/release.md
  --package  let cargo pack every crate as it would be published, without building it
  --help     print this

A crate is published after all that it depends on, tests included, since cargo looks those up too.
";

const PAGE: &str = "docs/release.md";

/// What the order stands between in docs/release.md.
const MARKS: [&str; 2] = [
    "<!-- order: written by `cargo xtask release --write` -->",
    "<!-- end of the order -->",
];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let passed = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--help" | "-h", ..] => {
            print!("{HELP}");
            true
        }
        [] | ["--check"] => passes()?,
        ["--write"] => {
            let tree = Tree::read(&process::root())?;
            let page = with_order(page(&tree)?, &order(&tree)?)?;
            std::fs::write(process::root().join(PAGE), page)
                .with_context(|| format!("writing {PAGE}"))?;
            true
        }
        ["--package"] => packs()?,
        _ => bail!("`cargo xtask release` takes `--check`, `--write` or `--package`"),
    };
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Lists what a crate lacks to be a product, and says whether nothing is lacking.
pub(crate) fn passes() -> Result<bool> {
    let tree = Tree::read(&process::root())?;
    let mut lacking = lacking(&tree);
    let order = order(&tree)?;
    if with_order(page(&tree)?, &order)? != page(&tree)? {
        lacking.push(format!(
            "{PAGE} has another order: run `cargo xtask release --write`"
        ));
    }
    for line in &lacking {
        println!("{line}");
    }
    if lacking.is_empty() {
        println!(
            "release: {} crates are products, in an order in which they can be published",
            order.len()
        );
    }
    Ok(lacking.is_empty())
}

/// Lets cargo pack every crate.
fn packs() -> Result<bool> {
    let mut command = process::cargo(&[
        "package",
        "--workspace",
        "--exclude",
        "xtask",
        "--no-verify",
        "--allow-dirty",
        "--locked",
    ]);
    Ok(process::status(&mut command)?.success())
}

fn page(tree: &Tree) -> Result<&str> {
    let file = tree
        .get(PAGE)
        .with_context(|| format!("there is no {PAGE}"))?;
    Ok(&file.text)
}

/// What each crate lacks, a line for each.
fn lacking(tree: &Tree) -> Vec<String> {
    let changelog = tree
        .get("CHANGELOG.md")
        .map_or("", |file| file.text.as_str());
    let mut lacking = Vec::new();
    for name in tree.crates() {
        let readme = tree.get(&format!("crates/{name}/README.md"));
        let readme = readme.map_or("", |file| file.text.as_str());
        let example = match tree.holds(&format!("crates/{name}/src/lib.rs")) {
            true => "```rust",
            false => "```sh run",
        };
        if !readme.contains(example) {
            lacking.push(format!(
                "crates/{name}/README.md has no example that is tested: begin it with {example}"
            ));
        }
        if !changelog.contains(&format!("`{name}`")) {
            lacking.push(format!(
                "CHANGELOG.md does not say what `{name}` is new for"
            ));
        }
        let manifest = tree.get(&format!("crates/{name}/Cargo.toml"));
        let entries = manifest::entries(manifest.map_or("", |file| file.text.as_str()));
        for key in ["keywords.workspace", "categories.workspace"] {
            if !entries
                .iter()
                .any(|entry| entry.section == "package" && entry.key == key)
            {
                lacking.push(format!(
                    "crates/{name}/Cargo.toml lacks `{key} = true`, by which a crate is found"
                ));
            }
        }
    }
    lacking
}

/// The crates in an order in which each comes after all that it needs, by name where that leaves a choice.
fn order(tree: &Tree) -> Result<Vec<String>> {
    let mut left: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for name in tree.crates() {
        let text = tree
            .get(&format!("crates/{name}/Cargo.toml"))
            .map_or("", |file| file.text.as_str());
        let entries = manifest::entries(text);
        let needed = entries
            .iter()
            .filter(|entry| entry.is_dependency())
            .map(|entry| entry.name());
        let ours = needed.filter(|needed| needed.starts_with("diffrep-") && *needed != name);
        left.insert(name, ours.map(str::to_owned).collect());
    }
    let mut order: Vec<String> = Vec::new();
    while !left.is_empty() {
        let ready = left
            .iter()
            .find(|(_, needed)| needed.iter().all(|name| order.contains(name)));
        let Some((&next, _)) = ready else {
            let rest: Vec<&str> = left.keys().copied().collect();
            bail!(
                "no order: {} need each other, if only for their tests",
                rest.join(", ")
            );
        };
        left.remove(next);
        order.push(next.to_owned());
    }
    Ok(order)
}

/// The page with this order between its marks.
fn with_order(page: &str, order: &[String]) -> Result<String> {
    let lacks = || format!("{PAGE} lacks the lines `{}` and `{}`", MARKS[0], MARKS[1]);
    let (before, rest) = page.split_once(MARKS[0]).with_context(lacks)?;
    let (_, after) = rest.split_once(MARKS[1]).with_context(lacks)?;
    let lines: String = order
        .iter()
        .enumerate()
        .map(|(number, name)| format!("{}. `{name}`\n", number + 1))
        .collect();
    Ok(format!(
        "{before}{}\n\n{lines}\n{}{after}",
        MARKS[0], MARKS[1]
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(crates: &[(&str, &str)]) -> Tree {
        let files: Vec<(String, &str)> = crates
            .iter()
            .map(|(name, manifest)| (format!("crates/{name}/Cargo.toml"), *manifest))
            .collect();
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|(path, text)| (path.as_str(), *text))
            .collect();
        Tree::of(&files)
    }

    #[test]
    fn a_crate_comes_after_all_that_it_needs() {
        let tree = house(&[
            ("diffrep-a", "[dependencies]\ndiffrep-c.workspace = true"),
            (
                "diffrep-b",
                "[dev-dependencies]\ndiffrep-a.workspace = true",
            ),
            ("diffrep-c", "[dependencies]\nserde.workspace = true"),
        ]);
        assert_eq!(
            order(&tree).unwrap(),
            ["diffrep-c", "diffrep-a", "diffrep-b"]
        );
        let circle = house(&[
            ("diffrep-a", "[dependencies]\ndiffrep-b.workspace = true"),
            (
                "diffrep-b",
                "[dev-dependencies]\ndiffrep-a.workspace = true",
            ),
        ]);
        let error = order(&circle).unwrap_err().to_string();
        assert!(
            error.contains("diffrep-a, diffrep-b need each other"),
            "{error}"
        );
    }

    #[test]
    fn the_order_is_written_between_its_marks() {
        let page = format!("a\n{}\nold\n{}\nb\n", MARKS[0], MARKS[1]);
        let written = with_order(&page, &["x".into(), "y".into()]).unwrap();
        assert_eq!(
            written,
            format!("a\n{}\n\n1. `x`\n2. `y`\n\n{}\nb\n", MARKS[0], MARKS[1])
        );
        assert!(with_order("nothing", &[]).is_err());
    }

    #[test]
    fn what_a_crate_lacks_is_named() {
        let tree = Tree::of(&[
            (
                "crates/diffrep-rng/Cargo.toml",
                "[package]\nkeywords.workspace = true\n",
            ),
            ("crates/diffrep-rng/src/lib.rs", ""),
            ("crates/diffrep-rng/README.md", "# diffrep-rng\n"),
            ("CHANGELOG.md", "nothing"),
        ]);
        let found = lacking(&tree);
        assert_eq!(found.len(), 3, "{found:?}");
        for (line, part) in found
            .iter()
            .zip(["no example", "CHANGELOG.md", "categories.workspace"])
        {
            assert!(line.contains(part), "{line}");
        }
    }
}
