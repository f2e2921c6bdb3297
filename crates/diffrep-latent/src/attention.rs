use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::softmax};

use crate::layers::Linear;

/// Scores that are computed at a time: so many lie in a cache beside what they are computed from,
/// where those of a whole map of 64 x 64 would fill 0.5 GB.
const SCORES: usize = 1 << 20;

/// Multi-head attention of tokens to a context, or to themselves.
#[derive(Module, Debug)]
pub struct Attention {
    /// `[width, width]`, without bias in the U-Net.
    pub to_q: Linear,
    /// `[width, context width]`, without bias in the U-Net.
    pub to_k: Linear,
    /// `[width, context width]`, without bias in the U-Net.
    pub to_v: Linear,
    /// `to_out.0`
    pub to_out: Linear,
    #[module(skip)]
    heads: usize,
}

impl Attention {
    pub(crate) fn new(width: usize, context: usize, heads: usize, device: &Device) -> Self {
        Self {
            to_q: Linear::new(width, width, device),
            to_k: Linear::new(context, width, device),
            to_v: Linear::new(context, width, device),
            to_out: Linear::new(width, width, device),
            heads,
        }
    }

    /// With no bias but that of the output.
    pub(crate) fn without_bias(self) -> Self {
        Self {
            to_q: self.to_q.without_bias(),
            to_k: self.to_k.without_bias(),
            to_v: self.to_v.without_bias(),
            ..self
        }
    }

    /// `x`: `[batch, tokens, width]`; `context`: `[batch, entries, context width]`, or one row for
    /// all; result: `[batch, tokens, width]`.
    pub(crate) fn forward(&self, x: Tensor<3>, context: Tensor<3>) -> Tensor<3> {
        let [batch, ..] = x.dims();
        let query = self.to_q.forward_tokens(x);
        // Keys and values of a context that all images share are computed once.
        let shared = |part: Tensor<3>| {
            let [_, entries, width] = part.dims();
            part.expand([batch, entries, width])
        };
        let key = shared(self.to_k.forward_tokens(context.clone()));
        let value = shared(self.to_v.forward_tokens(context));
        self.to_out
            .forward_tokens(attend(query, key, value, self.heads, None))
    }
}

/// Softmax attention, scaled by the inverse root of a head's width, a part of the queries at a time.
///
/// # Shapes
///
/// - `query`, result: `[batch, tokens, width]`
/// - `key`, `value`: `[batch, entries, width]`
/// - `mask`: `[1, 1, tokens, entries]`, added to the scores
pub(crate) fn attend(
    query: Tensor<3>,
    key: Tensor<3>,
    value: Tensor<3>,
    heads: usize,
    mask: Option<Tensor<4>>,
) -> Tensor<3> {
    let [batch, tokens, width] = query.dims();
    let [_, entries, _] = key.dims();
    let size = width / heads;
    let split =
        |part: Tensor<3>, count: usize| part.reshape([batch, count, heads, size]).swap_dims(1, 2);
    let query = split(query * (1.0 / (size as f64).sqrt()), tokens);
    let key = split(key, entries).swap_dims(2, 3);
    let value = split(value, entries);
    // A function of one image's shape alone, so that its bits do not depend on the batch.
    let rows = (SCORES / (heads * entries)).clamp(1, tokens);
    let parts = (0..tokens).step_by(rows).map(|first| {
        let count = rows.min(tokens - first);
        let scores = query.clone().narrow(2, first, count).matmul(key.clone());
        let scores = match &mask {
            Some(mask) => scores + mask.clone().narrow(2, first, count),
            None => scores,
        };
        softmax(scores, 3).matmul(value.clone())
    });
    let mixed: Vec<Tensor<4>> = parts.collect();
    Tensor::cat(mixed, 2)
        .swap_dims(1, 2)
        .reshape([batch, tokens, width])
}
