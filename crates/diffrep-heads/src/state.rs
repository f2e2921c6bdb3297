//! Weights by the names of the authors' later code (soumik-kanad/diffssl): `fcs.0.weight`,
//! `pre_layer.24.1.weight`, `intra_inter_block_attention.layers.1.attn.qkv.weight`, `head.bias`.

use std::collections::BTreeMap;

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param};
use burn::tensor::{Tensor, TensorData};
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

struct Names<'a, F> {
    path: Vec<String>,
    blocks: &'a [BlockIndex],
    each: F,
}

impl<F: FnMut(String, TensorData)> ModuleVisitor for Names<'_, F> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        (self.each)(name(&self.path, self.blocks), param.val().into_data());
    }
}

/// Every parameter of a head, or of feedback layers, with its values, by name; `blocks` are those the
/// head reads.
pub fn parameters<M: Module>(module: &M, blocks: &[BlockIndex]) -> BTreeMap<String, TensorData> {
    let mut found = BTreeMap::new();
    module.visit(&mut Names {
        path: Vec::new(),
        blocks,
        each: |name, data| {
            found.insert(name, data);
        },
    });
    found
}

struct Replace<'a> {
    path: Vec<String>,
    blocks: &'a [BlockIndex],
    state: BTreeMap<String, TensorData>,
    wrong: Vec<String>,
}

impl ModuleMapper for Replace<'_> {
    fn enter_module(&mut self, name: &str, _: &str) {
        self.path.push(name.into());
    }
    fn exit_module(&mut self, _: &str, _: &str) {
        self.path.pop();
    }
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let name = name(&self.path, self.blocks);
        let expected = param.dims().to_vec();
        match self.state.remove(&name) {
            Some(data) if data.shape().to_vec() == expected => {
                let device = param.device();
                param.map(|old| {
                    let tracked = old.is_require_grad();
                    Tensor::from_data(data, &device).set_require_grad(tracked)
                })
            }
            Some(data) => {
                let found = data.shape().to_vec();
                self.wrong
                    .push(format!("`{name}` is {found:?} instead of {expected:?}"));
                param
            }
            None => {
                self.wrong.push(format!("`{name}` is missing"));
                param
            }
        }
    }
}

/// The head, or feedback layers, with all parameters replaced by those of `state`, by name.
///
/// # Errors
///
/// When one is missing, has another shape, or is left over.
pub fn load_state<M: Module>(
    module: M,
    blocks: &[BlockIndex],
    state: BTreeMap<String, TensorData>,
) -> Result<M, HeadError> {
    let mut replace = Replace {
        path: Vec::new(),
        blocks,
        state,
        wrong: Vec::new(),
    };
    let module = module.map(&mut replace);
    let left = replace
        .state
        .keys()
        .map(|name| format!("`{name}` is unused"));
    let wrong: Vec<String> = replace.wrong.iter().cloned().chain(left).collect();
    if wrong.is_empty() {
        Ok(module)
    } else {
        Err(HeadError::State(wrong.join(", ")))
    }
}
