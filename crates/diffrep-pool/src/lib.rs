#![doc = include_str!("../README.md")]

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroUsize;

use burn::tensor::{Tensor, module::adaptive_avg_pool2d};
use diffrep_taps::TapInfo;
use serde::{Deserialize, Serialize};

/// Side of the grid that a map is pooled to; at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PoolSize(NonZeroUsize);

/// Why a map cannot be pooled so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// The grid is finer than the map.
    #[error("pool {size} is larger than the map of block {block}, which is {height} x {width}: choose 1..={}", height.min(width))]
    TooLarge {
        /// The size asked for.
        size: usize,
        /// The block.
        block: usize,
        /// Height of its map.
        height: usize,
        /// Width of its map.
        width: usize,
    },
    /// Zero.
    #[error("a pool size is at least 1")]
    Zero,
}

impl PoolSize {
    /// A grid of `side` x `side`.
    ///
    /// # Errors
    ///
    /// When `side` is 0.
    pub fn new(side: usize) -> Result<Self, PoolError> {
        NonZeroUsize::new(side).map(Self).ok_or(PoolError::Zero)
    }

    /// Cells along a side.
    pub fn get(self) -> usize {
        self.0.get()
    }

    /// This size, if the block's map is at least as large.
    ///
    /// # Errors
    ///
    /// When it is not.
    pub fn check(self, tap: &TapInfo) -> Result<Self, PoolError> {
        if self.get() <= tap.height.min(tap.width) {
            Ok(self)
        } else {
            Err(PoolError::TooLarge {
                size: self.get(),
                block: tap.block.get(),
                height: tap.height,
                width: tap.width,
            })
        }
    }

    /// Length of the pooled vector of a block.
    pub fn features(self, tap: &TapInfo) -> usize {
        tap.channels * self.get() * self.get()
    }
}

impl fmt::Display for PoolSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The map pooled to every size, in the order asked: `[batch, channels * size * size]`, channel by
/// channel.
///
/// # Shapes
///
/// - `map`: `[batch, channels, height, width]`
///
/// # Panics
///
/// Panics when a size is larger than the map (see [`PoolSize::check`]).
pub fn pyramid(map: Tensor<4>, sizes: &[PoolSize]) -> Vec<Tensor<2>> {
    let [batch, channels, height, width] = map.dims();
    let mut done: BTreeMap<usize, Tensor<4>> = BTreeMap::new();
    let mut order: Vec<usize> = sizes.iter().map(|size| size.get()).collect();
    order.sort_unstable();
    for &side in order.iter().rev() {
        assert!(
            side <= height.min(width),
            "pool {side} of a {height} x {width} map"
        );
        let source = done.range(side..).find(|(finer, _)| *finer % side == 0);
        let pooled = match source {
            Some((finer, grid)) if *finer == side => grid.clone(),
            Some((_, grid)) => average(grid.clone(), side),
            None => average(map.clone(), side),
        };
        done.insert(side, pooled);
    }
    sizes
        .iter()
        .map(|size| {
            done[&size.get()]
                .clone()
                .reshape([batch, channels * size.get() * size.get()])
        })
        .collect()
}

/// Adaptive average pooling to `side` x `side`.
fn average(map: Tensor<4>, side: usize) -> Tensor<4> {
    let [_, _, height, width] = map.dims();
    if [height, width] == [side, side] {
        map
    } else {
        adaptive_avg_pool2d(map, [side, side])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, TensorData};
    use diffrep_taps::BlockIndex;
    use proptest::prelude::*;

    use super::*;

    fn sizes(sides: &[usize]) -> Vec<PoolSize> {
        sides
            .iter()
            .map(|&side| PoolSize::new(side).unwrap())
            .collect()
    }

    fn values(tensor: Tensor<2>) -> Vec<f32> {
        tensor.into_data().try_into_vec::<f32>().unwrap()
    }

    #[test]
    fn channels_come_first_and_cells_in_rows() {
        let data: Vec<f32> = (0..32).map(|v| v as f32).collect();
        let map = Tensor::<4>::from_data(TensorData::new(data, [1, 2, 4, 4]), &Device::flex());
        let pooled = pyramid(map, &sizes(&[2, 1, 4]));
        assert_eq!(
            values(pooled[0].clone()),
            [2.5, 4.5, 10.5, 12.5, 18.5, 20.5, 26.5, 28.5]
        );
        assert_eq!(values(pooled[1].clone()), [7.5, 23.5]);
        assert_eq!(pooled[2].dims(), [1, 32]);
    }

    #[test]
    fn a_pool_larger_than_the_map_names_the_range() {
        let tap = TapInfo {
            block: BlockIndex::new(7).unwrap(),
            name: "middle_block".into(),
            channels: 64,
            height: 8,
            width: 8,
        };
        let error = PoolSize::new(9)
            .unwrap()
            .check(&tap)
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "pool 9 is larger than the map of block 7, which is 8 x 8: choose 1..=8"
        );
        assert_eq!(PoolSize::new(0).unwrap_err(), PoolError::Zero);
        assert_eq!(PoolSize::new(4).unwrap().features(&tap), 1024);
    }

    proptest! {
        /// A pyramid is the same as pooling each size from the map, and the mean is kept.
        #[test]
        fn a_pyramid_is_direct_pooling(power in 0u32..4, channels in 1usize..4, seed in 0u32..1000) {
            let side = 1usize << power;
            let count = channels * side * side;
            let data: Vec<f32> = (0..count).map(|i| ((i as u32 * 37 + seed) % 101) as f32).collect();
            let map = Tensor::<4>::from_data(TensorData::new(data.clone(), [1, channels, side, side]), &Device::flex());
            let all: Vec<usize> = (0..=power).map(|p| 1 << p).collect();
            for (pooled, size) in pyramid(map.clone(), &sizes(&all)).into_iter().zip(&all) {
                let direct = average(map.clone(), *size).reshape([1, channels * size * size]);
                for (a, b) in values(pooled.clone()).iter().zip(values(direct)) {
                    prop_assert!((a - b).abs() < 1e-3);
                }
                let mean = values(pooled).iter().sum::<f32>() / (channels * size * size) as f32;
                prop_assert!((mean - data.iter().sum::<f32>() / count as f32).abs() < 1e-3);
            }
        }
    }
}
