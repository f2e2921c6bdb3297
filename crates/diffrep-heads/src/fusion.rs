use burn::module::Module;
use burn::tensor::{Device, Tensor, module::adaptive_avg_pool2d};
use diffrep_pool::PoolSize;
use diffrep_rng::Generator;
use diffrep_taps::TapInfo;

use crate::attention::{Readout, TransformerConfig};
use crate::layers::{Conv2d, Dense, LayerNorm};

/// How maps become tokens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tokens {
    /// Cells a side that a map is averaged to at most.
    pub pool: PoolSize,
    /// Channels of a token.
    pub width: usize,
}

/// What makes tokens of a block's map: average, layer norm over the whole map, 1x1 convolution.
#[derive(Module, Debug)]
pub struct PreLayer {
    /// `[channels, side, side]`
    pub norm: LayerNorm<3>,
    /// `[width, channels, 1, 1]`
    pub conv: Conv2d,
}

/// DifFormer (Mukhopadhyay et al. 2023, "Do text-free diffusion models learn discriminative visual
/// representations?"): tokens of several blocks attend to each other, the same weights serve every
/// timestep, and the class tokens of all timesteps are read together. With one block and one
/// timestep it is that paper's attention head.
#[derive(Module, Debug)]
pub struct FusionHead {
    /// One for each block, in the order of the blocks.
    pub pre_layers: Vec<PreLayer>,
    /// Transformer blocks and class token.
    pub attention: Readout,
    /// `[classes, width * timesteps]`
    pub head: Dense,
}

impl FusionHead {
    /// A head that fits (see [`HeadSpec::check`](crate::HeadSpec::check)).
    pub(crate) fn new(
        taps: &[TapInfo],
        steps: usize,
        Tokens { pool, width }: Tokens,
        config: TransformerConfig,
        classes: usize,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        let pre_layer = |tap: &TapInfo| {
            let [height, across] = [tap.height, tap.width].map(|side| side.min(pool.get()));
            PreLayer {
                norm: LayerNorm::new([tap.channels, height, across], device),
                conv: Conv2d::new([tap.channels, width], 1, draw, device),
            }
        };
        Self {
            pre_layers: taps.iter().map(pre_layer).collect(),
            attention: Readout::new(width, config, draw, device),
            head: Dense::new([width * steps, classes], true, draw, device),
        }
    }

    /// Logits `[batch, classes]` of maps, for each timestep one of each block in their order.
    ///
    /// # Panics
    ///
    /// Panics when the number of maps is not blocks times timesteps.
    pub fn forward(&self, maps: Vec<Tensor<4>>) -> Tensor<2> {
        let blocks = self.pre_layers.len();
        let [_, read] = self.head.weight.dims();
        let [_, _, width] = self.attention.cls_token.dims();
        assert_eq!(
            maps.len(),
            blocks * (read / width),
            "one map a block and timestep"
        );
        let mut maps = maps.into_iter();
        let mut tokens = Vec::new();
        for _ in 0..read / width {
            let parts = self.pre_layers.iter().zip(maps.by_ref());
            let parts = parts.map(|(layer, map)| layer.tokens(map)).collect();
            tokens.push(self.attention.forward(Tensor::cat(parts, 1)));
        }
        self.head.forward(Tensor::cat(tokens, 1))
    }
}

impl PreLayer {
    fn tokens(&self, map: Tensor<4>) -> Tensor<3> {
        let [_, height, width] = self.norm.weight.dims();
        let [_, _, found_height, found_width] = map.dims();
        let map = if [found_height, found_width] == [height, width] {
            map
        } else {
            adaptive_avg_pool2d(map, [height, width])
        };
        self.conv.tokens(self.norm.forward(map))
    }
}
