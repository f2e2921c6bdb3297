#![doc = include_str!("../README.md")]

mod arch;
mod backbone;
mod error;
mod infer;
mod latent;
mod load;
mod presets;
mod raw;
mod report;
mod sniff;
mod values;
mod write;

pub use arch::{ARCH_KEY, ArchSource, read_arch, resolve};
pub use backbone::{ImportedBackbone, load_backbone};
pub use error::{ImportError, Misshapen};
pub use infer::{Inferred, Unknown, infer};
pub use latent::{
    ImportedLatent, LatentDescription, LatentPart, LeftOut, describe_latent, is_latent,
    load_latent, read_unet_config,
};
pub use load::{Imported, load};
pub use presets::{preset, preset_names};
pub use raw::{RawCheckpoint, TensorInfo};
pub use report::{Fate, ImportReport, TensorReport, check, require_complete};
pub use sniff::Container;
pub use values::Dtype;
pub use write::{WeightDtype, write, write_backbone, write_tensors};
