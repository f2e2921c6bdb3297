//! A strict little XML reader, so that tests look at what was drawn and not at strings.

#![allow(dead_code, reason = "each test file uses a part")]

/// An element with its attributes, its own text and the elements inside it.
#[derive(Debug, Default)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) text: String,
    pub(crate) children: Vec<Element>,
}

impl Element {
    pub(crate) fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(key, _)| key == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn number(&self, name: &str) -> f64 {
        let value = self.attribute(name);
        let value = value.unwrap_or_else(|| panic!("<{}> lacks {name}", self.name));
        value.parse().unwrap_or_else(|_| panic!("{name}={value}"))
    }

    /// This element and all inside it, in the order of the document.
    pub(crate) fn all(&self) -> Vec<&Element> {
        let inside = self.children.iter().flat_map(Element::all);
        [self].into_iter().chain(inside).collect()
    }

    pub(crate) fn named(&self, name: &str) -> Vec<&Element> {
        let all = self.all().into_iter();
        all.filter(|element| element.name == name).collect()
    }

    /// The element whose tooltip starts with `tip`.
    pub(crate) fn with_tip(&self, tip: &str) -> &Element {
        let all = self.all().into_iter();
        all.filter(|element| element.name != "svg")
            .find(|element| {
                let title = element.children.iter().find(|child| child.name == "title");
                title.is_some_and(|title| title.text.starts_with(tip))
            })
            .unwrap_or_else(|| panic!("nothing has the tooltip {tip:?}"))
    }

    /// The text element that says `text`.
    pub(crate) fn saying(&self, text: &str) -> &Element {
        let texts = self.named("text").into_iter();
        texts
            .filter(|element| element.text == text)
            .min_by_key(|element| element.text.len())
            .unwrap_or_else(|| panic!("nothing says {text:?}"))
    }

    /// The middle of a path that starts at its left end, such as a disc.
    pub(crate) fn path_start(&self) -> (f64, f64) {
        let path = self.attribute("d").expect("a path");
        let numbers: Vec<f64> = path[1..]
            .split(|c: char| c.is_ascii_alphabetic() || c == ' ')
            .filter(|part| !part.is_empty())
            .take(2)
            .map(|part| part.parse().expect("a number"))
            .collect();
        (numbers[0], numbers[1])
    }
}

/// Parses one element; panics on anything that is not well-formed.
pub(crate) fn parse(xml: &str) -> Element {
    let mut open: Vec<Element> = vec![Element::default()];
    let mut rest = xml;
    while let Some(at) = rest.find('<') {
        let text = unescape(&rest[..at]);
        open.last_mut().expect("the root").text.push_str(&text);
        let end = tag_end(&rest[at..]);
        let tag = &rest[at + 1..at + end];
        rest = &rest[at + end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            let element = open.pop().expect("an open element");
            assert_eq!(element.name, name, "tags must nest");
            open.last_mut().expect("a parent").children.push(element);
            continue;
        }
        let (tag, is_closed) = match tag.strip_suffix('/') {
            Some(tag) => (tag, true),
            None => (tag, false),
        };
        let element = start_tag(tag);
        if is_closed {
            open.last_mut().expect("a parent").children.push(element);
        } else {
            open.push(element);
        }
    }
    assert_eq!(open.len(), 1, "every element must be closed");
    assert_eq!(rest.trim(), "");
    let mut root = open.pop().expect("the root");
    assert_eq!(root.children.len(), 1, "one element must hold all others");
    root.children.remove(0)
}

/// The `>` that ends a tag, skipping quoted values.
fn tag_end(tag: &str) -> usize {
    let mut is_quoted = false;
    for (at, c) in tag.char_indices() {
        match c {
            '"' => is_quoted = !is_quoted,
            '>' if !is_quoted => return at,
            _ => {}
        }
    }
    panic!("unclosed tag: {tag:.60}")
}

fn start_tag(tag: &str) -> Element {
    let (name, mut rest) = tag.split_once(' ').unwrap_or((tag, ""));
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name:?}");
    let mut attributes: Vec<(String, String)> = Vec::new();
    while !rest.trim().is_empty() {
        let (key, after) = rest.split_once("=\"").expect("a quoted value");
        let (value, after) = after.split_once('"').expect("a closing quote");
        let key = key.trim().to_owned();
        assert!(!value.contains('<'), "{key}={value}");
        assert!(
            attributes.iter().all(|(other, _)| *other != key),
            "twice: {key}"
        );
        attributes.push((key, unescape(value)));
        rest = after;
    }
    Element {
        name: name.to_owned(),
        attributes,
        ..Element::default()
    }
}

fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        let end = rest[at..].find(';').expect("an entity") + at;
        out.push(match &rest[at..=end] {
            "&amp;" => '&',
            "&lt;" => '<',
            "&gt;" => '>',
            "&quot;" => '"',
            "&#39;" => '\'',
            entity => panic!("unknown entity {entity}"),
        });
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    out
}
