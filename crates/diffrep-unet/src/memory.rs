//! How much memory a training of the network's first blocks takes, from shapes alone.

use diffrep_taps::BlockIndex;
use serde::{Deserialize, Serialize};

use crate::config::{BlockSpec, ConfigError, Direction, LayerSpec, UNetConfig};
use crate::forward_memory::changes;
use crate::shapes::parameter_count_up_to;

/// Bytes of an f32.
const WIDTH: u64 = 4;

/// Bytes that a training of the blocks up to some one holds at its peak. What a library keeps for
/// reuse or for its kernels comes on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingMemory {
    /// The weights.
    pub weights: u64,
    /// Their gradients.
    pub gradients: u64,
    /// Both moments of Adam.
    pub moments: u64,
    /// The weights at the start, and those of the epoch that is kept.
    pub copies: u64,
    /// What the way back needs of every block at once.
    pub inside_all: u64,
    /// One output for each block, and its gradient.
    pub outputs: u64,
    /// What the way back needs of the largest block.
    pub inside_largest: u64,
}

impl TrainingMemory {
    /// What does not depend on the number of images.
    pub fn fixed(&self) -> u64 {
        self.weights + self.gradients + self.moments + self.copies
    }

    /// The peak of plain automatic differentiation.
    pub fn plain(&self) -> u64 {
        self.fixed() + self.inside_all
    }

    /// The peak when blocks are computed again on the way back.
    pub fn recomputed(&self) -> u64 {
        self.fixed() + self.outputs + self.inside_largest
    }
}

/// The memory of a training of the blocks up to `last` on so many images at once, in f32 with Adam.
///
/// Counted are the maps that gradients need: inputs of convolutions and normalisations, and what
/// attention keeps. `fused` says that a normalisation keeps its input alone, as the kernels for the
/// CPU do; elsewhere it is made of single operators, of which four keep another map each.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn training_memory(
    config: &UNetConfig,
    last: BlockIndex,
    batch: usize,
    fused: bool,
) -> Result<TrainingMemory, ConfigError> {
    let blocks = config.blocks()?;
    let blocks: Vec<&BlockSpec> = blocks.iter().take(last.get()).collect();
    let batch = batch as u64 * WIDTH;
    let mut side = config.image_size as u64;
    let mut inside = Vec::new();
    for block in &blocks {
        let after = block.tap.height as u64;
        let mut sum = 0;
        // A block that changes its resolution does so in its last layer, or is that layer alone.
        for layer in &block.layers {
            let values = inside_layer(layer, side, after, config, fused);
            if changes(layer) {
                side = after;
            }
            sum += values * batch;
        }
        inside.push(sum);
    }
    let outputs: u64 = blocks
        .iter()
        .map(|block| (block.tap.channels * block.tap.height * block.tap.width) as u64 * batch)
        .sum();
    let weights = parameter_count_up_to(config, last)? as u64 * WIDTH;
    let largest = inside.iter().copied().max().unwrap_or(0);
    Ok(TrainingMemory {
        weights,
        gradients: weights,
        moments: 2 * weights,
        copies: 2 * weights,
        inside_all: inside.iter().sum::<u64>() + largest,
        outputs: 2 * outputs,
        // Its gradients live beside it.
        inside_largest: 2 * largest,
    })
}

/// Values that a layer keeps for one image.
fn inside_layer(
    layer: &LayerSpec,
    before: u64,
    after: u64,
    config: &UNetConfig,
    fused: bool,
) -> u64 {
    let (pixels, then) = (before * before, after * after);
    let norm = if fused { 1 } else { 5 };
    match *layer {
        LayerSpec::Conv { channels } => channels[0] as u64 * pixels,
        LayerSpec::Res { channels, resample } => {
            let [inputs, outputs] = channels.map(|count| count as u64);
            let out = if resample.is_some() { then } else { pixels };
            // The input at another size, where it changes.
            let resized = match resample {
                Some(Direction::Up | Direction::Down) => inputs * out,
                None => 0,
            };
            norm * inputs * pixels + inputs * out + resized + (norm + 1) * outputs * out
        }
        LayerSpec::Attention { channels } => {
            let heads = config.heads.count(channels) as u64;
            // Normalised, q, k and v, q and k scaled, mixed; scores and weights.
            (norm + 8) * channels as u64 * pixels + 2 * heads * pixels * pixels
        }
        LayerSpec::Resample { channels, .. } => channels as u64 * pixels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_papers_network_fits_a_gpu_of_24_gb_where_blocks_are_computed_again() {
        let config = UNetConfig::adm_256_uncond();
        let last = BlockIndex::new(24).unwrap();
        // Batches of 8: at once with fused normalisations, in two parts without.
        for (images, fused) in [(8, true), (4, false)] {
            let memory = training_memory(&config, last, images, fused).unwrap();
            assert_eq!(
                memory.weights,
                4 * parameter_count_up_to(&config, last).unwrap() as u64
            );
            let gigabytes = |bytes: u64| bytes as f64 / 1e9;
            let (again, plain) = (gigabytes(memory.recomputed()), gigabytes(memory.plain()));
            // A tenth is left for buffers of the library.
            assert!(again < 0.9 * 24.0, "{again} GB: {memory:?}");
            assert!(plain > again, "{plain} GB");
        }
        let alone = training_memory(&config, last, 1, true).unwrap();
        let eight = training_memory(&config, last, 8, true).unwrap();
        assert_eq!(8 * alone.inside_all, eight.inside_all);
        assert_eq!(alone.moments, eight.moments);
    }
}
