//! Lists of annotations as functions over bytes: lines of `id rest`, and lines of `path,label`.
//!
//! A byte order mark, either kind of line end, and blank lines are passed over. Errors carry the number of the line as
//! editors count it.

use std::path::Path;

use crate::DatasetError;
use crate::list_files::list_error;
pub use crate::list_files::{LabelledName, labelled_names};

/// A line of an id and what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair<'a> {
    /// From 1, as editors count.
    pub line: usize,
    /// What stands before the first space.
    pub id: &'a str,
    /// What stands after it, which may hold spaces itself.
    pub rest: &'a str,
}

/// The lines that are not blank, without white space around them, and the number of each; `path` is what errors name.
///
/// # Errors
///
/// If a line is not valid UTF-8.
pub fn lines<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<(usize, &'a str)>, DatasetError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut lines = Vec::new();
    for (index, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = std::str::from_utf8(line)
            .map_err(|_| list_error(path, index + 1, "the line is not valid UTF-8"))?
            .trim();
        if !line.is_empty() {
            lines.push((index + 1, line));
        }
    }
    Ok(lines)
}

/// Splits each line at its first white space; `path` is what errors name.
///
/// # Errors
///
/// If a line is not valid UTF-8 or has nothing after its id.
pub fn pairs<'a>(path: &Path, bytes: &'a [u8]) -> Result<Vec<Pair<'a>>, DatasetError> {
    lines(path, bytes)?
        .into_iter()
        .map(|(line, text)| {
            let (id, rest) = text.split_once([' ', '\t']).ok_or_else(|| {
                let problem = format!("{:?} has no second part; expected `id rest`", start(text));
                list_error(path, line, problem)
            })?;
            let rest = rest.trim_start();
            Ok(Pair { line, id, rest })
        })
        .collect()
}

/// As much of a text as an error should repeat.
pub(crate) fn start(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pair(line: usize, id: &'static str, rest: &'static str) -> Pair<'static> {
        Pair { line, id, rest }
    }

    #[test]
    fn marks_line_ends_and_blank_lines_do_not_count() {
        let bytes = b"\xef\xbb\xbf1034309 Boeing 717\r\n\r\n \t\n0056978  F/A-18 \n7 \tx";
        let expected = [
            pair(1, "1034309", "Boeing 717"),
            pair(4, "0056978", "F/A-18"),
            pair(5, "7", "x"),
        ];
        assert_eq!(pairs(Path::new("l"), bytes).unwrap(), expected);
        assert_eq!(pairs(Path::new("l"), b"").unwrap(), []);
    }

    #[test]
    fn errors_name_the_line() {
        for (bytes, sentence) in [
            (
                b"1 a\n\n22\n".as_slice(),
                "line 3 of l.txt cannot be used: \"22\" has no second part",
            ),
            (
                b"1 a\n2 \xff\n",
                "line 2 of l.txt cannot be used: the line is not valid UTF-8",
            ),
        ] {
            let message = pairs(Path::new("l.txt"), bytes).unwrap_err().to_string();
            assert!(message.starts_with(sentence), "{message}");
        }
    }

    proptest! {
        #[test]
        fn parts_are_not_empty_and_lines_ascend(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Ok(pairs) = pairs(Path::new("l"), &bytes) {
                prop_assert!(pairs.iter().all(|pair| !pair.id.is_empty() && !pair.rest.is_empty()));
                prop_assert!(pairs.is_sorted_by(|a, b| a.line < b.line));
            }
            let _ = labelled_names(Path::new("l"), &bytes);
        }
    }
}
