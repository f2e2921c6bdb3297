//! What the tests of known data sets share.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::path::Path;

use diffrep_artifact::Sha256Hex;
use diffrep_datasets::{Completeness, Dataset, KnownDataset, Split, open_known};

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// Makes empty files; images are opened only when they are asked for.
pub(crate) fn touch<T: AsRef<str>>(folder: &Path, names: impl IntoIterator<Item = T>) {
    let mut last = None;
    for name in names {
        let path = folder.join(name.as_ref());
        let parent = path.parent().unwrap();
        if last.as_deref() != Some(parent) {
            fs::create_dir_all(parent).unwrap();
            last = Some(parent.to_path_buf());
        }
        fs::File::create(&path).unwrap();
    }
}

/// The lines of a list.
pub(crate) fn lines<T: AsRef<str>>(lines: impl IntoIterator<Item = T>) -> String {
    lines
        .into_iter()
        .map(|line| format!("{}\n", line.as_ref()))
        .collect()
}

pub(crate) fn full(known: KnownDataset, path: &Path, split: Split) -> Dataset {
    open_known(known, path, split, Completeness::Full).unwrap()
}

pub(crate) fn partial(known: KnownDataset, path: &Path, split: Split) -> Dataset {
    open_known(known, path, split, Completeness::AllowPartial).unwrap()
}

/// The message of the error, which must come without leave for missing images and with it.
pub(crate) fn refusal(known: KnownDataset, path: &Path, split: Split) -> String {
    let refuse = |completeness| {
        let error = open_known(known, path, split, completeness).unwrap_err();
        error.to_string()
    };
    let message = refuse(Completeness::AllowPartial);
    let full = refuse(Completeness::Full);
    assert!(!full.is_empty() && !message.is_empty());
    message
}

/// The id that a relative path has.
pub(crate) fn id(name: &str) -> u64 {
    let hash = Sha256Hex::hash_bytes(name.as_bytes());
    u64::from_str_radix(&hash.as_str()[..16], 16).unwrap() >> 1
}

/// File names below a folder, in the order of samples.
pub(crate) fn names(dataset: &Dataset, folder: &Path) -> Vec<String> {
    let folder = fs::canonicalize(folder).unwrap();
    (0..dataset.len())
        .map(|index| {
            let path = dataset.path(index).unwrap();
            let name = path.strip_prefix(&folder).unwrap();
            name.to_str().unwrap().to_owned()
        })
        .collect()
}
