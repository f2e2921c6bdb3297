//! How the images of a data set become the input of a network.

use anyhow::Result;
use diffrep_datasets::{Channels, Dataset, Fit, Image, Preprocess};
use diffrep_unet::UNetConfig;

/// Images no larger than the input are padded, larger ones are centre-cropped as the reference
/// does; colour becomes grey only for a network of one channel.
///
/// # Errors
///
/// When the first image cannot be read or the network takes neither 1 nor 3 channels.
pub(crate) fn preprocess_for(network: &UNetConfig, dataset: &Dataset) -> Result<Preprocess> {
    anyhow::ensure!(!dataset.is_empty(), "the data set has no images");
    preprocess_image(network, &dataset.image(0)?)
}

/// The same for one image.
pub(crate) fn preprocess_image(network: &UNetConfig, image: &Image) -> Result<Preprocess> {
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
