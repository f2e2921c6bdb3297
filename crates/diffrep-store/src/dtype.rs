//! The types features are stored in, and the conversion from and to f32.

use std::fmt;

use bytemuck::{cast_slice, try_cast_slice};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use safetensors::Dtype;
use serde::{Deserialize, Serialize};

/// The type features are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeatureDtype {
    /// 32-bit floats: what was computed, bit for bit.
    F32,
    /// 16-bit floats with 11 significant bits, up to 65504.
    F16,
    /// 16-bit floats with 8 significant bits and the range of f32.
    Bf16,
}

impl FeatureDtype {
    /// The size of one value, in bytes.
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name of the type in a safetensors header.
    pub(crate) fn safetensors(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::Bf16 => Dtype::BF16,
        }
    }

    /// The types that hold finite values too large for this one.
    pub(crate) fn wider(self) -> &'static str {
        match self {
            Self::F16 => "f32 or bf16",
            Self::Bf16 | Self::F32 => "f32",
        }
    }

    /// Appends `values` to `bytes`, little-endian and rounded to nearest even. Returns the position
    /// of the first value that is not finite in this type, if there is one.
    pub(crate) fn encode(self, values: &[f32], bytes: &mut Vec<u8>) -> Option<usize> {
        // Blocks keep the intermediate buffer in the cache.
        const BLOCK: usize = 4096;

        bytes.reserve(values.len() * self.size());
        let mut bad = None;
        let mut note = |block: usize, position: Option<usize>| {
            bad = bad.or(position.map(|position| block * BLOCK + position));
        };
        match self {
            Self::F32 => {
                for (block, values) in values.chunks(BLOCK).enumerate() {
                    note(block, values.iter().position(|value| !value.is_finite()));
                    if cfg!(target_endian = "little") {
                        bytes.extend_from_slice(cast_slice(values));
                    } else {
                        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
                    }
                }
            }
            Self::F16 => {
                let mut buffer = [f16::ZERO; BLOCK];
                for (block, values) in values.chunks(BLOCK).enumerate() {
                    let buffer = &mut buffer[..values.len()];
                    buffer.convert_from_f32_slice(values);
                    note(block, buffer.iter().position(|value| !value.is_finite()));
                    append_words(cast_slice(buffer), bytes);
                }
            }
            Self::Bf16 => {
                let mut buffer = [bf16::ZERO; BLOCK];
                for (block, values) in values.chunks(BLOCK).enumerate() {
                    let buffer = &mut buffer[..values.len()];
                    buffer.convert_from_f32_slice(values);
                    note(block, buffer.iter().position(|value| !value.is_finite()));
                    append_words(cast_slice(buffer), bytes);
                }
            }
        }
        bad
    }

    /// Converts little-endian `bytes` to f32.
    ///
    /// # Panics
    ///
    /// Panics unless `bytes` holds exactly `out.len()` values.
    pub(crate) fn decode(self, bytes: &[u8], out: &mut [f32]) {
        assert_eq!(
            bytes.len(),
            out.len() * self.size(),
            "bytes of {self} values"
        );
        match self {
            Self::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            // The slice conversions use the processor's own instructions where it has them.
            Self::F16 => match try_cast_slice::<u8, f16>(bytes) {
                Ok(values) if cfg!(target_endian = "little") => values.convert_to_f32_slice(out),
                _ => {
                    for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                        *out = f16::from_le_bytes(*bytes).to_f32();
                    }
                }
            },
            Self::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                    *out = f32::from_bits(u32::from(u16::from_le_bytes(*bytes)) << 16);
                }
            }
        }
    }
}

impl fmt::Display for FeatureDtype {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        })
    }
}

/// Appends 16-bit words, little-endian.
fn append_words(words: &[u16], bytes: &mut Vec<u8>) {
    if cfg!(target_endian = "little") {
        bytes.extend_from_slice(cast_slice(words));
    } else {
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn round_trip(dtype: FeatureDtype, values: &[f32]) -> Vec<f32> {
        let mut bytes = Vec::new();
        assert_eq!(dtype.encode(values, &mut bytes), None);
        let mut out = vec![f32::NAN; values.len()];
        dtype.decode(&bytes, &mut out);
        out
    }

    #[test]
    fn bytes_are_little_endian() {
        let bytes = |dtype: FeatureDtype| {
            let mut bytes = vec![9];
            assert_eq!(dtype.encode(&[1.0, -2.0], &mut bytes), None);
            bytes
        };
        assert_eq!(
            bytes(FeatureDtype::F32),
            [9, 0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0]
        );
        assert_eq!(bytes(FeatureDtype::F16), [9, 0, 0x3c, 0, 0xc0]);
        assert_eq!(bytes(FeatureDtype::Bf16), [9, 0x80, 0x3f, 0, 0xc0]);
    }

    #[test]
    fn rounding_is_to_nearest_even() {
        // Halfway between 1 and the next value of each type.
        assert_eq!(
            round_trip(FeatureDtype::F16, &[1.0 + 2f32.powi(-11)]),
            [1.0]
        );
        assert_eq!(
            round_trip(FeatureDtype::Bf16, &[1.0 + 2f32.powi(-8)]),
            [1.0]
        );
        assert_eq!(
            round_trip(FeatureDtype::F16, &[65504.0, -65504.0]),
            [65504.0, -65504.0]
        );
    }

    #[test]
    fn the_first_value_without_a_finite_form_is_found_in_any_block() {
        let mut values = vec![0.0; 10_000];
        values[9_000] = f32::NAN;
        for dtype in [FeatureDtype::F32, FeatureDtype::F16, FeatureDtype::Bf16] {
            assert_eq!(dtype.encode(&values, &mut Vec::new()), Some(9_000));
        }
        values[5_000] = 65520.0; // rounds to infinity in f16 only
        assert_eq!(
            FeatureDtype::F32.encode(&values, &mut Vec::new()),
            Some(9_000)
        );
        assert_eq!(
            FeatureDtype::F16.encode(&values, &mut Vec::new()),
            Some(5_000)
        );
        assert_eq!(
            FeatureDtype::Bf16.encode(&values, &mut Vec::new()),
            Some(9_000)
        );
        assert_eq!(
            FeatureDtype::Bf16.encode(&[f32::MAX], &mut Vec::new()),
            Some(0)
        );
    }

    #[test]
    fn unaligned_bytes_decode_alike() {
        let mut bytes = vec![0];
        FeatureDtype::F16.encode(&[1.5, -0.25, 3.0], &mut bytes);
        for shift in 0..2 {
            let mut moved = vec![0; shift];
            moved.extend_from_slice(&bytes[1..]);
            let mut out = [0.0; 3];
            FeatureDtype::F16.decode(&moved[shift..], &mut out);
            assert_eq!(out, [1.5, -0.25, 3.0]);
        }
    }

    proptest! {
        #[test]
        fn values_survive_within_the_precision(values in prop::collection::vec(-6e4f32..6e4, 0..300)) {
            prop_assert_eq!(&round_trip(FeatureDtype::F32, &values), &values);
            for (dtype, bits) in [(FeatureDtype::F16, 11), (FeatureDtype::Bf16, 8)] {
                for (found, value) in round_trip(dtype, &values).iter().zip(&values) {
                    let slack = value.abs() * 2f32.powi(-bits) + 2f32.powi(-24);
                    prop_assert!((found - value).abs() <= slack, "{} {} {}", dtype, found, value);
                }
                let once = round_trip(dtype, &values);
                prop_assert_eq!(&round_trip(dtype, &once), &once);
            }
        }
    }
}
