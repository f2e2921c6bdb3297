//! The kernels as operators of burn's flex backend, with their gradients.
//! Only tensors on a flex device reach these operators.

use burn::backend::flex::{FlexTensor, Layout};
use burn::tensor::{Bytes, DType, Shape};

pub(crate) mod conv;
pub(crate) mod gelu;
pub(crate) mod norm;
pub(crate) mod packed;
pub(crate) mod resample;

fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> FlexTensor {
    FlexTensor::new(
        Bytes::from_elems(values),
        Layout::contiguous(shape.into()),
        DType::F32,
    )
}

fn dims(tensor: &FlexTensor) -> [usize; 4] {
    tensor.layout().shape().dims()
}

/// The values of a tensor made contiguous.
macro_rules! values {
    ($tensor:ident) => {
        let $tensor = $tensor.to_contiguous();
        let $tensor: &[f32] = $tensor.as_slice().expect("a contiguous tensor");
    };
}
use values;

const SECOND_ORDER: &str = "gradients of gradients are not computed by these kernels";
