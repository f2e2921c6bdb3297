//! Data sets described by list files: `train.csv`, `val.csv` and `test.csv` beside the images, `path,label` in each line.
//!
//! Paths are relative to the list's folder. Labels are numbers from 0 or names of classes, in all lists alike. A header
//! is optional; it may name the columns in another order and stand above further columns.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diffrep_artifact::read_bytes;

use crate::dataset::{Source, duplicate};
use crate::error::io_error;
use crate::names::{id_of, safe_name};
use crate::{Dataset, DatasetError, Split};

/// What the column of paths may be called.
const PATH_COLUMNS: [&str; 8] = [
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "image",
    "image_path",
    "img_path",
];

/// What the column of labels may be called.
const LABEL_COLUMNS: [&str; 6] = [
    "label",
    "labels",
    "class",
    "class_name",
    "target",
    "category",
];

/// The most classes that numbers may stand for.
pub(crate) const MOST_CLASSES: u32 = 100_000;

/// The lists in a folder, with the split of each.
pub(crate) fn lists(folder: &Path) -> Vec<(Split, PathBuf)> {
    let names = [
        (Split::Train, ["train.csv"].as_slice()),
        (
            Split::Validation,
            &["val.csv", "validation.csv", "valid.csv"],
        ),
        (Split::Test, &["test.csv"]),
    ];
    let mut found = Vec::new();
    for (split, names) in names {
        let mut paths = names.iter().map(|name| folder.join(name));
        found.extend(paths.find(|path| path.is_file()).map(|path| (split, path)));
    }
    found
}

/// Whether the first image that each list names is there.
pub(crate) fn lead_to_images(folder: &Path, lists: &[(Split, PathBuf)]) -> bool {
    !lists.is_empty()
        && lists.iter().all(|(_, path)| {
            let lines = read_list(path);
            lines.is_ok_and(|lines| folder.join(&lines[0].name).is_file())
        })
}

/// Opens one of the lists; the others are read for the classes that all share.
///
/// Names of classes are those of the training list, sorted, or of the only list; numbers count to the highest in any.
pub(crate) fn open(
    folder: &Path,
    lists: &[(Split, PathBuf)],
    split: Split,
) -> Result<Dataset, DatasetError> {
    let mut tables = Vec::new();
    for (split, path) in lists {
        tables.push((*split, path, read_list(path)?));
    }
    let classes = Classes::of(
        &tables
            .iter()
            .map(|(_, path, lines)| (path.as_path(), lines.as_slice()))
            .collect::<Vec<_>>(),
    )?;
    let chosen = tables.into_iter().find(|(other, _, _)| *other == split);
    let (_, path, lines) = chosen.expect("the split is available");

    let mut seen = HashMap::with_capacity(lines.len());
    for line in &lines {
        if let Some(first) = seen.insert(line.name.as_str(), line.number) {
            let problem = format!("{} stands in line {first} already", line.name);
            return Err(list_error(path, line.number, problem));
        }
    }
    let mut labels = Vec::with_capacity(lines.len());
    let mut names = Vec::with_capacity(lines.len());
    for line in lines {
        let label = classes
            .label(&line.label)
            .map_err(|problem| list_error(path, line.number, problem))?;
        labels.push(label);
        names.push(line.name);
    }
    let ids: Vec<u64> = names.iter().map(|name| id_of(name)).collect();
    if let Some(id) = duplicate(&ids) {
        return Err(DatasetError::DuplicateId {
            path: path.clone(),
            id,
        });
    }
    let root = fs::canonicalize(folder).map_err(io_error(folder, "opened"))?;
    Ok(Dataset::from_parts(
        split,
        classes.names(),
        labels,
        ids,
        Source::Listed { root, names },
    ))
}

/// One line of a list of images and labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LabelledName {
    /// From 1, as editors count.
    pub number: usize,
    /// Path relative to the list's folder, which does not lead out of it.
    pub name: String,
    /// The label as it is written.
    pub label: String,
}

/// How the labels of all lists are to be understood.
enum Classes {
    Numbers(u32),
    Names(Vec<String>),
}

impl Classes {
    /// The first list is that of training, if there is one.
    ///
    /// Labels are numbers or names; some of each are a mistake in the list that would go unnoticed.
    fn of(lists: &[(&Path, &[LabelledName])]) -> Result<Self, DatasetError> {
        let all = || {
            let lists = lists.iter();
            lists.flat_map(|(path, lines)| lines.iter().map(|line| (*path, line)))
        };
        let highest = all().filter_map(|(_, line)| number(&line.label)).max();
        let name = all().find(|(_, line)| number(&line.label).is_none());
        match (highest, name) {
            (Some(highest), None) => Ok(Self::Numbers(highest)),
            (Some(_), Some((path, line))) => Err(list_error(
                path,
                line.number,
                format!(
                    "the label {:?} is no number from 0 to {}, and other labels are; a header is \
                     `path,label`",
                    line.label,
                    MOST_CLASSES - 1
                ),
            )),
            (None, _) => {
                let names: BTreeSet<&str> =
                    lists[0].1.iter().map(|line| line.label.as_str()).collect();
                Ok(Self::Names(names.into_iter().map(str::to_owned).collect()))
            }
        }
    }

    fn label(&self, text: &str) -> Result<u32, String> {
        match self {
            Self::Numbers(_) => Ok(number(text).expect("all labels are numbers")),
            Self::Names(names) => match names.binary_search_by(|name| name.as_str().cmp(text)) {
                Ok(label) => Ok(label as u32),
                Err(_) => Err(format!(
                    "the class {text:?} is not among the {} of the training list",
                    names.len()
                )),
            },
        }
    }

    fn names(self) -> Arc<[String]> {
        match self {
            Self::Numbers(highest) => (0..=highest).map(|label| label.to_string()).collect(),
            Self::Names(names) => names.into(),
        }
    }
}

/// A label that is a number of a class, and not too high for one.
fn number(text: &str) -> Option<u32> {
    let number = text.parse().ok()?;
    (number < MOST_CLASSES).then_some(number)
}

fn read_list(path: &Path) -> Result<Vec<LabelledName>, DatasetError> {
    labelled_names(path, &read_bytes(path)?)
}

/// Reads the lines of `path,label` of a list; `path` is what errors name.
///
/// # Errors
///
/// If the list is empty, a line is not of that form, or a path leads out of the folder.
pub fn labelled_names(path: &Path, bytes: &[u8]) -> Result<Vec<LabelledName>, DatasetError> {
    let mut columns = None;
    let mut lines = Vec::new();
    for (number, line) in crate::list::lines(path, bytes)? {
        let error = |problem| list_error(path, number, problem);
        let fields = fields(line).map_err(error)?;
        let Some((name, label)) = columns else {
            let header = header(&fields).map_err(error)?;
            columns = Some(header.unwrap_or((0, 1)));
            if header.is_none() {
                lines.push(sample(path, number, &fields, (0, 1))?);
            }
            continue;
        };
        lines.push(sample(path, number, &fields, (name, label))?);
    }
    if lines.is_empty() {
        return Err(list_error(
            path,
            1,
            "the list names no image; expected lines of `path,label`",
        ));
    }
    Ok(lines)
}

fn sample(
    path: &Path,
    number: usize,
    fields: &[String],
    (name, label): (usize, usize),
) -> Result<LabelledName, DatasetError> {
    let field = |column: usize| {
        fields
            .get(column)
            .map(|field| field.trim())
            .filter(|field| !field.is_empty())
            .ok_or_else(|| {
                list_error(
                    path,
                    number,
                    format!(
                        "column {} is empty or absent; expected `path,label`",
                        column + 1
                    ),
                )
            })
    };
    Ok(LabelledName {
        number,
        name: safe_name(path, field(name)?)?,
        label: field(label)?.to_owned(),
    })
}

/// The columns of path and label, if the first line is a header.
fn header(fields: &[String]) -> Result<Option<(usize, usize)>, &'static str> {
    let column = |known: &[&str]| {
        fields.iter().position(|field| {
            known
                .iter()
                .any(|name| field.trim().eq_ignore_ascii_case(name))
        })
    };
    match (column(&PATH_COLUMNS), column(&LABEL_COLUMNS)) {
        (Some(name), Some(label)) => Ok(Some((name, label))),
        (None, None) if fields.len() == 2 => Ok(None),
        _ => Err(
            "the header or the number of columns is not understood; expected two columns, or a header with `path` and `label`",
        ),
    }
}

/// The fields of a line, which may be quoted; a quote within quotes is doubled.
fn fields(line: &str) -> Result<Vec<String>, &'static str> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let field = fields.last_mut().expect("there is a first field");
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                field.push('"');
                letters.next();
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            _ => field.push(letter),
        }
    }
    if quoted {
        return Err("a quote is not closed within the line");
    }
    Ok(fields)
}

pub(crate) fn list_error(path: &Path, line: usize, problem: impl Into<String>) -> DatasetError {
    DatasetError::List {
        path: path.to_path_buf(),
        line,
        problem: problem.into(),
    }
}
