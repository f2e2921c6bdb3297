//! Sizes of the published networks, and what holds for any configuration of them.

use burn::tensor::{Device, Tensor};
use diffrep_latent::{
    FirstStageConfig, Latent, Latents, TextConfig, UNet, UNetConfig, named_tensors,
    parameter_count, randomised,
};
use diffrep_rng::{Key, Stream};
use diffrep_taps::{BlockIndex, Condition, Encoder, Feedback, TapSet, blocks_evaluated};

/// Channels, side at 512 pixels and cumulative parameters of the blocks of Stable Diffusion 1
/// (reference: the state dict of CompVis/stable-diffusion, counted in PyTorch).
const BLOCKS: [(usize, usize, usize); 25] = [
    (320, 64, 2_062_400),
    (320, 64, 6_863_680),
    (320, 64, 11_664_960),
    (320, 32, 12_586_880),
    (640, 32, 28_333_440),
    (640, 32, 45_718_400),
    (640, 16, 49_405_440),
    (1280, 16, 108_751_360),
    (1280, 16, 174_650_880),
    (1280, 8, 189_397_760),
    (1280, 8, 220_536_320),
    (1280, 8, 251_674_880),
    (1280, 8, 348_712_960),
    (1280, 8, 397_877_760),
    (1280, 8, 447_042_560),
    (1280, 16, 510_954_240),
    (1280, 16, 594_880_000),
    (1280, 16, 678_805_760),
    (1280, 32, 769_285_120),
    (640, 32, 795_274_880),
    (640, 32, 817_167_360),
    (640, 64, 840_698_240),
    (320, 64, 847_651_520),
    (320, 64, 853_580_160),
    (320, 64, 859_508_800),
];

#[test]
fn published_networks_have_their_published_parameters() {
    let device = Device::flex();
    let first = UNetConfig::stable_diffusion_1().blank(&device).unwrap();
    let second = UNetConfig::stable_diffusion_2().blank(&device).unwrap();
    assert_eq!(parameter_count(&first), 859_520_964);
    assert_eq!(parameter_count(&second), 865_910_724);
    assert_eq!(named_tensors(&first).len(), 686);
    assert_eq!(named_tensors(&second).len(), 686);
    let taps = first.taps();
    assert_eq!(taps.len(), BLOCKS.len());
    for (tap, (channels, side, up_to)) in taps.iter().zip(BLOCKS) {
        assert_eq!(
            (tap.channels, tap.height, tap.width),
            (channels, side, side)
        );
        assert_eq!(first.parameters_up_to(tap.block), up_to, "{}", tap.name);
    }
    assert_eq!(taps[17].name, "output_blocks.4");

    // Encoder and 1x1 convolution of the VAE.
    let vae = FirstStageConfig::kl_f8().blank(&device).unwrap();
    assert_eq!(parameter_count(&vae), 34_163_592 + 72);
    let clip = TextConfig::clip_l().blank(&device).unwrap();
    assert_eq!(parameter_count(&clip), 123_060_480);
    let open_clip = TextConfig::open_clip_h().blank(&device).unwrap();
    assert_eq!(parameter_count(&open_clip), 340_387_840);
}

fn small() -> UNetConfig {
    UNetConfig {
        sample_size: 8,
        block_out_channels: vec![8, 16, 16],
        attention: vec![true, true, false],
        heads: vec![2, 4, 2],
        cross_attention_dim: 12,
        norm_num_groups: 4,
        ..UNetConfig::stable_diffusion_1()
    }
}

fn network() -> UNet {
    randomised(small().blank(&Device::flex()).unwrap(), 3)
}

fn condition(device: &Device) -> Condition {
    let numbers = Tensor::<1, burn::tensor::Int>::arange(0..5 * 12, device).float();
    Condition {
        context: Some(numbers.sin().reshape([1, 5, 12])),
        ..Condition::timestep(150.0, device)
    }
}

fn latents(batch: usize, device: &Device) -> Tensor<4> {
    let keys: Vec<Key> = (0..batch as u64)
        .map(|id| Key::new(0, Stream::Noise).sample(id))
        .collect();
    diffrep_schedule::noise_batch(&keys, [4, 8, 8], device)
}

fn largest(map: Tensor<4>) -> f32 {
    map.abs().max().into_scalar()
}

#[test]
fn stopping_early_changes_no_bit_and_evaluates_no_block_too_many() {
    let device = Device::flex();
    let (network, condition) = (network(), condition(&device));
    let infos = network.taps();
    let all = TapSet::all(&infos).unwrap();
    let (taps, output) = network.forward_with_taps(latents(2, &device), &condition, Some(&all));
    assert_eq!(output.dims(), [2, 4, 8, 8]);
    for info in &infos {
        let found = taps.get(info.block).unwrap();
        let shape = [2, info.channels, info.height, info.width];
        assert_eq!(found.dims(), shape, "{}", info.name);
        let alone = TapSet::new([info.block.get()], &infos).unwrap();
        let before = blocks_evaluated();
        let cut = network.clone().up_to(info.block);
        let tap = cut.forward_taps(latents(2, &device), &condition, &alone, None);
        assert_eq!(blocks_evaluated() - before, info.block.get());
        let tap = tap.get(info.block).unwrap();
        assert_eq!(tap.to_data(), found.to_data(), "{}", info.name);
    }
}

#[test]
fn an_image_has_the_same_bits_in_any_batch() {
    let device = Device::flex();
    let (network, condition) = (network().packed(), condition(&device));
    let wanted = TapSet::all(&network.taps()).unwrap();
    let three = network.forward_taps(latents(3, &device), &condition, &wanted, None);
    let two = network.forward_taps(latents(2, &device), &condition, &wanted, None);
    for ((block, three), (_, two)) in three.into_iter().zip(two) {
        assert_eq!(
            three.narrow(0, 0, 2).into_data(),
            two.into_data(),
            "{block}"
        );
    }
}

#[test]
fn feedback_is_added_to_a_block_and_seen_through_its_skip_connection() {
    let device = Device::flex();
    let (network, condition) = (network(), condition(&device));
    let infos = network.taps();
    let all = TapSet::all(&infos).unwrap();
    let plain = network.forward_taps(latents(1, &device), &condition, &all, None);
    let second = BlockIndex::new(2).unwrap();
    let mut feedback = Feedback::default();
    let addend = Tensor::ones([1, 8, 4, 4], &device);
    feedback.addends.insert(second, addend);
    let fed = network.forward_taps(latents(1, &device), &condition, &all, Some(&feedback));
    let map = |taps: &diffrep_taps::Taps, block: BlockIndex| taps.get(block).unwrap().clone();
    // 1 is added and taken off again.
    assert!(largest(map(&fed, second) - map(&plain, second) - 1.0) < 1e-6);
    let last = infos.last().unwrap().block;
    assert!(largest(map(&fed, last) - map(&plain, last)) > 1e-4);
}

#[test]
fn the_text_is_read_and_one_row_serves_every_image() {
    let device = Device::flex();
    let (network, one) = (network(), condition(&device));
    let wanted = TapSet::new([9], &network.taps()).unwrap();
    let map = |condition: &Condition| {
        let mut taps = network.forward_taps(latents(2, &device), condition, &wanted, None);
        taps.remove(wanted.last()).unwrap()
    };
    let context = one.context.clone().unwrap();
    let each = Condition {
        context: Some(Tensor::cat(vec![context.clone(), context.clone()], 0)),
        ..one.clone()
    };
    assert!(largest(map(&one) - map(&each)) < 1e-6);
    let other = Condition {
        context: Some(context + 1.0),
        ..one.clone()
    };
    assert!(largest(map(&one) - map(&other)) > 1e-4);
}

#[test]
fn sampled_latents_are_a_function_of_the_images_key() {
    let device = Device::flex();
    let config = FirstStageConfig {
        image_size: 16,
        block_out_channels: vec![4, 8],
        layers_per_block: 1,
        norm_num_groups: 2,
        ..FirstStageConfig::kl_f8()
    };
    let mut latent = Latent {
        first_stage: randomised(config.blank(&device).unwrap(), 5).packed(),
        latents: Latents::Mean,
        network: network(),
        condition: condition(&device),
    };
    let image = Tensor::ones([2, 3, 16, 16], &device);
    let key = |id| Key::new(7, Stream::Noise).sample(id);
    let mean = latent.first_stage(image.clone(), &[key(0), key(1)]);
    assert_eq!(mean.dims(), [2, 4, 8, 8]);
    latent.latents = Latents::Sampled;
    let (both, swapped) = (
        latent.first_stage(image.clone(), &[key(0), key(1)]),
        latent.first_stage(image, &[key(1), key(0)]),
    );
    assert!(largest(both.clone() - mean) > 1e-3);
    let rows = |map: &Tensor<4>, row| map.clone().narrow(0, row, 1).into_data();
    assert_eq!(rows(&both, 0), rows(&swapped, 1));
    assert_ne!(rows(&both, 0), rows(&both, 1));
    // The context given with the network reaches it.
    let wanted = TapSet::all(&latent.taps()).unwrap();
    let t = Condition::timestep(10.0, &device);
    assert_eq!(latent.forward_taps(both, &t, &wanted, None).len(), 19);
}

#[test]
fn sizes_that_do_not_fit_are_refused_with_what_would() {
    let refused = |config: UNetConfig| config.blocks().unwrap_err().to_string();
    let told = refused(small().with_sample_size(10));
    assert!(
        told.contains("10 x 10") && told.contains("multiple of 4"),
        "{told}"
    );
    let told = refused(UNetConfig {
        heads: vec![3, 4, 2],
        ..small()
    });
    assert!(told.contains("3 heads"), "{told}");
    let told = refused(UNetConfig {
        attention: vec![true],
        ..small()
    });
    assert!(told.contains("3 levels"), "{told}");
    let vae = FirstStageConfig::kl_f8().with_image_size(100);
    let told = vae.blank(&Device::flex()).unwrap_err().to_string();
    assert!(told.contains("multiple of 8"), "{told}");
}
