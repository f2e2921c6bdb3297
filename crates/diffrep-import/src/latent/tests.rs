//! Names at full size, by lists that a script of the fixtures makes of the original release's.

use std::io::Read;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use diffrep_latent::{FirstStageConfig, Named, TextConfig, UNetConfig, named_tensors};

use super::dialect::Dialect;
use super::fill::matched;
use super::infer::{Shapes, first_stage, text, unet};
use crate::{Dtype, TensorInfo};

fn names(version: usize) -> Vec<TensorInfo> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/latent");
    let file = std::fs::File::open(folder.join(format!("names_sd{version}.txt.gz"))).unwrap();
    let mut text = String::new();
    let mut reader = flate2::read::GzDecoder::new(file);
    reader.read_to_string(&mut text).unwrap();
    let tensor = |line: &str| {
        let mut words = line.split(' ').map(String::from);
        TensorInfo {
            name: words.next().unwrap(),
            dtype: Dtype::F16,
            shape: words.map(|word| word.parse().unwrap()).collect(),
        }
    };
    text.lines().map(tensor).collect()
}

/// Every tensor with the prefix fills a parameter or is left for a reason, and every parameter is
/// filled; returns how many are left.
fn left<M: Named>(blank: &M, tensors: &[TensorInfo], prefix: &str, dialect: &Dialect) -> usize {
    let own = tensors
        .iter()
        .filter_map(|info| Some((info.name.strip_prefix(prefix)?, info)));
    let wanted = named_tensors(blank);
    let found = matched("part", &PathBuf::new(), &wanted, own, dialect).unwrap();
    assert_eq!(found.sources.len(), wanted.len());
    found.left_out.iter().map(|left| left.tensors).sum()
}

#[test]
fn files_at_full_size_tell_what_they_are_and_fill_it_without_rest() {
    let device = Device::flex();
    let published = [
        (
            UNetConfig::stable_diffusion_1(),
            TextConfig::clip_l(),
            "cond_stage_model.transformer.",
            1,
        ),
        (
            UNetConfig::stable_diffusion_2(),
            TextConfig::open_clip_h(),
            "cond_stage_model.model.",
            12 + 2,
        ),
    ];
    for (version, (config, text_config, text_prefix, text_left)) in (1..).zip(published) {
        let tensors = names(version);
        let shapes = |prefix: &str| {
            let all = tensors.iter();
            Shapes::of(
                all.map(|info| (info.name.as_str(), info.shape.as_slice())),
                prefix,
            )
        };
        let prefix = "model.diffusion_model.";
        assert_eq!(unet(&shapes(prefix)).unwrap(), config);
        let dialect = Dialect::OriginalUnet { layers: 2 };
        let blank = config.blank(&device).unwrap();
        assert_eq!(left(&blank, &tensors, prefix, &dialect), 0);

        let prefix = "first_stage_model.";
        let told = first_stage(&shapes(prefix)).unwrap();
        let size = FirstStageConfig::kl_f8().image_size;
        assert_eq!(
            told.clone().with_image_size(size),
            FirstStageConfig::kl_f8()
        );
        let blank = told.blank(&device).unwrap();
        // The whole VAE has 248 tensors, of which the encoder has 106 and the convolution after it 2.
        let rest = left(&blank, &tensors, prefix, &Dialect::OriginalFirstStage);
        assert_eq!(rest + named_tensors(&blank).len(), 248);

        assert_eq!(text(&shapes(text_prefix)).unwrap(), text_config);
        let dialect = match version {
            1 => Dialect::Clip,
            _ => Dialect::OpenClip { layers: 23 },
        };
        let blank = text_config.blank(&device).unwrap();
        assert_eq!(left(&blank, &tensors, text_prefix, &dialect), text_left);
    }
}

#[test]
fn what_lies_elsewhere_is_unknown() {
    use super::dialect::Meaning;
    let unet = Dialect::OriginalUnet { layers: 2 };
    for name in [
        "input_blocks.3.1.proj_in.weight",
        "input_blocks.1.0.op.weight",
        "middle_block.3.norm.weight",
        "output_blocks.x.0.in_layers.0.weight",
        "label_emb.0.0.weight",
    ] {
        assert_eq!(unet.meaning(name), Meaning::Unknown, "{name}");
    }
    let odd = "transformer.resblocks.0.attn.in_proj_gain";
    assert_eq!(
        Dialect::OpenClip { layers: 1 }.meaning(odd),
        Meaning::Unknown
    );
}
