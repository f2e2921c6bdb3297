#![doc = include_str!("../README.md")]

mod attention;
mod config;
mod flops;
mod forward_memory;
mod head;
mod layers;
mod memory;
mod names;
mod precision;
mod random;
mod recompute;
mod reference;
mod res_block;
mod shapes;
mod unet;

pub use attention::{AttentionBlock, AttentionPool};
pub use config::{
    AttentionOrder, BlockSpec, Blocks, ClassifierPool, ConfigError, Details, Direction, Heads,
    Kind, LayerSpec, Resample, UNetConfig,
};
pub use diffrep_state::NamedTensor;
pub use flops::{flops, flops_up_to};
pub use forward_memory::{ForwardMemory, forward_memory};
pub use head::{AttentionHead, Head, MapHead, SpatialHead};
pub use layers::{Conv1d, Conv2d, GroupNorm, Linear};
pub use memory::{TrainingMemory, training_memory};
pub use names::{named_tensors, state_dict, with_state_dict};
pub use precision::Precision;
pub use random::{initial_network, random_network};
pub use reference::ReferenceArgs;
pub use res_block::{ResBlock, ResampleLayer};
pub use shapes::{ParameterShape, Place, parameter_count, parameter_count_up_to, parameter_shapes};
pub use unet::{Block, Layer, TimeEmbed, UNet, blocks_evaluated};
