#![doc = include_str!("../README.md")]

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
/// channel. Each size is pooled from the map itself, so that its bits do not depend on the others.
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
    let pooled = |size: &PoolSize| {
        let side = size.get();
        assert!(
            side <= height.min(width),
            "pool {side} of a {height} x {width} map"
        );
        average(map.clone(), side).reshape([batch, channels * side * side])
    };
    sizes.iter().map(pooled).collect()
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

    /// The mean over the rows and columns that each cell of PyTorch's adaptive pooling covers, by the
    /// definition: from floor(i * n / k) to ceil((i + 1) * n / k).
    fn direct(data: &[f32], [height, width]: [usize; 2], side: usize) -> Vec<f64> {
        let span =
            |cell: usize, length: usize| cell * length / side..((cell + 1) * length).div_ceil(side);
        let mut cells = Vec::new();
        for map in data.chunks_exact(height * width) {
            for row in 0..side {
                for column in 0..side {
                    let (rows, columns) = (span(row, height), span(column, width));
                    let count = (rows.len() * columns.len()) as f64;
                    let pixels = rows.flat_map(|y| columns.clone().map(move |x| y * width + x));
                    let sum: f64 = pixels.map(|at| f64::from(map[at])).sum();
                    cells.push(sum / count);
                }
            }
        }
        cells
    }

    /// Some map of `channels` channels with small whole numbers.
    fn numbers(channels: usize, [height, width]: [usize; 2], seed: u32) -> Vec<f32> {
        (0..channels * height * width)
            .map(|i| ((i as u32 * 37 + seed) % 101) as f32)
            .collect()
    }

    fn map_of(data: &[f32], channels: usize, [height, width]: [usize; 2]) -> Tensor<4> {
        let data = TensorData::new(data.to_vec(), [1, channels, height, width]);
        Tensor::from_data(data, &Device::flex())
    }

    /// Cells of 2 x 2 overlap on 7 x 7: their mean is not the mean of the map.
    #[test]
    fn sizes_that_do_not_divide_the_map_are_the_means_of_their_cells() {
        let shape = [7, 7];
        let data = numbers(2, shape, 5);
        let sides = [1, 2, 4, 7];
        let pooled = pyramid(map_of(&data, 2, shape), &sizes(&sides));
        for (pooled, side) in pooled.into_iter().zip(sides) {
            let (found, expected) = (values(pooled), direct(&data, shape, side));
            assert_eq!(found.len(), expected.len());
            for (a, b) in found.iter().zip(expected) {
                assert!((f64::from(*a) - b).abs() < 1e-4, "pool {side}: {a} {b}");
            }
        }
    }

    proptest! {
        /// Each size is the mean over its cells of the map, and has the bits of that size alone.
        #[test]
        fn a_size_does_not_depend_on_the_others(
            height in 1usize..13,
            width in 1usize..13,
            channels in 1usize..4,
            wanted in prop::collection::vec(1usize..13, 1..5),
            seed in 0u32..1000,
        ) {
            let shape = [height, width];
            let data = numbers(channels, shape, seed);
            let wanted: Vec<usize> = wanted.into_iter().map(|side| side.min(height).min(width)).collect();
            let bits = |values: Vec<f32>| -> Vec<u32> { values.into_iter().map(f32::to_bits).collect() };
            let together = pyramid(map_of(&data, channels, shape), &sizes(&wanted));
            for (pooled, &side) in together.into_iter().zip(&wanted) {
                let found = values(pooled);
                for (a, b) in found.iter().zip(direct(&data, shape, side)) {
                    prop_assert!((f64::from(*a) - b).abs() < 1e-4, "pool {}: {} {}", side, a, b);
                }
                let alone = pyramid(map_of(&data, channels, shape), &sizes(&[side])).remove(0);
                prop_assert_eq!(bits(found), bits(values(alone)));
            }
        }
    }
}
