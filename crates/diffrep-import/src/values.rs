//! Element types of checkpoints, and their conversion to f32.

use std::fmt;

use half::{bf16, f16};
use serde::Serialize;

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the names are the documentation")]
pub enum Dtype {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
    /// Complex and 4 to 8 bit floats, which have no place in a network of this project.
    Other,
}

impl Dtype {
    /// Whether elements are floating point numbers that convert to f32.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F64 | Self::F32 | Self::F16 | Self::BF16)
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Other => f.write_str("of an exotic type"),
            known => f.write_str(&format!("{known:?}").to_lowercase()),
        }
    }
}

impl From<pytorch_reader::DType> for Dtype {
    fn from(dtype: pytorch_reader::DType) -> Self {
        use pytorch_reader::DType;
        match dtype {
            DType::F64 => Self::F64,
            DType::F32 => Self::F32,
            DType::F16 => Self::F16,
            DType::BF16 => Self::BF16,
            DType::I64 => Self::I64,
            DType::I32 => Self::I32,
            DType::I16 => Self::I16,
            DType::I8 => Self::I8,
            DType::U64 => Self::U64,
            DType::U32 => Self::U32,
            DType::U16 => Self::U16,
            DType::U8 => Self::U8,
            DType::Bool => Self::Bool,
        }
    }
}

impl From<safetensors::Dtype> for Dtype {
    fn from(dtype: safetensors::Dtype) -> Self {
        use safetensors::Dtype;
        match dtype {
            Dtype::F64 => Self::F64,
            Dtype::F32 => Self::F32,
            Dtype::F16 => Self::F16,
            Dtype::BF16 => Self::BF16,
            Dtype::I64 => Self::I64,
            Dtype::I32 => Self::I32,
            Dtype::I16 => Self::I16,
            Dtype::I8 => Self::I8,
            Dtype::U64 => Self::U64,
            Dtype::U32 => Self::U32,
            Dtype::U16 => Self::U16,
            Dtype::U8 => Self::U8,
            Dtype::BOOL => Self::Bool,
            _ => Self::Other,
        }
    }
}

/// Why bytes did not become f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inexact {
    /// There is no conversion from this type.
    NoConversion,
    /// This integer has no exact f32.
    Integer(i128),
}

/// Little-endian elements as f32. Floats are rounded; integers must be exact.
pub(crate) fn to_f32(bytes: &[u8], dtype: Dtype) -> Result<Vec<f32>, Inexact> {
    macro_rules! floats {
        ($type:ty, $convert:expr) => {
            Ok(chunks(bytes, |raw| $convert(<$type>::from_le_bytes(raw))).collect())
        };
    }
    macro_rules! integers {
        ($type:ty) => {
            chunks(bytes, |raw| <$type>::from_le_bytes(raw))
                .map(|value| exact(i128::from(value)))
                .collect()
        };
    }
    match dtype {
        Dtype::F64 => floats!(f64, |value| value as f32),
        Dtype::F32 => floats!(f32, |value| value),
        Dtype::F16 => floats!(f16, f16::to_f32),
        Dtype::BF16 => floats!(bf16, bf16::to_f32),
        Dtype::I64 => integers!(i64),
        Dtype::I32 => integers!(i32),
        Dtype::I16 => integers!(i16),
        Dtype::I8 => integers!(i8),
        Dtype::U64 => integers!(u64),
        Dtype::U32 => integers!(u32),
        Dtype::U16 => integers!(u16),
        Dtype::U8 | Dtype::Bool => integers!(u8),
        Dtype::Other => Err(Inexact::NoConversion),
    }
}

fn chunks<const N: usize, T>(
    bytes: &[u8],
    convert: impl Fn([u8; N]) -> T,
) -> impl Iterator<Item = T> {
    bytes
        .as_chunks::<N>()
        .0
        .iter()
        .map(move |raw| convert(*raw))
}

fn exact(value: i128) -> Result<f32, Inexact> {
    let near = value as f32;
    if near as i128 == value {
        Ok(near)
    } else {
        Err(Inexact::Integer(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_converts() {
        let one: [(Dtype, &[u8]); 8] = [
            (Dtype::F64, &1f64.to_le_bytes()),
            (Dtype::F32, &1f32.to_le_bytes()),
            (Dtype::F16, &f16::ONE.to_le_bytes()),
            (Dtype::BF16, &bf16::ONE.to_le_bytes()),
            (Dtype::I64, &1i64.to_le_bytes()),
            (Dtype::I16, &1i16.to_le_bytes()),
            (Dtype::U32, &1u32.to_le_bytes()),
            (Dtype::Bool, &[1]),
        ];
        for (dtype, bytes) in one {
            assert_eq!(to_f32(bytes, dtype), Ok(vec![1.0]), "{dtype}");
        }
    }

    #[test]
    fn integers_are_exact_or_refused() {
        assert_eq!(
            to_f32(&(1i64 << 24).to_le_bytes(), Dtype::I64),
            Ok(vec![16_777_216.0])
        );
        let odd = (1i64 << 24) + 1;
        assert_eq!(
            to_f32(&odd.to_le_bytes(), Dtype::I64),
            Err(Inexact::Integer(odd.into()))
        );
        assert_eq!(to_f32(&[], Dtype::Other), Err(Inexact::NoConversion));
    }
}
