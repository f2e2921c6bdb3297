//! Layers with PyTorch's parameter names, layouts and default initial weights.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor, TensorData, module::conv2d, ops::ConvOptions};
use diffrep_rng::Generator;

/// PyTorch's default: uniform within 1 / sqrt(`fan_in`).
pub(crate) fn uniform<const D: usize>(
    shape: [usize; D],
    fan_in: usize,
    draw: &mut Generator,
    device: &Device,
) -> Param<Tensor<D>> {
    let bound = 1.0 / (fan_in as f64).sqrt();
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count)
        .map(|_| ((2.0 * draw.uniform() - 1.0) * bound) as f32)
        .collect();
    Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), device))
}

/// A fully connected layer (`nn.Linear`).
#[derive(Module, Debug)]
pub struct Dense {
    /// `[out, in]`
    pub weight: Param<Tensor<2>>,
    /// `[out]`
    pub bias: Option<Param<Tensor<1>>>,
}

impl Dense {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        bias: bool,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        Self {
            weight: uniform([outputs, inputs], inputs, draw, device),
            bias: bias.then(|| uniform([outputs], inputs, draw, device)),
        }
    }

    /// `[.., in]` to `[.., out]`: one product over all rows, whose gradient is one product too, where
    /// a batch of products would have the weight's gradient summed over the batch.
    pub fn forward<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let mut shape = x.dims();
        let [outputs, inputs] = self.weight.dims();
        let rows = shape[..D - 1].iter().product();
        let y = x
            .reshape([rows, inputs])
            .matmul(self.weight.val().transpose());
        let y = match &self.bias {
            None => y,
            Some(bias) => y + bias.val().unsqueeze(),
        };
        shape[D - 1] = outputs;
        y.reshape(shape)
    }
}

/// A convolution without padding, stride 1.
#[derive(Module, Debug)]
pub struct Conv2d {
    /// `[out, in, kernel, kernel]`
    pub weight: Param<Tensor<4>>,
    /// `[out]`
    pub bias: Param<Tensor<1>>,
}

impl Conv2d {
    pub(crate) fn new(
        [inputs, outputs]: [usize; 2],
        kernel: usize,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        let fan_in = inputs * kernel * kernel;
        Self {
            weight: uniform([outputs, inputs, kernel, kernel], fan_in, draw, device),
            bias: uniform([outputs], fan_in, draw, device),
        }
    }

    /// `[batch, in, height, width]` to `[batch, out, height - kernel + 1, width - kernel + 1]`.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        let options = ConvOptions::new([1, 1], [0, 0], [1, 1], 1);
        conv2d(x, self.weight.val(), Some(self.bias.val()), options)
    }

    /// A 1x1 convolution of every pixel, as tokens: `[batch, in, height, width]` to
    /// `[batch, height * width, out]`.
    pub(crate) fn tokens(&self, x: Tensor<4>) -> Tensor<3> {
        let [batch, inputs, height, width] = x.dims();
        let [outputs, ..] = self.weight.dims();
        let pixels = x.reshape([batch, inputs, height * width]).swap_dims(1, 2);
        let weight = self.weight.val().reshape([outputs, inputs]);
        let pixels = pixels.reshape([batch * height * width, inputs]);
        let tokens = pixels.matmul(weight.transpose()) + self.bias.val().unsqueeze();
        tokens.reshape([batch, height * width, outputs])
    }
}

/// Normalisation over all but the leading axes of its input, with a weight and bias for each value.
#[derive(Module, Debug)]
pub struct LayerNorm<const D: usize> {
    /// The normalised shape.
    pub weight: Param<Tensor<D>>,
    /// The normalised shape.
    pub bias: Param<Tensor<D>>,
}

impl<const D: usize> LayerNorm<D> {
    pub(crate) fn new(shape: [usize; D], device: &Device) -> Self {
        Self {
            weight: Param::from_tensor(Tensor::ones(shape, device)),
            bias: Param::from_tensor(Tensor::zeros(shape, device)),
        }
    }

    /// `x` of rank E > D whose last D axes are the normalised shape.
    pub(crate) fn forward<const E: usize>(&self, x: Tensor<E>) -> Tensor<E> {
        const EPS: f64 = 1e-5;
        let shape = x.dims();
        let values: usize = self.weight.dims().iter().product();
        let rows: usize = shape.iter().product::<usize>() / values;
        let rows = x.reshape([rows, values]);
        let centred = rows.clone() - rows.mean_dim(1);
        let variance = centred.clone().square().mean_dim(1);
        let normal = centred / (variance + EPS).sqrt();
        let weight = self.weight.val().reshape([1, values]);
        let bias = self.bias.val().reshape([1, values]);
        (normal * weight + bias).reshape(shape)
    }
}
