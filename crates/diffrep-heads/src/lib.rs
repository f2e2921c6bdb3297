#![doc = include_str!("../README.md")]

mod attention;
mod cnn;
mod error;
mod feedback;
mod fusion;
mod layers;
mod linear;
mod mlp;
mod spec;
mod state;

pub use attention::{
    AttentionHead, FeedForward, Readout, SelfAttention, TransformerBlock, TransformerConfig,
};
pub use cnn::CnnHead;
pub use error::HeadError;
pub use feedback::{BatchNorm, BatchStatistics, Feedback, FeedbackLayer, FeedbackSpec};
pub use fusion::{FusionHead, PreLayer};
pub use layers::{Conv2d, Dense, LayerNorm};
pub use linear::LinearHead;
pub use mlp::MlpHead;
pub use spec::{Head, HeadSpec, Pooled};
pub use state::{load_state, parameters};
