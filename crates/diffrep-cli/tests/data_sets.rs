//! Data sets as a user meets them: looked into, fetched, preprocessed, and with damaged images.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

const FASHION: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/fashion-mnist");
const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/mini/model.safetensors"
);
const PREPROCESS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/preprocess");

fn diffrep(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .output()
        .unwrap()
}

fn works(args: &[&str]) -> String {
    let done = diffrep(args);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {stderr}");
    String::from_utf8(done.stdout).unwrap()
}

fn json(args: &[&str]) -> Value {
    let text = works(&[args, &["--json"]].concat());
    serde_json::from_str(&text).unwrap()
}

/// What a command that must fail says on standard error.
fn fails(args: &[&str]) -> String {
    let done = diffrep(args);
    assert!(!done.status.success(), "{args:?} succeeded");
    String::from_utf8(done.stderr).unwrap()
}

/// Two classes of grey pictures; of each class, the last file is damaged if `damaged`.
fn pictures(folder: &Path, damaged: bool) {
    for (class, level) in [("bright", 200u8), ("dark", 40)] {
        let folder = folder.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..4u8 {
            let picture = image::GrayImage::from_fn(32, 32, |x, y| {
                image::Luma([level + i + (x * y % 7) as u8])
            });
            picture.save(folder.join(format!("{i}.png"))).unwrap();
        }
        if damaged {
            std::fs::write(folder.join("9.png"), b"\x89PNG\r\n\x1a\nnot really").unwrap();
        }
    }
}

fn tensors(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

#[test]
fn preprocess_writes_the_bytes_of_the_reference() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("crops.safetensors");
    let out_text = out.display().to_string();
    let golden = tensors(&Path::new(PREPROCESS).join("center_crop.safetensors"));
    let golden = safetensors::SafeTensors::deserialize(&golden).unwrap();
    let files = [
        "jpg_420.jpg",
        "jpg_cmyk.jpg",
        "png_alpha.JPEG",
        "04_200x150.png",
    ];
    let paths = files.map(|file| format!("{PREPROCESS}/{file}"));
    for size in ["64", "256"] {
        let mut args = vec!["preprocess"];
        args.extend(paths.iter().map(String::as_str));
        args.extend(["--size", size, "--out", &out_text]);
        works(&args);
        let bytes = tensors(&out);
        let found = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(found.len(), files.len());
        for file in files {
            let stem = Path::new(file).file_stem().unwrap().to_str().unwrap();
            let names = [format!("{file}.crop{size}"), format!("{stem}.crop{size}")];
            let expected = names.iter().find_map(|name| golden.tensor(name).ok());
            let expected = expected.expect(file);
            let found = found.tensor(stem).unwrap();
            assert_eq!(found.shape(), expected.shape(), "{file}");
            assert!(found.data() == expected.data(), "{file} at {size}");
        }
    }
}

#[test]
fn preprocess_flips_draws_and_converts() {
    let dir = tempfile::tempdir().unwrap();
    let image = format!("{PREPROCESS}/jpg_422.jpg");
    let write = |name: &str, more: &[&str]| {
        let out = dir.path().join(name).with_extension("safetensors");
        let text = out.display().to_string();
        works(
            &[
                &["preprocess", &image, "--size", "48", "--out", &text],
                more,
            ]
            .concat(),
        );
        tensors(&out)
    };
    let data = |bytes: &[u8]| {
        let file = safetensors::SafeTensors::deserialize(bytes).unwrap();
        file.tensor("jpg_422").unwrap().data().to_vec()
    };
    let plain = data(&write("a", &[]));
    let flipped = data(&write("b", &["--flip"]));
    assert_ne!(plain, flipped);
    assert_eq!(
        plain[..3],
        flipped[47 * 3..48 * 3],
        "the first row, mirrored"
    );
    let floats = data(&write("c", &["--float"]));
    let first = f32::from_le_bytes(floats[..4].try_into().unwrap());
    assert_eq!(first, f32::from(plain[0]) / 127.5 - 1.0);
    let green = f32::from_le_bytes(floats[48 * 48 * 4..][..4].try_into().unwrap());
    assert_eq!(green, f32::from(plain[1]) / 127.5 - 1.0);

    let random = |epoch: &str| data(&write("d", &["--crop", "random", "--epoch", epoch]));
    assert_eq!(random("1"), random("1"));
    assert!((2..9).any(|epoch| random(&epoch.to_string()) != random("1")));
    let whole = write("e", &["--crop", "none"]);
    let whole = safetensors::SafeTensors::deserialize(&whole).unwrap();
    let shape = whole.tensor("jpg_422").unwrap().shape().to_vec();
    assert!(shape[0] > 48 && shape[2] == 3, "{shape:?}");

    let out = dir.path().join("f.safetensors").display().to_string();
    let twice = fails(&["preprocess", &image, &image, "--out", &out]);
    assert!(twice.contains("two images are called `jpg_422`"), "{twice}");
}

#[test]
fn inspect_counts_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("train"), true);
    pictures(&dir.path().join("test"), false);
    let path = dir.path().display().to_string();
    let sheets = tempfile::tempdir().unwrap();
    let sheet = sheets.path().join("sheet.png");
    let sheet_text = sheet.display().to_string();
    let found = json(&["dataset", "inspect", &path, "--sheet", &sheet_text]);
    assert_eq!(found["class_names"], serde_json::json!(["bright", "dark"]));
    let train = &found["splits"][0];
    assert_eq!(train["samples"], 10);
    assert_eq!(train["unreadable"], 2);
    assert_eq!(train["sizes"]["width"]["median"], 32);
    // Every readable picture is in both splits.
    assert_eq!(found["duplicates"]["across_splits"], 8);
    assert_eq!(found["duplicates"]["within_splits"], 0);
    assert!(image::open(&sheet).unwrap().width() > 64);
    let told = works(&["dataset", "inspect", &path]);
    assert!(
        told.contains("unreadable") && told.contains("8 across splits"),
        "{told}"
    );

    let fashion = json(&["dataset", "inspect", FASHION]);
    let counts: Vec<&Value> = fashion["splits"].as_array().unwrap().iter().collect();
    assert_eq!(counts.len(), 3);
    assert_eq!(counts[2]["samples"], 10_000);
    assert_eq!(counts[2]["classes"]["fewest"], 1_000);
}

#[test]
fn known_data_sets_are_listed_and_held_to() {
    let listed = json(&["dataset", "list"]);
    assert_eq!(listed.as_array().unwrap().len(), 9);
    let aircraft = &listed[0];
    assert_eq!(aircraft["name"], "aircraft");
    assert_eq!(aircraft["train"], 6_667);

    let dir = tempfile::tempdir().unwrap();
    pictures(dir.path(), false);
    let path = dir.path().display().to_string();
    let error = fails(&["dataset", "inspect", &path, "--dataset", "flowers"]);
    assert!(error.contains("Flowers"), "{error}");
    // Without its name it is not taken for class folders.
    std::fs::write(dir.path().join("setid.mat"), "").unwrap();
    let error = fails(&["dataset", "inspect", &path]);
    assert!(error.contains("--dataset flowers"), "{error}");
    // The fixture is a part of the training split.
    let out = dir.path().join("store").display().to_string();
    let extract = [
        "extract",
        FASHION,
        "--dataset",
        "fashion-mnist",
        "--checkpoint",
        MODEL,
        "--t",
        "10",
        "--block",
        "3",
        "--pool",
        "1",
        "--limit",
        "20",
        "--out",
        &out,
    ];
    let error = fails(&extract);
    assert!(error.contains("60000"), "{error}");
    let error = fails(&["extract", FASHION, "--allow-partial"]);
    assert!(error.contains("--dataset"), "{error}");
    let done = json(&[&extract[..], &["--allow-partial"]].concat());
    assert_eq!(done["missing"]["partial"]["expected"], 60_000);
    assert!(done["missing"]["partial"]["found"].as_u64().unwrap() < 60_000);
    let error = fails(&["extract", FASHION, "--dataset", "mnist"]);
    assert!(error.contains("fashion-mnist"), "{error}");
}

#[test]
fn damaged_images_are_all_named_or_counted() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    pictures(&images, true);
    let (images, out) = (
        images.display().to_string(),
        dir.path().join("store").display().to_string(),
    );
    let extract = [
        "extract",
        &images,
        "--checkpoint",
        MODEL,
        "--t",
        "10",
        "--block",
        "3",
        "--pool",
        "1",
        "--out",
        &out,
    ];
    let error = fails(&extract);
    assert!(error.contains("2 of 10 samples"), "{error}");
    assert!(
        error.contains("bright/9.png") && error.contains("dark/9.png"),
        "{error}"
    );
    assert!(error.contains("--on-bad-image skip"), "{error}");
    let done = json(&[&extract[..], &["--on-bad-image", "skip"]].concat());
    assert_eq!(done["images"], 8);
    assert_eq!(done["missing"]["skipped"], 2);
    let manifest = std::fs::read_to_string(dir.path().join("store/manifest.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let text = manifest.to_string();
    assert!(text.contains(r#""skipped":2"#), "{text}");
}

#[test]
fn what_can_be_fetched_is_told_without_a_network() {
    let all = json(&["fetch"]);
    let names: Vec<&str> = all
        .as_array()
        .unwrap()
        .iter()
        .map(|asset| asset["name"].as_str().unwrap())
        .collect();
    for name in ["cub", "flowers", "256x256_diffusion_uncond"] {
        assert!(names.contains(&name), "{name}");
    }
    let told = works(&["fetch", "flowers", "--dry-run"]);
    assert!(told.contains("102flowers.tgz"), "{told}");
    let done = diffrep(&["fetch", "imagenet"]);
    assert!(!done.status.success());
    let (told, error) = (
        String::from_utf8(done.stdout).unwrap(),
        String::from_utf8(done.stderr).unwrap(),
    );
    assert!(
        told.contains("1. ") && error.contains("by hand"),
        "{told}{error}"
    );
    let error = fails(&["fetch", "dogs", "--verify", "--out", "nowhere"]);
    assert!(error.contains("nothing to verify"), "{error}");
    let error = fails(&["fetch", "cifar"]);
    assert!(
        error.contains("no `cifar`") && error.contains("nabirds"),
        "{error}"
    );
}
