#![doc = include_str!("../README.md")]

mod backbone;
mod checkpoint;
mod config;
mod dit;
mod dit_config;
mod fid;
mod inception;
mod init;
mod layers;
mod mage;
mod mage_config;
mod mixed;
mod names;
mod normalised;
mod resnet;
mod vit;
mod vit_config;

pub use backbone::Backbone;
pub use checkpoint::{CheckpointError, Left, Plan, plan};
pub use config::{BackboneConfig, ConfigError};
pub use diffrep_state::NamedTensor;
pub use diffrep_taps::blocks_evaluated;
pub use dit::{DiT, DiTBlock, FinalLayer, LabelEmbedder, Table, TimestepEmbedder, TimestepMlp};
pub use dit_config::DiTConfig;
pub use fid::{FID_SIZE, FidInput, fid_input};
pub use inception::{FidFeatures, InceptionConfig, InceptionV3};
pub use layers::{BatchNorm, Conv2d, LayerNorm, Linear};
pub use mage::{
    Codebook, GroupNorm, Level, Mage, Middle, TokenEmbedding, Tokenizer, TokenizerBlock,
    TokenizerEncoder,
};
pub use mage_config::MageConfig;
pub use mixed::{InceptionA, InceptionB, InceptionC, InceptionD, InceptionE, Unit};
pub use names::{is_statistic, named_tensors, parameter_count, state_dict, with_state_dict};
pub use normalised::Normalised;
pub use resnet::{Basic, BlockKind, Bottleneck, Downsample, ResNet, ResNetConfig, Residual, Stem};
pub use vit::{Attention, Block, Mlp, PatchEmbed, ViT};
pub use vit_config::{Gelu, TapTokens, ViTConfig};
