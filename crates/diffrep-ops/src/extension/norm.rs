//! Group normalisation with scale, shift and activation; kernels in `cpu/norm.rs`.

use burn::backend::{
    Backend,
    autodiff::{
        Autodiff, NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    flex::{Flex, FlexTensor},
    tensor::FloatTensor,
};

use super::{SECOND_ORDER, dims, tensor, values};
use crate::cpu::norm;

/// The group count, epsilon and activation of a normalisation.
#[derive(Clone, Copy, Debug)]
pub struct NormOptions {
    /// Groups that share mean and variance.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
    /// Whether SiLU follows.
    pub silu: bool,
}

#[backend_extension(Flex, Autodiff)]
pub trait NormOps: Backend {
    fn scaled_group_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self>;

    fn scaled_group_norm_gradient(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        options: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>);
}

fn norm_shape(x: [usize; 4], options: NormOptions) -> norm::Shape {
    let [batch, channels, height, width] = x;
    let NormOptions { groups, eps, silu } = options;
    norm::Shape {
        batch,
        channels,
        plane: height * width,
        groups,
        eps,
        silu,
    }
}

impl NormOps for Flex {
    fn scaled_group_norm(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        options: NormOptions,
    ) -> FlexTensor {
        let dims = dims(&x);
        values!(x);
        values!(scale);
        values!(shift);
        let y = norm::forward(&norm_shape(dims, options), x, scale, shift);
        tensor(y, dims)
    }

    fn scaled_group_norm_gradient(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        dy: FlexTensor,
        options: NormOptions,
    ) -> (FlexTensor, FlexTensor, FlexTensor) {
        let dims = dims(&x);
        values!(x);
        values!(scale);
        values!(shift);
        values!(dy);
        let (dx, dscale, dshift) = norm::backward(&norm_shape(dims, options), x, scale, shift, dy);
        let rows = [dims[0], dims[1]];
        (tensor(dx, dims), tensor(dscale, rows), tensor(dshift, rows))
    }
}

#[derive(Debug)]
struct ScaledGroupNorm;

impl<B: NormOps> Backward<B, 3> for ScaledGroupNorm {
    type State = (NodeId, NodeId, NodeId, NormOptions);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let dy = grads.consume::<B>(&ops.node);
        let (x, scale, shift, options) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let scale = checkpointer.retrieve_node_output::<FloatTensor<B>>(scale);
        let shift = checkpointer.retrieve_node_output::<FloatTensor<B>>(shift);
        let (dx, dscale, dshift) = B::scaled_group_norm_gradient(x, scale, shift, dy, options);
        for (node, gradient) in ops.parents.into_iter().zip([dx, dscale, dshift]) {
            if let Some(node) = node {
                grads.register::<B>(node.id, gradient);
            }
        }
    }
}

impl<B: NormOps, C: CheckpointStrategy> NormOps for Autodiff<B, C> {
    fn scaled_group_norm(
        x: FloatTensor<Self>,
        scale: FloatTensor<Self>,
        shift: FloatTensor<Self>,
        options: NormOptions,
    ) -> FloatTensor<Self> {
        match ScaledGroupNorm
            .prepare::<C>([x.node(), scale.node(), shift.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let state = (
                    prep.checkpoint(&x),
                    prep.checkpoint(&scale),
                    prep.checkpoint(&shift),
                    options,
                );
                prep.finish(
                    state,
                    B::scaled_group_norm(
                        x.primitive().clone(),
                        scale.primitive().clone(),
                        shift.primitive().clone(),
                        options,
                    ),
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(B::scaled_group_norm(
                x.primitive().clone(),
                scale.primitive().clone(),
                shift.primitive().clone(),
                options,
            )),
        }
    }

    fn scaled_group_norm_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: NormOptions,
    ) -> (FloatTensor<Self>, FloatTensor<Self>, FloatTensor<Self>) {
        panic!("{SECOND_ORDER}")
    }
}
