use burn::module::Module;
use burn::tensor::{
    Tensor,
    activation::{relu, silu},
};
use diffrep_ops::Activation;

use crate::attention::AttentionPool;
use crate::config::{ClassifierPool, Heads, Kind, UNetConfig};
use crate::layers::{Conv2d, GroupNorm, Init, Linear, zeroed};

/// The `out` module of the reference.
#[derive(Module, Debug)]
pub enum Head {
    /// Norm, SiLU, convolution: the U-Net's output.
    Map(MapHead),
    /// As `Map` with a mean over pixels before a 1x1 convolution.
    Adaptive(MapHead),
    /// Norm, SiLU, attention pooling.
    Attention(AttentionHead),
    /// Two linear layers over the means of all blocks.
    Spatial(SpatialHead),
}

/// A normalisation and a convolution.
#[derive(Module, Debug)]
pub struct MapHead {
    /// `out.0`
    pub norm: GroupNorm,
    /// `out.2`, or `out.3` in the adaptive classifier
    pub conv: Conv2d,
}

/// A normalisation and attention pooling.
#[derive(Module, Debug)]
pub struct AttentionHead {
    /// `out.0`
    pub norm: GroupNorm,
    /// `out.2`
    pub pool: AttentionPool,
}

/// A hidden layer of 2048 over the means of every block.
#[derive(Module, Debug)]
pub struct SpatialHead {
    /// `out.0`
    pub hidden: Linear,
    /// `out.1`, in the second version
    pub norm: Option<GroupNorm>,
    /// `out.2`, or `out.3` in the second version
    pub logits: Linear,
}

/// Width of the hidden layer of the spatial heads.
pub(crate) const HIDDEN: usize = 2048;

impl Head {
    pub(crate) fn new(
        config: &UNetConfig,
        channels: usize,
        means: usize,
        side: usize,
        init: Init<'_>,
    ) -> Self {
        let outputs = config.out_channels;
        match config.kind {
            Kind::UNet => Self::Map(MapHead {
                norm: GroupNorm::new(channels, config.details, init),
                conv: zeroed(Conv2d::new([channels, outputs], 3, init)),
            }),
            Kind::Encoder(ClassifierPool::Adaptive) => Self::Adaptive(MapHead {
                norm: GroupNorm::new(channels, config.details, init),
                conv: zeroed(Conv2d::new([channels, outputs], 1, init)),
            }),
            Kind::Encoder(ClassifierPool::Attention) => {
                let size = match config.heads {
                    Heads::Channels(size) => size,
                    Heads::Count(count) => channels / count,
                };
                Self::Attention(AttentionHead {
                    norm: GroupNorm::new(channels, config.details, init),
                    pool: AttentionPool::new(side * side, channels, size, outputs, init),
                })
            }
            Kind::Encoder(pool @ (ClassifierPool::Spatial | ClassifierPool::SpatialV2)) => {
                let second = pool == ClassifierPool::SpatialV2;
                Self::Spatial(SpatialHead {
                    hidden: Linear::new(means, HIDDEN, init),
                    norm: second.then(|| GroupNorm::new(HIDDEN, config.details, init)),
                    logits: Linear::new(HIDDEN, outputs, init),
                })
            }
        }
    }

    /// Whether the head reads the means of all blocks instead of the last map.
    pub(crate) fn reads_means(&self) -> bool {
        matches!(self, Self::Spatial(_))
    }

    /// `last`: `[batch, channels, height, width]`; `means`: `[batch, sum of channels]` where
    /// [`reads_means`](Self::reads_means). A map `[batch, out, height, width]` or logits
    /// `[batch, out, 1, 1]`.
    pub(crate) fn forward(&self, last: Tensor<4>, means: Option<Tensor<2>>) -> Tensor<4> {
        match self {
            Self::Map(head) => head.conv.forward(head.norm.forward(last, Activation::Silu)),
            Self::Adaptive(head) => {
                let map = head.norm.forward(last, Activation::Silu);
                head.conv.forward(map.mean_dim(3).mean_dim(2))
            }
            Self::Attention(head) => head
                .pool
                .forward(head.norm.forward(last, Activation::Silu))
                .unsqueeze_dims(&[2, 3]),
            Self::Spatial(head) => {
                let hidden = head.hidden.forward(means.expect("means of all blocks"));
                let hidden = match &head.norm {
                    None => relu(hidden),
                    Some(norm) => normalise_rows(norm, hidden),
                };
                head.logits.forward(hidden).unsqueeze_dims(&[2, 3])
            }
        }
    }
}

/// Group normalisation of `[batch, channels]` vectors, then SiLU.
fn normalise_rows(norm: &GroupNorm, x: Tensor<2>) -> Tensor<2> {
    let [batch, channels] = x.dims();
    let grouped = x.reshape([batch, norm.groups, channels / norm.groups]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    let normal = (centred / (variance + norm.eps).sqrt()).reshape([batch, channels]);
    silu(normal * norm.weight.val().unsqueeze() + norm.bias.val().unsqueeze())
}
