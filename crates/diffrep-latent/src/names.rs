//! The one table between module paths here and state-dict keys of diffusers and transformers, and
//! what is done by those keys.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
use diffrep_rng::{Key, Stream};

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

/// A parameter by its state-dict key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Key in the state dict of diffusers or transformers.
    pub key: String,
    /// Shape in PyTorch's layout, which is also ours.
    pub shape: Vec<usize>,
}

struct Names {
    path: Vec<String>,
    naming: Naming,
    found: Vec<NamedTensor>,
    data: Option<Vec<TensorData>>,
}

impl ModuleVisitor for Names {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(NamedTensor {
            key: self.naming.key(&self.path),
            shape: param.lazy_shape().to_vec(),
        });
        if let Some(data) = &mut self.data {
            data.push(param.val().into_data());
        }
    }
}

fn visit<M: Named>(network: &M, data: Option<Vec<TensorData>>) -> Names {
    let mut names = Names {
        path: Vec::new(),
        naming: network.naming(),
        found: Vec::new(),
        data,
    };
    network.visit(&mut names);
    names
}

/// Every parameter of a network of this crate, in module order.
pub fn named_tensors<M: Named>(network: &M) -> Vec<NamedTensor> {
    visit(network, None).found
}

/// Every parameter of a network of this crate with its values.
pub fn state_dict<M: Named>(network: &M) -> Vec<(String, TensorData)> {
    let names = visit(network, Some(Vec::new()));
    let keys = names.found.into_iter().map(|tensor| tensor.key);
    keys.zip(names.data.unwrap_or_default()).collect()
}

/// How many parameters a network of this crate has.
pub fn parameter_count<M: Named>(network: &M) -> usize {
    let tensors = named_tensors(network);
    tensors
        .iter()
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum()
}

struct Load<F> {
    path: Vec<String>,
    naming: Naming,
    values: F,
}

impl<F: FnMut(&str) -> Option<TensorData>> ModuleMapper for Load<F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match (self.values)(&self.naming.key(&self.path)) {
            None => param,
            Some(data) => {
                let shape = param.lazy_shape();
                assert_eq!(*data.shape(), shape, "values of the wrong shape");
                let values = Tensor::from_data(data, &param.lazy_device());
                let id = param.id;
                param.transform_for_load(values, id)
            }
        }
    }
}

/// The network with the parameters for which `values` has data replaced, one at a time.
///
/// # Panics
///
/// When data has another shape than its parameter.
pub fn with_state_dict<M: Named>(network: M, values: impl FnMut(&str) -> Option<TensorData>) -> M {
    let naming = network.naming();
    network.map(&mut Load {
        path: Vec::new(),
        naming,
        values,
    })
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
