//! Looking into a data set: every number, on data where each is known.

mod common;

use std::sync::Mutex;

use common::{png, write};
use diffrep_datasets::{
    Dataset, InspectOptions, Pixels, SheetOptions, Split, Spread, contact_sheet, inspect,
    inspect_datasets, open,
};
use tempfile::{TempDir, tempdir};

/// A grey PNG of some size.
fn grey(width: u32, height: u32, shade: u8) -> Vec<u8> {
    encode(
        image::GrayImage::from_pixel(width, height, image::Luma([shade])).into(),
        image::ImageFormat::Png,
    )
}

fn encode(image: image::DynamicImage, format: image::ImageFormat) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Three classes; the images are 3x2 in colour unless said otherwise.
fn folder() -> TempDir {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let jpeg = encode(
        image::RgbImage::from_pixel(40, 10, image::Rgb([9; 3])).into(),
        image::ImageFormat::Jpeg,
    );
    for (name, content) in [
        ("train/ant/1.png", png([1; 3])),
        ("train/ant/2.png", png([2; 3])),
        ("train/ant/3.png", grey(7, 5, 3)),
        ("train/bee/1.png", png([1; 3])),
        ("train/bee/2.png", b"not an image".to_vec()),
        ("train/bee/3.jpg", jpeg[..jpeg.len() - 2].to_vec()),
        ("train/cat/1.png", jpeg),
        ("train/cat/2.png", png([2; 3])),
        ("val/ant/1.png", png([2; 3])),
        ("val/ant/2.png", png([50; 3])),
        ("val/cat/1.png", png([51; 3])),
        ("val/cat/2.png", png([51; 3])),
    ] {
        write(&root.join(name), content);
    }
    folder
}

#[test]
fn samples_classes_sizes_and_kinds_are_counted() {
    let folder = folder();
    let found = inspect(folder.path(), &InspectOptions::default()).unwrap();
    assert_eq!(found.layout, "class folders below split folders");
    assert_eq!(found.class_names, ["ant", "bee", "cat"]);
    let [train, validation] = found.splits.as_slice() else {
        panic!("{:?}", found.splits);
    };
    assert_eq!((train.split, train.samples), (Split::Train, 8));
    assert_eq!(
        (validation.split, validation.samples),
        (Split::Validation, 4)
    );

    assert_eq!(train.classes.counts, [3, 3, 2]);
    assert_eq!(
        (train.classes.fewest, train.classes.fewest_names.as_slice()),
        (2, ["cat".to_owned()].as_slice())
    );
    assert_eq!(
        (train.classes.most, train.classes.most_names.join(" ")),
        (3, "ant bee".to_owned())
    );
    assert_eq!(validation.classes.counts, [2, 0, 2]);
    assert_eq!(validation.classes.fewest_names, ["bee"]);

    // Four of 3x2, one of 7x5, one of 40x10.
    let sizes = train.sizes.as_ref().unwrap();
    assert_eq!(
        sizes.width,
        Spread {
            min: 3,
            median: 3,
            max: 40
        }
    );
    assert_eq!(
        sizes.height,
        Spread {
            min: 2,
            median: 2,
            max: 10
        }
    );
    let common = sizes.most_common;
    assert_eq!((common.width, common.height, common.images), (3, 2, 4));

    let kinds: Vec<_> = train
        .kinds
        .iter()
        .map(|(kind, &count)| (kind.as_str(), count))
        .collect();
    assert_eq!(
        kinds,
        [
            ("JPEG, 3 channels", 1),
            ("PNG, 1 channel", 1),
            ("PNG, 3 channels", 4)
        ]
    );
}

#[test]
fn unreadable_files_are_counted_and_some_are_listed_with_reasons() {
    let folder = folder();
    let found = inspect(folder.path(), &InspectOptions::default()).unwrap();
    let train = &found.splits[0];
    assert_eq!((train.unreadable, found.splits[1].unreadable), (2, 0));
    assert_eq!(
        train
            .unreadable_listed
            .iter()
            .map(|bad| bad.index)
            .collect::<Vec<_>>(),
        [4, 5]
    );
    assert!(train.unreadable_listed[0].name.ends_with("bee/2.png"));
    assert!(
        train.unreadable_listed[0].reason.contains("first bytes"),
        "{}",
        train.unreadable_listed[0].reason
    );
    assert!(
        train.unreadable_listed[1].reason.contains("truncated"),
        "{}",
        train.unreadable_listed[1].reason
    );

    let options = InspectOptions {
        most_listed: 1,
        ..InspectOptions::default()
    };
    let found = inspect(folder.path(), &options).unwrap();
    assert_eq!(
        (
            found.splits[0].unreadable,
            found.splits[0].unreadable_listed.len()
        ),
        (2, 1)
    );
    assert_eq!(
        (found.duplicates.groups, found.duplicates.listed.len()),
        (3, 1)
    );
}

#[test]
fn duplicates_are_found_within_and_across_splits() {
    let folder = folder();
    let found = inspect(folder.path(), &InspectOptions::default())
        .unwrap()
        .duplicates;
    // 1: ant and bee of train. 2: ant and cat of train, ant of validation. 51: cat of validation, twice.
    assert_eq!((found.groups, found.surplus), (3, 4));
    assert_eq!((found.within_splits, found.across_splits), (3, 1));
    assert_eq!(found.with_different_labels, 2);
    let groups: Vec<_> = found
        .listed
        .iter()
        .map(|group| {
            let samples: Vec<_> = group
                .samples
                .iter()
                .map(|sample| (sample.split, sample.index, sample.class.as_str()))
                .collect();
            (group.same_label, group.total, samples)
        })
        .collect();
    let (train, validation) = (Split::Train, Split::Validation);
    assert_eq!(
        groups,
        [
            (false, 2, vec![(train, 0, "ant"), (train, 3, "bee")]),
            (
                false,
                3,
                vec![(train, 1, "ant"), (train, 7, "cat"), (validation, 0, "ant")]
            ),
            (
                true,
                2,
                vec![(validation, 2, "cat"), (validation, 3, "cat")]
            ),
        ]
    );
    assert!(found.listed[1].samples[2].name.ends_with("val/ant/1.png"));
}

#[test]
fn images_in_memory_are_compared_by_their_pixels() {
    let of = |split, shades: &[u8]| {
        let pixels = Pixels {
            height: 1,
            width: 2,
            channels: 1,
            data: shades.iter().flat_map(|&shade| [shade; 2]).collect(),
        };
        let labels = vec![0; shades.len()];
        Dataset::from_pixels(
            split,
            vec!["a".into()],
            labels,
            (0..shades.len() as u64).collect(),
            pixels,
        )
    };
    let datasets = [of(Split::Train, &[1, 2, 3, 1]), of(Split::Test, &[4, 3])];
    let found = inspect_datasets("made here", &datasets, &InspectOptions::default());
    assert_eq!(found.layout, "made here");
    assert_eq!(found.splits[0].kinds["pixels, 1 channel"], 4);
    let duplicates = &found.duplicates;
    assert_eq!(
        (
            duplicates.groups,
            duplicates.within_splits,
            duplicates.across_splits
        ),
        (2, 1, 1)
    );
    assert_eq!(duplicates.with_different_labels, 0);
    assert!(
        duplicates.listed[0].samples[0]
            .name
            .contains("number 0 of the train split")
    );
}

#[test]
fn a_split_that_cannot_be_opened_is_told_and_the_others_are_inspected() {
    let folder = tempdir().unwrap();
    let root = folder.path();
    write(&root.join("1.png"), png([1; 3]));
    write(&root.join("train.csv"), "1.png,cat\n");
    write(&root.join("test.csv"), "1.png,dog\n");
    let found = inspect(root, &InspectOptions::default()).unwrap();
    assert_eq!(found.splits.len(), 1);
    assert_eq!(found.refused[0].split, Split::Test);
    assert!(
        found.refused[0].reason.contains("\"dog\""),
        "{}",
        found.refused[0].reason
    );

    write(&root.join("train.csv"), "../1.png,cat\n");
    assert!(
        inspect(root, &InspectOptions::default()).is_err(),
        "no split is left"
    );
}

#[test]
fn progress_counts_every_image_of_every_split() {
    let folder = folder();
    let seen = Mutex::new(Vec::new());
    let progress = |at: diffrep_datasets::InspectProgress| {
        seen.lock()
            .unwrap()
            .push((at.split as u8, at.done, at.total))
    };
    let options = InspectOptions {
        progress: Some(&progress),
        ..InspectOptions::default()
    };
    inspect(folder.path(), &options).unwrap();
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    let expected: Vec<_> = (1..=8)
        .map(|done| (0, done, 8))
        .chain((1..=4).map(|done| (1, done, 4)))
        .collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_report_is_plain_json() {
    let folder = folder();
    let found = inspect(folder.path(), &InspectOptions::default()).unwrap();
    let path = folder.path().join("report.json");
    diffrep_artifact::write_json_atomic(&path, &found).unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    for part in [
        "\"layout\": \"class folders below",
        "\"split\": \"validation\"",
        "\"across_splits\": 1",
        "\"JPEG, 3 channels\": 1",
        "\"median\": 3",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

fn pixel(sheet: &diffrep_datasets::Image, x: usize, y: usize) -> [u8; 3] {
    let start = (y * sheet.width() + x) * 3;
    sheet.pixels()[start..start + 3].try_into().unwrap()
}

#[test]
fn a_sheet_has_a_row_for_each_class_and_the_first_images_in_it() {
    let folder = folder();
    let train = open(folder.path(), Split::Train).unwrap();
    let options = SheetOptions {
        per_class: 2,
        most_classes: 3,
        thumbnail: 12,
        seed: None,
    };
    let sheet = contact_sheet(&train, &options).unwrap();
    // Two and three squares of 12 with gaps of 2 between and around.
    assert_eq!((sheet.width(), sheet.height()), (2 * 14 + 2, 3 * 14 + 2));
    assert_eq!(pixel(&sheet, 0, 0), [255; 3], "the gap is white");
    assert_eq!(pixel(&sheet, 8, 8), [1; 3], "ant/1.png");
    assert_eq!(pixel(&sheet, 22, 8), [2; 3], "ant/2.png");
    assert_eq!(pixel(&sheet, 8, 22), [1; 3], "bee/1.png");
    assert_eq!(
        pixel(&sheet, 22, 22),
        [255, 0, 255],
        "bee/2.png cannot be read"
    );
    // 3x2 becomes 12x8, so two lines above and below are background.
    assert_eq!(
        (pixel(&sheet, 2, 3), pixel(&sheet, 2, 4)),
        ([224; 3], [1; 3])
    );
    assert_eq!(
        (pixel(&sheet, 13, 11), pixel(&sheet, 13, 12)),
        ([1; 3], [224; 3])
    );

    let few = contact_sheet(
        &train,
        &SheetOptions {
            most_classes: 1,
            per_class: 4,
            ..options
        },
    )
    .unwrap();
    assert_eq!(few.height(), 16);
    assert_eq!(pixel(&few, 36, 8), [3; 3], "grey is shown as colour");
    assert_eq!(
        pixel(&few, 50, 8),
        [255; 3],
        "a class with fewer images leaves white"
    );
}

#[test]
fn a_seed_draws_the_same_images_again_and_another_seed_others() {
    let pixels = Pixels {
        height: 1,
        width: 1,
        channels: 1,
        data: (0..200).collect(),
    };
    let dataset = Dataset::from_pixels(
        Split::Train,
        vec!["a".into()],
        vec![0; 200],
        (0..200).collect(),
        pixels,
    );
    let sheet = |seed| {
        let options = SheetOptions {
            thumbnail: 1,
            seed,
            ..SheetOptions::default()
        };
        contact_sheet(&dataset, &options).unwrap().pixels().to_vec()
    };
    assert_eq!(sheet(Some(1)), sheet(Some(1)));
    assert_ne!(sheet(Some(1)), sheet(Some(2)));
    assert_ne!(sheet(Some(1)), sheet(None));
}

#[test]
fn sheets_of_no_size_and_of_impossible_sizes_are_refused() {
    let folder = folder();
    let train = open(folder.path(), Split::Train).unwrap();
    let usual = SheetOptions::default();
    for options in [
        SheetOptions {
            per_class: 0,
            ..usual
        },
        SheetOptions {
            most_classes: 0,
            ..usual
        },
        SheetOptions {
            thumbnail: 0,
            ..usual
        },
        SheetOptions {
            thumbnail: 1 << 20,
            ..usual
        },
        SheetOptions {
            per_class: usize::MAX,
            ..usual
        },
        SheetOptions {
            thumbnail: usize::MAX,
            ..usual
        },
    ] {
        let error = contact_sheet(&train, &options).unwrap_err();
        assert!(
            error.to_string().contains("at most 134217728 pixels"),
            "{error}"
        );
    }
}
