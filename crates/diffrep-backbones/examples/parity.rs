//! Every tap of a network at full size against its reference library:
//!
//!     python fixtures/parity/backbones.py full OUT resnet50
//!     cargo run --release -p diffrep-backbones --example parity OUT/resnet50.safetensors
//!
//! Prints the largest error of each tap relative to the tap's largest value, plain and packed, and the
//! seconds that a forward takes; fails beyond 1e-4.
#![allow(clippy::print_stdout, reason = "an example is read on a terminal")]

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{DType, Device, Tensor, TensorData};
use diffrep_backbones::{Backbone, BackboneConfig, named_tensors, plan, with_state_dict};
use diffrep_taps::{Condition, Encoder, TapSet};
use safetensors::SafeTensors;

const TOLERANCE: f32 = 1e-4;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("which file?")?;
    let path = Path::new(&path);
    let name = path
        .file_stem()
        .and_then(|stem| stem.to_str())
        .unwrap_or_default();
    let config = BackboneConfig::preset(name)
        .ok_or_else(|| format!("{name} is not among {:?}", BackboneConfig::preset_names()))?
        .with_classes(Some(1000));
    let bytes = std::fs::read(path)?;
    let file = SafeTensors::deserialize(&bytes)?;
    let data = |name: &str| -> Result<TensorData, safetensors::SafeTensorError> {
        let view = file.tensor(name)?;
        let shape = view.shape().to_vec();
        Ok(TensorData::from_bytes_vec(
            view.data().to_vec(),
            shape,
            DType::F32,
        ))
    };
    let device = Device::flex();
    let network = filled(config.blank(&device)?, &file)?;
    let image = Tensor::from_data(data("x")?, &device);
    let plain = outputs(&network, image.clone());
    let packed = outputs(&network.packed(), image);
    let mut worst = 0.0f32;
    println!("tap                 plain     packed");
    for ((tap, plain), packed) in plain.iter().zip(packed.values()) {
        let expected = data(&format!("tap_{:02}", tap.0))?;
        let [plain, packed] = [plain, packed].map(|found| off(found, &expected));
        worst = worst.max(plain).max(packed);
        println!("{:16} {plain:10.2e} {packed:10.2e}", tap.1);
    }
    match worst < TOLERANCE {
        true => Ok(()),
        false => Err(format!("off by {worst:e}").into()),
    }
}

/// The network with the weights `w.NAME` of the file.
fn filled(network: Backbone, file: &SafeTensors<'_>) -> Result<Backbone, Box<dyn Error>> {
    let wanted = named_tensors(&network);
    let names = file.names();
    let plan = plan(
        names.iter().filter_map(|name| name.strip_prefix("w.")),
        &wanted,
    )?;
    Ok(with_state_dict(network, |key| {
        let source = format!("w.{}", plan.sources[key][0]);
        let view = file.tensor(&source).expect("a name of the file");
        let shape = view.shape().to_vec();
        Some(TensorData::from_bytes_vec(
            view.data().to_vec(),
            shape,
            DType::F32,
        ))
    }))
}

/// All tokens of a transformer and the maps of other networks, by number and name of the tap, in rows.
fn outputs(network: &Backbone, image: Tensor<4>) -> BTreeMap<(usize, String), Tensor<1>> {
    let infos = network.taps();
    let all = TapSet::all(&infos).expect("a network has blocks");
    let found = run(network, image.clone(), &all);
    let mut seconds = f64::INFINITY;
    for _ in 0..5 {
        let start = Instant::now();
        run(network, image.clone(), &all);
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    println!("{seconds:.3} s, the least of five");
    let keys = infos.into_iter().map(|info| (info.block.get(), info.name));
    keys.zip(found).collect()
}

fn run(network: &Backbone, image: Tensor<4>, wanted: &TapSet) -> Vec<Tensor<1>> {
    match network {
        Backbone::ViT(vit) => {
            let tokens = vit.forward_tokens(image, wanted);
            let flat = tokens.into_values().map(|tokens| tokens.flatten(0, 2));
            flat.collect()
        }
        other => {
            let taps = other.forward_taps(image, &Condition::default(), wanted, None);
            taps.into_iter().map(|(_, map)| map.flatten(0, 3)).collect()
        }
    }
}

/// The largest error relative to the largest value.
fn off(found: &Tensor<1>, expected: &TensorData) -> f32 {
    let expected = expected.as_slice::<f32>().expect("a file of f32");
    let found = found.to_data();
    let found = found.as_slice::<f32>().expect("a network of f32");
    assert_eq!(found.len(), expected.len());
    let largest = expected
        .iter()
        .fold(0.0f32, |most, value| most.max(value.abs()));
    let pairs = found.iter().zip(expected);
    // NaN must not pass as small.
    let worst = pairs
        .map(|(a, b)| (a - b).abs())
        .fold(0.0f32, |most, value| {
            if value > most || value.is_nan() {
                value
            } else {
                most
            }
        });
    worst / largest
}
