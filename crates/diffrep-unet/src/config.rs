//! Constructor arguments of the reference classes, and the blocks they imply.

use diffrep_taps::{BlockIndex, Sinusoids, TapInfo};
use serde::{Deserialize, Serialize};

/// How many heads an attention block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Heads {
    /// This many, whatever the channels.
    Count(usize),
    /// As many as there are groups of this many channels.
    Channels(usize),
}

impl Heads {
    /// Heads of an attention block with `channels` channels.
    pub fn count(self, channels: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Channels(size) => channels / size,
        }
    }
}

/// In which order the rows of a fused q, k, v projection lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttentionOrder {
    /// Head first, then q, k, v (every published model but the 64x64 one).
    Legacy,
    /// q, k, v first, then head (the 64x64 model).
    New,
}

/// How resolution changes between levels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resample {
    /// Inside a residual block, without weights of its own (`resblock_updown`).
    Residual,
    /// A strided convolution down, nearest neighbour and a convolution up.
    Convolution,
    /// Average pooling down, nearest neighbour up, no weights (`conv_resample = False`).
    Plain,
}

/// Where implementations of this network differ without having other tensors; guided diffusion's
/// choices unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// Groups of every normalisation.
    pub norm_groups: usize,
    /// Epsilon of every normalisation.
    pub norm_eps: f64,
    /// Whether the timestep's sines stand before its cosines.
    pub sines_first: bool,
    /// Taken off the number of frequencies in the exponent of the timestep's embedding: 1 makes the
    /// last frequency 1/10000.
    pub frequency_shift: f64,
    /// Whether strided convolutions pad one row below and one column to the right, rather than one on
    /// each side.
    pub pads_after: bool,
}

impl Default for Details {
    fn default() -> Self {
        Self {
            norm_groups: 32,
            norm_eps: 1e-5,
            sines_first: false,
            frequency_shift: 0.0,
            pads_after: false,
        }
    }
}

impl Details {
    /// Whether they are guided diffusion's.
    pub fn are_usual(&self) -> bool {
        *self == Self::default()
    }
}

/// What ends the encoder classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassifierPool {
    /// Norm, SiLU, mean over pixels, 1x1 convolution.
    Adaptive,
    /// Norm, SiLU, attention pooling with the mean as query token.
    Attention,
    /// Means of every block's output, concatenated, through a hidden layer of 2048 with ReLU.
    Spatial,
    /// As `spatial`, with normalisation and SiLU instead of ReLU.
    SpatialV2,
}

/// What the network puts out at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `UNetModel`: encoder, middle, decoder; a map of `out_channels`.
    UNet,
    /// `EncoderUNetModel`: encoder and middle; `out_channels` logits.
    Encoder(ClassifierPool),
}

/// An ADM network. Field names are those of the reference constructors (guided_diffusion/unet.py).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// U-Net or encoder classifier.
    pub kind: Kind,
    /// Height and width of the input in pixels.
    pub image_size: usize,
    /// Channels of the input.
    pub in_channels: usize,
    /// Channels at the first level, before `channel_mult`.
    pub model_channels: usize,
    /// Channels of the output map, or number of logits.
    pub out_channels: usize,
    /// Residual blocks a level (the decoder has one more).
    pub num_res_blocks: usize,
    /// Down-sampling factors at which attention is used.
    pub attention_resolutions: Vec<usize>,
    /// Channel multiplier of each level; may be fractional (0.5 in the 512x512 model).
    pub channel_mult: Vec<f64>,
    /// Heads of the attention blocks.
    pub heads: Heads,
    /// Number of classes of a class-conditional network.
    pub num_classes: Option<usize>,
    /// Whether the timestep scales and shifts (else only shifts).
    pub use_scale_shift_norm: bool,
    /// How resolution changes.
    pub resample: Resample,
    /// Row order of the attention projections.
    pub attention_order: AttentionOrder,
    /// What other implementations do otherwise.
    #[serde(default, skip_serializing_if = "Details::are_usual")]
    pub details: Details,
}

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this network cannot be built: {reason}")]
pub struct ConfigError {
    /// What does not fit.
    pub reason: String,
}

/// One layer of a block, with its sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerSpec {
    /// The first 3x3 convolution.
    Conv {
        /// Channels in and out.
        channels: [usize; 2],
    },
    /// A residual block.
    Res {
        /// Channels in and out.
        channels: [usize; 2],
        /// Whether and how it changes resolution.
        resample: Option<Direction>,
    },
    /// Self-attention over pixels.
    Attention {
        /// Channels in and out.
        channels: usize,
    },
    /// A layer that only changes resolution.
    Resample {
        /// Channels in and out.
        channels: usize,
        /// Down or up.
        direction: Direction,
    },
}

/// A change of resolution by 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Half the height and width.
    Down,
    /// Twice the height and width.
    Up,
}

/// One block: its layers and what it puts out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockSpec {
    /// The tap at its end.
    pub tap: TapInfo,
    /// Channels of the skip connection it reads; 0 in the encoder and middle.
    pub skip_channels: usize,
    /// What it is made of.
    pub layers: Vec<LayerSpec>,
}

/// The blocks of a network in the order of computation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Blocks of the encoder.
    pub input: Vec<BlockSpec>,
    /// The one in the middle.
    pub middle: BlockSpec,
    /// Blocks of the decoder; none in an encoder classifier.
    pub output: Vec<BlockSpec>,
    /// Channels that the output head reads.
    pub head_channels: usize,
}

impl Blocks {
    /// All blocks in the order of computation.
    pub fn iter(&self) -> impl Iterator<Item = &BlockSpec> {
        self.input
            .iter()
            .chain(std::iter::once(&self.middle))
            .chain(&self.output)
    }
}

impl UNetConfig {
    /// The unconditional 256x256 ADM network of the paper: 552,814,086 parameters, 37 blocks.
    pub fn adm_256_uncond() -> Self {
        Self {
            kind: Kind::UNet,
            image_size: 256,
            in_channels: 3,
            model_channels: 256,
            out_channels: 6,
            num_res_blocks: 2,
            attention_resolutions: vec![8, 16, 32],
            channel_mult: vec![1.0, 1.0, 2.0, 2.0, 4.0, 4.0],
            heads: Heads::Channels(64),
            num_classes: None,
            use_scale_shift_norm: true,
            resample: Resample::Residual,
            attention_order: AttentionOrder::Legacy,
            details: Details::default(),
        }
    }

    /// The network of the mini scale: 32x32 grey images, 13 blocks, attention at 8x8.
    pub fn mini() -> Self {
        Self {
            image_size: 32,
            in_channels: 1,
            model_channels: 32,
            out_channels: 1,
            num_res_blocks: 1,
            attention_resolutions: vec![4],
            channel_mult: vec![1.0, 1.0, 2.0],
            heads: Heads::Channels(16),
            ..Self::adm_256_uncond()
        }
    }

    /// Width of the timestep embedding after its MLP.
    pub fn embedding_channels(&self) -> usize {
        4 * self.model_channels
    }

    /// How timesteps are embedded.
    pub fn sinusoids(&self) -> Sinusoids {
        Sinusoids {
            channels: self.model_channels,
            sines_first: self.details.sines_first,
            frequency_shift: self.details.frequency_shift,
        }
    }

    /// Channels at each level.
    pub fn level_channels(&self) -> Vec<usize> {
        self.channel_mult
            .iter()
            .map(|mult| (mult * self.model_channels as f64) as usize)
            .collect()
    }

    /// How many blocks the encoder has; the middle block comes next.
    pub fn encoder_blocks(&self) -> usize {
        self.channel_mult.len() * (self.num_res_blocks + 1)
    }

    /// The network's blocks, checked.
    ///
    /// # Errors
    ///
    /// When sizes do not divide as the network needs.
    pub fn blocks(&self) -> Result<Blocks, ConfigError> {
        let refuse = |reason: String| Err(ConfigError { reason });
        let sizes = [
            ("image_size", self.image_size),
            ("in_channels", self.in_channels),
            ("model_channels", self.model_channels),
            ("out_channels", self.out_channels),
            ("num_res_blocks", self.num_res_blocks),
            ("number of levels", self.channel_mult.len()),
        ];
        let limits = [1 << 16, 1 << 12, 1 << 16, 1 << 20, 1 << 8, 16];
        for ((name, size), limit) in sizes.into_iter().zip(limits) {
            if size > limit {
                return refuse(format!("its {name} is {size}, more than {limit}"));
            }
        }
        if let Some(mult) = self
            .channel_mult
            .iter()
            .find(|m| !(**m > 0.0 && **m <= 256.0))
        {
            return refuse(format!("a channel multiplier is {mult}, not in 0 to 256"));
        }
        let levels = self.level_channels();
        if levels.is_empty() || self.num_res_blocks == 0 {
            return refuse("it needs at least one level and one residual block a level".into());
        }
        let factor = 1usize.checked_shl(levels.len() as u32 - 1).unwrap_or(0);
        if factor == 0 || self.image_size == 0 || !self.image_size.is_multiple_of(factor) {
            return refuse(format!(
                "image_size {} is not a multiple of {factor}, the down-sampling of {} levels",
                self.image_size,
                levels.len()
            ));
        }
        if self.in_channels == 0 || self.out_channels == 0 || self.num_classes == Some(0) {
            return refuse("in_channels, out_channels and num_classes must be at least 1".into());
        }
        let Details {
            norm_groups: groups,
            norm_eps: eps,
            frequency_shift: shift,
            ..
        } = self.details;
        if groups == 0 || !(eps > 0.0 && eps < 1.0) {
            return refuse(format!(
                "normalisation over {groups} groups with epsilon {eps} is none: expected at least 1 group and an \
                 epsilon between 0 and 1"
            ));
        }
        // One frequency and a shift of one would be a division by zero.
        if !(shift >= 0.0 && shift < (self.model_channels / 2) as f64) {
            return refuse(format!(
                "a frequency shift of {shift} does not fit {} frequencies",
                self.model_channels / 2
            ));
        }
        let blocks = self.layout(&levels);
        for block in blocks.iter() {
            for layer in &block.layers {
                let normalised = match *layer {
                    LayerSpec::Res { channels, .. } => vec![channels[0], channels[1]],
                    LayerSpec::Attention { channels } => vec![channels],
                    _ => vec![],
                };
                if let Some(channels) = normalised.iter().find(|c| *c % groups != 0 || **c == 0) {
                    return refuse(format!(
                        "block {} ({}) has {channels} channels, not a multiple of the {groups} groups of its normalisation",
                        block.tap.block, block.tap.name
                    ));
                }
                if let LayerSpec::Attention { channels } = *layer {
                    let heads = match self.heads {
                        Heads::Count(0) | Heads::Channels(0) => 0,
                        heads => heads.count(channels),
                    };
                    let divides = match self.heads {
                        Heads::Count(_) => heads > 0 && channels % heads == 0,
                        Heads::Channels(size) => heads > 0 && channels % size == 0,
                    };
                    if !divides {
                        return refuse(format!(
                            "block {} ({}) has {channels} channels, which {:?} does not divide",
                            block.tap.block, block.tap.name, self.heads
                        ));
                    }
                }
            }
        }
        Ok(blocks)
    }

    fn layout(&self, levels: &[usize]) -> Blocks {
        let mut count = 0;
        let mut block = |name: String, skip_channels, layers, channels, size| {
            count += 1;
            BlockSpec {
                tap: TapInfo {
                    block: BlockIndex::at(count - 1),
                    name,
                    channels,
                    height: size,
                    width: size,
                },
                skip_channels,
                layers,
            }
        };
        let (mut channels, mut size, mut factor) = (levels[0], self.image_size, 1);
        let first = LayerSpec::Conv {
            channels: [self.in_channels, channels],
        };
        let mut input = vec![block(
            "input_blocks.0".into(),
            0,
            vec![first],
            channels,
            size,
        )];
        for (level, &width) in levels.iter().enumerate() {
            for _ in 0..self.num_res_blocks {
                let mut layers = vec![LayerSpec::Res {
                    channels: [channels, width],
                    resample: None,
                }];
                channels = width;
                if self.attention_resolutions.contains(&factor) {
                    layers.push(LayerSpec::Attention { channels });
                }
                let name = format!("input_blocks.{}", input.len());
                input.push(block(name, 0, layers, channels, size));
            }
            if level + 1 < levels.len() {
                (size, factor) = (size / 2, factor * 2);
                let name = format!("input_blocks.{}", input.len());
                input.push(block(
                    name,
                    0,
                    vec![self.change(channels, Direction::Down)],
                    channels,
                    size,
                ));
            }
        }
        let res = LayerSpec::Res {
            channels: [channels; 2],
            resample: None,
        };
        let layers = vec![res, LayerSpec::Attention { channels }, res];
        let middle = block("middle_block".into(), 0, layers, channels, size);
        let mut output = Vec::new();
        if self.kind == Kind::UNet {
            let mut skips: Vec<usize> = input.iter().map(|block| block.tap.channels).collect();
            for (level, &width) in levels.iter().enumerate().rev() {
                for i in 0..=self.num_res_blocks {
                    let skip = skips
                        .pop()
                        .expect("one skip connection for each decoder block");
                    let mut layers = vec![LayerSpec::Res {
                        channels: [channels + skip, width],
                        resample: None,
                    }];
                    channels = width;
                    if self.attention_resolutions.contains(&factor) {
                        layers.push(LayerSpec::Attention { channels });
                    }
                    if level > 0 && i == self.num_res_blocks {
                        layers.push(self.change(channels, Direction::Up));
                        (size, factor) = (size * 2, factor / 2);
                    }
                    let name = format!("output_blocks.{}", output.len());
                    output.push(block(name, skip, layers, channels, size));
                }
            }
        }
        Blocks {
            input,
            middle,
            output,
            head_channels: channels,
        }
    }

    fn change(&self, channels: usize, direction: Direction) -> LayerSpec {
        match self.resample {
            Resample::Residual => LayerSpec::Res {
                channels: [channels; 2],
                resample: Some(direction),
            },
            _ => LayerSpec::Resample {
                channels,
                direction,
            },
        }
    }
}
