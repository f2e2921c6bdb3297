use burn::module::Module;
use burn::tensor::{
    Device, Tensor,
    activation::relu,
    module::{adaptive_avg_pool2d, max_pool2d},
    ops::MaxPoolOptions,
};
use diffrep_rng::Generator;
use diffrep_taps::TapInfo;

use crate::HeadError;
use crate::layers::{Conv2d, Dense};

/// Two 2x2 convolutions, each with ReLU and 2x2 maximum pooling, then a 2x2 average and a linear
/// layer. Table 8 of the paper fixes the kernels and the last pooling by its parameter counts;
/// where the ReLU stands is not stated.
#[derive(Module, Debug)]
pub struct CnnHead {
    /// First convolution.
    pub conv1: Conv2d,
    /// Second convolution.
    pub conv2: Conv2d,
    /// `[classes, 4 * channels]`
    pub head: Dense,
}

/// Smallest map that two 2x2 convolutions and halvings leave a pixel of: 5 -> 4 -> 2 -> 1 ends
/// before the second halving, 7 -> 6 -> 3 -> 2 -> 1 does not.
const LEAST: usize = 7;

impl CnnHead {
    /// That the map survives two convolutions and halvings.
    pub(crate) fn check(tap: &TapInfo) -> Result<(), HeadError> {
        if tap.height.min(tap.width) >= LEAST {
            return Ok(());
        }
        Err(HeadError::Small {
            block: tap.block.get(),
            height: tap.height,
            width: tap.width,
            least: LEAST,
        })
    }

    /// A head of `channels` in its two convolutions, for maps of `tap`.
    pub(crate) fn new(
        tap: &TapInfo,
        channels: [usize; 2],
        classes: usize,
        draw: &mut Generator,
        device: &Device,
    ) -> Self {
        let [first, second] = channels;
        Self {
            conv1: Conv2d::new([tap.channels, first], 2, draw, device),
            conv2: Conv2d::new([first, second], 2, draw, device),
            head: Dense::new([4 * second, classes], true, draw, device),
        }
    }

    /// Logits `[batch, classes]` of a map `[batch, channels, height, width]`.
    pub fn forward(&self, map: Tensor<4>) -> Tensor<2> {
        let halve = |x| max_pool2d(x, MaxPoolOptions::new([2, 2]));
        let x = halve(relu(self.conv1.forward(map)));
        let x = halve(relu(self.conv2.forward(x)));
        let x: Tensor<2> = adaptive_avg_pool2d(x, [2, 2]).flatten(1, 3);
        self.head.forward(x)
    }
}
