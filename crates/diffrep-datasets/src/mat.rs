//! MATLAB 5 files (`.mat`, versions 5 to 7), as far as annotations of data sets use them.
//!
//! Read are numbers of every class (stored compactly or not), text, cells and structures, plain or compressed, in
//! either byte order. Sparse arrays, objects and functions are passed over as [`Array::Unsupported`].
//! MATLAB 7.3 files are HDF5 files and are refused by name.

mod access;
mod fault;
mod parse;

use std::fs;
use std::path::Path;

use diffrep_artifact::read_bytes;

pub use access::{MatFile, Record};
pub use fault::MatFault;
pub use parse::parse;

use crate::DatasetError;
use crate::error::io_error;

/// The most bytes that a file may hold, after decompression; the largest list of a known data set takes 7 MB.
pub const MAX_DECODED: u64 = 64 << 20;

/// How deep cells and structures may be nested; the lists of data sets need two levels.
pub const MAX_DEPTH: usize = 16;

/// The value of a variable, a cell or a field.
#[derive(Debug, Clone, PartialEq)]
pub enum Array {
    /// Numbers or logical values, in column-major order; 64-bit integers beyond 2^53 are rounded.
    Numbers {
        /// Sizes, fastest dimension first.
        dims: Vec<usize>,
        /// As many as the product of `dims`.
        values: Vec<f64>,
    },
    /// The rows of a character array.
    Text(Vec<String>),
    /// A cell array.
    Cell {
        /// Sizes, fastest dimension first.
        dims: Vec<usize>,
        /// As many as the product of `dims`, in column-major order.
        cells: Vec<Array>,
    },
    /// A structure or an array of them.
    Struct {
        /// Sizes, fastest dimension first.
        dims: Vec<usize>,
        /// Names of the fields, in the file's order.
        fields: Vec<String>,
        /// The fields of the first structure, then those of the second, and so on.
        values: Vec<Array>,
    },
    /// A sparse array, an object or a function, whose content is passed over.
    Unsupported {
        /// MATLAB's number of the class.
        class: u8,
    },
}

/// Reads all variables of a file.
///
/// # Errors
///
/// If the file cannot be read, holds more than [`MAX_DECODED`] bytes, or is not a well-formed MATLAB 5 file.
pub fn read_mat(path: &Path) -> Result<MatFile, DatasetError> {
    let size = fs::metadata(path).map_err(io_error(path, "opened"))?.len();
    if size > MAX_DECODED {
        return Err(DatasetError::Mat {
            path: path.to_path_buf(),
            fault: MatFault::TooLarge,
        });
    }
    MatFile::from_bytes(path, &read_bytes(path)?)
}
