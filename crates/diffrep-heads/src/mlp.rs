use burn::module::Module;
use burn::tensor::{Device, Tensor, activation::relu};
use diffrep_rng::Generator;

use crate::layers::Dense;

/// Fully connected layers with ReLU between them (Table 7 of the paper; `Head` of diffssl). Without
/// hidden layers it is the linear probe.
#[derive(Module, Debug)]
pub struct MlpHead {
    /// In order.
    pub fcs: Vec<Dense>,
}

impl MlpHead {
    /// Layers of `hidden` sizes between `features` and `classes`.
    pub(crate) fn new(
        features: usize,
        hidden: &[usize],
        classes: usize,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        let sizes: Vec<usize> = [&[features], hidden, &[classes]].concat();
        let mut layer = |pair: &[usize]| Dense::new([pair[0], pair[1]], true, draw, device);
        Self {
            fcs: sizes.windows(2).map(&mut layer).collect(),
        }
    }

    /// Logits `[batch, classes]` of features `[batch, features]`.
    pub fn forward(&self, features: Tensor<2>) -> Tensor<2> {
        let last = self.fcs.len() - 1;
        self.fcs.iter().enumerate().fold(features, |x, (i, layer)| {
            let x = layer.forward(x);
            if i < last { relu(x) } else { x }
        })
    }
}
