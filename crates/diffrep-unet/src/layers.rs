//! Layers that keep PyTorch's parameter names and layouts, so that a checkpoint needs no
//! transposition: `weight` and `bias`, linear weights `[out, in]`.

use burn::module::{Module, Param};
use burn::tensor::ops::PadMode;
use burn::tensor::{DType, Device, Distribution, Tensor, module::conv2d, ops::ConvOptions};
use diffrep_ops::{Activation, PackedConv, conv2d_same};

use crate::config::Details;

/// What parameters begin with.
#[derive(Clone, Copy)]
pub(crate) enum Init<'a> {
    /// The reference's random numbers.
    Random(&'a Device),
    /// Zeros that a state dict will replace.
    Zeros(&'a Device),
}

impl Init<'_> {
    pub(crate) fn values<const D: usize>(
        self,
        shape: [usize; D],
        distribution: Distribution,
    ) -> Param<Tensor<D>> {
        Param::from_tensor(match self {
            Self::Random(device) => Tensor::random(shape, distribution, device),
            // One zero, seen as many times as there are values: `Tensor::zeros` writes and copies them all, which
            // for the paper's network took a quarter of the time of loading.
            Self::Zeros(device) => Tensor::<D>::zeros([1; D], device).expand(shape),
        })
    }

    fn device(&self) -> &Device {
        match self {
            Self::Random(device) | Self::Zeros(device) => device,
        }
    }
}

/// PyTorch's default initialisation: uniform within 1/sqrt(fan_in).
fn uniform<const D: usize>(shape: [usize; D], fan_in: usize, init: Init<'_>) -> Param<Tensor<D>> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    init.values(shape, Distribution::Uniform(-bound, bound))
}

/// A fully connected layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize, init: Init<'_>) -> Self {
        Self {
            weight: uniform([outputs, inputs], inputs, init),
            bias: uniform([outputs], inputs, init),
        }
    }

    /// `[batch, in]` to `[batch, out]`.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        x.matmul(self.weight.val().transpose()) + self.bias.val().unsqueeze()
    }
}

/// A square 2-d convolution with "same" padding.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
    /// What computes instead of the parameters once the network is packed.
    #[module(skip)]
    packed: Option<PackedConv>,
}

impl Conv2d {
    pub(crate) fn new([inputs, outputs]: [usize; 2], kernel: usize, init: Init<'_>) -> Self {
        let fan_in = inputs * kernel * kernel;
        Self {
            weight: uniform([outputs, inputs, kernel, kernel], fan_in, init),
            bias: uniform([outputs], fan_in, init),
            packed: None,
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height, width]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.packed {
            Some(packed) => packed.forward(x),
            None => conv2d_same(x, self.weight.val(), self.bias.val()),
        }
    }

    /// `addend` plus the convolution.
    pub(crate) fn forward_plus(&self, x: Tensor<4>, addend: Tensor<4>) -> Tensor<4> {
        match &self.packed {
            Some(packed) => packed.forward_plus(x, addend),
            None => addend + self.forward(x),
        }
    }

    /// Hands the weights over to kernels for maps of the given side, which keep them in their own
    /// layout; the parameters are left empty.
    pub(crate) fn pack(&mut self, side: usize) {
        if self.packed.is_some() {
            return;
        }
        let (weight, bias) = (self.weight.val(), self.bias.val());
        let device = weight.device();
        self.weight = Param::from_tensor(Tensor::zeros([0, 0, 0, 0], &device));
        self.bias = Param::from_tensor(Tensor::zeros([0], &device));
        self.packed = Some(PackedConv::new(weight, bias, [side, side]));
    }

    /// The same with stride 2: `[batch, out, height / 2, width / 2]`. Padding is on all sides, or with
    /// `pads_after` below and to the right.
    pub(crate) fn forward_strided(&self, x: Tensor<4>, pads_after: bool) -> Tensor<4> {
        let (x, padding) = match pads_after {
            false => (x, 1),
            true => (x.pad((0, 1, 0, 1), PadMode::Constant(0.0)), 0),
        };
        let options = ConvOptions::new([2, 2], [padding; 2], [1, 1], 1);
        conv2d(x, self.weight.val(), Some(self.bias.val()), options)
    }
}

/// A 1x1 convolution over tokens; its weight is rank 3 in the reference (`Conv1d`).
#[derive(Module, Debug)]
pub struct Conv1d {
    /// `[out, in, 1]`
    pub weight: Param<Tensor<3>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
    /// What computes instead of the parameters once the network is packed.
    #[module(skip)]
    packed: Option<PackedConv>,
}

impl Conv1d {
    pub(crate) fn new(inputs: usize, outputs: usize, init: Init<'_>) -> Self {
        Self {
            weight: uniform([outputs, inputs, 1], inputs, init),
            bias: uniform([outputs], inputs, init),
            packed: None,
        }
    }

    /// `[batch, in, tokens]` to `[batch, out, tokens]`.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        let [outputs, inputs, _] = self.weight.dims();
        let weight = self.weight.val().reshape([1, outputs, inputs]);
        weight.matmul(x) + self.bias.val().reshape([1, outputs, 1])
    }

    /// `[batch, in, height, width]` to `[batch, out, height, width]`.
    pub(crate) fn forward_map(&self, x: Tensor<4>) -> Tensor<4> {
        match &self.packed {
            Some(packed) => packed.forward(x),
            None => conv2d_same(x, self.kernel(), self.bias.val()),
        }
    }

    /// `addend` plus the convolution of a map.
    pub(crate) fn forward_map_plus(&self, x: Tensor<4>, addend: Tensor<4>) -> Tensor<4> {
        match &self.packed {
            Some(packed) => packed.forward_plus(x, addend),
            None => addend + self.forward_map(x),
        }
    }

    /// As for [`Conv2d::pack`]; after it, only maps are taken.
    pub(crate) fn pack(&mut self, side: usize) {
        if self.packed.is_some() {
            return;
        }
        let (weight, bias) = (self.kernel(), self.bias.val());
        let device = weight.device();
        self.weight = Param::from_tensor(Tensor::zeros([0, 0, 0], &device));
        self.bias = Param::from_tensor(Tensor::zeros([0], &device));
        self.packed = Some(PackedConv::new(weight, bias, [side, side]));
    }

    /// The weight as a 1x1 kernel, `[out, in, 1, 1]`.
    fn kernel(&self) -> Tensor<4> {
        let [outputs, inputs, _] = self.weight.dims();
        self.weight.val().reshape([outputs, inputs, 1, 1])
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
    pub(crate) groups: usize,
    #[module(skip)]
    pub(crate) eps: f64,
}

impl GroupNorm {
    pub(crate) fn new(channels: usize, details: Details, init: Init<'_>) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones([channels], init.device())),
            bias: Param::from_tensor(Tensor::zeros([channels], init.device())),
            groups: details.norm_groups,
            eps: details.norm_eps,
        }
    }

    /// `[batch, channels, height, width]` to the same shape.
    pub fn forward(&self, x: Tensor<4>, activation: Activation) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let scale = self.weight.val().unsqueeze::<2>().expand([batch, channels]);
        let shift = self.bias.val().unsqueeze::<2>().expand([batch, channels]);
        self.normalise(x, scale, shift, activation)
    }

    /// Normalises, multiplies by 1 + `scale`, adds `shift` (both `[batch, channels]` or
    /// `[1, channels]`), activates.
    pub(crate) fn forward_modulated(
        &self,
        x: Tensor<4>,
        scale: Tensor<2>,
        shift: Tensor<2>,
        activation: Activation,
    ) -> Tensor<4> {
        let [batch, channels, ..] = x.dims();
        let gain = scale + 1.0;
        let shift = self.bias.val().unsqueeze() * gain.clone() + shift;
        let scale = self.weight.val().unsqueeze() * gain;
        let (scale, shift) = (
            scale.expand([batch, channels]),
            shift.expand([batch, channels]),
        );
        self.normalise(x, scale, shift, activation)
    }

    /// In f32 whatever the type of the map, as `GroupNorm32` of the reference.
    fn normalise(
        &self,
        x: Tensor<4>,
        scale: Tensor<2>,
        shift: Tensor<2>,
        activation: Activation,
    ) -> Tensor<4> {
        let dtype = x.dtype();
        let x = x.cast(DType::F32);
        diffrep_ops::group_norm(x, scale, shift, self.groups, self.eps, activation).cast(dtype)
    }
}

/// Sets every parameter of a layer to zero, as the reference does for the last layer of each
/// residual and attention block and of the output head.
pub(crate) fn zeroed<M: Module>(layer: M) -> M {
    struct Zero;
    impl burn::module::ModuleMapper for Zero {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|tensor| tensor.zeros_like())
        }
    }
    layer.map(&mut Zero)
}
