//! The one table between module paths here and state-dict keys of the reference.

use burn::tensor::TensorData;
use diffrep_state::NamedTensor;

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

/// Every parameter of a network, in module order, by its key in the reference's state dict.
pub fn named_tensors(network: &UNet) -> Vec<NamedTensor> {
    diffrep_state::named_tensors(network, |path| key(path, network.config()))
}

/// Every parameter of a network with its values.
pub fn state_dict(network: &UNet) -> Vec<(String, TensorData)> {
    diffrep_state::state_dict(network, |path| key(path, network.config()))
}

/// The network with the parameters for which `values` has data replaced, one at a time.
///
/// # Panics
///
/// When data has another shape than its parameter.
pub fn with_state_dict(network: UNet, values: impl FnMut(&str) -> Option<TensorData>) -> UNet {
    let config = network.config().clone();
    diffrep_state::with_state_dict(network, |path| key(path, &config), values)
}
