//! Recognising the layout of a folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::error::io_error;
use crate::web_dataset::Shards;
use crate::{
    Dataset, DatasetError, Split, cls_loc, idx_folder, imagenet, list_files, markers,
    parquet_files, tree, web_dataset,
};

/// Opens one split of the data set in a folder, recognising its layout, of which the first of these that fits counts.
///
/// - IDX files: `train-`, `validation-` and `t10k-` with `images-idx3-ubyte`, `labels-idx1-ubyte` and, optionally,
///   `ids-idx1-int`, each with or without `.gz`. Class names come from `dataset.json` if there is one.
/// - List files `train.csv`, `val.csv` and `test.csv` with lines of `path,label`, relative to the folder; the first image
///   of each must be there, for such lists also lie beside class folders.
/// - Folders of images, one for each class, below `train/`, `val/` (or `validation/`, `valid/`) and `test/`; the classes
///   are those of `train/` for every split.
/// - ImageNet as Kaggle distributes it: `ILSVRC/Data/CLS-LOC` with `LOC_synset_mapping.txt` and
///   `LOC_val_solution.csv`.
/// - ImageNet as distributed: `ILSVRC2012_img_train.tar`, `ILSVRC2012_img_val.tar` and `ILSVRC2012_devkit_t12`, a
///   folder or `.tar.gz`. The label is the rank of the wnid.
/// - Folders of images, one for each class, with no level above them. They have one split, [`Split::Train`]; to use them
///   as another, see [`open_class_folders`].
/// - Hugging Face: `data/{train,validation,test}-*.parquet` or `default/<split>/*.parquet`, with a column of images and
///   one of labels, whose names come from the file's notes. In random order each image costs the decoding of its row
///   group. Instead of the folder, `path` may name one file, which is of the split that its name mentions or else of
///   [`Split::Train`]. Needs the feature `parquet`.
/// - WebDataset: `.tar` shards with an image and a `.cls` label for each key, in the folder or in `train/`, `val/` and
///   `test/`; the split is the one that the file name mentions. Class names come from `classnames.txt` if there is one.
///   Instead of the folder, `path` may name one shard or a range of them: `name-{000..146}.tar`.
///
/// # Errors
///
/// If the folder is absent, unreadable or empty, its layout is not known, the split does not exist, or its files are
/// damaged, or name what lies outside the folder. Images are read only when they are asked for: of an archive only the
/// headers are.
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
        Layout::ImageNetArchives(_) => imagenet::open(path, split)?,
        Layout::ClsLoc(images) => cls_loc::open(path, &images, split)?,
        Layout::Parquet(files) => open_parquet(path, &files, split)?,
        Layout::WebDataset(shards) => web_dataset::open(&shards, split)?,
        Layout::SplitFolders(folders) => {
            // The first is the training split, if there is one.
            let class_names = tree::class_names(&folders[0].1)?;
            let folder = folders.into_iter().find(|(other, _)| *other == split);
            let (_, folder) = folder.expect("the split is available");
            tree::open(&folder, split, class_names.into())?
        }
        Layout::Lists(lists) => list_files::open(path, &lists, split)?,
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

/// The forms that a data set can have on disk.
pub(crate) enum Layout {
    Idx(Vec<Split>),
    Lists(Vec<(Split, PathBuf)>),
    SplitFolders(Vec<(Split, PathBuf)>),
    /// With the folder that holds the images.
    ClsLoc(PathBuf),
    ImageNetArchives(Vec<Split>),
    ClassFolders,
    Parquet(Vec<(Split, Vec<PathBuf>)>),
    WebDataset(Shards),
}

impl Layout {
    pub(crate) fn of(path: &Path) -> Result<Self, DatasetError> {
        if let Some(shards) = web_dataset::by_name(path)? {
            return Ok(Self::WebDataset(shards));
        }
        if let Some((split, file)) = parquet_files::by_name(path) {
            return Ok(Self::Parquet(vec![(split, vec![file])]));
        }
        require_folder(path)?;
        let idx = idx_folder::splits(path);
        if !idx.is_empty() {
            return Ok(Self::Idx(idx));
        }
        // A list that leads to images was made for them; another `train.csv` may lie beside class folders.
        let lists = list_files::lists(path);
        if list_files::lead_to_images(path, &lists) {
            return Ok(Self::Lists(lists));
        }
        // Before the archives: who unpacked an archive often left it where it was.
        let folders = tree::split_folders(path)?;
        if !folders.is_empty() {
            return Ok(Self::SplitFolders(folders));
        }
        if let Some(images) = cls_loc::images(path) {
            return Ok(Self::ClsLoc(images));
        }
        let archives = imagenet::splits(path);
        if !archives.is_empty() {
            return Ok(Self::ImageNetArchives(archives));
        }
        if tree::has_class_with_images(path)? {
            markers::refuse(path)?;
            return Ok(Self::ClassFolders);
        }
        let files = parquet_files::splits(path)?;
        if !files.is_empty() {
            return Ok(Self::Parquet(files));
        }
        if let Some(shards) = web_dataset::in_folder(path)? {
            return Ok(Self::WebDataset(shards));
        }
        if !lists.is_empty() {
            return Ok(Self::Lists(lists));
        }
        if !tree::class_names(path)?.is_empty() {
            markers::refuse(path)?;
            return Ok(Self::ClassFolders);
        }
        Err(DatasetError::NoDataset {
            path: path.to_path_buf(),
        })
    }

    pub(crate) fn splits(&self) -> Vec<Split> {
        match self {
            Self::Idx(splits) | Self::ImageNetArchives(splits) => splits.clone(),
            Self::ClsLoc(images) => cls_loc::splits(images),
            Self::Parquet(files) => files.iter().map(|(split, _)| *split).collect(),
            Self::WebDataset(shards) => shards.splits.iter().map(|(split, _)| *split).collect(),
            Self::SplitFolders(paths) | Self::Lists(paths) => {
                paths.iter().map(|(split, _)| *split).collect()
            }
            Self::ClassFolders => vec![Split::Train],
        }
    }
}

impl std::fmt::Display for Layout {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Idx(_) => "IDX files",
            Self::ImageNetArchives(_) => "ImageNet archives",
            Self::ClsLoc(_) => "ImageNet CLS-LOC folders",
            Self::Parquet(_) => "Parquet files",
            Self::WebDataset(_) => "WebDataset shards",
            Self::SplitFolders(_) => "class folders below split folders",
            Self::Lists(_) => "list files",
            Self::ClassFolders => "class folders",
        })
    }
}

#[cfg(feature = "parquet")]
fn open_parquet(
    _: &Path,
    files: &[(Split, Vec<PathBuf>)],
    split: Split,
) -> Result<Dataset, DatasetError> {
    crate::parquet::open(files, split)
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(
    path: &Path,
    _: &[(Split, Vec<PathBuf>)],
    _: Split,
) -> Result<Dataset, DatasetError> {
    Err(DatasetError::Incomplete {
        path: path.to_path_buf(),
        problem: "this program was built without the feature `parquet`".to_owned(),
    })
}

pub(crate) fn require_folder(path: &Path) -> Result<(), DatasetError> {
    let metadata = fs::metadata(path).map_err(io_error(path, "opened"))?;
    if metadata.is_dir() {
        return Ok(());
    }
    Err(DatasetError::NotAFolder {
        path: path.to_path_buf(),
    })
}
