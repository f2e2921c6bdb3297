//! Data sets made of IDX files in one folder: MNIST's layout, plus optional identities and a description.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use diffrep_artifact::read_json;
use serde::Deserialize;

use crate::dataset::{Source, duplicate};
use crate::idx::{Idx, read_idx};
use crate::{Dataset, DatasetError, Pixels, Split, fashion_mnist};

/// Name of the file that describes a data set of IDX files.
pub(crate) const DESCRIPTION: &str = "dataset.json";

/// What a file of a split holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Part {
    Images,
    Labels,
    Ids,
}

/// The file name of a part of a split, without `.gz`.
pub(crate) fn file_name(split: Split, part: Part) -> String {
    let split = match split {
        Split::Train => "train",
        Split::Validation => "validation",
        Split::Test => "t10k",
    };
    match part {
        Part::Images => format!("{split}-images-idx3-ubyte"),
        Part::Labels => format!("{split}-labels-idx1-ubyte"),
        Part::Ids => format!("{split}-ids-idx1-int"),
    }
}

/// The splits that have an images file in the folder.
pub(crate) fn splits(folder: &Path) -> Vec<Split> {
    Split::ALL
        .into_iter()
        .filter(|&split| existing(folder, split, Part::Images).is_some())
        .collect()
}

/// Opens one split, which must exist.
pub(crate) fn open(folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let images_path = expected(folder, split, Part::Images);
    let images: Idx<u8> = read_idx(&images_path)?;
    let &[count, height, width] = images.dims.as_slice() else {
        return Err(wrong_dimensions(
            images_path,
            "three: images, rows, columns",
            images.dims,
        ));
    };
    if count == 0 || height == 0 || width == 0 {
        return Err(wrong_dimensions(
            images_path,
            "at least one image of at least one pixel",
            images.dims,
        ));
    }

    let labels_path = expected(folder, split, Part::Labels);
    let labels = read_column::<u8>(&labels_path, &images_path, count)?;
    let class_names = class_names(folder, &labels)?;
    if let Some(position) = labels
        .iter()
        .position(|&label| usize::from(label) >= class_names.len())
    {
        return Err(DatasetError::LabelRange {
            path: labels_path,
            position,
            label: u32::from(labels[position]),
            classes: class_names.len(),
        });
    }

    let ids = match existing(folder, split, Part::Ids) {
        Some(path) => read_ids(&path, &images_path, count)?,
        None => (0..count as u64).collect(),
    };
    let pixels = Pixels {
        height,
        width,
        channels: 1,
        data: images.data,
    };
    Ok(Dataset::from_parts(
        split,
        class_names,
        labels.into_iter().map(u32::from).collect(),
        ids,
        Source::Memory(pixels),
    ))
}

fn read_ids(path: &Path, images: &Path, count: usize) -> Result<Vec<u64>, DatasetError> {
    let ids = read_column::<i32>(path, images, count)?
        .into_iter()
        .enumerate()
        .map(|(position, id)| {
            u64::try_from(id).map_err(|_| DatasetError::NegativeId {
                path: path.to_path_buf(),
                position,
                id,
            })
        })
        .collect::<Result<Vec<u64>, _>>()?;
    match duplicate(&ids) {
        Some(id) => Err(DatasetError::DuplicateId {
            path: path.to_path_buf(),
            id,
        }),
        None => Ok(ids),
    }
}

fn read_column<T: crate::idx::Element>(
    path: &Path,
    images: &Path,
    count: usize,
) -> Result<Vec<T>, DatasetError> {
    let column: Idx<T> = read_idx(path)?;
    if column.dims.len() != 1 {
        return Err(wrong_dimensions(path.to_path_buf(), "one", column.dims));
    }
    if column.data.len() != count {
        return Err(DatasetError::CountMismatch {
            path: path.to_path_buf(),
            images: images.to_path_buf(),
            expected: count,
            found: column.data.len(),
        });
    }
    Ok(column.data)
}

/// Names from the description file, else Fashion-MNIST's for its official labels, else the decimal labels.
fn class_names(folder: &Path, labels: &[u8]) -> Result<Arc<[String]>, DatasetError> {
    #[derive(Deserialize)]
    struct Described {
        classes: Vec<String>,
    }

    let path = folder.join(DESCRIPTION);
    if path.is_file() {
        return Ok(read_json::<Described>(&path)?.classes.into());
    }
    if fashion_mnist::are_official_labels(labels) {
        return Ok(fashion_mnist::CLASS_NAMES.map(String::from).into());
    }
    // A split may lack the highest class; all splits must agree on the number of classes.
    let mut highest = labels.iter().copied().max().unwrap_or(0);
    for split in splits(folder) {
        if let Some(path) = existing(folder, split, Part::Labels) {
            let other: Idx<u8> = read_idx(&path)?;
            highest = highest.max(other.data.into_iter().max().unwrap_or(0));
        }
    }
    Ok((0..=highest).map(|label| label.to_string()).collect())
}

fn existing(folder: &Path, split: Split, part: Part) -> Option<PathBuf> {
    let plain = folder.join(file_name(split, part));
    let gzipped = plain.with_extension("gz");
    [gzipped, plain].into_iter().find(|path| path.is_file())
}

/// The path to read, and to name in the error where neither form exists.
fn expected(folder: &Path, split: Split, part: Part) -> PathBuf {
    existing(folder, split, part)
        .unwrap_or_else(|| folder.join(file_name(split, part)).with_extension("gz"))
}

fn wrong_dimensions(path: PathBuf, expected: &'static str, found: Vec<usize>) -> DatasetError {
    DatasetError::WrongDimensions {
        path,
        expected,
        found,
    }
}
