#[cfg(feature = "flex")]
use burn::tensor::DType;
use burn::tensor::{
    Tensor,
    activation::silu,
    module::{avg_pool2d, conv2d},
    ops::{AvgPoolOptions, ConvOptions},
};

/// What follows a normalisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// x * sigmoid(x).
    Silu,
}

/// Stride-1 convolution that keeps height and width (padding of half the kernel).
///
/// # Shapes
///
/// - `x`: `[batch, channels_in, height, width]`
/// - `weight`: `[channels_out, channels_in, kernel, kernel]` with an odd kernel
/// - `bias`: `[channels_out]`
/// - result: `[batch, channels_out, height, width]`
///
/// All of one type. On flex, halves are computed in f32 and rounded once.
pub fn conv2d_same(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
    #[cfg(feature = "flex")]
    if is_half(x.dtype()) && is_flex(&x.device()) {
        let dtype = x.dtype();
        let (x, weight) = (x.cast(DType::F32), weight.cast(DType::F32));
        return conv2d_same(x, weight, bias.cast(DType::F32)).cast(dtype);
    }
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if vectorised::takes_conv(&x, &weight, &bias) {
        return vectorised::conv2d_same(x, weight, bias);
    }
    let [_, _, kernel_height, kernel_width] = weight.dims();
    let padding = [kernel_height / 2, kernel_width / 2];
    conv2d(
        x,
        weight,
        Some(bias),
        ConvOptions::new([1, 1], padding, [1, 1], 1),
    )
}

/// Group normalisation with a scale and shift per image and channel, then an activation:
/// act(scale * (x - mean) / sqrt(variance + eps) + shift), mean and variance over each group of
/// channels and all pixels. Statistics are taken in f32.
///
/// # Shapes
///
/// - `x`, result: `[batch, channels, height, width]`
/// - `scale`, `shift`: `[batch, channels]`
pub fn group_norm(
    x: Tensor<4>,
    scale: Tensor<2>,
    shift: Tensor<2>,
    groups: usize,
    eps: f64,
    activation: Activation,
) -> Tensor<4> {
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if x.dims()[1].is_multiple_of(groups) && vectorised::on_flex(&x) {
        return vectorised::group_norm(x, scale, shift, groups, eps, activation);
    }
    let [batch, channels, height, width] = x.dims();
    let grouped = x.reshape([batch, groups, channels / groups * height * width]);
    let centred = grouped.clone() - grouped.mean_dim(2);
    let variance = centred.clone().square().mean_dim(2);
    let normal = (centred / (variance + eps).sqrt()).reshape([batch, channels, height, width]);
    let z =
        normal * scale.reshape([batch, channels, 1, 1]) + shift.reshape([batch, channels, 1, 1]);
    match activation {
        Activation::Identity => z,
        Activation::Silu => silu(z),
    }
}

/// x times the normal distribution up to x (GELU by the error function), elementwise, within 2e-7 of
/// the larger of 1 and |x|.
pub fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if vectorised::on_flex(&x) {
        return vectorised::gelu(x);
    }
    burn::tensor::activation::gelu(x)
}

/// Half the height and width: the mean of each 2x2 square. An odd last row or column is left out.
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`; result: `[batch, channels, height / 2, width / 2]`
pub fn halve(x: Tensor<4>) -> Tensor<4> {
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if vectorised::takes_halving(&x) {
        return vectorised::halve(x);
    }
    avg_pool2d(x, AvgPoolOptions::new([2, 2]).with_stride([2, 2]))
}

/// Twice the height and width, each value in a 2x2 square (nearest neighbour).
///
/// # Shapes
///
/// - `x`: `[batch, channels, height, width]`; result: `[batch, channels, 2 * height, 2 * width]`
pub fn double(x: Tensor<4>) -> Tensor<4> {
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    if vectorised::on_flex(&x) {
        return vectorised::double(x);
    }
    let [batch, channels, height, width] = x.dims();
    x.reshape([batch, channels, height, 1, width, 1])
        .expand([batch, channels, height, 2, width, 2])
        .reshape([batch, channels, 2 * height, 2 * width])
}

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
mod vectorised {
    use burn::backend::Dispatch;
    use burn::tensor::{DType, Tensor};

    use super::Activation;
    use crate::cpu::conv::Shape;
    use crate::extension::conv::ConvOps;
    use crate::extension::gelu::GeluOps;
    use crate::extension::norm::{NormOps, NormOptions};
    use crate::extension::resample::ResampleOps;

    pub(super) fn on_flex<const D: usize>(tensor: &Tensor<D>) -> bool {
        tensor.dtype() == DType::F32 && crate::operators::is_flex(&tensor.device())
    }

    pub(super) fn takes_conv(x: &Tensor<4>, weight: &Tensor<4>, bias: &Tensor<1>) -> bool {
        let [batch, channels_in, height, width] = x.dims();
        let [channels_out, read, kernel, kernel_width] = weight.dims();
        // What does not fit together is left to burn, which says so.
        let fits = read == channels_in && bias.dims() == [channels_out];
        let shape = Shape {
            batch,
            channels_in,
            channels_out,
            height,
            width,
            kernel,
        };
        fits && kernel == kernel_width && shape.supported() && on_flex(x) && on_flex(weight)
    }

    pub(super) fn conv2d_same(x: Tensor<4>, weight: Tensor<4>, bias: Tensor<1>) -> Tensor<4> {
        let (x, weight, bias) = (
            x.into_dispatch(),
            weight.into_dispatch(),
            bias.into_dispatch(),
        );
        Tensor::from_dispatch(Dispatch::same_conv2d(x, weight, bias))
    }

    pub(super) fn takes_halving(x: &Tensor<4>) -> bool {
        let [_, _, height, width] = x.dims();
        height % 2 == 0 && width % 2 == 0 && on_flex(x)
    }

    pub(super) fn gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
        Tensor::from_dispatch(Dispatch::exact_gelu(x.into_dispatch()))
    }

    pub(super) fn halve(x: Tensor<4>) -> Tensor<4> {
        Tensor::from_dispatch(Dispatch::halve(x.into_dispatch(), 0.25))
    }

    pub(super) fn double(x: Tensor<4>) -> Tensor<4> {
        Tensor::from_dispatch(Dispatch::double(x.into_dispatch(), 1.0))
    }

    pub(super) fn group_norm(
        x: Tensor<4>,
        scale: Tensor<2>,
        shift: Tensor<2>,
        groups: usize,
        eps: f64,
        activation: Activation,
    ) -> Tensor<4> {
        let silu = activation == Activation::Silu;
        let options = NormOptions {
            groups,
            eps: eps as f32,
            silu,
        };
        let (x, scale, shift) = (
            x.into_dispatch(),
            scale.into_dispatch(),
            shift.into_dispatch(),
        );
        Tensor::from_dispatch(Dispatch::scaled_group_norm(x, scale, shift, options))
    }
}

#[cfg(feature = "flex")]
fn is_half(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::BF16)
}

/// Whether tensors on a device lie in this process's memory, so that reading one is cheap.
#[cfg_attr(
    not(feature = "flex"),
    allow(unused_variables, reason = "no such backend is compiled in")
)]
pub fn is_on_host(device: &burn::tensor::Device) -> bool {
    #[cfg(feature = "flex")]
    return is_flex(device);
    #[cfg(not(feature = "flex"))]
    false
}

#[cfg(feature = "flex")]
pub(crate) fn is_flex(device: &burn::tensor::Device) -> bool {
    use burn::backend::DispatchDevice;
    matches!(
        device.clone().without_autodiff().as_dispatch(),
        DispatchDevice::Flex(_)
    )
}
