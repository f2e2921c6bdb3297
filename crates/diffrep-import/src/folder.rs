//! Folders as diffusers writes them: weights, `config.json` and `scheduler_config.json`.

use std::path::{Path, PathBuf};

use diffrep_schedule::ProcessSpec;
use diffrep_unet::UNetConfig;

use crate::{ImportError, diffusers};

/// What weights may be called, the safest first.
const WEIGHTS: [&str; 2] = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.bin",
];

/// What stands beside a network's weights.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Described {
    /// The network's description.
    pub(crate) config: UNetConfig,
    /// How it was trained, if a scheduler's description lies there too.
    pub(crate) process: Option<ProcessSpec>,
}

/// The weights of the U-Net in a folder: its own, or those of the pipeline that lies there.
pub(crate) fn weights(folder: &Path) -> Result<PathBuf, ImportError> {
    let refuse = |reason: String| ImportError::NotANetworkFolder {
        path: folder.into(),
        reason,
    };
    let unet = folder.join("unet");
    let home = if unet.is_dir() { unet } else { folder.into() };
    if !home.join("config.json").is_file() {
        return Err(refuse("it has no `config.json`".into()));
    }
    let around = match home.file_name().is_some_and(|part| part == "unet") {
        true => home.parent().unwrap_or(folder),
        false => folder,
    };
    if let Some(part) = ["vqvae", "vae"]
        .iter()
        .find(|part| around.join(part).is_dir())
    {
        return Err(refuse(format!(
            "its network works on what `{part}/` makes of images, which is not supported for such a network"
        )));
    }
    let found = WEIGHTS.iter().map(|name| home.join(name));
    if let Some(path) = found.into_iter().find(|path| path.is_file()) {
        return Ok(path);
    }
    match home.join("diffusion_pytorch_model.safetensors.index.json").is_file() {
        true => Err(refuse(
            "its weights are in several files, which is not supported for this network: save them anew with a larger \
             `max_shard_size`"
                .into(),
        )),
        false => Err(refuse(format!("it has no {}", WEIGHTS.join(" or ")))),
    }
}

/// The descriptions beside a file of weights, if there are any.
pub(crate) fn described(weights: &Path) -> Result<Option<Described>, ImportError> {
    let home = weights.parent().unwrap_or(Path::new(""));
    let path = home.join("config.json");
    if !path.is_file() {
        return Ok(None);
    }
    let bytes = diffrep_artifact::read_bytes(&path)?;
    let refuse = |reason: String| ImportError::Arch {
        path: path.clone(),
        reason,
    };
    let value = serde_json::from_slice(&bytes).map_err(|error| refuse(error.to_string()))?;
    let config = diffusers::config(&value).map_err(refuse)?;
    let name = "scheduler_config.json";
    let mut schedulers = vec![home.join(name), home.join("scheduler").join(name)];
    if home.file_name().is_some_and(|part| part == "unet") {
        schedulers.push(home.with_file_name("scheduler").join(name));
    }
    let process = match schedulers.iter().find(|path| path.is_file()) {
        None => None,
        Some(path) => {
            let bytes = diffrep_artifact::read_bytes(path)?;
            let read = ProcessSpec::from_scheduler_config(&bytes);
            Some(read.map_err(|source| ImportError::Process {
                path: path.clone(),
                source,
            })?)
        }
    };
    Ok(Some(Described { config, process }))
}
