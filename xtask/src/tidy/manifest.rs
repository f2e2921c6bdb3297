//! As much of TOML as our manifests use, with line numbers.

/// `key = value` below a `[section]` header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'a> {
    /// For example `dev-dependencies`; empty above the first header.
    pub(crate) section: &'a str,
    /// For example `rayon.workspace`.
    pub(crate) key: &'a str,
    /// All of the value, over however many lines, without the comment behind it.
    pub(crate) value: String,
    /// Whether a comment follows on the value's last line.
    pub(crate) commented: bool,
    /// Line of the key, from 1.
    pub(crate) line: usize,
}

impl Entry<'_> {
    /// The key up to the first dot: of a dependency, its name.
    pub(crate) fn name(&self) -> &str {
        self.key.split('.').next().unwrap_or(self.key)
    }

    /// The value without quotes.
    pub(crate) fn string(&self) -> &str {
        self.value.trim_matches(['"', '\''])
    }

    /// Whether this entry is in the table of dependencies `kind` (`dependencies`,
    /// `dev-dependencies`), for every target or for one.
    pub(crate) fn is_in(&self, kind: &str) -> bool {
        self.section == kind
            || self
                .section
                .strip_suffix(kind)
                .is_some_and(|head| head.starts_with("target.") && head.ends_with('.'))
    }

    /// Whether this entry is a dependency of any kind.
    pub(crate) fn is_dependency(&self) -> bool {
        ["dependencies", "dev-dependencies", "build-dependencies"]
            .iter()
            .any(|kind| self.is_in(kind))
    }
}

/// The entries of a manifest in order.
pub(crate) fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let mut section = "";
    let mut lines = text.lines().enumerate();
    while let Some((index, line)) = lines.next() {
        let (content, _) = split_comment(line);
        let content = content.trim();
        if content.starts_with('[') {
            section = content.trim_matches(['[', ']']).trim();
        } else if let Some((key, value)) = content.split_once('=') {
            let mut value = value.trim().to_owned();
            let mut last = line;
            while depth(&value) > 0 {
                let Some((_, line)) = lines.next() else { break };
                last = line;
                value.push(' ');
                value.push_str(split_comment(line).0.trim());
            }
            entries.push(Entry {
                section,
                key: key.trim(),
                value,
                commented: split_comment(last).1.is_some_and(|c| !c.trim().is_empty()),
                line: index + 1,
            });
        }
    }
    entries
}

/// A line up to a `#` outside quotes, and what follows it.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    let mut quote = None;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') => return (&line[..at], Some(&line[at + 1..])),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
    }
    (line, None)
}

/// How many brackets are open at the end of `value`.
fn depth(value: &str) -> i32 {
    let mut quote = None;
    let mut depth = 0;
    for c in value.chars() {
        match (quote, c) {
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '[' | '{') => depth += 1,
            (None, ']' | '}') => depth -= 1,
            _ => {}
        }
    }
    depth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_know_section_value_comment_and_line() {
        let text = "\
[package]
name = \"a # b\" # why
[target.'cfg(unix)'.dependencies]
x.workspace = true
[features]
# not an entry = 1
all = [
    \"one\", # first
    \"two\",
] # both
";
        let found = entries(text);
        assert_eq!(found.len(), 3);
        assert_eq!(
            (found[0].string(), found[0].commented, found[0].line),
            ("a # b", true, 2)
        );
        assert!(found[1].is_in("dependencies") && !found[1].is_in("dev-dependencies"));
        assert_eq!(
            (found[1].name(), found[1].commented, found[1].line),
            ("x", false, 4)
        );
        assert_eq!(found[2].value, "[ \"one\", \"two\", ]");
        assert!(found[2].commented && !found[2].is_dependency());
    }

    #[test]
    fn kinds_of_dependencies_are_told_apart() {
        let found = entries("[dev-dependencies]\na.workspace = true");
        assert!(found[0].is_in("dev-dependencies") && found[0].is_dependency());
        assert!(!found[0].is_in("dependencies"));
        assert!(!entries("[workspace.dependencies]\na = \"1\"")[0].is_dependency());
    }
}
