//! What can be wrong with the content of a MATLAB file.

use super::{MAX_DECODED, MAX_DEPTH};

/// Why the content of a MATLAB file is refused; [`crate::DatasetError::Mat`] adds the path.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MatFault {
    /// The header is not that of MATLAB 5.
    #[error(
        "its header is not that of MATLAB 5: expected the version 0x0100 and the mark IM or MI in bytes 124 to 127, found {found:02x?}"
    )]
    Header {
        /// The four bytes found, fewer where the file ends earlier.
        found: Vec<u8>,
    },

    /// The file is of MATLAB 7.3.
    #[error("it is a MATLAB 7.3 file, which is HDF5 inside; save it again with `save -v7`")]
    Hdf5,

    /// A part ends too early.
    #[error("{part} needs {expected} bytes, and {found} are left")]
    Truncated {
        /// The part, in words.
        part: &'static str,
        /// Bytes needed.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },

    /// A compressed element does not decompress.
    #[error("a compressed element is damaged: {0}")]
    Compression(std::io::Error),

    /// The content is larger than any list of a data set.
    #[error("it holds more than the {MAX_DECODED} bytes that a file of annotations may hold")]
    TooLarge,

    /// Cells or structures are nested too deeply.
    #[error("it nests cells or structures more than {MAX_DEPTH} levels deep")]
    TooDeep,

    /// An element has a type that cannot stand where it does.
    #[error("{part} has the element type {found}, expected {expected}")]
    Type {
        /// The part, in words.
        part: &'static str,
        /// The valid types, in words.
        expected: &'static str,
        /// The number found.
        found: u32,
    },

    /// A length or number is not what the rest of the array demands.
    #[error("{part} is {found}, expected {expected}")]
    Count {
        /// The part, in words.
        part: &'static str,
        /// The valid numbers, in words.
        expected: String,
        /// The number found.
        found: u64,
    },

    /// Text is not valid in its encoding.
    #[error("a text is not valid {encoding}")]
    Encoding {
        /// UTF-8 or UTF-16.
        encoding: &'static str,
    },

    /// Two variables share a name.
    #[error("it has two variables named `{name}`")]
    Duplicate {
        /// The name.
        name: String,
    },

    /// A variable or field that is needed is absent.
    #[error("it has no `{name}`; it has: {available}")]
    Missing {
        /// The variable or field.
        name: String,
        /// The names that exist, separated by commas.
        available: String,
    },

    /// A variable or field is there but of another kind.
    #[error("`{name}` holds {found}, expected {expected}")]
    Kind {
        /// The variable or field.
        name: String,
        /// What was expected, in words.
        expected: &'static str,
        /// What there is, in words.
        found: String,
    },
}
