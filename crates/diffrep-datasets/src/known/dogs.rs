//! Stanford Dogs: `train_list.mat` and `test_list.mat` give the path of each image below `Images` and its class from 1.
//!
//! Folders are called `<wnid>-<breed>`; their rank must agree with the class numbers.

use std::collections::BTreeMap;
use std::path::Path;

use super::KnownDataset;
use super::assemble::{Listing, first_existing, incomplete, locate};
use crate::list::start;
use crate::mat::read_mat;
use crate::names::safe_name;
use crate::{DatasetError, Split};

pub(super) fn read(path: &Path, split: Split) -> Result<Listing, DatasetError> {
    let below = ["StanfordDogs", "stanford_dogs", "stanford-dogs", "dogs"];
    let marks = [
        "train_list.mat",
        "lists/train_list.mat",
        "test_list.mat",
        "lists/test_list.mat",
    ];
    let root = locate(KnownDataset::Dogs, path, &below, &marks)?;
    let list = first_existing(
        &root,
        match split {
            Split::Train => &["train_list.mat", "lists/train_list.mat"],
            _ => &["test_list.mat", "lists/test_list.mat"],
        },
    )?;
    let file = read_mat(&list)?;
    let (names, numbers) = (file.texts("file_list")?, file.integers("labels")?);
    if names.len() != numbers.len() {
        let problem = format!("it has {} files and {} labels", names.len(), numbers.len());
        return Err(incomplete(&list, problem));
    }

    let mut samples = Vec::with_capacity(names.len());
    let mut folders = BTreeMap::new();
    for (name, number) in names.into_iter().zip(numbers) {
        let name = safe_name(&list, &name)?;
        let folder = match name.split_once('/') {
            Some((folder, file)) if !file.contains('/') => folder,
            _ => {
                let problem = format!("it names {:?}, expected `folder/file`", start(&name));
                return Err(incomplete(&list, problem));
            }
        };
        let before = folders.insert(folder.to_owned(), number);
        if before.is_some_and(|before| before != number) {
            let problem = format!("it gives the images of {folder:?} different labels");
            return Err(incomplete(&list, problem));
        }
        samples.push((name, number));
    }
    // A class without images in the list would move the ranks; the number of classes is checked with the counts.
    if folders.len() == KnownDataset::Dogs.classes() {
        for (rank, (folder, number)) in (1..).zip(&folders) {
            if *number != rank {
                let problem = format!(
                    "it gives {folder:?} the label {number}, and its rank among the folders is {rank}"
                );
                return Err(incomplete(&list, problem));
            }
        }
    }
    listing(&root, list, folders.into_keys().collect(), samples)
}

fn listing(
    root: &Path,
    list: std::path::PathBuf,
    folders: Vec<String>,
    samples: Vec<(String, u64)>,
) -> Result<Listing, DatasetError> {
    let (mut class_names, mut class_ids) = (Vec::new(), Vec::new());
    for folder in &folders {
        let (wnid, breed) = folder.split_once('-').ok_or_else(|| {
            let problem = format!(
                "it names the folder {:?}, expected `<wnid>-<breed>`",
                start(folder)
            );
            incomplete(&list, problem)
        })?;
        class_ids.push(wnid.to_owned());
        class_names.push(breed.replace('_', " "));
    }
    let samples = samples
        .into_iter()
        .map(|(name, number)| {
            // Too large a number can only come with a wrong number of classes, which is refused.
            let label = u32::try_from(number.saturating_sub(1)).unwrap_or(u32::MAX);
            (name, label)
        })
        .collect();
    Ok(Listing {
        root: first_existing(root, &["Images", "images"])?,
        list,
        class_names,
        class_ids,
        samples,
    })
}
