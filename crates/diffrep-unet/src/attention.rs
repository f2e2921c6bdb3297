use burn::module::{Module, Param};
use burn::tensor::{DType, Distribution, Tensor, activation::softmax};
use diffrep_ops::Activation;

use crate::config::{AttentionOrder, Details};
use crate::layers::{Conv1d, GroupNorm, Init, zeroed};

/// `AttentionBlock` of the reference: self-attention over pixels with a skip connection.
#[derive(Module, Debug)]
pub struct AttentionBlock {
    /// `norm`
    pub norm: GroupNorm,
    /// `qkv`, `[3 * channels, channels, 1]`
    pub qkv: Conv1d,
    /// `proj_out`
    pub proj_out: Conv1d,
    #[module(skip)]
    heads: usize,
    #[module(skip)]
    order: AttentionOrder,
}

impl AttentionBlock {
    pub(crate) fn new(
        channels: usize,
        heads: usize,
        order: AttentionOrder,
        details: Details,
        init: Init<'_>,
    ) -> Self {
        Self {
            norm: GroupNorm::new(channels, details, init),
            qkv: Conv1d::new(channels, 3 * channels, init),
            proj_out: zeroed(Conv1d::new(channels, channels, init)),
            heads,
            order,
        }
    }

    /// `[batch, channels, height, width]` to the same shape.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, channels, height, width] = x.dims();
        let normal = self.norm.forward(x.clone(), Activation::Identity);
        let qkv = self
            .qkv
            .forward_map(normal)
            .reshape([batch, 3 * channels, height * width]);
        // A small part of the work, in which halves would lose most.
        let dtype = qkv.dtype();
        let mixed = attend(qkv.cast(DType::F32), self.heads, self.order).cast(dtype);
        self.proj_out
            .forward_map_plus(mixed.reshape([batch, channels, height, width]), x)
    }

    pub(crate) fn pack(&mut self, side: usize) {
        self.qkv.pack(side);
        self.proj_out.pack(side);
    }
}

/// Softmax attention from a fused projection `[batch, 3 * channels, tokens]` to
/// `[batch, channels, tokens]`. Queries and keys are each scaled by the fourth root, as the
/// reference does for the sake of half precision.
fn attend(qkv: Tensor<3>, heads: usize, order: AttentionOrder) -> Tensor<3> {
    let [batch, triple, tokens] = qkv.dims();
    let size = triple / 3 / heads;
    let part = |i: usize| -> Tensor<3> {
        match order {
            AttentionOrder::Legacy => qkv
                .clone()
                .reshape([batch * heads, 3 * size, tokens])
                .narrow(1, i * size, size),
            AttentionOrder::New => qkv
                .clone()
                .narrow(1, i * heads * size, heads * size)
                .reshape([batch * heads, size, tokens]),
        }
    };
    let scale = 1.0 / (size as f64).sqrt().sqrt();
    let (query, key, value) = (part(0) * scale, part(1) * scale, part(2));
    let weights = softmax(query.transpose().matmul(key), 2);
    value
        .matmul(weights.transpose())
        .reshape([batch, heads * size, tokens])
}

/// `AttentionPool2d` of the reference: the mean joins the pixels as token 0 and its output is read.
#[derive(Module, Debug)]
pub struct AttentionPool {
    /// `[channels, pixels + 1]`
    pub positional_embedding: Param<Tensor<2>>,
    /// `qkv_proj`
    pub qkv_proj: Conv1d,
    /// `c_proj`
    pub c_proj: Conv1d,
    #[module(skip)]
    heads: usize,
}

impl AttentionPool {
    pub(crate) fn new(
        pixels: usize,
        channels: usize,
        head_channels: usize,
        outputs: usize,
        init: Init<'_>,
    ) -> Self {
        let spread = 1.0 / (channels as f64).sqrt();
        let shape = [channels, pixels + 1];
        Self {
            positional_embedding: init.values(shape, Distribution::Normal(0.0, spread)),
            qkv_proj: Conv1d::new(channels, 3 * channels, init),
            c_proj: Conv1d::new(channels, outputs, init),
            heads: channels / head_channels,
        }
    }

    /// `[batch, channels, height, width]` to `[batch, outputs]`.
    pub(crate) fn forward(&self, x: Tensor<4>) -> Tensor<2> {
        let [batch, channels, height, width] = x.dims();
        let pixels = x.reshape([batch, channels, height * width]);
        let tokens = Tensor::cat(vec![pixels.clone().mean_dim(2), pixels], 2);
        let tokens = tokens + self.positional_embedding.val().unsqueeze();
        let mixed = attend(
            self.qkv_proj.forward(tokens),
            self.heads,
            AttentionOrder::New,
        );
        let projected = self.c_proj.forward(mixed);
        let [batch, outputs, _] = projected.dims();
        projected.narrow(2, 0, 1).reshape([batch, outputs])
    }
}
