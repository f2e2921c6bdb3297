//! ImageNet (ILSVRC2012) from any layout, checked against its official numbers.
//!
//! The paper's test split is the official validation split, for the labels of the official test images were never
//! published.

use std::path::Path;

use super::assemble::{Request, incomplete};
use super::ilsvrc::is_wnid;
use crate::{Completeness, Dataset, DatasetError, Split, tree};

/// The wnids of the 1,000 classes, ascending: a class's label is its rank.
const WNIDS: &str = include_str!("imagenet_wnids.txt");

pub(super) fn open(request: &Request, path: &Path) -> Result<Dataset, DatasetError> {
    let dataset = as_official(images(path, request.split)?, request.split);
    let found = wnids(path, &dataset)?;
    let official: Vec<String> = WNIDS.lines().map(str::to_owned).collect();
    let mut ranks = Vec::with_capacity(found.len());
    for wnid in &found {
        let rank = official.binary_search(wnid).map_err(|_| {
            let problem = format!("{wnid} is not among the 1000 classes of ImageNet (ILSVRC2012)");
            incomplete(path, problem)
        })?;
        ranks.push(rank as u32);
    }
    let some = found.len() < official.len() && !found.is_empty();
    let dataset = match some && request.completeness == Completeness::AllowPartial {
        false => dataset,
        // Classes that are missing keep their labels.
        true => {
            let labels = dataset.labels().iter().map(|&label| ranks[label as usize]);
            let kept: Vec<(usize, u32)> = labels.enumerate().collect();
            dataset.relabelled(request.split, &kept, official.as_slice().into())
        }
    };
    let class_ids = match found.is_empty() {
        true => found,
        false => official,
    };
    request.finish(path, dataset, class_ids)
}

/// The images of the paper's split, whatever layout they have; every layout of ImageNet comes in here.
pub(super) fn images(path: &Path, split: Split) -> Result<Dataset, DatasetError> {
    // The folders of SCAN are called after the archives, so they are not recognised by `open`.
    let train = path.join("ILSVRC2012_img_train");
    if train.is_dir() {
        let classes = tree::class_names(&train)?.into();
        return match split {
            Split::Train => tree::open(&train, split, classes),
            _ => tree::open(&path.join("ILSVRC2012_img_val"), split, classes),
        };
    }
    let official = match split {
        Split::Train => Split::Train,
        _ => Split::Validation,
    };
    crate::open(path, official)
}

/// The official validation images as the test split that they are for the paper.
fn as_official(dataset: Dataset, split: Split) -> Dataset {
    let kept: Vec<(usize, u32)> = dataset.labels().iter().copied().enumerate().collect();
    let class_names = dataset.class_names().into();
    dataset.relabelled(split, &kept, class_names)
}

/// The wnids of all classes if that is what the layout calls them; else nothing.
///
/// Wnids in another order than the ascending one would be numbers of the development kit taken for labels.
pub(super) fn wnids(path: &Path, dataset: &Dataset) -> Result<Vec<String>, DatasetError> {
    let names = dataset.class_names();
    if !names.iter().all(|name| is_wnid(name)) {
        return Ok(Vec::new());
    }
    match names.windows(2).find(|pair| pair[0] >= pair[1]) {
        None => Ok(names.to_vec()),
        Some(pair) => {
            let problem = format!(
                "its classes are not in the ascending order of wnids: {} stands before {}",
                pair[0], pair[1]
            );
            Err(incomplete(path, problem))
        }
    }
}
