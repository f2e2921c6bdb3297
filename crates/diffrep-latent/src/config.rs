//! What the networks of Stable Diffusion are built from, and the blocks that follow. Field names are
//! those of diffusers' `config.json`, where it says what it means.

use diffrep_taps::{BlockIndex, TapInfo};
use serde::{Deserialize, Serialize};

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this network cannot be built: {reason}")]
pub struct ConfigError {
    /// What does not fit.
    pub reason: String,
}

fn refuse<T>(reason: String) -> Result<T, ConfigError> {
    Err(ConfigError { reason })
}

/// The cross-attention U-Net.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Height and width of the latents: an eighth of the image's.
    pub sample_size: usize,
    /// Channels of the latents.
    pub in_channels: usize,
    /// Channels of the prediction.
    pub out_channels: usize,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks a level going down; one more going up.
    pub layers_per_block: usize,
    /// Which levels have spatial transformers.
    pub attention: Vec<bool>,
    /// Heads of the transformers of each level. (diffusers' `attention_head_dim` means this.)
    pub heads: Vec<usize>,
    /// Width of the text's tokens.
    pub cross_attention_dim: usize,
    /// Groups of every normalisation.
    pub norm_num_groups: usize,
}

impl UNetConfig {
    /// Stable Diffusion 1.x (CompVis/stable-diffusion, `v1-inference.yaml`).
    pub fn stable_diffusion_1() -> Self {
        Self {
            sample_size: 64,
            in_channels: 4,
            out_channels: 4,
            block_out_channels: vec![320, 640, 1280, 1280],
            layers_per_block: 2,
            attention: vec![true, true, true, false],
            heads: vec![8; 4],
            cross_attention_dim: 768,
            norm_num_groups: 32,
        }
    }

    /// Stable Diffusion 2.x (Stability-AI/stablediffusion, `v2-inference.yaml`).
    pub fn stable_diffusion_2() -> Self {
        Self {
            heads: vec![5, 10, 20, 20],
            cross_attention_dim: 1024,
            ..Self::stable_diffusion_1()
        }
    }

    /// A published network by name.
    pub fn preset(name: &str) -> Option<Self> {
        match name {
            "stable-diffusion-1" => Some(Self::stable_diffusion_1()),
            "stable-diffusion-2" => Some(Self::stable_diffusion_2()),
            _ => None,
        }
    }

    /// Names that [`preset`](Self::preset) knows.
    pub fn preset_names() -> [&'static str; 2] {
        ["stable-diffusion-1", "stable-diffusion-2"]
    }

    /// The same network for latents of another size.
    #[must_use]
    pub fn with_sample_size(self, sample_size: usize) -> Self {
        Self {
            sample_size,
            ..self
        }
    }

    /// Channels of the timestep's embedding.
    pub fn embedding_channels(&self) -> usize {
        4 * self.block_out_channels[0]
    }

    /// How much smaller than the latents the map in the middle is, along each axis.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1)
    }

    /// The blocks, counted as in the paper: the first convolution, residual blocks and
    /// down-samplings, the middle, and residual blocks going up, with the up-sampling at the end of
    /// the last of a level.
    ///
    /// # Errors
    ///
    /// When sizes do not fit together.
    pub fn blocks(&self) -> Result<Blocks, ConfigError> {
        let levels = self.block_out_channels.len();
        let lengths = [self.attention.len(), self.heads.len()];
        if !(1..=8).contains(&levels) || lengths != [levels; 2] {
            return refuse(format!(
                "it has {levels} levels, {} of them say whether they have attention and {} how many heads",
                lengths[0], lengths[1]
            ));
        }
        for (what, value, most) in [
            ("sample_size", self.sample_size, 1 << 12),
            ("in_channels", self.in_channels, 1 << 10),
            ("out_channels", self.out_channels, 1 << 10),
            ("layers_per_block", self.layers_per_block, 1 << 6),
            ("cross_attention_dim", self.cross_attention_dim, 1 << 14),
            ("norm_num_groups", self.norm_num_groups, 1 << 10),
        ] {
            if !(1..=most).contains(&value) {
                return refuse(format!("{what} is {value}: expected 1 to {most}"));
            }
        }
        if !self.sample_size.is_multiple_of(self.factor()) {
            return refuse(format!(
                "latents of {0} x {0} cannot be halved {1} times: use a multiple of {2}",
                self.sample_size,
                levels - 1,
                self.factor()
            ));
        }
        for (level, (&channels, &heads)) in
            self.block_out_channels.iter().zip(&self.heads).enumerate()
        {
            if !(1..=1 << 14).contains(&channels) || !channels.is_multiple_of(self.norm_num_groups)
            {
                return refuse(format!(
                    "level {level} has {channels} channels, not a multiple of the {} groups of its normalisations",
                    self.norm_num_groups
                ));
            }
            if heads == 0 || !channels.is_multiple_of(heads) {
                return refuse(format!(
                    "level {level} has {channels} channels, which {heads} heads do not divide"
                ));
            }
        }
        Ok(self.layout())
    }

    fn layout(&self) -> Blocks {
        let levels = &self.block_out_channels;
        let mut found: Vec<BlockSpec> = Vec::new();
        let (mut channels, mut size) = (levels[0], self.sample_size);
        let mut push = |name: String, layers: Vec<LayerSpec>, channels, size| {
            let block = BlockIndex::at(found.len());
            found.push(BlockSpec {
                tap: TapInfo {
                    block,
                    name,
                    channels,
                    height: size,
                    width: size,
                },
                layers,
            });
        };
        let layer = |name: String, kind| LayerSpec { name, kind };
        let res = |name: String, inputs: usize, outputs: usize| {
            layer(
                name,
                LayerKind::Res {
                    channels: [inputs, outputs],
                },
            )
        };
        let transformer = |name: String, level: usize| {
            layer(
                name,
                LayerKind::Transformer {
                    channels: levels[level],
                    heads: self.heads[level],
                },
            )
        };
        let first = LayerKind::Conv {
            channels: [self.in_channels, channels],
        };
        push(
            "input_blocks.0".into(),
            vec![layer("conv_in".into(), first)],
            channels,
            size,
        );
        let mut skips = vec![channels];
        for (level, &width) in levels.iter().enumerate() {
            let prefix = format!("down_blocks.{level}");
            for i in 0..self.layers_per_block {
                let mut layers = vec![res(format!("{prefix}.resnets.{i}"), channels, width)];
                channels = width;
                if self.attention[level] {
                    layers.push(transformer(format!("{prefix}.attentions.{i}"), level));
                }
                push(
                    format!("input_blocks.{}", skips.len()),
                    layers,
                    channels,
                    size,
                );
                skips.push(channels);
            }
            if level + 1 < levels.len() {
                size /= 2;
                let name = format!("{prefix}.downsamplers.0.conv");
                let layers = vec![layer(name, LayerKind::Down { channels })];
                push(
                    format!("input_blocks.{}", skips.len()),
                    layers,
                    channels,
                    size,
                );
                skips.push(channels);
            }
        }
        let encoder = skips.len();
        let deepest = levels.len() - 1;
        let layers = vec![
            res("mid_block.resnets.0".into(), channels, channels),
            transformer("mid_block.attentions.0".into(), deepest),
            res("mid_block.resnets.1".into(), channels, channels),
        ];
        push("middle_block".into(), layers, channels, size);
        let mut outputs = 0;
        for (up, level) in (0..levels.len()).rev().enumerate() {
            let prefix = format!("up_blocks.{up}");
            for i in 0..=self.layers_per_block {
                let skip = skips
                    .pop()
                    .expect("one skip connection for each decoder block");
                let name = format!("{prefix}.resnets.{i}");
                let mut layers = vec![res(name, channels + skip, levels[level])];
                channels = levels[level];
                if self.attention[level] {
                    layers.push(transformer(format!("{prefix}.attentions.{i}"), level));
                }
                if level > 0 && i == self.layers_per_block {
                    size *= 2;
                    let name = format!("{prefix}.upsamplers.0.conv");
                    layers.push(layer(name, LayerKind::Up { channels }));
                }
                push(format!("output_blocks.{outputs}"), layers, channels, size);
                outputs += 1;
            }
        }
        Blocks {
            all: found,
            encoder,
        }
    }
}

/// The blocks of a U-Net.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// In the order of computation.
    pub all: Vec<BlockSpec>,
    /// How many of them lie before the middle.
    pub encoder: usize,
}

/// One of the paper's blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    /// What it puts out. Its name is that of the original release, such as `output_blocks.4`.
    pub tap: TapInfo,
    /// What it applies in turn.
    pub layers: Vec<LayerSpec>,
}

/// One layer of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// What stands before its parameters' names in diffusers' state dict.
    pub name: String,
    /// What it is.
    pub kind: LayerKind,
}

/// The kinds of layers, with their sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerKind {
    /// The first 3x3 convolution.
    Conv {
        /// Channels in and out.
        channels: [usize; 2],
    },
    /// A residual block.
    Res {
        /// Channels in and out.
        channels: [usize; 2],
    },
    /// A spatial transformer.
    Transformer {
        /// Channels in and out.
        channels: usize,
        /// Attention heads.
        heads: usize,
    },
    /// A 3x3 convolution of stride 2.
    Down {
        /// Channels in and out.
        channels: usize,
    },
    /// Nearest neighbour to twice the size, then a 3x3 convolution.
    Up {
        /// Channels in and out.
        channels: usize,
    },
}

/// The encoder of the VAE.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirstStageConfig {
    /// Height and width of the image in pixels.
    pub image_size: usize,
    /// Channels of the image.
    pub in_channels: usize,
    /// Channels of each level.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks a level.
    pub layers_per_block: usize,
    /// Channels of the latents.
    pub latent_channels: usize,
    /// Groups of every normalisation.
    pub norm_num_groups: usize,
    /// What latents are multiplied by before they are noised.
    pub scaling_factor: f64,
    /// Whether the moments go through a 1x1 convolution at the end.
    pub quant_conv: bool,
}

impl FirstStageConfig {
    /// The VAE of Stable Diffusion 1 and 2 (KL-f8), which DiT uses too.
    pub fn kl_f8() -> Self {
        Self {
            image_size: 512,
            in_channels: 3,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 4,
            norm_num_groups: 32,
            scaling_factor: 0.18215,
            quant_conv: true,
        }
    }

    /// The same encoder for images of another size.
    #[must_use]
    pub fn with_image_size(self, image_size: usize) -> Self {
        Self { image_size, ..self }
    }

    /// How much smaller latents are than images, along each axis.
    pub fn factor(&self) -> usize {
        1 << (self.block_out_channels.len().max(1) - 1)
    }

    /// Height and width of the latents.
    pub fn latent_size(&self) -> usize {
        self.image_size / self.factor()
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        let levels = self.block_out_channels.len();
        if !(1..=8).contains(&levels) {
            return refuse(format!("the first stage has {levels} levels"));
        }
        for (what, value, most) in [
            ("image_size", self.image_size, 1 << 14),
            ("in_channels", self.in_channels, 1 << 6),
            ("layers_per_block", self.layers_per_block, 1 << 6),
            ("latent_channels", self.latent_channels, 1 << 8),
            ("norm_num_groups", self.norm_num_groups, 1 << 10),
        ] {
            if !(1..=most).contains(&value) {
                return refuse(format!(
                    "{what} of the first stage is {value}: expected 1 to {most}"
                ));
            }
        }
        if !self.image_size.is_multiple_of(self.factor()) {
            return refuse(format!(
                "images of {0} x {0} have no whole latents: use a multiple of {1}",
                self.image_size,
                self.factor()
            ));
        }
        let odd = |channels: &&usize| {
            !channels.is_multiple_of(self.norm_num_groups) || !(1..=1 << 14).contains(*channels)
        };
        match self.block_out_channels.iter().find(odd) {
            Some(channels) => refuse(format!(
                "a level of the first stage has {channels} channels, not a multiple of the {} groups of its normalisations",
                self.norm_num_groups
            )),
            None if self.scaling_factor.is_finite() && self.scaling_factor > 0.0 => Ok(()),
            None => refuse(format!("scaling_factor is {}", self.scaling_factor)),
        }
    }
}

/// The activation of a text encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TextGelu {
    /// x * sigmoid(1.702 x): CLIP as OpenAI trained it.
    QuickGelu,
    /// With the error function: OpenCLIP.
    Gelu,
}

/// A CLIP or OpenCLIP text encoder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextConfig {
    /// Tokens that it knows.
    pub vocab_size: usize,
    /// Width of its tokens.
    pub hidden_size: usize,
    /// Width of the hidden layers between attention.
    pub intermediate_size: usize,
    /// Layers that are computed: for Stable Diffusion 2 one less than OpenCLIP has.
    pub num_hidden_layers: usize,
    /// Attention heads.
    pub num_attention_heads: usize,
    /// Tokens of a text.
    pub max_position_embeddings: usize,
    /// The activation.
    pub hidden_act: TextGelu,
    /// Epsilon of the normalisations.
    pub layer_norm_eps: f64,
}

impl TextConfig {
    /// CLIP ViT-L/14, of Stable Diffusion 1.
    pub fn clip_l() -> Self {
        Self {
            vocab_size: 49408,
            hidden_size: 768,
            intermediate_size: 3072,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            max_position_embeddings: 77,
            hidden_act: TextGelu::QuickGelu,
            layer_norm_eps: 1e-5,
        }
    }

    /// OpenCLIP ViT-H/14 without its last layer, of Stable Diffusion 2.
    pub fn open_clip_h() -> Self {
        Self {
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 23,
            num_attention_heads: 16,
            hidden_act: TextGelu::Gelu,
            ..Self::clip_l()
        }
    }

    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        for (what, value, most) in [
            ("vocab_size", self.vocab_size, 1 << 20),
            ("hidden_size", self.hidden_size, 1 << 14),
            ("intermediate_size", self.intermediate_size, 1 << 16),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 8),
            ("num_attention_heads", self.num_attention_heads, 1 << 8),
            (
                "max_position_embeddings",
                self.max_position_embeddings,
                1 << 12,
            ),
        ] {
            if !(1..=most).contains(&value) {
                return refuse(format!(
                    "{what} of the text encoder is {value}: expected 1 to {most}"
                ));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return refuse(format!(
                "the text encoder's width of {} is not divided by its {} heads",
                self.hidden_size, self.num_attention_heads
            ));
        }
        Ok(())
    }
}
