//! Where the images of a data set are, and reading one of them.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use diffrep_artifact::{Sha256Hex, read_bytes};
use rayon::prelude::*;

use crate::archive::Archive;
use crate::content::{BOUNDS, read_part};
use crate::decode::decode;
use crate::error::io_error;
use crate::{DatasetError, Image, Pixels};

/// Where the images are; shared by a data set and its subsets, and read by many threads at once.
///
/// Each image has a row, from 0, in the order of the whole.
pub(crate) enum Source {
    /// Decoded, in memory.
    Memory(Pixels),
    /// Files below a root, by their path relative to it with `/` between the parts.
    Files { root: PathBuf, names: Vec<String> },
    /// Files named by a list that came with the data: as [`Source::Files`], but none may lie outside the root, not
    /// even by way of a link. The root is without links.
    Listed { root: PathBuf, names: Vec<String> },
    /// Members of archives, read in place.
    Archive(Archive),
    /// Rows of Parquet files.
    #[cfg(feature = "parquet")]
    Rows(crate::parquet::Rows),
}

impl Source {
    /// The bytes of the image file of a row, or nothing where the images are decoded already.
    pub(crate) fn encoded(&self, row: usize) -> Result<Option<Vec<u8>>, DatasetError> {
        match self {
            Self::Memory(_) => Ok(None),
            Self::Files { root, names } => Ok(Some(read_bytes(root.join(&names[row]))?)),
            Self::Listed { root, names } => Ok(Some(read_bytes(confined(root, &names[row])?)?)),
            Self::Archive(archive) => archive.read(row).map(Some),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => rows.read(row).map(Some),
        }
    }

    /// The image of a row.
    pub(crate) fn image(&self, row: usize) -> Result<Image, DatasetError> {
        if let Self::Memory(pixels) = self {
            return Ok(pixels.image(row));
        }
        let bytes = self.encoded(row)?.expect("only memory holds no bytes");
        decode(&self.location(row).expect("only memory is nowhere"), &bytes)
    }

    /// Path of a row's own file, or nothing where it has none.
    pub(crate) fn file(&self, row: usize) -> Option<PathBuf> {
        match self {
            Self::Files { root, names } | Self::Listed { root, names } => {
                Some(root.join(&names[row]))
            }
            _ => None,
        }
    }

    /// Where the image of a row is found, for a person: its file, or its archive and its place therein.
    pub(crate) fn location(&self, row: usize) -> Option<PathBuf> {
        match self {
            Self::Memory(_) => None,
            Self::Archive(archive) => Some(archive.location(row)),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => Some(rows.location(row)),
            Self::Files { .. } | Self::Listed { .. } => self.file(row),
        }
    }

    /// A hash of what can change the images of the given rows; of files their names and sizes, and of their content as
    /// much as [`BOUNDS`] allows.
    pub(crate) fn hash(&self, rows: &[usize]) -> Result<Sha256Hex, DatasetError> {
        let size = |path: &Path| {
            let metadata = fs::metadata(path).map_err(io_error(path, "examined"))?;
            Ok::<u64, DatasetError>(metadata.len())
        };
        // Of each row, what is read and its name; a name is that of the file or member, of Parquet of the row.
        let files: Vec<(String, u64)> = match self {
            Self::Memory(pixels) => return Ok(pixels.hash(rows)),
            Self::Files { root, names } => rows
                .par_iter()
                .map(|&row| Ok((names[row].clone(), size(&root.join(&names[row]))?)))
                .collect::<Result<_, DatasetError>>()?,
            Self::Listed { root, names } => rows
                .par_iter()
                .map(|&row| Ok((names[row].clone(), size(&confined(root, &names[row])?)?)))
                .collect::<Result<_, DatasetError>>()?,
            Self::Archive(archive) => rows.iter().map(|&row| archive.name_and_len(row)).collect(),
            #[cfg(feature = "parquet")]
            Self::Rows(tables) => rows.iter().map(|&row| tables.name_and_size(row)).collect(),
        };
        // What is read as one file: a row, but of Parquet the file that several rows lie in.
        let (units, sizes): (Vec<usize>, Vec<u64>) = match self {
            #[cfg(feature = "parquet")]
            Self::Rows(tables) => tables.files_of(rows).into_iter().unzip(),
            _ => rows
                .iter()
                .zip(&files)
                .map(|(row, (_, size))| (*row, *size))
                .unzip(),
        };
        let content = BOUNDS.hash(&sizes, |place, range| self.part(units[place], range))?;
        Ok(Sha256Hex::hash_json(&(files, content))?)
    }

    /// Some bytes of the image file of a row, or of a Parquet file by its number.
    fn part(&self, unit: usize, range: Range<u64>) -> Result<Vec<u8>, DatasetError> {
        match self {
            Self::Memory(_) => Ok(Vec::new()),
            Self::Files { root, names } => read_part(&root.join(&names[unit]), range),
            Self::Listed { root, names } => read_part(&confined(root, &names[unit])?, range),
            Self::Archive(archive) => archive.part(unit, range),
            #[cfg(feature = "parquet")]
            Self::Rows(rows) => read_part(rows.file(unit), range),
        }
    }
}

/// The file without links, if it lies below `root`, which is without links as well.
fn confined(root: &Path, name: &str) -> Result<PathBuf, DatasetError> {
    let path = root.join(name);
    let resolved = fs::canonicalize(&path).map_err(io_error(&path, "opened"))?;
    if resolved.starts_with(root) {
        return Ok(resolved);
    }
    Err(DatasetError::UnsafeName {
        path: root.to_path_buf(),
        name: name.to_owned(),
        problem: "leads out of the data set's folder through a link",
    })
}
