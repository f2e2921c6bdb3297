//! The one table between module paths here and state-dict keys of the reference.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::{Tensor, TensorData};

use crate::UNet;
use crate::config::{ClassifierPool, Kind, UNetConfig};

/// The state-dict key of a module path such as `input_blocks.1.layers.0.Res.in_norm.weight`.
fn key(path: &[String], config: &UNetConfig) -> String {
    let adaptive = config.kind == Kind::Encoder(ClassifierPool::Adaptive);
    let second = config.kind == Kind::Encoder(ClassifierPool::SpatialV2);
    let mut key: Vec<&str> = Vec::new();
    let in_head = path[0] == "out";
    for part in path {
        let replaced: &[&str] = match (part.as_str(), in_head) {
            ("layers" | "Conv" | "Res" | "Attention" | "Resample", false) => &[],
            ("Map" | "Adaptive" | "Attention" | "Spatial", true) => &[],
            ("first", _) | ("hidden", true) => &["0"],
            ("second", _) | ("pool", true) => &["2"],
            ("norm", true) if second => &["1"],
            ("norm", true) => &["0"],
            ("conv", true) if adaptive => &["3"],
            ("conv", true) => &["2"],
            ("logits", true) if second => &["3"],
            ("logits", true) => &["2"],
            ("in_norm", _) => &["in_layers", "0"],
            ("in_conv", _) => &["in_layers", "2"],
            ("emb", _) => &["emb_layers", "1"],
            ("out_norm", _) => &["out_layers", "0"],
            ("out_conv", _) => &["out_layers", "3"],
            ("label_emb", _) => &["label_emb", "weight"],
            (other, _) => {
                key.push(other);
                continue;
            }
        };
        key.extend(replaced);
    }
    // A strided convolution is called `op` going down.
    if key[0] == "input_blocks" && key.contains(&"conv") {
        key.iter_mut()
            .filter(|part| **part == "conv")
            .for_each(|part| *part = "op");
    }
    key.join(".")
}

/// A parameter by its state-dict key.
#[derive(Clone, Debug)]
pub struct NamedParameter {
    /// Key in the reference's state dict.
    pub key: String,
    /// Shape in PyTorch's layout, which is also ours.
    pub shape: Vec<usize>,
    /// burn's id of the parameter.
    pub id: ParamId,
}

struct Names<'a> {
    path: Vec<String>,
    config: &'a UNetConfig,
    found: Vec<NamedParameter>,
    data: Option<Vec<TensorData>>,
}

impl ModuleVisitor for Names<'_> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.found.push(NamedParameter {
            key: key(&self.path, self.config),
            shape: param.dims().to_vec(),
            id: param.id,
        });
        if let Some(data) = &mut self.data {
            data.push(param.val().into_data());
        }
    }
}

/// Every parameter of a network, in module order.
pub fn named_parameters(network: &UNet) -> Vec<NamedParameter> {
    let mut names = Names {
        path: Vec::new(),
        config: network.config(),
        found: Vec::new(),
        data: None,
    };
    network.visit(&mut names);
    names.found
}

/// Every parameter of a network with its values.
pub fn state_dict(network: &UNet) -> Vec<(String, TensorData)> {
    let mut names = Names {
        path: Vec::new(),
        config: network.config(),
        found: Vec::new(),
        data: Some(Vec::new()),
    };
    network.visit(&mut names);
    let data = names.data.unwrap_or_default();
    names
        .found
        .into_iter()
        .map(|parameter| parameter.key)
        .zip(data)
        .collect()
}

struct Load<'a, F> {
    path: Vec<String>,
    config: &'a UNetConfig,
    values: F,
}

impl<F: FnMut(&str) -> Option<TensorData>> ModuleMapper for Load<'_, F> {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.path.push(name.into());
    }

    fn exit_module(&mut self, _name: &str, _container: &str) {
        self.path.pop();
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match (self.values)(&key(&self.path, self.config)) {
            None => param,
            Some(data) => param.map(|old| {
                assert_eq!(*data.shape(), old.shape(), "values of the wrong shape");
                let tracked = old.is_require_grad();
                Tensor::from_data(data, &old.device()).set_require_grad(tracked)
            }),
        }
    }
}

/// The network with the parameters for which `values` has data replaced, one at a time.
///
/// # Panics
///
/// When data has another shape than its parameter.
pub fn with_state_dict(network: UNet, values: impl FnMut(&str) -> Option<TensorData>) -> UNet {
    let config = network.config().clone();
    network.map(&mut Load {
        path: Vec::new(),
        config: &config,
        values,
    })
}
