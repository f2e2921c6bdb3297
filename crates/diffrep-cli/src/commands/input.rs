//! How the images of a data set become the input of a network.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use clap::ValueEnum;
use diffrep_datasets::{Channels, Fit, Preprocess};
use diffrep_import::preset;
use diffrep_pretrain::TrainingRecord;
use diffrep_schedule::ScheduleKind;
use diffrep_unet::UNetConfig;

/// The published network that was trained with the cosine schedule (MODEL_FLAGS in the README of
/// openai/guided-diffusion).
const COSINE: &str = "64x64_diffusion";

/// What the checkpoint says of its own training, if this project trained it.
///
/// # Errors
///
/// When there is a record that cannot be read: guessing a schedule would give wrong features.
pub(crate) fn training_record(
    metadata: &BTreeMap<String, String>,
) -> Result<Option<TrainingRecord>> {
    metadata
        .get("diffrep.training")
        .map(|text| serde_json::from_str(text))
        .transpose()
        .context("the training record in the checkpoint cannot be read")
}

/// The noise schedule that a network was trained with: what a checkpoint of this project says, what
/// is known of a published network, or else linear.
pub(crate) fn schedule_of(record: Option<&TrainingRecord>, network: &UNetConfig) -> ScheduleKind {
    match record {
        Some(record) => record.config.schedule,
        None if preset(COSINE).as_ref() == Some(network) => ScheduleKind::Cosine,
        None => ScheduleKind::Linear,
    }
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
    let channels = match network.in_channels {
        1 => Channels::GreyFromColour,
        3 => Channels::Rgb,
        other => anyhow::bail!("the network takes {other} channels; images have 1 or 3"),
    };
    Ok(Preprocess {
        size: network.image_size,
        channels,
        fit,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> TrainingRecord {
        let text = include_str!("../../../../fixtures/mini/training.json");
        let metadata = BTreeMap::from([("diffrep.training".to_string(), text.to_string())]);
        training_record(&metadata).unwrap().unwrap()
    }

    #[test]
    fn the_schedule_is_the_files_or_the_publications() {
        let network = |name: &str| preset(name).unwrap();
        assert_eq!(schedule_of(None, &network(COSINE)), ScheduleKind::Cosine);
        let large = network("256x256_diffusion_uncond");
        assert_eq!(schedule_of(None, &large), ScheduleKind::Linear);
        let mut told = record();
        told.config.schedule = ScheduleKind::Cosine;
        assert_eq!(schedule_of(Some(&told), &large), ScheduleKind::Cosine);
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
