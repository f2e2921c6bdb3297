//! Recognising layouts, ordering samples, and naming what is wrong.

use std::fs;
use std::path::Path;

use diffrep_datasets::idx::{Idx, write_idx_gz};
use diffrep_datasets::{
    Dataset, DatasetError, OnError, Split, available_splits, check, open, open_class_folders,
};
use tempfile::{TempDir, tempdir};

/// Writes a 3x2 PNG of one colour.
fn write_png(path: &Path, colour: [u8; 3]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let pixels = image::RgbImage::from_pixel(3, 2, image::Rgb(colour));
    pixels
        .save_with_format(path, image::ImageFormat::Png)
        .unwrap();
}

fn tree(files: &[&str]) -> TempDir {
    let folder = tempdir().unwrap();
    for (index, file) in files.iter().enumerate() {
        write_png(&folder.path().join(file), [index as u8, 0, 0]);
    }
    folder
}

fn names(dataset: &Dataset, root: &Path) -> Vec<String> {
    (0..dataset.len())
        .map(|index| {
            let path = dataset.path(index).unwrap();
            path.strip_prefix(root)
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned()
        })
        .collect()
}

fn write_idx(folder: &Path, split: &str, labels: &[u8], ids: Option<&[i32]>) {
    let count = labels.len();
    let images = Idx {
        dims: vec![count, 2, 2],
        data: (0..count * 4).map(|i| i as u8).collect(),
    };
    write_idx_gz(
        &folder.join(format!("{split}-images-idx3-ubyte.gz")),
        &images,
    )
    .unwrap();
    let column = Idx {
        dims: vec![count],
        data: labels.to_vec(),
    };
    write_idx_gz(
        &folder.join(format!("{split}-labels-idx1-ubyte.gz")),
        &column,
    )
    .unwrap();
    if let Some(ids) = ids {
        let column = Idx {
            dims: vec![ids.len()],
            data: ids.to_vec(),
        };
        write_idx_gz(&folder.join(format!("{split}-ids-idx1-int.gz")), &column).unwrap();
    }
}

#[test]
fn idx_files_give_images_labels_and_positions_as_ids() {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), "train", &[1, 0, 2], None);
    write_idx(folder.path(), "t10k", &[3, 1], Some(&[40, 7]));
    assert_eq!(
        available_splits(folder.path()).unwrap(),
        [Split::Train, Split::Test]
    );

    let train = open(folder.path(), Split::Train).unwrap();
    assert_eq!(train.labels(), [1, 0, 2]);
    assert_eq!(train.ids(), [0, 1, 2]);
    assert_eq!(
        train.class_names(),
        ["0", "1", "2", "3"],
        "all splits count"
    );
    assert_eq!(train.image(1).unwrap().pixels(), [4, 5, 6, 7]);
    assert_eq!(open(folder.path(), Split::Test).unwrap().ids(), [40, 7]);

    let error = open(folder.path(), Split::Validation).unwrap_err();
    assert!(
        error
            .to_string()
            .ends_with("has no validation split; it has: train, test"),
        "{error}"
    );
}

#[test]
fn idx_files_that_disagree_are_refused() {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), "train", &[0, 1, 2], Some(&[5, 6]));
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::CountMismatch {
                expected: 3,
                found: 2,
                ..
            }
        ),
        "{error:?}"
    );

    write_idx(folder.path(), "train", &[0, 1, 2], Some(&[5, 6, 5]));
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(
        matches!(error, DatasetError::DuplicateId { id: 5, .. }),
        "{error:?}"
    );

    write_idx(folder.path(), "train", &[0, 1, 2], Some(&[5, -6, 7]));
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::NegativeId {
                position: 1,
                id: -6,
                ..
            }
        ),
        "{error:?}"
    );

    write_idx(folder.path(), "train", &[0, 1, 2], Some(&[5, 6, 7]));
    fs::write(
        folder.path().join("dataset.json"),
        r#"{"classes": ["a", "b"]}"#,
    )
    .unwrap();
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::LabelRange {
                label: 2,
                classes: 2,
                ..
            }
        ),
        "{error:?}"
    );

    fs::write(folder.path().join("dataset.json"), "{").unwrap();
    assert!(
        open(folder.path(), Split::Train)
            .unwrap_err()
            .to_string()
            .contains("dataset.json")
    );

    fs::remove_file(folder.path().join("train-labels-idx1-ubyte.gz")).unwrap();
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(
        error.to_string().contains("train-labels-idx1-ubyte"),
        "{error}"
    );
}

#[test]
fn trees_are_ordered_like_image_folder() {
    let files = [
        "b/x.png",
        "a/z.png",
        "a/d/y.PNG",
        "a/d e/w.png",
        "a/notes.txt",
        "B/1.jpeg",
        ".git/0.png",
        "a/.z.png",
    ];
    let folder = tree(&files);
    let dataset = open(folder.path(), Split::Train).unwrap();
    assert_eq!(dataset.class_names(), ["B", "a", "b"]);
    // A space sorts before the slash that ends "a/d", as in the sorted walk of torchvision.
    let expected = ["B/1.jpeg", "a/z.png", "a/d/y.PNG", "a/d e/w.png", "b/x.png"];
    assert_eq!(names(&dataset, folder.path()), expected);
    assert_eq!(dataset.labels(), [0, 1, 1, 1, 2]);
    // The content decides: this one is named like a JPEG file.
    assert_eq!(dataset.image(0).unwrap().pixels()[..3], [5, 0, 0]);
    let error = open(folder.path(), Split::Test).unwrap_err();
    assert!(
        matches!(error, DatasetError::NoSuchSplit { .. }),
        "{error:?}"
    );
}

#[test]
fn ids_follow_the_relative_path_alone() {
    let whole = tree(&[
        "train/a/1.png",
        "train/a/2.png",
        "train/b/1.png",
        "val/b/1.png",
    ]);
    let part = tree(&["a/2.png", "b/0.png"]);
    let whole_ids = open(whole.path(), Split::Train).unwrap();
    let part_ids = open(part.path(), Split::Train).unwrap();
    assert_eq!(whole_ids.id(1), part_ids.id(0), "a/2.png");
    // printf %s a/2.png | sha256sum
    assert_eq!(part_ids.id(0), A2_ID);
}

/// The first 63 bits of the SHA-256 of `a/2.png`.
const A2_ID: u64 = 0x427c_7fac_01d7_6363 >> 1;

#[test]
fn splits_share_the_classes_of_training() {
    let folder = tree(&[
        "train/a/1.png",
        "train/b/1.png",
        "val/b/1.png",
        "test/b/9.png",
    ]);
    assert_eq!(available_splits(folder.path()).unwrap(), Split::ALL);
    let validation = open(folder.path(), Split::Validation).unwrap();
    assert_eq!(validation.class_names(), ["a", "b"]);
    assert_eq!(validation.labels(), [1]);

    write_png(&folder.path().join("val/c/1.png"), [0; 3]);
    let error = open(folder.path(), Split::Validation).unwrap_err();
    assert!(
        matches!(error, DatasetError::UnknownClass { known: 2, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("val/c"), "{error}");
}

#[test]
fn a_class_may_be_named_train() {
    let folder = tree(&["bus/1.png", "train/1.png"]);
    let dataset = open(folder.path(), Split::Train).unwrap();
    assert_eq!(dataset.class_names(), ["bus", "train"]);
}

#[test]
fn what_is_not_a_data_set_is_said_clearly() {
    let folder = tempdir().unwrap();
    let error = open(folder.path().join("absent"), Split::Train).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::Io {
                action: "opened",
                ..
            }
        ),
        "{error:?}"
    );
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(matches!(error, DatasetError::NoDataset { .. }), "{error:?}");
    let error = open_class_folders(folder.path(), Split::Test, None).unwrap_err();
    assert!(matches!(error, DatasetError::NoDataset { .. }), "{error:?}");

    write_png(&folder.path().join("flat.png"), [0; 3]);
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(matches!(error, DatasetError::NoDataset { .. }), "{error:?}");
    let error = open(folder.path().join("flat.png"), Split::Train).unwrap_err();
    assert!(
        matches!(error, DatasetError::NotAFolder { .. }),
        "{error:?}"
    );

    fs::create_dir(folder.path().join("empty class")).unwrap();
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(
        matches!(error, DatasetError::EmptyClass { .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("empty class"), "{error}");
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_loops_refused() {
    let folder = tree(&["a/1.png"]);
    let elsewhere = tree(&["1.png"]);
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("b")).unwrap();
    assert_eq!(open(folder.path(), Split::Train).unwrap().labels(), [0, 1]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("a/again")).unwrap();
    let error = open(folder.path(), Split::Train).unwrap_err();
    assert!(matches!(error, DatasetError::LinkLoop { .. }), "{error:?}");
}

#[test]
fn damaged_images_are_named_or_skipped_without_moving_the_others() {
    let folder = tree(&["a/1.png", "a/2.png", "b/3.png", "b/4.png", "b/5.png"]);
    let whole = open(folder.path(), Split::Train).unwrap();
    let bytes = fs::read(folder.path().join("a/2.png")).unwrap();
    fs::write(folder.path().join("a/2.png"), &bytes[..bytes.len() / 2]).unwrap();
    fs::write(folder.path().join("b/4.png"), "GIF89a, not supported").unwrap();

    let dataset = open(folder.path(), Split::Train).unwrap();
    let error = dataset.image(1).unwrap_err();
    assert!(matches!(error, DatasetError::Decode { .. }), "{error:?}");
    assert!(error.to_string().contains("a/2.png"), "{error}");
    let error = check(&dataset, OnError::Fail).unwrap_err();
    let DatasetError::BadSamples {
        total,
        asked,
        first,
    } = &error
    else {
        panic!("{error:?}");
    };
    assert_eq!((*total, *asked), (2, 5));
    assert_eq!(
        first.iter().map(|bad| bad.index).collect::<Vec<_>>(),
        [1, 3]
    );
    let message = error.to_string();
    assert!(
        message.contains("a/2.png") && message.contains("b/4.png"),
        "all of them are named: {message}"
    );

    let (kept, skipped) = check(&dataset, OnError::Skip).unwrap();
    assert_eq!(kept.labels(), [0, 1, 1]);
    assert_eq!(kept.ids(), [whole.id(0), whole.id(2), whole.id(4)]);
    assert_eq!(
        skipped.iter().map(|skip| skip.index).collect::<Vec<_>>(),
        [1, 3]
    );
    assert_eq!(skipped[1].id, whole.id(3));
    assert!(skipped[1].name.ends_with("b/4.png"));
    assert!(matches!(
        skipped[1].reason,
        DatasetError::UnknownFormat { .. }
    ));
}

#[test]
fn truncated_jpeg_files_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("a/1.jpg");
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let noise =
        image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([x as u8, y as u8, (x * y) as u8]));
    noise
        .save_with_format(&path, image::ImageFormat::Jpeg)
        .unwrap();
    let dataset = open(folder.path(), Split::Train).unwrap();
    assert_eq!(dataset.image(0).unwrap().width(), 64);

    let bytes = fs::read(&path).unwrap();
    for cut in [bytes.len() - 2, bytes.len() * 2 / 3] {
        fs::write(&path, &bytes[..cut]).unwrap();
        let error = dataset.image(0).unwrap_err();
        assert!(
            matches!(error, DatasetError::TruncatedJpeg { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn alpha_is_dropped_and_deep_samples_keep_their_high_byte() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("a")).unwrap();
    let path = |name: &str| folder.path().join("a").join(name);
    image::RgbaImage::from_pixel(1, 1, image::Rgba([10, 20, 30, 0]))
        .save(path("1.png"))
        .unwrap();
    image::GrayAlphaImage::from_pixel(1, 1, image::LumaA([40, 5]))
        .save(path("2.png"))
        .unwrap();
    image::ImageBuffer::from_pixel(1, 1, image::Luma([0x1280_u16]))
        .save(path("3.png"))
        .unwrap();
    let dataset = open(folder.path(), Split::Train).unwrap();
    let pixels = |index| dataset.image(index).unwrap().pixels().to_vec();
    assert_eq!(
        [pixels(0), pixels(1), pixels(2)],
        [vec![10, 20, 30], vec![40], vec![0x12]]
    );
}

#[test]
fn fingerprints_see_labels_images_names_and_order() {
    let folder = tempdir().unwrap();
    write_idx(folder.path(), "train", &[0, 1, 1], None);
    write_idx(folder.path(), "t10k", &[0, 1, 0], None);
    let first = open(folder.path(), Split::Train).unwrap();
    let print = |dataset: &Dataset| dataset.fingerprint().unwrap();
    assert_eq!(print(&first), print(&first.subset(&[0, 1, 2])));
    assert_ne!(print(&first), print(&first.subset(&[0, 2, 1])));
    assert_ne!(
        print(&first),
        print(&open(folder.path(), Split::Test).unwrap())
    );

    let files = tree(&["a/1.png", "b/2.png"]);
    let before = print(&open(files.path(), Split::Train).unwrap());
    // Another image of the same name and size.
    let path = files.path().join("b/2.png");
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, bytes).unwrap();
    let replaced = print(&open(files.path(), Split::Train).unwrap());
    assert_ne!(replaced, before);
    fs::write(&path, "shorter").unwrap();
    let shorter = print(&open(files.path(), Split::Train).unwrap());
    assert!(shorter != before && shorter != replaced);
}

#[test]
fn splits_whose_files_have_the_same_names_and_sizes_are_told_apart() {
    let files = tree(&[
        "train/a/1.png",
        "train/b/1.png",
        "test/a/1.png",
        "test/b/1.png",
    ]);
    let size = |name: &str| fs::metadata(files.path().join(name)).unwrap().len();
    assert_eq!(size("train/a/1.png"), size("test/a/1.png"));
    let print = |split| open(files.path(), split).unwrap().fingerprint().unwrap();
    assert_ne!(print(Split::Train), print(Split::Test));
    for class in ["a", "b"] {
        let name = format!("{class}/1.png");
        let from = files.path().join("train").join(&name);
        fs::copy(from, files.path().join("test").join(&name)).unwrap();
    }
    assert_eq!(
        print(Split::Train),
        print(Split::Test),
        "the same images are the same"
    );
}

#[test]
fn trees_that_only_look_like_class_folders_are_told_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let tree = |name: &str, files: &[&str]| {
        for file in files {
            let path = dir.path().join(name).join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        open(dir.path().join(name), Split::Train)
            .unwrap_err()
            .to_string()
    };
    for (name, files, told) in [
        (
            "a",
            ["jpg/image_00001.jpg", "setid.mat"],
            "--dataset flowers",
        ),
        (
            "b",
            ["images/1.jpg", "image_class_labels.txt"],
            "--dataset cub",
        ),
        (
            "c",
            ["car_ims/000001.jpg", "cars_annos.mat"],
            "--dataset cars",
        ),
        (
            "d",
            ["Images/n1-dog/1.jpg", "train_list.mat"],
            "--dataset dogs",
        ),
        (
            "e",
            ["Train/cat/1.jpg", "Test/cat/2.jpg"],
            "called like a split",
        ),
        (
            "f",
            ["ILSVRC/Data/CLS-LOC/train/n01440764/1.JPEG", "README"],
            "LOC_synset_mapping.txt is missing",
        ),
    ] {
        let message = tree(name, &files);
        assert!(message.contains(told), "{name}: {message}");
    }
}
