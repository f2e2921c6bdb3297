//! Convolutions whose weights never change.

use burn::tensor::Tensor;

use crate::conv2d_same;

/// A stride-1 "same" convolution of a frozen network.
///
/// Where it pays, the weights are laid out once for the kernels, and 3x3 kernels are computed by
/// Winograd's minimal filtering: 4 times fewer multiplications on large maps, 2.25 times fewer on
/// small ones, where the weights and not the map fill the memory. A value that is not finite spreads
/// over the tiles that read it. Elsewhere, and on every device
/// but flex on x86-64 with AVX2 and FMA, it is [`conv2d_same`].
#[derive(Clone, Debug)]
pub struct PackedConv(Inner);

#[derive(Clone, Debug)]
enum Inner {
    /// Weight and bias.
    Plain(Box<(Tensor<4>, Tensor<1>)>),
    #[cfg(all(feature = "flex", target_arch = "x86_64"))]
    Packed(std::sync::Arc<crate::cpu::packed::Packed>),
}

impl PackedConv {
    /// Prepares a convolution of maps of `height` x `width`; other maps are computed as well, perhaps
    /// slower.
    ///
    /// # Shapes
    ///
    /// - `weight`: `[channels_out, channels_in, kernel, kernel]` with an odd kernel
    /// - `bias`: `[channels_out]`
    pub fn new(weight: Tensor<4>, bias: Tensor<1>, [height, width]: [usize; 2]) -> Self {
        #[cfg(all(feature = "flex", target_arch = "x86_64"))]
        if let Some(packed) = kernels::pack(&weight, &bias, height * width) {
            return Self(Inner::Packed(std::sync::Arc::new(packed)));
        }
        let _ = (height, width);
        Self(Inner::Plain(Box::new((weight, bias))))
    }

    /// Bytes that the weights take in memory as they are laid out, without the bias.
    pub fn bytes(&self) -> usize {
        match &self.0 {
            Inner::Plain(parts) => {
                let weight = &parts.0;
                weight.dims().iter().product::<usize>() * weight.dtype().size()
            }
            #[cfg(all(feature = "flex", target_arch = "x86_64"))]
            Inner::Packed(packed) => packed.bytes(),
        }
    }

    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`, on a device without autodiff
    /// - result: `[batch, channels_out, height, width]`
    ///
    /// # Panics
    ///
    /// If `x` has another number of channels, or lies on a device with autodiff.
    pub fn forward(&self, x: Tensor<4>) -> Tensor<4> {
        refuse_autodiff(&x);
        match &self.0 {
            Inner::Plain(parts) => conv2d_same(x, parts.0.clone(), parts.1.clone()),
            #[cfg(all(feature = "flex", target_arch = "x86_64"))]
            Inner::Packed(weights) => kernels::forward(x, weights),
        }
    }

    /// The convolution of `x` plus `addend`, in one pass over the result.
    ///
    /// # Shapes
    ///
    /// - `x`: `[batch, channels_in, height, width]`, on a device without autodiff
    /// - `addend`, result: `[batch, channels_out, height, width]`
    ///
    /// # Panics
    ///
    /// If `x` has another number of channels or lies on a device with autodiff, or `addend` has
    /// another shape than the result.
    pub fn forward_plus(&self, x: Tensor<4>, addend: Tensor<4>) -> Tensor<4> {
        refuse_autodiff(&x);
        match &self.0 {
            Inner::Plain(_) => addend + self.forward(x),
            #[cfg(all(feature = "flex", target_arch = "x86_64"))]
            Inner::Packed(weights) => kernels::forward_plus(x, addend, weights),
        }
    }
}

/// Whichever way it is computed: weights that are no parameters would silently never learn.
fn refuse_autodiff(x: &Tensor<4>) {
    assert!(
        !x.device().is_autodiff(),
        "a packed convolution has no gradients: move the map to a device without autodiff"
    );
}

#[cfg(all(feature = "flex", target_arch = "x86_64"))]
mod kernels {
    use std::sync::Arc;

    use burn::backend::Dispatch;
    use burn::tensor::{DType, Tensor};

    use crate::cpu::packed::{Form, Packed};
    use crate::extension::packed::PackedOps;
    use crate::operators::is_flex;

    /// Fewer channels than this on either side leave a transform too little to win.
    const CHANNELS: usize = 128;
    /// Maps of fewer pixels are computed by F(2x2): there the weights fill the memory, and those of
    /// F(4x4) are 2.25 times larger.
    const PIXELS: usize = 32 * 32;

    pub(super) fn pack(weight: &Tensor<4>, bias: &Tensor<1>, pixels: usize) -> Option<Packed> {
        let [channels_out, channels_in, height, width] = weight.dims();
        let form = match (height, width) {
            (1, 1) => Form::Pointwise,
            (3, 3) if pixels < PIXELS => Form::Two,
            (3, 3) => Form::Four,
            _ => return None,
        };
        let pays = channels_in.min(channels_out) >= CHANNELS;
        let fits = bias.dims() == [channels_out] && weight.dtype() == DType::F32;
        if !pays || !fits || !is_flex(&weight.device()) {
            return None;
        }
        let weight = weight.to_data();
        let bias = bias.to_data();
        let (weight, bias) = (weight.as_slice::<f32>(), bias.as_slice::<f32>());
        let (weight, bias) = weight.ok().zip(bias.ok())?;
        Packed::new(form, channels_in, weight, bias)
    }

    fn check(x: &Tensor<4>, weights: &Packed) {
        assert_eq!(
            x.dims()[1],
            weights.channels_in(),
            "the map has another number of channels than the convolution reads"
        );
        assert_eq!(x.dtype(), DType::F32, "packed weights are f32");
    }

    pub(super) fn forward(x: Tensor<4>, weights: &Arc<Packed>) -> Tensor<4> {
        check(&x, weights);
        Tensor::from_dispatch(Dispatch::packed_conv2d(
            x.into_dispatch(),
            Arc::clone(weights),
        ))
    }

    pub(super) fn forward_plus(
        x: Tensor<4>,
        addend: Tensor<4>,
        weights: &Arc<Packed>,
    ) -> Tensor<4> {
        check(&x, weights);
        let [batch, _, height, width] = x.dims();
        assert_eq!(
            addend.dims(),
            [batch, weights.channels_out(), height, width],
            "the addend has another shape than the result"
        );
        Tensor::from_dispatch(Dispatch::packed_conv2d_plus(
            x.into_dispatch(),
            addend.into_dispatch(),
            Arc::clone(weights),
        ))
    }
}
