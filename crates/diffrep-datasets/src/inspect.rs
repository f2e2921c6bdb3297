//! Looking into a data set before anything is computed from it.

mod duplicates;
mod sizes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use diffrep_artifact::Sha256Hex;
use rayon::prelude::*;
use serde::Serialize;

pub use duplicates::{DuplicateGroup, Duplicates, Occurrence};
pub use sizes::{CommonSize, Sizes, Spread};

use crate::decode::decode;
use crate::error::reasons;
use crate::open::Layout;
use crate::{Dataset, DatasetError, Image, Split, open};

/// What [`inspect`] looks at, and how much it lists.
pub struct InspectOptions<'a> {
    /// How many unreadable files, and how many groups of duplicates, are listed; all are counted.
    pub most_listed: usize,
    /// Called after each image, from many threads.
    pub progress: Option<&'a (dyn Fn(InspectProgress) + Sync)>,
}

impl Default for InspectOptions<'_> {
    /// Lists 100 of each and reports no progress.
    fn default() -> Self {
        Self {
            most_listed: 100,
            progress: None,
        }
    }
}

/// How far [`inspect`] is with a split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InspectProgress {
    /// The split in work.
    pub split: Split,
    /// Images of it that are done.
    pub done: usize,
    /// All images of it.
    pub total: usize,
}

/// What is in a data set.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Inspection {
    /// The form that the data set has on disk, in words.
    pub layout: String,
    /// Names of the classes; the label is the position.
    pub class_names: Vec<String>,
    /// The splits that can be opened, in the order train, validation, test.
    pub splits: Vec<SplitInspection>,
    /// The splits that are there but cannot be opened, such as one without labels.
    pub refused: Vec<RefusedSplit>,
    /// Images whose bytes are the same, within splits and across them.
    pub duplicates: Duplicates,
}

/// A split that cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedSplit {
    /// The split.
    pub split: Split,
    /// Why.
    pub reason: String,
}

/// What is in a split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitInspection {
    /// The split.
    pub split: Split,
    /// Number of samples, readable or not.
    pub samples: usize,
    /// Samples of each class.
    pub classes: ClassCounts,
    /// Sizes of the readable images; nothing if there are none.
    pub sizes: Option<Sizes>,
    /// How many readable images there are of each kind, such as `JPEG, 3 channels` or `pixels, 1 channel`.
    pub kinds: BTreeMap<String, usize>,
    /// How many images cannot be read or decoded.
    pub unreadable: usize,
    /// The first of them.
    pub unreadable_listed: Vec<Unreadable>,
}

/// How many samples the classes of a split have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClassCounts {
    /// Samples of each class, by label.
    pub counts: Vec<usize>,
    /// The smallest of the counts.
    pub fewest: usize,
    /// Names of the classes that have the fewest samples.
    pub fewest_names: Vec<String>,
    /// The largest of the counts.
    pub most: usize,
    /// Names of the classes that have the most samples.
    pub most_names: Vec<String>,
}

/// An image that cannot be read or decoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unreadable {
    /// Its position in the split.
    pub index: usize,
    /// What it is called in messages: its path, or its archive and its name therein.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// Reads and decodes every image of a data set, on all threads, and counts what there is.
///
/// `path` is as for [`open`]. Held in memory are at most one image for each thread, what a Parquet file needs, and 48
/// bytes for each sample.
///
/// # Errors
///
/// If the layout is not known or no split can be opened. An image or split that cannot be read is a result, not an
/// error.
pub fn inspect(
    path: impl AsRef<Path>,
    options: &InspectOptions<'_>,
) -> Result<Inspection, DatasetError> {
    let path = path.as_ref();
    let layout = Layout::of(path)?;
    let mut refused = Vec::new();
    let mut first_error = None;
    let mut datasets = Vec::new();
    for split in layout.splits() {
        match open(path, split) {
            Ok(dataset) => datasets.push(dataset),
            Err(error) => {
                refused.push(RefusedSplit {
                    split,
                    reason: reasons(&error),
                });
                first_error.get_or_insert(error);
            }
        }
    }
    if let (true, Some(error)) = (datasets.is_empty(), first_error) {
        return Err(error);
    }
    let mut inspection = inspect_datasets(&layout.to_string(), &datasets, options);
    inspection.refused = refused;
    Ok(inspection)
}

/// As [`inspect`], for splits that are open already; `layout` is what the result says about their form.
pub fn inspect_datasets(
    layout: &str,
    datasets: &[Dataset],
    options: &InspectOptions<'_>,
) -> Inspection {
    let facts: Vec<Vec<Result<Facts, String>>> = datasets
        .iter()
        .map(|dataset| examine(dataset, options))
        .collect();
    let splits = datasets
        .iter()
        .zip(&facts)
        .map(|(dataset, facts)| summarise(dataset, facts, options));
    let contents = facts.iter().enumerate().flat_map(|(part, facts)| {
        let readable = facts.iter().enumerate();
        readable.filter_map(move |(index, facts)| Some((facts.as_ref().ok()?.content, part, index)))
    });
    Inspection {
        layout: layout.to_owned(),
        class_names: datasets
            .first()
            .map(|dataset| dataset.class_names().to_vec())
            .unwrap_or_default(),
        splits: splits.collect(),
        refused: Vec::new(),
        duplicates: duplicates::find(datasets, contents.collect(), options.most_listed),
    }
}

/// What is kept of an image.
struct Facts {
    /// The first 128 bits of the SHA-256 of its file, or of its shape and pixels.
    content: u128,
    width: u32,
    height: u32,
    channels: u8,
    format: &'static str,
}

fn examine(dataset: &Dataset, options: &InspectOptions<'_>) -> Vec<Result<Facts, String>> {
    let done = AtomicUsize::new(0);
    (0..dataset.len())
        .into_par_iter()
        .map(|index| {
            let facts = examine_one(dataset, index).map_err(|error| reasons(&error));
            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
            if let Some(progress) = options.progress {
                progress(InspectProgress {
                    split: dataset.split(),
                    done,
                    total: dataset.len(),
                });
            }
            facts
        })
        .collect()
}

fn examine_one(dataset: &Dataset, index: usize) -> Result<Facts, DatasetError> {
    let (image, content, format) = match dataset.encoded(index)? {
        Some(bytes) => {
            let image = decode(Path::new(&dataset.name(index)), &bytes)?;
            (image, Sha256Hex::hash_bytes(&bytes), format_of(&bytes))
        }
        None => {
            let image = dataset.image(index)?;
            let content = Sha256Hex::hash_bytes(&with_shape(&image));
            (image, content, "pixels")
        }
    };
    Ok(Facts {
        content: u128::from_str_radix(&content.as_str()[..32], 16).expect("a hash is hexadecimal"),
        width: image.width() as u32,
        height: image.height() as u32,
        channels: image.channels() as u8,
        format,
    })
}

/// Pixels with their shape before them: images of other shapes may have the same pixels.
fn with_shape(image: &Image) -> Vec<u8> {
    let shape = [image.width(), image.height(), image.channels()];
    let shape = shape.iter().flat_map(|&size| (size as u64).to_le_bytes());
    shape.chain(image.pixels().iter().copied()).collect()
}

fn format_of(bytes: &[u8]) -> &'static str {
    use ::image::ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    match ::image::guess_format(bytes) {
        Ok(Jpeg) => "JPEG",
        Ok(Png) => "PNG",
        Ok(Gif) => "GIF",
        Ok(WebP) => "WebP",
        Ok(Bmp) => "BMP",
        Ok(Tiff) => "TIFF",
        Ok(Pnm) => "PNM",
        _ => "other",
    }
}

fn summarise(
    dataset: &Dataset,
    facts: &[Result<Facts, String>],
    options: &InspectOptions<'_>,
) -> SplitInspection {
    let mut kinds = BTreeMap::new();
    let mut unreadable = Vec::new();
    for (index, facts) in facts.iter().enumerate() {
        match facts {
            Ok(facts) => {
                let plural = if facts.channels == 1 { "" } else { "s" };
                let kind = format!("{}, {} channel{plural}", facts.format, facts.channels);
                *kinds.entry(kind).or_default() += 1;
            }
            Err(reason) => unreadable.push((index, reason)),
        }
    }
    let readable = facts.iter().filter_map(|facts| facts.as_ref().ok());
    SplitInspection {
        split: dataset.split(),
        samples: dataset.len(),
        classes: count_classes(dataset),
        sizes: Sizes::of(readable.map(|facts| (facts.width, facts.height))),
        kinds,
        unreadable: unreadable.len(),
        unreadable_listed: unreadable
            .into_iter()
            .take(options.most_listed)
            .map(|(index, reason)| Unreadable {
                index,
                name: dataset.name(index),
                reason: reason.clone(),
            })
            .collect(),
    }
}

fn count_classes(dataset: &Dataset) -> ClassCounts {
    let mut counts = vec![0; dataset.class_names().len()];
    for &label in dataset.labels() {
        counts[label as usize] += 1;
    }
    let names = |count: usize| {
        let pairs = counts.iter().zip(dataset.class_names());
        pairs
            .filter(|(other, _)| **other == count)
            .map(|(_, name)| name.clone())
            .collect()
    };
    let fewest = counts.iter().copied().min().unwrap_or(0);
    let most = counts.iter().copied().max().unwrap_or(0);
    ClassCounts {
        fewest,
        fewest_names: names(fewest),
        most,
        most_names: names(most),
        counts,
    }
}
