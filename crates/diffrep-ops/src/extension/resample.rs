//! Maps to half and to twice their size; kernels in `cpu/resample.rs`.

use burn::backend::{
    Backend,
    autodiff::{
        Autodiff,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    flex::{Flex, FlexTensor},
    tensor::FloatTensor,
};

use super::{dims, tensor, values};
use crate::cpu::resample;

#[backend_extension(Flex, Autodiff)]
pub trait ResampleOps: Backend {
    /// `weight` times the sum of each 2x2 square; height and width are even.
    fn halve(x: FloatTensor<Self>, weight: f32) -> FloatTensor<Self>;

    /// `weight` times each value, in a 2x2 square.
    fn double(x: FloatTensor<Self>, weight: f32) -> FloatTensor<Self>;
}

impl ResampleOps for Flex {
    fn halve(x: FlexTensor, weight: f32) -> FlexTensor {
        let [batch, channels, height, width] = dims(&x);
        values!(x);
        let y = resample::halve([height, width], weight, x);
        tensor(y, [batch, channels, height / 2, width / 2])
    }

    fn double(x: FlexTensor, weight: f32) -> FlexTensor {
        let [batch, channels, height, width] = dims(&x);
        values!(x);
        let y = resample::double([height, width], weight, x);
        tensor(y, [batch, channels, 2 * height, 2 * width])
    }
}

#[derive(Debug)]
struct Halve;

impl<B: ResampleOps> Backward<B, 1> for Halve {
    type State = f32;

    fn backward(self, ops: Ops<f32, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::double(dy, ops.state));
        }
    }
}

#[derive(Debug)]
struct Double;

impl<B: ResampleOps> Backward<B, 1> for Double {
    type State = f32;

    fn backward(self, ops: Ops<f32, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::halve(dy, ops.state));
        }
    }
}

impl<B: ResampleOps, C: CheckpointStrategy> ResampleOps for Autodiff<B, C> {
    fn halve(x: FloatTensor<Self>, weight: f32) -> FloatTensor<Self> {
        let y = B::halve(x.primitive().clone(), weight);
        match Halve.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(weight, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn double(x: FloatTensor<Self>, weight: f32) -> FloatTensor<Self> {
        let y = B::double(x.primitive().clone(), weight);
        match Double.prepare::<C>([x.node()]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(weight, y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }
}
