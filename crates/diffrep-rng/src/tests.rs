use proptest::prelude::*;

use super::*;

/// Known answers from Random123's `kat_vectors` for philox4x32-10.
#[test]
fn philox_matches_published_vectors() {
    assert_eq!(
        philox4x32_10([0; 4], [0; 2]),
        [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
    );
    assert_eq!(
        philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
        [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
    );
    assert_eq!(
        philox4x32_10(
            [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
            [0xa409_3822, 0x299f_31d0]
        ),
        [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
    );
}

/// Pins contract 1: these bits are in every store ever written under it.
#[test]
fn contract_one_is_pinned() {
    assert_eq!(CONTRACT, 1);
    let mut noise = [0.0f32; 3];
    Key::new(42, Stream::Noise)
        .sample(7)
        .draw(1)
        .t(90)
        .fill_normal(&mut noise);
    assert_eq!(noise.map(f32::to_bits), PINNED, "{noise:?}");
}

const PINNED: [u32; 3] = [1_052_548_862, 3_213_592_643, 3_206_381_880];

fn normals(count: usize, key: Key) -> Vec<f64> {
    let mut out = vec![0.0f32; count];
    key.fill_normal(&mut out);
    out.into_iter().map(f64::from).collect()
}

#[test]
fn normals_have_normal_moments_and_tails() {
    let n = 1_000_000;
    let z = normals(n, Key::new(1, Stream::Noise));
    let mean = z.iter().sum::<f64>() / n as f64;
    let moment = |p: i32| z.iter().map(|v| (v - mean).powi(p)).sum::<f64>() / n as f64;
    let variance = moment(2);
    // Five standard errors each: se(mean) = 1/sqrt(n), se(var) = sqrt(2/n), se(kurtosis) = sqrt(96/n).
    let root = (n as f64).sqrt();
    assert!(mean.abs() < 5.0 / root, "mean {mean}");
    assert!(
        (variance - 1.0).abs() < 5.0 * 2f64.sqrt() / root,
        "variance {variance}"
    );
    assert!(
        (moment(3)).abs() < 5.0 * 15f64.sqrt() / root,
        "skew {}",
        moment(3)
    );
    assert!(
        (moment(4) - 3.0).abs() < 5.0 * 96f64.sqrt() / root,
        "kurtosis {}",
        moment(4)
    );
    for (bound, probability) in [
        (1.0f64, 0.317_310_5f64),
        (2.0, 0.045_500_3),
        (3.0, 0.002_699_8),
    ] {
        let share = z.iter().filter(|v| v.abs() > bound).count() as f64 / n as f64;
        let error = (probability * (1.0 - probability)).sqrt() / root;
        assert!(
            (share - probability).abs() < 5.0 * error,
            "tail {bound}: {share}"
        );
    }
}

#[test]
fn neighbouring_keys_are_uncorrelated() {
    let n = 100_000;
    let base = Key::new(3, Stream::Noise).sample(10).draw(1).t(90);
    let z = normals(n, base);
    let others = [
        ("seed", Key { seed: 4, ..base }),
        (
            "stream",
            Key {
                stream: Stream::SampleInit,
                ..base
            },
        ),
        ("sample", base.sample(11)),
        ("draw", base.draw(2)),
        ("t", base.t(91)),
    ];
    for (name, key) in others {
        let w = normals(n, key);
        let correlation = z.iter().zip(&w).map(|(a, b)| a * b).sum::<f64>() / n as f64;
        assert!(
            correlation.abs() < 5.0 / (n as f64).sqrt(),
            "{name}: {correlation}"
        );
    }
    let lag = z.windows(2).map(|w| w[0] * w[1]).sum::<f64>() / n as f64;
    assert!(lag.abs() < 5.0 / (n as f64).sqrt(), "lag 1: {lag}");
}

proptest! {
    #[test]
    fn a_prefix_does_not_depend_on_the_length(seed: u64, sample: u64, length in 1usize..64) {
        let key = Key::new(seed, Stream::Noise).sample(sample);
        let (mut short, mut long) = (vec![0.0; length], vec![0.0; 64]);
        key.fill_normal(&mut short);
        key.fill_normal(&mut long);
        prop_assert_eq!(&short[..], &long[..length]);
        prop_assert!(long.iter().all(|z| z.is_finite()));
    }

    #[test]
    fn below_stays_below(seed: u64, n in 1u64..) {
        let mut generator = Key::new(seed, Stream::Split).generator();
        for _ in 0..8 {
            prop_assert!(generator.below(n) < n);
        }
    }

    #[test]
    fn shuffle_keeps_every_item(seed: u64, n in 0usize..200) {
        let mut items: Vec<usize> = (0..n).collect();
        Key::new(seed, Stream::Order).generator().shuffle(&mut items);
        items.sort_unstable();
        prop_assert_eq!(items, (0..n).collect::<Vec<_>>());
    }
}

#[test]
fn uniform_fills_its_range_evenly() {
    let mut generator = Key::new(9, Stream::Timestep).generator();
    let mut bins = [0u32; 20];
    for _ in 0..200_000 {
        bins[(generator.uniform() * 20.0) as usize] += 1;
    }
    // Chi-square with 19 degrees of freedom: 43.8 is the 0.1 % point.
    let chi: f64 = bins
        .iter()
        .map(|&c| (f64::from(c) - 10_000.0).powi(2) / 10_000.0)
        .sum();
    assert!(chi < 43.8, "{chi}");
}

#[test]
fn log_uniform_lies_evenly_on_both_sides_of_the_geometric_mean() {
    let mut generator = Key::new(10, Stream::Crop).generator();
    let count = 20_000;
    let (mut below, mut ends) = (0, 0);
    for _ in 0..count {
        let ratio = generator.log_uniform(0.25, 4.0);
        assert!((0.25..=4.0).contains(&ratio), "{ratio}");
        below += i32::from(ratio < 1.0);
        ends += i32::from(ratio < 0.5);
    }
    // Five standard errors of a share among 20,000.
    let share = |hits: i32| f64::from(hits) / f64::from(count);
    assert!((share(below) - 0.5).abs() < 0.018, "{below}");
    assert!((share(ends) - 0.25).abs() < 0.016, "{ends}");
}
