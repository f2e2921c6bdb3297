//! The encoder of MAGE (Li et al. 2023, "MAGE: MAsked Generative Encoder to Unify Representation
//! Learning and Image Synthesis", arXiv 2211.09117): a vision transformer on the tokens of a VQGAN, with
//! the names of LTH14/mage (models_vit_mage.py and its taming VQGAN).

use burn::module::{Module, Param};
use burn::tensor::{Device, Int, Tensor};
use diffrep_ops::{Activation, group_norm, halve};
use diffrep_taps::{Condition, Encoder, Feedback, TapInfo, TapSet, Taps, Visit, require_image};

use crate::config::ConfigError;
use crate::dit::Table;
use crate::init::{Scheme, randomised};
use crate::layers::{Conv2d, LayerNorm, zeros};
use crate::mage_config::MageConfig;
use crate::vit::{Attention, Block, Mlp, added_to_tokens, as_map};
use crate::vit_config::Gelu;

/// Groups and epsilon of the tokenizer's normalisations.
const GROUPS: (usize, f64) = (32, 1e-6);
/// Epsilon of the transformer's.
const EPS: f64 = 1e-6;

impl MageConfig {
    /// Builds the network with random weights, a function of `seed`.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<Mage, ConfigError> {
        Ok(randomised(self.blank(device)?, Scheme::Transformer, seed))
    }

    /// Builds the network with zeros for weights: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<Mage, ConfigError> {
        let taps = self.taps()?;
        let width = self.width;
        let table = |rows, columns| Table {
            weight: zeros([rows, columns], device),
        };
        let block = |_| {
            let norm = || LayerNorm::new(width, EPS, device);
            let attention = Attention::new(width, self.heads, true, device);
            let mlp = Mlp::new([width, self.mlp], Gelu::Exact, device);
            Block {
                norm1: norm(),
                attn: attention,
                norm2: norm(),
                mlp,
            }
        };
        let widths: Vec<usize> = self
            .channel_mult
            .iter()
            .map(|mult| mult * self.channels)
            .collect();
        let mut before = self.channels;
        let mut down = Vec::new();
        for &after in &widths {
            let blocks = (0..self.res_blocks).map(|place| {
                let inputs = if place == 0 { before } else { after };
                TokenizerBlock::new([inputs, after], device)
            });
            down.push(Level {
                block: blocks.collect(),
            });
            before = after;
        }
        let mut conv_out = Conv2d::new([before, self.code_channels], [1, 1], 1, device);
        conv_out.bias = Some(zeros([self.code_channels], device));
        Ok(Mage {
            vqgan: Tokenizer {
                encoder: TokenizerEncoder {
                    conv_in: Conv2d::new([3, self.channels], [3, 3], 1, device),
                    down,
                    mid: Middle {
                        block_1: TokenizerBlock::new([before; 2], device),
                        block_2: TokenizerBlock::new([before; 2], device),
                    },
                    norm_out: GroupNorm::new(before, device),
                    conv_out,
                },
                quantize: Codebook {
                    embedding: table(self.codes, self.code_channels),
                },
            },
            token_emb: TokenEmbedding {
                word_embeddings: table(self.vocabulary, width),
                position_embeddings: table(self.grid() * self.grid() + 1, width),
                layer_norm: LayerNorm::new(width, EPS, device),
            },
            blocks: (0..self.depth).map(block).collect(),
            norm: LayerNorm::new(width, EPS, device),
            taps,
            config: self.clone(),
        })
    }
}

/// Group normalisation followed by SiLU.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
}

impl GroupNorm {
    fn new(channels: usize, device: &Device) -> Self {
        Self {
            weight: zeros([channels], device),
            bias: zeros([channels], device),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let rows = |values: Tensor<1>| values.unsqueeze::<2>().expand([batch, channels]);
        let (scale, shift) = (rows(self.weight.val()), rows(self.bias.val()));
        let (groups, eps) = GROUPS;
        group_norm(x, scale, shift, groups, eps, Activation::Silu)
    }
}

/// A residual block of the tokenizer. Its convolutions have no biases.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct TokenizerBlock {
    pub norm1: GroupNorm,
    pub conv1: Conv2d,
    pub norm2: GroupNorm,
    pub conv2: Conv2d,
    /// Where the number of channels changes, in place of the block's input: it reads what the
    /// convolutions put out, as in the JAX code that the weights come from.
    pub nin_shortcut: Option<Conv2d>,
}

impl TokenizerBlock {
    fn new([inputs, outputs]: [usize; 2], device: &Device) -> Self {
        let conv = |inputs, side| Conv2d::new([inputs, outputs], [side; 2], 1, device);
        Self {
            norm1: GroupNorm::new(inputs, device),
            conv1: conv(inputs, 3),
            norm2: GroupNorm::new(outputs, device),
            conv2: conv(outputs, 3),
            nin_shortcut: (inputs != outputs).then(|| conv(outputs, 1)),
        }
    }

    fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let hidden = self.conv1.forward(self.norm1.forward(x.clone()));
        let hidden = self.conv2.forward(self.norm2.forward(hidden));
        let skip = match &self.nin_shortcut {
            Some(conv) => conv.forward(hidden.clone()),
            None => x,
        };
        hidden + skip
    }
}

/// A level of the tokenizer.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct Level {
    pub block: Vec<TokenizerBlock>,
}

/// The smallest maps of the tokenizer.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct Middle {
    pub block_1: TokenizerBlock,
    pub block_2: TokenizerBlock,
}

/// What makes a map of codes of an image.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct TokenizerEncoder {
    pub conv_in: Conv2d,
    pub down: Vec<Level>,
    pub mid: Middle,
    pub norm_out: GroupNorm,
    pub conv_out: Conv2d,
}

/// The codes.
#[derive(Module, Debug)]
pub struct Codebook {
    /// `[codes, code_channels]`
    pub embedding: Table,
}

/// The part of the VQGAN that makes tokens of images.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct Tokenizer {
    pub encoder: TokenizerEncoder,
    pub quantize: Codebook,
}

impl Tokenizer {
    /// The nearest code of each place: `[batch, 3, side, side]` within 0 and 1 to `[batch, tokens]`, row
    /// by row.
    ///
    /// # Panics
    ///
    /// When the image has another number of channels.
    pub fn tokens(&self, image: Tensor<4>) -> Tensor<2, Int> {
        let encoder = &self.encoder;
        let levels = encoder.down.len();
        let mut map = encoder.conv_in.forward(image);
        for (place, level) in encoder.down.iter().enumerate() {
            map = level
                .block
                .iter()
                .fold(map, |map, block| block.forward(map));
            if place + 1 < levels {
                map = halve(map);
            }
        }
        let map = encoder
            .mid
            .block_2
            .forward(encoder.mid.block_1.forward(map));
        let map = encoder.conv_out.forward(encoder.norm_out.forward(map));
        let [batch, channels, height, width] = map.dims();
        let places = map
            .permute([0, 2, 3, 1])
            .reshape([batch * height * width, channels]);
        let codes = self.quantize.embedding.weight.val();
        let squares = codes.clone().square().sum_dim(1).transpose();
        // The square of the place itself is the same for all codes.
        let distances = squares - places.matmul(codes.transpose()) * 2.0;
        distances.argmin(1).reshape([batch, height * width])
    }
}

/// Tokens to vectors.
#[derive(Module, Debug)]
pub struct TokenEmbedding {
    /// `[vocabulary, width]`: codes, then classes, then the mask.
    pub word_embeddings: Table,
    /// `[1 + tokens, width]`
    pub position_embeddings: Table,
    /// `LayerNorm`
    pub layer_norm: LayerNorm,
}

/// MAGE's encoder with its tokenizer.
#[derive(Module, Debug)]
pub struct Mage {
    /// Images to tokens.
    pub vqgan: Tokenizer,
    /// Tokens to vectors.
    pub token_emb: TokenEmbedding,
    /// The layers.
    pub blocks: Vec<Block>,
    /// The normalisation after the blocks.
    pub norm: LayerNorm,
    #[module(skip)]
    taps: Vec<TapInfo>,
    #[module(skip)]
    config: MageConfig,
}

impl Mage {
    /// What it was built from.
    pub fn config(&self) -> &MageConfig {
        &self.config
    }

    /// The tokens of images within -1 and 1, which the tokenizer takes within 0 and 1.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, 3, image_size, image_size]`; result: `[batch, tokens]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape.
    pub fn tokens(&self, image: Tensor<4>) -> Tensor<2, Int> {
        require_image(&image, 3, self.config.image_size);
        self.vqgan.tokens(image * 0.5 + 0.5)
    }

    /// The one loop over blocks.
    fn traverse(&self, image: Tensor<4>, visit: &mut Visit<'_>) {
        let tokens = self.tokens(image);
        let [batch, count] = tokens.dims();
        let (width, grid) = (self.config.width, self.config.grid());
        let first = Tensor::full([batch, 1], self.config.fake_class as i64, &tokens.device());
        let numbers = Tensor::cat(vec![first, tokens], 1).reshape([batch * (count + 1)]);
        let words = self
            .token_emb
            .word_embeddings
            .weight
            .val()
            .select(0, numbers);
        let positions = self.token_emb.position_embeddings.weight.val();
        let mut tokens = words.reshape([batch, count + 1, width]) + positions.unsqueeze::<3>();
        tokens = self.token_emb.layer_norm.forward(tokens);
        let last = visit.blocks(self.taps.len());
        for (place, info) in self.taps.iter().enumerate().take(last) {
            let _span = Visit::enter(info);
            tokens = match self.blocks.get(place) {
                Some(block) => block.forward(tokens),
                None => self.norm.forward(tokens),
            };
            if let Some(addend) = visit.addend(info) {
                tokens = added_to_tokens(tokens, addend, 1);
            }
            visit.keep(info, || as_map(tokens.clone(), 1, grid));
        }
    }
}

impl Encoder for Mage {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    /// The condition is not read: MAGE knows no timestep.
    fn forward_taps(
        &self,
        image: Tensor<4>,
        _condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let mut visit = Visit::taps(wanted, feedback);
        self.traverse(image, &mut visit);
        visit.taps
    }
}
