//! Where the images of an experiment are.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A data set: a path alone, or with what it is held and cut to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DataSource {
    /// Images in any layout, with training and test splits.
    Path(PathBuf),
    /// Images of which more is said.
    Described(DescribedData),
}

/// Images, what they are held to, and which of them are taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DescribedData {
    /// Where they are.
    pub path: PathBuf,
    /// The known data set that they must be, with its official splits, such as `cub`.
    pub known: Option<String>,
    /// The classes taken, by name, numbered anew in this order; all without it.
    pub classes: Option<Vec<String>>,
}

impl DataSource {
    /// Where the images are.
    pub fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Described(data) => &data.path,
        }
    }

    /// The known data set that they must be.
    pub fn known(&self) -> Option<&str> {
        match self {
            Self::Path(_) => None,
            Self::Described(data) => data.known.as_deref(),
        }
    }

    /// The classes taken; all without them.
    pub fn classes(&self) -> Option<&[String]> {
        match self {
            Self::Path(_) => None,
            Self::Described(data) => data.classes.as_deref(),
        }
    }
}
