//! A ResNet or a vision transformer trained on clean images.

use anyhow::{Result, bail};
use diffrep_backbones::BackboneConfig;
use diffrep_datasets::Preprocess;
use diffrep_import::{WeightDtype, write_backbone};
use diffrep_pretrain::BackboneTraining;

use super::{Job, course};
use crate::commands::encoder::described;
use crate::commands::input::channels;

/// Trains the network of this name, or of this file.
pub(super) fn run(job: &Job<'_>, kind: &str) -> Result<()> {
    let classes = job.dataset.class_names().len();
    let network = described(kind)?.with_classes(Some(classes));
    let (size, inputs) = match &network {
        BackboneConfig::ResNet(config) => (config.image_size, config.in_channels),
        BackboneConfig::ViT(config) => (config.image_size, config.in_channels),
        BackboneConfig::Inception(_) => {
            bail!("the Inception network of FID is what its weights are: train a ResNet or a ViT")
        }
        BackboneConfig::DiT(_) | BackboneConfig::Mage(_) => {
            bail!("{kind} has no classifier to be trained: train a ResNet or a ViT")
        }
    };
    let config = BackboneTraining {
        preprocess: Preprocess {
            size,
            channels: channels(inputs)?,
            fit: job.args.fit.into(),
        },
        network,
        course: course(job.args, job.dataset.len())?,
    };
    job.train(config, None, |path, network, metadata| {
        Ok(write_backbone(path, network, WeightDtype::F16, metadata)?)
    })
}
