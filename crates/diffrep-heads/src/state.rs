//! Weights by the names of the authors' later code (soumik-kanad/diffssl): `fcs.0.weight`,
//! `pre_layer.24.1.weight`, `intra_inter_block_attention.layers.1.attn.qkv.weight`, `head.bias`.

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::TensorData;
use diffrep_state::{NamedTensor, named_tensors, state_dict, with_state_dict};
use diffrep_taps::BlockIndex;

use crate::HeadError;

/// The authors' name of the parameter at a path such as `Fusion.pre_layers.0.norm.weight`. Their
/// layer 0 is the one that puts the class token in front.
fn name(path: &[String], blocks: &[BlockIndex]) -> String {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    let (kind, path) = path.split_first().expect("a parameter has a name");
    match (*kind, path) {
        ("Fusion", ["pre_layers", index, part, rest]) => {
            let block = index.parse().ok().and_then(|i: usize| blocks.get(i));
            let block = block.map_or_else(|| (*index).to_string(), ToString::to_string);
            let place = if *part == "norm" { 1 } else { 2 };
            format!("pre_layer.{block}.{place}.{rest}")
        }
        ("Fusion", ["attention", "layers", index, rest @ ..]) => {
            let index = index.parse().map_or(0, |i: usize| i + 1);
            let rest = rest.join(".");
            format!("intra_inter_block_attention.layers.{index}.{rest}")
        }
        ("Fusion", ["attention", rest @ ..]) => {
            format!("intra_inter_block_attention.{}", rest.join("."))
        }
        // Feedback layers: convolution, batch normalisation.
        ("layers", [index, "norm", rest]) => format!("feedback_layers.{index}.1.{rest}"),
        ("layers", [index, rest]) => format!("feedback_layers.{index}.0.{rest}"),
        (_, path) => path.join("."),
    }
}

/// Every parameter of a head, or of feedback layers, with its values, by name; `blocks` are those the
/// head reads.
pub fn parameters<M: Module>(module: &M, blocks: &[BlockIndex]) -> BTreeMap<String, TensorData> {
    let found = state_dict(module, |path| name(path, blocks));
    found.into_iter().collect()
}

/// The head, or feedback layers, with all parameters replaced by those of `state`, by name.
///
/// # Errors
///
/// When one is missing, has another shape, or is left over.
pub fn load_state<M: Module>(
    module: M,
    blocks: &[BlockIndex],
    mut state: BTreeMap<String, TensorData>,
) -> Result<M, HeadError> {
    let name = |path: &[String]| name(path, blocks);
    let wanted = named_tensors(&module, name);
    let mut wrong = Vec::new();
    for NamedTensor { key, shape } in &wanted {
        match state.get(key).map(|data| data.shape().to_vec()) {
            None => wrong.push(format!("`{key}` is missing")),
            Some(found) if found != *shape => {
                wrong.push(format!("`{key}` is {found:?} instead of {shape:?}"));
            }
            Some(_) => {}
        }
    }
    let left = |key: &&String| !wanted.iter().any(|tensor| tensor.key == **key);
    wrong.extend(
        state
            .keys()
            .filter(left)
            .map(|key| format!("`{key}` is unused")),
    );
    match wrong.is_empty() {
        true => Ok(with_state_dict(module, name, |key| state.remove(key))),
        false => Err(HeadError::State(wrong.join(", "))),
    }
}
