//! How much arithmetic a forward pass takes, from shapes alone.

use diffrep_taps::BlockIndex;

use crate::config::{BlockSpec, ConfigError, Direction, Kind, LayerSpec, Resample, UNetConfig};

/// Floating-point operations by which one image reaches block `last`, a multiplication and an addition
/// counting as two.
///
/// Counted are convolutions, linear layers and the two matrix products of attention. Normalisations,
/// activations and sums, which are a few operations for each value, are not.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn flops_up_to(config: &UNetConfig, last: BlockIndex) -> Result<u64, ConfigError> {
    let blocks = config.blocks()?;
    let width = config.embedding_channels() as u64;
    // The MLP of the timestep.
    let mut multiplied = (config.model_channels as u64 + width) * width;
    let mut size = config.image_size as u64;
    for block in blocks.iter().take_while(|block| block.tap.block <= last) {
        multiplied += block_products(config, block, &mut size);
    }
    Ok(2 * multiplied)
}

/// Floating-point operations of a whole forward pass of one image, counted as in [`flops_up_to`]; those of a
/// classifier's last layers, which read one vector, are left out.
///
/// # Errors
///
/// When the configuration does not fit together.
pub fn flops(config: &UNetConfig) -> Result<u64, ConfigError> {
    let blocks = config.blocks()?;
    let last = BlockIndex::at(blocks.iter().count() - 1);
    let pixels = (config.image_size * config.image_size) as u64;
    let head = match config.kind {
        Kind::UNet => 9 * (blocks.head_channels * config.out_channels) as u64 * pixels,
        Kind::Encoder(_) => 0,
    };
    Ok(flops_up_to(config, last)? + 2 * head)
}

/// Multiplications of a block whose input has the side `size`, which becomes that of its output.
fn block_products(config: &UNetConfig, block: &BlockSpec, size: &mut u64) -> u64 {
    let mut products = 0;
    for layer in &block.layers {
        match *layer {
            LayerSpec::Conv { channels } => products += 9 * product(channels) * *size * *size,
            LayerSpec::Res { channels, resample } => {
                // A block that changes the resolution does so before its first convolution.
                *size = changed(*size, resample);
                let pixels = *size * *size;
                let out = channels[1] as u64;
                products += 9 * (product(channels) + out * out) * pixels;
                if channels[0] != channels[1] {
                    products += product(channels) * pixels;
                }
                let embedded = if config.use_scale_shift_norm { 2 } else { 1 };
                products += config.embedding_channels() as u64 * embedded * out;
            }
            LayerSpec::Attention { channels } => {
                let (channels, pixels) = (channels as u64, *size * *size);
                products += 4 * channels * channels * pixels + 2 * channels * pixels * pixels;
            }
            LayerSpec::Resample {
                channels,
                direction,
            } => {
                *size = changed(*size, Some(direction));
                if config.resample == Resample::Convolution {
                    products += 9 * product([channels; 2]) * *size * *size;
                }
            }
        }
    }
    products
}

fn product([a, b]: [usize; 2]) -> u64 {
    (a * b) as u64
}

fn changed(size: u64, change: Option<Direction>) -> u64 {
    match change {
        None => size,
        Some(Direction::Down) => size / 2,
        Some(Direction::Up) => size * 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Heads;

    #[test]
    fn the_paper_s_network_takes_what_was_measured_by_others() {
        let config = UNetConfig::adm_256_uncond();
        let block = |number: usize| BlockIndex::new(number).unwrap();
        let to_24 = flops_up_to(&config, block(24)).unwrap() as f64;
        let all = flops(&config).unwrap() as f64;
        // 639 GFLOP to block 24 and 2240 in all.
        assert!((to_24 / 639e9 - 1.0).abs() < 0.01, "{to_24}");
        assert!((all / 2240e9 - 1.0).abs() < 0.01, "{all}");
        let mut before = 0;
        for number in 1..=37 {
            let here = flops_up_to(&config, block(number)).unwrap();
            assert!(here > before, "block {number}");
            before = here;
        }
    }

    #[test]
    fn a_network_of_one_block_is_counted_by_hand() {
        let config = UNetConfig {
            kind: Kind::UNet,
            image_size: 4,
            in_channels: 1,
            model_channels: 32,
            out_channels: 2,
            num_res_blocks: 1,
            attention_resolutions: Vec::new(),
            channel_mult: vec![1.0],
            heads: Heads::Channels(32),
            ..UNetConfig::adm_256_uncond()
        };
        let embedding = 32 * 128 + 128 * 128;
        let first = 9 * 32 * 16;
        assert_eq!(
            flops_up_to(&config, BlockIndex::new(1).unwrap()).unwrap(),
            2 * (embedding + first)
        );
        // Two 3x3 convolutions of 32 channels, and the timestep's scale and shift.
        let res = 2 * 9 * 32 * 32 * 16 + 128 * 64;
        assert_eq!(
            flops_up_to(&config, BlockIndex::new(2).unwrap()).unwrap(),
            2 * (embedding + first + res)
        );
    }
}
