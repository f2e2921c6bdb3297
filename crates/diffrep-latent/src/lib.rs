#![doc = include_str!("../README.md")]

mod attention;
mod config;
mod first_stage;
mod latent;
mod layers;
mod names;
mod res_block;
mod text;
mod tokenizer;
mod transformer;
mod unet;

pub use attention::Attention;
pub use config::{
    BlockSpec, Blocks, ConfigError, FirstStageConfig, LayerKind, LayerSpec, TextConfig, TextGelu,
    UNetConfig,
};
pub use diffrep_state::NamedTensor;
pub use first_stage::{
    Downsampler, FirstStage, FirstStageEncoder, Level, MapAttention, Middle, Moments,
};
pub use latent::{Latent, Latents};
pub use layers::{Conv2d, Embedding, GroupNorm, LayerNorm, Linear};
pub use names::{
    Named, Naming, named_tensors, parameter_count, randomised, state_dict, with_state_dict,
};
pub use res_block::ResBlock;
pub use text::{Embeddings, SelfAttention, TextEncoder, TextLayer, TextLayers, TextMlp, TextModel};
pub use tokenizer::{Padding, Tokenizer, TokenizerError, Tokens};
pub use transformer::{FeedForward, SpatialTransformer, TransformerBlock};
pub use unet::{Block, Layer, TimeEmbedding, UNet};
