//! The network and its one traversal. Reference: guided_diffusion/unet.py, `UNetModel` and
//! `EncoderUNetModel`; classifier heads for latent features: section 3.3 of the paper.

use burn::module::{Module, Param};
use burn::tensor::{DType, Device, Distribution, Int, Tensor};
use diffrep_taps::{BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps, resize};

use crate::attention::AttentionBlock;
use crate::config::{BlockSpec, ConfigError, LayerSpec, Resample, UNetConfig};
use crate::head::Head;
use crate::layers::{Conv2d, Init, Linear};
use crate::precision::Precision;
use crate::res_block::{ResBlock, ResampleLayer, activate, changed};

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
    /// Self-attention.
    Attention(AttentionBlock),
    /// A change of resolution.
    Resample(ResampleLayer),
}

/// `TimestepEmbedSequential` of the reference: one of the paper's blocks.
#[derive(Module, Debug)]
pub struct Block {
    /// Applied in turn.
    pub layers: Vec<Layer>,
}

/// The timestep's MLP.
#[derive(Module, Debug)]
pub struct TimeEmbed {
    /// `time_embed.0`
    pub first: Linear,
    /// `time_embed.2`
    pub second: Linear,
}

/// An ADM U-Net or encoder classifier.
#[derive(Module, Debug)]
pub struct UNet {
    /// `time_embed`
    pub time_embed: TimeEmbed,
    /// `label_emb.weight`, `[classes, 4 * model_channels]`
    pub label_emb: Option<Param<Tensor<2>>>,
    /// Blocks of the encoder.
    pub input_blocks: Vec<Block>,
    /// The block in the middle.
    pub middle_block: Block,
    /// Blocks of the decoder.
    pub output_blocks: Vec<Block>,
    /// `out`; a network that was cut off has none.
    pub out: Option<Head>,
    #[module(skip)]
    pub(crate) precision: Precision,
    #[module(skip)]
    packed: bool,
    #[module(skip)]
    config: UNetConfig,
    #[module(skip)]
    taps: Vec<TapInfo>,
}

/// What a traversal is to bring back.
struct Visit<'a> {
    /// Blocks to keep; `None` keeps none.
    wanted: Option<&'a TapSet>,
    /// Whether to go on to the head.
    to_the_end: bool,
    feedback: Option<&'a Feedback>,
}

/// What a traversal brought back.
struct Visited {
    taps: Taps,
    output: Option<Tensor<4>>,
}

impl UNetConfig {
    /// Builds the network with the reference's initialisation (last layers zero).
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, device: &Device) -> Result<UNet, ConfigError> {
        self.build(Init::Random(device))
    }

    /// Builds the network with zeros for values, which cost neither time nor, until they are
    /// replaced, memory: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<UNet, ConfigError> {
        self.build(Init::Zeros(device))
    }

    fn build(&self, init: Init<'_>) -> Result<UNet, ConfigError> {
        let blocks = self.blocks()?;
        let embedding = self.embedding_channels();
        let build = |spec: &BlockSpec| Block {
            layers: spec
                .layers
                .iter()
                .map(|layer| self.layer(layer, init))
                .collect(),
        };
        let means = blocks.iter().map(|block| block.tap.channels).sum();
        let side = blocks.middle.tap.height;
        Ok(UNet {
            time_embed: TimeEmbed {
                first: Linear::new(self.model_channels, embedding, init),
                second: Linear::new(embedding, embedding, init),
            },
            label_emb: self.num_classes.map(|classes| {
                let shape = [classes, embedding];
                init.values(shape, Distribution::Normal(0.0, 1.0))
            }),
            input_blocks: blocks.input.iter().map(build).collect(),
            middle_block: build(&blocks.middle),
            output_blocks: blocks.output.iter().map(build).collect(),
            out: Some(Head::new(self, blocks.head_channels, means, side, init)),
            precision: Precision::F32,
            packed: false,
            taps: blocks.iter().map(|block| block.tap.clone()).collect(),
            config: self.clone(),
        })
    }

    fn layer(&self, layer: &LayerSpec, init: Init<'_>) -> Layer {
        match *layer {
            LayerSpec::Conv { channels } => Layer::Conv(Conv2d::new(channels, 3, init)),
            LayerSpec::Res { channels, resample } => Layer::Res(ResBlock::new(
                channels,
                self.embedding_channels(),
                self.use_scale_shift_norm,
                resample,
                self.details,
                init,
            )),
            LayerSpec::Attention { channels } => {
                let heads = self.heads.count(channels);
                Layer::Attention(AttentionBlock::new(
                    channels,
                    heads,
                    self.attention_order,
                    self.details,
                    init,
                ))
            }
            LayerSpec::Resample {
                channels,
                direction,
            } => {
                let convolve = self.resample == Resample::Convolution;
                Layer::Resample(ResampleLayer::new(
                    channels,
                    direction,
                    convolve,
                    self.details,
                    init,
                ))
            }
        }
    }
}

impl Block {
    pub(crate) fn forward(&self, x: Tensor<4>, embedding: &Tensor<2>) -> Tensor<4> {
        self.layers.iter().fold(x, |x, layer| match layer {
            Layer::Conv(conv) => conv.forward(x),
            Layer::Res(block) => block.forward(x, embedding.clone()),
            Layer::Attention(block) => block.forward(x),
            Layer::Resample(layer) => layer.forward(x),
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
                    changed(side, block.resample)
                }
                Layer::Attention(block) => {
                    block.pack(side);
                    side
                }
                Layer::Resample(layer) => {
                    layer.pack(side);
                    changed(side, Some(layer.direction))
                }
            })
    }
}

impl UNet {
    /// What it was built from.
    pub fn config(&self) -> &UNetConfig {
        &self.config
    }

    /// What its blocks compute with.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// The whole network.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`
    /// - result: `[batch, out_channels, image_size, image_size]`; logits `[batch, out_channels, 1, 1]`
    ///   for an encoder classifier
    ///
    /// # Panics
    ///
    /// When the network was [cut off](Self::up_to).
    pub fn forward(&self, image: Tensor<4>, condition: &Condition) -> Tensor<4> {
        let visit = Visit {
            wanted: None,
            to_the_end: true,
            feedback: None,
        };
        self.traverse(image, condition, &visit)
            .output
            .expect("a traversal to the end has an output")
    }

    /// The whole network with the outputs of the `wanted` blocks.
    ///
    /// # Panics
    ///
    /// When the network was [cut off](Self::up_to).
    pub fn forward_with_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
    ) -> (Taps, Tensor<4>) {
        let visit = Visit {
            wanted: Some(wanted),
            to_the_end: true,
            feedback: None,
        };
        let visited = self.traverse(image, condition, &visit);
        (
            visited.taps,
            visited
                .output
                .expect("a traversal to the end has an output"),
        )
    }

    /// The network without anything past `last`: neither its weights nor its taps are kept.
    #[must_use]
    pub fn up_to(mut self, last: BlockIndex) -> Self {
        let last = last.get();
        let encoder = self.input_blocks.len();
        self.input_blocks.truncate(last);
        if last <= encoder {
            self.middle_block.layers.clear();
        }
        self.output_blocks
            .truncate(last.saturating_sub(encoder + 1));
        if last < self.taps.len() {
            self.out = None;
        }
        self.taps.truncate(last);
        self
    }

    /// The network with the weights of its blocks' convolutions laid out once for kernels that only
    /// go forward (see [`diffrep_ops::PackedConv`]): what features are extracted with. Outputs agree
    /// with those before to rounding. It gives no gradients, its convolutions no longer count as
    /// parameters, and it is not to be moved, written or loaded into: it is the last thing that is
    /// done to a network.
    ///
    /// Layers are converted one after another, so that weights are not held twice.
    #[must_use]
    pub fn packed(mut self) -> Self {
        let mut side = self.config.image_size;
        let blocks = self.input_blocks.iter_mut();
        let blocks = blocks
            .chain(std::iter::once(&mut self.middle_block))
            .chain(&mut self.output_blocks);
        for block in blocks {
            side = block.pack(side);
        }
        self.packed = true;
        self
    }

    /// Whether the weights are [packed](Self::packed).
    pub fn is_packed(&self) -> bool {
        self.packed
    }

    /// How many parameters the blocks up to and including `last` hold, with the timestep's MLP and
    /// the class embedding.
    pub fn parameters_up_to(&self, last: BlockIndex) -> usize {
        let blocks = self
            .blocks()
            .take(last.get())
            .map(|block| block.num_params());
        let label = self
            .label_emb
            .as_ref()
            .map_or(0, |table| table.dims().iter().product());
        self.time_embed.num_params() + label + blocks.sum::<usize>()
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.input_blocks
            .iter()
            .chain(std::iter::once(&self.middle_block))
            .chain(&self.output_blocks)
    }

    /// The embedding of timestep and class after SiLU, `[batch, 4 * model_channels]`, or one row
    /// where all images share both.
    pub(crate) fn embed(&self, condition: &Condition, batch: usize) -> Tensor<2> {
        let t = condition
            .t
            .as_ref()
            .expect("a diffusion U-Net needs a timestep");
        assert!(
            [1, batch].contains(&t.dims()[0]),
            "one timestep for each image, or one for all"
        );
        let embedding = self.config.sinusoids().of(t.clone());
        let embedding = self
            .time_embed
            .second
            .forward(activate(self.time_embed.first.forward(embedding)));
        let embedding = match &self.label_emb {
            None => embedding,
            Some(table) => {
                let label: Tensor<1, Int> = condition
                    .label
                    .clone()
                    .expect("a class-conditional network needs a label");
                assert!(
                    [1, batch].contains(&label.dims()[0]),
                    "one label for each image, or one for all"
                );
                embedding + table.val().select(0, label)
            }
        };
        activate(embedding)
    }

    /// The one loop over blocks: plain, tapped, stopped early or with feedback.
    fn traverse(&self, image: Tensor<4>, condition: &Condition, visit: &Visit<'_>) -> Visited {
        let [batch, channels, height, width] = image.dims();
        let UNetConfig {
            in_channels,
            image_size,
            ..
        } = self.config;
        assert_eq!(
            [channels, height, width],
            [in_channels, image_size, image_size],
            "this network takes images of {in_channels} x {image_size} x {image_size}"
        );
        let last = match (visit.to_the_end, visit.wanted) {
            (false, Some(wanted)) => wanted.last().get(),
            _ => self.taps.len(),
        };
        let embedding = self.embed(condition, batch);
        let encoder = self.input_blocks.len();
        let mut taps = Taps::new();
        let mut means = Vec::new();
        let mut skips = Vec::new();
        let mut map = image.cast(self.precision.dtype());
        for (block, info) in self.blocks().zip(&self.taps).take(last) {
            let index = info.block;
            let _span = tracing::trace_span!("unet.block", block = index.get()).entered();
            BLOCKS_EVALUATED.with(|count| count.set(count.get() + 1));
            if index.get() > encoder + 1 {
                let skip = skips
                    .pop()
                    .expect("one skip connection for each decoder block");
                map = Tensor::cat(vec![map, skip], 1);
            }
            map = block.forward(map, &embedding);
            if let Some(addend) = visit
                .feedback
                .and_then(|feedback| feedback.addends.get(&index))
            {
                let addend = resize(addend.clone(), [info.height, info.width]);
                map = map + addend.cast(self.precision.dtype());
            }
            // Decoder block `encoder + 1 + k` reads the output of block `encoder + 1 - k`.
            if index.get() <= encoder && index.get() + last >= 2 * (encoder + 1) {
                skips.push(map.clone());
            }
            if visit.to_the_end && self.out.as_ref().is_some_and(Head::reads_means) {
                means.push(
                    map.clone()
                        .cast(DType::F32)
                        .mean_dim(3)
                        .mean_dim(2)
                        .reshape([batch, info.channels]),
                );
            }
            if visit.wanted.is_some_and(|wanted| wanted.contains(index)) {
                taps.insert(index, map.clone());
            }
        }
        let output = visit.to_the_end.then(|| {
            let means = (!means.is_empty()).then(|| Tensor::cat(means, 1));
            let head = self.out.as_ref().expect("a network that was not cut off");
            head.forward(map.cast(DType::F32), means)
        });
        Visited { taps, output }
    }
}

impl Encoder for UNet {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    fn forward_taps(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let visit = Visit {
            wanted: Some(wanted),
            to_the_end: false,
            feedback,
        };
        self.traverse(image, condition, &visit).taps
    }
}

thread_local! {
    /// Blocks evaluated by traversals on this thread, so that early exit can be held to its word.
    static BLOCKS_EVALUATED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many blocks all traversals on this thread have evaluated so far.
pub fn blocks_evaluated() -> usize {
    BLOCKS_EVALUATED.with(std::cell::Cell::get)
}
