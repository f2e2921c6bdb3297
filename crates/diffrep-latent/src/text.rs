//! The text encoders. References: `CLIPTextModel` of transformers, and OpenCLIP, of which Stable
//! Diffusion 2 uses the last layer but one.

use burn::module::Module;
use burn::tensor::activation::sigmoid;
use burn::tensor::{Device, Int, Tensor, TensorData};
use diffrep_ops::gelu;

use crate::attention::attend;
use crate::config::{ConfigError, TextConfig, TextGelu};
use crate::layers::{Embedding, LayerNorm, Linear};
use crate::names::Named;

/// What hides later tokens; softmax makes zero of it.
const HIDDEN: f32 = f32::NEG_INFINITY;

/// A CLIP or OpenCLIP text encoder up to its final normalisation.
#[derive(Module, Debug)]
pub struct TextEncoder {
    /// `text_model`
    pub text_model: TextModel,
    #[module(skip)]
    config: TextConfig,
}

/// `CLIPTextTransformer`.
#[derive(Module, Debug)]
pub struct TextModel {
    /// `embeddings`
    pub embeddings: Embeddings,
    /// `encoder`
    pub encoder: TextLayers,
    /// `final_layer_norm`
    pub final_layer_norm: LayerNorm,
}

/// Tokens and places to vectors.
#[derive(Module, Debug)]
pub struct Embeddings {
    /// `[vocab_size, hidden_size]`
    pub token_embedding: Embedding,
    /// `[max_position_embeddings, hidden_size]`
    pub position_embedding: Embedding,
}

/// The layers.
#[derive(Module, Debug)]
pub struct TextLayers {
    /// `layers`
    pub layers: Vec<TextLayer>,
}

/// Attention to earlier tokens and a hidden layer, each behind a normalisation and added.
#[derive(Module, Debug)]
pub struct TextLayer {
    /// `self_attn`
    pub self_attn: SelfAttention,
    /// `layer_norm1`
    pub layer_norm1: LayerNorm,
    /// `mlp`
    pub mlp: TextMlp,
    /// `layer_norm2`
    pub layer_norm2: LayerNorm,
}

/// Multi-head attention with biases.
#[derive(Module, Debug)]
pub struct SelfAttention {
    /// `k_proj`
    pub k_proj: Linear,
    /// `v_proj`
    pub v_proj: Linear,
    /// `q_proj`
    pub q_proj: Linear,
    /// `out_proj`
    pub out_proj: Linear,
}

/// A hidden layer.
#[derive(Module, Debug)]
pub struct TextMlp {
    /// `fc1`
    pub fc1: Linear,
    /// `fc2`
    pub fc2: Linear,
}

impl TextConfig {
    /// Builds the encoder with shapes for parameters, which cost neither time nor memory until a
    /// state dict fills them, or else zeros when they are asked for.
    ///
    /// # Errors
    ///
    /// When the configuration does not fit together.
    pub fn blank(&self, device: &Device) -> Result<TextEncoder, ConfigError> {
        self.check()?;
        let width = self.hidden_size;
        let linear = |inputs, outputs| Linear::new(inputs, outputs, device);
        let norm = || LayerNorm::new(width, self.layer_norm_eps, device);
        let layers = (0..self.num_hidden_layers).map(|_| TextLayer {
            self_attn: SelfAttention {
                k_proj: linear(width, width),
                v_proj: linear(width, width),
                q_proj: linear(width, width),
                out_proj: linear(width, width),
            },
            layer_norm1: norm(),
            mlp: TextMlp {
                fc1: linear(width, self.intermediate_size),
                fc2: linear(self.intermediate_size, width),
            },
            layer_norm2: norm(),
        });
        Ok(TextEncoder {
            text_model: TextModel {
                embeddings: Embeddings {
                    token_embedding: Embedding::new(self.vocab_size, width, device),
                    position_embedding: Embedding::new(self.max_position_embeddings, width, device),
                },
                encoder: TextLayers {
                    layers: layers.collect(),
                },
                final_layer_norm: norm(),
            },
            config: self.clone(),
        })
    }
}

impl TextEncoder {
    /// What it was built from.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// What the U-Net reads of a text: the last layer's tokens behind the final normalisation,
    /// `[1, tokens, hidden_size]`.
    ///
    /// # Panics
    ///
    /// When there are more tokens than places, none, or one that is not in the vocabulary.
    pub fn forward(&self, tokens: &[u32], device: &Device) -> Tensor<3> {
        let count = tokens.len();
        let config = &self.config;
        assert!(
            (1..=config.max_position_embeddings).contains(&count),
            "{count} tokens: this encoder has {} places",
            config.max_position_embeddings
        );
        assert!(
            tokens
                .iter()
                .all(|&token| (token as usize) < config.vocab_size),
            "this encoder knows {} tokens",
            config.vocab_size
        );
        let ids: Vec<i64> = tokens.iter().map(|&token| i64::from(token)).collect();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [count]), device);
        let embeddings = &self.text_model.embeddings;
        let places = embeddings
            .position_embedding
            .weight
            .val()
            .narrow(0, 0, count);
        let embedded = embeddings.token_embedding.forward(ids) + places;
        let mask = causal(count, device);
        let layers = self.text_model.encoder.layers.iter();
        let states = layers.fold(embedded.unsqueeze::<3>(), |states, layer| {
            layer.forward(states, config, mask.clone())
        });
        self.text_model.final_layer_norm.forward(states)
    }
}

impl TextLayer {
    fn forward(&self, states: Tensor<3>, config: &TextConfig, mask: Tensor<4>) -> Tensor<3> {
        let normal = self.layer_norm1.forward(states.clone());
        let attention = &self.self_attn;
        let mixed = attend(
            attention.q_proj.forward_tokens(normal.clone()),
            attention.k_proj.forward_tokens(normal.clone()),
            attention.v_proj.forward_tokens(normal),
            config.num_attention_heads,
            Some(mask),
        );
        let states = states + attention.out_proj.forward_tokens(mixed);
        let hidden = self.layer_norm2.forward(states.clone());
        let hidden = self.mlp.fc1.forward_tokens(hidden);
        let hidden = match config.hidden_act {
            TextGelu::QuickGelu => hidden.clone() * sigmoid(hidden * 1.702),
            TextGelu::Gelu => gelu(hidden),
        };
        states + self.mlp.fc2.forward_tokens(hidden)
    }
}

/// Nothing for earlier tokens, minus infinity for later ones, `[1, 1, tokens, tokens]`.
fn causal(tokens: usize, device: &Device) -> Tensor<4> {
    let hidden =
        |row: usize| (0..tokens).map(move |column| if column > row { HIDDEN } else { 0.0 });
    let values: Vec<f32> = (0..tokens).flat_map(hidden).collect();
    Tensor::from_data(TensorData::new(values, [1, 1, tokens, tokens]), device)
}

impl Named for TextEncoder {}
