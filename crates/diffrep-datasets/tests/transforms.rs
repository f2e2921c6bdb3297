//! What random crops and flips depend on, and how transforms are written down.

use diffrep_datasets::{
    Channels, Crop, Dataset, Draw, Filter, Fit, Image, Normalise, Pixels, Preprocess, RandomCrop,
    RandomResizedCrop, Split, Transform, View, load_transformed, load_views,
};
use diffrep_rng::{Key, Stream};
use proptest::prelude::*;

const TRAINING: Transform = Transform {
    size: 8,
    crop: Crop::Random {
        fractions: [0.8, 1.0],
    },
    flip: 0.5,
    normalise: Normalise::UnitRange,
};

/// Pictures of noise, 20 rows of 24 columns in colour, with ids from 100.
fn dataset(count: usize) -> Dataset {
    let mut generator = Key::new(5, Stream::Noise).generator();
    let pixels = Pixels {
        height: 20,
        width: 24,
        channels: 3,
        data: (0..count * 20 * 24 * 3)
            .map(|_| generator.next_u32() as u8)
            .collect(),
    };
    let ids = (100..).take(count).collect();
    Dataset::from_pixels(Split::Train, vec!["a".into()], vec![0; count], ids, pixels)
}

fn loaded(dataset: &Dataset, transform: &Transform, indices: &[usize], epoch: u32) -> Vec<f32> {
    let mut out = vec![0.0; indices.len() * transform.len()];
    load_transformed(dataset, transform, indices, 1, epoch, &mut out).unwrap();
    out
}

#[test]
fn a_sample_is_transformed_alike_wherever_it_stands() {
    let dataset = dataset(6);
    let together = loaded(&dataset, &TRAINING, &[0, 1, 2, 3, 4, 5], 3);
    let subset = dataset.subset(&[4, 2]);
    let alone = loaded(&subset, &TRAINING, &[0], 3);
    let len = TRAINING.len();
    assert_eq!(alone, together[4 * len..5 * len]);
    assert_ne!(alone, loaded(&subset, &TRAINING, &[0], 4), "epochs differ");
}

#[test]
fn a_view_is_the_transforms_crop_brought_to_the_networks_size() {
    let dataset = dataset(4);
    let preprocess = Preprocess {
        size: 8,
        channels: Channels::Rgb,
        fit: Fit::CenterCrop,
    };
    let fractions = [0.8, 1.0];
    let views = |indices: &[usize], flips: Option<&[bool]>, epoch: u32| {
        let mut out = vec![0.0; indices.len() * preprocess.len()];
        let view = View::Crop { fractions };
        load_views(
            &dataset,
            &preprocess,
            view,
            indices,
            flips,
            1,
            epoch,
            &mut out,
        )
        .unwrap();
        out
    };
    let plain = Transform {
        flip: 0.0,
        ..TRAINING
    };
    let all = views(&[0, 1, 2, 3], None, 2);
    assert_eq!(all, loaded(&dataset, &plain, &[0, 1, 2, 3], 2));
    assert_eq!(
        all[preprocess.len()..2 * preprocess.len()],
        views(&[1], None, 2)
    );
    assert_ne!(all, views(&[0, 1, 2, 3], None, 3));
    assert_eq!(
        views(&[2], Some(&[true]), 2),
        loaded(&dataset, &Transform { flip: 1.0, ..plain }, &[2], 2)
    );
    assert!(
        View::Crop {
            fractions: [0.0, 1.0]
        }
        .check()
        .unwrap_err()
        .contains("above 0")
    );
}

#[test]
fn a_view_of_a_small_image_is_padded_as_the_image_is() {
    let image = Image::new(28, 28, 1, vec![255; 28 * 28]);
    let preprocess = Preprocess {
        size: 32,
        channels: Channels::Grey,
        fit: Fit::PadTo,
    };
    for view in [
        View::Crop {
            fractions: [0.5, 0.9],
        },
        View::ResizedCrop { area: [0.1, 0.5] },
    ] {
        let draw = Draw {
            seed: 0,
            sample: 7,
            epoch: 0,
        };
        let part = view.of(&image, &preprocess, draw);
        assert_eq!((part.width(), part.height()), (28, 28));
        // White all over, within the same black frame.
        assert_eq!(
            preprocess.apply(&part).unwrap(),
            preprocess.apply(&image).unwrap()
        );
    }
}

#[test]
fn some_classes_are_numbered_anew_and_keep_their_ids() {
    let names = ["a", "b", "c"].map(String::from).to_vec();
    let pixels = Pixels {
        height: 1,
        width: 1,
        channels: 1,
        data: (0..6).collect(),
    };
    let whole = Dataset::from_pixels(
        Split::Test,
        names,
        vec![0, 1, 2, 2, 1, 0],
        (10..16).collect(),
        pixels,
    );
    let some = whole.only_classes(&["c".into(), "a".into()]).unwrap();
    assert_eq!(some.class_names(), ["c", "a"]);
    assert_eq!(
        (some.labels(), some.ids()),
        (&[1, 0, 0, 1][..], &[10, 12, 13, 15][..])
    );
    assert_ne!(some.fingerprint().unwrap(), whole.fingerprint().unwrap());
    for wrong in [vec!["d".to_string()], vec!["a".into(), "a".into()]] {
        let error = whole.only_classes(&wrong).unwrap_err().to_string();
        assert!(error.contains("a, b, c"), "{error}");
    }
}

#[test]
fn flips_mirror_the_same_crop_as_often_as_asked() {
    let image = dataset(1).image(0).unwrap();
    let with = |flip| Transform { flip, ..TRAINING };
    let mut mirrored = 0;
    for epoch in 0..400 {
        let draw = Draw {
            seed: 1,
            sample: 100,
            epoch,
        };
        let never = with(0.0).apply(&image, draw);
        assert_eq!(with(1.0).apply(&image, draw), never.flipped());
        mirrored += usize::from(with(0.25).apply(&image, draw) == never.flipped());
    }
    // 100 are expected; 5 standard deviations are 43.
    assert!((57..=143).contains(&mirrored), "{mirrored} of 400");
}

#[test]
fn written_inputs_are_the_normalised_crop() {
    let image = dataset(1).image(0).unwrap();
    let draw = Draw {
        seed: 2,
        sample: 7,
        epoch: 0,
    };
    let transform = Transform {
        crop: Crop::RandomResized(RandomResizedCrop::default()),
        flip: 1.0,
        normalise: Normalise::Clip,
        ..TRAINING
    };
    let mut out = vec![0.0; transform.len()];
    transform.write(&image, draw, &mut out);
    let crop = transform.apply(&image, draw);
    for (position, pixel) in crop.pixels().chunks_exact(3).enumerate() {
        for (channel, &sample) in pixel.iter().enumerate() {
            let expected = Normalise::Clip.value(channel, sample);
            assert_eq!(out[channel * 64 + position], expected);
        }
    }
}

#[test]
fn grey_images_become_colour_inputs() {
    let image = Image::new(30, 20, 1, (0..600).map(|value| value as u8).collect());
    let draw = Draw {
        seed: 0,
        sample: 0,
        epoch: 0,
    };
    for crop in [
        Crop::Center,
        TRAINING.crop,
        Crop::ResizeCenter {
            short_side: 9,
            filter: Filter::Bicubic,
        },
        Crop::RandomResized(RandomResizedCrop::default()),
    ] {
        let ours = Transform { crop, ..TRAINING }.apply(&image, draw);
        let in_colour = Transform { crop, ..TRAINING }.apply(&image.to_rgb(), draw);
        assert_eq!(ours, in_colour, "{crop:?}");
    }
}

#[test]
fn transforms_are_read_back_and_unknown_keys_refused() {
    let transform = Transform {
        size: 224,
        crop: Crop::ResizeCenter {
            short_side: 256,
            filter: Filter::Bicubic,
        },
        flip: 0.0,
        normalise: Normalise::ImageNet,
    };
    let text = serde_json::to_string(&transform).unwrap();
    assert_eq!(
        text,
        r#"{"size":224,"crop":{"resize_center":{"short_side":256,"filter":"bicubic"}},"flip":0.0,"normalise":"imagenet"}"#
    );
    assert_eq!(serde_json::from_str::<Transform>(&text).unwrap(), transform);
    let unknown = text.replace("flip", "flop");
    assert!(serde_json::from_str::<Transform>(&unknown).is_err());
}

proptest! {
    #[test]
    fn random_crops_lie_inside_and_cover_the_part_asked_for(
        seed: u64, width in 1usize..700, height in 1usize..700, size in 1usize..80,
    ) {
        let mut generator = Key::new(seed, Stream::Crop).generator();
        let crop = RandomCrop::draw(width, height, size, [0.8, 1.0], &mut generator);
        prop_assert!(crop.short_side >= size);
        prop_assert!(crop.short_side <= (size as f64 / 0.8).ceil() as usize);
        let image = Image::new(width, height, 1, vec![9; width * height]);
        let out = crop.apply(&image, size);
        prop_assert!(out.pixels().iter().all(|&sample| sample == 9), "a flat image stays flat");
    }
}
