//! "Same" convolution with weights laid out once; kernels in `cpu/packed.rs`.

use std::sync::Arc;

use burn::backend::{
    Backend, backend_extension,
    flex::{Flex, FlexTensor},
    tensor::FloatTensor,
};

use super::{dims, tensor, values};
use crate::cpu::packed::{Maps, Packed};

#[backend_extension(Flex)]
pub trait PackedOps: Backend {
    fn packed_conv2d(x: FloatTensor<Self>, weights: Arc<Packed>) -> FloatTensor<Self>;

    fn packed_conv2d_plus(
        x: FloatTensor<Self>,
        addend: FloatTensor<Self>,
        weights: Arc<Packed>,
    ) -> FloatTensor<Self>;
}

fn maps(dims: [usize; 4]) -> Maps {
    let [batch, _, height, width] = dims;
    Maps {
        batch,
        height,
        width,
    }
}

impl PackedOps for Flex {
    fn packed_conv2d(x: FlexTensor, weights: Arc<Packed>) -> FlexTensor {
        let maps = maps(dims(&x));
        values!(x);
        let y = weights.forward(maps, x, None);
        tensor(
            y,
            [maps.batch, weights.channels_out(), maps.height, maps.width],
        )
    }

    fn packed_conv2d_plus(x: FlexTensor, addend: FlexTensor, weights: Arc<Packed>) -> FlexTensor {
        let maps = maps(dims(&x));
        values!(x);
        values!(addend);
        let y = weights.forward(maps, x, Some(addend));
        tensor(
            y,
            [maps.batch, weights.channels_out(), maps.height, maps.width],
        )
    }
}
