//! How the words of a command become what it works on: images, their way into a network, heads.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use diffrep_artifact::Sha256Hex;
use diffrep_datasets::{Channels, Fit, Preprocess};
use diffrep_heads::{HeadError, HeadSpec};
use diffrep_import::{PROCESS_KEY, published_process};
use diffrep_pretrain::TrainingRecord;
use diffrep_schedule::{ProcessSpec, ScheduleKind, Target};
use diffrep_taps::TapInfo;
use diffrep_unet::{Precision, UNetConfig};

/// Where a checkpoint of this project tells of its training.
pub(crate) const TRAINING_KEY: &str = "diffrep.training";

/// What the checkpoint says of its own training, if this project trained it.
///
/// # Errors
///
/// When there is a record that cannot be read: guessing a schedule would give wrong features.
pub(crate) fn training_record(
    metadata: &BTreeMap<String, String>,
) -> Result<Option<TrainingRecord>> {
    metadata
        .get(TRAINING_KEY)
        .map(|text| serde_json::from_str(text))
        .transpose()
        .context("the training record in the checkpoint cannot be read")
}

/// How a network was trained to be noised: what a checkpoint of this project says, what a description
/// beside it says, what is known of a published network, or else linear with 1000 timesteps.
///
/// # Errors
///
/// When the checkpoint says something that cannot be read.
pub(crate) fn process_of(
    metadata: &BTreeMap<String, String>,
    network: &UNetConfig,
) -> Result<ProcessSpec> {
    if let Some(record) = training_record(metadata)? {
        return Ok(ProcessSpec {
            steps: record.config.timesteps,
            ..record.config.schedule.into()
        });
    }
    if let Some(text) = metadata.get(PROCESS_KEY) {
        return serde_json::from_str(text)
            .context("what the checkpoint says of its noise schedule cannot be read");
    }
    Ok(published_process(network).unwrap_or(ScheduleKind::Linear.into()))
}

/// That what a network says is noise, told the timestep itself: what drawing and denoising take it for.
pub(crate) fn check_predicts_noise(process: &ProcessSpec, network: &str) -> Result<()> {
    ensure!(
        process.predicts == Target::Noise,
        "{network} does not predict noise ({process}): its features can be read, and drawing from it is not supported"
    );
    ensure!(
        !process.rescaled,
        "{network} is told thousandths of timesteps ({process}): its features can be read, and drawing from it is not \
         supported"
    );
    Ok(())
}

/// What the blocks of a network compute with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PrecisionArg {
    F32,
    F16,
    Bf16,
}

impl From<PrecisionArg> for Precision {
    fn from(precision: PrecisionArg) -> Self {
        match precision {
            PrecisionArg::F32 => Self::F32,
            PrecisionArg::F16 => Self::F16,
            PrecisionArg::Bf16 => Self::Bf16,
        }
    }
}

/// The name of an encoder in keys of what is kept: its checkpoint's hash, the architecture where it was
/// told beside the checkpoint (which does not say all of it, such as attention heads), and the precision
/// where that is not f32.
///
/// # Errors
///
/// When the architecture cannot be hashed.
pub(crate) fn encoder_name(
    sha256: &Sha256Hex,
    told: Option<&UNetConfig>,
    precision: PrecisionArg,
) -> Result<String> {
    let told = match told {
        None => String::new(),
        Some(config) => format!(" as {}", Sha256Hex::hash_json(config)?.short()),
    };
    let precision = match precision {
        PrecisionArg::F32 => "",
        PrecisionArg::F16 => " in f16",
        PrecisionArg::Bf16 => " in bf16",
    };
    Ok(format!("{sha256}{told}{precision}"))
}

/// How images are brought to the network's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FitArg {
    /// Resize and centre-crop, as the reference does.
    Crop,
    /// Centre small images on black, crop larger ones.
    Pad,
}

impl From<FitArg> for Fit {
    fn from(fit: FitArg) -> Self {
        match fit {
            FitArg::Crop => Self::CenterCrop,
            FitArg::Pad => Self::PadTo,
        }
    }
}

/// The preprocessing of a trained network: fitted as asked, or as in its training, or else by the
/// centre crop of the reference.
///
/// # Errors
///
/// As [`preprocess`].
pub(crate) fn preprocess_of(
    record: Option<&TrainingRecord>,
    network: &UNetConfig,
    fit: Option<FitArg>,
) -> Result<Preprocess> {
    let trained = record.map(|record| record.config.preprocess.fit);
    let fit = fit.map(Fit::from).or(trained);
    preprocess(network, fit.unwrap_or(Fit::CenterCrop))
}

/// The preprocessing for a network of one channel (colour becomes grey) or three (grey is repeated).
/// It depends on the network alone, so every split is treated alike.
///
/// # Errors
///
/// When the network takes neither 1 nor 3 channels, or it needs a class label.
pub(crate) fn preprocess(network: &UNetConfig, fit: Fit) -> Result<Preprocess> {
    if let Some(classes) = network.num_classes {
        anyhow::bail!(
            "this network is conditioned on one of {classes} classes, and labels are not given to \
             networks yet: use an unconditional checkpoint"
        );
    }
    Ok(Preprocess {
        size: network.image_size,
        channels: channels(network.in_channels)?,
        fit,
    })
}

/// What becomes of an image's colours for a network of so many channels.
///
/// # Errors
///
/// When there are neither 1 nor 3.
pub(crate) fn channels(inputs: usize) -> Result<Channels> {
    match inputs {
        1 => Ok(Channels::GreyFromColour),
        3 => Ok(Channels::Rgb),
        other => anyhow::bail!("the network takes {other} channels; images have 1 or 3"),
    }
}

/// A head as a user says it.
#[derive(Clone, Debug)]
pub(crate) enum HeadWord {
    /// By name, in the paper's proportions for the maps at hand.
    Named(String),
    /// As a file says.
    Written(HeadSpec),
}

impl HeadWord {
    /// A name, or the path of a TOML file.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub(crate) fn read(head: &str) -> Result<Self> {
        if Path::new(head).extension().is_none_or(|end| end != "toml") {
            ensure!(
                HeadSpec::NAMES.contains(&head),
                "there is no head `{head}`: use {}, or the path of a TOML file",
                HeadSpec::NAMES.join(", ")
            );
            return Ok(Self::Named(head.into()));
        }
        let text = diffrep_artifact::read_bytes(head)?;
        let text = String::from_utf8_lossy(&text);
        let spec = toml::from_str(&text).with_context(|| format!("{head} describes no head"))?;
        Ok(Self::Written(spec))
    }

    /// The head for maps of `taps`.
    ///
    /// # Errors
    ///
    /// When there is no tap.
    pub(crate) fn spec(&self, taps: &[TapInfo]) -> Result<HeadSpec, HeadError> {
        match self {
            Self::Named(name) => HeadSpec::named(name, taps),
            Self::Written(spec) => Ok(spec.clone()),
        }
    }

    /// Whether it reads several maps.
    pub(crate) fn fuses(&self) -> bool {
        match self {
            Self::Named(name) => name == "fusion",
            Self::Written(spec) => matches!(spec, HeadSpec::Fusion { .. }),
        }
    }
}

#[cfg(test)]
mod tests {
    use diffrep_import::preset;

    use super::*;

    fn record() -> TrainingRecord {
        let text = include_str!("../../../../fixtures/mini/training.json");
        let metadata = BTreeMap::from([("diffrep.training".to_string(), text.to_string())]);
        training_record(&metadata).unwrap().unwrap()
    }

    #[test]
    fn the_schedule_is_the_files_or_the_publications() {
        let nothing = BTreeMap::new();
        let found = |metadata: &BTreeMap<String, String>, name: &str| {
            process_of(metadata, &preset(name).unwrap()).unwrap()
        };
        let large = "256x256_diffusion_uncond";
        assert_eq!(
            found(&nothing, "64x64_diffusion"),
            ScheduleKind::Cosine.into()
        );
        assert_eq!(found(&nothing, large), ScheduleKind::Linear.into());
        let improved = found(&nothing, "cifar10_uncond_50M_500K");
        assert_eq!((improved.steps, improved.rescaled), (4000, true));
        let mut told = record();
        told.config.schedule = ScheduleKind::Cosine;
        let text = serde_json::to_string(&told).unwrap();
        let told = BTreeMap::from([("diffrep.training".to_string(), text)]);
        assert_eq!(found(&told, large).schedule, ScheduleKind::Cosine);
        let text = serde_json::to_string(&improved).unwrap();
        let described = BTreeMap::from([(PROCESS_KEY.to_string(), text)]);
        assert_eq!(found(&described, large), improved);
        let broken = BTreeMap::from([(PROCESS_KEY.to_string(), "?".to_string())]);
        assert!(process_of(&broken, &preset(large).unwrap()).is_err());
    }

    #[test]
    fn images_are_fitted_as_asked_or_as_in_training() {
        let network = UNetConfig::mini();
        let fit = |record, asked| preprocess_of(record, &network, asked).unwrap().fit;
        assert_eq!(fit(None, None), Fit::CenterCrop);
        let told = record();
        assert_eq!(fit(Some(&told), None), Fit::PadTo);
        assert_eq!(fit(Some(&told), Some(FitArg::Crop)), Fit::CenterCrop);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_no_guess() {
        let metadata = BTreeMap::from([("diffrep.training".to_string(), "{}".to_string())]);
        assert!(training_record(&metadata).is_err());
        assert!(training_record(&BTreeMap::new()).unwrap().is_none());
    }
}
