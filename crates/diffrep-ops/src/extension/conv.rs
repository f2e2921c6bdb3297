//! "Same" convolution; kernels in `cpu/conv.rs`.

use burn::backend::{
    Backend, TensorMetadata,
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
use crate::cpu::conv;

#[backend_extension(Flex, Autodiff)]
pub trait ConvOps: Backend {
    fn same_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn same_conv2d_input_gradient(
        dy: FloatTensor<Self>,
        weight: FloatTensor<Self>,
    ) -> FloatTensor<Self>;

    fn same_conv2d_weight_gradient(
        x: FloatTensor<Self>,
        dy: FloatTensor<Self>,
        kernel: usize,
    ) -> FloatTensor<Self>;

    fn channel_sums(dy: FloatTensor<Self>) -> FloatTensor<Self>;
}

fn conv_shape(x: [usize; 4], channels_out: usize, kernel: usize) -> conv::Shape {
    let [batch, channels_in, height, width] = x;
    conv::Shape {
        batch,
        channels_in,
        channels_out,
        height,
        width,
        kernel,
    }
}

impl ConvOps for Flex {
    fn same_conv2d(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [channels_out, _, kernel, _] = dims(&weight);
        let shape = conv_shape(dims(&x), channels_out, kernel);
        values!(x);
        values!(weight);
        values!(bias);
        let y = conv::forward(&shape, x, weight, bias);
        tensor(y, [shape.batch, channels_out, shape.height, shape.width])
    }

    fn same_conv2d_input_gradient(dy: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let [batch, channels_out, height, width] = dims(&dy);
        let [_, channels_in, kernel, _] = dims(&weight);
        let shape = conv_shape([batch, channels_in, height, width], channels_out, kernel);
        values!(dy);
        values!(weight);
        let dx = conv::input_gradient(&shape, dy, weight);
        tensor(dx, [batch, channels_in, height, width])
    }

    fn same_conv2d_weight_gradient(x: FlexTensor, dy: FlexTensor, kernel: usize) -> FlexTensor {
        let shape = conv_shape(dims(&x), dims(&dy)[1], kernel);
        values!(x);
        values!(dy);
        let dw = conv::weight_gradient(&shape, x, dy);
        tensor(dw, [shape.channels_out, shape.channels_in, kernel, kernel])
    }

    fn channel_sums(dy: FlexTensor) -> FlexTensor {
        let [_, channels, height, width] = dims(&dy);
        values!(dy);
        tensor(conv::channel_sums(channels, height * width, dy), [channels])
    }
}

#[derive(Debug)]
struct SameConv2d;

impl<B: ConvOps> Backward<B, 3> for SameConv2d {
    type State = (NodeId, NodeId);

    fn backward(
        self,
        ops: Ops<Self::State, 3>,
        grads: &mut Gradients,
        checkpointer: &mut Checkpointer,
    ) {
        let [node_x, node_weight, node_bias] = ops.parents;
        let dy = grads.consume::<B>(&ops.node);
        let (x, weight) = ops.state;
        let x = checkpointer.retrieve_node_output::<FloatTensor<B>>(x);
        let weight = checkpointer.retrieve_node_output::<FloatTensor<B>>(weight);
        if let Some(node) = node_weight {
            let kernel = weight.shape().dims::<4>()[2];
            let gradient = B::same_conv2d_weight_gradient(x, dy.clone(), kernel);
            grads.register::<B>(node.id, gradient);
        }
        if let Some(node) = node_x {
            grads.register::<B>(node.id, B::same_conv2d_input_gradient(dy.clone(), weight));
        }
        if let Some(node) = node_bias {
            grads.register::<B>(node.id, B::channel_sums(dy));
        }
    }
}

impl<B: ConvOps, C: CheckpointStrategy> ConvOps for Autodiff<B, C> {
    fn same_conv2d(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        bias: FloatTensor<Self>,
    ) -> FloatTensor<Self> {
        match SameConv2d
            .prepare::<C>([x.node(), weight.node(), bias.node()])
            .compute_bound()
            .stateful()
        {
            OpsKind::Tracked(mut prep) => {
                let state = (prep.checkpoint(&x), prep.checkpoint(&weight));
                prep.finish(
                    state,
                    B::same_conv2d(
                        x.primitive().clone(),
                        weight.primitive().clone(),
                        bias.primitive().clone(),
                    ),
                )
            }
            OpsKind::UnTracked(prep) => prep.finish(B::same_conv2d(
                x.primitive().clone(),
                weight.primitive().clone(),
                bias.primitive().clone(),
            )),
        }
    }

    fn same_conv2d_input_gradient(_: FloatTensor<Self>, _: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("{SECOND_ORDER}")
    }

    fn same_conv2d_weight_gradient(
        _: FloatTensor<Self>,
        _: FloatTensor<Self>,
        _: usize,
    ) -> FloatTensor<Self> {
        panic!("{SECOND_ORDER}")
    }

    fn channel_sums(_: FloatTensor<Self>) -> FloatTensor<Self> {
        panic!("{SECOND_ORDER}")
    }
}
