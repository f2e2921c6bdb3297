//! Half precision by the reference's rules (`convert_to_fp16` in guided_diffusion/unet.py):
//! convolutions of the blocks have it, and linear layers, normalisations and the head stay f32.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::UNet;
use crate::unet::Block;

/// The numbers that the blocks of a network compute with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, 11 of them precision; values beyond 65504 overflow.
    F16,
    /// 16 bits, 8 of them precision, with the range of f32.
    Bf16,
}

impl Precision {
    /// The type of maps between blocks, and of the convolutions' weights.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::Bf16 => DType::BF16,
        }
    }
}

impl UNet {
    /// The network with the convolutions of its blocks in `precision`. Taps come in that type, the
    /// output in f32; statistics of normalisations and attention are computed in f32.
    ///
    /// On burn's flex backend, products and sums are taken in f32 and rounded once, which is what
    /// the matrix units of a GPU do, and slower than f32: there it serves parity, not speed.
    ///
    /// # Panics
    ///
    /// When the network is [packed](Self::packed).
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        assert!(
            !self.is_packed(),
            "the precision of a network is chosen before its weights are packed"
        );
        let cast = |block: Block| {
            block.map(&mut Cast {
                dtype: precision.dtype(),
                keeps: 0,
            })
        };
        self.input_blocks = self.input_blocks.into_iter().map(cast).collect();
        self.middle_block = cast(self.middle_block);
        self.output_blocks = self.output_blocks.into_iter().map(cast).collect();
        self.precision = precision;
        self
    }
}

struct Cast {
    dtype: DType,
    /// How many of the modules around the next parameter stay f32.
    keeps: usize,
}

fn stays(name: &str) -> bool {
    matches!(name, "in_norm" | "out_norm" | "norm" | "emb")
}

impl ModuleMapper for Cast {
    fn enter_module(&mut self, name: &str, _container: &str) {
        self.keeps += usize::from(stays(name));
    }

    fn exit_module(&mut self, name: &str, _container: &str) {
        self.keeps -= usize::from(stays(name));
    }

    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        match self.keeps {
            0 => param.map(|tensor| tensor.cast(self.dtype)),
            _ => param,
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::{Device, Tensor};
    use diffrep_taps::{Condition, Encoder, TapSet};

    use super::*;
    use crate::{UNetConfig, random_network};

    #[test]
    fn halves_stay_near_f32_and_differ_from_it() {
        let device = Device::flex();
        let config = UNetConfig::mini();
        let size = config.image_size;
        let network = random_network(&config, 1, &device).unwrap();
        let x = Tensor::<4>::ones([2, config.in_channels, size, size], &device);
        let condition = Condition::timestep(10.0, &device);
        let wanted = TapSet::all(&network.taps()).unwrap();
        let run = |network: UNet| network.forward_with_taps(x.clone(), &condition, &wanted);
        let (taps, out) = run(network.clone());
        for (precision, bound) in [(Precision::F16, 0.01), (Precision::Bf16, 0.08)] {
            let (halves, half_out) = run(network.clone().with_precision(precision));
            assert_eq!(half_out.dtype(), DType::F32);
            for ((block, map), (_, half)) in taps.clone().into_iter().zip(halves) {
                assert_eq!(half.dtype(), precision.dtype());
                let scale: f32 = map.clone().abs().max().into_scalar();
                let error: f32 = (half.cast(DType::F32) - map).abs().max().into_scalar();
                let error = error / scale;
                assert!(
                    error > 0.0 && error < bound,
                    "{precision:?} {block}: {error}"
                );
            }
            let error: f32 = (half_out - out.clone()).abs().max().into_scalar();
            let scale: f32 = out.clone().abs().max().into_scalar();
            assert!(error / scale < bound, "{precision:?}: {}", error / scale);
        }
    }
}
