//! The one table between module paths here and state-dict keys of torchvision and timm.

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};

/// The state-dict key of a module path such as `ResNet.layers.0.1.Bottleneck.conv1.weight`.
fn key(path: &[String]) -> String {
    let mut key: Vec<String> = Vec::new();
    for (i, part) in path.iter().enumerate() {
        let before = i.checked_sub(1).map(|i| path[i].as_str());
        match (before, part.as_str()) {
            // Variants of enums, and the list of stages, which torchvision numbers from 1.
            (
                _,
                "ResNet" | "ViT" | "Inception" | "DiT" | "Mage" | "Basic" | "Bottleneck" | "layers",
            ) => {}
            (Some("layers"), stage) => {
                let number = stage.parse::<usize>().expect("the place in a list") + 1;
                key.push(format!("layer{number}"));
            }
            (Some("downsample"), "conv") => key.push("0".into()),
            (Some("downsample"), "bn") => key.push("1".into()),
            (Some("mlp"), "first") => key.push("0".into()),
            (Some("mlp"), "second") => key.push("2".into()),
            (Some("token_emb"), "layer_norm") => key.push("LayerNorm".into()),
            (_, "ada_ln_modulation") => key.push("adaLN_modulation.1".into()),
            (_, part) if part.starts_with("conv2d_") || part.starts_with("mixed_") => {
                key.push(part[..1].to_uppercase() + &part[1..]);
            }
            (_, part) => key.push(part.into()),
        }
    }
    key.join(".")
}

/// A tensor of a network by its state-dict key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedTensor {
    /// Key in torchvision's or timm's state dict.
    pub key: String,
    /// Shape in PyTorch's layout, which is also ours.
    pub shape: Vec<usize>,
}

impl NamedTensor {
    /// Whether it is a running statistic of batch normalisation, which no gradient changes and
    /// which does not count as a parameter.
    pub fn is_statistic(&self) -> bool {
        is_statistic(&self.key)
    }
}

/// Whether a key or module path is that of a running statistic of batch normalisation.
pub fn is_statistic(path: &str) -> bool {
    path.ends_with(".running_mean") || path.ends_with(".running_var")
}

struct Names {
    path: Vec<String>,
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
            key: key(&self.path),
            shape: param.dims().to_vec(),
        });
        if let Some(data) = &mut self.data {
            data.push(param.val().into_data());
        }
    }
}

/// Every parameter and running statistic of a network of this crate, in module order.
pub fn named_tensors<M: Module>(network: &M) -> Vec<NamedTensor> {
    let mut names = Names {
        path: Vec::new(),
        found: Vec::new(),
        data: None,
    };
    network.visit(&mut names);
    names.found
}

/// Every parameter and running statistic of a network of this crate with its values.
pub fn state_dict<M: Module>(network: &M) -> Vec<(String, TensorData)> {
    let mut names = Names {
        path: Vec::new(),
        found: Vec::new(),
        data: Some(Vec::new()),
    };
    network.visit(&mut names);
    let data = names.data.unwrap_or_default();
    let keys = names.found.into_iter().map(|tensor| tensor.key);
    keys.zip(data).collect()
}

/// How many parameters a network of this crate has, as PyTorch counts them: without running
/// statistics.
pub fn parameter_count<M: Module>(network: &M) -> usize {
    named_tensors(network)
        .iter()
        .filter(|tensor| !tensor.is_statistic())
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum()
}

struct Load<F> {
    path: Vec<String>,
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
        match (self.values)(&key(&self.path)) {
            None => param,
            Some(data) => param.map(|old| {
                assert_eq!(*data.shape(), old.shape(), "values of the wrong shape");
                let tracked = old.is_require_grad();
                Tensor::from_data(data, &old.device()).set_require_grad(tracked)
            }),
        }
    }
}

/// The network with the tensors for which `values` has data replaced, one at a time.
///
/// Clones of a network share their running statistics: those of a clone are replaced too.
///
/// # Panics
///
/// When data has another shape than its tensor.
pub fn with_state_dict<M: Module>(network: M, values: impl FnMut(&str) -> Option<TensorData>) -> M {
    network.map(&mut Load {
        path: Vec::new(),
        values,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_the_names_of_torchvision_and_timm() {
        let named = |path: &str| key(&path.split('.').map(String::from).collect::<Vec<_>>());
        for (path, name) in [
            ("ResNet.conv1.weight", "conv1.weight"),
            (
                "layers.0.1.Bottleneck.conv3.weight",
                "layer1.1.conv3.weight",
            ),
            (
                "layers.3.0.Basic.downsample.conv.weight",
                "layer4.0.downsample.0.weight",
            ),
            (
                "layers.3.0.Basic.downsample.bn.running_var",
                "layer4.0.downsample.1.running_var",
            ),
            ("blocks.11.attn.qkv.bias", "blocks.11.attn.qkv.bias"),
            (
                "mixed_6a.branch3x3.conv.weight",
                "Mixed_6a.branch3x3.conv.weight",
            ),
            ("conv2d_1a_3x3.bn.bias", "Conv2d_1a_3x3.bn.bias"),
            ("DiT.t_embedder.mlp.second.bias", "t_embedder.mlp.2.bias"),
            (
                "blocks.3.ada_ln_modulation.weight",
                "blocks.3.adaLN_modulation.1.weight",
            ),
        ] {
            assert_eq!(named(path), name);
        }
    }
}
