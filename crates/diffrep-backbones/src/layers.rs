//! Layers that keep PyTorch's parameter names and layouts, so that a checkpoint needs no
//! transposition: linear weights are `[out, in]`, convolutions `[out, in, height, width]`.

use burn::module::{Module, Param, RunningState};
use burn::tensor::module::{avg_pool2d, batch_norm_train, conv2d, layer_norm, max_pool2d};
use burn::tensor::ops::{AvgPoolOptions, ConvOptions, MaxPoolOptions};
use burn::tensor::{Device, Tensor};
use diffrep_ops::{PackedConv, conv2d_same};

/// A parameter of zeros, to be replaced by an initialisation or a state dict.
pub(crate) fn zeros<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    Param::from_tensor(Tensor::zeros(shape, device))
}

/// A 2-d convolution.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel height, kernel width]`
    pub weight: Param<Tensor<4>>,
    /// `[out]`; none where a normalisation follows.
    pub bias: Option<Param<Tensor<1>>>,
    #[module(skip)]
    stride: usize,
    #[module(skip)]
    padding: [usize; 2],
    /// What computes instead of the parameters once the network is packed.
    #[module(skip)]
    packed: Option<PackedConv>,
}

impl Conv2d {
    /// `kernel` is height, then width; padding is half the kernel, rounded down.
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        kernel: [usize; 2],
        stride: usize,
        device: &Device,
    ) -> Self {
        Self {
            weight: zeros([outputs, inputs, kernel[0], kernel[1]], device),
            bias: None,
            stride,
            padding: kernel.map(|side| side / 2),
            packed: None,
        }
    }

    /// The same without padding.
    pub(crate) fn unpadded(self) -> Self {
        Self {
            padding: [0, 0],
            ..self
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height', width']`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if let Some(packed) = &self.packed {
            return packed.forward(x);
        }
        let weight = self.weight.val();
        let bias = self.bias.as_ref().map(Param::val);
        if self.keeps_size() {
            let bias = bias.unwrap_or_else(|| Tensor::zeros([weight.dims()[0]], &x.device()));
            return conv2d_same(x, weight, bias);
        }
        let stride = [self.stride; 2];
        let options = ConvOptions::new(stride, self.padding, [1, 1], 1);
        conv2d(x, weight, bias, options)
    }

    /// Height and width of the output.
    pub(crate) fn size(&self, input: [usize; 2]) -> [usize; 2] {
        let [_, _, height, width] = self.weight.dims();
        let along = |axis: usize, kernel: usize| {
            (input[axis] + 2 * self.padding[axis] - kernel) / self.stride + 1
        };
        [along(0, height), along(1, width)]
    }

    /// Whether this is a "same" convolution of stride 1 with a square kernel.
    fn keeps_size(&self) -> bool {
        let [_, _, height, width] = self.weight.dims();
        let half = [height / 2, width / 2];
        self.stride == 1 && height == width && height % 2 == 1 && self.padding == half
    }

    /// Takes the normalisation that follows into weight and bias, and hands a convolution that
    /// keeps the size of maps over to kernels for maps of `input`, which leaves its parameters
    /// empty. Returns the size of the output.
    pub(crate) fn pack(&mut self, norm: &mut BatchNorm, input: [usize; 2]) -> [usize; 2] {
        let size = self.size(input);
        let (scale, shift) = norm.scale_and_shift();
        let outputs = scale.dims()[0];
        let weight = self.weight.val() * scale.reshape([outputs, 1, 1, 1]);
        let device = weight.device();
        if self.keeps_size() {
            self.packed = Some(PackedConv::new(weight, shift, input));
            self.weight = zeros([0, 0, 0, 0], &device);
        } else {
            self.weight = Param::from_tensor(weight);
            self.bias = Some(Param::from_tensor(shift));
        }
        norm.folded = true;
        size
    }
}

/// Share of the batch in the running statistics, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Batch normalisation. Off an autodiff device it uses the running statistics; on one it uses those
/// of the batch and updates the running ones as PyTorch does: the device is the switch between
/// evaluation and training.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
    /// `[channels]`
    pub running_mean: RunningState<Tensor<1>>,
    /// `[channels]`, the unbiased estimate.
    pub running_var: RunningState<Tensor<1>>,
    #[module(skip)]
    eps: f64,
    /// Whether the convolution before it has taken it over.
    #[module(skip)]
    folded: bool,
}

impl BatchNorm {
    pub(crate) fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: zeros([channels], device),
            bias: zeros([channels], device),
            running_mean: RunningState::new(Tensor::zeros([channels], device)),
            running_var: RunningState::new(Tensor::ones([channels], device)),
            eps,
            folded: false,
        }
    }

    /// `[batch, channels, height, width]` to the same shape.
    ///
    /// # Panics
    ///
    /// When a channel has a single value to take statistics of, on an autodiff device.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        if self.folded {
            return x;
        }
        if x.device().is_autodiff() {
            return self.forward_training(x);
        }
        let channels = x.dims()[1];
        let (scale, shift) = self.scale_and_shift();
        x * scale.reshape([1, channels, 1, 1]) + shift.reshape([1, channels, 1, 1])
    }

    fn forward_training(&self, x: Tensor<4>) -> Tensor<4> {
        let [batch, _, height, width] = x.dims();
        let count = batch * height * width;
        assert!(
            count > 1,
            "batch normalisation in training needs more than one value per channel"
        );
        let normal = batch_norm_train(x, self.weight.val(), self.bias.val(), self.eps);
        // PyTorch normalises by the biased variance and keeps the unbiased one.
        let variance = normal.variance * (count as f64 / (count - 1) as f64);
        follow(&self.running_mean, normal.mean);
        follow(&self.running_var, variance);
        normal.output
    }

    /// What evaluation multiplies by and adds, each `[channels]`.
    fn scale_and_shift(&self) -> (Tensor<1>, Tensor<1>) {
        let deviation = (self.running_var.value() + self.eps).sqrt();
        let scale = self.weight.val() / deviation;
        let shift = self.bias.val() - self.running_mean.value() * scale.clone();
        (scale, shift)
    }
}

/// Moves a running statistic towards that of a batch.
fn follow(state: &RunningState<Tensor<1>>, batch: Tensor<1>) {
    let old = state.value_sync();
    let new = old * (1.0 - MOMENTUM) + batch.detach() * MOMENTUM;
    state.update(new.detach());
    // burn keeps an update apart until the next one asks for it; whoever reads a state dict after
    // a step wants this one.
    state.value_sync();
}

/// A fully connected layer.
#[derive(Module, Debug)]
pub struct Linear {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Linear {
    pub(crate) fn new(inputs: usize, outputs: usize, bias: bool, device: &Device) -> Self {
        Self {
            weight: zeros([outputs, inputs], device),
            bias: bias.then(|| zeros([outputs], device)),
        }
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
        let [batch, tokens, inputs] = x.dims();
        let outputs = self.weight.dims()[0];
        self.forward(x.reshape([batch * tokens, inputs]))
            .reshape([batch, tokens, outputs])
    }
}

/// Normalisation of each token over its channels.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
    #[module(skip)]
    eps: f64,
}

impl LayerNorm {
    pub(crate) fn new(channels: usize, eps: f64, device: &Device) -> Self {
        Self {
            weight: zeros([channels], device),
            bias: zeros([channels], device),
            eps,
        }
    }

    /// `[batch, tokens, channels]` to the same shape.
    pub fn forward(&self, x: Tensor<3>) -> Tensor<3> {
        layer_norm(x, self.weight.val(), Some(self.bias.val()), self.eps)
    }
}

/// The largest value of each 3x3 square.
pub(crate) fn max_pool(x: Tensor<4>, stride: usize, padding: usize) -> Tensor<4> {
    let options = MaxPoolOptions::new([3, 3])
        .with_stride([stride; 2])
        .with_padding([padding; 2]);
    max_pool2d(x, options)
}

/// The mean of each 3x3 square at stride 1, over those of its pixels that lie in the map.
pub(crate) fn mean_pool(x: Tensor<4>) -> Tensor<4> {
    let options = AvgPoolOptions::new([3, 3])
        .with_stride([1, 1])
        .with_padding([1, 1])
        .with_count_include_pad(false);
    avg_pool2d(x, options)
}

/// The mean over all pixels: `[batch, channels, height, width]` to `[batch, channels]`.
pub(crate) fn global_mean(x: Tensor<4>) -> Tensor<2> {
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height * width])
        .mean_dim(2)
        .reshape([batch, channels])
}
