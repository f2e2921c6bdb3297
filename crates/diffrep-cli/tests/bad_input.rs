//! What goes wrong is said in one sentence with the path and the valid range; the exit code is not
//! zero, nothing panics, nothing half-written is left.

use std::path::{Path, PathBuf};
use std::process::Command;

use half::f16;
use safetensors::{Dtype, SafeTensors, tensor::TensorView};

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

/// The mini checkpoint with `change` made to its tensors, as (name, shape, f32 values).
fn changed(path: &Path, change: impl FnOnce(&mut Vec<(String, Vec<usize>, Vec<f32>)>)) -> String {
    let bytes = std::fs::read(model()).unwrap();
    let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors: Vec<_> = file
        .iter()
        .map(|(name, view)| {
            let (halves, _) = view.data().as_chunks::<2>();
            let values = halves.iter().map(|half| f16::from_le_bytes(*half).to_f32());
            (name.to_string(), view.shape().to_vec(), values.collect())
        })
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    change(&mut tensors);
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| {
            let bytes = values.iter().flat_map(|value| value.to_le_bytes());
            (name, shape, bytes.collect())
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap();
        (name.as_str(), view)
    });
    safetensors::serialize_to_file(views, metadata.metadata().clone(), path).unwrap();
    path.display().to_string()
}

#[test]
fn weights_that_are_not_those_of_the_network() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let path = dir.path().join("model.safetensors");
    let name = "input_blocks.1.0.in_layers.2.weight";
    let find = |tensors: &[(String, Vec<usize>, Vec<f32>)]| {
        tensors.iter().position(|tensor| tensor.0 == name).unwrap()
    };
    let intact = changed(&path, |_| ());
    works(&extract(&intact, &data(), &out, &["--limit", "1"]));
    std::fs::remove_dir_all(&out).unwrap();

    let missing = changed(&path, |tensors| {
        tensors.remove(find(tensors));
    });
    let hints = [missing.as_str(), "1 missing", name];
    fails(&extract(&missing, &data(), &out, &[]), &hints);
    assert!(works(&["inspect", &missing]).contains("does not load"));

    let extra = changed(&path, |tensors| {
        tensors.push(("stray".into(), vec![1], vec![0.0]));
    });
    let hints = [extra.as_str(), "1 unused", "stray"];
    fails(&extract(&extra, &data(), &out, &[]), &hints);

    let misshapen = changed(&path, |tensors| {
        let i = find(tensors);
        tensors[i].1 = vec![32, 32, 9];
    });
    let hints = [
        misshapen.as_str(),
        name,
        "[32, 32, 9] instead of [32, 32, 3, 3]",
    ];
    fails(&extract(&misshapen, &data(), &out, &[]), &hints);

    let undefined = changed(&path, |tensors| {
        let i = find(tensors);
        tensors[i].2[5] = f32::NAN;
    });
    let hints = [undefined.as_str(), name, "NaN at position 5"];
    fails(&extract(&undefined, &data(), &out, &[]), &hints);

    let another = root().join("fixtures/golden/adm_classcond.pt");
    let another = another.display().to_string();
    let arch = root().join("fixtures/mini/arch.json").display().to_string();
    fails(
        &extract(&another, &data(), &out, &["--arch", &arch]),
        &[another.as_str(), "does not hold the weights of"],
    );
    assert!(
        !Path::new(&out).exists(),
        "a failed command left {out} behind"
    );
}

#[test]
fn an_architecture_that_the_tensors_leave_open_is_told_as_far_as_known() {
    let file = root().join("fixtures/golden/adm_classcond.pt");
    let told = works(&["inspect", &file.display().to_string()]);
    for hint in ["image_size 16", "num_head_channels", "\"model_channels\""] {
        assert!(told.contains(hint), "no `{hint}` in: {told}");
    }
    let json = works(&["inspect", "--json", &file.display().to_string()]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["loads"], false);
    // What it suggests is an architecture file that loads.
    let dir = tempfile::tempdir().unwrap();
    let arch = dir.path().join("arch.json");
    std::fs::write(&arch, json["nearest"].to_string()).unwrap();
    let arch = arch.display().to_string();
    let told = works(&["inspect", &file.display().to_string(), "--arch", &arch]);
    assert!(told.contains("this file loads"), "{told}");
}

#[test]
fn inputs_of_forward_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let out = path("out.safetensors").display().to_string();
    let write = |name: &str, shape: [usize; 4], value: f32, t: &[f32]| {
        let bytes = |values: &[f32]| -> Vec<u8> {
            values
                .iter()
                .flat_map(|value| value.to_le_bytes())
                .collect()
        };
        let x = bytes(&vec![value; shape.iter().product()]);
        let steps = bytes(t);
        let views = [
            (
                "x",
                TensorView::new(Dtype::F32, shape.to_vec(), &x).unwrap(),
            ),
            (
                "t",
                TensorView::new(Dtype::F32, vec![t.len()], &steps).unwrap(),
            ),
        ];
        safetensors::serialize_to_file(views, None, &path(name)).unwrap();
        path(name).display().to_string()
    };
    let run = |input: &str, hints: &[&str]| {
        let (model, out) = (model(), out.as_str());
        fails(
            &[
                "forward",
                "--checkpoint",
                &model,
                "--input",
                input,
                "--out",
                out,
            ],
            hints,
        );
    };
    let wide = write("wide", [1, 1, 32, 16], 0.0, &[10.0]);
    run(&wide, &[&wide, "[1, 1, 32, 16]", "[N, 1, 32, 32]"]);
    let many = write("many", [2, 1, 32, 32], 0.0, &[10.0]);
    run(&many, &[&many, "`t` is [1]", "[2]"]);
    let undefined = write("undefined", [1, 1, 32, 32], f32::NAN, &[10.0]);
    run(&undefined, &[&undefined, "`x` holds NaN at position 0"]);
    let endless = write("endless", [1, 1, 32, 32], 0.0, &[f32::INFINITY]);
    run(&endless, &[&endless, "`t` holds inf"]);
    run(&model(), &["has no tensor `x`"]);
    assert!(!Path::new(&out).exists(), "a failed command left {out}");
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
fn a_corrupt_image_is_told_before_anything_is_computed() {
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
    assert!(stderr.contains("--on-bad-image skip"), "{stderr}");
    // What is wrong, the one file, and the hint.
    assert!(stderr.lines().count() <= 4, "{stderr}");
    assert!(
        !out.exists(),
        "nothing is computed of images that end in an error"
    );
    image::GrayImage::from_pixel(28, 28, image::Luma([100]))
        .save(&bad)
        .unwrap();
    works(&extract(&model(), &photos, &text, &args));
    assert!(out.join("shard-00003.safetensors").exists());
    // Images that change make other data, and the store says so instead of mixing the two.
    image::GrayImage::from_fn(28, 28, |x, y| image::Luma([(x * y) as u8]))
        .save(&bad)
        .unwrap();
    fails(&extract(&model(), &photos, &text, &args), &[text.as_str()]);
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
fn stores_that_do_not_belong_together() {
    let dir = tempfile::tempdir().unwrap();
    let store = |name: &str, more: &[&str]| {
        let out = dir.path().join(name).display().to_string();
        works(&extract(&model(), &data(), &out, more));
        out
    };
    let train = store("train", &["--limit", "40"]);
    let validation = store("validation", &["--split", "test", "--limit", "40"]);
    let probe = |train: &str, validation: &str| -> Vec<String> {
        let args = ["probe", train, "--validation", validation];
        args.map(String::from).to_vec()
    };
    let args = probe(&train, &validation);
    works(&args.iter().map(String::as_str).collect::<Vec<_>>());
    let refuse = |train: &str, validation: &str, hints: &[&str]| {
        let args = probe(train, validation);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), hints);
    };
    refuse(&train, &train, &[&train, "the same images"]);
    let test_is_validation = ["probe", &train, &validation, "--validation", &validation];
    fails(&test_is_validation, &[&validation, "the same images"]);
    let other = ["--split", "test", "--limit", "40", "--schedule", "cosine"];
    let cosine = store("cosine", &other);
    refuse(&train, &cosine, &[&cosine, "`schedule` differs"]);
    let one = store("one", &["--limit", "1"]);
    refuse(&one, &validation, &[&one, "one class"]);
    // A flipped byte in the features.
    let shard = Path::new(&validation).join("shard-00000.safetensors");
    let mut bytes = std::fs::read(&shard).unwrap();
    let last = bytes.len() - 9;
    bytes[last] ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    refuse(&train, &validation, &["shard-00000"]);
}

#[test]
fn a_network_that_needs_labels_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let golden = |name: &str| {
        let path = root().join("fixtures/golden").join(name);
        path.display().to_string()
    };
    let (file, arch) = (golden("adm_classcond.pt"), golden("adm_classcond.json"));
    let more = ["--arch", &arch, "--block", "1", "--pool", "1"];
    fails(
        &extract(&file, &data(), &out, &more),
        &["conditioned on one of"],
    );
    let train = [
        "pretrain",
        &data(),
        "--arch",
        &arch,
        "--out",
        &out,
        "--quiet",
    ];
    fails(&train, &["conditioned on one of"]);
}

#[test]
fn trainings_that_make_no_sense() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    for (wrong, hint) in [
        ("--held-out=0", "--held-out is 0"),
        ("--epochs=0", "--epochs is 0"),
        ("--batch=0", "--batch is 0"),
        ("--learning-rate=-1", "--learning-rate is -1"),
        ("--learning-rate=nan", "--learning-rate is NaN"),
        ("--ema=2", "--ema is 2"),
    ] {
        fails(
            &["pretrain", &data(), "--out", &out, "--quiet", wrong],
            &[hint],
        );
    }
}

#[test]
fn arguments_that_make_no_sense() {
    fails(&["classify", "a.png", "--top", "0"], &["--top"]);
    fails(
        &["inspect", &model(), "--log", "nonsense"],
        &["levels are off, error"],
    );
    fails(
        &[
            "pretrain", "x", "--out", "y", "--arch", "a.json", "--size", "16",
        ],
        &["--size", "cannot be used with", "--arch"],
    );
}

#[test]
#[cfg(target_os = "linux")]
fn results_that_cannot_be_printed() {
    let full = std::fs::File::create("/dev/full").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(["inspect", &model()])
        .stdout(full)
        .output()
        .unwrap();
    assert!(!done.status.success());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("cannot write to standard output"), "{said}");
}

#[test]
fn experiments_elsewhere_leave_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(["reproduce", "--quick"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(!done.status.success());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("run it in the root of the clone"), "{said}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    let folder = dir.path().display().to_string();
    fails(
        &["import", &model(), "--out", &folder],
        &[&folder, "a folder has this name"],
    );
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
        &["no experiment `table99`", "table1"],
    );
    fails(
        &["reproduce", "--scale", "huge"],
        &["no scale `huge`", "mini"],
    );
}
