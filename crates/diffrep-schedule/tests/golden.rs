//! The schedule against values of the reference implementation (fixtures/golden/README.md).

use burn::tensor::{Device, Tensor, TensorData};
use diffrep_schedule::*;
use safetensors::SafeTensors;

fn file() -> Vec<u8> {
    let path = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/golden/diffusion.safetensors"
    );
    std::fs::read(path).unwrap()
}

fn f64s(file: &SafeTensors<'_>, name: &str) -> Vec<f64> {
    let bytes = file.tensor(name).unwrap().data();
    bytes
        .chunks_exact(8)
        .map(|b| f64::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn i64s(file: &SafeTensors<'_>, name: &str) -> Vec<usize> {
    let bytes = file.tensor(name).unwrap().data();
    bytes
        .chunks_exact(8)
        .map(|b| i64::from_le_bytes(b.try_into().unwrap()) as usize)
        .collect()
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let bytes = file.tensor(name).unwrap().data();
    bytes
        .chunks_exact(4)
        .map(|b| f32::from_le_bytes(b.try_into().unwrap()))
        .collect()
}

fn image(file: &SafeTensors<'_>, name: &str) -> Tensor<4> {
    let shape: [usize; 4] = file.tensor(name).unwrap().shape().try_into().unwrap();
    Tensor::from_data(TensorData::new(f32s(file, name), shape), &Device::flex())
}

fn check_vector(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (t, (a, b)) in found.iter().zip(expected).enumerate() {
        let error = (a - b).abs() / b.abs().max(f64::MIN_POSITIVE);
        assert!(
            a == b || error <= tolerance,
            "{what}[{t}]: {a} instead of {b} ({error:e})"
        );
    }
}

/// Largest absolute error over largest absolute value.
fn check_tensor(found: Vec<f32>, expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    let error = found
        .iter()
        .zip(expected)
        .fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    assert!(
        error <= tolerance * scale,
        "{what}: error {error:e} at scale {scale}"
    );
}

fn values(tensor: Tensor<4>) -> Vec<f32> {
    tensor.into_data().try_into_vec::<f32>().unwrap()
}

#[test]
fn coefficients() {
    let bytes = file();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for (prefix, schedule, tolerance) in [
        ("linear1000", Schedule::linear(1000), 1e-12),
        ("linear100", Schedule::linear(100), 1e-12),
        ("cosine1000", Schedule::cosine(1000), 1e-10),
    ] {
        for (name, found) in [
            ("betas", &schedule.betas),
            ("alphas_cumprod", &schedule.alphas_cumprod),
            ("sqrt_alphas_cumprod", &schedule.sqrt_alphas_cumprod),
            (
                "sqrt_one_minus_alphas_cumprod",
                &schedule.sqrt_one_minus_alphas_cumprod,
            ),
            ("posterior_variance", &schedule.posterior_variance),
            (
                "posterior_log_variance_clipped",
                &schedule.posterior_log_variance_clipped,
            ),
            ("posterior_mean_coef1", &schedule.posterior_mean_coef1),
            ("posterior_mean_coef2", &schedule.posterior_mean_coef2),
        ] {
            let what = format!("{prefix}.{name}");
            check_vector(found, &f64s(&file, &what), tolerance, &what);
        }
    }
}

#[test]
fn respacing() {
    let bytes = file();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    for spec in ["250", "ddim25", "10,15,20", "1000"] {
        let kept = Spacing::parse(spec, 1000).unwrap().kept;
        assert_eq!(kept, i64s(&file, &format!("respace.{spec}")), "{spec}");
    }
    for (spec, hint) in [
        ("ddim333x", "number of steps"),
        ("ddim999", "no integer stride"),
        ("2000", "2000 are asked for"),
        ("a,b", "neither"),
    ] {
        let message = Spacing::parse(spec, 1000).unwrap_err().to_string();
        assert!(message.contains(hint), "{message}");
    }
    assert_eq!(
        Schedule::linear(1000).check(1000).unwrap_err().to_string(),
        "timestep 1000 is out of range: this schedule has timesteps 0..=999"
    );
}

#[test]
fn noising_and_stepping_back() {
    let bytes = file();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let t = i64s(&file, "t");
    let full = Schedule::linear(1000);
    let x_t = q_sample(&full, image(&file, "x0"), &t, image(&file, "eps"));
    check_tensor(values(x_t), &f32s(&file, "q_sample"), 1e-6, "q_sample");

    let x_t = image(&file, "q_sample");
    let spaced = respaced(&full, &Spacing::parse("250", 1000).unwrap()).unwrap();
    for (prefix, schedule) in [("full", &full), ("spaced250", &spaced)] {
        let p = Prediction::new(
            schedule,
            x_t.clone(),
            &t,
            image(&file, "model_out"),
            VarianceKind::LearnedRange,
            true,
        );
        let expect = |name: &str| f32s(&file, &format!("{prefix}.p.{name}"));
        check_tensor(values(p.x0.clone()), &expect("pred_xstart"), 1e-5, "x0");
        check_tensor(values(p.mean.clone()), &expect("mean"), 1e-5, "mean");
        check_tensor(
            values(p.log_variance.clone()),
            &expect("log_variance"),
            1e-6,
            "log variance",
        );
        check_tensor(
            values(p.log_variance.clone().exp()),
            &expect("variance"),
            1e-5,
            "variance",
        );
        if prefix == "full" {
            let noise = image(&file, "noise");
            let next = ddpm_step(&p, &t, noise.clone());
            check_tensor(
                values(next),
                &f32s(&file, "full.p_sample"),
                1e-5,
                "p_sample",
            );
            let next = ddim_step(schedule, &p, &t, 0.0, None);
            check_tensor(values(next), &f32s(&file, "full.ddim_eta0"), 1e-5, "ddim 0");
            let next = ddim_step(schedule, &p, &t, 0.5, Some(noise));
            check_tensor(
                values(next),
                &f32s(&file, "full.ddim_eta0.5"),
                1e-5,
                "ddim 0.5",
            );
        }
    }
}

#[test]
fn hybrid_loss() {
    let bytes = file();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let t = i64s(&file, "t");
    let schedule = Schedule::linear(1000);
    let (x0, x_t, output) = (
        image(&file, "x0"),
        image(&file, "q_sample"),
        image(&file, "model_out"),
    );
    let p = Prediction::new(
        &schedule,
        x_t.clone(),
        &t,
        output,
        VarianceKind::LearnedRange,
        false,
    );
    let vb = variational_bound(&schedule, x0, x_t, &t, &p);
    // RESCALED_MSE multiplies the bound by T / 1000 = 1.
    let vb = vb.into_data().try_into_vec::<f32>().unwrap();
    check_tensor(vb, &f32s(&file, "full.loss.vb"), 1e-5, "vb");
}

#[test]
fn scaled_linear_has_evenly_spaced_roots_between_its_ends() {
    let schedule = Schedule::scaled_linear(1000, 0.00085, 0.012).unwrap();
    let roots: Vec<f64> = schedule.betas.iter().map(|beta| beta.sqrt()).collect();
    let step = (0.012f64.sqrt() - 0.00085f64.sqrt()) / 999.0;
    for pair in roots.windows(2) {
        assert!((pair[1] - pair[0] - step).abs() < 1e-12);
    }
    assert!((schedule.betas[0] - 0.00085).abs() < 1e-15);
    assert!((schedule.betas[999] - 0.012).abs() < 1e-15);
    let linear = Schedule::linear_between(1000, 0.0001, 0.02).unwrap();
    assert_eq!(linear.betas, Schedule::linear(1000).betas);
    assert!(Schedule::linear_between(10, 0.1, 2.0).is_err());
}
