//! Hugging Face data sets in Parquet files: labels in memory, images read one row group at a time.
//!
//! A row group is the least that a file yields. Reading in order decodes each once; reading at random decodes one for
//! almost every image, so a data set that is to be shuffled is better extracted to features, or unpacked, first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;
use serde::Deserialize;

use crate::archive::require_image_size;
use crate::dataset::{Source, duplicate};
use crate::list_files::MOST_CLASSES;
use crate::names::id_of;
use crate::parquet_columns::{Columns, Table, broken};
use crate::row_groups::RowGroups;
use crate::{Dataset, DatasetError, Split};

/// The rows of one or several files.
pub(crate) struct Rows {
    files: Vec<PathBuf>,
    /// The size of each file, in bytes.
    sizes: Vec<u64>,
    groups: Vec<Group>,
    decoded: RowGroups,
}

/// A row group, in the order of all.
struct Group {
    file: usize,
    /// Its position in the file.
    position: usize,
    /// Its column of images.
    column: usize,
    /// Its first row among all rows.
    start: usize,
    /// Its first row in the file.
    start_in_file: usize,
    /// Bytes without compression.
    bytes: u64,
}

impl Rows {
    /// The image file of a row.
    pub(crate) fn read(&self, row: usize) -> Result<Vec<u8>, DatasetError> {
        let (number, group) = self.group(row);
        let path = &self.files[group.file];
        let images = self.decoded.get(number, group.bytes, || {
            Table::open(path)?.images(group.position, group.column)
        })?;
        let image = images[row - group.start].as_ref().ok_or_else(|| DatasetError::Table {
            path: self.location(row),
            problem: "the row has no bytes; a path alone would lead out of the file, embed the images".to_owned(),
        })?;
        require_image_size(image.len() as u64, || self.location(row))?;
        Ok(image.data().to_vec())
    }

    /// The file and the row therein, from 0.
    pub(crate) fn location(&self, row: usize) -> PathBuf {
        let (_, group) = self.group(row);
        self.files[group.file].join((row - group.start + group.start_in_file).to_string())
    }

    /// The name of a row and the size of its file, which a fingerprint sees.
    pub(crate) fn name_and_size(&self, row: usize) -> (String, u64) {
        let (_, group) = self.group(row);
        let name = name(
            &self.files[group.file],
            row - group.start + group.start_in_file,
        );
        (name, self.sizes[group.file])
    }

    /// The numbers and sizes of the files that some rows lie in, in the order of the files.
    pub(crate) fn files_of(&self, rows: &[usize]) -> BTreeMap<usize, u64> {
        let file = |&row: &usize| self.group(row).1.file;
        rows.iter()
            .map(file)
            .map(|file| (file, self.sizes[file]))
            .collect()
    }

    /// A file by its number.
    pub(crate) fn file(&self, number: usize) -> &Path {
        &self.files[number]
    }

    fn group(&self, row: usize) -> (usize, &Group) {
        let number = self.groups.partition_point(|group| group.start <= row) - 1;
        (number, &self.groups[number])
    }
}

/// Opens a split, which must exist.
///
/// Without names of classes the labels of every split are read for the highest, so that all splits agree.
pub(crate) fn open(
    splits: &[(Split, Vec<PathBuf>)],
    split: Split,
) -> Result<Dataset, DatasetError> {
    let files = splits.iter().find(|(other, _)| *other == split);
    let (_, files) = files.expect("the split is available");
    let tables = read_files(files)?;
    let class_names: Arc<[String]> = match tables.iter().find_map(|table| table.class_names.clone())
    {
        Some(names) => names.into(),
        None => {
            let mut highest = highest(&tables);
            for (other, files) in splits {
                if *other != split {
                    highest = highest.max(self::highest(&read_files(files)?));
                }
            }
            (0..=highest).map(|label| label.to_string()).collect()
        }
    };
    assemble(files, split, class_names, &tables)
}

fn assemble(
    files: &[PathBuf],
    split: Split,
    class_names: Arc<[String]>,
    tables: &[Labelled],
) -> Result<Dataset, DatasetError> {
    let (mut labels, mut ids, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for (file, table) in tables.iter().enumerate() {
        let mut start_in_file = 0;
        for (position, &(rows, bytes)) in table.groups.iter().enumerate() {
            groups.push(Group {
                file,
                position,
                column: table.columns.image,
                start: labels.len() + start_in_file,
                start_in_file,
                bytes,
            });
            start_in_file += rows;
        }
        for (row, &label) in table.labels.iter().enumerate() {
            labels.push(checked(&files[file], row, label, class_names.len())?);
            ids.push(id_of(&name(&files[file], row)));
        }
    }
    let first = &files[0];
    if labels.is_empty() {
        return Err(broken(first, "the split has no row"));
    }
    if let Some(id) = duplicate(&ids) {
        return Err(DatasetError::DuplicateId {
            path: first.clone(),
            id,
        });
    }
    // An empty group would share its start with the next.
    groups.dedup_by(|next, group| {
        let same = next.start == group.start;
        if same {
            std::mem::swap(next, group);
        }
        same
    });
    let sizes = tables.iter().map(|table| table.size).collect();
    let rows = Rows {
        files: files.to_vec(),
        sizes,
        groups,
        decoded: RowGroups::default(),
    };
    Ok(Dataset::from_parts(
        split,
        class_names,
        labels,
        ids,
        Source::Rows(rows),
    ))
}

/// What is read of a file when it is opened.
struct Labelled {
    size: u64,
    columns: Columns,
    groups: Vec<(usize, u64)>,
    labels: Vec<i64>,
    class_names: Option<Vec<String>>,
}

fn read_files(files: &[PathBuf]) -> Result<Vec<Labelled>, DatasetError> {
    files.par_iter().map(|path| read_labels(path)).collect()
}

fn read_labels(path: &Path) -> Result<Labelled, DatasetError> {
    let table = Table::open(path)?;
    let columns = table.columns()?;
    let groups = table.groups();
    let mut labels = Vec::new();
    for group in 0..groups.len() {
        labels.extend(table.labels(group, columns.label)?);
    }
    let class_names = table
        .note("huggingface")
        .and_then(|note| class_names(note, &columns.label_name));
    let size = std::fs::metadata(path)
        .map_err(crate::error::io_error(path, "examined"))?
        .len();
    Ok(Labelled {
        size,
        columns,
        groups,
        labels,
        class_names,
    })
}

/// The names that the note about the features gives the labels of a column, if it does.
fn class_names(note: &str, column: &str) -> Option<Vec<String>> {
    #[derive(Deserialize)]
    struct Note {
        info: Info,
    }
    #[derive(Deserialize)]
    struct Info {
        features: serde_json::Map<String, serde_json::Value>,
    }

    let note: Note = serde_json::from_str(note).ok()?;
    let names = note.info.features.get(column)?.get("names")?.as_array()?;
    let names: Option<Vec<String>> = names
        .iter()
        .map(|name| Some(name.as_str()?.to_owned()))
        .collect();
    names.filter(|names| !names.is_empty())
}

fn highest(tables: &[Labelled]) -> u32 {
    let labels = tables.iter().flat_map(|table| &table.labels);
    let most = i64::from(MOST_CLASSES) - 1;
    labels.copied().max().unwrap_or(0).clamp(0, most) as u32
}

fn checked(path: &Path, row: usize, label: i64, classes: usize) -> Result<u32, DatasetError> {
    if label == -1 {
        return Err(broken(
            path,
            format!(
                "row {row} has the label -1, which marks images whose classes were not published; open another split"
            ),
        ));
    }
    match u32::try_from(label) {
        Ok(valid) if (valid as usize) < classes => Ok(valid),
        _ => Err(broken(
            path,
            format!(
                "row {row} has the label {label}, expected 0 to {}",
                classes - 1
            ),
        )),
    }
}

/// The relative name of a row, which its identity is made of.
fn name(path: &Path, row: usize) -> String {
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    format!("{file}/{row}")
}
