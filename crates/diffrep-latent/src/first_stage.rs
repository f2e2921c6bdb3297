//! The encoder of the VAE. Reference: `AutoencoderKL` of diffusers; `Encoder` in
//! `ldm/modules/diffusionmodules/model.py` of CompVis/stable-diffusion.

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use diffrep_ops::Activation;
use diffrep_taps::require_image;

use crate::attention::Attention;
use crate::config::{ConfigError, FirstStageConfig};
use crate::layers::{Conv2d, GroupNorm, Stride};
use crate::names::Named;
use crate::res_block::ResBlock;

/// Epsilon of every normalisation.
const EPS: f64 = 1e-6;
/// Where the reference cuts the logarithm of the variance off.
const LOG_VARIANCE: [f64; 2] = [-30.0, 20.0];

/// Images to latents, the part of the VAE that features need.
#[derive(Module, Debug)]
pub struct FirstStage {
    /// `encoder`
    pub encoder: FirstStageEncoder,
    /// `quant_conv`
    pub quant_conv: Option<Conv2d>,
    #[module(skip)]
    config: FirstStageConfig,
}

/// The convolutional encoder.
#[derive(Module, Debug)]
pub struct FirstStageEncoder {
    /// `conv_in`
    pub conv_in: Conv2d,
    /// `down_blocks`
    pub down_blocks: Vec<Level>,
    /// `mid_block`
    pub mid_block: Middle,
    /// `conv_norm_out`
    pub conv_norm_out: GroupNorm,
    /// `conv_out`
    pub conv_out: Conv2d,
}

/// Residual blocks of one resolution, and what halves it.
#[derive(Module, Debug)]
pub struct Level {
    /// `resnets`
    pub resnets: Vec<ResBlock>,
    /// `downsamplers`; none in the last level.
    pub downsamplers: Vec<Downsampler>,
}

/// A convolution of stride 2.
#[derive(Module, Debug)]
pub struct Downsampler {
    /// `conv`
    pub conv: Conv2d,
}

/// A residual block, attention of one head, a residual block.
#[derive(Module, Debug)]
pub struct Middle {
    /// `attentions`
    pub attentions: Vec<MapAttention>,
    /// `resnets`
    pub resnets: Vec<ResBlock>,
}

/// Self-attention over pixels with a skip connection.
#[derive(Module, Debug)]
pub struct MapAttention {
    /// `group_norm`
    pub group_norm: GroupNorm,
    /// `to_q`, `to_k`, `to_v`, `to_out.0`
    pub attention: Attention,
}

/// The distribution of an image's latents, not yet scaled.
#[derive(Clone, Debug)]
pub struct Moments {
    /// `[batch, latent_channels, height, width]`
    pub mean: Tensor<4>,
    /// `[batch, latent_channels, height, width]`, cut off at -30 and 20.
    pub log_variance: Tensor<4>,
}

impl Moments {
    /// The mean and `noise` times the deviation.
    ///
    /// # Shapes
    ///
    /// - `noise`, result: `[batch, latent_channels, height, width]`
    pub fn sample(self, noise: Tensor<4>) -> Tensor<4> {
        self.mean + (self.log_variance * 0.5).exp() * noise
    }
}

impl FirstStageConfig {
    /// Builds the encoder with shapes for parameters, which cost neither time nor memory until a
    /// state dict fills them, or else zeros when they are asked for.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<FirstStage, ConfigError> {
        self.check()?;
        let groups = self.norm_num_groups;
        let res = |channels| ResBlock::new(channels, None, groups, EPS, device);
        let conv = |channels, kernel, stride| Conv2d::new(channels, kernel, stride, device);
        let levels = &self.block_out_channels;
        let mut channels = levels[0];
        let down_blocks = levels.iter().enumerate().map(|(level, &width)| {
            let resnets = (0..self.layers_per_block).map(|_| {
                let block = res([channels, width]);
                channels = width;
                block
            });
            let resnets = resnets.collect();
            let last = level + 1 == levels.len();
            let halve = (!last).then(|| Downsampler {
                conv: conv([width; 2], 3, Stride::HalfAfter),
            });
            Level {
                resnets,
                downsamplers: halve.into_iter().collect(),
            }
        });
        let down_blocks = down_blocks.collect();
        let deepest = *levels.last().expect("at least one level");
        let moments = 2 * self.latent_channels;
        Ok(FirstStage {
            encoder: FirstStageEncoder {
                conv_in: conv([self.in_channels, levels[0]], 3, Stride::Same),
                down_blocks,
                mid_block: Middle {
                    attentions: vec![MapAttention {
                        group_norm: GroupNorm::new(deepest, groups, EPS, device),
                        attention: Attention::new(deepest, deepest, 1, device),
                    }],
                    resnets: vec![res([deepest; 2]), res([deepest; 2])],
                },
                conv_norm_out: GroupNorm::new(deepest, groups, EPS, device),
                conv_out: conv([deepest, moments], 3, Stride::Same),
            },
            quant_conv: self.quant_conv.then(|| conv([moments; 2], 1, Stride::Same)),
            config: self.clone(),
        })
    }
}

impl FirstStage {
    /// What it was built from.
    pub fn config(&self) -> &FirstStageConfig {
        &self.config
    }

    /// The distribution of an image's latents.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`, from -1 to 1
    ///
    /// # Panics
    ///
    /// When the image is of another shape.
    pub fn moments(&self, image: Tensor<4>) -> Moments {
        require_image(&image, self.config.in_channels, self.config.image_size);
        let encoder = &self.encoder;
        let mut map = encoder.conv_in.forward(image);
        for level in &encoder.down_blocks {
            map = level
                .resnets
                .iter()
                .fold(map, |map, block| block.forward(map, None));
            map = level
                .downsamplers
                .iter()
                .fold(map, |map, halve| halve.conv.forward(map));
        }
        let middle = &encoder.mid_block;
        let mut blocks = middle.resnets.iter();
        if let Some(block) = blocks.next() {
            map = block.forward(map, None);
        }
        for (attention, block) in middle.attentions.iter().zip(blocks) {
            map = block.forward(attention.forward(map), None);
        }
        let map = encoder.conv_norm_out.forward(map, Activation::Silu);
        let map = encoder.conv_out.forward(map);
        let map = match &self.quant_conv {
            Some(conv) => conv.forward(map),
            None => map,
        };
        let [mean, log_variance]: [Tensor<4>; 2] = map
            .chunk(2, 1)
            .try_into()
            .expect("an even number of channels");
        Moments {
            mean,
            log_variance: log_variance.clamp(LOG_VARIANCE[0], LOG_VARIANCE[1]),
        }
    }

    /// The latents as the diffusion process noises them: the mean, or with `noise` a sample, times
    /// the scaling factor.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`, from -1 to 1
    /// - `noise`, result: `[batch, latent_channels, latent_size, latent_size]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape.
    pub fn latents(&self, image: Tensor<4>, noise: Option<Tensor<4>>) -> Tensor<4> {
        let moments = self.moments(image);
        let latents = match noise {
            None => moments.mean,
            Some(noise) => moments.sample(noise),
        };
        latents * self.config.scaling_factor
    }

    /// With the weights of its convolutions laid out once for kernels that only go forward (see
    /// [`diffrep_ops::PackedConv`]). It is the last thing that is done to it.
    #[must_use]
    pub fn packed(mut self) -> Self {
        let mut side = self.config.image_size;
        let encoder = &mut self.encoder;
        encoder.conv_in.pack(side);
        for level in &mut encoder.down_blocks {
            level.resnets.iter_mut().for_each(|block| block.pack(side));
            if !level.downsamplers.is_empty() {
                side /= 2;
            }
        }
        let middle = &mut encoder.mid_block;
        middle.resnets.iter_mut().for_each(|block| block.pack(side));
        encoder.conv_out.pack(side);
        self
    }
}

impl MapAttention {
    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let tokens = self
            .group_norm
            .forward(x.clone(), Activation::Identity)
            .reshape([batch, channels, height * width])
            .swap_dims(1, 2);
        let mixed = self.attention.forward(tokens.clone(), tokens);
        x + mixed
            .swap_dims(1, 2)
            .reshape([batch, channels, height, width])
    }
}

impl Named for FirstStage {}
