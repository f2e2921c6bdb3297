//! The IDX file format of MNIST and Fashion-MNIST, plain or gzipped.
//!
//! Layout: two zero bytes, a type code, the number of dimensions, one big-endian `u32` for each dimension,
//! then the elements in row-major order, big-endian, and nothing after them.

use std::io::Read;
use std::path::Path;

use diffrep_artifact::{read_bytes, write_bytes_atomic};
use flate2::read::MultiGzDecoder;
use flate2::{Compression, GzBuilder};

use crate::DatasetError;
use crate::error::io_error;

/// The largest array that is read, in bytes: 170 times Fashion-MNIST. A gzipped file of a few megabytes could fill more.
pub const MAX_BYTES: u64 = 8 << 30;

/// An array as it stands in an IDX file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Idx<T> {
    /// Sizes, slowest dimension first.
    pub dims: Vec<usize>,
    /// Elements in row-major order; as many as the product of `dims`.
    pub data: Vec<T>,
}

/// A number type that IDX files can hold.
pub trait Element: Copy + sealed::Sealed {
    /// The type code in the file's third byte.
    const CODE: u8;
    /// Bytes of one element.
    const SIZE: usize;
    /// Decodes one element from exactly [`Element::SIZE`] big-endian bytes.
    fn from_big_endian(bytes: &[u8]) -> Self;
    /// Appends the element's big-endian bytes.
    fn append_big_endian(self, bytes: &mut Vec<u8>);
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for i32 {}
}

impl Element for u8 {
    const CODE: u8 = 0x08;
    const SIZE: usize = 1;

    fn from_big_endian(bytes: &[u8]) -> Self {
        bytes[0]
    }

    fn append_big_endian(self, bytes: &mut Vec<u8>) {
        bytes.push(self);
    }
}

impl Element for i32 {
    const CODE: u8 = 0x0c;
    const SIZE: usize = 4;

    fn from_big_endian(bytes: &[u8]) -> Self {
        Self::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn append_big_endian(self, bytes: &mut Vec<u8>) {
        bytes.extend(self.to_be_bytes());
    }
}

/// Reads an IDX file of any rank; gzip is recognised by content, not by name.
///
/// # Errors
///
/// If the file cannot be read, is not IDX, holds another type, is truncated or has trailing bytes.
pub fn read_idx<T: Element>(path: &Path) -> Result<Idx<T>, DatasetError> {
    parse_idx(path, &read_bytes(path)?)
}

/// Reads an IDX array from the bytes of a file, plain or gzipped; `path` is what errors name.
///
/// # Errors
///
/// As [`read_idx`].
pub fn parse_idx<T: Element>(path: &Path, bytes: &[u8]) -> Result<Idx<T>, DatasetError> {
    if bytes.starts_with(&[0x1f, 0x8b]) {
        parse(path, MultiGzDecoder::new(bytes))
    } else {
        parse(path, bytes)
    }
}

/// Writes a gzipped IDX file at maximum compression; equal arrays give equal bytes.
///
/// # Panics
///
/// If the number of elements is not the product of `dims`, a dimension exceeds `u32`, or there are more than 255.
///
/// # Errors
///
/// If the file cannot be written.
pub fn write_idx_gz<T: Element>(path: &Path, array: &Idx<T>) -> Result<(), DatasetError> {
    let count: usize = array.dims.iter().product();
    assert_eq!(array.data.len(), count, "elements and dimensions disagree");
    let rank = u8::try_from(array.dims.len()).expect("an IDX file has at most 255 dimensions");

    let mut bytes = vec![0, 0, T::CODE, rank];
    for &dim in &array.dims {
        let dim = u32::try_from(dim).expect("an IDX dimension fits 32 bits");
        bytes.extend(dim.to_be_bytes());
    }
    for &element in &array.data {
        element.append_big_endian(&mut bytes);
    }

    // A time stamp or a host system byte would make equal content differ.
    let mut gzip = GzBuilder::new()
        .mtime(0)
        .operating_system(255)
        .buf_read(bytes.as_slice(), Compression::best());
    let mut packed = Vec::new();
    gzip.read_to_end(&mut packed)
        .map_err(io_error(path, "compressed"))?;
    Ok(write_bytes_atomic(path, &packed)?)
}

fn parse<T: Element>(path: &Path, mut content: impl Read) -> Result<Idx<T>, DatasetError> {
    let magic = read_up_to(path, &mut content, 4)?;
    let &[zero_a, zero_b, code, rank] = magic.as_slice() else {
        return Err(truncated(path, 4, magic.len()));
    };
    if zero_a != 0 || zero_b != 0 || rank == 0 {
        return Err(DatasetError::WrongMagic {
            path: path.to_path_buf(),
            found: [zero_a, zero_b, code, rank],
        });
    }
    if code != T::CODE {
        return Err(DatasetError::WrongType {
            path: path.to_path_buf(),
            expected: T::CODE,
            found: code,
        });
    }

    let header = 4 + 4 * u64::from(rank);
    let sizes = read_up_to(path, &mut content, header - 4)?;
    if (sizes.len() as u64) < header - 4 {
        return Err(truncated(path, header, 4 + sizes.len()));
    }
    let dims: Vec<usize> = sizes
        .chunks_exact(4)
        .map(|size| u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize)
        .collect();

    // The header may promise anything; memory grows only with bytes that are there.
    let expected = dims
        .iter()
        .try_fold(T::SIZE as u64, |total, &dim| total.checked_mul(dim as u64))
        .and_then(|body| body.checked_add(header))
        .unwrap_or(u64::MAX);
    if expected > MAX_BYTES {
        return Err(DatasetError::IdxTooLarge {
            path: path.to_path_buf(),
            promised: expected,
            limit: MAX_BYTES,
        });
    }
    let body = read_up_to(path, &mut content, (expected - header).saturating_add(1))?;
    let found = header + body.len() as u64;
    if found < expected {
        return Err(truncated(path, expected, found as usize));
    }
    if found > expected {
        return Err(DatasetError::TrailingBytes {
            path: path.to_path_buf(),
            expected,
        });
    }
    let data = body.chunks_exact(T::SIZE).map(T::from_big_endian).collect();
    Ok(Idx { dims, data })
}

fn read_up_to(path: &Path, content: &mut impl Read, limit: u64) -> Result<Vec<u8>, DatasetError> {
    let mut bytes = Vec::new();
    match content.take(limit).read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        // A gzip stream that was cut off; what it yielded so far tells how much is missing.
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(bytes),
        Err(error) => Err(io_error(path, "decompressed")(error)),
    }
}

fn truncated(path: &Path, expected: u64, found: usize) -> DatasetError {
    DatasetError::Truncated {
        path: path.to_path_buf(),
        expected,
        found: found as u64,
    }
}
