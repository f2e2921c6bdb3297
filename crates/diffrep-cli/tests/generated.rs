//! Images are drawn, drawn again to the same bits, and scored against real ones.

mod common;

use std::path::Path;

use common::{CLASSIFIER, MODEL, ROOT, refuses, works};

fn draw<'a>(out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let base = [
        "sample",
        "--checkpoint",
        MODEL,
        "--steps",
        "ddim5",
        "--batch",
        "4",
        "--out",
        out,
    ];
    [&base, more].concat()
}

#[test]
fn images_are_the_same_after_a_stop_and_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let image =
        |run: &str, id: usize| std::fs::read(Path::new(run).join(format!("{id:06}.png"))).unwrap();
    let (whole, part) = (at("whole"), at("part"));
    let done = works(&draw(&whole, &["--count", "6"]));
    assert_eq!(
        (&done["images"], &done["drawn"], &done["steps"]),
        (&6.into(), &6.into(), &5.into())
    );
    // Two are lost, as after a kill, and only these are drawn again.
    let before: Vec<Vec<u8>> = (0..6).map(|id| image(&whole, id)).collect();
    for id in [2, 5] {
        std::fs::remove_file(Path::new(&whole).join(format!("{id:06}.png"))).unwrap();
    }
    assert_eq!(works(&draw(&whole, &["--count", "6"]))["drawn"], 2);
    let after: Vec<Vec<u8>> = (0..6).map(|id| image(&whole, id)).collect();
    assert!(before == after, "an image changed");
    // Two processes that share the numbers.
    works(&draw(&part, &["--count", "3"]));
    works(&draw(&part, &["--count", "3", "--first", "3"]));
    for (id, bytes) in before.iter().enumerate() {
        let near = |a: &[u8], b: &[u8]| {
            let [a, b] = [a, b].map(|bytes| image::load_from_memory(bytes).unwrap().into_luma8());
            a.iter().zip(b.iter()).all(|(a, b)| a.abs_diff(*b) <= 1)
        };
        assert!(
            near(&image(&part, id), bytes),
            "image {id} of a smaller batch"
        );
    }
    refuses(
        &draw(&whole, &["--count", "6", "--seed", "1"]),
        &["drawn otherwise", "seed is 0 there and 1 now"],
    );
}

#[test]
fn an_archive_holds_the_images_of_the_folder_and_goes_on_after_a_stop() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (folder, file) = (at("folder"), at("samples.npz"));
    let parts = dir.path().join("samples.npz.parts");
    works(&draw(&folder, &["--count", "8"]));
    let all = |path: &str| {
        let found = diffrep_fid::ImageFile::open(path).unwrap();
        assert_eq!(
            (found.height(), found.width(), found.labels()),
            (32, 32, None)
        );
        let mut bytes = Vec::new();
        let read = found.for_each(3, |batch| {
            bytes.extend_from_slice(batch.pixels);
            Ok::<_, diffrep_fid::FidError>(())
        });
        read.unwrap();
        bytes
    };
    let image = |id: usize| {
        let path = Path::new(&folder).join(format!("{id:06}.png"));
        image::open(path).unwrap().into_rgb8().into_raw()
    };
    // What a killed run leaves: some pictures in the folder beside, and no file.
    works(&draw(&file, &["--count", "4"]));
    std::fs::remove_file(&file).unwrap();
    std::fs::create_dir(&parts).unwrap();
    for name in ["000001.png", "000002.png", "sampling.json"] {
        std::fs::copy(Path::new(&folder).join(name), parts.join(name)).unwrap();
    }
    assert_eq!(works(&draw(&file, &["--count", "4"]))["drawn"], 2);
    assert!(!parts.exists(), "a whole file needs no parts");
    assert_eq!(all(&file), (0..4).flat_map(image).collect::<Vec<u8>>());
    assert_eq!(works(&draw(&file, &["--count", "4"]))["drawn"], 0);
    // More of them: those of the file are not drawn again.
    assert_eq!(works(&draw(&file, &["--count", "8"]))["drawn"], 4);
    assert_eq!(all(&file), (0..8).flat_map(image).collect::<Vec<u8>>());
    // Fewer are there already, and what would leave a gap is refused: a file loses nothing.
    assert_eq!(works(&draw(&file, &["--count", "2"]))["drawn"], 0);
    let gap = draw(&file, &["--first", "20", "--count", "2"]);
    refuses(&gap, &["samples.npz", "do not adjoin"]);
    assert_eq!(all(&file), (0..8).flat_map(image).collect::<Vec<u8>>());
    refuses(
        &draw(&file, &["--count", "8", "--seed", "1"]),
        &[
            "drawn otherwise",
            "seed is 0 there and 1 now",
            "samples.npz",
        ],
    );
    // A file and a folder of the same images are the same to a judge.
    let itself = works(&["fid", &file, &folder, "--classifier", CLASSIFIER]);
    assert!(itself["frechet"]["distance"].as_f64().unwrap().abs() < 1e-9);

    let labelled = at("labelled.npz");
    let guide = [
        "--count",
        "3",
        "--classifier",
        CLASSIFIER,
        "--label",
        "cycle",
    ];
    works(&draw(&labelled, &guide));
    let found = diffrep_fid::ImageFile::open(&labelled).unwrap();
    assert_eq!(found.labels(), Some(&[0, 1, 2][..]));

    let other = at("other.npz");
    diffrep_fid::write_images(&other, [1, 1, 1], None, None, |_| {
        Ok::<_, diffrep_fid::FidError>(vec![0; 3])
    })
    .unwrap();
    refuses(
        &draw(&other, &["--count", "2"]),
        &["other.npz", "another origin"],
    );
    std::fs::write(&other, "no archive").unwrap();
    refuses(&draw(&other, &["--count", "2"]), &["other.npz", "damaged"]);
}

/// Photographs of several sizes in class folders, and the same as one size.
#[test]
fn data_sets_are_scored_by_the_split_and_at_the_size_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("photos");
    let real = diffrep_datasets::open(
        Path::new(ROOT).join("fixtures/fashion-mnist"),
        diffrep_datasets::Split::Test,
    )
    .unwrap();
    for index in 0..24 {
        let split = ["train", "test"][index % 2];
        let folder = root.join(split).join(format!("class{}", index / 2 % 2));
        std::fs::create_dir_all(&folder).unwrap();
        let picture = real.image(index).unwrap();
        let picture = image::GrayImage::from_raw(28, 28, picture.pixels().to_vec()).unwrap();
        // Twice as high and wide, and for every third image higher still.
        let height = if index % 3 == 0 { 72 } else { 56 };
        let filter = image::imageops::FilterType::Nearest;
        let picture = image::imageops::resize(&picture, 56, height, filter);
        picture.save(folder.join(format!("{index}.png"))).unwrap();
    }
    let root = root.display().to_string();
    let base = ["fid", &root, &root, "--classifier", CLASSIFIER];
    refuses(&base, &["56 x 72", "56 x 56", "--size"]);
    let found = works(&[&base[..], &["--size", "28"]].concat());
    assert_eq!(found["frechet"]["samples"]["count"], 12);
    assert!(found["frechet"]["distance"].as_f64().unwrap().abs() < 1e-9);
    let rule = found["frechet"]["samples"]["source"]["resize"].as_str();
    assert!(rule.unwrap().starts_with("centre crop to 28, "), "{rule:?}");
    // The training images are others.
    let test = dir.path().join("photos/test").display().to_string();
    let other = works(&[
        "fid",
        &root,
        &test,
        "--classifier",
        CLASSIFIER,
        "--size",
        "28",
        "--split",
        "train",
    ]);
    assert!(other["frechet"]["distance"].as_f64().unwrap() > 1e-3);
    refuses(
        &[&base[..], &["--size", "28", "--split", "validation"]].concat(),
        &["validation", "train, test"],
    );
    refuses(
        &["fid", "absent.parquet", &root, "--classifier", CLASSIFIER],
        &["absent.parquet"],
    );
}

#[test]
fn a_guide_makes_what_it_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("sandals").display().to_string();
    let guide = [
        "--count",
        "8",
        "--classifier",
        CLASSIFIER,
        "--guidance",
        "4",
        "--label",
        "5",
    ];
    let args = [
        "sample",
        "--checkpoint",
        MODEL,
        "--steps",
        "ddim10",
        "--batch",
        "8",
        "--out",
        &out,
    ];
    works(&[&args[..], &guide].concat());
    let plain = dir.path().join("plain").display().to_string();
    works(&draw(&plain, &["--count", "8"]));
    // By the guide's own features they are nearer to real sandals than what is drawn without it.
    let sandals = dir.path().join("real");
    std::fs::create_dir(&sandals).unwrap();
    let data = diffrep_datasets::open(
        Path::new(ROOT).join("fixtures/fashion-mnist"),
        diffrep_datasets::Split::Test,
    );
    let data = data.unwrap().only_classes(&["Sandal".into()]).unwrap();
    for index in 0..100 {
        let image = data.image(index).unwrap();
        let image = image::GrayImage::from_raw(28, 28, image.pixels().to_vec()).unwrap();
        image.save(sandals.join(format!("{index}.png"))).unwrap();
    }
    let sandals = sandals.display().to_string();
    let distance = |samples: &str| {
        let found = works(&[
            "fid",
            samples,
            &sandals,
            "--classifier",
            CLASSIFIER,
            "--only-frechet",
        ]);
        found["frechet"]["mean_term"].as_f64().unwrap()
    };
    let (guided, plain) = (distance(&out), distance(&plain));
    assert!(guided < 0.5 * plain, "{guided} against {plain}");
}

#[test]
fn generated_images_are_scored_against_real_ones() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let (ours, stats) = (at("ours"), at("statistics.npz"));
    works(&draw(&ours, &["--count", "12"]));
    let real = "fixtures/fashion-mnist";
    let score = |samples: &str, reference: &str, more: &[&str]| {
        let base = [
            "fid",
            samples,
            reference,
            "--classifier",
            CLASSIFIER,
            "--limit",
            "300",
        ];
        works(&[&base[..], more].concat())
    };
    let itself = score(real, real, &["--save-statistics", &stats]);
    assert_eq!(
        itself["name"], "frechet",
        "a classifier's features are not FID's"
    );
    assert!(itself["frechet"]["distance"].as_f64().unwrap().abs() < 1e-9);
    assert_eq!(itself["precision_recall"]["precision"], 1.0);
    let found = score(&ours, real, &[]);
    let distance = found["frechet"]["distance"].as_f64().unwrap();
    assert!(distance > 0.01, "{distance}");
    assert_eq!(found["frechet"]["samples"]["count"], 12);
    assert_eq!(found["frechet"]["rank_deficient"], true);
    // The same from statistics that were kept.
    let base = ["fid", &ours, &stats, "--classifier", CLASSIFIER];
    let again = works(&base);
    refuses(
        &[&base[..], &["--limit", "5"]].concat(),
        &["--limit is for images"],
    );
    assert_eq!(again["frechet"]["distance"].as_f64(), Some(distance));
    assert!(again["kid"].is_null(), "statistics have no images");
}

#[test]
fn what_cannot_be_drawn_or_scored_is_said_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("x").display().to_string();
    let cases: [(&[&str], &[&str]); 15] = [
        (&["--steps", "ddim7000"], &["ddim7000"]),
        (&["--steps", "1001"], &["1001", "1000"]),
        (&["--steps", "ddim"], &["ddim"]),
        (&["--steps", "10,,20"], &["10,,20"]),
        (&["--steps", "fast"], &["fast"]),
        (&["--sampler", "euler"], &["euler", "dpm-solver"]),
        (&["--variance", "learned"], &["learned no variance"]),
        (&["--label", "3"], &["knows no classes", "--classifier"]),
        (&["--classifier", CLASSIFIER], &["--label"]),
        (
            &["--classifier", CLASSIFIER, "--label", "10"],
            &["label 10", "0..=9"],
        ),
        (
            &["--classifier", MODEL, "--label", "1"],
            &["classifies none"],
        ),
        (&["--count", "0"], &["--count"]),
        (&["--guidance", "2"], &["--classifier"]),
        (
            &[
                "--classifier",
                CLASSIFIER,
                "--label",
                "1",
                "--guidance",
                "nan",
            ],
            &["finite"],
        ),
        (&["--first", "18446744073709551615"], &["leaves no numbers"]),
    ];
    for (more, words) in cases {
        let base = ["sample", "--checkpoint", MODEL, "--out", &out];
        refuses(&[&base[..], more].concat(), words);
    }
    let base = ["sample", "--checkpoint", CLASSIFIER, "--out", &out];
    refuses(&base, &["classifies and draws no images"]);

    let mixed = dir.path().join("mixed");
    std::fs::create_dir(&mixed).unwrap();
    for (name, side) in [("a.png", 28), ("b.png", 20)] {
        image::GrayImage::new(side, side)
            .save(mixed.join(name))
            .unwrap();
    }
    let mixed = mixed.display().to_string();
    let classifier = ["--classifier", CLASSIFIER];
    refuses(
        &["fid", &mixed, "fixtures/fashion-mnist"],
        &["--inception or --classifier"],
    );
    refuses(
        &[&["fid", &mixed, "fixtures/fashion-mnist"][..], &classifier].concat(),
        &["28 x 28", "20 x 20", "one size"],
    );
    let one = dir.path().join("one");
    std::fs::create_dir(&one).unwrap();
    image::GrayImage::new(28, 28)
        .save(one.join("a.png"))
        .unwrap();
    let one = one.display().to_string();
    refuses(
        &[&["fid", &one, "fixtures/fashion-mnist"][..], &classifier].concat(),
        &["at least 2 images"],
    );
    let three = dir.path().join("three");
    std::fs::create_dir(&three).unwrap();
    for name in ["a", "b", "c"] {
        let picture = image::GrayImage::from_pixel(28, 28, image::Luma([name.as_bytes()[0]]));
        picture.save(three.join(format!("{name}.png"))).unwrap();
    }
    let three = three.display().to_string();
    let few = ["fid", &three, &three, "--classifier", CLASSIFIER];
    refuses(&few, &["at least 4", "there are 3"]);
    works(&[&few[..], &["--only-frechet"]].concat());
    refuses(&["fid", MODEL, MODEL], &[MODEL]);
}
