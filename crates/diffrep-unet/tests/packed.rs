//! A network with packed weights against the same network without.

use burn::tensor::{Device, Distribution, Tensor};
use diffrep_taps::{BlockIndex, Condition, Encoder, TapSet};
use diffrep_unet::{Precision, UNet, UNetConfig, random_network};

/// Wide enough for the packed kernels, with both changes of resolution, attention and skip
/// connections that change channels.
fn network() -> UNet {
    let config = UNetConfig {
        image_size: 32,
        model_channels: 128,
        channel_mult: vec![1.0, 2.0],
        num_res_blocks: 1,
        attention_resolutions: vec![2],
        ..UNetConfig::mini()
    };
    random_network(&config, 3, &Device::flex()).unwrap()
}

fn image(batch: usize) -> Tensor<4> {
    let device = Device::flex();
    device.seed(1);
    let channels = UNetConfig::mini().in_channels;
    let normal = Distribution::Normal(0.0, 1.0);
    Tensor::random([batch, channels, 32, 32], normal, &device)
}

fn numbers(map: Tensor<4>) -> Vec<f32> {
    map.into_data().try_into_vec().unwrap()
}

fn condition() -> Condition {
    Condition::timestep(90.0, &Device::flex())
}

#[test]
fn every_block_agrees_with_the_plain_network() {
    let wanted = TapSet::all(&network().taps()).unwrap();
    let run = |network: UNet| network.forward_with_taps(image(2), &condition(), &wanted);
    let (plain, out) = run(network());
    let packed = network().packed();
    assert!(packed.is_packed() && !network().is_packed());
    // Packing again changes nothing.
    let (taps, packed_out) = run(packed.packed());
    let mut differs = false;
    let pairs = plain
        .into_iter()
        .zip(taps)
        .map(|((block, plain), (_, packed))| (block.to_string(), plain, packed));
    for (name, plain, packed) in pairs.chain([("out".to_string(), out, packed_out)]) {
        let (plain, packed) = (numbers(plain), numbers(packed));
        let scale = plain.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        let difference = plain.iter().zip(&packed).map(|(a, b)| (a - b).abs());
        let error = difference.fold(0.0f32, f32::max);
        assert!(error <= 3e-5 * scale, "{name}: {error} of {scale}");
        differs |= error > 0.0;
    }
    // On a processor with the kernels rounding tells that they were used.
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        assert!(differs, "nothing was packed");
    }
    let _ = differs;
}

#[test]
fn a_network_that_was_cut_off_gives_the_same_bits() {
    let last = BlockIndex::new(4).unwrap();
    let wanted = TapSet::new([2, 4], &network().taps()).unwrap();
    let run = |network: UNet| {
        let taps = network.forward_taps(image(1), &condition(), &wanted, None);
        let maps = taps.into_iter().map(|(_, map)| numbers(map));
        maps.collect::<Vec<_>>()
    };
    assert!(run(network().packed()) == run(network().up_to(last).packed()));
}

#[test]
#[should_panic(expected = "before its weights are packed")]
fn precision_is_chosen_before_packing() {
    let _ = network().packed().with_precision(Precision::Bf16);
}

#[test]
#[should_panic(expected = "has no gradients")]
fn a_packed_network_does_not_meet_autodiff() {
    let device = Device::flex().autodiff();
    let image = Tensor::<4>::ones(image(1).dims(), &device);
    let wanted = TapSet::new([2], &network().taps()).unwrap();
    let condition = Condition::timestep(90.0, &device);
    network()
        .packed()
        .forward_taps(image, &condition, &wanted, None);
}
