//! `cargo xtask book`: the pages of docs/ as a book.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};

use crate::process;
use crate::tree::{File, Tree};

const HELP: &str = "\
Check the book in docs/ and build it as HTML in target/book.

Usage: cargo xtask book [--check]

  --check  only check that every page is in docs/SUMMARY.md and every entry there is a page
  --help   print this

Building needs mdbook (`cargo install mdbook`).
Links from pages to files that are not part of the book lead to the repository instead.
The commands on the pages are tested by `cargo test -p diffrep-cli`.
";

const SUMMARY: &str = "docs/SUMMARY.md";

/// Where files are that the book has no page for.
const REPOSITORY: &str = concat!(env!("CARGO_PKG_REPOSITORY"), "/blob/main/");

pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    if crate::asks_for_help(arguments) {
        print!("{HELP}");
        return Ok(ExitCode::SUCCESS);
    }
    let build = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => true,
        ["--check"] => false,
        _ => bail!("`cargo xtask book` takes only `--check`"),
    };
    if !passes()? {
        return Ok(ExitCode::FAILURE);
    }
    if !build {
        return Ok(ExitCode::SUCCESS);
    }
    let source = process::root().join("target/book-source");
    lay_out(&Tree::read(&process::root())?, &process::root(), &source)?;
    let mut mdbook = Command::new("mdbook");
    mdbook.arg("build").arg(&source);
    let built = process::status(&mut mdbook).context("install it with `cargo install mdbook`")?;
    if built.success() {
        println!("the book begins at target/book/introduction.html");
    }
    Ok(process::exit_code(built))
}

/// Says which pages the summary lacks and which it invents, and whether there are none of either.
pub(crate) fn passes() -> Result<bool> {
    let tree = Tree::read(&process::root())?;
    let wrong = differences(&tree);
    for line in &wrong {
        println!("{line}");
    }
    if wrong.is_empty() {
        println!("book: {} pages are in {SUMMARY}", pages(&tree).count());
    }
    Ok(wrong.is_empty())
}

/// The pages: Markdown files of docs/ itself.
fn pages(tree: &Tree) -> impl Iterator<Item = &File> {
    tree.files.iter().filter(|file| {
        let name = file.path.strip_prefix("docs/");
        let is_page =
            |name: &str| name.ends_with(".md") && !name.contains('/') && name != "SUMMARY.md";
        name.is_some_and(is_page)
    })
}

fn differences(tree: &Tree) -> Vec<String> {
    let summary = tree.get(SUMMARY).map_or("", |file| file.text.as_str());
    let entries = summary.split("](").skip(1);
    let listed: BTreeSet<&str> = entries.filter_map(|rest| rest.split(')').next()).collect();
    let present: BTreeSet<&str> = pages(tree)
        .filter_map(|file| file.path.strip_prefix("docs/"))
        .collect();
    let unlisted = present
        .difference(&listed)
        .map(|name| format!("docs/{name} is not in {SUMMARY}"));
    let invented = listed
        .difference(&present)
        .map(|name| format!("{SUMMARY} lists {name}, which is no page"));
    unlisted.chain(invented).collect()
}

/// Copies the book's source to a folder, with links that lead out of docs/ turned to the repository.
fn lay_out(tree: &Tree, root: &Path, source: &Path) -> Result<()> {
    if source.exists() {
        std::fs::remove_dir_all(source)
            .with_context(|| format!("deleting {}", source.display()))?;
    }
    for file in &tree.files {
        let Some(name) = file.path.strip_prefix("docs/") else {
            continue;
        };
        let to = source.join(name);
        let folder = to.parent().unwrap_or(source);
        std::fs::create_dir_all(folder)
            .with_context(|| format!("creating {}", folder.display()))?;
        let is_page = name.ends_with(".md") && !name.contains('/');
        let written = match is_page {
            true => std::fs::write(&to, within(&file.text)),
            false => std::fs::copy(root.join(&file.path), &to).map(drop),
        };
        written.with_context(|| format!("writing {}", to.display()))?;
    }
    Ok(())
}

/// The text of a page of docs/ itself, with links to `../` turned to the repository.
fn within(text: &str) -> String {
    text.replace("](../", &format!("]({REPOSITORY}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_summary_are_held_together() {
        let summary = "# Summary\n\n[One](one.md)\n- [Gone](gone.md)\n";
        let tree = Tree::of(&[
            (SUMMARY, summary),
            ("docs/one.md", ""),
            ("docs/two.md", ""),
            ("docs/results/x/report.md", ""),
        ]);
        let found = differences(&tree);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("docs/two.md is not in"), "{found:?}");
        assert!(found[1].contains("lists gone.md"), "{found:?}");
    }

    #[test]
    fn links_out_of_the_book_lead_to_the_repository() {
        let text = "see [a](b.md#c) and [crates](../crates/README.md)";
        let expected = format!("see [a](b.md#c) and [crates]({REPOSITORY}crates/README.md)");
        assert_eq!(within(text), expected);
    }
}
