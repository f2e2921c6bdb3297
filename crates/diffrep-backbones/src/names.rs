//! The one table between module paths here and state-dict keys of torchvision and timm.

use burn::module::Module;
use burn::tensor::TensorData;
use diffrep_state::NamedTensor;

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

/// Whether a key or module path is that of a running statistic of batch normalisation.
pub fn is_statistic(path: &str) -> bool {
    path.ends_with(".running_mean") || path.ends_with(".running_var")
}

/// Every parameter and running statistic of a network of this crate, in module order, by its key in
/// torchvision's or timm's state dict.
pub fn named_tensors<M: Module>(network: &M) -> Vec<NamedTensor> {
    diffrep_state::named_tensors(network, key)
}

/// Every parameter and running statistic of a network of this crate with its values.
pub fn state_dict<M: Module>(network: &M) -> Vec<(String, TensorData)> {
    diffrep_state::state_dict(network, key)
}

/// How many parameters a network of this crate has, as PyTorch counts them: without running
/// statistics.
pub fn parameter_count<M: Module>(network: &M) -> usize {
    named_tensors(network)
        .iter()
        .filter(|tensor| !is_statistic(&tensor.key))
        .map(|tensor| tensor.shape.iter().product::<usize>())
        .sum()
}

/// The network with the tensors for which `values` has data replaced, one at a time.
///
/// Clones of a network share their running statistics: those of a clone are replaced too.
///
/// # Panics
///
/// When data has another shape than its tensor.
pub fn with_state_dict<M: Module>(network: M, values: impl FnMut(&str) -> Option<TensorData>) -> M {
    diffrep_state::with_state_dict(network, key, values)
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
