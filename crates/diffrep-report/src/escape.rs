//! One escaping function per output format.

/// Escapes text for HTML and XML, in content and in quoted attributes.
///
/// Characters that XML forbids become the replacement character.
pub(crate) fn xml(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Escapes text for one line of GitHub-flavoured Markdown, also inside table cells.
pub(crate) fn markdown(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in single_line(text).chars() {
        if "\\`*_[]<>|~$&".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Guards a line of Markdown whose first characters would start a list, heading or rule.
pub(crate) fn markdown_line_start(line: &str) -> String {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let rest = &line[digits..];
    let opens_list = digits > 0 && rest.starts_with(['.', ')']);
    let opens_block = digits == 0 && line.starts_with(['-', '+', '#', '=']);
    if opens_list || opens_block {
        format!("{}\\{rest}", &line[..digits])
    } else {
        line.to_owned()
    }
}

/// Replaces line breaks by spaces and other control characters by the replacement character.
///
/// Terminal output goes through this too: no text can move the cursor or change colours.
pub(crate) fn single_line(text: &str) -> String {
    text.chars()
        .map(|c| match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => '\u{fffd}',
            c => c,
        })
        .collect()
}

/// A short name for files and anchors: lower-case ASCII letters, digits and single hyphens.
pub(crate) fn slug(text: &str) -> String {
    const LONGEST: usize = 48;
    let mut out = String::new();
    for c in text.chars() {
        if out.len() >= LONGEST {
            break;
        }
        if c.is_ascii_alphanumeric() {
            out.push(c.to_ascii_lowercase());
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(out.trim_end_matches('-').len());
    out
}

/// The anchor that GitHub gives a heading: lower case, hyphens for spaces, no other punctuation.
///
/// Names that the page gives to tables and figures are left to these.
pub(crate) fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|c| match c {
        ' ' | '-' => Some('-'),
        c if c.is_alphanumeric() || c == '_' => Some(c),
        _ => None,
    });
    let anchor: String = kept.flat_map(char::to_lowercase).collect();
    let number = ["table-", "figure-"]
        .iter()
        .find_map(|kind| anchor.strip_prefix(kind));
    match number {
        Some(number) if number.bytes().all(|b| b.is_ascii_digit()) => format!("{anchor}-section"),
        _ if anchor.is_empty() => "section".to_owned(),
        _ => anchor,
    }
}

/// Percent-encodes what may not stand in a link target.
pub(crate) fn url_path(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:?#@!$&'*+,;=%".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_leaves_no_way_out_of_content_or_attributes() {
        assert_eq!(
            xml("<script a=\"b\" c='d'>&\u{1b}\u{0}"),
            "&lt;script a=&quot;b&quot; c=&#39;d&#39;&gt;&amp;\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn markdown_marks_lose_their_meaning() {
        assert_eq!(markdown("a|b *c* [d](e)\nf"), r"a\|b \*c\* \[d\](e) f");
        assert_eq!(markdown_line_start("1. one"), r"1\. one");
        assert_eq!(markdown_line_start("# one"), r"\# one");
        assert_eq!(markdown_line_start("2024 was"), "2024 was");
    }

    #[test]
    fn anchors_are_those_of_github() {
        assert_eq!(
            anchor("table1: Is it a classifier?"),
            "table1-is-it-a-classifier"
        );
        assert_eq!(anchor("Figure 1"), "figure-1-section");
        assert_eq!(anchor("!\"<"), "section");
    }

    #[test]
    fn slugs_are_safe_file_names() {
        assert_eq!(slug("Accuracy by t & b: ../../etc"), "accuracy-by-t-b-etc");
        assert_eq!(slug("ß∂"), "");
        assert!(slug(&"long ".repeat(40)).len() <= 48);
    }

    #[test]
    fn url_paths_cannot_close_a_markdown_link() {
        assert_eq!(url_path("my files/(a)"), "my%20files/%28a%29");
    }
}
