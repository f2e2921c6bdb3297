//! Networks as a user meets them: their parameters, and half precision.

use std::process::Command;

use serde_json::Value;

const MODEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/mini/model.safetensors"
);

fn diffrep(args: &[&str]) -> std::process::Output {
    Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .output()
        .unwrap()
}

fn json(args: &[&str]) -> Value {
    let done = diffrep(&[args, &["--json"]].concat());
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&done.stdout).unwrap()
}

#[test]
fn parameters_are_those_of_table_10() {
    let all = json(&["params"]);
    assert_eq!(all.as_array().unwrap().len(), 22);
    let paper = json(&["params", "256x256_diffusion_uncond", "--block", "24"]);
    assert_eq!(paper["parameters"], 552_814_086);
    let up_to = &paper["blocks"][0];
    assert_eq!(up_to["tap"]["channels"], 1024);
    let count = up_to["parameters_up_to"].as_u64().unwrap();
    assert!((300_000_000..552_814_086).contains(&count), "{count}");
    let last = json(&["params", "256x256_diffusion_uncond", "--block", "37"]);
    let last = last["blocks"][0]["parameters_up_to"].as_u64().unwrap();
    // The head, which no block needs: normalisation and a 3x3 convolution of 256 channels to 6.
    assert_eq!(552_814_086 - last, 2 * 256 + 256 * 9 * 6 + 6);

    let mini = json(&["params", MODEL]);
    let inspected = json(&["inspect", MODEL]);
    assert_eq!(mini["parameters"], inspected["parameters"]);
    for (args, told) in [
        (["params", "adm"], "256x256_diffusion_uncond"),
        (["params", "/nonexistent.json"], "no file"),
    ] {
        let done = diffrep(&args);
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && error.contains(told), "{error}");
    }
}

/// A small ResNet and a small vision transformer, trained on pictures of two classes, are read by their own
/// file and description alone, as they were trained.
#[test]
fn networks_trained_here_are_extracted_from_and_compared() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let images = dir.path().join("images");
    for class in ["bright", "dark"] {
        std::fs::create_dir_all(images.join(class)).unwrap();
        for number in 0..12u32 {
            let shade = if class == "dark" { 40 } else { 180 };
            let picture = image::GrayImage::from_fn(20, 20, |x, y| {
                image::Luma([(shade + (x * 7 + y * 3 + number * 5) % 50) as u8])
            });
            picture
                .save(images.join(class).join(format!("{number}.png")))
                .unwrap();
        }
    }
    let images = images.display().to_string();
    let resnet = r#"{"kind": "resnet", "image_size": 24, "in_channels": 1, "width": 4, "depths": [1, 1],
        "block": "basic", "inner": 1, "stem": "small", "classes": null}"#;
    let vit = r#"{"kind": "vit", "image_size": 24, "in_channels": 1, "patch": 8, "width": 12, "depth": 2,
        "heads": 2, "mlp": 24, "class_token": true, "qkv_bias": true, "patch_bias": true, "pre_norm": false,
        "gelu": "exact", "eps": 1e-6, "classes": null}"#;
    for (name, text) in [("resnet", resnet), ("vit", vit)] {
        let (config, out) = (at(&format!("{name}.json")), at(name));
        std::fs::write(&config, text).unwrap();
        let train = [
            "pretrain",
            &images,
            "--backbone",
            &config,
            "--epochs",
            "3",
            "--batch",
            "4",
            "--held-out",
            "4",
            "--warmup",
            "2",
            "--learning-rate",
            "0.01",
            "--out",
            &out,
        ];
        let done = json(&train);
        let curve = done["training"]["curve"].as_array().unwrap();
        assert!(curve.last().unwrap()["accuracy"].is_number(), "{curve:?}");
        assert_eq!(done["training"]["config"]["preprocess"]["fit"], "pad_to");
        // The same command finds it done.
        assert_eq!(json(&train)["sha256"], done["sha256"]);
        let model = at(&format!("{name}/model.safetensors"));
        let store = at(&format!("{name}-features"));
        let extract = [
            "extract",
            &images,
            "--backbone",
            &config,
            "--checkpoint",
            &model,
            "--block",
            "2",
            "--pool",
            "1",
            "--out",
            &store,
        ];
        assert_eq!(json(&extract)["images"], 24);
        // Padded to 24 pixels as in training, and not resized and cropped as others' networks are.
        let manifest =
            std::fs::read_to_string(dir.path().join(&store).join("manifest.json")).unwrap();
        assert!(manifest.contains("pad_to"), "{manifest}");
    }
    for (more, told) in [
        (
            ["--backbone", "fid_inception_v3"],
            "train a ResNet or a ViT",
        ),
        (
            ["--backbone", "resnet51"],
            "there is no backbone `resnet51`",
        ),
        (["--weight-decay", "nan"], "--weight-decay is NaN"),
    ] {
        let out = at("x");
        let done = diffrep(&[&["pretrain", &images, "--out", &out][..], &more].concat());
        let error = String::from_utf8(done.stderr).unwrap();
        assert!(!done.status.success() && error.contains(told), "{error}");
    }
    let done = diffrep(&[
        "pretrain",
        &images,
        "--out",
        "x",
        "--backbone",
        "resnet18",
        "--classifier",
    ]);
    assert!(!done.status.success());
}

#[test]
fn half_precision_gives_other_features_under_another_name() {
    let dir = tempfile::tempdir().unwrap();
    let images = dir.path().join("images");
    for class in ["a", "b"] {
        std::fs::create_dir_all(images.join(class)).unwrap();
        let picture = image::GrayImage::from_fn(32, 32, |x, y| image::Luma([(x * y % 251) as u8]));
        picture.save(images.join(class).join("1.png")).unwrap();
    }
    let images = images.display().to_string();
    let out = dir.path().join("store").display().to_string();
    let extract = |precision: &str, out: &str| {
        diffrep(&[
            "extract",
            &images,
            "--checkpoint",
            MODEL,
            "--t",
            "10",
            "--block",
            "5",
            "--pool",
            "2",
            "--dtype",
            "f32",
            "--precision",
            precision,
            "--out",
            out,
        ])
    };
    assert!(extract("f32", &out).status.success());
    // The same folder is refused: features of two precisions never mix.
    assert!(!extract("bf16", &out).status.success());
    let half = dir.path().join("half").display().to_string();
    assert!(extract("bf16", &half).status.success());
    let features = |folder: &str| {
        let bytes = std::fs::read(format!("{folder}/shard-00000.safetensors")).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let bytes = file.tensor("t10_b05_p2").unwrap().data().to_vec();
        bytes
            .as_chunks::<4>()
            .0
            .iter()
            .map(|value| f32::from_le_bytes(*value))
            .collect::<Vec<f32>>()
    };
    let (whole, half) = (features(&out), features(&half));
    let scale = whole.iter().fold(0.0f32, |most, v| most.max(v.abs()));
    let error = whole
        .iter()
        .zip(&half)
        .fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    assert!(error > 0.0 && error / scale < 0.05, "{error} of {scale}");
}

#[test]
fn a_dry_run_tells_the_work_and_writes_nothing() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fixtures/fashion-mnist");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("store").display().to_string();
    let told = json(&[
        "extract",
        data,
        "--checkpoint",
        MODEL,
        "--t",
        "10,100",
        "--block",
        "3,7",
        "--pool",
        "2",
        "--limit",
        "50",
        "--out",
        &out,
        "--dry-run",
    ]);
    let plan = &told["plan"];
    assert_eq!(plan["images"], 50);
    assert_eq!(plan["forwards"], 100);
    assert_eq!(plan["last_block"], 7);
    // Two timesteps, two blocks of 32 and 64 channels on 2 x 2 cells in f16, a label and an id.
    let channels = |block: &str| {
        let tap = &json(&["params", MODEL, "--block", block])["blocks"][0]["tap"];
        tap["channels"].as_u64().unwrap()
    };
    let values = 2 * 4 * (channels("3") + channels("7"));
    assert_eq!(plan["bytes_on_disk"], 50 * (2 * values + 16));
    assert!(told["estimated_seconds"].as_f64().unwrap() > 0.0);
    assert!(!std::path::Path::new(&out).exists());
}
