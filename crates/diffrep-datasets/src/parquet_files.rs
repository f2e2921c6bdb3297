//! The Parquet files of a Hugging Face data set: where they are, and which split each belongs to.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::error::io_error;
use crate::names::split_in;
use crate::{DatasetError, Split};

/// The files of each split, sorted; empty if there is no Parquet file.
///
/// Looked for are `data/<split>-00000-of-00002.parquet` and `default/<split>/0000.parquet`, and both forms without
/// the outermost folder.
pub(crate) fn splits(folder: &Path) -> Result<Vec<(Split, Vec<PathBuf>)>, DatasetError> {
    for outer in [
        folder.join("data"),
        folder.join("default"),
        folder.to_path_buf(),
    ] {
        let mut splits: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
        for path in in_folder(&outer)? {
            let split = split_in(&file_name(&path)).ok_or_else(|| {
                incomplete(
                    &path,
                    "its name mentions no split; expected names like train-00000-of-00001.parquet",
                )
            })?;
            splits.entry(split as usize).or_default().push(path);
        }
        for name in ["train", "validation", "test"] {
            let split = split_in(name).expect("each is the name of a split");
            let files = in_folder(&outer.join(name))?;
            if !files.is_empty() {
                splits.entry(split as usize).or_default().extend(files);
            }
        }
        for files in splits.values() {
            require_all(files)?;
        }
        if !splits.is_empty() {
            return Ok(splits
                .into_iter()
                .map(|(split, files)| (Split::ALL[split], files))
                .collect());
        }
    }
    Ok(Vec::new())
}

/// A path that is a Parquet file by itself, as the split that its name mentions, or else the training split.
pub(crate) fn by_name(path: &Path) -> Option<(Split, PathBuf)> {
    let name = file_name(path);
    let alone = name.ends_with(".parquet") && path.is_file();
    alone.then(|| (split_in(&name).unwrap_or(Split::Train), path.to_path_buf()))
}

/// Refuses a split of which a file is missing: the number of files stands in their names.
fn require_all(files: &[PathBuf]) -> Result<(), DatasetError> {
    for path in files {
        let name = file_name(path);
        let total = name
            .strip_suffix(".parquet")
            .and_then(|stem| stem.rsplit_once("-of-"))
            .and_then(|(_, total)| total.parse::<usize>().ok());
        if total.is_some_and(|total| total != files.len()) {
            return Err(incomplete(
                path,
                &format!(
                    "{} files of its split are there, but its name promises another number; complete the download",
                    files.len()
                ),
            ));
        }
    }
    Ok(())
}

fn in_folder(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for entry in fs::read_dir(folder).map_err(io_error(folder, "listed"))? {
        let path = entry.map_err(io_error(folder, "listed"))?.path();
        let name = file_name(&path);
        if name.ends_with(".parquet") && !name.starts_with('.') && path.is_file() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn incomplete(path: &Path, problem: &str) -> DatasetError {
    DatasetError::Incomplete {
        path: path.to_path_buf(),
        problem: problem.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> Result<Vec<(Split, usize)>, DatasetError> {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let splits = splits(folder.path())?;
        Ok(splits
            .into_iter()
            .map(|(split, files)| (split, files.len()))
            .collect())
    }

    #[test]
    fn both_forms_of_names_are_found() {
        let hub = [
            "data/train-00000-of-00002.parquet",
            "data/train-00001-of-00002.parquet",
            "data/validation-00000-of-00001.parquet",
            "README.md",
        ];
        assert_eq!(
            found(&hub).unwrap(),
            [(Split::Train, 2), (Split::Validation, 1)]
        );
        let converted = [
            "default/train/0000.parquet",
            "default/train/0001.parquet",
            "default/test/0000.parquet",
        ];
        assert_eq!(
            found(&converted).unwrap(),
            [(Split::Train, 2), (Split::Test, 1)]
        );
        assert_eq!(found(&["test/0000.parquet"]).unwrap(), [(Split::Test, 1)]);
        assert_eq!(found(&["train.parquet"]).unwrap(), [(Split::Train, 1)]);
        assert_eq!(found(&["a/b.png"]).unwrap(), []);
    }

    #[test]
    fn a_missing_file_and_a_nameless_split_are_refused() {
        let error = found(&["data/train-00000-of-00002.parquet"]).unwrap_err();
        assert!(
            error.to_string().contains("complete the download"),
            "{error}"
        );
        let error = found(&["data/0000.parquet"]).unwrap_err();
        assert!(error.to_string().contains("mentions no split"), "{error}");
    }
}
