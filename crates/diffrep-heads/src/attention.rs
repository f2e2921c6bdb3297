use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, activation::softmax, module::avg_pool2d, ops::AvgPoolOptions};
use diffrep_ops::gelu;
use diffrep_rng::Generator;
use diffrep_taps::TapInfo;
use serde::{Deserialize, Serialize};

use crate::HeadError;
use crate::layers::{Dense, LayerNorm};

/// Transformer blocks of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransformerConfig {
    /// Attention heads.
    pub heads: usize,
    /// Hidden size of the MLP over the width of a token.
    pub mlp_ratio: usize,
    /// Blocks.
    pub depth: usize,
}

impl TransformerConfig {
    /// That the heads divide the tokens and nothing is zero.
    pub(crate) fn check(&self, width: usize) -> Result<(), HeadError> {
        let zero = |what| Err(HeadError::Zero { what });
        match *self {
            Self { heads: 0, .. } => zero("the number of attention heads"),
            Self { mlp_ratio: 0, .. } => zero("the MLP ratio"),
            Self { depth: 0, .. } => zero("the number of transformer blocks"),
            Self { heads, .. } if !width.is_multiple_of(heads) => {
                Err(HeadError::Heads { heads, width })
            }
            _ => Ok(()),
        }
    }

    /// Parameters of the blocks and the class token for tokens of `width` channels.
    pub(crate) fn parameters(&self, width: usize) -> usize {
        let hidden = self.mlp_ratio * width;
        let attention = width * 3 * width + (width + 1) * width;
        let mlp = (width + 1) * hidden + (hidden + 1) * width;
        self.depth * (4 * width + attention + mlp) + width
    }
}

/// The fused projection of self-attention, without a bias for it, and the output projection.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `[3 * width, width]`
    pub qkv: Dense,
    /// `[width, width]`
    pub proj: Dense,
    #[module(skip)]
    heads: usize,
}

/// Two layers with GELU between them.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// To the hidden size.
    pub fc1: Dense,
    /// Back.
    pub fc2: Dense,
}

/// A pre-norm transformer block.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Before attention.
    pub norm1: LayerNorm<1>,
    /// Self-attention.
    pub attn: SelfAttention,
    /// Before the MLP.
    pub norm2: LayerNorm<1>,
    /// The MLP.
    pub mlp: FeedForward,
}

impl TransformerBlock {
    fn new(width: usize, config: TransformerConfig, draw: &mut Generator, device: &Device) -> Self {
        let hidden = config.mlp_ratio * width;
        Self {
            norm1: LayerNorm::new([width], device),
            attn: SelfAttention {
                qkv: Dense::new([width, 3 * width], false, draw, device),
                proj: Dense::new([width, width], true, draw, device),
                heads: config.heads,
            },
            norm2: LayerNorm::new([width], device),
            mlp: FeedForward {
                fc1: Dense::new([width, hidden], true, draw, device),
                fc2: Dense::new([hidden, width], true, draw, device),
            },
        }
    }

    /// `[batch, tokens, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        let hidden = gelu(self.mlp.fc1.forward(self.norm2.forward(x.clone())));
        x + self.mlp.fc2.forward(hidden)
    }
}

impl SelfAttention {
    fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let size = width / self.heads;
        let qkv = self
            .qkv
            .forward(x)
            .reshape([batch, tokens, 3 * self.heads, size])
            .swap_dims(1, 2);
        let part = |i: usize| qkv.clone().narrow(1, i * self.heads, self.heads);
        let query = part(0) * (size as f64).powf(-0.5);
        let weights = softmax(query.matmul(part(1).transpose()), 3);
        let mixed = weights.matmul(part(2)).swap_dims(1, 2);
        self.proj.forward(mixed.reshape([batch, tokens, width]))
    }
}

/// Transformer blocks over tokens behind a learned token, whose last value is read.
#[derive(Module, Debug)]
pub struct Readout {
    /// `[1, 1, width]`, zero at the start
    pub cls_token: Param<Tensor<3>>,
    /// In order.
    pub layers: Vec<TransformerBlock>,
}

impl Readout {
    pub(crate) fn new(
        width: usize,
        config: TransformerConfig,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        Self {
            cls_token: Param::from_tensor(Tensor::zeros([1, 1, width], device)),
            layers: (0..config.depth)
                .map(|_| TransformerBlock::new(width, config, draw, device))
                .collect(),
        }
    }

    /// `[batch, tokens, width]` to `[batch, width]`. There is no positional embedding.
    pub(crate) fn forward(&self, tokens: Tensor<3>) -> Tensor<2> {
        let [batch, _, width] = tokens.dims();
        let first = self.cls_token.val().expand([batch, 1, width]);
        let x = Tensor::cat(vec![first, tokens], 1);
        let x = self.layers.iter().fold(x, |x, block| block.forward(x));
        x.narrow(1, 0, 1).reshape([batch, width])
    }
}

/// The paper's attention head (Table 9): the map averaged over windows, its pixels as tokens of the
/// map's own channels, transformer blocks, and a linear layer on the class token.
#[derive(Module, Debug)]
pub struct AttentionHead {
    /// Transformer blocks and class token.
    pub attention: Readout,
    /// `[classes, channels]`
    pub head: Dense,
    #[module(skip)]
    window: usize,
}

impl AttentionHead {
    /// A head that fits (see [`HeadSpec::check`](crate::HeadSpec::check)).
    pub(crate) fn new(
        tap: &TapInfo,
        window: usize,
        config: TransformerConfig,
        classes: usize,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        Self {
            attention: Readout::new(tap.channels, config, draw, device),
            head: Dense::new([tap.channels, classes], true, draw, device),
            window,
        }
    }

    /// Logits `[batch, classes]` of a map `[batch, channels, height, width]`.
    pub fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let window = [self.window; 2];
        let map = avg_pool2d(map, AvgPoolOptions::new(window).with_stride(window));
        let tokens = map.flatten::<3>(2, 3).swap_dims(1, 2);
        self.head.forward(self.attention.forward(tokens))
    }
}
