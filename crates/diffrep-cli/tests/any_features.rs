//! `diffrep probe` on safetensors files that this project did not write.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};
use serde_json::Value;

fn probe(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .arg("probe")
        .args(args)
        .args(["--json", "--quiet"])
        .output()
        .unwrap()
}

fn works(args: &[&str]) -> Value {
    let done = probe(args);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{args:?}: {stderr}");
    serde_json::from_slice(&done.stdout).unwrap()
}

fn fails(args: &[&str], hint: &str) {
    let done = probe(args);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{args:?}");
    assert!(
        stderr.contains(hint) && !stderr.contains("panicked"),
        "{args:?}: {stderr}"
    );
}

/// `count` samples of `labels` in turn, each far from those of other classes and from zero.
fn write(path: &Path, shape: &[usize], labels: &[i64], count: usize, shift: f32) -> String {
    let labels: Vec<i64> = (0..count).map(|i| labels[i % labels.len()]).collect();
    let dim: usize = shape.iter().product();
    let values = labels.iter().enumerate().flat_map(|(sample, label)| {
        (0..dim).map(move |feature| {
            let wave = ((sample * dim + feature) as f32 * 0.7 + shift).sin();
            let here = feature % 4 == *label as usize % 4;
            f32::from(u8::from(here)) * 4.0 + wave
        })
    });
    let features: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    let shape = [&[count], shape].concat();
    let bytes: Vec<u8> = labels
        .iter()
        .flat_map(|label| label.to_le_bytes())
        .collect();
    let views = [
        (
            "features",
            TensorView::new(Dtype::F32, shape, &features).unwrap(),
        ),
        (
            "labels",
            TensorView::new(Dtype::I64, vec![count], &bytes).unwrap(),
        ),
    ];
    std::fs::write(path, serialize(views, None).unwrap()).unwrap();
    path.display().to_string()
}

/// The file at `path` with `ids` beside what it has, at `out`.
fn with_ids(path: &str, out: &Path, ids: impl Iterator<Item = u64>) -> String {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let ids: Vec<u64> = ids
        .take(file.tensor("labels").unwrap().shape()[0])
        .collect();
    let shape = vec![ids.len()];
    let ids: Vec<u8> = ids.into_iter().flat_map(u64::to_le_bytes).collect();
    let mut views: Vec<(String, TensorView<'_>)> = file.tensors();
    views.push((
        "ids".into(),
        TensorView::new(Dtype::U64, shape, &ids).unwrap(),
    ));
    std::fs::write(out, serialize(views, None).unwrap()).unwrap();
    out.display().to_string()
}

/// The samples of the file at `path` from `first` on, at `out`.
fn part(path: &str, out: &Path, first: usize) -> String {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let views = file.tensors().into_iter().map(|(name, view)| {
        let (shape, row) = (view.shape(), view.data().len() / view.shape()[0]);
        let shape = [&[shape[0] - first][..], &shape[1..]].concat();
        let data = view.data()[first * row..].to_vec();
        (name, view.dtype(), shape, data)
    });
    let parts: Vec<_> = views.collect();
    let views = parts.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(out, serialize(views, None).unwrap()).unwrap();
    out.display().to_string()
}

#[test]
fn ids_of_files_tell_images_that_training_and_test_share() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let plain = write(&at("plain"), &[8], &[0, 1, 2], 90, 0.0);
    let train = with_ids(&plain, &at("train"), 0..);
    // The last samples of the training file, under the ids that they have there.
    let leaked = with_ids(&part(&plain, &at("part"), 60), &at("leaked"), 60..);
    let ridge = ["--head", "ridge"];
    let told = "share images: of 30 ids that are in both, 30 have the same features";
    fails(&[&[&*train, &*leaked], &ridge[..]].concat(), told);
    fails(
        &[&[&*train, "--validation", &*leaked], &ridge[..]].concat(),
        told,
    );
    // Ids alone say nothing: those of another set of images may be the same.
    let other = write(&at("other"), &[8], &[0, 1, 2], 60, 1.0);
    let test = with_ids(&other, &at("test"), 0..);
    works(&[&[&*train, &*test], &ridge[..]].concat());
    // Three samples of an image are on one side of the cut for validation: of 10 images of a class two are held out.
    let by_three = write(&at("three"), &[8], &[0, 0, 0, 1, 1, 1, 2, 2, 2], 90, 0.0);
    let by_three = with_ids(&by_three, &at("by-three"), (0..).map(|row| row / 3));
    let found = works(&[&[&*by_three, &*test], &ridge[..]].concat());
    assert_eq!(found["runs"][0]["trained_on"], 24);
    assert_eq!(found["runs"][0]["rows_each"], 3);
    let mixed = with_ids(&plain, &at("mixed"), (0..).map(|row| row % 30));
    fails(
        &[&[&*mixed, &*test], &ridge[..]].concat(),
        "leave `ids` out",
    );
}

#[test]
fn files_of_any_origin_are_probed() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let train = write(&at("train.safetensors"), &[8], &[0, 1, 2], 90, 0.0);
    let test = write(&at("test.safetensors"), &[8], &[0, 1, 2], 60, 1.0);
    // The paper's recipe takes 28 steps on so few samples: `mini` takes enough.
    for (head, recipe) in [
        ("linear", "mini"),
        ("ridge", "ridge"),
        ("logistic", "logistic"),
        ("knn", "knn"),
    ] {
        let named = ["--head", head, "--recipe", recipe, "--seeds", "2"];
        let found = works(&[&[&*train, &*test], &named[..]].concat());
        assert_eq!(found["held_out"], true);
        // A fifth of each class was held out to choose on.
        assert_eq!(found["runs"][1]["trained_on"], 72, "{head}");
        assert!(
            found["test"]["mean"].as_f64().unwrap() > 0.95,
            "{head}: {}",
            found["test"]
        );
        assert_eq!(found["runs"][0]["test"]["top5"], 1.0);
        assert_eq!(found["chosen"][0], "features");
        let gradient = found["runs"][0]["gradient_norm"].as_f64();
        assert_eq!(gradient.is_some(), head == "logistic", "{gradient:?}");
        assert_eq!(
            found["tried"][0]["gradient_norm"].as_f64(),
            gradient,
            "{head}"
        );
    }
    let few = works(&[
        &train,
        &test,
        "--head",
        "ridge",
        "--per-class",
        "3",
        "--seeds",
        "3",
    ]);
    assert_eq!(few["runs"][2]["trained_on"], 9);
    // Choices are made on all 18 that are held out, unless these are cut too.
    assert_eq!(few["chosen_on"], 18);
    let cut = ["--head", "ridge", "--per-class", "3"];
    let cut = works(
        &[
            &[&*train, &*test],
            &cut[..],
            &["--validation-per-class", "2"],
        ]
        .concat(),
    );
    assert_eq!(cut["runs"][0]["trained_on"], 9);
    assert_eq!(cut["chosen_on"], 6);
    let share = works(&[&train, &test, "--head", "ridge", "--share", "0.25"]);
    assert_eq!(share["runs"][0]["trained_on"], 18);

    let maps = write(&at("maps.safetensors"), &[4, 4, 4], &[0, 1], 40, 0.0);
    let other = write(&at("other.safetensors"), &[4, 4, 4], &[0, 1], 20, 1.0);
    let recipe = at("short.toml").display().to_string();
    let text = "name = \"short\"\nepochs = 3\nbatch = 8\nstep_every = 3\nstep_factor = 0.1\n\
                standardize = true\nlearning_rates = [1e-2]\nweight_decays = [0.0]\n";
    std::fs::write(&recipe, text).unwrap();
    let board = at("board").display().to_string();
    let mlp = [&maps, &other, "--head", "mlp", "--recipe", &recipe];
    let found = works(&[&mlp[..], &["--tensorboard", &board]].concat());
    assert!(
        found["test"]["mean"].as_f64().unwrap() > 0.9,
        "{}",
        found["test"]
    );
    assert_eq!(
        scalars(&at("board")),
        // 32 of 40 samples in batches of 8, three times.
        BTreeMap::from([
            ("loss/train".to_owned(), 12),
            ("loss/validation".to_owned(), 3),
            ("accuracy/validation".to_owned(), 3),
            ("rate".to_owned(), 3),
        ])
    );
}

/// How many numbers of each name are in the one event file below a folder.
fn scalars(board: &Path) -> BTreeMap<String, usize> {
    // A folder for the column, in it one for the head.
    let mut path = board.to_path_buf();
    for _ in 0..3 {
        let inside: Vec<_> = std::fs::read_dir(&path).unwrap().collect();
        let [Ok(only)] = &inside[..] else {
            panic!("{inside:?}")
        };
        path = only.path();
    }
    assert!(path.to_string_lossy().contains("tfevents"), "{path:?}");
    let bytes = std::fs::read(path).unwrap();
    let names = [
        "loss/train",
        "loss/validation",
        "accuracy/validation",
        "rate",
    ];
    let mut found = BTreeMap::new();
    let mut rest = &bytes[..];
    while let Some((length, more)) = rest.split_first_chunk::<8>() {
        let length = u64::from_le_bytes(*length) as usize;
        let record = &more[4..4 + length];
        rest = &more[8 + length..];
        let holds = |name: &&&str| {
            record
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        if let Some(name) = names.iter().find(holds) {
            *found.entry((*name).to_owned()).or_default() += 1;
        }
    }
    found
}

#[test]
fn what_cannot_be_probed_is_told_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let train = write(&at("train.safetensors"), &[8], &[0, 1, 2], 90, 0.0);
    let test = write(&at("test.safetensors"), &[8], &[0, 1, 2], 60, 1.0);
    let wide = write(&at("wide.safetensors"), &[9], &[0, 1, 2], 60, 1.0);
    let gap = write(&at("gap.safetensors"), &[8], &[0, 1, 5], 60, 1.0);
    let single = write(&at("single.safetensors"), &[8], &[0], 1, 1.0);
    let empty = write(&at("empty.safetensors"), &[8], &[0], 0, 1.0);
    fails(&[&train, &train], "the same features");
    fails(&[&train, &wide], "has shape [8]");
    fails(&[&train, &gap], "label 5 in");
    fails(&[&gap, &test], "class 2 has no training sample");
    fails(&[&single, &test], "one class");
    fails(&[&empty, &test], "has no samples");
    fails(
        &[&train, &test, "--column", "t10_b07_p4"],
        "whose one column is `features`",
    );
    fails(
        &[&train, &test, "--recipe", "ridge", "--head", "mlp"],
        "finds the optimum of a linear",
    );
    fails(&[&train, &test, "--recipe", "knn"], "is for --head knn");
    fails(
        &[&train, &test, "--recipe", "paper", "--head", "knn"],
        "needs a recipe with `neighbours`",
    );
    fails(
        &[&train, &test, "--recipe", "paper", "--head", "ridge"],
        "is not one for --head ridge",
    );
    fails(&[&train, &test, "--per-class", "500"], "cannot be cut");
    fails(
        &[&train, &test, "--validation-per-class", "500"],
        "cannot be cut",
    );
    fails(&[&train, &test, "--share", "1.5"], "between 0 and 1");
    fails(&[&train, &test, "--head", "lstm"], "no head `lstm`");
    fails(
        &[&train, &test, "--save", "x.safetensors"],
        "tells no encoder",
    );
    fails(&["--print-recipe", "papr"], "no recipe `papr`");
}
