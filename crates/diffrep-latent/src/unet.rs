//! The network and its one traversal. References: `openaimodel.py` of CompVis/stable-diffusion and
//! `UNet2DConditionModel` of diffusers, which compute the same.

use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::silu};
use diffrep_ops::{Activation, double};
use diffrep_taps::{
    BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps, Visit, require_image,
    timestep_embedding,
};

use crate::config::{ConfigError, LayerKind, LayerSpec, UNetConfig};
use crate::layers::{Conv2d, GroupNorm, Linear, Stride};
use crate::names::{Named, Naming};
use crate::res_block::ResBlock;
use crate::transformer::SpatialTransformer;

/// Epsilon of the normalisations outside the transformers.
const EPS: f64 = 1e-5;

/// One layer of a block.
#[derive(Module, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "a network has a few dozen of these"
)]
pub enum Layer {
    /// The first convolution.
    Conv(Conv2d),
    /// A residual block.
    Res(ResBlock),
    /// A spatial transformer.
    Transformer(SpatialTransformer),
    /// A convolution of stride 2.
    Down(Conv2d),
    /// A convolution of the map at twice its size.
    Up(Conv2d),
}

/// One of the paper's blocks.
#[derive(Module, Debug)]
pub struct Block {
    /// Applied in turn.
    pub layers: Vec<Layer>,
}

/// The timestep's MLP.
#[derive(Module, Debug)]
pub struct TimeEmbedding {
    /// `linear_1`
    pub linear_1: Linear,
    /// `linear_2`
    pub linear_2: Linear,
}

/// The cross-attention U-Net of Stable Diffusion.
#[derive(Module, Debug)]
pub struct UNet {
    /// `time_embedding`
    pub time_embedding: TimeEmbedding,
    /// All blocks, in the order of computation.
    pub blocks: Vec<Block>,
    /// `conv_norm_out`; a network that was cut off has none.
    pub conv_norm_out: Option<GroupNorm>,
    /// `conv_out`; a network that was cut off has none.
    pub conv_out: Option<Conv2d>,
    #[module(skip)]
    config: UNetConfig,
    #[module(skip)]
    taps: Vec<TapInfo>,
    /// How many blocks lie before the middle.
    #[module(skip)]
    encoder: usize,
    #[module(skip)]
    naming: Naming,
}

impl UNetConfig {
    /// Builds the network with shapes for parameters, which cost neither time nor memory until a
    /// state dict fills them, or else zeros when they are asked for.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<UNet, ConfigError> {
        let blocks = self.blocks()?;
        let (base, embedding) = (self.block_out_channels[0], self.embedding_channels());
        let names = blocks.all.iter().map(|block| {
            let layers = block.layers.iter();
            layers.map(|layer| layer.name.clone()).collect()
        });
        Ok(UNet {
            time_embedding: TimeEmbedding {
                linear_1: Linear::new(base, embedding, device),
                linear_2: Linear::new(embedding, embedding, device),
            },
            blocks: blocks
                .all
                .iter()
                .map(|block| Block {
                    layers: block
                        .layers
                        .iter()
                        .map(|layer| self.layer(layer, device))
                        .collect(),
                })
                .collect(),
            conv_norm_out: Some(GroupNorm::new(base, self.norm_num_groups, EPS, device)),
            conv_out: Some(Conv2d::new(
                [base, self.out_channels],
                3,
                Stride::Same,
                device,
            )),
            naming: Naming::of_blocks(names.collect()),
            encoder: blocks.encoder,
            taps: blocks.all.into_iter().map(|block| block.tap).collect(),
            config: self.clone(),
        })
    }

    fn layer(&self, layer: &LayerSpec, device: &Device) -> Layer {
        let square = |channels| [channels, channels];
        match layer.kind {
            LayerKind::Conv { channels } => {
                Layer::Conv(Conv2d::new(channels, 3, Stride::Same, device))
            }
            LayerKind::Res { channels } => Layer::Res(ResBlock::new(
                channels,
                Some(self.embedding_channels()),
                self.norm_num_groups,
                EPS,
                device,
            )),
            LayerKind::Transformer { channels, heads } => {
                Layer::Transformer(SpatialTransformer::new(
                    channels,
                    self.cross_attention_dim,
                    heads,
                    self.norm_num_groups,
                    device,
                ))
            }
            LayerKind::Down { channels } => {
                Layer::Down(Conv2d::new(square(channels), 3, Stride::Half, device))
            }
            LayerKind::Up { channels } => {
                Layer::Up(Conv2d::new(square(channels), 3, Stride::Same, device))
            }
        }
    }
}

impl Block {
    fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>, context: &Tensor<3>) -> Tensor<4> {
        self.layers.iter().fold(x, |x, layer| match layer {
            Layer::Conv(conv) | Layer::Down(conv) => conv.forward(x),
            Layer::Res(block) => block.forward(x, Some(embedding)),
            Layer::Transformer(block) => block.forward(x, context),
            Layer::Up(conv) => conv.forward(double(x)),
        })
    }

    /// Packs all convolutions, of maps that come in with the given side; returns the side of what
    /// goes out.
    fn pack(&mut self, side: usize) -> usize {
        self.layers
            .iter_mut()
            .fold(side, |side, layer| match layer {
                Layer::Conv(conv) => {
                    conv.pack(side);
                    side
                }
                Layer::Res(block) => {
                    block.pack(side);
                    side
                }
                Layer::Transformer(_) => side,
                Layer::Down(_) => side / 2,
                Layer::Up(conv) => {
                    conv.pack(2 * side);
                    2 * side
                }
            })
    }
}

impl UNet {
    /// What it was built from.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// The whole network, with the outputs of the `wanted` blocks.
    ///
    /// # Shapes
    ///
    /// - `latents`: `[batch, in_channels, sample_size, sample_size]`
    /// - result: `[batch, out_channels, sample_size, sample_size]`
    ///
    /// # Panics
    ///
    /// When the network was [cut off](Self::up_to), or as [`Encoder::forward_taps`].
    pub fn forward_with_taps(
        &self,
        latents: Tensor<4>,
        condition: &Condition,
        wanted: Option<&TapSet>,
    ) -> (Taps, Tensor<4>) {
        let mut visit = Visit::whole(wanted);
        let map = self.traverse(latents, condition, &mut visit);
        let (Some(norm), Some(conv)) = (&self.conv_norm_out, &self.conv_out) else {
            panic!("a network that was cut off has no output");
        };
        let output = conv.forward(norm.forward(map, Activation::Silu));
        (visit.taps, output)
    }

    /// The network without anything past `last`: neither its weights nor its taps are kept.
    #[must_use]
    pub fn up_to(mut self, last: BlockIndex) -> Self {
        if last.get() < self.taps.len() {
            self.conv_norm_out = None;
            self.conv_out = None;
        }
        self.blocks.truncate(last.get());
        self.taps.truncate(last.get());
        self
    }

    /// The network with the weights of its convolutions laid out once for kernels that only go
    /// forward (see [`diffrep_ops::PackedConv`]): what features are extracted with. It gives no
    /// gradients for its convolutions, which no longer count as parameters; it is the last thing
    /// that is done to a network.
    #[must_use]
    pub fn packed(mut self) -> Self {
        let mut side = self.config.sample_size;
        for block in &mut self.blocks {
            side = block.pack(side);
        }
        self
    }

    /// How many parameters the blocks up to and including `last` hold, with the timestep's MLP.
    pub fn parameters_up_to(&self, last: BlockIndex) -> usize {
        let blocks = self.blocks.iter().take(last.get());
        let blocks: usize = blocks.map(|block| block.num_params()).sum();
        self.time_embedding.num_params() + blocks
    }

    /// The embedding of the timestep after SiLU, `[batch, 4 * channels]`, or one row for all.
    fn embed(&self, condition: &Condition, batch: usize) -> Tensor<2> {
        let t = condition
            .t
            .as_ref()
            .expect("a diffusion U-Net needs a timestep");
        assert!(
            [1, batch].contains(&t.dims()[0]),
            "one timestep for each image, or one for all"
        );
        let embedding = timestep_embedding(t.clone(), self.config.block_out_channels[0]);
        let hidden = silu(self.time_embedding.linear_1.forward(embedding));
        silu(self.time_embedding.linear_2.forward(hidden))
    }

    /// The one loop over blocks: plain, tapped, stopped early or with feedback. Returns the map
    /// after the last block that was evaluated.
    fn traverse(
        &self,
        latents: Tensor<4>,
        condition: &Condition,
        visit: &mut Visit<'_>,
    ) -> Tensor<4> {
        require_image(&latents, self.config.in_channels, self.config.sample_size);
        let [batch, ..] = latents.dims();
        let context = condition
            .context
            .as_ref()
            .expect("a cross-attention U-Net needs a text context");
        let [rows, _, width] = context.dims();
        assert!(
            [1, batch].contains(&rows) && width == self.config.cross_attention_dim,
            "a context of {} numbers a token for each image, or one for all",
            self.config.cross_attention_dim
        );
        let embedding = self.embed(condition, batch);
        let last = visit.blocks(self.taps.len());
        let mut skips = Vec::new();
        let mut map = latents;
        for (block, info) in self.blocks.iter().zip(&self.taps).take(last) {
            let index = info.block.get();
            let _span = Visit::enter(info);
            if index > self.encoder + 1 {
                let skip = skips
                    .pop()
                    .expect("one skip connection for each decoder block");
                map = Tensor::cat(vec![map, skip], 1);
            }
            map = visit.leave(info, block.forward(map, &embedding, context));
            // Decoder block `encoder + 1 + k` reads the output of block `encoder + 1 - k`.
            if index <= self.encoder && index + last >= 2 * (self.encoder + 1) {
                skips.push(map.clone());
            }
        }
        map
    }
}

impl Named for UNet {
    fn naming(&self) -> Naming {
        self.naming.clone()
    }
}

impl Encoder for UNet {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    /// Needs a timestep and a text context.
    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let mut visit = Visit::taps(wanted, feedback);
        self.traverse(image, condition, &mut visit);
        visit.taps
    }
}
