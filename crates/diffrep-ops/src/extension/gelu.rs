//! GELU; kernel in `cpu/gelu.rs`.

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

use super::{SECOND_ORDER, tensor, values};
use crate::cpu::gelu;

#[backend_extension(Flex, Autodiff)]
pub trait GeluOps: Backend {
    /// x times the normal distribution up to x, of any shape.
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self>;

    /// The gradient by x.
    fn exact_gelu_backward(x: FloatTensor<Self>, dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

impl GeluOps for Flex {
    fn exact_gelu(x: FlexTensor) -> FlexTensor {
        let shape = x.layout().shape().clone();
        values!(x);
        tensor(gelu::gelu(x), shape)
    }

    fn exact_gelu_backward(x: FlexTensor, dy: FlexTensor) -> FlexTensor {
        let shape = x.layout().shape().clone();
        values!(x);
        values!(dy);
        tensor(gelu::gelu_backward(x, dy), shape)
    }
}

#[derive(Debug)]
struct ExactGelu;

impl<B: GeluOps> Backward<B, 1> for ExactGelu {
    type State = FloatTensor<B>;

    fn backward(self, ops: Ops<FloatTensor<B>, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let dy = grads.consume::<B>(&ops.node);
        if let [Some(node)] = ops.parents {
            grads.register::<B>(node.id, B::exact_gelu_backward(ops.state, dy));
        }
    }
}

impl<B: GeluOps, C: CheckpointStrategy> GeluOps for Autodiff<B, C> {
    fn exact_gelu(x: FloatTensor<Self>) -> FloatTensor<Self> {
        let y = B::exact_gelu(x.primitive().clone());
        match ExactGelu
            .prepare::<C>([x.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(prep) => prep.finish(x.primitive().clone(), y),
            OpsKind::UnTracked(prep) => prep.finish(y),
        }
    }

    fn exact_gelu_backward(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("{SECOND_ORDER}")
    }
}
