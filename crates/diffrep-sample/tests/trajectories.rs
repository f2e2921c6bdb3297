//! Whole trajectories from given noise against PyTorch's (fixtures/parity/sample.py).

use std::path::Path;

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_import::load;
use diffrep_sample::{Guide, SampleOptions, Sampler, trajectory};
use diffrep_schedule::{Schedule, Spacing, VarianceKind, respaced};
use diffrep_taps::Condition;
use safetensors::SafeTensors;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures");

fn tensor<const D: usize>(file: &SafeTensors<'_>, name: &str, device: &Device) -> Tensor<D> {
    let view = file.tensor(name).unwrap();
    let (bytes, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = bytes
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    Tensor::from_data(TensorData::new(values, view.shape().to_vec()), device)
}

#[test]
fn twenty_steps_end_where_pytorchs_end() {
    let device = Device::flex();
    let fixtures = Path::new(FIXTURES);
    let network = load(&fixtures.join("mini/model.safetensors"), None, &device)
        .unwrap()
        .network;
    let bytes = std::fs::read(fixtures.join("golden/sampling.safetensors")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let start: Tensor<4> = tensor(&file, "start", &device);
    let noise: Tensor<5> = tensor(&file, "noise", &device);
    let spacing = Spacing::parse("20", 1000).unwrap();
    let schedule = respaced(&Schedule::linear(1000), &spacing).unwrap();
    let predict =
        |x: Tensor<4>, t: &[usize]| network.forward(x, &Condition::timestep(t[0] as f32, &device));
    let guide = |x: Tensor<4>, t: &[usize]| x.tanh() * (0.3 * (1.0 + t[0] as f64 / 1000.0));
    let guide: Guide<'_> = &guide;
    for (name, sampler, guide) in [
        ("ddpm", Sampler::Ddpm, None),
        ("ddim", Sampler::Ddim { eta: 0.0 }, None),
        ("ddim_half", Sampler::Ddim { eta: 0.5 }, None),
        ("dpm_solver", Sampler::DpmSolver, None),
        ("ddpm_guided", Sampler::Ddpm, Some(guide)),
        ("ddim_guided", Sampler::Ddim { eta: 0.0 }, Some(guide)),
    ] {
        let options = SampleOptions {
            seed: 0,
            shape: [1, 32, 32],
            sampler,
            variance: VarianceKind::FixedSmall,
        };
        let step = |index: usize| {
            let [_, batch, channels, height, width] = noise.dims();
            let row = noise.clone().narrow(0, index, 1);
            row.reshape([batch, channels, height, width])
        };
        let start = start.clone();
        let found = trajectory(&schedule, &options, start, step, predict, guide, |_, _| {});
        let expected: Tensor<4> = tensor(&file, name, &device);
        // Rounding of 20 passes through 13 blocks in f32.
        let error: f32 = (found - expected).abs().max().into_scalar();
        assert!(error < 1e-3, "{name}: {error}");
    }
}
