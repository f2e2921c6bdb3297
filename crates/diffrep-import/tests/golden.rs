//! Parity with the reference implementation: weights as PyTorch saved them, and the output of every
//! block that PyTorch computed from them (fixtures/golden/README.md).
#![allow(
    clippy::print_stdout,
    reason = "the errors found are worth reading, and so is a skipped test"
)]

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Int, Tensor, TensorData};
use diffrep_import::{RawCheckpoint, load, read_arch};
use diffrep_taps::{Condition, Encoder, TapSet};
use diffrep_unet::{UNet, blocks_evaluated, named_tensors, parameter_count};

/// Allowed largest error of a block, relative to its largest value. Both sides compute in f32 with
/// sums in different orders.
const TOLERANCE: f32 = 1e-4;

/// Weights and the case whose architecture and activations belong to them.
const COMMITTED: [(&str, &str); 4] = [
    ("adm_encoder_adaptive.pt", "adm_encoder_adaptive"),
    ("adm_encoder_attnpool.pt", "adm_encoder_attnpool"),
    ("adm_classcond.pt", "adm_classcond"),
    ("adm_neworder_legacy.pt", "adm_neworder"),
];

/// What only the full set has.
const FURTHER: [(&str, &str); 3] = [
    ("adm_encoder_spatial.pt", "adm_encoder_spatial"),
    ("adm_neworder.pt", "adm_neworder"),
    ("adm_small.pt", "adm_small"),
];

struct Case {
    network: UNet,
    golden: RawCheckpoint,
    image: Tensor<4>,
    condition: Condition,
}

fn committed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/golden")
}

fn open(folder: &Path, weights: &str, case: &str) -> Case {
    let device = Device::flex();
    let arch = folder.join(format!("{case}.json"));
    let config = read_arch(&arch).unwrap();
    let count = parameter_count(&config).unwrap();
    let imported = load(&folder.join(weights), Some(config), &device).unwrap();
    assert!(imported.report.is_complete());
    let network = imported.network;
    let real: usize = named_tensors(&network)
        .iter()
        .map(|p| p.shape.iter().product::<usize>())
        .sum();
    // `read_arch` has held `params` of the reference against the count.
    assert!(
        std::fs::read_to_string(&arch)
            .unwrap()
            .contains("\"params\"")
    );
    assert_eq!(real, count, "{case}");
    let golden = RawCheckpoint::open(&folder.join(format!("{case}.safetensors"))).unwrap();
    let t = Tensor::from_data(golden.values("t").unwrap(), &device);
    let mut condition = Condition {
        t: Some(t),
        ..Condition::default()
    };
    if golden.tensors().iter().any(|tensor| tensor.name == "y") {
        let label: Tensor<1> = Tensor::from_data(golden.values("y").unwrap(), &device);
        condition = condition.with_label(label.int() as Tensor<1, Int>);
    }
    let image = Tensor::from_data(golden.values("x").unwrap(), &device);
    Case {
        network,
        golden,
        image,
        condition,
    }
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().try_into_vec().unwrap()
}

/// Largest absolute error over largest absolute value.
fn relative_error(found: &[f32], expected: &TensorData) -> f32 {
    let expected = expected.as_slice::<f32>().unwrap();
    assert_eq!(found.len(), expected.len());
    let scale = expected
        .iter()
        .fold(0f32, |most, value| most.max(value.abs()));
    let error = found
        .iter()
        .zip(expected)
        .fold(0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(found.iter().all(|value| value.is_finite()) && scale > 0.0);
    error / scale
}

fn hold(folder: &Path, weights: &str, case: &str) {
    let Case {
        network,
        golden,
        image,
        condition,
    } = open(folder, weights, case);
    let all = TapSet::all(&network.taps()).unwrap();
    let (taps, output) = network.forward_with_taps(image.clone(), &condition, &all);
    let blocks = golden
        .tensors()
        .iter()
        .filter(|tensor| tensor.name.starts_with("block_"))
        .count();
    assert_eq!(taps.len(), blocks, "{case}: every block is compared");
    let (mut worst, mut where_) = (0f32, String::new());
    let mut held = |name: String, found: Vec<f32>| {
        let error = relative_error(&found, &golden.values(&name).unwrap());
        assert!(
            error <= TOLERANCE,
            "{weights}, {name}: relative error {error:e} > {TOLERANCE:e}"
        );
        if error > worst {
            (worst, where_) = (error, name);
        }
    };
    for (info, (block, map)) in network.taps().iter().zip(taps) {
        let [_, channels, height, width] = map.dims();
        assert_eq!(
            (info.block, info.channels, info.height, info.width),
            (block, channels, height, width)
        );
        held(
            format!("block_{block:02}", block = block.get()),
            values(map),
        );
    }
    let tapped = values(output);
    held("out".into(), tapped.clone());
    println!("{weights}: {blocks} blocks and out, worst relative error {worst:.1e} at {where_}");

    // A plain forward is the same loop: the same bits.
    assert_eq!(
        tapped,
        values(network.forward(image.clone(), &condition)),
        "{case}"
    );

    // Early exit evaluates what it needs and no more.
    for last in [1, blocks / 2, blocks] {
        let wanted = TapSet::new([last], &network.taps()).unwrap();
        let before = blocks_evaluated();
        let taps = network.forward_taps(image.clone(), &condition, &wanted, None);
        assert_eq!(blocks_evaluated() - before, last, "{case}");
        let (_, map) = taps.into_iter().next().unwrap();
        let name = format!("block_{last:02}");
        assert!(relative_error(&values(map), &golden.values(&name).unwrap()) <= TOLERANCE);
    }
}

#[test]
fn every_block_is_the_reference_s() {
    for (weights, case) in COMMITTED {
        hold(&committed(), weights, case);
    }
}

/// The full set, which is too large to be kept beside the code.
#[test]
fn every_block_of_the_full_set_is_the_reference_s() {
    let Some(folder) = std::env::var_os("DIFFREP_GOLDEN").map(PathBuf::from) else {
        println!("skipped: DIFFREP_GOLDEN does not name a folder with the full golden set");
        return;
    };
    for (weights, case) in COMMITTED.into_iter().chain(FURTHER) {
        hold(&folder, weights, case);
    }
}
