//! The drawing of images into a folder, which goes on where it was stopped.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use burn::tensor::{Device, Int, Tensor, TensorData};
use diffrep_artifact::{read_json, write_bytes_atomic, write_json_atomic};
use diffrep_rng::{Key, Stream};
use diffrep_sample::{Guide, SampleOptions, Sampler, sample, to_bytes};
use diffrep_schedule::{Schedule, ScheduleKind, VarianceKind};
use diffrep_taps::Condition;
use diffrep_unet::UNet;
use serde::{Deserialize, Serialize};

use super::guide::Classifier;
use crate::commands::pretrain::grid_png;
use crate::device::DeviceSpec;
use crate::printer::Printer;

/// Which class an image is to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum LabelArg {
    One(u32),
    Cycle,
    Random,
}

impl std::str::FromStr for LabelArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cycle" => Ok(Self::Cycle),
            "random" => Ok(Self::Random),
            _ => text
                .parse()
                .map(Self::One)
                .map_err(|_| "a label is a number from 0, `cycle` or `random`".into()),
        }
    }
}

impl LabelArg {
    /// The class of an image.
    fn of(self, seed: u64, id: u64, classes: u32) -> u32 {
        match self {
            Self::One(label) => label,
            Self::Cycle => (id % u64::from(classes)) as u32,
            Self::Random => {
                let mut generator = Key::new(seed, Stream::Label).sample(id).generator();
                generator.below(u64::from(classes)) as u32
            }
        }
    }
}

/// Everything that determines an image beside its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Determines {
    checkpoint: String,
    sampler: String,
    steps: String,
    seed: u64,
    variance: String,
    label: Option<LabelArg>,
    classifier: Option<String>,
    guidance: Option<f64>,
    schedule: ScheduleKind,
    /// Timesteps of the schedule, where there are not 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timesteps: Option<usize>,
    version: String,
}

impl Determines {
    /// What the other has otherwise, in words; nothing if it is the same.
    pub(super) fn differences(&self, found: &Self) -> Result<Option<String>> {
        if self == found {
            return Ok(None);
        }
        let [ours, theirs] = [self, found].map(serde_json::to_value);
        let (ours, theirs) = (ours?, theirs?);
        let differs: Vec<String> = ours
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, value)| theirs.get(key.as_str()) != Some(value))
            .map(|(key, value)| format!("{key} is {} there and {value} now", theirs[key.as_str()]))
            .collect();
        Ok(Some(differs.join(", ")))
    }
}

/// What `sampling.json` holds.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    determines: Determines,
    device: String,
}

/// A diffusion model and how images are drawn from it.
pub(crate) struct Drawing<'a> {
    /// What names the network's weights.
    pub(crate) checkpoint: String,
    /// The network, made ready.
    pub(crate) network: &'a UNet,
    /// The noise schedule that it was trained with.
    pub(crate) kind: ScheduleKind,
    /// How many timesteps that has.
    pub(crate) timesteps: usize,
    /// Which of its timesteps are visited, in the reference's words.
    pub(crate) steps: &'a str,
    /// The schedule respaced to these.
    pub(crate) schedule: &'a Schedule,
    pub(crate) options: SampleOptions,
    /// Images drawn together.
    pub(crate) batch: u64,
    /// Which class an image is to show, and of how many.
    pub(crate) labels: Option<(LabelArg, u32)>,
    pub(crate) guide: Option<&'a Classifier>,
    pub(crate) device: &'a Device,
    pub(crate) spec: DeviceSpec,
}

impl Drawing<'_> {
    /// Everything that determines an image beside its number.
    pub(crate) fn determines(&self) -> Determines {
        Determines {
            checkpoint: self.checkpoint.clone(),
            sampler: self.options.sampler.to_string(),
            steps: self.steps.into(),
            seed: self.options.seed,
            // Steps of other samplers do not look at it.
            variance: match (self.options.sampler, self.options.variance) {
                (Sampler::Ddpm, VarianceKind::LearnedRange) => "learned",
                (Sampler::Ddpm, VarianceKind::FixedSmall) => "small",
                (Sampler::Ddpm, VarianceKind::FixedLarge) => "large",
                _ => "unused",
            }
            .into(),
            label: self.labels.map(|(label, _)| label),
            classifier: self.guide.map(|guide| guide.sha256.clone()),
            guidance: self.guide.map(|guide| guide.scale),
            schedule: self.kind,
            timesteps: (self.timesteps != 1000).then_some(self.timesteps),
            version: env!("CARGO_PKG_VERSION").into(),
        }
    }

    /// The class that an image is to show.
    pub(super) fn label(&self, id: u64) -> Option<u32> {
        let seed = self.options.seed;
        self.labels
            .map(|(label, classes)| label.of(seed, id, classes))
    }

    /// Draws those of the images that do not lie in the folder yet, and says how many these were.
    pub(crate) fn fill(&self, folder: &Path, wanted: Range<u64>, printer: Printer) -> Result<u64> {
        self.claim(folder)?;
        let count = wanted.end - wanted.start;
        let missing: Vec<u64> = wanted.filter(|&id| !picture(folder, id).exists()).collect();
        let [channels, size, _] = self.options.shape;
        // An image takes so many steps, and each is some progress.
        let mut progress = printer.progress("sample: steps", count * self.schedule.steps() as u64);
        let there = count - missing.len() as u64;
        for (part, ids) in missing.chunks(self.batch as usize).enumerate() {
            let before = there + part as u64 * self.batch;
            // Filled up with the last, so that every image meets the same arithmetic after a stop too.
            let last = ids.last().copied().unwrap_or_default();
            let filled: Vec<u64> = ids
                .iter()
                .copied()
                .chain(std::iter::repeat(last))
                .take(self.batch.min(count) as usize)
                .collect();
            let images = self.images(&filled, |step, of| {
                let done = before * of as u64 + step as u64 * ids.len() as u64;
                progress.at(done, &format!("{before} of {count} images"));
            });
            for (&id, image) in ids.iter().zip(to_bytes(images)) {
                let png = grid_png(&[image], 1, size, channels)?;
                write_bytes_atomic(picture(folder, id), &png)?;
            }
        }
        progress.finish();
        Ok(missing.len() as u64)
    }

    /// Draws images, `[ids.len(), channels, height, width]` within -1 and 1.
    fn images(&self, ids: &[u64], progress: impl FnMut(usize, usize)) -> Tensor<4> {
        let device = self.device;
        let labels: Option<Vec<i64>> = ids
            .iter()
            .map(|&id| self.label(id).map(i64::from))
            .collect();
        let labels = labels.map(|labels| {
            Tensor::<1, Int>::from_data(TensorData::new(labels, [ids.len()]), device)
        });
        let conditioned = self.network.config().num_classes.and(labels.clone());
        let predict = |x: Tensor<4>, t: &[usize]| {
            let condition = Condition::timestep(t[0] as f32, device);
            let condition = match conditioned.clone() {
                None => condition,
                Some(labels) => condition.with_label(labels),
            };
            self.network.forward(x, &condition)
        };
        let towards = self.guide.zip(labels.as_ref());
        let towards = towards
            .map(|(guide, labels)| move |x: Tensor<4>, t: &[usize]| guide.gradient(x, t, labels));
        let towards = towards.as_ref().map(|towards| towards as Guide<'_>);
        let options = &self.options;
        sample(
            self.schedule,
            options,
            ids,
            device,
            predict,
            towards,
            progress,
        )
    }

    /// Makes the folder one of these images, or refuses one of others.
    fn claim(&self, folder: &Path) -> Result<()> {
        let path = folder.join("sampling.json");
        let determines = self.determines();
        if !path.exists() {
            let record = Record {
                determines,
                device: self.spec.to_string(),
            };
            return Ok(write_json_atomic(&path, &record)?);
        }
        let found: Record = read_json(&path)?;
        if let Some(differs) = determines.differences(&found.determines)? {
            bail!(
                "{} holds images drawn otherwise: {differs}; choose another --out",
                folder.display(),
            );
        }
        Ok(())
    }
}

/// Where image number `id` lies in a folder.
pub(super) fn picture(folder: &Path, id: u64) -> PathBuf {
    folder.join(format!("{id:06}.png"))
}

/// A picture that was drawn.
pub(super) fn read(path: &Path) -> Result<image::DynamicImage> {
    image::open(path)
        .with_context(|| format!("{} is damaged: delete it and run again", path.display()))
}

/// Pictures side by side in a square.
pub(crate) struct Grid {
    pub(crate) png: Vec<u8>,
    /// Side of the whole, in pixels.
    pub(crate) width: usize,
    pub(crate) height: usize,
}

/// The pictures of some files, all of one size, in a square.
pub(super) fn grid(files: impl Iterator<Item = PathBuf>) -> Result<Grid> {
    let mut images = Vec::new();
    let mut shape = (0, 0);
    for file in files {
        let image = read(&file)?;
        let channels = usize::from(image.color().channel_count());
        shape = (image.width() as usize, channels);
        images.push(image.into_bytes());
    }
    square(&images, shape.0, shape.1)
}

/// Square images of `size` pixels, channels last, in a square.
pub(crate) fn square(images: &[Vec<u8>], size: usize, channels: usize) -> Result<Grid> {
    let columns = images.len().isqrt();
    let columns = columns + usize::from(columns * columns < images.len());
    let columns = columns.max(1);
    Ok(Grid {
        png: grid_png(images, columns, size, channels)?,
        width: columns * size,
        height: images.len().div_ceil(columns) * size,
    })
}
