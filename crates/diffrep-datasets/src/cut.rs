//! Cutting a small, class-balanced data set out of a large one.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diffrep_artifact::{Sha256Hex, create_dir_all, write_json_atomic};
use serde::{Deserialize, Serialize};

use crate::error::io_error;
use crate::idx::{Idx, write_idx_gz};
use crate::idx_folder::{DESCRIPTION, Part, file_name};
use crate::{Dataset, DatasetError, HoldOut, Split, balanced_subset, hold_out, open};

/// What [`cut_idx`] takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutSpec {
    /// Training samples of each class.
    pub train_per_class: usize,
    /// Validation samples of each class, taken from the source's training split; 0 writes no validation split.
    pub validation_per_class: usize,
    /// Test samples.
    pub test: TestCut,
    /// What the data set is called in its description.
    pub name: String,
    /// Where the source comes from, for its description.
    pub source: String,
    /// Licence and copyright holder of the images, for its description.
    pub licence: String,
}

/// How much of the source's test split [`cut_idx`] takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TestCut {
    /// All of it.
    All,
    /// This many samples of each class.
    PerClass(usize),
}

/// The description that [`cut_idx`] writes to `dataset.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// What the data set is called.
    pub name: String,
    /// Where the images come from.
    pub source: String,
    /// Licence and copyright holder of the images.
    pub licence: String,
    /// The seed of the choice.
    pub seed: u64,
    /// Class names; the label is the position.
    pub classes: Vec<String>,
    /// The splits, by name.
    pub splits: BTreeMap<String, SplitDescription>,
}

/// One split in a [`Description`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitDescription {
    /// The source's split that the samples, and their ids, come from.
    pub from: Split,
    /// Number of samples.
    pub count: usize,
    /// [`Dataset::fingerprint`] of the split.
    pub fingerprint: Sha256Hex,
}

/// What [`cut_idx`] wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutReport {
    /// The content of `dataset.json`.
    pub description: Description,
    /// Files written, with their sizes in bytes.
    pub files: Vec<(PathBuf, u64)>,
}

/// Cuts a class-balanced choice out of the data set in `source` and writes it to `destination` as gzipped IDX files.
///
/// Samples are in ascending order of their ids, which are those of the source. The same source, choice and seed give the
/// same bytes. `dataset.json` is written last, so a folder that was empty and has one is complete.
///
/// # Errors
///
/// If the source cannot be read, a class is too small, or a file cannot be written.
///
/// # Panics
///
/// If the source's images are not grey images of one size, or an id exceeds the 31 bits of an IDX file.
pub fn cut_idx(
    source: &Path,
    destination: &Path,
    spec: &CutSpec,
    seed: u64,
) -> Result<CutReport, DatasetError> {
    let train = open(source, Split::Train)?;
    let per_class = spec.train_per_class + spec.validation_per_class;
    let chosen = train.subset(&balanced_subset(train.labels(), per_class, seed)?);
    let held_out = HoldOut::PerClass(spec.validation_per_class);
    let (kept, held) = hold_out(chosen.labels(), held_out, seed)?;

    let test = open(source, Split::Test)?;
    let test = match spec.test {
        TestCut::All => test,
        TestCut::PerClass(count) => test.subset(&balanced_subset(test.labels(), count, seed)?),
    };

    let mut parts = vec![
        (Split::Train, Split::Train, chosen.subset(&kept)),
        (Split::Validation, Split::Train, chosen.subset(&held)),
        (Split::Test, Split::Test, test),
    ];
    parts.retain(|(_, _, part)| !part.is_empty());

    create_dir_all(destination)?;
    refuse_same_folder(source, destination)?;
    let mut files = Vec::new();
    let mut splits = BTreeMap::new();
    for (split, from, part) in parts {
        let part = sorted_by_id(&part);
        files.extend(write_split(destination, split, &part)?);
        splits.insert(
            split.to_string(),
            SplitDescription {
                from,
                count: part.len(),
                fingerprint: part.fingerprint()?,
            },
        );
    }
    let description = Description {
        name: spec.name.clone(),
        source: spec.source.clone(),
        licence: spec.licence.clone(),
        seed,
        classes: train.class_names().to_vec(),
        splits,
    };
    let path = destination.join(DESCRIPTION);
    write_json_atomic(&path, &description)?;
    files.push(with_size(path)?);
    Ok(CutReport { description, files })
}

/// The cut has the file names of the source and would replace it.
fn refuse_same_folder(source: &Path, destination: &Path) -> Result<(), DatasetError> {
    let resolve = |path: &Path| std::fs::canonicalize(path).map_err(io_error(path, "resolved"));
    if resolve(source)? == resolve(destination)? {
        return Err(DatasetError::SameFolder {
            path: destination.to_path_buf(),
        });
    }
    Ok(())
}

fn sorted_by_id(dataset: &Dataset) -> Dataset {
    let mut order: Vec<usize> = (0..dataset.len()).collect();
    order.sort_unstable_by_key(|&index| dataset.id(index));
    dataset.subset(&order)
}

fn write_split(
    folder: &Path,
    split: Split,
    dataset: &Dataset,
) -> Result<Vec<(PathBuf, u64)>, DatasetError> {
    let path = |part| folder.join(file_name(split, part)).with_extension("gz");
    let count = dataset.len();

    let first = dataset.image(0)?;
    let mut pixels = Vec::with_capacity(count * first.pixels().len());
    for index in 0..count {
        let image = dataset.image(index)?;
        let shape = (image.height(), image.width(), image.channels());
        assert_eq!(
            shape,
            (first.height(), first.width(), 1),
            "an IDX file holds grey images of one size"
        );
        pixels.extend_from_slice(image.pixels());
    }
    let images = Idx {
        dims: vec![count, first.height(), first.width()],
        data: pixels,
    };
    let ids = dataset
        .ids()
        .iter()
        .map(|&id| i32::try_from(id).expect("an id fits 31 bits"));
    let labels = dataset
        .labels()
        .iter()
        .map(|&label| u8::try_from(label).expect("a label fits a byte"));

    write_idx_gz(&path(Part::Images), &images)?;
    write_idx_gz(
        &path(Part::Labels),
        &Idx {
            dims: vec![count],
            data: labels.collect(),
        },
    )?;
    write_idx_gz(
        &path(Part::Ids),
        &Idx {
            dims: vec![count],
            data: ids.collect(),
        },
    )?;
    [Part::Images, Part::Labels, Part::Ids]
        .map(path)
        .into_iter()
        .map(with_size)
        .collect()
}

fn with_size(path: PathBuf) -> Result<(PathBuf, u64), DatasetError> {
    let metadata = std::fs::metadata(&path).map_err(io_error(&path, "examined"))?;
    Ok((path, metadata.len()))
}
