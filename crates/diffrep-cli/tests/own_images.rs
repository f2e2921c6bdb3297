//! A user's own folder of pictures goes the whole way: a diffusion model trained on it, features,
//! a saved probe, and classes for single files.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

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

/// Grey pictures of three sizes, all smaller than or larger than the network's input: bright ones
/// and dark ones, in folders of these names.
fn pictures(dir: &Path) {
    for (split, count) in [("train", 12), ("validation", 6), ("test", 5)] {
        for (class, level) in [("bright", 200u8), ("dark", 40)] {
            let folder = dir.join(split).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let side = [9, 16, 21][i as usize % 3];
                image::GrayImage::from_fn(side, side, |x, y| {
                    image::Luma([level + ((x * 7 + y * 3 + i) % 11) as u8])
                })
                .save(folder.join(format!("{i}.png")))
                .unwrap();
            }
        }
    }
}

const ARCH: &str = r#"{"class": "UNetModel", "image_size": 16, "in_channels": 1, "model_channels": 32, "out_channels": 1,
    "num_res_blocks": 1, "attention_resolutions": [], "channel_mult": [1, 1], "use_scale_shift_norm": true, "resblock_updown": true}"#;

const RECIPE: &str = "
name = 'small'
epochs = 40
batch = 4
step_every = 20
step_factor = 0.1
standardize = true
patience = 10
learning_rates = [1e-2]
weight_decays = [0.0]
";

#[test]
fn from_pictures_to_classes() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    pictures(&dir.path().join("photos"));
    std::fs::write(at("arch.json"), ARCH).unwrap();
    let pretrain = |out: &str, more: &[&str]| {
        let (photos, arch) = (at("photos"), at("arch.json"));
        let mut args = vec!["pretrain", &photos, "--arch", &arch, "--out", out];
        args.extend(
            "--epochs 1 --batch 4 --held-out 4 --checkpoint-every 2 --json --quiet".split(' '),
        );
        args.extend(more);
        let json: Value = serde_json::from_str(&works(&args)).unwrap();
        json["sha256"].as_str().unwrap().to_string()
    };
    // Two trainings of the same settings are the same encoder, however long they took.
    let (one, two) = (at("one"), at("two"));
    let hash = pretrain(&one, &[]);
    assert_eq!(pretrain(&two, &[]), hash);
    // A picture that a kill prevented is drawn when the run is taken up again.
    let grid = dir.path().join("two/samples-001.png");
    std::fs::remove_file(&grid).unwrap();
    assert_eq!(pretrain(&two, &[]), hash);
    assert!(grid.exists());
    // And so is the log, which a kill may leave behind the checkpoint.
    let log = dir.path().join("two/training.json");
    let whole = std::fs::read(&log).unwrap();
    std::fs::remove_file(&log).unwrap();
    assert_eq!(pretrain(&two, &[]), hash);
    assert_eq!(std::fs::read(&log).unwrap(), whole);

    let model = at("one/model.safetensors");
    for split in ["train", "validation", "test"] {
        works(&[
            "extract",
            &at("photos"),
            "--split",
            split,
            "--checkpoint",
            &model,
            "--t",
            "10",
            "--block",
            "1,3",
            "--pool",
            "1,2",
            "--out",
            &at(split),
            "--quiet",
        ]);
    }
    let (head, train, validation, test) = (
        at("head.safetensors"),
        at("train"),
        at("validation"),
        at("test"),
    );
    let probe = works(&[
        "probe",
        &train,
        &test,
        "--validation",
        &validation,
        "--recipe",
        "mini",
        "--seeds",
        "2",
        "--save",
        &head,
        "--json",
        "--quiet",
    ]);
    let found: Value = serde_json::from_str(&probe).unwrap();
    assert_eq!(found["tried"].as_array().unwrap().len(), 4);
    let validation_of = |run: &Value| run["validation"].as_f64().unwrap();
    let best = found["tried"].as_array().unwrap().iter().map(validation_of);
    // Every other column is paired with the best, which is right more often where they differ.
    let paired: Vec<&Value> = found["tried"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["against_best"])
        .collect();
    assert_eq!(paired.iter().filter(|test| test.is_null()).count(), 1);
    for test in paired.into_iter().filter(|test| !test.is_null()) {
        assert!(test["only_a"].as_u64() >= test["only_b"].as_u64(), "{test}");
        assert!((0.0..=1.0).contains(&test["p_value"].as_f64().unwrap()));
    }
    // The best column on validation alone reads the test store, once a seed.
    let runs = found["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 2);
    assert_eq!(validation_of(&runs[0]), best.fold(0.0, f64::max));
    assert_eq!(found["test"]["n"], 2);

    // Probes without a learning rate.
    for head in ["ridge", "logistic", "knn"] {
        let one = [
            "probe",
            &train,
            &test,
            "--validation",
            &validation,
            "--head",
            head,
        ];
        let found = works(&[&one[..], &["--json", "--quiet"]].concat());
        let found: Value = serde_json::from_str(&found).unwrap();
        let accuracy = found["test"]["mean"].as_f64().unwrap();
        assert!(accuracy > 0.9, "{head}: {accuracy}");
        let confusion = found["runs"][0]["test"]["confusion"].as_array();
        assert_eq!(confusion.unwrap().len(), 2);
    }

    // Heads that read maps, by name and from a file, and what they refuse.
    let recipe = at("recipe.toml");
    let stores = ["probe", &train, &test, "--validation", &validation];
    let other = |more: &[&str]| {
        let mut args = stores.to_vec();
        args.extend(["--recipe", &recipe, "--json", "--quiet"]);
        args.extend(more);
        diffrep(&args)
    };
    let written = at("head.toml");
    std::fs::write(&recipe, RECIPE).unwrap();
    std::fs::write(&written, "head = \"mlp\"\npool = 1\nhidden = [16]\n").unwrap();
    for head in ["mlp", &written] {
        let done = other(&["--head", head, "--column", "t10_b03_p2"]);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{head}: {stderr}");
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        let accuracy = found["test"]["mean"].as_f64().unwrap();
        assert!(accuracy > 0.9, "{head}: {accuracy}");
        assert!(found["parameters"].as_u64().unwrap() > 0);
    }
    for (more, hint) in [
        (
            ["--head", "lstm", "--column", "t10_b03_p2"],
            "no head `lstm`",
        ),
        (
            ["--head", "cnn", "--column", "t10_b03_p1"],
            "halves the map twice",
        ),
        (["--head", "fusion", "--seed", "1"], "block is there twice"),
    ] {
        let done = other(&more);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success(), "{more:?}");
        assert!(
            stderr.contains(hint) && !stderr.contains("panicked"),
            "{more:?}: {stderr}"
        );
    }

    let bright = at("photos/test/bright/0.png");
    let dark = at("photos/test/dark/1.png");
    let broken = at("broken.png");
    std::fs::write(&broken, b"no picture").unwrap();
    let classify_by = |head: &str, images: &[&str]| {
        let mut args = vec!["classify", "--head", head, "--checkpoint", &model];
        args.extend(["--json", "--quiet"]);
        args.extend(images);
        let done = diffrep(&args);
        let json: Value = serde_json::from_slice(&done.stdout).unwrap();
        (done, json)
    };
    let classify = |images: &[&str]| classify_by(&head, images);

    // Any head that was trained classifies, and so does a network that was trained with it.
    let mlp = at("mlp.safetensors");
    let done = other(&["--head", "mlp", "--column", "t10_b03_p2", "--save", &mlp]);
    assert!(done.status.success());
    let photos = at("photos");
    let mut saved = vec![mlp];
    for train in ["head", "feedback", "encoder"] {
        let out = at(train);
        let args = ["--t", "10", "--block", "3", "--pool", "2", "--train", train];
        let tuned = [
            &["finetune", &photos, "--checkpoint", &model][..],
            &args,
            &["--recipe", &recipe, "--out", &out, "--json", "--quiet"],
        ]
        .concat();
        let first = works(&tuned);
        // Every epoch is there already: the same numbers come back.
        let again = works(&tuned);
        let curves = |text: &str| -> Value {
            let found: Value = serde_json::from_str(text).unwrap();
            found["tried"].clone()
        };
        assert_eq!(curves(&first), curves(&again));
        let found: Value = serde_json::from_str(&first).unwrap();
        assert!(found["test"]["top1"].as_f64().unwrap() > 0.9, "{found}");
        saved.push(at(&format!("{train}/classifier.safetensors")));
    }

    // A point of the grid that diverges is given up and the others stand; that all do is an error.
    let tuned_by = |text: &str, name: &str, rates: &str| {
        let recipe = at(&format!("{name}.toml"));
        std::fs::write(&recipe, text.replace("[1e-2]", rates)).unwrap();
        let out = at(name);
        let args = [
            "--t", "10", "--block", "3", "--pool", "2", "--recipe", &recipe,
        ];
        let begin = ["finetune", &photos, "--checkpoint", &model, "--out", &out];
        diffrep(&[&begin[..], &args, &["--json", "--quiet"]].concat())
    };
    let tuned = |name: &str, rates: &str| tuned_by(RECIPE, name, rates);
    let done = tuned("wild", "[1e30, 1e-2]");
    assert!(done.status.success(), "{done:?}");
    let found: Value = serde_json::from_slice(&done.stdout).unwrap();
    let rate = |list: &str| found[list][0]["point"]["learning_rate"].as_f64();
    assert_eq!((rate("diverged"), rate("tried")), (Some(1e30), Some(1e-2)));
    assert_eq!(found["tried"].as_array().unwrap().len(), 1, "{found}");
    saved.push(at("wild/classifier.safetensors"));
    let done = tuned("wilder", "[1e30, 1e31]");
    assert!(!done.status.success());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        said.contains("every point of recipe `small` diverged"),
        "{said}"
    );
    assert!(said.contains("diverged in epoch 1"), "{said}");
    // Also where no step follows that could tell; and taken up again it is given up again.
    let steep = RECIPE.replace("batch = 4", "batch = 1000");
    assert_ne!(steep, RECIPE);
    let steep = |rates: &str| tuned_by(&steep, "steep", rates);
    for _ in 0..2 {
        let done = steep("[1e30, 1e-2]");
        assert!(done.status.success(), "{done:?}");
        let found: Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(found["diverged"].as_array().unwrap().len(), 1, "{found}");
    }

    for head in &saved {
        let (done, found) = classify_by(head, &[&bright, &dark]);
        assert!(done.status.success(), "{head}: {done:?}");
        let class = |i: usize| found[i]["top"][0]["class"].as_str().unwrap();
        assert_eq!([class(0), class(1)], ["bright", "dark"], "{head}");
    }

    // The best setting of a small grid.
    let out = at("selected");
    let selected = works(&[
        "select",
        &photos,
        "--checkpoint",
        &model,
        "--t",
        "10,500",
        "--block",
        "2,3",
        "--pool",
        "1,2",
        "--recipe",
        &recipe,
        "--search",
        "grid",
        "--out",
        &out,
        "--json",
        "--quiet",
    ]);
    let selected: Value = serde_json::from_str(&selected).unwrap();
    assert_eq!(selected["selected"]["fits"], 8);
    assert_eq!(
        selected["forwards_of_grid"],
        selected["selected"]["forwards"]
    );

    let (done, found) = classify(&[&bright, &dark, &bright]);
    assert!(done.status.success());
    let class = |i: usize| found[i]["top"][0]["class"].as_str().unwrap();
    assert_eq!([class(0), class(1), class(2)], ["bright", "dark", "bright"]);
    assert_eq!(found[0]["top"], found[2]["top"]);

    // One bad file costs the others nothing, in any company.
    let (done, with_broken) = classify(&[&bright, &broken, &dark]);
    assert!(!done.status.success());
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(
        said.contains("1 of 3 images cannot be classified"),
        "{said}"
    );
    assert!(said.contains("broken.png"), "{said}");
    assert_eq!(with_broken[0]["top"], found[0]["top"]);
    assert_eq!(with_broken[2]["top"], found[1]["top"]);
    assert!(with_broken[1]["error"].as_str().is_some());
}

#[test]
fn images_of_the_same_names_and_sizes_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let picture = |name: &str, level: u8| {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        // Of one level below 144, whose code in a PNG is as long as any other's.
        let image = image::GrayImage::from_pixel(28, 28, image::Luma([level]));
        image.save(&path).unwrap();
        std::fs::metadata(path).unwrap().len()
    };
    let mut sizes = Vec::new();
    for (split, lift) in [("train", 10), ("test", 80)] {
        for class in ["a", "b"] {
            for number in 0..5 {
                let level = lift + number * 4 + if class == "a" { 0 } else { 30 };
                sizes.push(picture(
                    &format!("photos/{split}/{class}/{number}.png"),
                    level,
                ));
            }
        }
    }
    assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    let model = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mini/model.safetensors"
    );
    let extract = |split: &str, out: &str| {
        let (photos, out) = (at("photos"), at(out));
        let args = [
            "extract",
            &photos,
            "--split",
            split,
            "--checkpoint",
            model,
            "--out",
            &out,
        ];
        diffrep(
            &[
                &args[..],
                &["--t", "10", "--block", "7", "--pool", "1", "--quiet"],
            ]
            .concat(),
        )
    };
    assert!(extract("train", "f-train").status.success());
    assert!(extract("test", "f-test").status.success());
    // Training and test are not taken for the same images.
    works(&[
        "probe",
        &at("f-train"),
        &at("f-test"),
        "--head",
        "ridge",
        "--quiet",
    ]);
    // Nor are features of an image that was replaced.
    assert!(
        extract("train", "f-train").status.success(),
        "it is there already"
    );
    assert_eq!(picture("photos/train/a/0.png", 9), sizes[0]);
    let again = extract("train", "f-train");
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(
        !again.status.success() && said.contains("another"),
        "{said}"
    );
}
