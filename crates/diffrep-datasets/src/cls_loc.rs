//! ImageNet as Kaggle distributes it: the folders of the "Object Localization" challenge.
//!
//! `ILSVRC/Data/CLS-LOC/train` has a folder for each class, `.../val` has images without folders, whose classes stand
//! in `LOC_val_solution.csv`; the classes are the first words of the lines of `LOC_synset_mapping.txt`, sorted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diffrep_artifact::read_bytes;

use crate::dataset::Source;
use crate::names::{id_of, safe_name};
use crate::{Dataset, DatasetError, Split, tree};

/// The file with the classes, which tells this layout from others.
const MAPPING: &str = "LOC_synset_mapping.txt";

/// The file with the classes of the validation images.
const SOLUTION: &str = "LOC_val_solution.csv";

/// Where the images are, if the folder has this layout.
pub(crate) fn images(folder: &Path) -> Option<PathBuf> {
    let images = folder.join("ILSVRC/Data/CLS-LOC");
    (folder.join(MAPPING).is_file() && images.is_dir()).then_some(images)
}

/// The splits with labels; those of the test images were never published.
pub(crate) fn splits(images: &Path) -> Vec<Split> {
    [(Split::Train, "train"), (Split::Validation, "val")]
        .into_iter()
        .filter(|(_, name)| images.join(name).is_dir())
        .map(|(split, _)| split)
        .collect()
}

/// Opens a split, which must exist.
pub(crate) fn open(folder: &Path, images: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let classes = classes(&folder.join(MAPPING))?;
    if split == Split::Train {
        return tree::open(&images.join("train"), split, classes);
    }
    let solutions = solutions(&folder.join(SOLUTION), &classes)?;
    let root = images.join("val");
    let names = tree::images(&root)?;
    let mut labels = Vec::with_capacity(names.len());
    let mut ids = Vec::with_capacity(names.len());
    for name in &names {
        let stem = name
            .rsplit_once('.')
            .map_or(name.as_str(), |(stem, _)| stem);
        let label = solutions
            .get(stem)
            .ok_or_else(|| DatasetError::Incomplete {
                path: root.join(name),
                problem: format!("{SOLUTION} does not give its class"),
            })?;
        labels.push(*label);
        ids.push(id_of(&format!("{}/{name}", classes[*label as usize])));
    }
    if names.len() != solutions.len() {
        return Err(DatasetError::CountMismatch {
            path: folder.join(SOLUTION),
            images: root,
            expected: names.len(),
            found: solutions.len(),
        });
    }
    Ok(Dataset::from_parts(
        split,
        classes,
        labels,
        ids,
        Source::Files { root, names },
    ))
}

fn classes(path: &Path) -> Result<Arc<[String]>, DatasetError> {
    let text = read_text(path)?;
    let mut classes = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let wnid = line.split_whitespace().next().unwrap_or_default();
        classes.push(safe_name(path, wnid)?);
    }
    classes.sort_unstable();
    classes.dedup();
    if classes.is_empty() {
        return Err(list_error(
            path,
            1,
            "it names no class; expected lines of `<wnid> <names>`",
        ));
    }
    Ok(classes.into())
}

/// The label of each image's stem: the first word of its prediction is a class, the others are boxes.
fn solutions(path: &Path, classes: &[String]) -> Result<HashMap<String, u32>, DatasetError> {
    let text = read_text(path)?;
    let mut solutions = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || (index == 0 && line.starts_with("ImageId")) {
            continue;
        }
        let expected = || list_error(path, index + 1, "expected `<image>,<wnid> <box> ...`");
        let (stem, prediction) = line.split_once(',').ok_or_else(expected)?;
        let wnid = prediction
            .trim_matches('"')
            .split_whitespace()
            .next()
            .ok_or_else(expected)?;
        let label = classes
            .binary_search_by(|class| class.as_str().cmp(wnid))
            .map_err(|_| {
                list_error(
                    path,
                    index + 1,
                    &format!("{wnid:?} is not a class of {MAPPING}"),
                )
            })?;
        if solutions.insert(stem.to_owned(), label as u32).is_some() {
            return Err(list_error(
                path,
                index + 1,
                &format!("the image {stem:?} occurs twice"),
            ));
        }
    }
    Ok(solutions)
}

fn read_text(path: &Path) -> Result<String, DatasetError> {
    String::from_utf8(read_bytes(path)?).map_err(|_| list_error(path, 1, "it is not valid UTF-8"))
}

fn list_error(path: &Path, line: usize, problem: &str) -> DatasetError {
    DatasetError::List {
        path: path.to_path_buf(),
        line,
        problem: problem.to_owned(),
    }
}
