//! Stable Diffusion as a user meets it, with small random models (fixtures/latent/README.md).

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn fixture(name: &str) -> String {
    format!(
        "{}/../../fixtures/latent/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

fn diffrep(args: &[&str]) -> Output {
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

#[track_caller]
fn fails(args: &[&str], hint: &str) {
    let done = diffrep(args);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success(), "{args:?}");
    assert!(
        stderr.contains(hint) && !stderr.contains("panicked"),
        "{args:?}: {stderr}"
    );
}

/// Two classes of two pictures.
fn pictures(dir: &Path) -> String {
    so_many_pictures(dir, 2)
}

/// Two classes of `count` pictures.
fn so_many_pictures(dir: &Path, count: u32) -> String {
    let images = dir.join("images");
    for (class, factor) in [("a", 3), ("b", 7)] {
        std::fs::create_dir_all(images.join(class)).unwrap();
        for number in 1..=count {
            let picture = image::RgbImage::from_fn(20, 18, |x, y| {
                image::Rgb([
                    (x * y * factor % 251) as u8,
                    (x * number) as u8,
                    (y * 9) as u8,
                ])
            });
            let name = format!("{number}.png");
            picture.save(images.join(class).join(name)).unwrap();
        }
    }
    images.display().to_string()
}

fn extract<'a>(
    images: &'a str,
    checkpoint: &'a str,
    out: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let fixed = [
        "extract",
        images,
        "--checkpoint",
        checkpoint,
        "--t",
        "150",
        "--block",
        "7",
        "--pool",
        "2",
        "--dtype",
        "f32",
        "--out",
        out,
    ];
    fixed.iter().copied().chain(more.iter().copied()).collect()
}

fn features(folder: &str) -> Vec<f32> {
    let bytes = std::fs::read(format!("{folder}/shard-00000.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let bytes = file.tensor("t150_b07_p2").unwrap().data().to_vec();
    let values = bytes.as_chunks::<4>().0.iter();
    values.map(|value| f32::from_le_bytes(*value)).collect()
}

#[test]
fn features_are_of_latents_and_of_the_text() {
    let dir = tempfile::tempdir().unwrap();
    let images = pictures(dir.path());
    let model = fixture("sd1");
    let store = |name: &str, more: &[&str]| {
        let out = dir.path().join(name).display().to_string();
        let told = json(&extract(&images, &model, &out, more));
        assert_eq!(told["images"], 4);
        features(&out)
    };
    let null = store("null", &[]);
    assert_eq!(null.len(), 4 * 24 * 2 * 2);
    assert_eq!(
        null,
        store("empty", &["--prompt", ""]),
        "no prompt is the empty one"
    );
    assert_ne!(null, store("told", &["--prompt", "the cat"]));
    assert_ne!(null, store("sampled", &["--latents", "sampled"]));
    assert_ne!(null, store("seed", &["--seed", "1"]));
    assert_ne!(null, store("larger", &["--size", "24"]));
    // The same store goes on with the same text alone.
    let out = dir.path().join("null").display().to_string();
    assert!(
        diffrep(&extract(&images, &model, &out, &[]))
            .status
            .success()
    );
    fails(
        &extract(&images, &model, &out, &["--prompt", "the cat"]),
        "another",
    );

    // One file of the original release gives the same features.
    let single = fixture("sd1.ckpt");
    let out = dir.path().join("single").display().to_string();
    json(&extract(&images, &single, &out, &["--arch", &model]));
    assert_eq!(null, features(&out));
}

#[test]
fn a_prompt_of_too_many_tokens_is_cut_and_said() {
    let dir = tempfile::tempdir().unwrap();
    let images = pictures(dir.path());
    let (model, prompt) = (fixture("sd2"), ["in"; 80].join(" "));
    let out = dir.path().join("store").display().to_string();
    let done = diffrep(&extract(&images, &model, &out, &["--prompt", &prompt]));
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{stderr}");
    assert!(
        stderr.contains("5 tokens too many: the network was told the first 75"),
        "{stderr}"
    );
}

#[test]
fn what_does_not_go_with_stable_diffusion_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let images = pictures(dir.path());
    let model = fixture("sd1");
    let out = dir.path().join("store").display().to_string();
    let asked = |more: &[&'static str]| {
        let more: Vec<&str> = more.to_vec();
        extract(&images, &model, &out, &more)
            .into_iter()
            .map(String::from)
            .collect::<Vec<_>>()
    };
    for (more, hint) in [
        (&["--size", "22"][..], "use a multiple of 4"),
        (&["--precision", "f16"][..], "computed in f32"),
        (&["--schedule", "cosine"][..], "in the checkpoint"),
    ] {
        let args = asked(more);
        fails(&args.iter().map(String::as_str).collect::<Vec<_>>(), hint);
    }
    let mini = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mini/model.safetensors"
    );
    fails(
        &extract(&images, mini, &out, &["--prompt", "a cat"]),
        "are for networks on latents",
    );
    let single = fixture("sd1.ckpt");
    let arch = fixture("sd2");
    fails(
        &extract(&images, &single, &out, &["--arch", &arch]),
        "does not hold the weights of",
    );
    let empty = dir.path().join("empty");
    std::fs::create_dir_all(empty.join("unet")).unwrap();
    let empty = empty.display().to_string();
    fails(
        &extract(&images, &empty, &out, &[]),
        "has no unet: expected unet/config.json",
    );
    assert!(!Path::new(&out).exists());
}

#[test]
fn inspect_tells_the_parts_and_params_counts_them() {
    let found = json(&["inspect", &fixture("sd2")]);
    assert_eq!(found["taps"].as_array().unwrap().len(), 19);
    assert_eq!(found["model"]["prediction"], "v_prediction");
    assert_eq!(found["model"]["parts"].as_array().unwrap().len(), 3);
    assert_eq!(found["parameters"], 142_716);
    let text = diffrep(&["inspect", &fixture("sd1")]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(
        text.contains("the VAE's decoder, which features do not need"),
        "{text}"
    );
    assert!(text.contains("features do not depend on it"), "{text}");
    assert_eq!(json(&["params", &fixture("sd2")])["parameters"], 142_716);

    let published = json(&["params", "stable-diffusion-1", "--block", "18"]);
    assert_eq!(published["parameters"], 859_520_964);
    let block = &published["blocks"][0];
    assert_eq!(block["parameters_up_to"], 678_805_760);
    assert_eq!(block["tap"]["channels"], 1280);
    assert_eq!(block["tap"]["height"], 16);
    fails(
        &["params", "stable-diffusion-2", "--block", "26"],
        "blocks 1..=25",
    );
}

#[test]
fn latents_are_kept_and_found_again_by_other_prompts_and_timesteps() {
    let dir = tempfile::tempdir().unwrap();
    let images = pictures(dir.path());
    let model = fixture("sd1");
    let kept = dir.path().join("latents").display().to_string();
    let store = |name: &str, more: &[&str]| {
        let out = dir.path().join(name).display().to_string();
        json(&extract(&images, &model, &out, more));
        features(&out)
    };
    let shard = format!("{kept}/shard-00000.safetensors");
    let with = ["--keep-latents", &kept];
    assert_eq!(store("one", &with), store("two", &[]), "the same bits");
    let written = std::fs::metadata(&shard).unwrap().modified().unwrap();
    let told = ["--prompt", "the cat"];
    let again = store("three", &[with, told].concat());
    assert_eq!(again, store("four", &told));
    let bytes = std::fs::read(&shard).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let latents = file.tensor("clean_b01_p8").unwrap();
    assert_eq!(latents.shape(), [4, 4 * 8 * 8]);
    assert_eq!(
        std::fs::metadata(&shard).unwrap().modified().unwrap(),
        written,
        "they were computed once"
    );
    // Several noises are added to the same latents.
    let draws = ["--draws", "2"];
    let twice = store("six", &[with, draws].concat());
    assert_eq!(twice, store("seven", &draws));
    // Of another size, or drawn at random, they are others.
    let out = dir.path().join("five").display().to_string();
    for more in [["--size", "24"], ["--latents", "sampled"]] {
        fails(
            &extract(&images, &model, &out, &[with, more].concat()),
            "another",
        );
    }
    let mini = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mini/model.safetensors"
    );
    fails(
        &extract(&images, mini, &out, &with),
        "--keep-latents are for networks on latents",
    );
}

#[test]
fn layers_of_stable_diffusion_are_compared() {
    let dir = tempfile::tempdir().unwrap();
    let images = so_many_pictures(dir.path(), 4);
    let (one, other) = (fixture("sd1"), fixture("sd2"));
    let on = ["--images", &images, "--split", "train", "--t", "150"];
    let found = json(&[&["cka", &one, &other], &on[..]].concat());
    assert_eq!(found["rows"].as_array().unwrap().len(), 9);
    assert_eq!(found["columns"].as_array().unwrap().len(), 19);
    let blocks = ["--key", "block 5,block 7"];
    let same = json(&[&["cka", &one], &on[..], &blocks].concat());
    let values = |found: &Value| found["values"].clone();
    assert_eq!(same["rows"].as_array().unwrap().len(), 2);
    let told = ["--prompt", "the cat", "--size", "24"];
    let told = json(&[&["cka", &one], &on[..], &blocks, &told].concat());
    assert_ne!(values(&same), values(&told));
    fails(&["cka", &one], "give --images to run it on");
    let mini = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mini/model.safetensors"
    );
    let asked = [&["cka", mini], &on[..], &["--prompt", "the cat"]].concat();
    fails(&asked, "which none of the networks is");
}

#[test]
fn a_text_is_learned_kept_with_the_head_and_classified_with() {
    let dir = tempfile::tempdir().unwrap();
    let images = so_many_pictures(dir.path(), 10);
    let model = fixture("sd1");
    let out = dir.path().join("tuned").display().to_string();
    let recipe = dir.path().join("short.toml").display().to_string();
    let text = "name = \"short\"\nepochs = 2\nbatch = 2\nstep_every = 2\nstep_factor = 0.5\nstandardize = false\n\
                learning_rates = [1e-2]\nweight_decays = [0.0]\n";
    std::fs::write(&recipe, text).unwrap();
    let read = ["--t", "150", "--block", "7", "--recipe", &recipe];
    let made = ["--train", "prompt", "--out", &out];
    let asked = |checkpoint: &str| -> Vec<String> {
        let begin = ["finetune", &images, "--checkpoint", checkpoint];
        let all = begin.iter().chain(&read).chain(&made);
        all.map(|word| word.to_string()).collect()
    };
    let words = asked(&model);
    let args: Vec<&str> = words.iter().map(String::as_str).collect();
    let found = json(&args);
    assert_eq!(found["trainable"]["prompt"], 77 * 24);
    assert_eq!(found["trainable"]["encoder"], 0);
    // Given again it is done already, with the same bytes.
    let file = format!("{out}/classifier.safetensors");
    let before = std::fs::read(&file).unwrap();
    json(&args);
    assert_eq!(std::fs::read(&file).unwrap(), before);
    let picture = format!("{images}/a/1.png");
    let classify = ["classify", &picture, "--head", &file, "--checkpoint"];
    let classes = json(&[&classify[..], &[&model]].concat());
    assert_eq!(classes[0]["top"].as_array().unwrap().len(), 2);
    let other = [&classify[..], &[&model, "--prompt", "the cat"]].concat();
    fails(&other, "was told another text");
    let other = fixture("sd2");
    fails(
        &[&classify[..], &[&other]].concat(),
        "is not the encoder of this head",
    );
    let mini = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../fixtures/mini/model.safetensors"
    );
    let words = asked(mini);
    let args: Vec<&str> = words.iter().map(String::as_str).collect();
    fails(&args, "this one reads none");
}

#[test]
fn a_probe_on_stored_features_classifies_too() {
    let dir = tempfile::tempdir().unwrap();
    let model = fixture("sd1");
    let told = ["--prompt", "the cat"];
    let stores: Vec<String> = ["train", "validation", "test"]
        .into_iter()
        .map(|name| {
            let images = pictures(&dir.path().join(name));
            // Other images under the same names.
            for class in ["a", "b"] {
                for number in 1..3 {
                    let file = format!("{images}/{class}/{number}.png");
                    std::fs::rename(&file, format!("{images}/{class}/{name}-{number}.png"))
                        .unwrap();
                }
            }
            let store = dir.path().join(format!("{name}-store"));
            let store = store.display().to_string();
            json(&extract(&images, &model, &store, &told));
            store
        })
        .collect();
    let head = dir.path().join("head.safetensors").display().to_string();
    json(&[
        "probe",
        &stores[0],
        &stores[2],
        "--validation",
        &stores[1],
        "--recipe",
        "mini-sweep",
        "--save",
        &head,
    ]);
    let picture = dir.path().join("test/images/b/test-2.png");
    let picture = picture.display().to_string();
    let classify = [
        "classify",
        &picture,
        "--head",
        &head,
        "--checkpoint",
        &model,
    ];
    let asked = [&classify[..], &told].concat();
    assert_eq!(json(&asked)[0]["top"].as_array().unwrap().len(), 2);
    fails(&classify, "was told another text");
}
