//! What is known of an experiment's inputs, whether they are on disk or not.

use std::path::Path;

use anyhow::{Context, Result};
use diffrep_datasets::{KnownDataset, Split};
use diffrep_import::{RawCheckpoint, preset};
use diffrep_plan::DataSource;
use diffrep_probe::Splits;
use diffrep_schedule::{ProcessSpec, Schedule, ScheduleKind};
use diffrep_taps::TapInfo;
use diffrep_unet::{UNetConfig, flops, flops_up_to};

use super::super::tune::cut_validation;
use super::super::{Ground, Place, splits};
use crate::commands::architecture::Architecture;

/// A network by its shapes.
pub(super) struct Network {
    pub(super) config: UNetConfig,
    pub(super) taps: Vec<TapInfo>,
    /// Floating-point operations by which an image reaches each block.
    pub(super) up_to: Vec<u64>,
    /// Those of the whole network.
    pub(super) whole: f64,
}

impl Network {
    /// The network of a checkpoint that is there, or of the published one that the file's name says.
    pub(super) fn of(path: &Path) -> Result<Self> {
        let config = if path.exists() {
            let Architecture::UNet(config) = Architecture::of(&RawCheckpoint::open(path)?)? else {
                anyhow::bail!("{} holds no U-Net", path.display());
            };
            config
        } else {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy();
            preset(&stem).with_context(|| {
                format!(
                    "there is no {}, and it is not named like a published network: what it would take \
                     is not known",
                    path.display()
                )
            })?
        };
        let taps: Vec<TapInfo> = config.blocks()?.iter().map(|b| b.tap.clone()).collect();
        let up_to = taps.iter().map(|tap| flops_up_to(&config, tap.block));
        Ok(Self {
            up_to: up_to.collect::<Result<_, _>>()?,
            whole: flops(&config)? as f64,
            taps,
            config,
        })
    }
}

/// The splits of a data set: those on disk, or as many images as its makers say.
#[derive(Clone)]
pub(super) struct Counts {
    pub(super) classes: usize,
    pub(super) train: usize,
    pub(super) validation: usize,
    pub(super) test: usize,
    /// The images, where they are there.
    pub(super) splits: Option<Splits>,
}

impl Counts {
    pub(super) fn of(
        source: &DataSource,
        place: &Place<'_>,
        train_per_class: Option<usize>,
        test_per_class: Option<usize>,
    ) -> Result<Self> {
        if place.roots.find(source.path()).exists() {
            let splits = splits(source, place, train_per_class, test_per_class)?;
            return Ok(Self::from(splits));
        }
        let known = source.known().map(str::parse::<KnownDataset>).transpose()?;
        let known = known.with_context(|| {
            format!(
                "there is no {}, and the experiment does not say which known data set it is: how many \
                 images it has is not known",
                source.path().display()
            )
        })?;
        let all = known.expected(Split::Train).unwrap_or_default();
        let classes = source.classes().map_or(known.classes(), <[String]>::len);
        let share = |images: usize| images * classes / known.classes();
        // A tenth of the training images is held out.
        let (train, validation) = (share(all - all / 10), share(all / 10));
        let test = share(known.expected(Split::Test).unwrap_or_default());
        let cut = |all: usize, per_class: Option<usize>| {
            per_class.map_or(all, |count| all.min(count * classes))
        };
        Ok(Self {
            classes,
            train: cut(train, train_per_class),
            validation,
            test: cut(test, test_per_class),
            splits: None,
        })
    }

    /// The same with so many validation images a class.
    pub(super) fn with_validation(self, per_class: usize) -> Result<Self> {
        Ok(match &self.splits {
            Some(splits) => Self::from(cut_validation(splits, per_class)?),
            None => Self {
                validation: self.validation.min(per_class * self.classes),
                ..self
            },
        })
    }

    /// Images of all three splits.
    pub(super) fn all(&self) -> u64 {
        (self.train + self.validation + self.test) as u64
    }
}

impl From<Splits> for Counts {
    fn from(splits: Splits) -> Self {
        Self {
            classes: splits.train.class_names().len(),
            train: splits.train.len(),
            validation: splits.validation.len(),
            test: splits.test.len(),
            splits: Some(splits),
        }
    }
}

/// A diffusion model and its process.
pub(super) struct Model {
    pub(super) network: Network,
    /// With its weights, where they are there.
    pub(super) ground: Option<Ground>,
    /// Of the model, or a linear one of 1000 steps where it is not there to say another.
    pub(super) schedule: Schedule,
}

impl Model {
    pub(super) fn of(checkpoint: &Path, scale: &str, place: &Place<'_>) -> Result<Self> {
        let path = place.roots.find(checkpoint);
        let ground = match path.exists() {
            true => Some(Ground::open(checkpoint, scale, place)?),
            false => None,
        };
        let schedule = match &ground {
            Some(ground) => ground.schedule.clone(),
            None => ProcessSpec::from(ScheduleKind::Linear).schedule()?,
        };
        Ok(Self {
            network: Network::of(&path)?,
            ground,
            schedule,
        })
    }
}
