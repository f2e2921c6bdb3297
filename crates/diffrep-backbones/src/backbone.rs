//! Any of the networks behind one type, for whoever takes them by name.

use burn::module::Module;
use burn::tensor::Tensor;
use diffrep_taps::{Condition, Encoder, Feedback, TapInfo, TapSet, Taps};

use crate::{BackboneConfig, DiT, InceptionV3, Mage, ResNet, ViT};

/// A network of this crate.
#[derive(Module, Debug)]
#[allow(clippy::large_enum_variant, reason = "a process has one or two")]
pub enum Backbone {
    /// A ResNet.
    ResNet(ResNet),
    /// A vision transformer.
    ViT(ViT),
    /// The Inception-v3 of FID.
    Inception(InceptionV3),
    /// A diffusion transformer, which reads latents.
    DiT(DiT),
    /// MAGE's encoder with its tokenizer.
    Mage(Mage),
}

impl Backbone {
    /// What it was built from.
    pub fn config(&self) -> BackboneConfig {
        match self {
            Self::ResNet(network) => BackboneConfig::ResNet(network.config().clone()),
            Self::ViT(network) => BackboneConfig::ViT(network.config().clone()),
            Self::Inception(network) => BackboneConfig::Inception(network.config().clone()),
            Self::DiT(network) => BackboneConfig::DiT(network.config().clone()),
            Self::Mage(network) => BackboneConfig::Mage(network.config().clone()),
        }
    }

    /// Side and channels of the images that it takes; of the latents, for a diffusion transformer.
    pub fn input(&self) -> (usize, usize) {
        match self {
            Self::ResNet(network) => (network.config().image_size, network.config().in_channels),
            Self::ViT(network) => (network.config().image_size, network.config().in_channels),
            Self::Inception(network) => (network.config().image_size, 3),
            Self::DiT(network) => (network.config().image_size, network.config().in_channels),
            Self::Mage(network) => (network.config().image_size, 3),
        }
    }

    /// Logits of the classifier.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, channels, side, side]`
    /// - result: `[batch, classes]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape or the network has no classifier.
    pub fn classify(&self, image: Tensor<4>) -> Tensor<2> {
        match self {
            Self::ResNet(network) => network.forward(image),
            Self::ViT(network) => network.forward(image),
            Self::Inception(network) => network.logits(network.fid_features(image).pool3),
            Self::DiT(_) | Self::Mage(_) => panic!("this network has no classifier"),
        }
    }

    /// The network made ready for extraction: see [`ResNet::packed`] and [`InceptionV3::packed`]. A
    /// transformer has nothing to be made ready.
    #[must_use]
    pub fn packed(self) -> Self {
        match self {
            Self::ResNet(network) => Self::ResNet(network.packed()),
            Self::Inception(network) => Self::Inception(network.packed()),
            transformer @ (Self::ViT(_) | Self::DiT(_) | Self::Mage(_)) => transformer,
        }
    }
}

impl Encoder for Backbone {
    fn taps(&self) -> Vec<TapInfo> {
        match self {
            Self::ResNet(network) => network.taps(),
            Self::ViT(network) => network.taps(),
            Self::Inception(network) => network.taps(),
            Self::DiT(network) => network.taps(),
            Self::Mage(network) => network.taps(),
        }
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        match self {
            Self::ResNet(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::ViT(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::Inception(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::DiT(network) => network.forward_taps(image, condition, wanted, feedback),
            Self::Mage(network) => network.forward_taps(image, condition, wanted, feedback),
        }
    }
}
