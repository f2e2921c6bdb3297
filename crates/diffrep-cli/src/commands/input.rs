//! How the images of a data set become the input of a network.

use std::collections::BTreeMap;

use anyhow::Result;
use diffrep_datasets::{Channels, Dataset, Fit, Image, Preprocess};
use diffrep_import::preset;
use diffrep_schedule::ScheduleKind;
use diffrep_unet::UNetConfig;

/// The published network that was trained with the cosine schedule (MODEL_FLAGS in the README of
/// openai/guided-diffusion).
const COSINE: &str = "64x64_diffusion";

/// The noise schedule that a network was trained with: what a checkpoint of this project says, what
/// is known of a published network, or else linear.
pub(crate) fn schedule_of(
    metadata: &BTreeMap<String, String>,
    network: &UNetConfig,
) -> ScheduleKind {
    let default = if preset(COSINE).as_ref() == Some(network) {
        ScheduleKind::Cosine
    } else {
        ScheduleKind::Linear
    };
    metadata
        .get("diffrep.training")
        .and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok())
        .and_then(|record| serde_json::from_value(record["config"]["schedule"].clone()).ok())
        .unwrap_or(default)
}

/// Images no larger than the input are padded, larger ones are centre-cropped as the reference
/// does; colour becomes grey only for a network of one channel.
///
/// # Errors
///
/// When the first image cannot be read, the network takes neither 1 nor 3 channels, or it needs a
/// class label.
pub(crate) fn preprocess_for(network: &UNetConfig, dataset: &Dataset) -> Result<Preprocess> {
    anyhow::ensure!(!dataset.is_empty(), "the data set has no images");
    preprocess_image(network, &dataset.image(0)?)
}

/// The same for one image.
pub(crate) fn preprocess_image(network: &UNetConfig, image: &Image) -> Result<Preprocess> {
    if let Some(classes) = network.num_classes {
        anyhow::bail!(
            "this network is conditioned on one of {classes} classes, and labels are not given to \
             networks yet: use an unconditional checkpoint"
        );
    }
    let channels = match (network.in_channels, image.channels()) {
        (1, 1) => Channels::Grey,
        (1, _) => Channels::GreyFromColour,
        (3, _) => Channels::Rgb,
        (other, _) => anyhow::bail!("the network takes {other} channels; images have 1 or 3"),
    };
    let small = image.width().max(image.height()) <= network.image_size;
    Ok(Preprocess {
        size: network.image_size,
        channels,
        fit: if small { Fit::PadTo } else { Fit::CenterCrop },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_is_the_files_or_the_publications() {
        let none = BTreeMap::new();
        let network = |name: &str| preset(name).unwrap();
        assert_eq!(schedule_of(&none, &network(COSINE)), ScheduleKind::Cosine);
        let large = network("256x256_diffusion_uncond");
        assert_eq!(schedule_of(&none, &large), ScheduleKind::Linear);
        let record = r#"{"config": {"schedule": "cosine"}}"#;
        let told = BTreeMap::from([("diffrep.training".to_string(), record.to_string())]);
        assert_eq!(schedule_of(&told, &large), ScheduleKind::Cosine);
    }
}
