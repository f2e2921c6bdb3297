//! What goes wrong is said in one sentence with the path and the valid range; the exit code is not
//! zero, nothing panics, nothing half-written is left.

use std::path::{Path, PathBuf};
use std::process::Command;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn model() -> String {
    root()
        .join("fixtures/mini/model.safetensors")
        .display()
        .to_string()
}

fn data() -> String {
    root().join("fixtures/fashion-mnist").display().to_string()
}

/// Standard output of a command that must work.
fn works(args: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {stderr}");
    String::from_utf8(done.stdout).unwrap()
}

/// The error of a command that must fail, with `hints` in it.
fn fails(args: &[&str], hints: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .output()
        .unwrap();
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(!done.status.success(), "{args:?} worked");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    for hint in hints {
        assert!(stderr.contains(hint), "{args:?}: no `{hint}` in: {stderr}");
    }
    stderr
}

fn extract<'a>(checkpoint: &'a str, data: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec![
        "extract",
        data,
        "--checkpoint",
        checkpoint,
        "--out",
        out,
        "--quiet",
    ];
    let has = |flag: &str| more.contains(&flag);
    for (flag, value) in [
        ("--t", "10"),
        ("--block", "7"),
        ("--pool", "4"),
        ("--limit", "20"),
    ] {
        if !has(flag) {
            args.extend([flag, value]);
        }
    }
    args.extend(more);
    args
}

#[test]
fn checkpoints_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let whole = std::fs::read(model()).unwrap();
    let write = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    let cases = [
        write("truncated.safetensors", &whole[..whole.len() / 2]),
        write("empty.safetensors", b""),
        write("text.pt", b"this is not a checkpoint"),
        write("picture.pt", b"\x89PNG\r\n\x1a\n0000000000000000"),
        dir.path().join("missing.pt").display().to_string(),
        dir.path().display().to_string(),
    ];
    for checkpoint in &cases {
        fails(
            &extract(checkpoint, &data(), &out, &[]),
            &[checkpoint.as_str()],
        );
        fails(&["inspect", checkpoint], &[checkpoint.as_str()]);
    }
    assert!(
        !Path::new(&out).exists(),
        "a failed command left {out} behind"
    );
}

#[test]
fn settings_out_of_range() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let (model, data) = (model(), data());
    let case = |more: &[&str], hints: &[&str]| {
        fails(&extract(&model, &data, &out, more), hints);
    };
    case(&["--block", "14"], &["block 14", "1..=13"]);
    case(&["--block", "0"], &["block 0", "1..=13"]);
    case(&["--t", "1000"], &["timestep 1000", "0..=999"]);
    case(&["--pool", "9"], &["pool 9", "1..=8"]);
    case(&["--pool", "0"], &["at least 1"]);
    case(&["--device", "cuda:0"], &["--features cuda"]);
    case(&["--device", "gpu"], &["cuda:N"]);
    assert!(
        !Path::new(&out).exists(),
        "a failed command left {out} behind"
    );
}

#[test]
fn data_that_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let (missing, empty) = (dir.path().join("missing"), dir.path().join("empty"));
    std::fs::create_dir(&empty).unwrap();
    for folder in [&missing, &empty] {
        let folder = folder.display().to_string();
        fails(&extract(&model(), &folder, &out, &[]), &[folder.as_str()]);
    }
    let cut = dir.path().join("cut");
    std::fs::create_dir(&cut).unwrap();
    for name in ["train-labels-idx1-ubyte.gz", "train-images-idx3-ubyte.gz"] {
        let bytes = std::fs::read(Path::new(&data()).join(name)).unwrap();
        std::fs::write(cut.join(name), &bytes[..bytes.len() * 2 / 3]).unwrap();
    }
    let folder = cut.display().to_string();
    fails(&extract(&model(), &folder, &out, &[]), &["train-"]);
}

#[test]
fn a_corrupt_image_in_the_middle_loses_nothing_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let photos = dir.path().join("photos");
    for class in ["cat", "dog"] {
        std::fs::create_dir_all(photos.join(class)).unwrap();
        for i in 0..10u8 {
            let path = photos.join(class).join(format!("{i}.png"));
            image::GrayImage::from_pixel(28, 28, image::Luma([i * 20]))
                .save(path)
                .unwrap();
        }
    }
    let bad = photos.join("dog/5.png");
    std::fs::write(&bad, b"\x89PNG\r\n\x1a\nnot an image").unwrap();
    let (photos, out) = (photos.display().to_string(), dir.path().join("out"));
    let text = out.display().to_string();
    let args = ["--shard-rows", "5", "--limit", "20"];
    let stderr = fails(&extract(&model(), &photos, &text, &args), &["dog/5.png"]);
    assert!(stderr.lines().count() <= 2, "{stderr}");
    let shard = |i: usize| out.join(format!("shard-{i:05}.safetensors"));
    assert!(shard(0).exists() && shard(1).exists() && shard(2).exists() && !shard(3).exists());
    let first = std::fs::read(shard(0)).unwrap();
    // Again: what is there stays, and only the rest is tried.
    fails(&extract(&model(), &photos, &text, &args), &["dog/5.png"]);
    assert_eq!(std::fs::read(shard(0)).unwrap(), first);
    // Mended, the folder is other data, and the store says so instead of mixing the two.
    image::GrayImage::from_pixel(28, 28, image::Luma([100]))
        .save(&bad)
        .unwrap();
    fails(&extract(&model(), &photos, &text, &args), &[text.as_str()]);
    let fresh = dir.path().join("fresh").display().to_string();
    works(&extract(&model(), &photos, &fresh, &args));
}

#[test]
fn a_folder_with_another_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    works(&extract(&model(), &data(), &out, &[]));
    let before = std::fs::read(Path::new(&out).join("shard-00000.safetensors")).unwrap();
    fails(
        &extract(&model(), &data(), &out, &["--seed", "1"]),
        &[out.as_str()],
    );
    fails(
        &extract(&model(), &data(), &out, &["--t", "20"]),
        &[out.as_str()],
    );
    assert_eq!(
        std::fs::read(Path::new(&out).join("shard-00000.safetensors")).unwrap(),
        before
    );
    works(&extract(&model(), &data(), &out, &[]));
}

#[test]
fn heads_and_experiments_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let head = dir.path().join("head.safetensors").display().to_string();
    let picture = dir.path().join("a.png").display().to_string();
    image::GrayImage::from_pixel(28, 28, image::Luma([100]))
        .save(&picture)
        .unwrap();
    let classify = [
        "classify",
        &picture,
        "--head",
        &head,
        "--checkpoint",
        &model(),
    ];
    fails(&classify, &[head.as_str()]);
    std::fs::write(&head, b"nonsense").unwrap();
    fails(&classify, &["is not a saved head"]);
    fails(
        &["reproduce", "table99"],
        &["no experiment `table99`", "probe"],
    );
    fails(
        &["reproduce", "--scale", "paper"],
        &["no scale `paper`", "mini"],
    );
}
