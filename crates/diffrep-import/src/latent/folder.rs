//! A folder as `save_pretrained` of diffusers writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use diffrep_artifact::{read_bytes, read_json};
use diffrep_latent::{Padding, TextConfig, TextGelu, Tokenizer};
use serde_json::Value;

use super::dialect::Dialect;
use super::weights::Weights;
use super::{Open, Setup, config};
use crate::ImportError;

pub(super) fn open(root: &Path) -> Result<Open, ImportError> {
    const DIFFUSERS: &[&str] = &["diffusion_pytorch_model"];
    const TRANSFORMERS: &[&str] = &["model", "pytorch_model"];
    Ok(Open {
        path: root.into(),
        setup: setup(root)?,
        unet_weights: Weights::in_folder(root, "unet", DIFFUSERS, Dialect::Unet)?,
        first_stage_weights: Weights::in_folder(root, "vae", DIFFUSERS, Dialect::FirstStage)?,
        text_weights: Weights::in_folder(root, "text_encoder", TRANSFORMERS, Dialect::Clip)?,
    })
}

/// What the folder says beside its weights.
pub(super) fn setup(root: &Path) -> Result<Setup, ImportError> {
    let unet = config::read_unet_config(&part(root, "unet", "config.json")?)?;
    let first_stage = config::first_stage(&part(root, "vae", "config.json")?)?;
    let text = config::text(&part(root, "text_encoder", "config.json")?)?;
    let scheduler = part(root, "scheduler", "scheduler_config.json")?;
    let (schedule, prediction) = config::scheduler(&scheduler)?;
    let (tokenizer, padding) = tokenizer(root, &text)?;
    Ok(Setup {
        unet,
        first_stage,
        text,
        prediction: Some(prediction),
        schedule,
        tokenizer,
        padding,
    })
}

/// A part's configuration, which has to be there.
fn part(root: &Path, folder: &str, file: &str) -> Result<PathBuf, ImportError> {
    let path = root.join(folder).join(file);
    match path.is_file() {
        true => Ok(path),
        false => Err(ImportError::MissingPart {
            path: root.into(),
            part: folder.into(),
            expected: format!("{folder}/{file}"),
        }),
    }
}

/// The folder's own tokenizer, which has to be there, and how it fills texts up.
fn tokenizer(root: &Path, text: &TextConfig) -> Result<(Tokenizer, Padding), ImportError> {
    let folder = root.join("tokenizer");
    let merges = part(root, "tokenizer", "merges.txt")?;
    let refuse = |path: &Path, reason: String| ImportError::NotStableDiffusion {
        path: path.into(),
        reason,
    };
    let bytes = read_bytes(&merges)?;
    let lines = String::from_utf8(bytes).map_err(|_| refuse(&merges, "it is not UTF-8".into()))?;
    let tokenizer =
        Tokenizer::from_merges(&lines).map_err(|error| refuse(&merges, error.to_string()))?;
    let numbers = folder.join("vocab.json");
    let vocabulary: Option<BTreeMap<String, u32>> = match numbers.is_file() {
        true => Some(read_json(&numbers)?),
        false => None,
    };
    if let Some(vocabulary) = &vocabulary {
        numbered_as_merged(vocabulary, &lines, tokenizer.vocabulary())
            .map_err(|reason| refuse(&numbers, reason))?;
    }
    let padding = match pad_token(&folder)? {
        None => usual_padding(text),
        Some(token) if token == "<|endoftext|>" => Padding::End,
        Some(token) if token == "!" => Padding::Token(0),
        Some(token) => match vocabulary.as_ref().and_then(|all| all.get(&token)) {
            Some(number) => Padding::Token(*number),
            None => {
                return Err(refuse(
                    &folder,
                    format!("its padding `{token}` is not in its vocabulary"),
                ));
            }
        },
    };
    Ok((tokenizer, padding))
}

/// Holds a vocabulary to the numbers that follow from its merges.
fn numbered_as_merged(
    vocabulary: &BTreeMap<String, u32>,
    merges: &str,
    entries: usize,
) -> Result<(), String> {
    let merged = merges.lines().skip(1).zip(512..);
    let merged = merged.map(|(line, number)| (line.split_whitespace().collect::<String>(), number));
    let last = entries as u32;
    let ends = [
        ("<|startoftext|>", last - 2),
        ("<|endoftext|>", last - 1),
        ("!", 0),
    ];
    let ends = ends.map(|(word, number)| (word.to_string(), number));
    let wrong = merged
        .filter(|(word, _)| !word.is_empty())
        .chain(ends)
        .find(|(word, number)| vocabulary.get(word) != Some(number));
    match wrong {
        Some((word, number)) => Err(format!(
            "it does not number `{word}` as {number}, as the order of merges.txt has it"
        )),
        None => Ok(()),
    }
}

/// The padding token that the tokenizer's files name.
fn pad_token(folder: &Path) -> Result<Option<String>, ImportError> {
    for file in ["special_tokens_map.json", "tokenizer_config.json"] {
        let path = folder.join(file);
        if !path.is_file() {
            continue;
        }
        let settings: Value = read_json(&path)?;
        let token = &settings["pad_token"];
        let token = token.as_str().or_else(|| token["content"].as_str());
        if let Some(token) = token {
            return Ok(Some(token.into()));
        }
    }
    Ok(None)
}

/// Texts end with repetitions of their end in Stable Diffusion 1, with token 0 in 2.
pub(super) fn usual_padding(text: &TextConfig) -> Padding {
    match text.hidden_act {
        TextGelu::QuickGelu => Padding::End,
        TextGelu::Gelu => Padding::Token(0),
    }
}
