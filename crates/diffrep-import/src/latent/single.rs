//! One file of the original release: `.ckpt`, or the same names in safetensors.

use std::path::Path;
use std::sync::Arc;

use diffrep_latent::Tokenizer;
use diffrep_schedule::Schedule;

use super::dialect::Dialect;
use super::folder::usual_padding;
use super::infer::{Shapes, first_stage, text, unet};
use super::weights::Weights;
use super::{Open, Setup, UNET_PREFIX};
use crate::{ImportError, RawCheckpoint};

const FIRST_STAGE_PREFIX: &str = "first_stage_model.";
const CLIP_PREFIX: &str = "cond_stage_model.transformer.";
/// A second U-Net, whose weights moved slower than those of the first.
const AVERAGES_PREFIX: &str = "model_ema.";
const OPEN_CLIP_PREFIX: &str = "cond_stage_model.model.";

/// `setup` is what the file is, where it was told beside it.
pub(super) fn open(path: &Path, setup: Option<Setup>) -> Result<Open, ImportError> {
    let raw = Arc::new(RawCheckpoint::open(path)?);
    let names = || raw.tensors().iter().map(|tensor| tensor.name.as_str());
    account(path, names())?;
    let missing = |part: &str, prefix: &str| ImportError::MissingPart {
        path: path.into(),
        part: part.into(),
        expected: format!("tensors named {prefix}..."),
    };
    if !names().any(|name| name.starts_with(UNET_PREFIX)) {
        return Err(missing("U-Net", UNET_PREFIX));
    }
    if !names().any(|name| name.starts_with(FIRST_STAGE_PREFIX)) {
        return Err(missing("VAE", FIRST_STAGE_PREFIX));
    }
    let text_prefix = [CLIP_PREFIX, OPEN_CLIP_PREFIX]
        .into_iter()
        .find(|prefix| names().any(|name| name.starts_with(prefix)))
        .ok_or_else(|| missing("text encoder", CLIP_PREFIX))?;
    let setup = match setup {
        Some(setup) => setup,
        None => told(&raw, text_prefix)?,
    };
    let text_dialect = match text_prefix {
        OPEN_CLIP_PREFIX => Dialect::OpenClip {
            layers: setup.text.num_hidden_layers,
        },
        _ => Dialect::Clip,
    };
    let unet_dialect = Dialect::OriginalUnet {
        layers: setup.unet.layers_per_block,
    };
    Ok(Open {
        path: path.into(),
        setup,
        unet_weights: Weights::of_file(&raw, UNET_PREFIX, unet_dialect).passing_over(
            AVERAGES_PREFIX,
            "moving averages of the weights; the weights themselves are read, as diffusers does",
        ),
        first_stage_weights: Weights::of_file(
            &raw,
            FIRST_STAGE_PREFIX,
            Dialect::OriginalFirstStage,
        ),
        text_weights: Weights::of_file(&raw, text_prefix, text_dialect),
    })
}

/// What the tensors tell, and the publications where they do not.
fn told(raw: &RawCheckpoint, text_prefix: &str) -> Result<Setup, ImportError> {
    let refuse = |reason| ImportError::NotStableDiffusion {
        path: raw.path().into(),
        reason,
    };
    let part = |prefix: &str| {
        let tensors = raw.tensors().iter();
        let shapes = tensors.map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
        Shapes::of(shapes, prefix)
    };
    let text = text(&part(text_prefix)).map_err(refuse)?;
    let mut first_stage = first_stage(&part(FIRST_STAGE_PREFIX)).map_err(refuse)?;
    if let Some(factor) = scalar(raw, "scale_factor")? {
        first_stage.scaling_factor = factor;
    }
    Ok(Setup {
        unet: unet(&part(UNET_PREFIX)).map_err(refuse)?,
        first_stage,
        prediction: None,
        schedule: schedule(raw)?,
        tokenizer: Tokenizer::without_merges(text.vocab_size),
        padding: usual_padding(&text),
        text,
    })
}

/// A tensor with one number, if it is there.
fn scalar(raw: &RawCheckpoint, name: &str) -> Result<Option<f64>, ImportError> {
    if !raw.tensors().iter().any(|tensor| tensor.name == name) {
        return Ok(None);
    }
    let values = raw.values(name)?;
    match values.as_slice::<f32>().expect("values as f32") {
        // A float prints as the decimal number that was meant.
        [value] => Ok(value.to_string().parse().ok()),
        _ => Err(ImportError::NotStableDiffusion {
            path: raw.path().into(),
            reason: format!(
                "`{name}` has shape {:?} where one number is expected",
                values.shape()
            ),
        }),
    }
}

/// Refuses tensors beside the three parts that nothing is known about.
fn account<'a>(path: &Path, names: impl Iterator<Item = &'a str>) -> Result<(), ImportError> {
    // Schedules as buffers.
    const KNOWN: [&str; 14] = [
        "betas",
        "alphas_cumprod",
        "alphas_cumprod_prev",
        "sqrt_alphas_cumprod",
        "sqrt_one_minus_alphas_cumprod",
        "log_one_minus_alphas_cumprod",
        "sqrt_recip_alphas_cumprod",
        "sqrt_recipm1_alphas_cumprod",
        "posterior_variance",
        "posterior_log_variance_clipped",
        "posterior_mean_coef1",
        "posterior_mean_coef2",
        "lvlb_weights",
        "logvar",
    ];
    const PARTS: [&str; 5] = [
        UNET_PREFIX,
        FIRST_STAGE_PREFIX,
        CLIP_PREFIX,
        OPEN_CLIP_PREFIX,
        AVERAGES_PREFIX,
    ];
    let known = |name: &&str| {
        PARTS.iter().any(|prefix| name.starts_with(prefix))
            || KNOWN.contains(name)
            || *name == "scale_factor"
    };
    let unused: Vec<String> = names
        .filter(|name| !known(name))
        .map(String::from)
        .collect();
    match unused.is_empty() {
        true => Ok(()),
        false => Err(ImportError::Mismatch {
            path: path.into(),
            network: "Stable Diffusion 1 or 2 alone".into(),
            missing: Box::default(),
            unused: unused.into(),
            misshapen: Box::default(),
            hint: Box::default(),
        }),
    }
}

/// The process that the file was trained with: its `betas`, or those of the publication.
fn schedule(raw: &RawCheckpoint) -> Result<Schedule, ImportError> {
    let refuse = |error: diffrep_schedule::ScheduleError| ImportError::NotStableDiffusion {
        path: raw.path().into(),
        reason: error.to_string(),
    };
    if !raw.tensors().iter().any(|tensor| tensor.name == "betas") {
        return Schedule::scaled_linear(1000, 0.00085, 0.012).map_err(refuse);
    }
    let betas = raw.values("betas")?;
    let betas = betas.as_slice::<f32>().expect("values as f32");
    Schedule::from_betas(betas.iter().map(|&beta| beta.into()).collect()).map_err(refuse)
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype, TensorView};

    use super::*;

    fn scale_factor(values: &[f32], shape: Vec<usize>) -> Result<Option<f64>, ImportError> {
        let bytes: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let view = TensorView::new(Dtype::F32, shape, &bytes).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file.safetensors");
        let file = safetensors::serialize([("scale_factor", view)], None).unwrap();
        std::fs::write(&path, file).unwrap();
        scalar(&RawCheckpoint::open(&path)?, "scale_factor")
    }

    #[test]
    fn the_factor_of_latents_is_the_files_own() {
        assert_eq!(scale_factor(&[0.18215], vec![]).unwrap(), Some(0.18215));
        assert_eq!(scale_factor(&[0.5], vec![1]).unwrap(), Some(0.5));
        let error = scale_factor(&[0.5, 1.0], vec![2]).unwrap_err().to_string();
        assert!(
            error.contains("scale_factor") && error.contains("[2]"),
            "{error}"
        );
    }
}
