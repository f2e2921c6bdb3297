//! The data sets of the paper's Table 5: their official splits, counts and class numbers, opened from what people have
//! on disk or refused with a reason.

mod aircraft;
mod assemble;
mod birds;
mod cars;
mod dogs;
mod facts;
mod fashion;
mod flowers;
mod ilsvrc;
mod imagenet;
mod imagenet50;

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Dataset, DatasetError, Split};

pub use ilsvrc::IlsvrcClasses;

/// A data set of which the splits, the counts and the classes are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KnownDataset {
    /// FGVC-Aircraft, by variant.
    Aircraft,
    /// Stanford Cars.
    Cars,
    /// Caltech-UCSD Birds, 2011.
    Cub,
    /// Stanford Dogs.
    Dogs,
    /// Oxford Flowers-102.
    Flowers,
    /// NABirds.
    #[serde(rename = "nabirds")]
    NaBirds,
    /// ILSVRC2012.
    #[serde(rename = "imagenet")]
    ImageNet,
    /// 50 classes of ILSVRC2012, chosen for SCAN.
    #[serde(rename = "imagenet-50")]
    ImageNet50,
    /// Fashion-MNIST.
    FashionMnist,
}

/// Whether images of the official split may be missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Completeness {
    /// Every image must be there.
    #[default]
    Full,
    /// What is there is kept, and [`Dataset::partial`] tells how much that is. Classes and lists must still be the
    /// official ones, so that labels keep their meaning.
    AllowPartial,
}

/// How much of an official split there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partial {
    /// Images of the official split.
    pub expected: usize,
    /// Images that were there.
    pub found: usize,
}

impl KnownDataset {
    /// All of them, in the order of the paper's Table 5, and Fashion-MNIST.
    pub const ALL: [Self; 9] = [
        Self::Aircraft,
        Self::Cars,
        Self::Cub,
        Self::Dogs,
        Self::Flowers,
        Self::NaBirds,
        Self::ImageNet,
        Self::ImageNet50,
        Self::FashionMnist,
    ];

    /// The name for settings and the command line.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// The name for people.
    pub fn title(self) -> &'static str {
        self.facts().title
    }

    /// Where its makers describe it and tell how to get it.
    pub fn source(self) -> &'static str {
        self.facts().source
    }

    /// Number of classes.
    pub fn classes(self) -> usize {
        self.facts().classes
    }

    /// Number of images in an official split; nothing for validation, which is held out of training.
    pub fn expected(self, split: Split) -> Option<usize> {
        match split {
            Split::Train => Some(self.facts().train.images),
            Split::Validation => None,
            Split::Test => Some(self.facts().test.images),
        }
    }
}

impl std::fmt::Display for KnownDataset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.name())
    }
}

impl FromStr for KnownDataset {
    type Err = DatasetError;

    fn from_str(name: &str) -> Result<Self, DatasetError> {
        let mut all = Self::ALL.into_iter();
        all.find(|known| known.name() == name)
            .ok_or_else(|| DatasetError::UnknownDataset {
                name: name.to_owned(),
                known: Self::ALL.map(Self::name).join(", "),
            })
    }
}

/// Opens an official split of a known data set, with the official order of classes.
///
/// Training is what the paper trains on (Aircraft: train and val; Flowers: train and valid), the test split of ImageNet
/// is its 50,000 validation images. `path` is the folder that the official archives were unpacked into, or the data
/// set's own folder therein; ImageNet may have any layout that [`crate::open`] recognises.
///
/// Ids are made of the path below the folder of images: the same for every copy of one archive. Stanford Cars numbers
/// its images in two ways, so its ids differ between the archives of the split images and of all images.
///
/// # Errors
///
/// If validation is asked for, the folder is not that data set, a list is damaged or contradicts another, or, unless
/// [`Completeness::AllowPartial`] is given, an image is missing. More images than the official number are never taken.
pub fn open_known(
    known: KnownDataset,
    path: impl AsRef<Path>,
    split: Split,
    completeness: Completeness,
) -> Result<Dataset, DatasetError> {
    let path = path.as_ref();
    let _span = tracing::info_span!("datasets.open_known", %known, path = %path.display(), %split)
        .entered();
    if split == Split::Validation {
        return Err(DatasetError::NoOfficialValidation {
            known: known.title(),
        });
    }
    let request = assemble::Request {
        known,
        split,
        completeness,
    };
    match known {
        KnownDataset::Aircraft => request.assemble(aircraft::read(path, split)?),
        KnownDataset::Cars => cars::open(&request, path),
        KnownDataset::Cub => request.assemble(birds::read_cub(path, split)?),
        KnownDataset::Dogs => request.assemble(dogs::read(path, split)?),
        KnownDataset::Flowers => request.assemble(flowers::read(path, split)?),
        KnownDataset::NaBirds => request.assemble(birds::read_nabirds(path, split)?),
        KnownDataset::ImageNet => imagenet::open(&request, path),
        KnownDataset::ImageNet50 => imagenet50::open(&request, path),
        KnownDataset::FashionMnist => fashion::open(&request, path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_and_others_are_answered_with_the_list() {
        for known in KnownDataset::ALL {
            assert_eq!(known.name().parse::<KnownDataset>().unwrap(), known);
            assert_eq!(known.to_string(), known.name());
        }
        let message = "imagenet50"
            .parse::<KnownDataset>()
            .unwrap_err()
            .to_string();
        let list =
            "aircraft, cars, cub, dogs, flowers, nabirds, imagenet, imagenet-50, fashion-mnist";
        assert_eq!(
            message,
            format!("\"imagenet50\" is not a known data set; expected one of: {list}")
        );
    }

    #[test]
    fn counts_are_those_of_table_5() {
        let table = [
            (KnownDataset::Aircraft, 100, 6_667, 3_333),
            (KnownDataset::Cars, 196, 8_144, 8_041),
            (KnownDataset::Cub, 200, 5_994, 5_794),
            (KnownDataset::Dogs, 120, 12_000, 8_580),
            (KnownDataset::Flowers, 102, 2_040, 6_149),
            (KnownDataset::NaBirds, 555, 23_929, 24_633),
            (KnownDataset::ImageNet, 1_000, 1_281_167, 50_000),
            (KnownDataset::ImageNet50, 50, 64_274, 2_500),
            (KnownDataset::FashionMnist, 10, 60_000, 10_000),
        ];
        assert_eq!(table.map(|row| row.0), KnownDataset::ALL);
        for (known, classes, train, test) in table {
            assert_eq!(known.classes(), classes, "{known}");
            assert_eq!(known.expected(Split::Train), Some(train), "{known}");
            assert_eq!(known.expected(Split::Validation), None, "{known}");
            assert_eq!(known.expected(Split::Test), Some(test), "{known}");
        }
    }
}
