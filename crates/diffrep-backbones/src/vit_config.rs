//! What a vision transformer is described by.

use diffrep_taps::TapInfo;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, divides, layer_taps, within};

/// The non-linearity of the MLPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gelu {
    /// x * Phi(x), by the error function.
    Exact,
    /// x * sigmoid(1.702 x), as in CLIP.
    Quick,
    /// The approximation by tanh, as in DiT.
    Tanh,
}

/// Which tokens a tap shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TapTokens {
    /// Those of the patches, laid out as a map `[batch, width, rows, columns]`. The class token takes
    /// part in the computation and is left out.
    #[default]
    Patches,
    /// The class token alone, as a map of one pixel `[batch, width, 1, 1]`.
    Class,
}

/// A vision transformer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViTConfig {
    /// Side of the images, in pixels.
    pub image_size: usize,
    /// Channels of the images.
    pub in_channels: usize,
    /// Side of a patch, in pixels.
    pub patch: usize,
    /// Channels of a token.
    pub width: usize,
    /// How many blocks there are.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
    /// Whether a class token stands before the patches.
    pub class_token: bool,
    /// Whether queries, keys and values have biases.
    pub qkv_bias: bool,
    /// Whether the patch embedding has a bias.
    pub patch_bias: bool,
    /// Whether tokens are normalised before the first block (`norm_pre`; CLIP's `ln_pre`).
    pub pre_norm: bool,
    /// The non-linearity of the MLPs.
    pub gelu: Gelu,
    /// Epsilon of every normalisation.
    pub eps: f64,
    /// Classes of the classifier `head`, if there is one.
    pub classes: Option<usize>,
    /// Which tokens a tap shows.
    #[serde(default)]
    pub tap_tokens: TapTokens,
}

impl ViTConfig {
    fn patch16([width, depth, heads]: [usize; 3]) -> Self {
        Self {
            image_size: 224,
            in_channels: 3,
            patch: 16,
            width,
            depth,
            heads,
            mlp: 4 * width,
            class_token: true,
            qkv_bias: true,
            patch_bias: true,
            pre_norm: false,
            gelu: Gelu::Exact,
            eps: 1e-6,
            classes: None,
            tap_tokens: TapTokens::Patches,
        }
    }

    /// `vit_small_patch16_224` of timm, without classifier.
    pub fn small_16() -> Self {
        Self::patch16([384, 12, 6])
    }

    /// `vit_base_patch16_224` of timm, without classifier; also DINO's, MAE's and MoCo v3's.
    pub fn base_16() -> Self {
        Self::patch16([768, 12, 12])
    }

    /// `vit_large_patch16_224` of timm, without classifier.
    pub fn large_16() -> Self {
        Self::patch16([1024, 24, 16])
    }

    /// The image tower of CLIP ViT-B/16, without the projection into the space of texts.
    pub fn clip_base_16() -> Self {
        Self {
            patch_bias: false,
            pre_norm: true,
            gelu: Gelu::Quick,
            eps: 1e-5,
            ..Self::base_16()
        }
    }

    /// A small network with patches of 4 pixels for grey images of 32 pixels.
    pub fn tiny(classes: usize) -> Self {
        Self {
            image_size: 32,
            in_channels: 1,
            patch: 4,
            classes: Some(classes),
            ..Self::patch16([96, 6, 3])
        }
    }

    /// The same network with a classifier of this many classes.
    #[must_use]
    pub fn with_classes(self, classes: usize) -> Self {
        Self {
            classes: Some(classes),
            ..self
        }
    }

    /// The same network with taps that show other tokens.
    #[must_use]
    pub fn tapping(self, tap_tokens: TapTokens) -> Self {
        Self { tap_tokens, ..self }
    }

    /// Patches along a side.
    pub(crate) fn grid(&self) -> usize {
        self.image_size / self.patch
    }

    /// All tokens, the class token among them.
    pub(crate) fn tokens(&self) -> usize {
        self.grid() * self.grid() + usize::from(self.class_token)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        within("image_size", self.image_size, 1..=8192)?;
        within("in_channels", self.in_channels, 1..=4096)?;
        within("patch", self.patch, 1..=self.image_size)?;
        within("width", self.width, 1..=65536)?;
        within("depth", self.depth, 1..=512)?;
        within("heads", self.heads, 1..=self.width)?;
        within("mlp", self.mlp, 1..=1 << 18)?;
        within("classes", self.classes.unwrap_or(1), 1..=1 << 20)?;
        divides(("patch", self.patch), ("image_size", self.image_size))?;
        divides(("heads", self.heads), ("width", self.width))?;
        if !(self.eps > 0.0 && self.eps <= 1.0) {
            return Err(ConfigError::Epsilon(self.eps.to_string()));
        }
        match self.tap_tokens == TapTokens::Class && !self.class_token {
            true => Err(ConfigError::NoClassToken),
            false => Ok(()),
        }
    }

    /// Every block with what it puts out, `blocks.0` being block 1, and after them `norm`: the last
    /// block's tokens after the final normalisation, which classifiers and linear probes read.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn taps(&self) -> Result<Vec<TapInfo>, ConfigError> {
        self.validate()?;
        let side = match self.tap_tokens {
            TapTokens::Patches => self.grid(),
            TapTokens::Class => 1,
        };
        Ok(layer_taps(self.depth, true, self.width, side))
    }
}
