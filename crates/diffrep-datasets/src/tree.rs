//! Class-per-folder image trees, by the rules of torchvision's `ImageFolder`.
//!
//! Classes are the sorted names of the sub-folders; samples are ordered by class, then by the path of their folder,
//! then by file name, all by bytes; symbolic links are followed; a class without images is an error.
//! Unlike torchvision, names that start with a dot are passed over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::dataset::{Source, duplicate};
use crate::error::io_error;
use crate::names::{id_of, is_image};
use crate::{Dataset, DatasetError, Split};

/// The folder of each split that the folder holds, if it has a level of splits.
///
/// A folder named like a split counts if it holds folders and no images, which tells it from a class of that name.
pub(crate) fn split_folders(folder: &Path) -> Result<Vec<(Split, PathBuf)>, DatasetError> {
    let names = [
        (Split::Train, ["train"].as_slice()),
        (Split::Validation, &["val", "validation", "valid"]),
        (Split::Test, &["test"]),
    ];
    let mut found = Vec::new();
    for (split, names) in names {
        for path in names.iter().map(|name| folder.join(name)) {
            if path.is_dir() {
                let entries = list(&path)?;
                if !entries.folders.is_empty() && !entries.files.iter().any(|name| is_image(name)) {
                    found.push((split, path));
                    break;
                }
            }
        }
    }
    Ok(found)
}

/// The sorted names of the class folders in a folder.
pub(crate) fn class_names(folder: &Path) -> Result<Vec<String>, DatasetError> {
    Ok(list(folder)?.folders)
}

/// Whether a folder in the folder holds images.
pub(crate) fn has_class_with_images(folder: &Path) -> Result<bool, DatasetError> {
    for class in list(folder)?.folders {
        if !images(&folder.join(class))?.is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The sorted names of the images that lie directly in a folder.
pub(crate) fn images(folder: &Path) -> Result<Vec<String>, DatasetError> {
    let mut files = list(folder)?.files;
    files.retain(|name| is_image(name));
    Ok(files)
}

/// Opens the class folders below `folder`; each must be among `class_names`, but not every class must have one.
pub(crate) fn open(
    folder: &Path,
    split: Split,
    class_names: Arc<[String]>,
) -> Result<Dataset, DatasetError> {
    let mut names = Vec::new();
    let mut labels = Vec::new();
    for class in list(folder)?.folders {
        let path = folder.join(&class);
        let label = class_names.iter().position(|name| *name == class);
        let label = label.ok_or_else(|| DatasetError::UnknownClass {
            path: path.clone(),
            known: class_names.len(),
        })?;
        let first = names.len();
        for (folder, files) in walk(&path, &class)? {
            names.extend(files.iter().map(|file| format!("{folder}/{file}")));
        }
        if names.len() == first {
            return Err(DatasetError::EmptyClass { path });
        }
        labels.resize(names.len(), label as u32);
    }
    let ids: Vec<u64> = names.iter().map(|name| id_of(name)).collect();
    if let Some(id) = duplicate(&ids) {
        return Err(DatasetError::DuplicateId {
            path: folder.to_path_buf(),
            id,
        });
    }
    let source = Source::Files {
        root: folder.to_path_buf(),
        names,
    };
    Ok(Dataset::from_parts(split, class_names, labels, ids, source))
}

/// The image names of every folder at or below `top`, keyed by the folder's relative path.
fn walk(top: &Path, relative: &str) -> Result<BTreeMap<String, Vec<String>>, DatasetError> {
    let mut images = BTreeMap::new();
    let mut pending = vec![(top.to_path_buf(), relative.to_owned())];
    while let Some((path, relative)) = pending.pop() {
        let mut entries = list(&path)?;
        for folder in entries.folders {
            let inner = path.join(&folder);
            refuse_loop(&inner)?;
            pending.push((inner, format!("{relative}/{folder}")));
        }
        entries.files.retain(|name| is_image(name));
        images.insert(relative, entries.files);
    }
    Ok(images)
}

/// A link to a folder that contains the link would be walked for ever.
fn refuse_loop(folder: &Path) -> Result<(), DatasetError> {
    if !folder.is_symlink() {
        return Ok(());
    }
    let parent = folder.parent().unwrap_or(folder);
    let resolve = |path: &Path| fs::canonicalize(path).map_err(io_error(path, "resolved"));
    if resolve(parent)?.starts_with(resolve(folder)?) {
        return Err(DatasetError::LinkLoop {
            path: folder.to_path_buf(),
        });
    }
    Ok(())
}

/// What a folder holds, sorted by bytes, without names that start with a dot.
struct Entries {
    folders: Vec<String>,
    files: Vec<String>,
}

fn list(folder: &Path) -> Result<Entries, DatasetError> {
    let mut entries = Entries {
        folders: Vec::new(),
        files: Vec::new(),
    };
    for entry in fs::read_dir(folder).map_err(io_error(folder, "listed"))? {
        let entry = entry.map_err(io_error(folder, "listed"))?;
        let path = entry.path();
        let name = entry
            .file_name()
            .into_string()
            .map_err(|_| DatasetError::NotUtf8 { path: path.clone() })?;
        // What macOS puts into archives is no class either.
        if name.starts_with('.') || name == "__MACOSX" {
            continue;
        }
        let kind = entry.file_type().map_err(io_error(&path, "examined"))?;
        // A broken link counts as a file, so that reading it names it.
        if kind.is_dir() || (kind.is_symlink() && path.is_dir()) {
            entries.folders.push(name);
        } else {
            entries.files.push(name);
        }
    }
    entries.folders.sort_unstable();
    entries.files.sort_unstable();
    Ok(entries)
}
