//! Files of named arrays: NumPy's `.npz` and safetensors, behind one interface.
//!
//! Nothing is reserved by what a file says about its own size: memory grows with the bytes that come.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::Metadata;
use zip::ZipArchive;
use zip::result::ZipError;

use crate::FidError;
use crate::npy::{Element, Header, HeaderError};

/// The longest safetensors header that is read, as in the safetensors library.
const MAX_HEADER: u64 = 100_000_000;

/// Arrays up to this many bytes are read into memory however well they were compressed.
const SMALL: u64 = 64 << 20;

/// Larger arrays may be this many times larger than their compressed form. Real features stay below 10.
const MAX_RATIO: u64 = 100;

/// The names shown in an error at most.
const NAMES: usize = 12;

/// A file of named arrays.
pub(crate) struct Container {
    path: PathBuf,
    inner: Inner,
}

enum Inner {
    Npz(ZipArchive<BufReader<File>>),
    Safetensors {
        file: BufReader<File>,
        metadata: Metadata,
        /// Where tensors begin in the file.
        start: u64,
    },
}

/// One array of a [`Container`], about to be read from its first element on.
pub(crate) struct Array<'a> {
    path: &'a Path,
    name: String,
    pub(crate) element: Element,
    pub(crate) shape: Vec<usize>,
    pub(crate) fortran_order: bool,
    reader: Box<dyn Read + 'a>,
    /// Bytes that have not been read yet.
    left: u64,
    /// Bytes that the array takes in the file.
    packed: u64,
}

impl Container {
    /// Opens a file; its first bytes tell which kind it is.
    pub(crate) fn open(path: &Path) -> Result<Self, FidError> {
        let failed = |error| failure(path, error);
        let mut file = BufReader::new(File::open(path).map_err(failed)?);
        let mut magic = [0; 4];
        file.read_exact(&mut magic).map_err(failed)?;
        file.rewind().map_err(failed)?;
        let inner = if magic == *b"PK\x03\x04" {
            let archive = ZipArchive::new(file).map_err(|error| zip_failure(path, error))?;
            Inner::Npz(archive)
        } else {
            let (metadata, start) = safetensors_header(path, &mut file)?;
            Inner::Safetensors {
                file,
                metadata,
                start,
            }
        };
        Ok(Self {
            path: path.into(),
            inner,
        })
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        match &self.inner {
            Inner::Npz(archive) => archive.index_for_name(&format!("{name}.npy")).is_some(),
            Inner::Safetensors { metadata, .. } => metadata.info(name).is_some(),
        }
    }

    /// The array of this name.
    pub(crate) fn array(&mut self, name: &str) -> Result<Array<'_>, FidError> {
        if !self.has(name) {
            return Err(FidError::Missing {
                path: self.path.clone(),
                array: name.into(),
                found: self.names(),
            });
        }
        let path = &self.path;
        match &mut self.inner {
            Inner::Npz(archive) => npz_array(path, archive, name),
            Inner::Safetensors {
                file,
                metadata,
                start,
            } => safetensors_array(path, file, metadata, *start, name),
        }
    }

    fn names(&self) -> String {
        let mut names: Vec<String> = match &self.inner {
            Inner::Npz(archive) => {
                let names = archive.file_names().take(NAMES).flatten();
                names
                    .map(|name| name.trim_end_matches(".npy").to_owned())
                    .collect()
            }
            Inner::Safetensors { metadata, .. } => {
                metadata.offset_keys().into_iter().take(NAMES).collect()
            }
        };
        names.sort();
        match names.is_empty() {
            true => "nothing".into(),
            false => format!("{names:?}"),
        }
    }
}

impl Array<'_> {
    /// The error that this array cannot be used.
    pub(crate) fn unusable(&self, reason: impl Into<String>) -> FidError {
        unusable(self.path, &self.name, reason)
    }

    /// Reads exactly `count` elements as bytes into `bytes`, whose content is replaced.
    pub(crate) fn read(&mut self, count: usize, bytes: &mut Vec<u8>) -> Result<(), FidError> {
        bytes.clear();
        let wanted = (count as u64).saturating_mul(self.element.bytes() as u64);
        let read = self.reader.by_ref().take(wanted).read_to_end(bytes);
        let read = read.map_err(|error| failure(self.path, error))?;
        if read as u64 != wanted {
            return Err(self.unusable("the file ends before the array does"));
        }
        self.left = self.left.saturating_sub(wanted);
        Ok(())
    }

    /// Errs unless the array ends here; a checksum that does not match is found now.
    pub(crate) fn finish(mut self) -> Result<(), FidError> {
        let more = self.reader.read(&mut [0; 1]);
        let more = more.map_err(|error| failure(self.path, error))?;
        if more > 0 || self.left > 0 {
            return Err(self.unusable("it has more bytes than its shape says"));
        }
        Ok(())
    }

    /// Errs if the array would take far more memory than its file does.
    pub(crate) fn check_fits_memory(&self) -> Result<(), FidError> {
        if self.left > SMALL && self.left / MAX_RATIO > self.packed {
            return Err(self.unusable(format!(
                "its {} bytes would unpack to {}, which no real features do",
                self.packed, self.left
            )));
        }
        Ok(())
    }

    /// All elements as floats.
    pub(crate) fn floats(mut self) -> Result<Vec<f64>, FidError> {
        self.check_fits_memory()?;
        let (mut bytes, mut values) = (Vec::new(), Vec::new());
        let count = self.left as usize / self.element.bytes();
        self.read(count, &mut bytes)?;
        self.decode(&bytes, &mut values)?;
        self.finish()?;
        Ok(values)
    }

    /// All elements as integers.
    pub(crate) fn integers(mut self) -> Result<Vec<i64>, FidError> {
        self.check_fits_memory()?;
        let mut bytes = Vec::new();
        let count = self.left as usize / self.element.bytes();
        self.read(count, &mut bytes)?;
        let signed = match self.element {
            Element::Signed(_) => true,
            Element::Unsigned(_) => false,
            _ => return Err(self.unusable("it holds floats; expected integers")),
        };
        let words = bytes.chunks_exact(self.element.bytes());
        let values: Option<Vec<i64>> = words.map(|word| integer(word, signed)).collect();
        let values = values.ok_or_else(|| self.unusable("it holds integers above 2^63"))?;
        self.finish()?;
        Ok(values)
    }

    /// All bytes of an array of bytes.
    pub(crate) fn bytes(mut self) -> Result<Vec<u8>, FidError> {
        self.check_fits_memory()?;
        if self.element != Element::Unsigned(1) {
            return Err(self.unusable("its elements are no bytes"));
        }
        let mut bytes = Vec::new();
        self.read(self.left as usize, &mut bytes)?;
        self.finish()?;
        Ok(bytes)
    }

    /// Appends elements of floats to `values`.
    pub(crate) fn decode(&self, bytes: &[u8], values: &mut Vec<f64>) -> Result<(), FidError> {
        let words = bytes.chunks_exact(self.element.bytes());
        match self.element {
            Element::F16 => {
                values.extend(words.map(|w| f64::from(half::f16::from_le_bytes([w[0], w[1]]))))
            }
            Element::F32 => values
                .extend(words.map(|w| f64::from(f32::from_le_bytes([w[0], w[1], w[2], w[3]])))),
            Element::F64 => values.extend(words.map(|w| f64::from_le_bytes(padded(w, 0)))),
            _ => return Err(self.unusable("it holds integers; expected floats")),
        }
        Ok(())
    }
}

/// The eight bytes of a word, the missing ones being `fill`.
fn padded(word: &[u8], fill: u8) -> [u8; 8] {
    let mut bytes = [fill; 8];
    bytes[..word.len()].copy_from_slice(word);
    bytes
}

fn integer(word: &[u8], signed: bool) -> Option<i64> {
    let negative = signed && word.last().is_some_and(|byte| byte & 0x80 != 0);
    let value = i64::from_le_bytes(padded(word, if negative { 0xff } else { 0 }));
    (signed || value >= 0).then_some(value)
}

/// Errors of reading that mean the file, not the device.
fn failure(path: &Path, source: io::Error) -> FidError {
    use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};

    let path = path.into();
    match source.kind() {
        UnexpectedEof => FidError::Damaged {
            path,
            reason: "it ends too early".into(),
        },
        InvalidData | InvalidInput => FidError::Damaged {
            path,
            reason: source.to_string(),
        },
        _ => FidError::Read { path, source },
    }
}

fn zip_failure(path: &Path, error: ZipError) -> FidError {
    match error {
        ZipError::Io(error) => failure(path, error),
        error => FidError::Damaged {
            path: path.into(),
            reason: error.to_string(),
        },
    }
}

fn unusable(path: &Path, array: &str, reason: impl Into<String>) -> FidError {
    FidError::Array {
        path: path.into(),
        array: array.into(),
        reason: reason.into(),
    }
}

fn npz_array<'a>(
    path: &'a Path,
    archive: &'a mut ZipArchive<BufReader<File>>,
    name: &str,
) -> Result<Array<'a>, FidError> {
    let member = archive.by_name(&format!("{name}.npy"));
    let mut member = member.map_err(|error| zip_failure(path, error))?;
    let (size, packed) = (member.size(), member.compressed_size());
    let (header, before) = Header::read(&mut member).map_err(|error| match error {
        HeaderError::Io(error) => failure(path, error),
        HeaderError::Bad(reason) => unusable(path, name, reason),
    })?;
    let left = byte_count(&header.shape, header.element)
        .filter(|left| before.checked_add(*left) == Some(size));
    let left = left.ok_or_else(|| {
        let reason = format!(
            "its shape is {:?}, which does not fit its {size} bytes",
            header.shape
        );
        unusable(path, name, reason)
    })?;
    let axes = header.shape.iter().map(|axis| usize::try_from(*axis));
    let shape: Result<Vec<usize>, _> = axes.collect();
    Ok(Array {
        path,
        name: name.into(),
        element: header.element,
        shape: shape.map_err(|_| unusable(path, name, "its shape is too large"))?,
        fortran_order: header.fortran_order && header.shape.len() > 1,
        reader: Box::new(member),
        left,
        packed,
    })
}

/// The bytes of an array of this shape.
fn byte_count(shape: &[u64], element: Element) -> Option<u64> {
    let mut axes = shape.iter();
    axes.try_fold(element.bytes() as u64, |bytes, axis| {
        bytes.checked_mul(*axis)
    })
}

fn safetensors_header(
    path: &Path,
    file: &mut BufReader<File>,
) -> Result<(Metadata, u64), FidError> {
    let failed = |error| failure(path, error);
    let damaged = |reason: String| FidError::Damaged {
        path: path.into(),
        reason,
    };
    let size = file.get_ref().metadata().map_err(failed)?.len();
    let mut len = [0; 8];
    file.read_exact(&mut len).map_err(failed)?;
    let len = u64::from_le_bytes(len);
    if len > MAX_HEADER || len > size.saturating_sub(8) {
        return Err(damaged(format!("its header would have {len} bytes")));
    }
    let mut text = Vec::new();
    file.take(len).read_to_end(&mut text).map_err(failed)?;
    let metadata: Metadata =
        serde_json::from_slice(&text).map_err(|error| damaged(error.to_string()))?;
    let start = 8 + len;
    if start.checked_add(metadata.data_len() as u64) != Some(size) {
        return Err(damaged("its tensors do not fill it".into()));
    }
    Ok((metadata, start))
}

fn safetensors_array<'a>(
    path: &'a Path,
    file: &'a mut BufReader<File>,
    metadata: &Metadata,
    start: u64,
    name: &str,
) -> Result<Array<'a>, FidError> {
    let info = metadata
        .info(name)
        .ok_or_else(|| unusable(path, name, "it is absent"))?;
    let element = match info.dtype {
        Dtype::F16 => Element::F16,
        Dtype::F32 => Element::F32,
        Dtype::F64 => Element::F64,
        Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => {
            Element::Unsigned(info.dtype.bitsize() / 8)
        }
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => {
            Element::Signed(info.dtype.bitsize() / 8)
        }
        other => return Err(unusable(path, name, format!("its type is {other}"))),
    };
    let (first, last) = info.data_offsets;
    let left = last.saturating_sub(first) as u64;
    let offset = start.saturating_add(first as u64);
    file.seek(SeekFrom::Start(offset))
        .map_err(|error| failure(path, error))?;
    Ok(Array {
        path,
        name: name.into(),
        element,
        shape: info.shape.clone(),
        fortran_order: false,
        reader: Box::new(file.take(left)),
        left,
        packed: left,
    })
}
