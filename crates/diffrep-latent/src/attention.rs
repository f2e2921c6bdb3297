use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::softmax};

use crate::layers::Linear;

/// Scores that are computed at a time, where there are so many: so few lie in a cache beside what they are
/// computed from, where those of a whole map of 64 x 64 would fill 0.5 GB.
const SCORES: usize = 1 << 18;
/// Queries at a time below which a matrix product spends its time on laying out keys and values.
const QUERIES: usize = 256;

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

/// Softmax attention, scaled by the inverse root of a head's width: a part of the queries at a time, and of the
/// heads where there are many keys.
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
    let (group, rows) = parts(heads, tokens, entries);
    let mixed = (0..heads).step_by(group).map(|head| {
        let count = group.min(heads - head);
        let of_heads = |part: &Tensor<4>| part.clone().narrow(1, head, count);
        let [query, key, value] = [&query, &key, &value].map(of_heads);
        let mixed = (0..tokens).step_by(rows).map(|first| {
            let count = rows.min(tokens - first);
            let scores = query.clone().narrow(2, first, count).matmul(key.clone());
            let scores = match &mask {
                Some(mask) => scores + mask.clone().narrow(2, first, count),
                None => scores,
            };
            softmax(scores, 3).matmul(value.clone())
        });
        Tensor::cat(mixed.collect(), 2)
    });
    Tensor::cat(mixed.collect(), 1)
        .swap_dims(1, 2)
        .reshape([batch, tokens, width])
}

/// How many heads and how many queries go together: functions of one image's shape alone, so that its bits do
/// not depend on the batch.
fn parts(heads: usize, tokens: usize, entries: usize) -> (usize, usize) {
    let rows = SCORES / (heads * entries).max(1);
    if rows >= QUERIES.min(tokens) {
        return (heads, rows.clamp(1, tokens));
    }
    let rows = QUERIES.min(tokens);
    ((SCORES / (rows * entries)).clamp(1, heads), rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_keys_are_met_by_few_heads_at_a_time() {
        // Stable Diffusion 1 at 512 pixels: levels of 64, 32, 16 and 8 pixels a side, the text, the VAE.
        assert_eq!(parts(8, 4096, 4096), (1, 256));
        assert_eq!(parts(8, 1024, 1024), (1, 256));
        assert_eq!(parts(8, 256, 256), (4, 256));
        assert_eq!(parts(8, 64, 64), (8, 64));
        assert_eq!(parts(8, 4096, 77), (8, 425));
        assert_eq!(parts(1, 4096, 4096), (1, 256));
    }

    #[test]
    fn parts_give_what_the_whole_gives() {
        let device = burn::tensor::Device::flex();
        let (heads, tokens, width) = (3, 600, 12);
        assert_eq!(parts(heads, tokens, tokens), (1, 256));
        let values = |shift: usize| -> Tensor<3> {
            let values = (0..tokens * width).map(|i| ((i * 37 + shift) % 101) as f32 / 50.0 - 1.0);
            let data =
                burn::tensor::TensorData::new(values.collect::<Vec<_>>(), [1, tokens, width]);
            Tensor::from_data(data, &device)
        };
        let (query, key, value) = (values(0), values(5), values(11));
        let found = attend(query.clone(), key.clone(), value.clone(), heads, None);
        let split = |part: Tensor<3>| part.reshape([1, tokens, heads, 4]).swap_dims(1, 2);
        let scores = split(query).matmul(split(key).swap_dims(2, 3)) / 2.0;
        let expected = softmax(scores, 3).matmul(split(value));
        let expected = expected.swap_dims(1, 2).reshape([1, tokens, width]);
        let off = (found - expected).abs().max().into_scalar::<f32>();
        assert!(off < 1e-6, "{off}");
    }
}
