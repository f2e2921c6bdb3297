//! DifFeed against the authors' code (`fixtures/golden/diffeed.safetensors`): the second pass, the
//! logits, the loss, and the gradients of feedback layers and head through the frozen network.

use std::collections::BTreeMap;
use std::path::Path;

use burn::module::{Module, ModuleMapper, Param};
use burn::optim::GradientsParams;
use burn::tensor::activation::log_softmax;
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_heads::{FeedbackSpec, HeadSpec, load_state};
use diffrep_taps::{BlockIndex, Condition, Encoder, TapSet, Taps};
use diffrep_unet::{ReferenceArgs, UNetConfig, with_state_dict};
use safetensors::{Dtype, SafeTensors};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Largest absolute error over largest absolute value.
const TOLERANCE: f32 = 1e-4;

type State = BTreeMap<String, TensorData>;

/// The f32 tensors of a file, and its integers.
fn read(name: &str) -> (State, BTreeMap<String, Vec<i64>>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden");
    let bytes = std::fs::read(folder.join(name)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let (mut floats, mut integers) = (State::new(), BTreeMap::new());
    for (name, view) in file.iter() {
        if view.dtype() == Dtype::F32 {
            let (values, _) = view.data().as_chunks::<4>();
            let values: Vec<f32> = values.iter().map(|v| f32::from_le_bytes(*v)).collect();
            floats.insert(name.into(), TensorData::new(values, view.shape().to_vec()));
        } else {
            let (values, _) = view.data().as_chunks::<8>();
            let values = values.iter().map(|v| i64::from_le_bytes(*v)).collect();
            integers.insert(name.into(), values);
        }
    }
    (floats, integers)
}

/// The tensors whose name starts with `prefix`, without it.
fn under(state: &State, prefix: &str) -> State {
    let found = state.iter();
    found
        .filter_map(|(name, data)| Some((name.strip_prefix(prefix)?.into(), data.clone())))
        .collect()
}

fn same(name: &str, found: &TensorData, expected: &TensorData) {
    let found = found.as_slice::<f32>().unwrap();
    let expected = expected.as_slice::<f32>().unwrap();
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0f32, |max, v| max.max(v.abs()));
    let pairs = found.iter().zip(expected);
    let off = pairs.fold(0.0f32, |max, (a, b)| max.max((a - b).abs()));
    assert!(off <= TOLERANCE * largest, "{name}: {off} of {largest}");
}

/// The gradients of a module by the authors' names.
fn named<M: Module>(module: &M, gradients: &GradientsParams, blocks: &[BlockIndex]) -> State {
    struct Replace<'a>(&'a GradientsParams);
    impl ModuleMapper for Replace<'_> {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let gradient = self.0.get::<D>(param.id);
            param.map(|old| gradient.map_or(old, Tensor::from_inner))
        }
    }
    let replaced = module.clone().map(&mut Replace(gradients));
    diffrep_heads::parameters(&replaced, blocks)
}

#[test]
fn feedback_is_the_authors() {
    let device = Device::flex();
    let text = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden/diffeed_net.json");
    let mut case: Value = serde_json::from_slice(&std::fs::read(text).unwrap()).unwrap();
    fn take<T: DeserializeOwned>(case: &mut Value, key: &str) -> T {
        serde_json::from_value(case.as_object_mut().unwrap().remove(key).unwrap()).unwrap()
    }
    let blocks: Vec<BlockIndex> = take(&mut case, "feedback_blocks");
    let block: BlockIndex = take(&mut case, "read_block");
    let pool: usize = take(&mut case, "pre_pool_size");
    let width: usize = take(&mut case, "attention_dim");
    let args: ReferenceArgs = serde_json::from_value(case).unwrap();
    let config = UNetConfig::try_from(args).unwrap();

    let (golden, integers) = read("diffeed.safetensors");
    let (mut weights, _) = read("diffeed_net.safetensors");
    let whole = config.init(&device).unwrap();
    let taps = whole.taps();
    // The fixture holds the network up to the block that is read.
    let encoder = with_state_dict(whole.up_to(block), |name| {
        let found = weights.remove(name);
        Some(found.unwrap_or_else(|| panic!("{name} is missing")))
    });
    assert!(weights.is_empty(), "{:?}", weights.keys());

    let spec = FeedbackSpec {
        blocks: blocks.clone(),
    };
    let mut state = golden.clone();
    state.retain(|name, _| name.starts_with("feedback_layers."));
    let layers = spec.build(&taps, 0, &device).unwrap();
    let layers = load_state(layers, &[], state).unwrap().train();
    let head: HeadSpec = serde_json::from_value(serde_json::json!({
        "head": "fusion", "pool": pool, "width": width,
        "transformer": {"heads": 8, "mlp_ratio": 4, "depth": 2},
    }))
    .unwrap();
    let read_tap = &taps[block.position()..=block.position()];
    let head = head.build(read_tap, 1, 10, 0, &device).unwrap();
    let head = head
        .try_map(|head| load_state(head, &[block], under(&golden, "head.")))
        .unwrap()
        .map(Module::train);

    let autodiff = device.autodiff();
    let tensor = |name: &str| Tensor::<4>::from_data(golden[name].clone(), &autodiff);
    let mut first = Taps::new();
    for block in &blocks {
        let name = format!("first_pass.block_{:02}", block.get());
        first.insert(*block, tensor(&name));
    }
    let (addends, statistics) = layers.forward(&first, false);
    assert!(statistics.is_empty());
    let t: Vec<f32> = integers["t"].iter().map(|t| *t as f32).collect();
    let condition = Condition {
        t: Some(Tensor::from_data(
            TensorData::new(t, [integers["t"].len()]),
            &autodiff,
        )),
        ..Condition::default()
    };
    let wanted = TapSet::new([block.get()], &encoder.taps()).unwrap();
    let encoder = encoder.no_grad().train();
    let mut maps = encoder.forward_taps(tensor("x"), &condition, &wanted, Some(&addends));
    let map = maps.remove(block).unwrap();
    same(
        "second pass",
        &map.to_data(),
        &golden["second_pass.block_24"],
    );
    let logits = head.forward(vec![map]);
    same("logits", &logits.to_data(), &golden["logits"]);

    let [rows, classes] = logits.dims();
    let mut chosen = vec![0.0f32; rows * classes];
    for (row, label) in integers["labels"].iter().enumerate() {
        chosen[row * classes + *label as usize] = 1.0;
    }
    let chosen = Tensor::<2>::from_data(TensorData::new(chosen, [rows, classes]), &autodiff);
    let loss = (log_softmax(logits, 1) * chosen).sum().neg() / rows as f32;
    same("loss", &loss.to_data(), &golden["loss"]);

    let mut found = loss.backward();
    let of_layers = GradientsParams::from_module(&mut found, &layers);
    let of_head = GradientsParams::from_module(&mut found, head.head());
    let of_encoder = GradientsParams::from_module(&mut found, &encoder);
    assert!(of_encoder.is_empty(), "the network is frozen");
    // Of each layer: convolution, scale and shift, but not the running statistics.
    assert_eq!(of_layers.len(), 3 * blocks.len());
    let mut all = named(&layers, &of_layers, &[]);
    for (name, data) in named(head.head(), &of_head, &[block]) {
        all.insert(format!("head.{name}"), data);
    }
    let expected = under(&golden, "grad.");
    assert_eq!(expected.len(), of_layers.len() + of_head.len());
    for (name, expected) in expected {
        same(&name, &all[&name], &expected);
    }
}
