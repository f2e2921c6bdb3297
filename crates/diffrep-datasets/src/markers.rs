//! Trees that look like class folders and are not: opened as such, their labels would be wrong without a word.

use std::path::Path;

use crate::{DatasetError, KnownDataset, tree};

/// Files and folders that tell a known data set, relative to its folder or to one inside it.
const MARKERS: [(&str, KnownDataset); 9] = [
    ("setid.mat", KnownDataset::Flowers),
    ("flowers-102/setid.mat", KnownDataset::Flowers),
    ("hierarchy.txt", KnownDataset::NaBirds),
    ("image_class_labels.txt", KnownDataset::Cub),
    ("CUB_200_2011/image_class_labels.txt", KnownDataset::Cub),
    ("train_list.mat", KnownDataset::Dogs),
    ("lists/train_list.mat", KnownDataset::Dogs),
    ("data/variants.txt", KnownDataset::Aircraft),
    ("variants.txt", KnownDataset::Aircraft),
];

/// The same for Stanford Cars, of which there are many layouts.
const CARS: [&str; 5] = [
    "cars_annos.mat",
    "cars_train",
    "car_ims",
    "devkit/cars_meta.mat",
    "cars_test_annos_withlabels.mat",
];

/// Names that folders of splits have; those of [`tree::split_folders`] were looked for before.
const SPLITS: [&str; 9] = [
    "train",
    "training",
    "val",
    "valid",
    "validation",
    "test",
    "testing",
    "images_train",
    "images_test",
];

/// Refuses to take a folder for class folders where something in it says that it is none.
///
/// # Errors
///
/// If the folder is a known data set with lists of its own, lacks the list of ImageNet's classes, or holds only folders
/// that are called like splits.
pub(crate) fn refuse(path: &Path) -> Result<(), DatasetError> {
    let there = |name: &&str| path.join(name).exists();
    let marked = MARKERS.iter().find(|(name, _)| there(name));
    let known = marked.map(|(name, known)| (*name, *known));
    let cars = || CARS.iter().find(|name| there(name));
    if let Some((marker, known)) = known.or_else(|| Some((*cars()?, KnownDataset::Cars))) {
        return Err(DatasetError::LooksLike {
            path: path.to_path_buf(),
            marker,
            known,
        });
    }
    if path.join("ILSVRC/Data/CLS-LOC").is_dir() {
        return Err(DatasetError::Incomplete {
            path: path.to_path_buf(),
            problem:
                "LOC_synset_mapping.txt is missing, which tells the classes of ILSVRC/Data/CLS-LOC"
                    .to_owned(),
        });
    }
    // A class of trains among others is one.
    let classes = tree::class_names(path)?;
    let is_split = |name: &String| SPLITS.contains(&name.to_lowercase().as_str());
    match classes.first() {
        Some(first) if classes.iter().all(is_split) => Err(DatasetError::SplitAsClass {
            path: path.join(first),
        }),
        _ => Ok(()),
    }
}
