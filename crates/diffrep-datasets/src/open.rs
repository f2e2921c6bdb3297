//! Recognising the layout of a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::io_error;
use crate::{Dataset, DatasetError, Split, idx_folder, tree};

/// Opens one split of the data set in a folder, recognising its layout.
///
/// - IDX files: `train-`, `validation-` and `t10k-` with `images-idx3-ubyte`, `labels-idx1-ubyte` and, optionally,
///   `ids-idx1-int`, each with or without `.gz`. Class names come from `dataset.json` if there is one.
/// - Folders of images, one for each class, below `train/`, `val/` (or `validation/`, `valid/`) and `test/`; the classes
///   are those of `train/` for every split.
/// - Folders of images, one for each class, with no level above them. They have one split, [`Split::Train`]; to use them
///   as another, see [`open_class_folders`].
///
/// # Errors
///
/// If the folder is absent, unreadable or empty, its layout is not known, the split does not exist, or its files are
/// damaged. Image files are opened only when they are asked for.
pub fn open(path: impl AsRef<Path>, split: Split) -> Result<Dataset, DatasetError> {
    let path = path.as_ref();
    let _span = tracing::info_span!("datasets.open", path = %path.display(), %split).entered();
    let layout = Layout::of(path)?;
    let available = layout.splits();
    if !available.contains(&split) {
        let available: Vec<String> = available.iter().map(Split::to_string).collect();
        return Err(DatasetError::NoSuchSplit {
            path: path.to_path_buf(),
            split,
            available: available.join(", "),
        });
    }
    let dataset = match layout {
        Layout::Idx(_) => idx_folder::open(path, split)?,
        Layout::SplitFolders(folders) => {
            // The first is the training split, if there is one.
            let class_names = tree::class_names(&folders[0].1)?;
            let folder = folders.into_iter().find(|(other, _)| *other == split);
            let (_, folder) = folder.expect("the split is available");
            tree::open(&folder, split, class_names.into())?
        }
        Layout::ClassFolders => open_class_folders(path, split, None)?,
    };
    tracing::debug!(
        samples = dataset.len(),
        classes = dataset.class_names().len(),
        "opened"
    );
    Ok(dataset)
}

/// The splits that [`open`] finds in a folder.
///
/// # Errors
///
/// If the folder is absent, unreadable or empty, or its layout is not known.
pub fn available_splits(path: impl AsRef<Path>) -> Result<Vec<Split>, DatasetError> {
    Ok(Layout::of(path.as_ref())?.splits())
}

/// Opens folders of images, one for each class, as the split that the caller names.
///
/// `class_names` are those of the training data, where this is another split of it; else they are the folders' names.
///
/// # Errors
///
/// If the folder is absent or unreadable, holds no class folder, or a class folder is empty or not among `class_names`.
pub fn open_class_folders(
    path: impl AsRef<Path>,
    split: Split,
    class_names: Option<&[String]>,
) -> Result<Dataset, DatasetError> {
    let path = path.as_ref();
    require_folder(path)?;
    let class_names: Arc<[String]> = match class_names {
        Some(names) => names.into(),
        None => tree::class_names(path)?.into(),
    };
    let dataset = tree::open(path, split, class_names)?;
    if dataset.is_empty() {
        return Err(DatasetError::NoDataset {
            path: path.to_path_buf(),
        });
    }
    Ok(dataset)
}

enum Layout {
    Idx(Vec<Split>),
    SplitFolders(Vec<(Split, PathBuf)>),
    ClassFolders,
}

impl Layout {
    fn of(path: &Path) -> Result<Self, DatasetError> {
        require_folder(path)?;
        let idx = idx_folder::splits(path);
        if !idx.is_empty() {
            return Ok(Self::Idx(idx));
        }
        let folders = tree::split_folders(path)?;
        if !folders.is_empty() {
            return Ok(Self::SplitFolders(folders));
        }
        if !tree::class_names(path)?.is_empty() {
            return Ok(Self::ClassFolders);
        }
        Err(DatasetError::NoDataset {
            path: path.to_path_buf(),
        })
    }

    fn splits(&self) -> Vec<Split> {
        match self {
            Self::Idx(splits) => splits.clone(),
            Self::SplitFolders(folders) => folders.iter().map(|(split, _)| *split).collect(),
            Self::ClassFolders => vec![Split::Train],
        }
    }
}

fn require_folder(path: &Path) -> Result<(), DatasetError> {
    let metadata = fs::metadata(path).map_err(io_error(path, "opened"))?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(DatasetError::NotAFolder {
        path: path.to_path_buf(),
    })
}
