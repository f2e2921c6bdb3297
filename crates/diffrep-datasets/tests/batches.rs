//! Network inputs and batches.

use std::fs;

use diffrep_datasets::{
    BatchPlan, Channels, Dataset, DatasetError, Fit, Image, OnError, Pixels, Prefetcher,
    Preprocess, Split, load_batch, load_batch_or_skip, open, to_unit_range,
};

/// Grey 2x2 images; image `i` holds `4i..4i+4`.
fn small(count: usize) -> Dataset {
    let pixels = Pixels {
        height: 2,
        width: 2,
        channels: 1,
        data: (0..count * 4).map(|sample| sample as u8).collect(),
    };
    let labels = (0..count).map(|index| index as u32 % 2).collect();
    let ids = (0..count).map(|index| 100 + index as u64).collect();
    Dataset::from_pixels(
        Split::Train,
        vec!["a".into(), "b".into()],
        labels,
        ids,
        pixels,
    )
}

fn exact(size: usize, channels: Channels) -> Preprocess {
    Preprocess {
        size,
        channels,
        fit: Fit::Exact,
    }
}

#[test]
fn samples_are_divided_then_shifted_in_f32() {
    assert_eq!([0, 255].map(to_unit_range), [-1.0, 1.0]);
    // 128 / 127.5 rounds before the subtraction.
    assert_eq!(
        to_unit_range(128).to_bits(),
        (128.0_f32 / 127.5 - 1.0).to_bits()
    );
    assert!((0..255).all(|value| to_unit_range(value) < to_unit_range(value + 1)));
}

#[test]
fn padding_centres_on_background() {
    let image = Image::new(28, 28, 1, vec![9; 28 * 28]);
    let preprocess = Preprocess {
        size: 32,
        channels: Channels::Grey,
        fit: Fit::PadTo,
    };
    let padded = preprocess.apply(&image).unwrap();
    for (position, &sample) in padded.pixels().iter().enumerate() {
        let inside = (2..30).contains(&(position % 32)) && (2..30).contains(&(position / 32));
        assert_eq!(sample, if inside { 9 } else { 0 });
    }
    let large = Image::new(33, 40, 1, (0..33 * 40).map(|i| (i % 251) as u8).collect());
    let cropped = Preprocess {
        fit: Fit::CenterCrop,
        ..preprocess
    };
    assert_eq!(
        preprocess.apply(&large).unwrap().pixels(),
        cropped.apply(&large).unwrap().pixels()
    );
    let error = exact(2, Channels::Grey).apply(&image).unwrap_err();
    assert_eq!(
        error.to_string(),
        "an image of 28x28 pixels does not fit: expected exactly 2x2"
    );
}

#[test]
fn colour_becomes_grey_only_on_request() {
    let colour = Image::new(1, 1, 3, vec![255, 0, 0]);
    let error = exact(1, Channels::Grey).apply(&colour).unwrap_err();
    assert!(matches!(error, DatasetError::ColourImage));
    assert_eq!(
        exact(1, Channels::GreyFromColour)
            .apply(&colour)
            .unwrap()
            .pixels(),
        [76]
    );
    let grey = Image::new(1, 1, 1, vec![7]);
    assert_eq!(
        exact(1, Channels::Rgb).apply(&grey).unwrap().pixels(),
        [7, 7, 7]
    );
}

#[test]
fn planes_come_one_after_another_and_flip_with_the_image() {
    let image = Image::new(2, 2, 3, (0..12).collect());
    let preprocess = exact(2, Channels::Rgb);
    let mut out = vec![0.0; 12];
    preprocess.write(&image, false, &mut out).unwrap();
    assert_eq!(
        out,
        [0, 3, 6, 9, 1, 4, 7, 10, 2, 5, 8, 11].map(to_unit_range)
    );
    let mut mirrored = vec![0.0; 12];
    preprocess.write(&image, true, &mut mirrored).unwrap();
    preprocess.write(&image.flipped(), false, &mut out).unwrap();
    assert_eq!(mirrored, out);
    assert_eq!(mirrored[..2], [3, 0].map(to_unit_range));
}

#[test]
fn a_batch_is_its_images_in_the_order_asked_for() {
    let dataset = small(50);
    let preprocess = exact(2, Channels::Grey);
    let indices = [49, 0, 7, 7];
    let flips = [false, true, false, true];
    let mut batch = vec![0.0; 16];
    load_batch(&dataset, &preprocess, &indices, Some(&flips), &mut batch).unwrap();
    let expected = [
        196, 197, 198, 199, 1, 0, 3, 2, 28, 29, 30, 31, 29, 28, 31, 30,
    ];
    assert_eq!(batch, expected.map(to_unit_range));

    let error = load_batch(
        &dataset,
        &exact(3, Channels::Grey),
        &[5],
        None,
        &mut [0.0; 9],
    )
    .unwrap_err();
    assert!(
        error.to_string().contains("number 5 of the train split"),
        "{error}"
    );
}

#[test]
fn skipped_samples_leave_no_gap() {
    let folder = tempfile::tempdir().unwrap();
    for name in 0..4 {
        let path = folder.path().join(format!("a/{name}.png"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        image::GrayImage::from_pixel(1, 1, image::Luma([name]))
            .save(&path)
            .unwrap();
    }
    fs::write(folder.path().join("a/1.png"), "damaged").unwrap();
    let dataset = open(folder.path(), Split::Train).unwrap();
    let preprocess = exact(1, Channels::Grey);
    let mut batch = [0.0; 4];
    let indices = [3, 1, 0, 2];
    let load = |on_error, out: &mut [f32]| {
        load_batch_or_skip(&dataset, &preprocess, &indices, None, on_error, out)
    };
    let loaded = load(OnError::Skip, &mut batch).unwrap();
    assert_eq!(loaded.indices, [3, 0, 2]);
    assert_eq!(batch[..3], [3, 0, 2].map(to_unit_range));
    assert_eq!(loaded.skipped.len(), 1);
    assert_eq!(
        (loaded.skipped[0].index, loaded.skipped[0].id),
        (1, dataset.id(1))
    );
    assert!(
        load(OnError::Fail, &mut batch)
            .unwrap_err()
            .to_string()
            .contains("a/1.png")
    );
}

#[test]
fn all_bad_samples_are_counted_and_the_first_are_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    for name in 10..40 {
        fs::write(folder.path().join(format!("a/{name}.png")), "damaged").unwrap();
    }
    image::GrayImage::from_pixel(1, 1, image::Luma([5]))
        .save(folder.path().join("a/40.png"))
        .unwrap();
    let dataset = open(folder.path(), Split::Train).unwrap();
    let indices: Vec<usize> = (5..31).collect();
    let mut batch = [0.0; 26];
    let error = load_batch(
        &dataset,
        &exact(1, Channels::Grey),
        &indices,
        None,
        &mut batch,
    )
    .unwrap_err();
    let message = error.to_string();
    assert!(
        message.starts_with("25 of 26 samples cannot be used"),
        "{message}"
    );
    // Those asked for, in the order asked for, and no more than twenty.
    for number in 10..41 {
        let named = message.contains(&format!("a/{number}.png is neither"));
        assert_eq!(named, (15..35).contains(&number), "{number}: {message}");
    }
    assert!(message.ends_with("and 5 more"), "{message}");
    let (kept, skipped) = diffrep_datasets::check(&dataset, OnError::Skip).unwrap();
    assert_eq!((kept.len(), skipped.len()), (1, 30));
}

fn plans(count: usize) -> impl Iterator<Item = BatchPlan> + Send + 'static {
    (0..count).map(move |batch| BatchPlan {
        indices: vec![(batch * 7) % count, batch],
        flips: Some(vec![batch % 2 == 0, false]),
    })
}

#[test]
fn prefetched_batches_keep_their_order_and_content() {
    let dataset = small(60);
    let preprocess = exact(2, Channels::Rgb);
    for depth in [0, 1, 100] {
        let fetched = Prefetcher::new(dataset.clone(), preprocess, plans(60), OnError::Fail, depth);
        let batches: Vec<_> = fetched.collect::<Result<_, _>>().unwrap();
        assert_eq!(batches.len(), 60);
        for (batch, plan) in batches.iter().zip(plans(60)) {
            let mut expected = vec![0.0; 2 * preprocess.len()];
            load_batch(
                &dataset,
                &preprocess,
                &plan.indices,
                plan.flips.as_deref(),
                &mut expected,
            )
            .unwrap();
            assert_eq!(batch.indices, plan.indices);
            assert_eq!(batch.images, expected);
            assert_eq!(batch.ids[1], 100 + plan.indices[1] as u64);
            assert_eq!(batch.labels[1], dataset.label(plan.indices[1]));
        }
    }
}

#[test]
fn a_prefetcher_stops_after_an_error_and_when_dropped() {
    let dataset = small(4);
    let mut failing = Prefetcher::new(
        dataset.clone(),
        exact(3, Channels::Grey),
        plans(4),
        OnError::Fail,
        1,
    );
    assert!(failing.next().unwrap().is_err());
    assert!(failing.next().is_none());

    let endless = std::iter::repeat_with(|| BatchPlan {
        indices: vec![0],
        flips: None,
    });
    let mut fetched = Prefetcher::new(dataset, exact(2, Channels::Grey), endless, OnError::Fail, 2);
    assert_eq!(fetched.next().unwrap().unwrap().labels, [0]);
    drop(fetched);
}

#[test]
#[should_panic(expected = "index out of bounds")]
fn a_panic_in_the_thread_is_passed_on() {
    let plan = BatchPlan {
        indices: vec![9],
        flips: None,
    };
    Prefetcher::new(small(2), exact(2, Channels::Grey), [plan], OnError::Fail, 1).for_each(drop);
}
