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
    let images = dir.join("images");
    for (class, factor) in [("a", 3), ("b", 7)] {
        std::fs::create_dir_all(images.join(class)).unwrap();
        for number in 1..3u32 {
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
