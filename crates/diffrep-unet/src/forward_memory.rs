//! How much memory the maps of a traversal take, from shapes alone.

use std::collections::BTreeSet;

use diffrep_taps::{BlockIndex, TapSet};
use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, Direction, LayerSpec, UNetConfig};

/// What a traversal holds in maps for one image, block by block. Weights, what kernels work with and what a
/// library keeps for reuse come on top.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForwardMemory {
    /// The most numbers that are held at once within each block, from the first one on: its own maps, and skip
    /// connections and wanted maps that wait.
    pub values: Vec<u64>,
}

impl ForwardMemory {
    /// The most numbers that are held at once for an image.
    pub fn peak(&self) -> u64 {
        self.values.iter().copied().max().unwrap_or(0)
    }

    /// The block in which that is.
    pub fn block(&self) -> Option<BlockIndex> {
        let peak = self.peak();
        let position = self.values.iter().position(|values| *values == peak)?;
        BlockIndex::new(position + 1)
    }
}

/// The maps of one image on its way to the last of the `wanted` blocks, which are kept.
///
/// Followed is what the traversal does: a map lives until its last reader is through with it. `fused` says that
/// normalisation, scale, shift and activation are one operator, as the kernels for the CPU have it; elsewhere they
/// are single operators, which hold some more maps.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn forward_memory(
    config: &UNetConfig,
    wanted: &TapSet,
    fused: bool,
) -> Result<ForwardMemory, ConfigError> {
    let blocks = config.blocks()?;
    let (encoder, last) = (blocks.input.len(), wanted.last().get());
    let mut side = config.image_size as u64;
    // The image, what it was before noise came to it, and the noise.
    let image = config.in_channels as u64 * side * side;
    let mut map = image;
    let mut map_is_kept = false;
    let mut sizes = Vec::new();
    let mut skips: BTreeSet<usize> = BTreeSet::new();
    let mut values = Vec::new();
    for block in blocks.iter().take(last) {
        let number = block.tap.block.get();
        let kept = |skips: &BTreeSet<usize>, sizes: &[u64]| -> u64 {
            let kept = sizes.iter().enumerate().filter(|(i, _)| {
                let block = BlockIndex::new(i + 1).expect("blocks are counted from 1");
                skips.contains(&(i + 1)) || wanted.contains(block)
            });
            kept.map(|(_, size)| size).sum()
        };
        let mut peak = 0;
        if number > encoder + 1 {
            // The map and the skip connection side by side, and both joined.
            let before = kept(&skips, &sizes) + if map_is_kept { 0 } else { map };
            let skip = 2 * (encoder + 1) - number;
            map += sizes[skip - 1];
            peak = before + map;
            skips.remove(&skip);
            map_is_kept = false;
        }
        let waiting = kept(&skips, &sizes);
        for layer in &block.layers {
            let after = match changes(layer) {
                true => block.tap.height as u64,
                false => side,
            };
            let held = inside_layer(layer, side, after, config, fused);
            let input = if map_is_kept { map } else { 0 };
            peak = peak.max(waiting + held.saturating_sub(input));
            (side, map_is_kept) = (after, false);
        }
        values.push(peak + 3 * image);
        map = block.tap.channels as u64 * side * side;
        sizes.push(map);
        let is_skip = number <= encoder && number + last >= 2 * (encoder + 1);
        if is_skip {
            skips.insert(number);
        }
        map_is_kept = is_skip || wanted.contains(block.tap.block);
    }
    Ok(ForwardMemory { values })
}

/// Whether a layer is one that may change the resolution: in a block, that is its last one or its only one.
pub(crate) fn changes(layer: &LayerSpec) -> bool {
    match layer {
        LayerSpec::Res { resample, .. } => resample.is_some(),
        LayerSpec::Resample { .. } => true,
        _ => false,
    }
}

/// The most numbers that a layer holds at once, its input and output among them.
fn inside_layer(
    layer: &LayerSpec,
    before: u64,
    after: u64,
    config: &UNetConfig,
    fused: bool,
) -> u64 {
    let (pixels, then) = (before * before, after * after);
    // Single operators of a normalisation hold the centred map, its square and the scaled one too.
    let norm = if fused { 1 } else { 4 };
    match *layer {
        LayerSpec::Conv {
            channels: [inputs, outputs],
        } => (inputs + outputs) as u64 * pixels,
        LayerSpec::Res { channels, resample } => {
            let [inputs, outputs] = channels.map(|count| count as u64);
            let (came, there) = (inputs * pixels, inputs * then);
            let out = outputs * then;
            let resized = match resample {
                Some(Direction::Up | Direction::Down) => (2 * came + there).max(came + 2 * there),
                None => 0,
            };
            [
                (1 + norm) * came,
                resized,
                // Input and normalised input while the first convolution writes.
                2 * there + out,
                there + (1 + norm) * out,
                // What the second convolution reads, adds and writes.
                3 * out,
            ]
            .into_iter()
            .max()
            .unwrap_or(0)
        }
        LayerSpec::Attention { channels } => {
            let heads = config.heads.count(channels) as u64;
            let (map, scores) = (channels as u64 * pixels, heads * pixels * pixels);
            // A softmax reads scores and writes weights; as single operators it holds one more in between.
            let softmax = if fused { 2 } else { 3 };
            [
                (1 + norm) * map,
                // The input, queries, keys and values together, and each of them scaled or copied.
                7 * map + scores,
                6 * map + softmax * scores,
            ]
            .into_iter()
            .max()
            .unwrap_or(0)
        }
        LayerSpec::Resample { channels, .. } => channels as u64 * (pixels + 2 * then),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(config: &UNetConfig, wanted: &[usize]) -> ForwardMemory {
        let taps: Vec<_> = config
            .blocks()
            .unwrap()
            .iter()
            .map(|b| b.tap.clone())
            .collect();
        let wanted = TapSet::new(wanted.iter().copied(), &taps).unwrap();
        forward_memory(config, &wanted, true).unwrap()
    }

    #[test]
    fn the_papers_network_holds_most_where_maps_are_large() {
        let config = UNetConfig::adm_256_uncond();
        let early = memory(&config, &[24]);
        assert_eq!(early.values.len(), 24);
        // Three maps of 256 x 256 pixels and 256 channels, of which the first one is no skip connection of
        // any block up to 24, beside the image.
        let map = 256 * 256 * 256;
        assert_eq!(early.peak(), 3 * map + 3 * 3 * 256 * 256);
        assert_eq!(early.block(), BlockIndex::new(2));
        // The decoder's last blocks read 512 channels of that size, and skip connections wait for them.
        let whole = memory(&config, &[37]);
        assert!(whole.peak() > 2 * early.peak(), "{whole:?}");
        assert!(whole.block().unwrap().get() > 24);
    }

    #[test]
    fn maps_that_are_asked_for_are_held_to_the_end() {
        let config = UNetConfig::mini();
        let (one, two) = (memory(&config, &[9]), memory(&config, &[1, 9]));
        let first = &config.blocks().unwrap().input[0].tap;
        let size = (first.channels * first.height * first.width) as u64;
        assert_eq!(one.values[0], two.values[0]);
        assert_eq!(two.values[8], one.values[8] + size);
    }
}
