//! Stable Diffusion in small against diffusers and transformers (fixtures/latent/README.md).

use std::path::{Path, PathBuf};

use burn::tensor::{Device, Tensor};
use diffrep_import::{
    ImportError, ImportedLatent, LatentPart, RawCheckpoint, describe_latent, is_latent, load_latent,
};
use diffrep_latent::{Padding, UNet};
use diffrep_schedule::q_sample;
use diffrep_taps::{Condition, Encoder, TapSet};
use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// What sums in other orders cost in f32 is a few units of the seventh digit a layer; a wrong formula
/// is off by far more.
const TOLERANCE: f32 = 1e-4;

fn fixture(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/latent");
    folder.join(name)
}

struct Golden(RawCheckpoint);

impl Golden {
    fn open(model: &str) -> Self {
        let path = fixture(model).join("expected.safetensors");
        Self(RawCheckpoint::open(&path).unwrap())
    }

    fn tensor<const D: usize>(&self, name: &str) -> Tensor<D> {
        Tensor::from_data(self.0.values(name).unwrap(), &Device::flex())
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        let values = self.0.values(name).unwrap();
        let values = values.as_slice::<f32>().unwrap();
        values.iter().map(|&value| value as u32).collect()
    }
}

fn load(model: &str) -> ImportedLatent {
    load_latent(&fixture(model), None, None, &Device::flex()).unwrap()
}

#[track_caller]
fn assert_near<const D: usize>(what: &str, found: &Tensor<D>, expected: &Tensor<D>) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let off = (found.clone() - expected.clone()).abs().max();
    let error = off.into_scalar::<f32>() / largest;
    assert!(error < TOLERANCE, "{what} is off by {error:e}");
}

fn condition(golden: &Golden) -> Condition {
    Condition {
        context: Some(golden.tensor("text_prompt")),
        ..Condition::timestep(150.0, &Device::flex())
    }
}

fn hold_taps(golden: &Golden, network: &UNet) {
    let all = TapSet::all(&network.taps()).unwrap();
    let taps = network.forward_taps(golden.tensor("noised"), &condition(golden), &all, None);
    for info in network.taps() {
        let expected: Tensor<4> = golden.tensor(&format!("tap_{:02}", info.block.get()));
        assert_near(&info.name, taps.get(info.block).unwrap(), &expected);
    }
}

#[test]
fn every_tap_and_the_output_agree_with_diffusers() {
    for (model, blocks) in [("sd1", 9), ("sd2", 19)] {
        let (golden, imported) = (Golden::open(model), load(model));
        let network = imported.network;
        assert_eq!(network.taps().len(), blocks);
        hold_taps(&golden, &network);
        let (_, output) =
            network.forward_with_taps(golden.tensor("noised"), &condition(&golden), None);
        assert_near("output", &output, &golden.tensor("output"));
        hold_taps(&golden, &network.packed());
    }
}

#[test]
fn texts_agree_with_transformers() {
    let device = Device::flex();
    for model in ["sd1", "sd2"] {
        let (golden, imported) = (Golden::open(model), load(model));
        for (name, prompt) in [("null", ""), ("prompt", "the cat in the hat")] {
            let tokens = imported
                .tokenizer
                .encode(prompt, 77, imported.padding)
                .unwrap();
            assert_eq!(tokens.ids, golden.ids(&format!("tokens_{name}")), "{model}");
            let states = imported.text.forward(&tokens.ids, &device);
            assert_near(name, &states, &golden.tensor(&format!("text_{name}")));
        }
    }
}

#[test]
fn latents_agree_with_diffusers_as_mean_sample_and_noised() {
    for model in ["sd1", "sd2"] {
        let (golden, imported) = (Golden::open(model), load(model));
        let image: Tensor<4> = golden.tensor("image");
        for first_stage in [imported.first_stage.clone(), imported.first_stage.packed()] {
            let moments = first_stage.moments(image.clone());
            assert_near("mean", &moments.mean, &golden.tensor("mean"));
            let deviation = golden.tensor("log_variance");
            assert_near("log variance", &moments.log_variance, &deviation);
            let sample = moments.sample(golden.tensor("sampling_noise"));
            assert_near("sample", &sample, &golden.tensor("sample"));
            let latents = first_stage.latents(image.clone(), None);
            assert_near("latents", &latents, &golden.tensor("latents"));
            let noise = golden.tensor("noise");
            let noised = q_sample(&imported.schedule, latents, &[150, 150], noise);
            assert_near("noised", &noised, &golden.tensor("noised"));
        }
    }
}

#[test]
fn files_of_the_original_release_hold_the_same_networks() {
    let device = Device::flex();
    for (file, model) in [("sd1.ckpt", "sd1"), ("sd2.safetensors", "sd2")] {
        assert!(is_latent(&fixture(file)) && is_latent(&fixture(model)));
        let arch = fixture(model);
        let single = load_latent(&fixture(file), Some(&arch), None, &device).unwrap();
        let (golden, folder) = (Golden::open(model), load(model));
        hold_taps(&golden, &single.network);
        let image: Tensor<4> = golden.tensor("image");
        assert_eq!(
            single.first_stage.latents(image.clone(), None).into_data(),
            folder.first_stage.latents(image, None).into_data()
        );
        let ids = golden.ids("tokens_prompt");
        assert_eq!(
            single.text.forward(&ids, &device).into_data(),
            folder.text.forward(&ids, &device).into_data()
        );
        let left: usize = single
            .description
            .parts
            .iter()
            .flat_map(|part| &part.left_out)
            .map(|left| left.tensors)
            .sum();
        assert!(left > 0, "the decoder is left out");
        assert_ne!(single.sha256, folder.sha256);
    }
    assert!(!is_latent(&fixture("tokens.json")));
}

#[test]
fn moving_averages_beside_the_weights_are_told_of() {
    let (path, arch) = (fixture("sd2.safetensors"), fixture("sd2"));
    let told = describe_latent(&path, Some(&arch), None, &Device::flex()).unwrap();
    let averages = |part: &LatentPart| {
        let left = part.left_out.iter();
        left.filter(|left| left.reason.contains("moving averages"))
            .map(|left| left.tensors)
            .sum::<usize>()
    };
    let counts: Vec<usize> = told.parts.iter().map(averages).collect();
    assert_eq!(counts, [1, 0, 0]);
}

#[test]
fn prompts_have_the_tokens_of_transformers() {
    let text = std::fs::read_to_string(fixture("tokens.json")).unwrap();
    let cases: serde_json::Value = serde_json::from_str(&text).unwrap();
    let tokenizer = load("sd1").tokenizer;
    let mut compared = 0;
    for case in cases.as_array().unwrap() {
        let padding = match case["pad"].as_str().unwrap() {
            "!" => Padding::Token(0),
            _ => Padding::End,
        };
        for (prompt, ids) in case["ids"].as_object().unwrap() {
            let ids = ids.as_array().unwrap().iter();
            let expected: Vec<u32> = ids.map(|id| id.as_u64().unwrap() as u32).collect();
            let tokens = tokenizer.encode(prompt, 77, padding).unwrap();
            assert_eq!(tokens.ids, expected, "{prompt}");
            assert_eq!(tokens.left_out > 0, prompt.len() > 300, "{prompt}");
            compared += 1;
        }
    }
    assert_eq!(compared, 18);
}

#[test]
fn the_size_of_images_is_free_in_steps() {
    let device = Device::flex();
    let at = |size| describe_latent(&fixture("sd1"), None, size, &device);
    let own = at(None).unwrap();
    assert_eq!((own.first_stage.image_size, own.unet.sample_size), (16, 8));
    let larger = at(Some(24)).unwrap();
    assert_eq!(
        (larger.first_stage.image_size, larger.unet.sample_size),
        (24, 12)
    );
    let told = at(Some(18)).unwrap_err().to_string();
    assert!(
        told.contains("18 x 18") && told.contains("multiple of 4"),
        "{told}"
    );
    assert_eq!(own.prediction.as_deref(), Some("epsilon"));
    let second = describe_latent(&fixture("sd2"), None, None, &device).unwrap();
    assert_eq!(second.prediction.as_deref(), Some("v_prediction"));
    assert_eq!(second.unet.heads, [1, 2, 4]);
}

/// A copy of a fixture's folder to be spoilt.
fn copy(model: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for part in ["unet", "vae", "text_encoder", "scheduler", "tokenizer"] {
        std::fs::create_dir(dir.path().join(part)).unwrap();
        for entry in std::fs::read_dir(fixture(model).join(part)).unwrap() {
            let entry = entry.unwrap();
            let target = dir.path().join(part).join(entry.file_name());
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
    dir
}

/// The error of a folder in which `file` has `from` replaced by `to`; none removes the file.
fn spoilt(model: &str, file: &str, change: Option<(&str, &str)>) -> String {
    let dir = copy(model);
    let path = dir.path().join(file);
    match change {
        None if path.is_dir() => std::fs::remove_dir_all(&path).unwrap(),
        None => std::fs::remove_file(&path).unwrap(),
        Some((from, to)) => {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.contains(from), "{text}");
            std::fs::write(&path, text.replace(from, to)).unwrap();
        }
    }
    let error = load_latent(dir.path(), None, None, &Device::flex()).unwrap_err();
    error.to_string()
}

/// Writes the weights of a file anew: `narrow` says which tensors become halves, and `as_halves` whether they are
/// stored as such or, with the same values, as f32.
fn narrowed(path: &Path, narrow: impl Fn(&str) -> Option<Dtype>, as_halves: bool) {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().map(|(name, view)| {
        let values: Vec<f32> = match view.dtype() {
            Dtype::F16 => {
                let halves = view.data().as_chunks::<2>().0.iter();
                halves
                    .map(|half| f16::from_le_bytes(*half).to_f32())
                    .collect()
            }
            _ => {
                let words = view.data().as_chunks::<4>().0.iter();
                words.map(|word| f32::from_le_bytes(*word)).collect()
            }
        };
        let halved: Option<Vec<(f32, [u8; 2])>> = narrow(name).map(|dtype| {
            let half = |value: f32| match dtype {
                Dtype::F16 => (
                    f16::from_f32(value).to_f32(),
                    f16::from_f32(value).to_le_bytes(),
                ),
                _ => (
                    bf16::from_f32(value).to_f32(),
                    bf16::from_f32(value).to_le_bytes(),
                ),
            };
            values.iter().map(|value| half(*value)).collect()
        });
        let (dtype, data) = match halved {
            None => {
                let bytes = values.iter().flat_map(|value| value.to_le_bytes());
                (Dtype::F32, bytes.collect())
            }
            Some(halves) if as_halves => {
                let bytes = halves.iter().flat_map(|(_, bytes)| *bytes);
                (narrow(name).unwrap(), bytes.collect())
            }
            Some(halves) => {
                let bytes = halves.iter().flat_map(|(value, _)| value.to_le_bytes());
                (Dtype::F32, bytes.collect())
            }
        };
        (name.to_owned(), dtype, view.shape().to_vec(), data)
    });
    let tensors: Vec<(String, Dtype, Vec<usize>, Vec<u8>)> = tensors.collect();
    let views = tensors.iter().map(|(name, dtype, shape, data)| {
        (name, TensorView::new(*dtype, shape.clone(), data).unwrap())
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// diffusers makes all of a pipeline f32 unless it is told another type, whatever each file holds; so do we.
#[test]
fn weights_of_mixed_precision_are_computed_with_in_f32() {
    let device = Device::flex();
    let loaded = |as_halves: bool| {
        let dir = copy("sd1");
        let weights = |part: &str| {
            dir.path()
                .join(part)
                .join("diffusion_pytorch_model.safetensors")
        };
        narrowed(&weights("unet"), |_| Some(Dtype::F16), as_halves);
        let one = |name: &str| (name == "encoder.conv_in.weight").then_some(Dtype::BF16);
        narrowed(&weights("vae"), one, as_halves);
        let text = dir.path().join("text_encoder/model.safetensors");
        narrowed(&text, |_| None, as_halves);
        load_latent(dir.path(), None, None, &device).unwrap()
    };
    let (mixed, plain) = (loaded(true), loaded(false));
    let [unet, vae, text] = mixed.description.parts.as_slice() else {
        panic!("{:?}", mixed.description.parts);
    };
    assert_eq!(
        unet.dtypes.keys().collect::<Vec<_>>(),
        [&diffrep_import::Dtype::F16]
    );
    assert_eq!(vae.dtypes[&diffrep_import::Dtype::BF16], 1);
    assert_eq!(vae.dtypes[&diffrep_import::Dtype::F32], vae.loaded - 1);
    assert_eq!(
        text.dtypes.keys().collect::<Vec<_>>(),
        [&diffrep_import::Dtype::F32]
    );
    // The same values, stored as f32 throughout, are the same networks to the bit.
    let golden = Golden::open("sd1");
    let image: Tensor<4> = golden.tensor("image");
    assert_eq!(
        mixed.first_stage.latents(image.clone(), None).into_data(),
        plain.first_stage.latents(image.clone(), None).into_data()
    );
    let output = |model: &ImportedLatent| {
        let noised = golden.tensor("noised");
        let (_, output) = model
            .network
            .forward_with_taps(noised, &condition(&golden), None);
        output
    };
    assert_eq!(output(&mixed).into_data(), output(&plain).into_data());
    // And bf16 made another VAE of the fixture, whose weights are f16 as those of the U-Net.
    let whole = load("sd1");
    assert_ne!(
        mixed.first_stage.latents(image.clone(), None).into_data(),
        whole.first_stage.latents(image, None).into_data()
    );
}

#[test]
fn a_folder_with_a_part_missing_says_which() {
    for (file, told) in [
        ("unet", "has no unet: expected unet/config.json"),
        ("vae", "has no vae"),
        ("text_encoder", "has no text_encoder"),
        ("scheduler", "has no scheduler"),
        (
            "tokenizer",
            "has no tokenizer: expected tokenizer/merges.txt",
        ),
        (
            "vae/diffusion_pytorch_model.safetensors",
            "has no weights of the vae: expected vae/diffusion_pytorch_model.safetensors",
        ),
    ] {
        let error = spoilt("sd1", file, None);
        assert!(error.contains(told), "{file}: {error}");
    }
    let shard = "unet/diffusion_pytorch_model-00002-of-00003.safetensors";
    let error = spoilt("sd2", shard, None);
    assert!(
        error.contains("00002-of-00003.safetensors, which is not there"),
        "{error}"
    );
}

#[test]
fn what_is_no_stable_diffusion_is_refused_by_name() {
    let unet = "unet/config.json";
    for (file, from, to, told) in [
        (
            unet,
            "\"transformer_layers_per_block\": 1",
            "\"transformer_layers_per_block\": [1, 2]",
            "`transformer_layers_per_block` is [1,2]",
        ),
        (
            unet,
            "\"addition_embed_type\": null",
            "\"addition_embed_type\": \"text_time\"",
            "`addition_embed_type` is \"text_time\", which nothing is known about",
        ),
        (
            unet,
            "\"freq_shift\": 0",
            "\"freq_shift\": 1",
            "`freq_shift` is 1",
        ),
        (
            unet,
            "\"CrossAttnDownBlock2D\"",
            "\"AttnDownBlock2D\"",
            "has AttnDownBlock2D",
        ),
        (
            "scheduler/scheduler_config.json",
            "\"prediction_type\": \"epsilon\"",
            "\"prediction_type\": \"flow\"",
            "its network predicts `flow`",
        ),
        (
            "text_encoder/config.json",
            "\"model_type\": \"clip_text_model\"",
            "\"model_type\": \"t5\"",
            "`model_type` is t5",
        ),
        (
            "tokenizer/vocab.json",
            "\"!\": 0",
            "\"!\": 1",
            "does not number `!` as 0",
        ),
    ] {
        let error = spoilt("sd1", file, Some((from, to)));
        assert!(error.contains(told), "{file}: {error}");
        assert!(error.contains(file), "{error}");
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let wider = ("\"hidden_size\": 24", "\"hidden_size\": 20");
    let error = spoilt("sd1", "text_encoder/config.json", Some(wider));
    assert!(
        error.contains("tokens have 20 numbers and the U-Net reads 24"),
        "{error}"
    );
    let inpainting = ("\"in_channels\": 4", "\"in_channels\": 9");
    let error = spoilt("sd1", "unet/config.json", Some(inpainting));
    assert!(error.contains("an inpainting model"), "{error}");
    let few = ("\"vocab_size\": 600", "\"vocab_size\": 500");
    let error = spoilt("sd1", "text_encoder/config.json", Some(few));
    assert!(
        error.contains("600 tokens and the text encoder knows 500"),
        "{error}"
    );
}

#[test]
fn tensors_that_do_not_fill_the_network_are_named() {
    let more = ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    let error = spoilt("sd1", "text_encoder/config.json", Some(more));
    assert!(
        error.contains("16 missing (text_model.encoder.layers.2."),
        "{error}"
    );
    let fewer = ("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1");
    let error = spoilt("sd1", "text_encoder/config.json", Some(fewer));
    assert!(error.contains("16 unused"), "{error}");
    let device = Device::flex();
    let arch = fixture("sd2");
    let error = load_latent(&fixture("sd1.ckpt"), Some(&arch), None, &device).unwrap_err();
    assert!(matches!(error, ImportError::Mismatch { .. }), "{error}");
    // Without a description its widths are taken for those of normalisations of 32 groups.
    let error = load_latent(&fixture("sd1.ckpt"), None, None, &device).unwrap_err();
    assert!(matches!(error, ImportError::LatentConfig { .. }), "{error}");
}
