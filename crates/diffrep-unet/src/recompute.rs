//! Gradients with the blocks computed again on the way back (Chen et al. 2016, "Training Deep Nets
//! with Sublinear Memory Cost"): what stays in memory is one map for each block and the inside of a
//! single one, where plain automatic differentiation keeps the inside of all.

use burn::module::Module;
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Gradients, Tensor};
use diffrep_taps::{Condition, Encoder, TapSet};

use crate::UNet;
use crate::unet::Block;

impl UNet {
    /// The gradients of some value of the outputs of the `wanted` blocks with respect to the
    /// parameters. `value` is given those maps as leaves of an autodiff graph, in ascending order of
    /// blocks, and returns the gradients of what it made of them, beside anything else.
    ///
    /// Equals automatic differentiation through the whole network up to the order of additions, at
    /// the price of a second forward pass.
    ///
    /// # Panics
    ///
    /// When the network is not on an autodiff device.
    pub fn gradients_block_by_block<R>(
        &self,
        image: Tensor<4>,
        condition: &Condition,
        wanted: &TapSet,
        value: impl FnOnce(Vec<Tensor<4>>) -> (Gradients, R),
    ) -> (GradientsParams, R) {
        let outputs = self.outputs(image.clone(), condition, wanted);
        let encoder = self.config().encoder_blocks();
        let leaf = |map: &Tensor<4>| Tensor::from_inner(map.clone()).require_grad();
        let leaves: Vec<Tensor<4>> = wanted
            .iter()
            .map(|block| leaf(&outputs[block.position()]))
            .collect();
        let (mut gradients, result) = value(leaves.clone());
        // The gradient of each block's output, summed over all who read it.
        let mut of_outputs: Vec<Option<Tensor<4>>> = vec![None; outputs.len()];
        for (block, leaf) in wanted.iter().zip(&leaves) {
            of_outputs[block.position()] = leaf.grad_remove(&mut gradients);
        }
        let [batch, ..] = image.dims();
        let embedding = self.valid().embed(&inner(condition), batch);
        let mut of_embedding: Option<Tensor<2>> = None;
        let mut found = GradientsAccumulator::new();
        let blocks: Vec<&Block> = self.blocks().take(outputs.len()).collect();
        for position in (0..blocks.len()).rev() {
            let Some(of_output) = of_outputs[position].take() else {
                continue;
            };
            let input = match position {
                0 => Tensor::from_inner(image.clone().without_autodiff()),
                _ => leaf(&outputs[position - 1]),
            };
            // Decoder block k, counted from 0, reads the output of encoder block n - 1 - k.
            let skip = position
                .checked_sub(encoder + 1)
                .map(|place| encoder - 1 - place);
            let skipped = skip.map(|position| leaf(&outputs[position]));
            let embedding = Tensor::from_inner(embedding.clone()).require_grad();
            let map = match &skipped {
                None => input.clone(),
                Some(skipped) => Tensor::cat(vec![input.clone(), skipped.clone()], 1),
            };
            let map = blocks[position].forward(map, &embedding);
            let mut gradients = (map * Tensor::from_inner(of_output)).sum().backward();
            let mut add = |position: usize, gradient: Option<Tensor<4>>| {
                let slot = &mut of_outputs[position];
                *slot = match (slot.take(), gradient) {
                    (Some(sum), Some(gradient)) => Some(sum + gradient),
                    (one, other) => one.or(other),
                };
            };
            if position > 0 {
                add(position - 1, input.grad_remove(&mut gradients));
            }
            if let (Some(position), Some(skipped)) = (skip, skipped) {
                add(position, skipped.grad_remove(&mut gradients));
            }
            if let Some(gradient) = embedding.grad_remove(&mut gradients) {
                of_embedding = Some(match of_embedding {
                    None => gradient,
                    Some(sum) => sum + gradient,
                });
            }
            found.accumulate(
                self,
                GradientsParams::from_grads(gradients, blocks[position]),
            );
        }
        if let Some(of_embedding) = of_embedding {
            let embedding = self.embed(condition, batch);
            let gradients = (embedding * Tensor::from_inner(of_embedding))
                .sum()
                .backward();
            found.accumulate(self, GradientsParams::from_grads(gradients, self));
        }
        (found.grads(), result)
    }

    /// The outputs of all blocks up to the last wanted one, off the autodiff graph.
    fn outputs(&self, image: Tensor<4>, condition: &Condition, wanted: &TapSet) -> Vec<Tensor<4>> {
        let taps = self.taps();
        let all = TapSet::new(1..=wanted.last().get(), &taps).expect("blocks of this network");
        let image = image.without_autodiff();
        let network = self.valid();
        let maps = network.forward_taps(image, &inner(condition), &all, None);
        maps.into_iter().map(|(_, map)| map).collect()
    }
}

/// The condition off the autodiff graph.
fn inner(condition: &Condition) -> Condition {
    Condition {
        t: condition.t.clone().map(Tensor::without_autodiff),
        label: condition.label.clone().map(Tensor::without_autodiff),
        context: condition.context.clone().map(Tensor::without_autodiff),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::{Device, TensorData};
    use diffrep_rng::{Key, Stream};

    use super::*;
    use crate::{UNetConfig, random_network};

    struct Values<'a>(&'a GradientsParams, BTreeMap<String, Vec<f32>>, Vec<String>);

    impl ModuleVisitor for Values<'_> {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.2.push(name.into());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.2.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if let Some(gradient) = self.0.get::<D>(param.id) {
                let values = gradient.into_data().try_into_vec().unwrap();
                self.1.insert(self.2.join("."), values);
            }
        }
    }

    fn values(network: &UNet, gradients: &GradientsParams) -> BTreeMap<String, Vec<f32>> {
        let mut values = Values(gradients, BTreeMap::new(), Vec::new());
        network.visit(&mut values);
        values.1
    }

    /// The same noise at every call.
    fn image(shape: [usize; 4], device: &Device) -> Tensor<4> {
        let mut values = vec![0.0; shape.iter().product()];
        Key::new(7, Stream::Noise).fill_normal(&mut values);
        Tensor::from_data(TensorData::new(values, shape), device)
    }

    /// A value in which every pixel has another weight.
    fn weighted(maps: Vec<Tensor<4>>) -> Tensor<1> {
        let sums = maps.into_iter().map(|map| {
            let [_, c, h, w] = map.dims();
            let device = map.device();
            let count = (c * h * w) as i64;
            let weight = Tensor::<1, burn::tensor::Int>::arange(0..count, &device).float();
            let weight = (weight * 0.37).sin().reshape([1, c, h, w]);
            (map.square() * weight).sum()
        });
        sums.reduce(|a, b| a + b).unwrap()
    }

    #[test]
    fn gradients_are_those_of_the_whole_graph() {
        let plain = Device::flex();
        let config = UNetConfig {
            image_size: 8,
            ..UNetConfig::mini()
        };
        let network = random_network(&config, 1, &plain).unwrap();
        for blocks in [vec![1], vec![5], vec![7], vec![4, 9, 12]] {
            let last = *blocks.last().unwrap();
            let wanted = TapSet::new(blocks.clone(), &network.taps()).unwrap();
            let cut = network.clone().up_to(wanted.last()).train();
            assert_eq!(cut.taps().len(), last);
            let device = plain.clone().autodiff();
            let image = image([2, 1, 8, 8], &device);
            let condition = Condition::timestep(90.0, &device);
            let maps = cut.forward_taps(image.clone(), &condition, &wanted, None);
            let maps = maps.into_iter().map(|(_, map)| map).collect();
            let whole = weighted(maps);
            let loss: f32 = whole.clone().into_scalar();
            let whole = GradientsParams::from_grads(whole.backward(), &cut);
            let (by_block, again) =
                cut.gradients_block_by_block(image, &condition, &wanted, |maps| {
                    let value = weighted(maps);
                    let loss: f32 = value.clone().into_scalar();
                    (value.backward(), loss)
                });
            assert!((loss - again).abs() <= 1e-5 * loss.abs(), "{loss} {again}");
            let (whole, by_block) = (values(&cut, &whole), values(&cut, &by_block));
            assert_eq!(
                whole.keys().collect::<Vec<_>>(),
                by_block.keys().collect::<Vec<_>>()
            );
            let all = whole.values().flatten();
            let largest = all.fold(0.0f32, |max, v| max.max(v.abs()));
            for (name, expected) in whole {
                // Some are zero but for the rounding of large terms: a bias in front of a
                // normalisation.
                let scale = expected
                    .iter()
                    .fold(0.1 * largest, |max, v| max.max(v.abs()));
                for (expected, found) in expected.iter().zip(&by_block[&name]) {
                    let off = (expected - found).abs();
                    assert!(off <= 1e-4 * scale, "{blocks:?} {name}: {expected} {found}");
                }
            }
        }
    }

    #[test]
    fn a_network_that_was_cut_off_gives_the_same_maps() {
        let device = Device::flex();
        let network = random_network(&UNetConfig::mini(), 1, &device).unwrap();
        let image = image([2, 1, 32, 32], &device);
        let condition = Condition::timestep(10.0, &device);
        for block in [1, 4, 6, 7, 8, 13] {
            let wanted = TapSet::new([block], &network.taps()).unwrap();
            let cut = network.clone().up_to(wanted.last());
            assert_eq!(
                cut.parameters_up_to(wanted.last()),
                network.parameters_up_to(wanted.last())
            );
            let head = usize::from(block == 13) * network.out.as_ref().unwrap().num_params();
            assert_eq!(
                cut.num_params(),
                network.parameters_up_to(wanted.last()) + head
            );
            let map = |network: &UNet| {
                let taps = network.forward_taps(image.clone(), &condition, &wanted, None);
                taps.get(wanted.last()).unwrap().to_data()
            };
            assert_eq!(map(&cut), map(&network));
        }
    }
}
