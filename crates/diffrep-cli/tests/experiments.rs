//! Every experiment but the first, at the scale that proves the pipeline.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

/// Runs an experiment twice: what its results hold, and what was said the second time.
fn twice(name: &str, runs: &Path) -> (Value, String) {
    let run = || {
        let done = Command::new(env!("CARGO_BIN_EXE_diffrep"))
            .args(["reproduce", name, "--scale", "smoke", "--runs"])
            .arg(runs)
            .current_dir(ROOT)
            .output()
            .unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert!(done.status.success(), "{name}: {stderr}");
        let folder = runs.join(format!("{name}-smoke"));
        for file in ["report.html", "report.md", "results.json"] {
            assert!(folder.join(file).exists(), "{name}: {file} is missing");
        }
        let text = std::fs::read_to_string(folder.join("results.json")).unwrap();
        let record: Value = serde_json::from_str(&text).unwrap();
        (record["data"].clone(), stderr)
    };
    let (first, _) = run();
    let (second, said) = run();
    // Everything but the time that a step took comes back.
    let without_seconds = |mut data: Value| {
        for draw in data["draws"].as_array_mut().into_iter().flatten() {
            draw["seconds"] = Value::Null;
        }
        data
    };
    assert_eq!(without_seconds(second), without_seconds(first.clone()));
    (first, said)
}

/// That a step of each name was not done again.
fn skipped(said: &str, steps: &[&str]) {
    for step in steps {
        assert!(said.contains(&format!("{step}: done before")), "{said}");
    }
}

/// The names and test accuracies of contenders.
fn standings(data: &Value) -> Vec<(&str, f64)> {
    let entries = data["contenders"].as_array().unwrap().iter();
    let standing = |entry| (text(entry, "name"), entry["test"]["mean"].as_f64().unwrap());
    entries.map(standing).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap()
}

#[test]
fn heads_of_every_kind_are_compared_and_two_experiments_share_their_work() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("figure1", dir.path());
    skipped(&said, &["diffusion-linear-seed0", "diffusion-fusion-seed1"]);
    let names: Vec<&str> = standings(&data).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["linear", "MLP, pool 1", "cnn", "fusion"]);
    let columns = |i: usize| data["contenders"][i]["scores"][0]["candidate"]["columns"].clone();
    assert_eq!(columns(1), serde_json::json!(["t10_b07_p1"]));
    assert_eq!(columns(3).as_array().unwrap().len(), 4);
    // The paper's order of heads is that of ImageNet-50, and other experiments tell none.
    let report = std::fs::read_to_string(dir.path().join("figure1-smoke/report.md")).unwrap();
    let order = "paper's order on ImageNet-50 is attention, CNN, MLP, linear";
    assert!(report.contains(order), "{report}");

    let (data, said) = twice("table1", dir.path());
    let names: Vec<&str> = standings(&data).iter().map(|(name, _)| *name).collect();
    assert_eq!(
        names,
        [
            "linear, pool 2",
            "linear, pool 1",
            "attention",
            "U-Net encoder"
        ]
    );
    let steps = ["classifier-classifier-seed1", "samples", "generation"];
    skipped(&said, &steps);
    let generation = &data["generation"];
    let distance = |which: &str| generation[which]["frechet"]["distance"].as_f64().unwrap();
    let count = |which: &str| generation[which]["frechet"]["samples"]["count"].clone();
    assert_eq!(
        (count("drawn"), count("real"), count("noise")),
        (8.into(), 8.into(), 8.into())
    );
    assert!(
        distance("real") < distance("drawn") && distance("drawn") < distance("noise"),
        "{generation}"
    );
    let report = std::fs::read_to_string(dir.path().join("table1-smoke/report.md")).unwrap();
    assert!(report.contains("Frechet distance (not FID)"), "{report}");
    assert!(
        report.contains("From best to worst: ") && !report.contains("the order here"),
        "{report}"
    );
    // Its maps are those of the first experiment: two seeds of three splits, and nothing twice.
    let train = dir.path().join("features/diffusion-train");
    let images: Vec<_> = std::fs::read_dir(&train)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert_eq!(images.len(), 2, "one folder a seed");
    for images in images {
        assert_eq!(std::fs::read_dir(images.path()).unwrap().count(), 1);
    }
}

#[test]
fn heads_keep_to_their_own_block_and_timestep() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _) = twice("table3", dir.path());
    let read = |i: usize| data["contenders"][i]["scores"][0]["candidate"]["columns"][0].clone();
    let columns: Vec<Value> = (0..4).map(read).collect();
    assert_eq!(
        columns,
        ["t10_b05_p8", "t10_b05_p8", "t100_b07_p8", "t100_b07_p8"]
    );
}

#[test]
fn every_contender_may_read_a_network_of_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("table4", dir.path());
    skipped(
        &said,
        &["tune-null-text-seed0", "tune-guided-diffusion-seed0"],
    );
    let names: Vec<&str> = standings(&data).iter().map(|(name, _)| *name).collect();
    let expected = ["null text", "learned text", "a text", "guided diffusion"];
    assert_eq!(names, expected);
    let entries = data["contenders"].as_array().unwrap();
    let network = |i: usize| entries[i]["network"].as_str().unwrap_or_default();
    assert!(
        network(0).contains("sd1 at 16 x 16 pixels, told the empty text"),
        "{data}"
    );
    assert!(network(1).contains("a text that is learned from the empty one"));
    assert!(network(2).contains("24 x 24 pixels, told \"the cat\""));
    assert_eq!(network(3), "", "it reads the experiment's own");
    // The text of 77 tokens is trained beside the head, and moves the loss.
    let parameters = |i: usize| entries[i]["scores"][0]["parameters"].as_u64().unwrap();
    assert_eq!(parameters(1) - parameters(0), 77 * 24);
    let loss = |i: usize| entries[i]["scores"][0]["curve"][5]["train_loss"].clone();
    assert_ne!(loss(0), loss(1));
    // All are compared on the same images.
    assert!(entries.iter().skip(1).all(|one| one["ahead"]["n"] == 100));
    let report = std::fs::read_to_string(dir.path().join("table4-smoke/report.md")).unwrap();
    assert!(
        report.contains("weights of Stable Diffusion here are random"),
        "{report}"
    );
}

#[test]
fn crops_in_training_change_what_is_learned() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("table6", dir.path());
    skipped(&said, &["tune-flips-seed0", "tune-flips-and-crops-seed0"]);
    let loss = |i: usize| data["contenders"][i]["scores"][0]["curve"][5]["train_loss"].clone();
    assert_ne!(loss(0), loss(1));
}

#[test]
fn heads_are_carried_over_to_several_data_sets() {
    for (name, steps) in [
        ("figure4", ["diffusion-linear-seed0", "pixels-linear-seed0"]),
        ("figure7", ["tune-linear-seed0", "tune-mlp--crops-seed0"]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (data, said) = twice(name, dir.path());
        skipped(&said, &steps);
        for (index, (set, classes)) in [("two", 2), ("shoes", 2)].into_iter().enumerate() {
            let found = &data["data"][index];
            assert_eq!(
                (text(found, "name"), &found["classes"]),
                (set, &classes.into())
            );
            assert_eq!((&found["train"], &found["test"]), (&20.into(), &40.into()));
            // Each data set has a report of its own.
            let folder = dir.path().join(format!("{name}-smoke/{set}"));
            let record = std::fs::read_to_string(folder.join("results.json")).unwrap();
            let record: Value = serde_json::from_str(&record).unwrap();
            let heads = if name == "figure4" { 3 } else { 4 };
            assert_eq!(standings(&record["data"]).len(), heads);
            assert!(folder.join("report.html").exists());
        }
    }
}

#[test]
fn layers_are_compared_within_and_between_networks() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("figure6", dir.path());
    let comparisons = data["comparisons"].as_array().unwrap();
    assert_eq!(comparisons.len(), 8);
    // Stable Diffusion is compared where it is, and what is not there is told.
    assert_eq!(comparisons[7]["columns"].as_array().unwrap().len(), 9);
    assert_eq!(data["left_out"][0], "one that is not there");
    assert!(
        said.contains("left out: there is no fixtures/latent/sd9"),
        "{said}"
    );
    for (index, row) in comparisons[0]["values"]
        .as_array()
        .unwrap()
        .iter()
        .enumerate()
    {
        let itself = row[index].as_f64().unwrap();
        assert!((itself - 1.0).abs() < 1e-9, "{itself}");
    }
    let classifier = comparisons[3]["values"][0].as_array().unwrap().len();
    assert!(classifier < 13, "an encoder has no decoder");
    // A ResNet of eight blocks; a vision transformer of six and its last normalisation.
    for (comparison, layers) in [(5, 8), (6, 7)] {
        let columns = comparisons[comparison]["columns"].as_array().unwrap();
        assert_eq!(columns.len(), layers, "{columns:?}");
    }
    assert_eq!(comparisons[5]["columns"][0], "layer1.0");
    assert_eq!(comparisons[6]["columns"][6], "norm");
}

#[test]
fn noised_images_are_shown_with_what_one_step_makes_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("figure3", dir.path());
    skipped(&said, &["denoising"]);
    assert_eq!(data["images"], 16);
    let error = |i: usize| data["timesteps"][i]["error"]["mean"].as_f64().unwrap();
    let mean_image = data["mean_image"]["mean"].as_f64().unwrap();
    // The more noise, the less is known of the image; the mean image knows nothing of it.
    assert!(
        0.0 < error(0) && error(0) < error(1) && error(1) < mean_image,
        "{data}"
    );
    let report = std::fs::read_to_string(dir.path().join("figure3-smoke/report.md")).unwrap();
    assert!(report.contains("t = 500"), "{report}");
    let pictures = dir.path().join("figure3-smoke/figures");
    let png = std::fs::read_dir(pictures).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.extension().is_some_and(|extension| extension == "png")
    });
    assert_eq!(png.count(), 1);
}

#[test]
fn a_fine_grained_task_is_some_of_the_classes() {
    let dir = tempfile::tempdir().unwrap();
    let (data, _) = twice("figure5", dir.path());
    assert_eq!(data["data"]["classes"], 2);
    assert_eq!(data["subjects"][0]["cells"][0].as_array().unwrap().len(), 2);
}

#[test]
fn trainings_with_the_network_in_the_loop_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("table2", dir.path());
    skipped(&said, &["tune-frozen-seed0", "tune-fine-tuned-seed1"]);
    let entries = data["contenders"].as_array().unwrap();
    let parameters = |i: usize| entries[i]["scores"][0]["parameters"].as_u64().unwrap();
    assert!(parameters(1) > 10 * parameters(0));
    // A tenth of the test images would be right by chance.
    for entry in entries {
        assert!(entry["test"]["mean"].as_f64().unwrap() > 0.3, "{entry}");
    }
    assert!(entries[1]["ahead"]["n"] == 100 && entries[0]["ahead"].is_null());
}

#[test]
fn a_search_is_held_against_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("select", dir.path());
    skipped(&said, &["grid-diffusion-seed0", "halving-diffusion-seed1"]);
    assert_eq!(data["grid"], 4 * 4 * 2);
    for draw in data["draws"].as_array().unwrap() {
        let rounds = |which: &str| draw[which]["rounds"].as_array().unwrap().len();
        assert_eq!((rounds("grid"), rounds("search")), (1, 3));
        let count = |which: &str, what: &str| draw[which][what].as_u64().unwrap();
        // 160 training and 120 validation images at 4 timesteps.
        assert_eq!(count("grid", "forwards"), 280 * 4);
        assert_eq!(count("grid", "fits"), 32);
        // An eighth and a quarter at 4 timesteps; a quarter and what is left at 1; half at 1.
        let search = 4 * (20 + 30) + (40 - 20) + (50 - 30) + (80 - 40);
        assert_eq!(count("search", "forwards"), search);
        assert!(4 * search <= count("grid", "forwards"));
    }
    // No feature store of a search is left behind.
    let left = std::fs::read_dir(dir.path().join("features")).unwrap();
    let names = left.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(names.into_iter().all(|name| !name.contains("-round")));
}

#[test]
fn ensembles_of_draws_are_scored_by_size() {
    let dir = tempfile::tempdir().unwrap();
    let (data, said) = twice("ensemble", dir.path());
    skipped(&said, &["ensemble-diffusion-t300_b05_p4-draws1-seed0"]);
    let probes = data["probes"].as_array().unwrap();
    let sizes = |i: usize| probes[i]["scores"]["sizes"].as_array().unwrap();
    assert_eq!((probes.len(), sizes(0).len()), (2, 2));
    // Two disjoint ensembles of one draw, one of two.
    assert_eq!(sizes(0)[0]["test"].as_array().unwrap().len(), 2);
    assert_eq!(sizes(0)[1]["test"].as_array().unwrap().len(), 1);
    assert!(sizes(0)[0]["disagreement"].as_f64().unwrap() > 0.0);
    assert!(probes[0]["by_rows"].is_null() && probes[1]["by_rows"]["n"] == 200);
}
