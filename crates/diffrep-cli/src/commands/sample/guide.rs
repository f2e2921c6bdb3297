//! A classifier that guides towards a class.

use std::path::Path;

use anyhow::{Result, ensure};
use burn::module::Module;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Int, Tensor};
use diffrep_import::load;
use diffrep_taps::Condition;
use diffrep_unet::{Kind, UNet, UNetConfig};

/// A classifier of noised images.
pub(crate) struct Classifier {
    network: UNet,
    pub(super) sha256: String,
    pub(super) classes: usize,
    pub(super) scale: f64,
}

impl Classifier {
    /// Loads one that reads images as the diffusion model draws them; `scale` is how strongly it guides.
    pub(super) fn open(path: &Path, scale: f64, of: &UNetConfig, device: &Device) -> Result<Self> {
        let imported = load(path, None, device)?;
        let config = imported.network.config();
        ensure!(
            matches!(config.kind, Kind::Encoder(_)),
            "{} draws images and classifies none: it cannot guide",
            path.display()
        );
        ensure!(
            (config.image_size, config.in_channels) == (of.image_size, of.in_channels),
            "{} classifies images of {} pixels and {} channels, the diffusion model draws {} and {}",
            path.display(),
            config.image_size,
            config.in_channels,
            of.image_size,
            of.in_channels
        );
        Ok(Self {
            classes: config.out_channels,
            sha256: imported.sha256.to_string(),
            network: imported.network,
            scale,
        })
    }

    /// The gradient of the log probability of each image's label, scaled.
    pub(super) fn gradient(&self, x: Tensor<4>, t: &[usize], labels: &Tensor<1, Int>) -> Tensor<4> {
        let device = x.device().autodiff();
        let x = Tensor::from_inner(x).require_grad();
        let network = self.network.clone().train().no_grad();
        let condition = Condition {
            t: Some(Tensor::full([t.len()], t[0] as f32, &device)),
            ..Condition::default()
        };
        let logits = network.forward(x.clone(), &condition);
        let logits = logits.reshape([t.len(), self.classes]);
        let labels = Tensor::<1, Int>::from_data(labels.to_data(), &device);
        let chosen = log_softmax(logits, 1).gather(1, labels.reshape([t.len(), 1]));
        let gradients = chosen.sum().backward();
        x.grad(&gradients)
            .expect("the logits depend on the image")
            .mul_scalar(self.scale)
    }
}
