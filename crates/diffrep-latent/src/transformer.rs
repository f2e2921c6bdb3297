use burn::module::Module;
use burn::tensor::{Device, Tensor};
use diffrep_ops::{Activation, gelu};

use crate::attention::Attention;
use crate::layers::{GroupNorm, LayerNorm, Linear};

/// Epsilon of the normalisation before the tokens; 1e-5 elsewhere in the network.
const EPS: f64 = 1e-6;

/// `SpatialTransformer` of the original release: pixels as tokens that attend to each other and to
/// the text. Its projections are 1x1 convolutions in Stable Diffusion 1 and linear layers in 2,
/// which compute the same; here both are linear.
#[derive(Module, Debug)]
pub struct SpatialTransformer {
    /// `norm`
    pub norm: GroupNorm,
    /// `proj_in`
    pub proj_in: Linear,
    /// `transformer_blocks`
    pub transformer_blocks: Vec<TransformerBlock>,
    /// `proj_out`
    pub proj_out: Linear,
}

impl SpatialTransformer {
    pub(crate) fn new(
        channels: usize,
        context: usize,
        heads: usize,
        groups: usize,
        device: &Device,
    ) -> Self {
        Self {
            norm: GroupNorm::new(channels, groups, EPS, device),
            proj_in: Linear::new(channels, channels, device),
            transformer_blocks: vec![TransformerBlock::new(channels, context, heads, device)],
            proj_out: Linear::new(channels, channels, device),
        }
    }

    /// `x`, result: `[batch, channels, height, width]`; `context`: `[batch, tokens, context width]`,
    /// or one row for all.
    pub(crate) fn forward(&self, x: Tensor<4>, context: &Tensor<3>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let tokens = self
            .norm
            .forward(x.clone(), Activation::Identity)
            .reshape([batch, channels, height * width])
            .swap_dims(1, 2);
        let tokens = self.proj_in.forward_tokens(tokens);
        let tokens = self
            .transformer_blocks
            .iter()
            .fold(tokens, |tokens, block| block.forward(tokens, context));
        let tokens = self.proj_out.forward_tokens(tokens);
        x + tokens
            .swap_dims(1, 2)
            .reshape([batch, channels, height, width])
    }
}

/// Self-attention, attention to the text, a gated layer: each behind a normalisation and added.
#[derive(Module, Debug)]
pub struct TransformerBlock {
    /// Self-attention.
    pub attn1: Attention,
    /// `ff`
    pub ff: FeedForward,
    /// Attention to the text.
    pub attn2: Attention,
    /// Before `attn1`.
    pub norm1: LayerNorm,
    /// Before `attn2`.
    pub norm2: LayerNorm,
    /// Before `ff`.
    pub norm3: LayerNorm,
}

impl TransformerBlock {
    fn new(width: usize, context: usize, heads: usize, device: &Device) -> Self {
        let norm = || LayerNorm::new(width, 1e-5, device);
        Self {
            attn1: Attention::new(width, width, heads, device).without_bias(),
            ff: FeedForward::new(width, device),
            attn2: Attention::new(width, context, heads, device).without_bias(),
            norm1: norm(),
            norm2: norm(),
            norm3: norm(),
        }
    }

    fn forward(&self, tokens: Tensor<3>, context: &Tensor<3>) -> Tensor<3> {
        let normal = self.norm1.forward(tokens.clone());
        let tokens = tokens + self.attn1.forward(normal.clone(), normal);
        let normal = self.norm2.forward(tokens.clone());
        let tokens = tokens + self.attn2.forward(normal, context.clone());
        let normal = self.norm3.forward(tokens.clone());
        tokens + self.ff.forward(normal)
    }
}

/// GEGLU: one half of the hidden layer, times the GELU of the other.
#[derive(Module, Debug)]
pub struct FeedForward {
    /// `net.0.proj`, `[8 * width, width]`
    pub proj: Linear,
    /// `net.2`, `[width, 4 * width]`
    pub out: Linear,
}

impl FeedForward {
    fn new(width: usize, device: &Device) -> Self {
        Self {
            proj: Linear::new(width, 8 * width, device),
            out: Linear::new(4 * width, width, device),
        }
    }

    fn forward(&self, tokens: Tensor<3>) -> Tensor<3> {
        let hidden = self.proj.forward_tokens(tokens);
        let half = hidden.dims()[2] / 2;
        let value = hidden.clone().narrow(2, 0, half);
        let gate = hidden.narrow(2, half, half);
        self.out.forward_tokens(value * gelu(gate))
    }
}
