//! Layers that keep PyTorch's parameter names and layouts: `weight` and `bias`, linear weights
//! `[out, in]`, convolutions `[out, in, height, width]`. They begin as shapes alone, which cost no
//! memory, for a state dict to fill.

use burn::module::{Module, Param, ParamId};
use burn::tensor::module::{conv2d, layer_norm};
use burn::tensor::ops::{ConvOptions, PadMode};
use burn::tensor::{Device, Int, Tensor};
use diffrep_ops::{Activation, PackedConv, conv2d_same};

/// A parameter that a state dict is to fill: zeros, made only if they are asked for.
fn zeros<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    let make =
        move |device: &Device, tracked| Tensor::<D>::zeros(shape, device).set_require_grad(tracked);
    Param::uninitialized(ParamId::new(), make, device.clone(), true, shape.into())
}

/// What a convolution does to the size of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stride {
    /// Keeps it: stride 1, padding of half the kernel.
    Same,
    /// Halves it: stride 2, a pixel of padding on every side (the U-Net).
    Half,
    /// Halves it: stride 2, a pixel of padding on the right and at the bottom alone (the VAE).
    HalfAfter,
}

/// A square 2-d convolution.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    stride: Stride,
    /// What computes instead of the parameters once the network is packed.
    #[module(skip)]
    packed: Option<PackedConv>,
}

impl Conv2d {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        stride: Stride,
        device: &Device,
    ) -> Self {
        Self {
            weight: zeros([outputs, inputs, kernel, kernel], device),
            bias: zeros([outputs], device),
            stride,
            packed: None,
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height, width]`, or half of both with stride 2.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some(packed) = &self.packed {
            return packed.forward(x);
        }
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let (x, padding) = match self.stride {
            Stride::Same => return conv2d_same(x, weight, bias),
            Stride::Half => (x, 1),
            Stride::HalfAfter => (x.pad((0, 1, 0, 1), PadMode::Constant(0.0)), 0),
        };
        let options = ConvOptions::new([2, 2], [padding; 2], [1, 1], 1);
        conv2d(x, weight, Some(bias), options)
    }

    /// `addend` plus the convolution.
    pub(crate) fn forward_plus(&self, x: Tensor<4>, addend: Tensor<4>) -> Tensor<4> {
        match &self.packed {
            Some(packed) => packed.forward_plus(x, addend),
            None => addend + self.forward(x),
        }
    }

    /// Hands the weights over to kernels for maps of the given side, which keep them in their own
    /// layout; the parameters are left empty. A convolution with a stride stays as it is: there are
    /// no packed kernels for it.
    pub(crate) fn pack(&mut self, side: usize) {
        if self.packed.is_some() || self.stride != Stride::Same {
            return;
        }
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let device = weight.device();
        self.weight = zeros([0, 0, 0, 0], &device);
        self.bias = zeros([0], &device);
        self.packed = Some(PackedConv::new(weight, bias, [side, side]));
    }
}

/// A fully connected layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`; projections to queries, keys and values have none.
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize, device: &Device) -> Self {
        Self {
            weight: zeros([outputs, inputs], device),
            bias: Some(zeros([outputs], device)),
        }
    }

    pub(crate) fn without_bias(self) -> Self {
        Self { bias: None, ..self }
    }

    /// `[batch, in]` to `[batch, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let product = x.matmul(self.weight.val().transpose());
        match &self.bias {
            Some(bias) => product + bias.val().unsqueeze(),
            None => product,
        }
    }

    /// `[batch, tokens, in]` to `[batch, tokens, out]`.
    pub fn forward_tokens(&self, x: Tensor<3>) -> Tensor<3> {
        let [batch, tokens, width] = x.dims();
        let rows = self.forward(x.reshape([batch * tokens, width]));
        let [_, outputs] = rows.dims();
        rows.reshape([batch, tokens, outputs])
    }
}

/// Group normalisation.
#[derive(Module, Debug)]
pub struct GroupNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    groups: usize,
    #[module(skip)]
    eps: f64,
}

impl GroupNorm {
    pub(crate) fn new(channels: usize, groups: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: zeros([channels], device),
            bias: zeros([channels], device),
            groups,
            eps,
        }
    }

    /// `[batch, channels, height, width]` to the same shape.
    pub fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let scale = self.weight.val().unsqueeze::<2>().expand([batch, channels]);
        let shift = self.bias.val().unsqueeze::<2>().expand([batch, channels]);
        diffrep_ops::group_norm(x, scale, shift, self.groups, self.eps, activation)
    }
}

/// Layer normalisation over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[width]`
    pub weight: Param<Tensor<1>>,
    /// `[width]`
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(width: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: zeros([width], device),
            bias: zeros([width], device),
            eps,
        }
    }

    /// `[batch, tokens, width]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.weight.val(), Some(self.bias.val()), self.eps)
    }
}

/// A table of vectors.
#[derive(Module, Debug)]
pub struct Embedding {
    /// `[entries, width]`
    pub weight: Param<Tensor<2>>,
}

impl Embedding {
    pub(crate) fn new(entries: usize, width: usize, device: &Device) -> Self {
        Self {
            weight: zeros([entries, width], device),
        }
    }

    /// `[tokens]` to `[tokens, width]`.
    pub fn forward(&self, entries: Tensor<1, Int>) -> Tensor<2> {
        self.weight.val().select(0, entries)
    }
}
