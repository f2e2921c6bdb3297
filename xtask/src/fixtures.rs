//! `cargo xtask fixtures`: the files that tests and experiments read are those that were made.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::process;
use crate::tree::Tree;

const HELP: &str = "\
Check the files under fixtures/ against fixtures/SHA256SUMS.

Usage: cargo xtask fixtures [--check | --write]

  --check  list what is missing, changed or unknown (what it does without an option)
  --write  write fixtures/SHA256SUMS anew
  --help   print this

Every folder of fixtures has a README that says how its files were made.
`sha256sum --check SHA256SUMS` in fixtures/ does the same comparison.
";

const FOLDER: &str = "fixtures";
const SUMS: &str = "fixtures/SHA256SUMS";

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["--check"] => Ok(if passes()? {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }),
        ["--write"] => {
            let root = process::root();
            let sums = hashes(&root, &fixtures(&Tree::read(&root)?))?;
            std::fs::write(root.join(SUMS), written(&sums))
                .context("writing fixtures/SHA256SUMS")?;
            println!("fixtures: wrote the hashes of {} files", sums.len());
            Ok(ExitCode::SUCCESS)
        }
        ["--help" | "-h", ..] => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!("`cargo xtask fixtures` takes `--check` or `--write`"),
    }
}

/// Compares, lists the differences, and says whether there are none.
pub(crate) fn passes() -> Result<bool> {
    let root = process::root();
    let tree = Tree::read(&root)?;
    let listed = match std::fs::read_to_string(root.join(SUMS)) {
        Ok(text) => read(&text)?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => BTreeMap::new(),
        Err(error) => return Err(error).context("reading fixtures/SHA256SUMS"),
    };
    let present = hashes(&root, &fixtures(&tree))?;
    let mut differences = compare(&listed, &present);
    differences.extend(without_readme(&tree));
    for difference in &differences {
        println!("{difference}");
    }
    match differences.len() {
        0 => println!("fixtures: {} files are as they were made", present.len()),
        count => println!(
            "\nfixtures: {count} differences\n  hint: bring the files back with git, or, if the change is meant, \
             run `cargo xtask fixtures --write`"
        ),
    }
    Ok(differences.is_empty())
}

/// Hashes in hexadecimal by path from `fixtures/`.
type Sums = BTreeMap<String, String>;

/// All fixtures by their paths from `fixtures/`. Explanations may change freely.
fn fixtures(tree: &Tree) -> Vec<String> {
    tree.files
        .iter()
        .filter_map(|file| file.path.strip_prefix("fixtures/"))
        .filter(|path| *path != "SHA256SUMS" && !path.ends_with("README.md"))
        .map(str::to_owned)
        .collect()
}

fn hashes(root: &Path, paths: &[String]) -> Result<Sums> {
    let hash = |path: &String| {
        let full = root.join(FOLDER).join(path);
        let bytes = std::fs::read(&full).with_context(|| format!("reading {FOLDER}/{path}"))?;
        Ok((path.clone(), hex(&bytes)))
    };
    paths.iter().map(hash).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The format of `sha256sum`.
fn written(sums: &Sums) -> String {
    sums.iter()
        .map(|(path, hash)| format!("{hash}  {path}\n"))
        .collect()
}

fn read(text: &str) -> Result<Sums> {
    let entry = |(index, line): (usize, &str)| match line.split_once("  ") {
        Some((hash, path)) if hash.len() == 64 => Ok((path.to_owned(), hash.to_owned())),
        _ => bail!("{SUMS}:{}: not a hash, two spaces and a path", index + 1),
    };
    text.lines().enumerate().map(entry).collect()
}

fn compare(listed: &Sums, present: &Sums) -> Vec<String> {
    let mut differences = Vec::new();
    for (path, hash) in listed {
        match present.get(path) {
            None => differences.push(format!("{FOLDER}/{path}: is missing")),
            Some(found) if found != hash => {
                differences.push(format!("{FOLDER}/{path}: has changed"));
            }
            Some(_) => {}
        }
    }
    for path in present.keys().filter(|path| !listed.contains_key(*path)) {
        differences.push(format!("{FOLDER}/{path}: is not in SHA256SUMS"));
    }
    differences
}

/// Folders of fixtures that do not say how they were made.
fn without_readme(tree: &Tree) -> Vec<String> {
    let mut folders: Vec<String> = fixtures(tree)
        .iter()
        .filter_map(|path| Some(path.split_once('/')?.0.to_owned()))
        .collect();
    folders.dedup();
    folders
        .into_iter()
        .map(|folder| format!("{FOLDER}/{folder}/README.md"))
        .filter(|readme| tree.get(readme).is_none())
        .map(|readme| format!("{readme}: is missing; it says how the files beside it were made"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(entries: &[(&str, &str)]) -> Sums {
        entries
            .iter()
            .map(|(path, text)| ((*path).to_owned(), hex(text.as_bytes())))
            .collect()
    }

    #[test]
    fn hashes_are_those_of_sha256sum() {
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(hex(b"abc"), abc);
        assert_eq!(written(&sums(&[("a/b", "abc")])), format!("{abc}  a/b\n"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let sums = sums(&[("a/b c", "1"), ("d", "2")]);
        assert_eq!(read(&written(&sums)).unwrap(), sums);
        assert!(
            read("no hash")
                .unwrap_err()
                .to_string()
                .contains("SHA256SUMS:1")
        );
    }

    #[test]
    fn every_kind_of_difference_is_named() {
        let listed = sums(&[("same", "1"), ("changed", "2"), ("gone", "3")]);
        let present = sums(&[("same", "1"), ("changed", "other"), ("new", "4")]);
        let found = compare(&listed, &present);
        let expected = [
            "changed: has changed",
            "gone: is missing",
            "new: is not in SHA256SUMS",
        ];
        assert_eq!(found, expected.map(|what| format!("fixtures/{what}")));
        assert!(compare(&listed, &listed).is_empty());
    }

    #[test]
    fn folders_explain_themselves() {
        let tree = Tree::of(&[
            ("fixtures/SHA256SUMS", ""),
            ("fixtures/a/1.bin", ""),
            ("fixtures/a/2.bin", ""),
            ("fixtures/b/1.bin", ""),
            ("fixtures/b/README.md", ""),
        ]);
        assert_eq!(fixtures(&tree), ["a/1.bin", "a/2.bin", "b/1.bin"]);
        let found = without_readme(&tree);
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("fixtures/a/README.md: is missing"));
    }
}
