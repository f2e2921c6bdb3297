//! The kernels as operators of burn's flex backend, with their gradients.
//! Only tensors on a flex device reach these operators; see `conv.rs` and `norm.rs`.

use burn::backend::{
    Backend, TensorMetadata,
    autodiff::{
        Autodiff, NodeId,
        checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
        grads::Gradients,
        ops::{Backward, Ops, OpsKind},
    },
    backend_extension,
    flex::{Flex, FlexTensor, Layout},
    tensor::FloatTensor,
};
use burn::tensor::{Bytes, DType, Shape};

use crate::cpu::{conv, norm};

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
pub trait KernelOps: Backend {
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

/// The values of a tensor made contiguous.
macro_rules! values {
    ($tensor:ident) => {
        let $tensor = $tensor.to_contiguous();
        let $tensor: &[f32] = $tensor.as_slice().expect("a contiguous tensor");
    };
}

impl KernelOps for Flex {
    fn same_conv2d(x: FlexTensor, weight: FlexTensor, bias: FlexTensor) -> FlexTensor {
        let [channels_out, _, kernel, _] = dims(&weight);
        let shape = conv_shape(dims(&x), channels_out, kernel);
        let mut y = vec![0.0; shape.batch * channels_out * shape.height * shape.width];
        values!(x);
        values!(weight);
        values!(bias);
        conv::forward(&shape, x, weight, bias, &mut y);
        tensor(y, [shape.batch, channels_out, shape.height, shape.width])
    }

    fn same_conv2d_input_gradient(dy: FlexTensor, weight: FlexTensor) -> FlexTensor {
        let [batch, channels_out, height, width] = dims(&dy);
        let [_, channels_in, kernel, _] = dims(&weight);
        let shape = conv_shape([batch, channels_in, height, width], channels_out, kernel);
        let mut dx = vec![0.0; batch * channels_in * height * width];
        values!(dy);
        values!(weight);
        conv::input_gradient(&shape, dy, weight, &mut dx);
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

    fn scaled_group_norm(
        x: FlexTensor,
        scale: FlexTensor,
        shift: FlexTensor,
        options: NormOptions,
    ) -> FlexTensor {
        let dims = dims(&x);
        let mut y = vec![0.0; dims.iter().product()];
        values!(x);
        values!(scale);
        values!(shift);
        norm::forward(&norm_shape(dims, options), x, scale, shift, &mut y);
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
struct SameConv2d;

impl<B: KernelOps> Backward<B, 3> for SameConv2d {
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

#[derive(Debug)]
struct ScaledGroupNorm;

impl<B: KernelOps> Backward<B, 3> for ScaledGroupNorm {
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

impl<B: KernelOps, C: CheckpointStrategy> KernelOps for Autodiff<B, C> {
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

const SECOND_ORDER: &str = "gradients of gradients are not computed by these kernels";
