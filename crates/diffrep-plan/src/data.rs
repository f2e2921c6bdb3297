//! Where the images of an experiment are.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

/// A data set: a path alone, or with what it is held and cut to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// Either form; what is wrong in the longer one is named, which serde's own `untagged` does not do.
impl<'de> Deserialize<'de> for DataSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = DataSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a path, or a table with `path`, `known` and `classes`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> Result<DataSource, E> {
                Ok(DataSource::Path(path.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<DataSource, A::Error> {
                let described = DescribedData::deserialize(MapAccessDeserializer::new(map))?;
                Ok(DataSource::Described(described))
            }
        }

        deserializer.deserialize_any(Either)
    }
}
