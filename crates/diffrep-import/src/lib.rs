#![doc = include_str!("../README.md")]

mod arch;
mod backbone;
mod diffusers;
mod error;
mod folder;
mod infer;
mod latent;
mod load;
mod names;
mod presets;
mod raw;
mod report;
mod sniff;
mod transformer;
mod values;
mod write;

pub use arch::{ARCH_KEY, ArchSource, PROCESS_KEY, read_arch, resolve};
pub use backbone::{ImportedBackbone, check_backbone, load_backbone};
pub use error::{ImportError, Misshapen};
pub use infer::{Inferred, Unknown, infer};
pub use latent::{
    ImportedLatent, LatentDescription, LatentPart, LeftOut, describe_latent, is_latent,
    load_first_stage, load_latent, read_unet_config,
};
pub use load::{Imported, load};
pub use presets::{preset, preset_names, published_process};
pub use raw::{RawCheckpoint, TensorInfo};
pub use report::{Fate, ImportReport, TensorReport, check, require_complete};
pub use sniff::Container;
pub use transformer::{infer_dit, is_dit};
pub use values::Dtype;
pub use write::{WeightDtype, write, write_backbone, write_tensors};
