//! Random weights as a function of (seed, tensor), as the reference libraries draw them.

use burn::module::Module;
use burn::tensor::TensorData;
use diffrep_rng::{Key, Stream};
use diffrep_state::NamedTensor;

use crate::names::{named_tensors, with_state_dict};

/// How the weights of a kind of network are drawn.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scheme {
    /// torchvision's ResNet: Kaiming's normal distribution by fan-out for convolutions.
    KaimingFanOut,
    /// timm's ViT: normals of deviation 0.02 for matrices and position embeddings, zeros for biases.
    Transformer,
}

/// The network with every tensor drawn anew.
pub(crate) fn randomised<M: Module>(network: M, scheme: Scheme, seed: u64) -> M {
    let mut tensors = named_tensors(&network).into_iter().zip(0..);
    with_state_dict(network, |name| {
        let (tensor, place) = tensors.next()?;
        debug_assert_eq!(tensor.key, name);
        let draw = Key::new(seed, Stream::Init).sample(place);
        let values = values(&tensor, scheme, &draw);
        Some(TensorData::new(values, tensor.shape))
    })
}

fn values(tensor: &NamedTensor, scheme: Scheme, draw: &Key) -> Vec<f32> {
    let count = tensor.shape.iter().product();
    let key = tensor.key.as_str();
    let fan_in: usize = tensor.shape.iter().skip(1).product();
    match (tensor.shape.as_slice(), scheme) {
        ([_], _) => match key.ends_with(".weight") || key.ends_with(".running_var") {
            true => vec![1.0; count],
            false => vec![0.0; count],
        },
        ([outputs, _, height, width], Scheme::KaimingFanOut) => normal(
            count,
            (2.0 / (outputs * height * width) as f64).sqrt(),
            draw,
        ),
        // PyTorch's default, which torchvision leaves to `fc` and timm to the patch embedding.
        ([_, _, _, _], _) | ([_, _], Scheme::KaimingFanOut) => {
            uniform(count, 1.0 / (fan_in as f64).sqrt(), draw)
        }
        (_, _) if key == "cls_token" => normal(count, 1e-6, draw),
        (_, _) => normal(count, 0.02, draw),
    }
}

fn normal(count: usize, deviation: f64, draw: &Key) -> Vec<f32> {
    let mut values = vec![0.0; count];
    draw.fill_normal(&mut values);
    values
        .iter_mut()
        .for_each(|value| *value = (f64::from(*value) * deviation) as f32);
    values
}

fn uniform(count: usize, bound: f64, draw: &Key) -> Vec<f32> {
    let mut generator = draw.generator();
    (0..count)
        .map(|_| ((2.0 * generator.uniform() - 1.0) * bound) as f32)
        .collect()
}
