//! DifFeed (Mukhopadhyay et al. 2023, arXiv 2311.17921): the decoder's maps of a first pass, each
//! through a 1x1 convolution, a batch normalisation and ReLU, are added to the encoder's maps of a
//! second pass over the same image.

use std::collections::BTreeMap;

use burn::module::{Module, Param};
use burn::tensor::activation::relu;
use burn::tensor::module::{batch_norm, batch_norm_train, conv2d};
use burn::tensor::ops::ConvOptions;
use burn::tensor::{Device, Tensor, TensorData};
use diffrep_rng::{Generator, Key, Stream};
use diffrep_taps::{BlockIndex, Feedback as Addends, TapInfo, Taps};
use serde::{Deserialize, Serialize};

use crate::HeadError;
use crate::layers::uniform;

/// Added to a batch's variance, as in PyTorch.
const EPSILON: f64 = 1e-5;
/// Share of the running statistics that a batch replaces, as in PyTorch.
const MOMENTUM: f64 = 0.1;

/// Which decoder blocks are fed back. Block b of n goes to block n + 1 - b, whose map the decoder
/// reads as skip connection just when it has computed b.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeedbackSpec {
    /// Blocks after the middle one, counted from 1; 21, 24, 27, 30, 33 and 36 in the authors' code.
    pub blocks: Vec<BlockIndex>,
}

/// All feedback layers of a model.
#[derive(Module, Debug)]
pub struct Feedback {
    /// In the order of [`FeedbackSpec::blocks`].
    pub layers: Vec<FeedbackLayer>,
    #[module(skip)]
    pairs: Vec<(BlockIndex, BlockIndex)>,
}

/// What a map goes through on its way back.
#[derive(Module, Debug)]
pub struct FeedbackLayer {
    /// `[target channels, source channels, 1, 1]`, without bias
    pub weight: Param<Tensor<4>>,
    /// Over the target's channels.
    pub norm: BatchNorm,
}

/// Batch normalisation with PyTorch's defaults, whose running statistics change only where
/// [`Feedback::observe`] is called: micro-batches that are computed side by side stay reproducible.
#[derive(Module, Debug)]
pub struct BatchNorm {
    /// `[channels]`
    pub weight: Param<Tensor<1>>,
    /// `[channels]`
    pub bias: Param<Tensor<1>>,
    /// `[channels]`
    pub running_mean: Param<Tensor<1>>,
    /// `[channels]`
    pub running_var: Param<Tensor<1>>,
}

/// Mean and unbiased variance of a batch, `[channels]` each.
#[derive(Clone, Debug)]
pub struct BatchStatistics(pub Tensor<1>, pub Tensor<1>);

impl FeedbackSpec {
    /// Every third block after the middle one, from the second on: of 37 blocks those of the authors'
    /// code.
    pub fn usual(blocks: usize) -> Self {
        let first = blocks.div_ceil(2) + 2;
        let positions = (first..=blocks).step_by(3);
        Self {
            blocks: positions.map(|block| BlockIndex::at(block - 1)).collect(),
        }
    }

    /// Source and target of each block fed back.
    ///
    /// # Errors
    ///
    /// When a block is not in the decoder, or there twice, or there is none.
    pub fn pairs(&self, blocks: usize) -> Result<Vec<(BlockIndex, BlockIndex)>, HeadError> {
        if self.blocks.is_empty() {
            return Err(HeadError::Zero {
                what: "the number of blocks that are fed back",
            });
        }
        // As many blocks in the decoder as in the encoder, and one in the middle.
        let middle = blocks.div_ceil(2);
        let pairs = self.blocks.iter().enumerate().map(|(place, &block)| {
            let again = self.blocks[..place].contains(&block);
            if block.get() <= middle || block.get() > blocks || again {
                return Err(HeadError::FedBack {
                    block: block.get(),
                    blocks,
                    middle,
                });
            }
            Ok((block, BlockIndex::at(blocks - block.get())))
        });
        pairs.collect()
    }

    /// The layers for a network with `taps`, all of them. Initial weights are PyTorch's defaults, a
    /// function of `seed` alone.
    ///
    /// # Errors
    ///
    /// As [`pairs`](Self::pairs).
    pub fn build(
        &self,
        taps: &[TapInfo],
        seed: u64,
        device: &Device,
    ) -> Result<Feedback, HeadError> {
        let pairs = self.pairs(taps.len())?;
        // Another stream than the head's.
        let draw = &mut Key::new(seed, Stream::Init).draw(1).generator();
        let channels = |block: BlockIndex| taps[block.position()].channels;
        let layer = |(source, target): &(BlockIndex, BlockIndex)| {
            FeedbackLayer::new([channels(*source), channels(*target)], draw, device)
        };
        Ok(Feedback {
            layers: pairs.iter().map(layer).collect(),
            pairs,
        })
    }

    /// How many parameters the layers have.
    ///
    /// # Errors
    ///
    /// As [`pairs`](Self::pairs).
    pub fn parameters(&self, taps: &[TapInfo]) -> Result<usize, HeadError> {
        let channels = |block: BlockIndex| taps[block.position()].channels;
        let pairs = self.pairs(taps.len())?.into_iter();
        Ok(pairs
            .map(|(source, target)| channels(target) * (channels(source) + 2))
            .sum())
    }
}

impl Feedback {
    /// Source and target of each layer.
    pub fn pairs(&self) -> &[(BlockIndex, BlockIndex)] {
        &self.pairs
    }

    /// What a second pass adds, from the maps of a first one. While training, batches are normalised
    /// by their own statistics, which come back too; otherwise by the running ones.
    ///
    /// # Panics
    ///
    /// When a source block is not among `maps`.
    pub fn forward(&self, maps: &Taps, training: bool) -> (Addends, Vec<BatchStatistics>) {
        let mut addends = BTreeMap::new();
        let mut statistics = Vec::new();
        for (layer, (source, target)) in self.layers.iter().zip(&self.pairs) {
            let map = maps.get(*source).expect("the map of every block fed back");
            let map = conv2d(
                map.clone(),
                layer.weight.val(),
                None,
                ConvOptions::new([1, 1], [0, 0], [1, 1], 1),
            );
            let map = if training {
                let (map, found) = layer.norm.by_batch(map);
                statistics.push(found);
                map
            } else {
                layer.norm.by_running(map)
            };
            addends.insert(*target, relu(map));
        }
        (Addends { addends }, statistics)
    }

    /// The layers with running statistics that have seen a batch.
    #[must_use]
    pub fn observe(mut self, statistics: Vec<BatchStatistics>) -> Self {
        for (layer, found) in self.layers.iter_mut().zip(statistics) {
            layer.norm.observe(found);
        }
        self
    }
}

impl FeedbackLayer {
    fn new([source, target]: [usize; 2], draw: &mut Generator, device: &Device) -> Self {
        let constant = |value: f32| {
            let values = TensorData::new(vec![value; target], [target]);
            Param::from_tensor(Tensor::from_data(values, device))
        };
        Self {
            weight: uniform([target, source, 1, 1], source, draw, device),
            norm: BatchNorm {
                weight: constant(1.0),
                bias: constant(0.0),
                running_mean: constant(0.0).set_require_grad(false),
                running_var: constant(1.0).set_require_grad(false),
            },
        }
    }
}

impl BatchNorm {
    /// `[batch, channels, height, width]` normalised by the running statistics.
    fn by_running(&self, map: Tensor<4>) -> Tensor<4> {
        let [mean, variance] = [&self.running_mean, &self.running_var].map(Param::val);
        batch_norm(
            map,
            self.weight.val(),
            self.bias.val(),
            mean,
            variance,
            EPSILON,
        )
    }

    /// `[batch, channels, height, width]` normalised by its own statistics.
    fn by_batch(&self, map: Tensor<4>) -> (Tensor<4>, BatchStatistics) {
        let [batch, _, height, width] = map.dims();
        let count = (batch * height * width) as f64;
        let done = batch_norm_train(map, self.weight.val(), self.bias.val(), EPSILON);
        let unbiased = count / (count - 1.0).max(1.0);
        let [mean, variance] = [done.mean, done.variance].map(Tensor::without_autodiff);
        (done.output, BatchStatistics(mean, variance * unbiased))
    }

    fn observe(&mut self, BatchStatistics(mean, variance): BatchStatistics) {
        let step = |old: &Param<Tensor<1>>, new: Tensor<1>| {
            old.clone().map(|old| {
                let tracked = old.is_autodiff();
                let sum = old.without_autodiff() * (1.0 - MOMENTUM) + new * MOMENTUM;
                match tracked {
                    true => Tensor::from_inner(sum),
                    false => sum,
                }
            })
        };
        self.running_mean = step(&self.running_mean, mean);
        self.running_var = step(&self.running_var, variance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(blocks: &[usize]) -> FeedbackSpec {
        let index = |block: &usize| BlockIndex::new(*block).unwrap();
        FeedbackSpec {
            blocks: blocks.iter().map(index).collect(),
        }
    }

    #[test]
    fn the_usual_blocks_are_the_authors() {
        assert_eq!(FeedbackSpec::usual(37), spec(&[21, 24, 27, 30, 33, 36]));
        assert_eq!(FeedbackSpec::usual(13), spec(&[9, 12]));
    }

    #[test]
    fn blocks_go_where_their_skip_connection_starts() {
        let pairs = spec(&[21, 24, 36]).pairs(37).unwrap();
        let targets: Vec<usize> = pairs.iter().map(|(_, target)| target.get()).collect();
        assert_eq!(targets, [17, 14, 2]);
        for wrong in [&[19][..], &[38], &[21, 21], &[]] {
            assert!(spec(wrong).pairs(37).is_err(), "{wrong:?}");
        }
        let told = spec(&[5]).pairs(37).unwrap_err().to_string();
        assert!(told.contains("those after block 19 can"), "{told}");
    }

    #[test]
    fn running_statistics_are_pytorchs() {
        let device = Device::flex();
        let draw = &mut Key::new(0, Stream::Init).generator();
        let layer = FeedbackLayer::new([2, 2], draw, &device);
        let values = vec![1.0f32, 2.0, 3.0, 6.0, 0.0, 0.0, 0.0, 4.0];
        let map = Tensor::from_data(TensorData::new(values, [1, 2, 2, 2]), &device);
        let (_, found) = layer.norm.by_batch(map);
        let mut norm = layer.norm.clone();
        norm.observe(found);
        let of = |param: &Param<Tensor<1>>| -> Vec<f32> {
            param.val().into_data().try_into_vec().unwrap()
        };
        // torch.nn.BatchNorm2d(2) after one batch: 0.1 of the mean, 0.9 + 0.1 of var(ddof = 1).
        let mean = of(&norm.running_mean);
        assert!((mean[0] - 0.3).abs() < 1e-6 && (mean[1] - 0.1).abs() < 1e-6);
        let variance = of(&norm.running_var);
        assert!((variance[0] - (0.9 + 0.1 * 14.0 / 3.0)).abs() < 1e-6);
        assert!((variance[1] - 1.3).abs() < 1e-6, "{variance:?}");
    }
}
