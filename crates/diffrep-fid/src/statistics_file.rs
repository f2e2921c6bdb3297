//! Statistics on disk, in the files of pytorch-fid and of guided-diffusion's evaluator.

use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::path::Path;

use diffrep_artifact::write_bytes_atomic;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use crate::container::Container;
use crate::npy::{Element, Header};
use crate::statistics::check_dim;
use crate::{FidError, Source, Statistics};

/// What a file of statistics holds.
#[derive(Clone, Debug, PartialEq)]
pub struct StatisticsFile {
    /// Arrays `mu` and `sigma`, for FID.
    pub pool: Statistics,
    /// Arrays `mu_s` and `sigma_s`, for sFID; files of pytorch-fid have none.
    pub spatial: Option<Statistics>,
}

impl StatisticsFile {
    /// Reads the statistics of a `.npz` or safetensors file. Other arrays, such as the images of the
    /// evaluator's reference batches, may lie beside them.
    ///
    /// # Errors
    ///
    /// [`FidError::Missing`] without `mu` and `sigma`, [`FidError::Array`], [`FidError::Damaged`] or
    /// [`FidError::Read`] if they cannot be used; all name the file.
    pub fn read(path: impl AsRef<Path>) -> Result<Self, FidError> {
        let mut file = Container::open(path.as_ref())?;
        let pool = read_statistics(&mut file, "")?;
        let spatial = if file.has("mu_s") || file.has("sigma_s") {
            Some(read_statistics(&mut file, "_s")?)
        } else {
            None
        };
        Ok(Self { pool, spatial })
    }

    /// Writes the statistics in f64, as `.npz` or `.safetensors` after the ending of `path`. NumPy,
    /// pytorch-fid and the evaluator read the former. Counts and sources lie beside them as `count` and
    /// `source` (JSON), with `_s` for the spatial ones.
    ///
    /// # Errors
    ///
    /// [`FidError::Ending`] for another ending, [`FidError::Artifact`] if the file cannot be written.
    pub fn write(&self, path: impl AsRef<Path>) -> Result<(), FidError> {
        let path = path.as_ref();
        let mut arrays = BTreeMap::new();
        arrays_of(&self.pool, "", &mut arrays);
        if let Some(spatial) = &self.spatial {
            arrays_of(spatial, "_s", &mut arrays);
        }
        let ending = path.extension().and_then(|ending| ending.to_str());
        let bytes = match ending {
            Some("npz") => npz(&arrays),
            Some("safetensors") => safetensors(&arrays),
            _ => return Err(FidError::Ending { path: path.into() }),
        };
        Ok(write_bytes_atomic(path, &bytes)?)
    }
}

/// An array to be written.
struct Plain {
    element: Element,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

fn floats(values: &[f64], shape: Vec<usize>) -> Plain {
    Plain {
        element: Element::F64,
        shape,
        bytes: values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect(),
    }
}

fn arrays_of(statistics: &Statistics, suffix: &str, arrays: &mut BTreeMap<String, Plain>) {
    let dim = statistics.dim();
    let mut add = |name: &str, array| arrays.insert(format!("{name}{suffix}"), array);
    add("mu", floats(statistics.mean(), vec![dim]));
    add("sigma", floats(statistics.covariance(), vec![dim, dim]));
    if let Some(count) = statistics.count() {
        let count = Plain {
            element: Element::Unsigned(8),
            shape: vec![],
            bytes: count.to_le_bytes().to_vec(),
        };
        add("count", count);
    }
    if let Some(source) = statistics.source() {
        let bytes = serde_json::to_vec(source).expect("two strings are JSON");
        let source = Plain {
            element: Element::Unsigned(1),
            shape: vec![bytes.len()],
            bytes,
        };
        add("source", source);
    }
}

/// The bytes of a `.npz` file; the same arrays give the same bytes.
fn npz(arrays: &BTreeMap<String, Plain>) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Stored)
        .large_file(true);
    for (name, array) in arrays {
        let header = Header {
            element: array.element,
            fortran_order: false,
            shape: array.shape.iter().map(|axis| *axis as u64).collect(),
        };
        let begun = writer.start_file(format!("{name}.npy"), options);
        begun.expect("names are short and differ");
        let in_memory = "writing to memory does not fail";
        header.write(&mut writer).expect(in_memory);
        writer.write_all(&array.bytes).expect(in_memory);
    }
    let cursor = writer.finish().expect("a whole archive has an end");
    cursor.into_inner()
}

/// The bytes of a safetensors file.
fn safetensors(arrays: &BTreeMap<String, Plain>) -> Vec<u8> {
    let views = arrays.iter().map(|(name, array)| {
        let dtype = match array.element {
            Element::F64 => Dtype::F64,
            Element::Unsigned(8) => Dtype::U64,
            _ => Dtype::U8,
        };
        let view = TensorView::new(dtype, array.shape.clone(), &array.bytes);
        (name, view.expect("shapes are those of the bytes"))
    });
    safetensors::serialize(views, None).expect("a few tensors have a header")
}

fn read_statistics(file: &mut Container, suffix: &str) -> Result<Statistics, FidError> {
    let mu = file.array(&format!("mu{suffix}"))?;
    let dim = match mu.shape[..] {
        [dim] => dim,
        _ => return Err(mu.unusable(format!("its shape is {:?}, expected one axis", mu.shape))),
    };
    check_dim(dim).map_err(|error| mu.unusable(error.to_string()))?;
    let mean = mu.floats()?;
    // A covariance is its own transpose, so that the order of its axes makes no difference.
    let sigma = file.array(&format!("sigma{suffix}"))?;
    if sigma.shape != [dim, dim] {
        let reason = format!("its shape is {:?}, expected {:?}", sigma.shape, [dim, dim]);
        return Err(sigma.unusable(reason));
    }
    let covariance = sigma.floats()?;
    let (count, source) = (read_count(file, suffix)?, read_source(file, suffix)?);
    Statistics::new(mean, covariance, count, source).map_err(|error| {
        match file.array(&format!("sigma{suffix}")) {
            Ok(sigma) => sigma.unusable(error.to_string()),
            Err(other) => other,
        }
    })
}

fn read_count(file: &mut Container, suffix: &str) -> Result<Option<u64>, FidError> {
    let name = format!("count{suffix}");
    if !file.has(&name) {
        return Ok(None);
    }
    let array = file.array(&name)?;
    let wrong = array.unusable("it is no number of images");
    match array.integers()?[..] {
        [count] => Ok(Some(u64::try_from(count).map_err(|_| wrong)?)),
        _ => Err(wrong),
    }
}

/// What the arrays of a file say about their source, if anything.
pub(crate) fn read_source(file: &mut Container, suffix: &str) -> Result<Option<Source>, FidError> {
    let name = format!("source{suffix}");
    if !file.has(&name) {
        return Ok(None);
    }
    let array = file.array(&name)?;
    let wrong = array.unusable("it is no JSON of an extractor and a resize rule");
    let source = serde_json::from_slice(&array.bytes()?).map_err(|_| wrong)?;
    Ok(Some(source))
}
