//! Every crate explains itself, crates/README.md lists it, and links lead somewhere.

use super::{Finding, floors, manifest};
use crate::tree::Tree;

/// The list of crates.
pub(super) const CRATE_LIST: &str = "crates/README.md";

const DOC_LINE: &str = "#![doc = include_str!(\"../README.md\")]";

/// Every crate has a README, which is its documentation too, and the list of crates is up to date.
pub(super) fn check_readmes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for name in tree.crates() {
        let readme = format!("crates/{name}/README.md");
        match tree.get(&readme) {
            None => {
                let hint = "say what the crate is for, with an example that compiles";
                findings.push(Finding::new(&readme, 0, "there is no README", hint));
            }
            Some(file) if file.text.lines().next() != Some(&format!("# {name}")) => {
                let hint = format!("start with `# {name}`");
                findings.push(Finding::new(
                    &readme,
                    1,
                    "the README has another title",
                    hint,
                ));
            }
            Some(_) => {}
        }
        let library = format!("crates/{name}/src/lib.rs");
        if let Some(file) = tree.get(&library)
            && file.text.lines().next() != Some(DOC_LINE)
        {
            let hint = format!("start with `{DOC_LINE}`");
            findings.push(Finding::new(
                &library,
                1,
                "the README is not the documentation",
                hint,
            ));
        }
    }
    let wanted = crate_list(tree);
    let found = tree.get(CRATE_LIST).map_or("", |file| file.text.as_str());
    if wanted != found {
        let same = wanted
            .lines()
            .zip(found.lines())
            .take_while(|(a, b)| a == b)
            .count();
        let hint = "run `cargo xtask tidy --write`";
        findings.push(Finding::new(
            CRATE_LIST,
            same + 1,
            "the list of crates is out of date",
            hint,
        ));
    }
    findings
}

/// The list of crates: one sentence each, from the manifests, floor by floor.
pub(super) fn crate_list(tree: &Tree) -> String {
    let mut list = String::from(
        "# Crates\n\n\
         One sentence per crate, from the ground up.\n\
         A crate depends only on crates of strictly lower floors; \
         [docs/architecture.md](../docs/architecture.md) says more.\n\
         This list is written by `cargo xtask tidy --write`.\n",
    );
    for floor in 0..floors::COUNT {
        let crates: Vec<&str> = tree
            .crates()
            .filter(|name| floors::floor(name) == Some(floor))
            .collect();
        if crates.is_empty() {
            continue;
        }
        list.push_str(&format!("\n## Floor {floor}\n\n"));
        for name in crates {
            let text = &tree
                .get(&format!("crates/{name}/Cargo.toml"))
                .expect("it was listed")
                .text;
            let description = manifest::entries(text)
                .iter()
                .find(|entry| entry.section == "package" && entry.key == "description")
                .map(|entry| entry.string().to_owned())
                .unwrap_or_default();
            let stop = if description.ends_with(['?', '!']) {
                ""
            } else {
                "."
            };
            list.push_str(&format!("- [{name}]({name}): {description}{stop}\n"));
        }
    }
    list
}

/// Links in Markdown to files of the project lead to files that exist.
pub(super) fn check_links(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.with_extension("md") {
        for (line, target) in links(&file.text) {
            let Some(path) = local(&file.path, target) else {
                continue;
            };
            if !tree.holds(&path) {
                let what = format!("the link to `{target}` leads nowhere");
                findings.push(Finding::new(
                    &file.path,
                    line,
                    what,
                    format!("there is no {path}"),
                ));
            }
        }
    }
    findings
}

/// The targets of `[text](target)` and `[name]: target` outside code, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut fence = None;
    for (index, line) in text.lines().enumerate() {
        let start = line.trim_start();
        let marks = ["```", "~~~"]
            .into_iter()
            .find(|marks| start.starts_with(marks));
        match (fence, marks) {
            (None, Some(marks)) => fence = Some(marks),
            (Some(open), Some(marks)) if open == marks => fence = None,
            (Some(_), _) => {}
            (None, None) => links.extend(links_in(line).into_iter().map(|link| (index + 1, link))),
        }
    }
    links
}

fn links_in(line: &str) -> Vec<&str> {
    let mut links = Vec::new();
    if let Some((name, target)) = line.split_once("]: ")
        && name.starts_with('[')
        && !name.contains(']')
    {
        links.push(target);
    }
    let mut in_code = false;
    for (at, c) in line.char_indices() {
        if c == '`' {
            in_code = !in_code;
        } else if !in_code
            && let Some(rest) = line[at..].strip_prefix("](")
            && let Some(end) = rest.find(')')
        {
            links.push(&rest[..end]);
        }
    }
    // A target may be followed by a title.
    links
        .into_iter()
        .filter_map(|link| link.split_whitespace().next())
        .collect()
}

/// The path from the root that a link in `file` means, if it means a file of the project.
fn local(file: &str, target: &str) -> Option<String> {
    let target = target.trim_matches(['<', '>']);
    let target = target.split('#').next().unwrap_or_default();
    let is_elsewhere = target.contains("://") || target.starts_with("mailto:");
    // Links to items are checked by rustdoc.
    let is_item = target.contains("::") || target.contains('(');
    if target.is_empty() || is_elsewhere || is_item {
        return None;
    }
    let mut parts: Vec<&str> = match target.strip_prefix('/') {
        Some(_) => Vec::new(),
        None => file
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
            .collect(),
    };
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "[package]\ndescription = \"Random numbers\"\n";

    fn house(list: &str) -> Tree {
        Tree::of(&[
            (CRATE_LIST, list),
            ("crates/diffrep-rng/Cargo.toml", MANIFEST),
            ("crates/diffrep-rng/README.md", "# diffrep-rng\n"),
            (
                "crates/diffrep-rng/src/lib.rs",
                "#![doc = include_str!(\"../README.md\")]\n",
            ),
        ])
    }

    #[test]
    fn the_list_is_made_of_descriptions() {
        let list = crate_list(&house(""));
        assert!(
            list.ends_with("## Floor 0\n\n- [diffrep-rng](diffrep-rng): Random numbers.\n"),
            "{list}"
        );
        assert!(check_readmes(&house(&list)).is_empty());
    }

    #[test]
    fn an_old_list_is_found_at_its_line() {
        let list = crate_list(&house("")).replace("Random numbers", "Dice");
        let found = check_readmes(&house(&list));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].line, list.lines().count());
    }

    #[test]
    fn a_crate_that_does_not_explain_itself_is_found() {
        let mut tree = house("");
        tree.files
            .retain(|file| !file.path.ends_with("-rng/README.md"));
        tree.files.iter_mut().for_each(|file| {
            if file.path.ends_with("lib.rs") {
                file.text = "//! Random numbers.\n".into();
            } else if file.path == CRATE_LIST {
                file.text = crate_list(&house(""));
            }
        });
        let found: Vec<_> = check_readmes(&tree).into_iter().map(|f| f.what).collect();
        assert_eq!(
            found,
            ["there is no README", "the README is not the documentation"]
        );
    }

    #[test]
    fn dead_links_are_found() {
        let text = "\
[good](b.md#part) and [dead](c.md), `[code](x.md)`, [far](https://example.org/d.md)
[up](../crates/), [item](crate::Thing), ![picture](gone.png \"title\")
```text
[not](a-link.md)
```
[reference]: ../nothing
";
        let tree = Tree::of(&[("docs/a.md", text), ("docs/b.md", ""), ("crates/x", "")]);
        let found: Vec<_> = check_links(&tree)
            .into_iter()
            .map(|f| (f.line, f.hint))
            .collect();
        let expected = [(1, "docs/c.md"), (2, "docs/gone.png"), (6, "nothing")];
        assert_eq!(
            found,
            expected.map(|(line, path)| (line, format!("there is no {path}")))
        );
    }
}
