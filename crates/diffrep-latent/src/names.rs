//! The one table between module paths here and state-dict keys of diffusers and transformers, and
//! what is done by those keys.

use burn::module::Module;
use burn::tensor::TensorData;
use diffrep_rng::{Key, Stream};
use diffrep_state::NamedTensor;

/// What the names of a network's parameters depend on beside their place in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Naming {
    /// Prefixes of the layers of each block; empty for networks whose paths are their names.
    blocks: Vec<Vec<String>>,
}

/// A network whose parameters have keys in a published state dict.
pub trait Named: Module {
    /// What its keys depend on.
    fn naming(&self) -> Naming {
        Naming::default()
    }
}

impl Naming {
    pub(crate) fn of_blocks(blocks: Vec<Vec<String>>) -> Self {
        Self { blocks }
    }

    /// The key of a module path such as `blocks.1.layers.0.Res.norm1.weight`.
    fn key(&self, path: &[String]) -> String {
        let mut key: Vec<&str> = Vec::new();
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let rest = match path.as_slice() {
            ["blocks", block, "layers", layer, _kind, rest @ ..] => {
                let place = |part: &str| part.parse::<usize>().expect("the place in a list");
                key.push(&self.blocks[place(block)][place(layer)]);
                rest
            }
            whole => whole,
        };
        let mut before = "";
        for &part in rest {
            match (before, part) {
                (_, "attention") => {}
                (_, "to_out") => key.extend(["to_out", "0"]),
                ("ff", "proj") => key.extend(["net", "0", "proj"]),
                ("ff", "out") => key.extend(["net", "2"]),
                (_, part) => key.push(part),
            }
            before = part;
        }
        key.join(".")
    }
}

/// Every parameter of a network of this crate, in module order, by its key in the state dict of diffusers or
/// transformers.
pub fn named_tensors<M: Named>(network: &M) -> Vec<NamedTensor> {
    let naming = network.naming();
    diffrep_state::named_tensors(network, |path| naming.key(path))
}

/// Every parameter of a network of this crate with its values.
pub fn state_dict<M: Named>(network: &M) -> Vec<(String, TensorData)> {
    let naming = network.naming();
    diffrep_state::state_dict(network, |path| naming.key(path))
}

/// How many parameters a network of this crate has.
pub fn parameter_count<M: Named>(network: &M) -> usize {
    let tensors = named_tensors(network);
    tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum()
}

/// The network with the parameters for which `values` has data replaced, one at a time.
///
/// # Panics
///
/// When data has another shape than its parameter.
pub fn with_state_dict<M: Named>(network: M, values: impl FnMut(&str) -> Option<TensorData>) -> M {
    let naming = network.naming();
    diffrep_state::with_state_dict(network, |path| naming.key(path), values)
}

/// The network with every parameter drawn anew, as a function of (seed, parameter) alone:
/// normalisations are the identity, embeddings normal with a deviation of 0.02, weights uniform
/// within the inverse root of their fan-in and biases zero. The control that asks what training
/// added; no layer is left at zero.
pub fn randomised<M: Named>(network: M, seed: u64) -> M {
    let mut tensors = named_tensors(&network).into_iter().zip(0..);
    with_state_dict(network, |key| {
        let (tensor, place) = tensors.next()?;
        debug_assert_eq!(tensor.key, key);
        let draw = Key::new(seed, Stream::Init).sample(place);
        let count = tensor.shape.iter().product();
        let values = match tensor.shape.as_slice() {
            [_] => vec![if key.ends_with("bias") { 0.0 } else { 1.0 }; count],
            _ if key.contains("embeddings.") => {
                let mut values = vec![0.0f32; count];
                draw.fill_normal(&mut values);
                values.iter_mut().for_each(|value| *value *= 0.02);
                values
            }
            [_, rest @ ..] => {
                let bound = 1.0 / (rest.iter().product::<usize>() as f64).sqrt();
                let mut generator = draw.generator();
                let mut uniform = || ((2.0 * generator.uniform() - 1.0) * bound) as f32;
                (0..count).map(|_| uniform()).collect()
            }
            [] => return None,
        };
        Some(TensorData::new(values, tensor.shape))
    })
}
