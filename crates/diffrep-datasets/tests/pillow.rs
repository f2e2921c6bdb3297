//! Centre crops against those of Pillow; see `fixtures/preprocess/README.md`.

use std::fs;
use std::path::{Path, PathBuf};

use diffrep_datasets::{Dataset, Image, Split, center_crop, open_class_folders};
use safetensors::SafeTensors;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/preprocess")
}

/// Decodes fixture files through the public door: a class folder.
fn decoded(folder: &Path, files: &[&str]) -> Dataset {
    for file in files {
        fs::create_dir_all(folder.join("class")).unwrap();
        fs::copy(fixtures().join(file), folder.join("class").join(file)).unwrap();
    }
    let dataset = open_class_folders(folder, Split::Test, None).unwrap();
    assert_eq!(dataset.len(), files.len());
    dataset
}

/// Pairs of our samples and Pillow's.
fn compare(image: &Image, name: &str, size: usize) -> Vec<(u8, u8)> {
    let bytes = fs::read(fixtures().join("center_crop.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let expected = tensors.tensor(&format!("{name}.crop{size}")).unwrap();
    assert_eq!(expected.shape(), [size, size, 3]);
    let ours = center_crop(image, size).to_rgb();
    assert_eq!((ours.width(), ours.height()), (size, size));
    ours.pixels()
        .iter()
        .copied()
        .zip(expected.data().iter().copied())
        .collect()
}

#[test]
fn png_crops_have_the_bits_of_pillow() {
    let folder = tempfile::tempdir().unwrap();
    let files = ["04_200x150.png", "06_90x300.png", "png_palette.png"];
    let dataset = decoded(folder.path(), &files);
    let cases = [
        (0, "04_200x150", 64),
        (0, "04_200x150", 256),
        (1, "06_90x300", 64),
        (2, "png_palette.png", 64),
    ];
    for (index, name, size) in cases {
        let pairs = compare(&dataset.image(index).unwrap(), name, size);
        let wrong = pairs.iter().filter(|(ours, theirs)| ours != theirs).count();
        assert_eq!(
            wrong,
            0,
            "{name} at {size}: {wrong} of {} samples differ",
            pairs.len()
        );
    }
}

#[test]
fn jpeg_crops_stay_within_the_decoder_difference() {
    let folder = tempfile::tempdir().unwrap();
    let dataset = decoded(
        folder.path(),
        &["jpg_420.jpg", "jpg_422.jpg", "jpg_grey.jpg"],
    );
    for (index, name, bound) in [
        (0, "jpg_420.jpg", 3),
        (1, "jpg_422.jpg", 2),
        (2, "jpg_grey.jpg", 1),
    ] {
        let pairs = compare(&dataset.image(index).unwrap(), name, 64);
        let worst = pairs
            .iter()
            .map(|(ours, theirs)| ours.abs_diff(*theirs))
            .max()
            .unwrap();
        assert!(
            worst <= bound,
            "{name}: differs by {worst} levels, expected at most {bound}"
        );
    }
}
