//! The images that a command works on: opened in any layout, held to a known data set if asked, and
//! looked at before hours of work begin.

use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow, bail};
use clap::{Args, ValueEnum};
use diffrep_datasets::{
    Completeness, Dataset, DatasetError, HoldOut, KnownDataset, OnError, Partial, Split,
    available_splits, check, hold_out, open, open_known,
};
use serde::{Deserialize, Serialize};

use crate::printer::Printer;

/// Images that are looked at between two reports of progress.
const CHUNK: usize = 512;

/// Images, and what to do about those that are missing or damaged.
#[derive(Clone, Debug, Args)]
pub(crate) struct DataArgs {
    /// Images in any layout that `diffrep dataset inspect` recognises: IDX files, class folders,
    /// lists (`train.csv`), ImageNet's archives, Kaggle's tree, WebDataset shards, Parquet files.
    data: PathBuf,
    /// Hold the images to a known data set, with its official splits, classes and counts: aircraft,
    /// cars, cub, dogs, flowers, nabirds, imagenet, imagenet-50 or fashion-mnist.
    #[arg(long, value_name = "NAME")]
    dataset: Option<KnownDataset>,
    /// Take what there is of a known data set; every result says how much that is.
    #[arg(long, requires = "dataset")]
    allow_partial: bool,
    /// What to do about images that cannot be read: stop and list all of them, or leave them out and
    /// count them in every result.
    #[arg(long, value_name = "POLICY", default_value = "error")]
    on_bad_image: BadImageArg,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum BadImageArg {
    Error,
    Skip,
}

/// A split by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum SplitArg {
    Train,
    Validation,
    Test,
}

impl SplitArg {
    /// The split.
    pub(crate) fn split(self) -> Split {
        match self {
            Self::Train => Split::Train,
            Self::Validation => Split::Validation,
            Self::Test => Split::Test,
        }
    }
}

/// What is missing from the images that a result is about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Missing {
    /// How much of an official split there is, if not all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<Partial>,
    /// Images that could not be read and were left out.
    #[serde(skip_serializing_if = "is_zero")]
    skipped: usize,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl Missing {
    /// A sentence for a person, or nothing where nothing is missing.
    pub(crate) fn sentence(&self) -> Option<String> {
        let partial = self.partial.map(|Partial { expected, found }| {
            format!("{found} of the {expected} images of the official split are there")
        });
        let skipped = (self.skipped > 0).then(|| {
            format!(
                "{} images could not be read and were left out",
                self.skipped
            )
        });
        let parts: Vec<String> = partial.into_iter().chain(skipped).collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

impl DataArgs {
    /// All images of a folder, in whatever layout.
    pub(crate) fn of(data: &Path) -> Self {
        Self {
            data: data.into(),
            dataset: None,
            allow_partial: false,
            on_bad_image: BadImageArg::Error,
        }
    }

    /// The images that an experiment names.
    ///
    /// # Errors
    ///
    /// When there is no such known data set.
    pub(crate) fn planned(data: &Path, known: Option<&str>) -> Result<Self> {
        let known = known.map(|name| name.parse().map_err(|error| anyhow!("{error}")));
        Ok(Self {
            dataset: known.transpose()?,
            ..Self::of(data)
        })
    }

    /// Where the images are.
    pub(crate) fn path(&self) -> &Path {
        &self.data
    }

    /// A split, not looked at yet.
    ///
    /// # Errors
    ///
    /// When there is no such split, or the folder is not the data set that was named.
    pub(crate) fn open(&self, split: Split) -> Result<Dataset> {
        let Some(known) = self.dataset else {
            return Ok(open(&self.data, split)?);
        };
        let completeness = match self.allow_partial {
            true => Completeness::AllowPartial,
            false => Completeness::Full,
        };
        Ok(open_known(known, &self.data, split, completeness)?)
    }

    /// The training images and the official validation split, or a tenth of the training images held
    /// out.
    ///
    /// # Errors
    ///
    /// When there are no training images, or a list of them is damaged.
    pub(crate) fn train_and_validation(&self) -> Result<(Dataset, Dataset)> {
        let all = self.open(Split::Train)?;
        // Of a known data set the official training split is what the paper trains on.
        let given = match self.dataset {
            None => available_splits(&self.data)?.contains(&Split::Validation),
            Some(_) => false,
        };
        if given {
            return Ok((all, self.open(Split::Validation)?));
        }
        let (train, validation) = hold_out(all.labels(), HoldOut::Fraction(0.1), 0)?;
        Ok((all.subset(&train), all.subset(&validation)))
    }

    /// Whether the data set has official test images.
    ///
    /// # Errors
    ///
    /// When the layout is not known.
    pub(crate) fn has_test(&self) -> Result<bool> {
        match self.dataset {
            None => Ok(available_splits(&self.data)?.contains(&Split::Test)),
            Some(_) => Ok(true),
        }
    }

    /// Decodes every image once, so that damaged ones are found before hours of work and not after.
    ///
    /// # Errors
    ///
    /// When images cannot be read and the policy is to stop: all of them, with the first by name.
    pub(crate) fn look_at(&self, dataset: Dataset, printer: Printer) -> Result<(Dataset, Missing)> {
        let mut missing = Missing {
            partial: dataset.partial(),
            skipped: 0,
        };
        // Images in memory are there.
        if dataset.is_empty() || dataset.encoded(0).is_ok_and(|file| file.is_none()) {
            return Ok((dataset, missing));
        }
        let mut progress = printer.progress("look at images", dataset.len() as u64);
        let (mut bad, mut first) = (Vec::new(), Vec::new());
        for start in (0..dataset.len()).step_by(CHUNK) {
            let end = (start + CHUNK).min(dataset.len());
            let part = dataset.subset(&(start..end).collect::<Vec<_>>());
            let (_, skipped) = check(&part, OnError::Skip)?;
            for mut one in skipped {
                one.index += start;
                bad.push(one.index);
                if first.len() < DatasetError::MOST_LISTED {
                    first.push(one);
                }
            }
            progress.at(end as u64, "");
        }
        progress.finish();
        if bad.is_empty() {
            return Ok((dataset, missing));
        }
        if self.on_bad_image == BadImageArg::Error {
            let (total, asked) = (bad.len(), dataset.len());
            let error = DatasetError::BadSamples {
                total,
                asked,
                first,
            };
            bail!("{error}\nhint: --on-bad-image skip leaves such images out and counts them");
        }
        if bad.len() == dataset.len() {
            bail!(
                "none of the {} images of the {} split can be read; the first: {}",
                dataset.len(),
                dataset.split(),
                first
                    .first()
                    .map_or_else(String::new, |one| one.reason.to_string())
            );
        }
        missing.skipped = bad.len();
        let kept: Vec<usize> = (0..dataset.len())
            .filter(|index| bad.binary_search(index).is_err())
            .collect();
        let dataset = dataset.subset(&kept);
        if let Some(sentence) = missing.sentence() {
            printer.say(&format!("{} split: {sentence}", dataset.split()));
        }
        Ok((dataset, missing))
    }
}
