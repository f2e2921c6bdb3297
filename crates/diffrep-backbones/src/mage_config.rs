//! What MAGE's encoder is described by.

use diffrep_taps::TapInfo;
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, divides, layer_taps, within};

/// MAGE's encoder: a vision transformer on the tokens of a VQGAN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MageConfig {
    /// Side of the images, in pixels.
    pub image_size: usize,
    /// Channels of the tokenizer's first level.
    pub channels: usize,
    /// Multiplier of each level; resolution halves between them.
    pub channel_mult: Vec<usize>,
    /// Residual blocks a level.
    pub res_blocks: usize,
    /// How many codes there are.
    pub codes: usize,
    /// Channels of a code.
    pub code_channels: usize,
    /// Words of the transformer: codes, classes and the mask.
    pub vocabulary: usize,
    /// The word that stands for no class, before the tokens.
    pub fake_class: usize,
    /// Channels of a token in the transformer.
    pub width: usize,
    /// How many blocks there are.
    pub depth: usize,
    /// Heads of each attention.
    pub heads: usize,
    /// Width of the hidden layer of each MLP.
    pub mlp: usize,
}

impl MageConfig {
    fn published([width, depth, heads]: [usize; 3]) -> Self {
        Self {
            image_size: 256,
            channels: 128,
            channel_mult: vec![1, 1, 2, 2, 4],
            res_blocks: 2,
            codes: 1024,
            code_channels: 256,
            vocabulary: 1024 + 1000 + 1,
            fake_class: 1100,
            width,
            depth,
            heads,
            mlp: 4 * width,
        }
    }

    /// MAGE ViT-B.
    pub fn base() -> Self {
        Self::published([768, 12, 12])
    }

    /// MAGE ViT-L.
    pub fn large() -> Self {
        Self::published([1024, 24, 16])
    }

    /// Tokens along a side.
    pub(crate) fn grid(&self) -> usize {
        self.image_size >> (self.channel_mult.len() - 1)
    }

    /// Every block with what it puts out, `blocks.0` being block 1, and after them `norm`. The word before
    /// the tokens takes part in the computation and is left out of the maps.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn taps(&self) -> Result<Vec<TapInfo>, ConfigError> {
        within("image_size", self.image_size, 1..=8192)?;
        within("the number of levels", self.channel_mult.len(), 1..=12)?;
        for mult in &self.channel_mult {
            within("channel_mult", *mult, 1..=64)?;
        }
        within("channels", self.channels, 32..=4096)?;
        divides(("the 32 groups", 32), ("channels", self.channels))?;
        within("res_blocks", self.res_blocks, 1..=64)?;
        within("codes", self.codes, 1..=1 << 20)?;
        within("code_channels", self.code_channels, 1..=65536)?;
        within("vocabulary", self.vocabulary, self.codes..=1 << 24)?;
        within("fake_class", self.fake_class, 0..=self.vocabulary - 1)?;
        within("width", self.width, 1..=65536)?;
        within("depth", self.depth, 1..=512)?;
        within("heads", self.heads, 1..=self.width)?;
        within("mlp", self.mlp, 1..=1 << 18)?;
        divides(("heads", self.heads), ("width", self.width))?;
        let factor = 1 << (self.channel_mult.len() - 1);
        divides(
            ("the down-sampling", factor),
            ("image_size", self.image_size),
        )?;
        Ok(layer_taps(self.depth, true, self.width, self.grid()))
    }
}
