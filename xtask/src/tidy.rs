//! `cargo xtask tidy`: the rules of the house that the compiler does not check.
//!
//! Each rule is a function from the project's files to findings, in a file of its own.

mod backends;
mod burn_free;
mod documents;
mod files;
mod floors;
pub(crate) mod manifest;
mod manifests;
mod owners;
mod rust;

use std::fmt;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tree::Tree;

const HELP: &str = "\
Check the rules of the house and list all that breaks them.

Usage: cargo xtask tidy [--write]

  --write  first bring crates/README.md up to date with the manifests
  --help   print this

Rules:
  floors        a crate depends only on crates of strictly lower floors
  burn-free     crates that promise not to need burn do not reach it
  manifests     crates inherit versions and dependencies from the workspace
  dependencies  each third-party crate in the workspace manifest has its reason beside it
  owners        each shared mechanism has one owner
  backends      only diffrep-ops and diffrep-cli name a backend
  files         no large files, no unfinished code, no tests that are switched off
  readmes       every crate explains itself, and crates/README.md lists it
  links         links in Markdown lead to files that exist
";

/// Something that breaks a rule.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The file, from the root of the workspace.
    pub(crate) path: String,
    /// The line, from 1; 0 for the file as a whole.
    pub(crate) line: usize,
    /// What is wrong.
    pub(crate) what: String,
    /// What to do.
    pub(crate) hint: String,
}

impl Finding {
    pub(crate) fn new(
        path: impl Into<String>,
        line: usize,
        what: impl Into<String>,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            path: path.into(),
            line,
            what: what.into(),
            hint: hint.into(),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}\n  hint: {}", self.what, self.hint)
    }
}

type Rule = fn(&Tree) -> Vec<Finding>;

/// The rules that need nothing but the files.
const RULES: [(&str, Rule); 8] = [
    ("floors", floors::check),
    ("manifests", manifests::check_crates),
    ("dependencies", manifests::check_reasons),
    ("owners", owners::check),
    ("backends", backends::check),
    ("files", files::check),
    ("readmes", documents::check_readmes),
    ("links", documents::check_links),
];

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    match arguments {
        [] => {}
        [write] if write == "--write" => write_crate_list()?,
        _ => bail!("`cargo xtask tidy` takes only `--write`"),
    }
    Ok(if passes()? {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Applies every rule, lists all findings, and says whether there are none.
pub(crate) fn passes() -> Result<bool> {
    let tree = Tree::read(&process::root())?;
    let mut found: Vec<(&str, Vec<Finding>)> = RULES
        .iter()
        .map(|(name, rule)| (*name, rule(&tree)))
        .collect();
    found.push(("burn-free", burn_free::check(&tree)?));
    for (name, findings) in &mut found {
        findings.sort();
        for finding in findings.iter() {
            println!("{finding}\n  rule: {name}");
        }
    }
    let count: usize = found.iter().map(|(_, findings)| findings.len()).sum();
    match count {
        0 => println!(
            "tidy: {} rules hold over {} files",
            found.len(),
            tree.files.len()
        ),
        1 => println!("\ntidy: 1 finding"),
        _ => println!("\ntidy: {count} findings"),
    }
    Ok(count == 0)
}

fn write_crate_list() -> Result<()> {
    let tree = Tree::read(&process::root())?;
    let path = process::root().join(documents::CRATE_LIST);
    std::fs::write(&path, documents::crate_list(&tree))
        .with_context(|| format!("writing {}", documents::CRATE_LIST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_names_every_rule() {
        for (name, _) in RULES {
            assert!(HELP.contains(&format!("\n  {name} ")), "{name}");
        }
        assert!(HELP.contains("\n  burn-free "));
    }

    #[test]
    fn a_finding_leads_to_its_line() {
        let finding = Finding::new("a.rs", 3, "is wrong", "set it right");
        assert_eq!(
            finding.to_string(),
            "a.rs:3: is wrong\n  hint: set it right"
        );
        let whole = Finding { line: 0, ..finding };
        assert!(whole.to_string().starts_with("a.rs: is wrong"));
    }
}
