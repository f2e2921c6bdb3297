//! The vision transformer of Dosovitskiy et al. 2021 with the names of timm
//! (models/vision_transformer.py), which DINO, MAE and MoCo v3 share; CLIP's is the same with other
//! options and names.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::activation::{gelu_approximate, sigmoid, softmax};
use burn::tensor::{Device, Tensor};
use diffrep_ops::gelu;
use diffrep_taps::{
    BlockIndex, Condition, Encoder, Feedback, TapInfo, TapSet, Taps, Visit, require_image,
};

use crate::config::ConfigError;
use crate::init::{Scheme, randomised};
use crate::layers::{Conv2d, LayerNorm, Linear, zeros};
use crate::vit_config::{Gelu, TapTokens, ViTConfig};

impl ViTConfig {
    /// Builds the network with timm's initialisation, a function of `seed`.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn init(&self, seed: u64, device: &Device) -> Result<ViT, ConfigError> {
        Ok(randomised(self.blank(device)?, Scheme::Transformer, seed))
    }

    /// Builds the network with zeros for weights: what a state dict is loaded into.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<ViT, ConfigError> {
        let taps = self.taps()?;
        let width = self.width;
        let norm = || LayerNorm::new(width, self.eps, device);
        let block = |_| Block {
            norm1: norm(),
            attn: Attention::new(width, self.heads, self.qkv_bias, device),
            norm2: norm(),
            mlp: Mlp::new([width, self.mlp], self.gelu, device),
        };
        Ok(ViT {
            cls_token: self.class_token.then(|| zeros([1, 1, width], device)),
            pos_embed: zeros([1, self.tokens(), width], device),
            patch_embed: PatchEmbed::new(
                [self.in_channels, width],
                self.patch,
                self.patch_bias,
                device,
            ),
            norm_pre: self.pre_norm.then(norm),
            blocks: (0..self.depth).map(block).collect(),
            norm: norm(),
            head: self
                .classes
                .map(|classes| Linear::new(width, classes, true, device)),
            taps,
            config: self.clone(),
        })
    }
}

/// Patches to tokens.
#[derive(Module, Debug)]
pub struct PatchEmbed {
    /// `[width, in_channels, patch, patch]`
    pub proj: Conv2d,
}

impl PatchEmbed {
    pub(crate) fn new(channels: [usize; 2], patch: usize, bias: bool, device: &Device) -> Self {
        let mut proj = Conv2d::new(channels, [patch; 2], patch, device).unpadded();
        proj.bias = bias.then(|| zeros([channels[1]], device));
        Self { proj }
    }

    /// `[batch, in_channels, height, width]` to `[batch, patches, width]`, row by row.
    pub(crate) fn forward(&self, image: Tensor<4>) -> Tensor<3> {
        let [batch, _, rows, columns] = image.dims();
        let weight = self.proj.weight.val();
        let [width, channels, patch, _] = weight.dims();
        let (rows, columns) = (rows / patch, columns / patch);
        // A convolution whose stride is its kernel is a product of matrices.
        let patches = image
            .reshape([batch, channels, rows, patch, columns, patch])
            .permute([0, 2, 4, 1, 3, 5])
            .reshape([batch * rows * columns, channels * patch * patch]);
        let weight = weight.reshape([width, channels * patch * patch]);
        let mut tokens = patches.matmul(weight.transpose());
        if let Some(bias) = &self.proj.bias {
            tokens = tokens + bias.val().unsqueeze();
        }
        tokens.reshape([batch, rows * columns, width])
    }
}

/// Self-attention.
#[derive(Module, Debug)]
pub struct Attention {
    /// Queries, keys and values: `[3 * width, width]`, each split into heads.
    pub qkv: Linear,
    /// What mixes the heads.
    pub proj: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    pub(crate) fn new(width: usize, heads: usize, qkv_bias: bool, device: &Device) -> Self {
        Self {
            qkv: Linear::new(width, 3 * width, qkv_bias, device),
            proj: Linear::new(width, width, true, device),
            heads,
        }
    }

    /// `[batch, tokens, width]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let size = width / self.heads;
        let qkv = self.qkv.forward_tokens(x);
        let part = |i: usize| -> Tensor<4> {
            qkv.clone()
                .narrow(2, i * width, width)
                .reshape([batch, tokens, self.heads, size])
                .swap_dims(1, 2)
        };
        let query = part(0) * (1.0 / (size as f64).sqrt());
        let weights = softmax(query.matmul(part(1).swap_dims(2, 3)), 3);
        let mixed = weights.matmul(part(2)).swap_dims(1, 2);
        self.proj
            .forward_tokens(mixed.reshape([batch, tokens, width]))
    }
}

/// Two linear layers with a non-linearity between.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of timm")]
pub struct Mlp {
    pub fc1: Linear,
    pub fc2: Linear,
    #[module(skip)]
    gelu: Gelu,
}

impl Mlp {
    /// Widths of tokens and of the hidden layer.
    pub(crate) fn new([width, hidden]: [usize; 2], gelu: Gelu, device: &Device) -> Self {
        Self {
            fc1: Linear::new(width, hidden, true, device),
            fc2: Linear::new(hidden, width, true, device),
            gelu,
        }
    }

    /// `[batch, tokens, width]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let hidden = self.fc1.forward_tokens(x);
        let hidden = match self.gelu {
            Gelu::Exact => gelu(hidden),
            Gelu::Tanh => gelu_approximate(hidden),
            Gelu::Quick => hidden.clone() * sigmoid(hidden * 1.702),
        };
        self.fc2.forward_tokens(hidden)
    }
}

/// One layer of the transformer.
#[derive(Module, Debug)]
#[allow(missing_docs, reason = "the names are those of timm")]
pub struct Block {
    pub norm1: LayerNorm,
    pub attn: Attention,
    pub norm2: LayerNorm,
    pub mlp: Mlp,
}

impl Block {
    /// `[batch, tokens, width]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let x = x.clone() + self.attn.forward(self.norm1.forward(x));
        x.clone() + self.mlp.forward(self.norm2.forward(x))
    }
}

/// A vision transformer.
#[derive(Module, Debug)]
pub struct ViT {
    /// `[1, 1, width]`
    pub cls_token: Option<Param<Tensor<3>>>,
    /// `[1, tokens, width]`, the class token first.
    pub pos_embed: Param<Tensor<3>>,
    /// Patches to tokens.
    pub patch_embed: PatchEmbed,
    /// The normalisation before the blocks.
    pub norm_pre: Option<LayerNorm>,
    /// The layers.
    pub blocks: Vec<Block>,
    /// The normalisation after the blocks.
    pub norm: LayerNorm,
    /// The classifier.
    pub head: Option<Linear>,
    #[module(skip)]
    taps: Vec<TapInfo>,
    #[module(skip)]
    config: ViTConfig,
}

impl ViT {
    /// What it was built from.
    pub fn config(&self) -> &ViTConfig {
        &self.config
    }

    /// Logits of the classifier, which reads the normalised class token, or the mean over patches
    /// where there is none.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`
    /// - result: `[batch, classes]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape or the network has no classifier.
    pub fn forward(&self, image: Tensor<4>) -> Tensor<2> {
        let head = self.head.as_ref().expect("a ViT with a classifier");
        let tokens = self.traverse(image, &mut Visit::whole(None), |_, _| {});
        let [batch, _, width] = tokens.dims();
        let read = match self.config.class_token {
            true => tokens.narrow(1, 0, 1),
            false => tokens.mean_dim(1),
        };
        head.forward(read.reshape([batch, width]))
    }

    /// All tokens after the blocks in `wanted`, in one traversal that computes nothing past the last:
    /// the class token, if there is one, and the patches row by row.
    ///
    /// # Shapes
    ///
    /// - `image`: `[batch, in_channels, image_size, image_size]`
    /// - result: per block `[batch, tokens, width]`
    ///
    /// # Panics
    ///
    /// When the image is of another shape.
    pub fn forward_tokens(
        &self,
        image: Tensor<4>,
        wanted: &TapSet,
    ) -> BTreeMap<BlockIndex, Tensor<3>> {
        let mut found = BTreeMap::new();
        let mut visit = Visit::taps(wanted, None);
        self.traverse(image, &mut visit, |block, tokens| {
            if wanted.contains(block) {
                found.insert(block, tokens.clone());
            }
        });
        found
    }

    /// Image to tokens with their positions, `[batch, tokens, width]`.
    fn embed(&self, image: Tensor<4>) -> Tensor<3> {
        let mut tokens = self.patch_embed.forward(image);
        let [batch, _, width] = tokens.dims();
        if let Some(token) = &self.cls_token {
            tokens = Tensor::cat(vec![token.val().expand([batch, 1, width]), tokens], 1);
        }
        tokens + self.pos_embed.val()
    }

    /// The one loop over blocks; returns the tokens after the last that was evaluated.
    fn traverse(
        &self,
        image: Tensor<4>,
        visit: &mut Visit<'_>,
        mut seen: impl FnMut(BlockIndex, &Tensor<3>),
    ) -> Tensor<3> {
        require_image(&image, self.config.in_channels, self.config.image_size);
        let mut tokens = self.embed(image);
        if let Some(norm) = &self.norm_pre {
            tokens = norm.forward(tokens);
        }
        let last = visit.blocks(self.taps.len());
        for (place, info) in self.taps.iter().enumerate().take(last) {
            let _span = Visit::enter(info);
            tokens = match self.blocks.get(place) {
                Some(block) => block.forward(tokens),
                None => self.norm.forward(tokens),
            };
            if let Some(addend) = visit.addend(info) {
                tokens = self.with_added(tokens, addend);
            }
            visit.keep(info, || self.map(tokens.clone()));
            seen(info.block, &tokens);
        }
        tokens
    }

    /// Where in the tokens a tap begins.
    fn first_shown(&self) -> usize {
        match self.config.tap_tokens {
            TapTokens::Class => 0,
            TapTokens::Patches => usize::from(self.config.class_token),
        }
    }

    /// What a tap shows of `[batch, tokens, width]`, as a map.
    fn map(&self, tokens: Tensor<3>) -> Tensor<4> {
        as_map(tokens, self.first_shown(), self.taps[0].height)
    }

    /// Tokens with a map added to those that a tap shows.
    fn with_added(&self, tokens: Tensor<3>, addend: Tensor<4>) -> Tensor<3> {
        added_to_tokens(tokens, addend, self.first_shown())
    }
}

/// Tokens from the first on, row by row, as a square map: `[batch, tokens, width]` to
/// `[batch, width, side, side]`.
pub(crate) fn as_map(tokens: Tensor<3>, first: usize, side: usize) -> Tensor<4> {
    let [batch, _, width] = tokens.dims();
    tokens
        .narrow(1, first, side * side)
        .swap_dims(1, 2)
        .reshape([batch, width, side, side])
}

/// Tokens with a map added to those from the first on.
pub(crate) fn added_to_tokens(tokens: Tensor<3>, addend: Tensor<4>, first: usize) -> Tensor<3> {
    let [batch, width, height, columns] = addend.dims();
    let count = height * columns;
    let added = tokens.clone().narrow(1, first, count)
        + addend.reshape([batch, width, count]).swap_dims(1, 2);
    tokens.slice_assign([0..batch, first..first + count, 0..width], added)
}

impl Encoder for ViT {
    fn taps(&self) -> Vec<TapInfo> {
        self.taps.clone()
    }

    /// The condition is not read: a ViT knows no timestep.
    fn forward_taps(
        &self,
        image: Tensor<4>,
        _condition: &Condition,
        wanted: &TapSet,
        feedback: Option<&Feedback>,
    ) -> Taps {
        let mut visit = Visit::taps(wanted, feedback);
        self.traverse(image, &mut visit, |_, _| {});
        visit.taps
    }
}
