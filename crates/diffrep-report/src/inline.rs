//! The tiny inline markup: `code`, **bold** and [text](url).

use crate::escape;

/// A piece of marked-up text.
#[derive(Debug, Clone, PartialEq)]
enum Span {
    Text(String),
    Code(String),
    Bold(Vec<Span>),
    Link { spans: Vec<Span>, url: String },
}

/// Which marks still have meaning; bold does not nest in bold, nor a link in a link.
#[derive(Clone, Copy)]
struct Allowed {
    bold: bool,
    link: bool,
}

const ALL: Allowed = Allowed {
    bold: true,
    link: true,
};

/// Takes the meaning off every inline mark, so that `text` shows as it is.
#[must_use]
pub fn escape_inline(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '`' | '*' | '[' | ']') {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// Renders inline markup as HTML.
pub(crate) fn to_html(text: &str) -> String {
    html_of(&parse(text, ALL))
}

/// Renders inline markup as Markdown on one line, to stand after other text.
pub(crate) fn to_markdown(text: &str) -> String {
    markdown_of(&parse(text, ALL))
}

/// Drops the marks and keeps the words.
pub(crate) fn to_plain(text: &str) -> String {
    plain_of(&parse(text, ALL))
}

fn parse(text: &str, allowed: Allowed) -> Vec<Span> {
    let mut spans = Vec::new();
    let mut plain = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if let Some((span, after)) = marked(rest, allowed) {
            if !plain.is_empty() {
                spans.push(Span::Text(std::mem::take(&mut plain)));
            }
            spans.push(span);
            rest = after;
            continue;
        }
        let escaped = rest[c.len_utf8()..].chars().next();
        match (c, escaped) {
            ('\\', Some(next)) if next.is_ascii_punctuation() => {
                plain.push(next);
                rest = &rest[2..];
            }
            _ => {
                plain.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    if !plain.is_empty() {
        spans.push(Span::Text(plain));
    }
    spans
}

/// The marked span that `text` starts with, and what follows it.
fn marked(text: &str, allowed: Allowed) -> Option<(Span, &str)> {
    if let Some(inside) = text.strip_prefix('`') {
        let end = inside.find('`').filter(|end| *end > 0)?;
        return Some((Span::Code(inside[..end].to_owned()), &inside[end + 1..]));
    }
    if let Some(inside) = text.strip_prefix("**").filter(|_| allowed.bold) {
        let end = find_unescaped(inside, "**").filter(|end| *end > 0)?;
        let spans = parse(
            &inside[..end],
            Allowed {
                bold: false,
                ..allowed
            },
        );
        return Some((Span::Bold(spans), &inside[end + 2..]));
    }
    if let Some(inside) = text.strip_prefix('[').filter(|_| allowed.link) {
        let middle = find_unescaped(inside, "](")?;
        let target = &inside[middle + 2..];
        let end = target.find(')')?;
        let url = &target[..end];
        if !is_harmless(url) {
            return None;
        }
        let spans = parse(
            &inside[..middle],
            Allowed {
                link: false,
                ..allowed
            },
        );
        let url = url.to_owned();
        return Some((Span::Link { spans, url }, &target[end + 1..]));
    }
    None
}

fn find_unescaped(text: &str, mark: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        if !escaped && text[at..].starts_with(mark) {
            return Some(at);
        }
        escaped = c == '\\' && !escaped;
    }
    None
}

/// Web, mail, anchors and relative paths; never `javascript:`, `data:` and the like.
fn is_harmless(url: &str) -> bool {
    let has_odd_characters = url
        .chars()
        .any(|c| c.is_control() || c.is_whitespace() || matches!(c, '<' | '>' | '"' | '\\'));
    if url.is_empty() || has_odd_characters {
        return false;
    }
    let lower = url.to_ascii_lowercase();
    let before_path = lower.split(['/', '?', '#']).next().unwrap_or_default();
    ["https://", "http://", "mailto:"]
        .iter()
        .any(|scheme| lower.starts_with(scheme))
        || !before_path.contains(':')
}

fn html_of(spans: &[Span]) -> String {
    spans
        .iter()
        .map(|span| match span {
            Span::Text(text) => escape::xml(text),
            Span::Code(code) => format!("<code>{}</code>", escape::xml(code)),
            Span::Bold(inside) => format!("<strong>{}</strong>", html_of(inside)),
            Span::Link { spans, url } => format!(
                "<a href=\"{}\" rel=\"noopener noreferrer\">{}</a>",
                escape::xml(url),
                html_of(spans)
            ),
        })
        .collect()
}

fn markdown_of(spans: &[Span]) -> String {
    spans
        .iter()
        .map(|span| match span {
            Span::Text(text) => escape::markdown(text),
            Span::Code(code) => format!("`{}`", escape::single_line(code)),
            Span::Bold(inside) => format!("**{}**", markdown_of(inside)),
            Span::Link { spans, url } => {
                format!("[{}]({})", markdown_of(spans), escape::url_path(url))
            }
        })
        .collect()
}

fn plain_of(spans: &[Span]) -> String {
    spans
        .iter()
        .map(|span| match span {
            Span::Text(text) | Span::Code(text) => text.clone(),
            Span::Bold(inside) => plain_of(inside),
            Span::Link { spans, .. } => plain_of(spans),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_become_elements() {
        assert_eq!(
            to_html("at `t < 90`, **the [best](https://e.org/?a=1&b=2)** one"),
            "at <code>t &lt; 90</code>, <strong>the <a href=\"https://e.org/?a=1&amp;b=2\" \
             rel=\"noopener noreferrer\">best</a></strong> one"
        );
        assert_eq!(to_markdown("a `b` **c_d**"), r"a `b` **c\_d**");
        assert_eq!(to_plain("a `b` **c** [d](e)"), "a b c d");
    }

    #[test]
    fn unclosed_marks_are_text() {
        for text in [
            "a ` b", "a ** b", "[a](b", "[a] (b)", "``", "****", "*", "\\",
        ] {
            assert_eq!(to_html(text), text);
        }
    }

    #[test]
    fn dangerous_targets_stay_text() {
        for url in [
            "javascript:alert(1)",
            "JaVaScRiPt:alert",
            "data:text/html,x",
            "java\nscript:x",
            " javascript:x",
            "vbscript:x",
            "x\"onclick=\"y",
        ] {
            assert!(!to_html(&format!("[a]({url})")).contains("<a"), "{url}");
        }
        for url in ["docs/a:b.md", "#anchor", "mailto:a@b.c", "http://x"] {
            assert!(to_html(&format!("[a]({url})")).contains("<a"), "{url}");
        }
    }

    #[test]
    fn escaped_text_comes_back_unchanged() {
        let hostile = r"**a** `b` [c](d) \ \* <i>";
        assert_eq!(to_plain(&escape_inline(hostile)), hostile);
    }
}
