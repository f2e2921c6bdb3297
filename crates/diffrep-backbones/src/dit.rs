//! The diffusion transformer of Peebles & Xie 2023 ("Scalable Diffusion Models with Transformers",
//! arXiv 2212.09748) with the names of facebookresearch/DiT (models.py).

use burn::module::{Module, Param};
use burn::tensor::activation::silu;
use burn::tensor::module::layer_norm;
use burn::tensor::{Device, Int, Tensor};
use diffrep_taps::{
    Condition, Encoder, Feedback, Sinusoids, TapInfo, TapSet, Taps, Visit, require_image,
};

use crate::config::ConfigError;
use crate::dit_config::{DiTConfig, FREQUENCIES};
use crate::init::{Scheme, randomised};
use crate::layers::{Linear, zeros};
use crate::vit::{Attention, Mlp, PatchEmbed, added_to_tokens, as_map};
use crate::vit_config::Gelu;

impl DiTConfig {
    /// Builds the network with random weights, a function of `seed`. Layers that a training would start
    /// at zero are random too: with those at zero every block would pass its input on unchanged.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<DiT, ConfigError> {
        Ok(randomised(self.blank(device)?, Scheme::Transformer, seed))
    }

    /// Builds the network with zeros for weights: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<DiT, ConfigError> {
        let taps = self.taps()?;
        let width = self.width;
        let linear = |inputs, outputs| Linear::new(inputs, outputs, true, device);
        let block = |_| DiTBlock {
            attn: Attention::new(width, self.heads, true, device),
            mlp: Mlp::new([width, self.mlp], Gelu::Tanh, device),
            ada_ln_modulation: linear(width, 6 * width),
        };
        let patch = self.patch * self.patch;
        Ok(DiT {
            x_embedder: PatchEmbed::new([self.in_channels, width], self.patch, true, device),
            t_embedder: TimestepEmbedder {
                mlp: TimestepMlp {
                    first: linear(FREQUENCIES, width),
                    second: linear(width, width),
                },
            },
            y_embedder: LabelEmbedder {
                embedding_table: Table {
                    weight: zeros([self.classes + usize::from(self.null_class), width], device),
                },
            },
            pos_embed: zeros([1, self.grid() * self.grid(), width], device),
            blocks: (0..self.depth).map(block).collect(),
            final_layer: FinalLayer {
                linear: linear(width, patch * self.out_channels()),
                ada_ln_modulation: linear(width, 2 * width),
            },
            taps,
            config: self.clone(),
        })
    }
}

/// The timestep's MLP.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct TimestepEmbedder {
    pub mlp: TimestepMlp,
}

/// Two linear layers with SiLU between.
#[derive(Module, Debug)]
pub struct TimestepMlp {
    /// `0`
    pub first: Linear,
    /// `2`
    pub second: Linear,
}

/// The classes' embeddings.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of the reference")]
pub struct LabelEmbedder {
    pub embedding_table: Table,
}

/// Rows by number.
#[derive(Module, Debug)]
pub struct Table {
    /// `[classes, width]`, the null class last.
    pub weight: Param<Tensor<2>>,
}

/// One layer of the transformer. Its normalisations have no parameters of their own.
#[derive(Module, Debug)]
pub struct DiTBlock {
    /// Self-attention.
    pub attn: Attention,
    /// The MLP.
    pub mlp: Mlp,
    /// `adaLN_modulation.1`: shift, scale and gate of the attention, then of the MLP.
    pub ada_ln_modulation: Linear,
}

/// What turns tokens into the network's output.
#[derive(Module, Debug)]
pub struct FinalLayer {
    /// Tokens to patches.
    pub linear: Linear,
    /// `adaLN_modulation.1`: shift and scale.
    pub ada_ln_modulation: Linear,
}

/// A diffusion transformer.
#[derive(Module, Debug)]
pub struct DiT {
    /// Patches to tokens.
    pub x_embedder: PatchEmbed,
    /// The timestep.
    pub t_embedder: TimestepEmbedder,
    /// The class.
    pub y_embedder: LabelEmbedder,
    /// `[1, tokens, width]`: fixed sines and cosines, which files hold.
    pub pos_embed: Param<Tensor<3>>,
    /// The layers.
    pub blocks: Vec<DiTBlock>,
    /// The output.
    pub final_layer: FinalLayer,
    #[module(skip)]
    taps: Vec<TapInfo>,
    #[module(skip)]
    config: DiTConfig,
}

/// Normalises each token over its channels, without parameters, multiplies by 1 + `scale` and adds
/// `shift`, which are `[batch or 1, 1, width]`.
fn modulated(x: Tensor<3>, shift: Tensor<3>, scale: Tensor<3>) -> Tensor<3> {
    let width = x.dims()[2];
    let ones = Tensor::ones([width], &x.device());
    layer_norm(x, ones, None, 1e-6) * (scale + 1.0) + shift
}

/// The parts of a modulation, `[batch or 1, 1, width]` each.
fn parts<const N: usize>(layer: &Linear, condition: &Tensor<2>) -> [Tensor<3>; N] {
    let all: Tensor<3> = layer.forward(condition.clone()).unsqueeze_dim(1);
    let parts = all.chunk(N, 2).try_into();
    parts.expect("a modulation has as many parts as its layer is wide")
}

impl DiTBlock {
    /// `x`: `[batch, tokens, width]`; `condition`: `[batch or 1, width]`, already through SiLU.
    fn forward(&self, x: Tensor<3>, condition: &Tensor<2>) -> Tensor<3> {
        let [shift, scale, gate, mlp_shift, mlp_scale, mlp_gate] =
            parts::<6>(&self.ada_ln_modulation, condition);
        let x = x.clone() + gate * self.attn.forward(modulated(x, shift, scale));
        x.clone() + mlp_gate * self.mlp.forward(modulated(x, mlp_shift, mlp_scale))
    }
}

impl DiT {
    /// What it was built from.
    pub fn config(&self) -> &DiTConfig {
        &self.config
    }

    /// The whole network.
    ///
    /// # Shapes
    ///
    /// - `latent`: `[batch, in_channels, image_size, image_size]`
    /// - result: `[batch, out_channels, image_size, image_size]`
    ///
    /// # Panics
    ///
    /// As [`forward_taps`](Encoder::forward_taps).
    pub fn forward(&self, latent: Tensor<4>, condition: &Condition) -> Tensor<4> {
        self.forward_with_taps(latent, condition, None).1
    }

    /// The whole network with the outputs of the `wanted` blocks.
    ///
    /// # Panics
    ///
    /// As [`forward_taps`](Encoder::forward_taps).
    pub fn forward_with_taps(
        &self,
        latent: Tensor<4>,
        condition: &Condition,
        wanted: Option<&TapSet>,
    ) -> (Taps, Tensor<4>) {
        let batch = latent.dims()[0];
        let embedded = self.embed(condition, batch);
        let mut visit = Visit::whole(wanted);
        let tokens = self.traverse(latent, &embedded, &mut visit);
        let layer = &self.final_layer;
        let [shift, scale] = parts::<2>(&layer.ada_ln_modulation, &embedded);
        let patches = layer.linear.forward_tokens(modulated(tokens, shift, scale));
        let (grid, patch) = (self.config.grid(), self.config.patch);
        let (channels, side) = (self.config.out_channels(), self.config.image_size);
        let map = patches
            .reshape([batch, grid, grid, patch, patch, channels])
            .permute([0, 5, 1, 3, 2, 4])
            .reshape([batch, channels, side, side]);
        (visit.taps, map)
    }

    /// Timestep and class after SiLU, `[batch, width]`, or one row where all latents share both.
    fn embed(&self, condition: &Condition, batch: usize) -> Tensor<2> {
        let t = condition.t.clone();
        let t = t.expect("a diffusion transformer needs a timestep");
        let device = t.device();
        let table = self.y_embedder.embedding_table.weight.val();
        let label: Tensor<1, Int> = match &condition.label {
            Some(label) => label.clone(),
            None => {
                assert!(
                    self.config.null_class,
                    "a diffusion transformer without a null class needs a label"
                );
                Tensor::full([1], self.config.classes as i64, &device)
            }
        };
        for rows in [t.dims()[0], label.dims()[0]] {
            assert!(
                [1, batch].contains(&rows),
                "one timestep and one label for each latent, or one for all"
            );
        }
        let mlp = &self.t_embedder.mlp;
        let waves = Sinusoids::cosines_first(FREQUENCIES).of(t);
        let time = mlp.second.forward(silu(mlp.first.forward(waves)));
        silu(time + table.select(0, label))
    }

    /// The one loop over blocks; returns the tokens after the last that was evaluated.
    fn traverse(
        &self,
        latent: Tensor<4>,
        condition: &Tensor<2>,
        visit: &mut Visit<'_>,
    ) -> Tensor<3> {
        require_image(&latent, self.config.in_channels, self.config.image_size);
        let grid = self.config.grid();
        let mut tokens = self.x_embedder.forward(latent) + self.pos_embed.val();
        let last = visit.blocks(self.taps.len());
        for (block, info) in self.blocks.iter().zip(&self.taps).take(last) {
            let _span = Visit::enter(info);
            tokens = block.forward(tokens, condition);
            if let Some(addend) = visit.addend(info) {
                tokens = added_to_tokens(tokens, addend, 0);
            }
            visit.keep(info, || as_map(tokens.clone(), 0, grid));
        }
        tokens
    }
}

impl Encoder for DiT {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    /// Without a label, latents are of the null class.
    fn forward_taps(
        &self,
        latent: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let embedded = self.embed(condition, latent.dims()[0]);
        let mut visit = Visit::taps(wanted, feedback);
        self.traverse(latent, &embedded, &mut visit);
        visit.taps
    }
}
