//! The one error type of the crate. Every message names the file, says what is wrong with it in one
//! sentence, and what would be right.

use std::path::PathBuf;

use diffrep_artifact::ArtifactError;
use diffrep_unet::ConfigError;

use crate::infer::Unknown;
use crate::values::Dtype;

/// A tensor whose shape is not the network's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misshapen {
    /// Key in the reference's state dict.
    pub name: String,
    /// Shape in the file.
    pub found: Vec<usize>,
    /// Shape that the network has.
    pub expected: Vec<usize>,
}

/// Why a checkpoint cannot be read, understood or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// Reading or writing the file failed.
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    /// The path is a folder or something else that is not a file.
    #[error("{} is {found}, not a checkpoint file: name the file itself", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is.
        found: &'static str,
    },
    /// A folder without the network that is looked for.
    #[error(
        "{} holds no U-Net as diffusers writes it: {reason}; name such a folder, or a checkpoint file",
        path.display()
    )]
    NotANetworkFolder {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// The description of a scheduler is of no use.
    #[error("{} does not tell how to noise images", path.display())]
    Process {
        /// The description.
        path: PathBuf,
        /// Why.
        source: diffrep_schedule::SpecError,
    },
    /// The content is of another kind.
    #[error(
        "{} is {found}: expected a safetensors file or what torch.save writes (.pt, .pth, .ckpt)",
        path.display()
    )]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
        /// What its content looks like.
        found: String,
    },
    /// The content begins as a checkpoint and is not a whole one.
    #[error("{} is damaged or incomplete: {reason}; fetch or write it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A program of PyTorch with its tensors inside, such as OpenAI's CLIP.
    #[error(
        "{path} is a TorchScript archive, whose tensors lie inside a program: save its tensors alone by \
         python -c \"import torch; torch.save(torch.jit.load('{path}', 'cpu').state_dict(), 'weights.pt')\"",
        path = path.display()
    )]
    TorchScript {
        /// The file.
        path: PathBuf,
    },
    /// A tensor asked for is not in the file.
    #[error("{} has no tensor `{name}`: it has {known}", path.display())]
    NoSuchTensor {
        /// The file.
        path: PathBuf,
        /// The tensor asked for.
        name: String,
        /// Names that it has.
        known: String,
    },
    /// A tensor is of a type that is not used for what was asked.
    #[error("tensor `{name}` of {} is {dtype}: expected {expected}", path.display())]
    Dtype {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its type.
        dtype: Dtype,
        /// Types that would do.
        expected: &'static str,
    },
    /// A tensor holds NaN, an infinity, or a value that is not finite as f32.
    #[error(
        "tensor `{name}` of {} holds {value} at position {position}: weights must be finite f32 numbers",
        path.display()
    )]
    NotFinite {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Position of the first such value, in row-major order.
        position: usize,
        /// The value after conversion to f32.
        value: f32,
    },
    /// An integer has no exact f32.
    #[error(
        "tensor `{name}` of {} holds {value}, which f32 cannot hold exactly: integers go up to 16777216",
        path.display()
    )]
    NotExact {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The integer.
        value: i128,
    },
    /// A value is too large for half precision.
    #[error(
        "tensor `{name}` holds {value}, which f16 cannot hold (it goes up to 65504): write {} as f32",
        path.display()
    )]
    Overflow {
        /// The file to be written.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// The value.
        value: f32,
    },
    /// A network that this project cannot use.
    #[error("{} holds {what}, which is not supported: {reason}", path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: &'static str,
        /// Why that is of no use here.
        reason: &'static str,
    },
    /// The tensors are not those of a diffusion transformer.
    #[error("{} does not hold a diffusion transformer: {reason}", path.display())]
    NotATransformer {
        /// The file.
        path: PathBuf,
        /// What is missing or open.
        reason: String,
    },
    /// The tensors are not those of an ADM network.
    #[error("{} does not hold an ADM U-Net or classifier: {reason}", path.display())]
    NotAdm {
        /// The file.
        path: PathBuf,
        /// What is missing or what it looks like.
        reason: String,
    },
    /// Names and shapes leave parts of the architecture open.
    #[error(
        "the tensors of {} do not say {}: describe the network in a JSON file and give it as the architecture (--arch)",
        path.display(),
        list_unknown(unknown)
    )]
    Underdetermined {
        /// The file.
        path: PathBuf,
        /// What is open, with the options.
        unknown: Vec<Unknown>,
    },
    /// An architecture file or entry cannot be read.
    #[error("{} does not describe a network: {reason}", path.display())]
    Arch {
        /// The architecture file, or the checkpoint that carries the description.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The architecture does not fit together.
    #[error("the architecture for {} does not fit together", path.display())]
    Config {
        /// The checkpoint or architecture file.
        path: PathBuf,
        /// What does not fit.
        source: ConfigError,
    },
    /// The description of a backbone does not fit together.
    #[error("the network for {} does not fit together", path.display())]
    BackboneConfig {
        /// The checkpoint.
        path: PathBuf,
        /// What does not fit.
        source: diffrep_backbones::ConfigError,
    },
    /// The tensors are not those of a backbone.
    #[error("{} does not hold the weights of {network}", path.display())]
    NotThisBackbone {
        /// The checkpoint.
        path: PathBuf,
        /// The network, in words.
        network: String,
        /// Which names are missing or unknown.
        source: Box<diffrep_backbones::CheckpointError>,
    },
    /// A folder or file lacks a part of a latent diffusion model.
    #[error("{} has no {part}: expected {expected}", path.display())]
    MissingPart {
        /// The folder or file.
        path: PathBuf,
        /// What is missing.
        part: String,
        /// Where it would be.
        expected: String,
    },
    /// A part is not one of Stable Diffusion 1 or 2.
    #[error("{} is not of Stable Diffusion 1 or 2: {reason}", path.display())]
    NotStableDiffusion {
        /// The file.
        path: PathBuf,
        /// What it says instead.
        reason: String,
    },
    /// Parts of a model do not belong together.
    #[error("the parts of {} do not fit each other: {reason}", path.display())]
    PartsMisfit {
        /// The folder or file.
        path: PathBuf,
        /// Which and why.
        reason: String,
    },
    /// Images of a size that has no whole maps.
    #[error(
        "images of {size} x {size} do not go through {}: use a multiple of {step} (--size)",
        path.display()
    )]
    ImageSize {
        /// The folder or file.
        path: PathBuf,
        /// The size asked for, in pixels.
        size: usize,
        /// What it has to be a multiple of.
        step: usize,
    },
    /// The description of a latent diffusion model does not fit together.
    #[error("the network for {} does not fit together", path.display())]
    LatentConfig {
        /// The folder or file.
        path: PathBuf,
        /// What does not fit.
        source: diffrep_latent::ConfigError,
    },
    /// The tensors are not those of the network.
    #[error(
        "{} does not hold the weights of {network}: {}{hint}",
        path.display(),
        differences(missing, unused, misshapen)
    )]
    Mismatch {
        /// The checkpoint.
        path: PathBuf,
        /// The network, in words.
        network: String,
        /// Parameters of the network that the file lacks.
        missing: Box<[String]>,
        /// Tensors of the file that the network lacks.
        unused: Box<[String]>,
        /// Tensors of another shape.
        misshapen: Box<[Misshapen]>,
        /// What the file looks like instead, or nothing.
        hint: Box<str>,
    },
}

/// How many names a message gives before it only counts.
const NAMED: usize = 5;

fn some(names: impl ExactSizeIterator<Item = String>) -> String {
    let count = names.len();
    let shown: Vec<_> = names.take(NAMED).collect();
    match count.checked_sub(NAMED) {
        None | Some(0) => shown.join(", "),
        Some(more) => format!("{} and {more} more", shown.join(", ")),
    }
}

fn differences(missing: &[String], unused: &[String], misshapen: &[Misshapen]) -> String {
    let mut parts = Vec::new();
    for (names, what) in [(missing, "missing"), (unused, "unused")] {
        if !names.is_empty() {
            parts.push(format!(
                "{} {what} ({})",
                names.len(),
                some(names.iter().cloned())
            ));
        }
    }
    if !misshapen.is_empty() {
        let told = misshapen.iter().map(
            |Misshapen {
                 name,
                 found,
                 expected,
             }| format!("{name} {found:?} instead of {expected:?}"),
        );
        parts.push(format!("{} misshapen ({})", misshapen.len(), some(told)));
    }
    parts.join("; ")
}

fn list_unknown(unknown: &[Unknown]) -> String {
    unknown
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(", ")
}

/// The first names of a file, for a message.
pub(crate) fn known_names<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    match names.len() {
        0 => "no tensors".into(),
        _ => some(names.map(String::from)),
    }
}
