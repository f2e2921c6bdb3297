//! CUB-200-2011 and NABirds, which share a form: four lists joined on the id of the image.
//!
//! The order of lines means nothing. CUB numbers its classes 1 to 200. NABirds numbers the nodes of a tree, of which
//! 555 have images: a label is the rank of its number among those that occur, in numeric order, and the numbers are kept
//! as [`crate::Dataset::class_ids`].

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use diffrep_artifact::read_bytes;

use super::KnownDataset;
use super::assemble::{Listing, incomplete, locate};
use crate::list::{pairs, start};
use crate::list_files::list_error;
use crate::names::safe_name;
use crate::{DatasetError, Split};

pub(super) fn read_cub(path: &Path, split: Split) -> Result<Listing, DatasetError> {
    let below = ["CUB_200_2011", "CUB_200_2011/CUB_200_2011"];
    let root = locate(KnownDataset::Cub, path, &below, &MARKS)?;
    let (listing, numbers) = read(root, split)?;
    let labels = listing.list.with_file_name(LABELS);
    if numbers
        .iter()
        .ne(&(1..=numbers.len() as u32).collect::<Vec<_>>())
    {
        let problem = "the numbers of its classes are not 1, 2, 3 and so on";
        return Err(incomplete(&labels, problem));
    }
    // Each image lies in the folder of its class, which shows whether the lists were joined rightly.
    for (name, label) in &listing.samples {
        let class = &listing.class_names[*label as usize];
        if name.split('/').next() != Some(class) {
            let problem = format!("it gives {name:?} the class {class:?}");
            return Err(incomplete(&labels, problem));
        }
    }
    Ok(listing)
}

pub(super) fn read_nabirds(path: &Path, split: Split) -> Result<Listing, DatasetError> {
    let root = locate(KnownDataset::NaBirds, path, &["nabirds"], &MARKS)?;
    let (listing, numbers) = read(root, split)?;
    let class_ids = numbers.iter().map(u32::to_string).collect();
    Ok(Listing {
        class_ids,
        ..listing
    })
}

const MARKS: [&str; 1] = ["train_test_split.txt"];
const LABELS: &str = "image_class_labels.txt";

/// The listing of a split, and the official number of each class in the order of labels.
fn read(root: PathBuf, split: Split) -> Result<(Listing, Vec<u32>), DatasetError> {
    let list = root.join("images.txt");
    let bytes = read_bytes(&list)?;
    let images = pairs(&list, &bytes)?;
    let mut seen = HashMap::new();
    for image in &images {
        unique(&list, &mut seen, image.line, image.id, ())?;
    }
    let classes = column(&root.join(LABELS), &seen, number)?;
    let in_train = column(&root.join("train_test_split.txt"), &seen, flag)?;

    let numbers: Vec<u32> = classes
        .values()
        .copied()
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    let class_names = class_names(&root.join("classes.txt"), &numbers)?;
    let mut samples = Vec::new();
    for image in &images {
        let name = safe_name(&list, image.rest)?;
        if in_train[image.id] == (split == Split::Train) {
            let label = numbers.binary_search(&classes[image.id]);
            samples.push((name, label.expect("the number occurs") as u32));
        }
    }
    let listing = Listing {
        list,
        root: root.join("images"),
        class_names,
        class_ids: Vec::new(),
        samples,
    };
    Ok((listing, numbers))
}

/// One value for each image, by its id.
fn column<T>(
    path: &Path,
    images: &HashMap<String, ()>,
    parse: fn(&str) -> Result<T, &'static str>,
) -> Result<HashMap<String, T>, DatasetError> {
    let bytes = read_bytes(path)?;
    let mut values = HashMap::new();
    for pair in pairs(path, &bytes)? {
        if !images.contains_key(pair.id) {
            let problem = format!("the image {:?} is not in images.txt", start(pair.id));
            return Err(list_error(path, pair.line, problem));
        }
        let value = parse(pair.rest).map_err(|expected| {
            let problem = format!("it gives {:?}, expected {expected}", start(pair.rest));
            list_error(path, pair.line, problem)
        })?;
        unique(path, &mut values, pair.line, pair.id, value)?;
    }
    match images.keys().filter(|id| !values.contains_key(*id)).min() {
        None => Ok(values),
        Some(id) => {
            let missing = images.len() - values.len();
            let problem = format!(
                "it lacks {missing} images of images.txt, one is {:?}",
                start(id)
            );
            Err(incomplete(path, problem))
        }
    }
}

fn unique<T>(
    path: &Path,
    values: &mut HashMap<String, T>,
    line: usize,
    id: &str,
    value: T,
) -> Result<(), DatasetError> {
    match values.insert(id.to_owned(), value) {
        None => Ok(()),
        Some(_) => Err(list_error(
            path,
            line,
            format!("the id {:?} occurs twice", start(id)),
        )),
    }
}

fn number(text: &str) -> Result<u32, &'static str> {
    text.parse().map_err(|_| "the number of a class")
}

fn flag(text: &str) -> Result<bool, &'static str> {
    match text {
        "1" => Ok(true),
        "0" => Ok(false),
        _ => Err("1 for training or 0 for test"),
    }
}

fn class_names(path: &Path, numbers: &[u32]) -> Result<Vec<String>, DatasetError> {
    let bytes = read_bytes(path)?;
    let mut names = HashMap::new();
    for pair in pairs(path, &bytes)? {
        let number = number(pair.id).map_err(|expected| {
            let problem = format!("it starts with {:?}, expected {expected}", start(pair.id));
            list_error(path, pair.line, problem)
        })?;
        if names.insert(number, pair.rest.to_owned()).is_some() {
            let problem = format!("the class {number} occurs twice");
            return Err(list_error(path, pair.line, problem));
        }
    }
    numbers
        .iter()
        .map(|number| {
            let name = names.remove(number);
            name.ok_or_else(|| {
                incomplete(path, format!("it has no class {number}, which images have"))
            })
        })
        .collect()
}
