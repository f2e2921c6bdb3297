//! Stanford Cars, in the layouts that its archives and their copies unpack to.
//!
//! - `cars_train` and `cars_test` with five-digit names (once doubled: `cars_train/cars_train`), and the development kit.
//! - `car_ims` with six-digit names, and `cars_annos.mat`.
//! - `train/<class>` and `test/<class>`, with `cars_meta.mat` for the official numbers of the classes.
//!
//! The two numberings are different sequences: a list of one must never meet images of the other, so the digits are
//! counted.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::KnownDataset;
use super::assemble::{Listing, Request, first_existing, incomplete, locate, plain_name};
use crate::list::start;
use crate::mat::{Record, read_mat};
use crate::names::safe_name;
use crate::{Dataset, DatasetError, Split, tree};

/// Where the development kit may lie.
const KITS: [&str; 4] = ["", "devkit", "car_devkit/devkit", "car_devkit"];

pub(super) fn open(request: &Request, path: &Path) -> Result<Dataset, DatasetError> {
    let below = ["stanford_cars", "cars", "car_data", "car_data/car_data"];
    let marks = ["cars_train", "cars_test", "car_ims", "train"];
    let root = locate(KnownDataset::Cars, path, &below, &marks)?;
    let is_there = |name: &str| root.join(name).is_dir();
    if is_there("cars_train") || is_there("cars_test") {
        return request.assemble(parted(&root, request.split)?);
    }
    if is_there("car_ims") {
        return request.assemble(whole(&root, request.split)?);
    }
    class_folders(request, &root)
}

/// `cars_train` and `cars_test`.
fn parted(root: &Path, split: Split) -> Result<Listing, DatasetError> {
    let (folder, annotations) = match split {
        Split::Train => ("cars_train", "cars_train_annos.mat"),
        _ => ("cars_test", "cars_test_annos_withlabels.mat"),
    };
    let list = match in_kit(root, annotations) {
        Some(list) => list,
        None if split == Split::Test => return Err(no_test_labels(root)),
        None => return Err(no_train_labels(root)),
    };
    let file = read_mat(&list)?;
    let records = file.records("annotations")?;
    if split == Split::Test && records.iter().any(|record| !record.has("class")) {
        return Err(no_test_labels(&list));
    }
    let samples = records
        .iter()
        .map(|record| {
            let name = numbered(&list, record.text("fname")?, 5)?;
            Ok((name, label(&list, record)?))
        })
        .collect::<Result<_, DatasetError>>()?;
    let doubled = root.join(folder).join(folder);
    Ok(Listing {
        list,
        root: if doubled.is_dir() {
            doubled
        } else {
            root.join(folder)
        },
        class_names: class_names(root)?,
        class_ids: Vec::new(),
        samples,
    })
}

/// `car_ims`.
fn whole(root: &Path, split: Split) -> Result<Listing, DatasetError> {
    let list = in_kit(root, "cars_annos.mat").ok_or_else(|| {
        let problem = "it has the six-digit images of car_ims but no cars_annos.mat; the lists of the development kit number the images otherwise";
        incomplete(root, problem)
    })?;
    let file = read_mat(&list)?;
    let mut samples = Vec::new();
    for record in file.records("annotations")? {
        let name = safe_name(&list, record.text("relative_im_path")?)?;
        let name = name.strip_prefix("car_ims/").ok_or_else(|| {
            let problem = format!("it names {:?}, expected an image in car_ims", start(&name));
            incomplete(&list, problem)
        })?;
        let name = numbered(&list, name, 6)?;
        let label = label(&list, &record)?;
        let part = match record.integer("test")? {
            0 => Split::Train,
            1 => Split::Test,
            other => {
                let problem = format!("{name} has test = {other}, expected 0 or 1");
                return Err(incomplete(&list, problem));
            }
        };
        if part == split {
            samples.push((name, label));
        }
    }
    let class_names = match file.has("class_names") {
        true => file.texts("class_names")?,
        false => class_names(root)?,
    };
    Ok(Listing {
        list,
        root: root.join("car_ims"),
        class_names,
        class_ids: Vec::new(),
        samples,
    })
}

/// `train/<class>` and `test/<class>`: official numbers come from the names, of which a folder cannot hold every sign.
fn class_folders(request: &Request, root: &Path) -> Result<Dataset, DatasetError> {
    let folder = root.join(match request.split {
        Split::Train => "train",
        _ => "test",
    });
    let names = class_names(root)?;
    let mut labels = HashMap::new();
    for (label, name) in (0..).zip(&names) {
        if labels.insert(letters(name), label).is_some() {
            return Err(incomplete(root, format!("two classes are called {name:?}")));
        }
    }
    let folders = tree::class_names(&folder)?;
    let official = folders
        .iter()
        .map(|name| {
            let label = labels.get(&letters(name)).copied();
            label.ok_or_else(|| DatasetError::UnknownClass {
                path: folder.join(name),
                known: names.len(),
            })
        })
        .collect::<Result<Vec<u32>, _>>()?;
    let dataset = tree::open(&folder, request.split, folders.into())?;
    let kept: Vec<(usize, u32)> = dataset
        .labels()
        .iter()
        .map(|&label| official[label as usize])
        .enumerate()
        .collect();
    let dataset = dataset.relabelled(request.split, &kept, names.into());
    request.finish(&folder, dataset, Vec::new())
}

fn letters(name: &str) -> String {
    let letters = name.chars().filter(|letter| letter.is_alphanumeric());
    letters.flat_map(char::to_lowercase).collect()
}

fn in_kit(root: &Path, name: &str) -> Option<PathBuf> {
    let mut paths = KITS.iter().map(|kit| root.join(kit).join(name));
    paths.find(|path| path.is_file())
}

fn class_names(root: &Path) -> Result<Vec<String>, DatasetError> {
    let names = KITS.map(|kit| match kit {
        "" => "cars_meta.mat".to_owned(),
        kit => format!("{kit}/cars_meta.mat"),
    });
    let meta = first_existing(root, &names.each_ref().map(String::as_str))?;
    read_mat(&meta)?.texts("class_names")
}

fn label(list: &Path, record: &Record<'_>) -> Result<u32, DatasetError> {
    let class = record.integer("class")?;
    let classes = KnownDataset::Cars.classes() as u64;
    if (1..=classes).contains(&class) {
        return Ok(class as u32 - 1);
    }
    let problem = format!("it has the class {class}, expected 1 to {classes}");
    Err(incomplete(list, problem))
}

/// A name such as `00001.jpg`, of exactly so many digits.
fn numbered(list: &Path, name: &str, digits: usize) -> Result<String, DatasetError> {
    let name = plain_name(list, name)?;
    let stem = name.strip_suffix(".jpg").unwrap_or(&name);
    if stem.len() == digits && stem.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(name);
    }
    let problem = format!(
        "it names {:?}, expected a number of {digits} digits; images numbered by five and by six digits are different sequences",
        start(&name)
    );
    Err(incomplete(list, problem))
}

fn no_test_labels(path: &Path) -> DatasetError {
    let problem = "the labels of the test images are absent: cars_test_annos.mat has none, and some copies leave cars_test_annos_withlabels.mat out; put that file beside cars_test";
    incomplete(path, problem)
}

fn no_train_labels(root: &Path) -> DatasetError {
    let problem = match in_kit(root, "cars_annos.mat") {
        Some(_) => {
            "it has no cars_train_annos.mat, and cars_annos.mat numbers the images of car_ims by six digits, which is another sequence than that of cars_train; put the development kit into devkit"
        }
        None => "it has no cars_train_annos.mat; put the development kit into devkit",
    };
    incomplete(root, problem)
}
