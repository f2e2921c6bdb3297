//! Diffusion models of other families than ADM, from the checkpoint to a probe.

mod common;

use std::path::Path;

use common::{MODEL, ROOT, refuses, works};
use safetensors::SafeTensors;

const IMAGES: &str = "fixtures/fashion-mnist";
const DDPM: &str = "fixtures/generative/ddpm";
const PIPELINE: &str = "fixtures/generative/unet2d";
const IMPROVED: &str = "fixtures/generative/improved/model.pt";
const IMPROVED_ARCH: &str = "fixtures/generative/improved/arch.json";
const DIT: &str = "fixtures/generative/dit/checkpoint.pt";
const VAE: &str = "fixtures/latent/sd1";
const DIT_ARCH: &str = "fixtures/generative/dit/config.json";

fn tensor(file: &Path, name: &str) -> Vec<f32> {
    let bytes = std::fs::read(file).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let data = file.tensor(name).unwrap().data().to_vec();
    let (words, _) = data.as_chunks::<4>();
    words.iter().map(|word| f32::from_le_bytes(*word)).collect()
}

#[test]
fn a_folder_of_diffusers_is_inspected_extracted_and_probed() {
    let told = works(&["inspect", DDPM]);
    assert_eq!(told["loads"], true);
    assert_eq!(told["architecture_by"]["by"], "described");
    assert_eq!(told["taps"].as_array().unwrap().len(), 19);
    assert_eq!(told["noise"]["schedule"], "linear");
    let counted = works(&["params", DDPM, "--block", "12"]);
    assert_eq!(counted["parameters"], told["parameters"]);
    let up_to = &counted["blocks"][0]["parameters_up_to"];
    assert_eq!(*up_to, told["taps"][11]["parameters_up_to"]);

    let dir = tempfile::tempdir().unwrap();
    let stores = ["train", "test"].map(|split| {
        let out = dir.path().join(split).display().to_string();
        let args = [
            "extract",
            IMAGES,
            "--checkpoint",
            DDPM,
            "--split",
            split,
            "--t",
            "90",
            "--block",
            "8,12",
            "--pool",
            "2",
            "--limit",
            "60",
            "--out",
            &out,
        ];
        let told = works(&args);
        assert_eq!(told["columns"].as_array().unwrap().len(), 2);
        // A second run finds it done.
        assert_eq!(works(&args)["images"], 60);
        out
    });
    let probed = works(&["probe", &stores[0], &stores[1], "--head", "ridge"]);
    assert!(probed["test"]["mean"].as_f64().unwrap() > 0.1, "{probed}");

    // The same network written as one file keeps its schedule and gives the same features.
    let file = dir.path().join("network.safetensors").display().to_string();
    works(&["import", DDPM, "--out", &file]);
    assert_eq!(works(&["inspect", &file])["noise"], told["noise"]);
    let out = dir.path().join("again").display().to_string();
    let again = works(&[
        "extract",
        IMAGES,
        "--checkpoint",
        &file,
        "--t",
        "90",
        "--block",
        "8,12",
        "--pool",
        "2",
        "--limit",
        "60",
        "--out",
        &out,
    ]);
    for column in again["columns"].as_array().unwrap() {
        let values = |folder: &str| {
            let bytes = std::fs::read(format!("{folder}/shard-00000.safetensors")).unwrap();
            let file = SafeTensors::deserialize(&bytes).unwrap();
            file.tensor(column.as_str().unwrap())
                .unwrap()
                .data()
                .to_vec()
        };
        assert_eq!(values(&out), values(&stores[0]));
    }
}

#[test]
fn a_diffusion_transformer_reads_images_behind_a_vae() {
    let dir = tempfile::tempdir().unwrap();
    let extract = |name: &str, more: &[&str]| {
        let out = dir.path().join(name);
        let out_text = out.display().to_string();
        let args = [
            "extract",
            IMAGES,
            "--checkpoint",
            DIT,
            "--arch",
            DIT_ARCH,
            "--t",
            "90",
            "--block",
            "2,3",
            "--pool",
            "2",
            "--limit",
            "12",
            "--dtype",
            "f32",
            "--out",
            &out_text,
        ];
        works(&[&args[..], more].concat());
        tensor(&out.join("shard-00000.safetensors"), "t90_b03_p2")
    };
    let mean = extract("mean", &["--vae", VAE]);
    // Twelve images, 32 channels on 2 x 2 places.
    assert_eq!(mean.len(), 12 * 32 * 4);
    // The folder of the VAE alone is the same VAE.
    let vae = format!("{VAE}/vae");
    assert_eq!(extract("alone", &["--vae", &vae]), mean);
    assert_ne!(
        extract("sampled", &["--vae", VAE, "--latents", "sampled"]),
        mean
    );
    let out = dir.path().join("refused").display().to_string();
    let refused = |more: &[&str], words: &[&str]| {
        let args = [
            "extract",
            IMAGES,
            "--checkpoint",
            DIT,
            "--arch",
            DIT_ARCH,
            "--t",
            "90",
            "--block",
            "2",
            "--out",
            &out,
        ];
        refuses(&[&args[..], more].concat(), words);
    };
    refused(&["--vae", "fixtures/generative/ddpm"], &["ddpm"]);
    refused(&["--vae", "fixtures"], &["no VAE", "AutoencoderKL"]);
    refused(&["--vae", VAE, "--prompt", "a bird"], &["reads no text"]);
}

#[test]
fn mage_is_a_backbone_of_images() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("store").display().to_string();
    let args = [
        "extract",
        IMAGES,
        "--backbone",
        "fixtures/generative/mage/config.json",
        "--checkpoint",
        "fixtures/generative/mage/checkpoint.pt",
        "--block",
        "2,3",
        "--pool",
        "1",
        "--limit",
        "12",
        "--out",
        &out,
    ];
    assert_eq!(
        works(&args)["columns"],
        serde_json::json!(["clean_b02_p1", "clean_b03_p1"])
    );
    let refused = [&args[..], &["--normalise", "imagenet"]].concat();
    refuses(&refused, &["not for MAGE"]);
    let other = [
        &args[..4],
        &["--checkpoint", DIT, "--block", "2", "--out", &out],
    ]
    .concat();
    refuses(&other, &["MAGE of 2 blocks"]);
}

#[test]
fn schedules_are_taken_from_the_description_or_named() {
    let told = works(&["inspect", PIPELINE]);
    assert_eq!(told["noise"]["predicts"], "velocity");
    assert_eq!(told["noise"]["schedule"], "cosine");
    let dir = tempfile::tempdir().unwrap();
    let extract = |schedule: &str, t: &str| {
        let out = dir.path().join(schedule.replace(':', "-"));
        works(&[
            "extract",
            IMAGES,
            "--checkpoint",
            IMPROVED,
            "--arch",
            IMPROVED_ARCH,
            "--schedule",
            schedule,
            "--t",
            t,
            "--block",
            "6",
            "--pool",
            "2",
            "--limit",
            "4",
            "--dtype",
            "f32",
            "--out",
            out.to_str().unwrap(),
        ]);
        tensor(
            &out.join("shard-00000.safetensors"),
            &format!("t{t}_b06_p2"),
        )
    };
    let plain = extract("cosine:4000", "3000");
    let rescaled = extract("cosine:4000:rescaled", "3000");
    // The same noise, and another number told to the network.
    assert_eq!(plain.len(), rescaled.len());
    assert_ne!(plain, rescaled);
    let refused = |schedule: &str, t: &str, words: &[&str]| {
        let out = dir.path().join("refused");
        let args = [
            "extract",
            IMAGES,
            "--checkpoint",
            MODEL,
            "--schedule",
            schedule,
            "--t",
            t,
            "--block",
            "3",
            "--out",
            out.to_str().unwrap(),
        ];
        refuses(&args, words);
    };
    refused("karras", "1", &["linear, cosine and scaled_linear"]);
    refused("linear:4000", "4000", &["0..=3999"]);
}

#[test]
fn what_cannot_be_used_is_refused_in_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    // Classes are not given to networks, and images are drawn from predicted noise alone.
    refuses(
        &[
            "extract",
            IMAGES,
            "--checkpoint",
            PIPELINE,
            "--t",
            "9",
            "--block",
            "3",
            "--out",
            &out,
        ],
        &["one of 5 classes"],
    );
    refuses(
        &[
            "sample",
            "--checkpoint",
            PIPELINE,
            "--count",
            "1",
            "--label",
            "0",
            "--out",
            &out,
        ],
        &["does not predict noise", "predicts v"],
    );
    let home = dir.path().join("edm");
    std::fs::create_dir(&home).unwrap();
    for name in ["config.json", "diffusion_pytorch_model.bin"] {
        std::fs::copy(Path::new(ROOT).join(DDPM).join(name), home.join(name)).unwrap();
    }
    let scheduler = r#"{"_class_name": "EDMEulerScheduler", "sigma_max": 80.0}"#;
    std::fs::write(home.join("scheduler_config.json"), scheduler).unwrap();
    let home = home.display().to_string();
    refuses(
        &["inspect", &home],
        &["scheduler_config.json", "measures noise by sigma"],
    );
    refuses(&["params", "fixtures"], &["no `config.json`"]);
}

#[test]
fn a_diffusion_transformer_is_inspected_and_run_on_latents() {
    let xl = works(&["params", "dit_xl_2_256", "--block", "14"]);
    assert_eq!(xl["parameters"], 675_129_632);
    assert_eq!(xl["blocks"][0]["tap"]["channels"], 1152);
    assert_eq!(xl["blocks"][0]["tap"]["height"], 16);
    let told = works(&["inspect", DIT, "--arch", DIT_ARCH]);
    assert_eq!(told["loads"], true);
    assert_eq!(told["tensors"]["applied"], 42);
    assert_eq!(
        told["parameters"],
        works(&["params", DIT_ARCH])["parameters"]
    );

    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let golden = "fixtures/generative/dit/golden.safetensors";
    works_without_json(&[
        "forward",
        "--checkpoint",
        DIT,
        "--arch",
        DIT_ARCH,
        "--input",
        golden,
        "--out",
        out.to_str().unwrap(),
    ]);
    let golden = Path::new(ROOT).join(golden);
    for name in ["block_01", "block_02", "block_03", "out"] {
        let (found, expected) = (tensor(&out, name), tensor(&golden, name));
        let scale = expected
            .iter()
            .fold(0f32, |most, value| most.max(value.abs()));
        for (a, b) in found.iter().zip(&expected) {
            assert!((a - b).abs() <= 1e-4 * scale, "{name}: {a} {b}");
        }
    }
    refuses(&["inspect", DIT], &["no published size", "--arch"]);
    refuses(
        &[
            "forward",
            "--checkpoint",
            DIT,
            "--arch",
            IMPROVED_ARCH,
            "--input",
            DIT,
            "--out",
            "o",
        ],
        &["arch.json"],
    );
    let store = dir.path().join("store").display().to_string();
    refuses(
        &[
            "extract",
            IMAGES,
            "--checkpoint",
            DIT,
            "--arch",
            DIT_ARCH,
            "--t",
            "9",
            "--block",
            "2",
            "--out",
            &store,
        ],
        &["reads latents", "--vae"],
    );
}

fn works_without_json(args: &[&str]) {
    let done = std::process::Command::new(env!("CARGO_BIN_EXE_diffrep"))
        .args(args)
        .current_dir(ROOT)
        .output()
        .unwrap();
    assert!(
        done.status.success(),
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
}
