//! One shard file: its bytes, and what makes it valid.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use diffrep_artifact::{Sha256Hex, write_atomic};
use memmap2::Mmap;
use safetensors::tensor::{Metadata, TensorInfo};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::spec::{IDS, LABELS, shard_path};
use crate::write::ShardData;
use crate::{FeatureDtype, ShardRange, StoreError, StoreSpec};

/// The one entry of a shard's metadata. There is one, because a second would be written in an order
/// that changes from run to run.
const METADATA: &str = "diffrep";

/// What a shard says about itself: enough to tell that it belongs to its store.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Label {
    key: String,
    index: usize,
    start: usize,
    end: usize,
    /// The hash of everything after the header.
    sha256: Sha256Hex,
}

/// The tensors of a shard in the order of its bytes: the 8-byte ones first, so that every tensor
/// begins at a multiple of its element size.
fn layout(spec: &StoreSpec, range: ShardRange) -> Vec<(String, TensorInfo)> {
    let rows = range.rows();
    let mut offset = 0;
    let mut tensor = |name: &str, dtype: Dtype, shape: Vec<usize>| {
        let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
        let info = TensorInfo {
            dtype,
            shape,
            data_offsets: (offset, offset + bytes),
        };
        offset += bytes;
        (name.to_owned(), info)
    };
    let mut tensors = vec![
        tensor(IDS, Dtype::I64, vec![rows]),
        tensor(LABELS, Dtype::I64, vec![rows]),
    ];
    for tag in &spec.tags {
        tensors.push(tensor(tag, Dtype::I64, vec![rows]));
    }
    for column in &spec.columns {
        let shape = vec![rows, column.dim];
        tensors.push(tensor(&column.name, spec.dtype.safetensors(), shape));
    }
    tensors
}

/// Writes a shard, whole or not at all.
pub(crate) fn write(
    dir: &Path,
    spec: &StoreSpec,
    range: ShardRange,
    data: &ShardData,
) -> Result<(), StoreError> {
    check_shape(spec, range, data)?;
    let body = body(spec, range, data)?;
    let label = Label {
        key: spec.key.clone(),
        index: range.index,
        start: range.start,
        end: range.end,
        sha256: Sha256Hex::hash_bytes(&body),
    };
    let path = shard_path(dir, range.index);
    let header = header(label, layout(spec, range)).map_err(|source| StoreError::Damaged {
        path: path.clone(),
        source,
    })?;
    write_atomic(&path, |writer| {
        writer.write_all(&(header.len() as u64).to_le_bytes())?;
        writer.write_all(&header)?;
        writer.write_all(&body)
    })?;
    Ok(())
}

/// Errs unless `data` has the rows of `range` and the columns of `spec`.
fn check_shape(spec: &StoreSpec, range: ShardRange, data: &ShardData) -> Result<(), StoreError> {
    let check = |what: &str, expected: usize, found: usize| {
        if expected == found {
            return Ok(());
        }
        Err(StoreError::Shape {
            shard: range.index,
            what: what.to_owned(),
            expected,
            found,
        })
    };
    check(IDS, range.rows(), data.ids.len())?;
    check(LABELS, range.rows(), data.labels.len())?;
    check("tags", spec.tags.len(), data.tags.len())?;
    for (tag, values) in spec.tags.iter().zip(&data.tags) {
        check(tag, range.rows(), values.len())?;
    }
    check("columns", spec.columns.len(), data.columns.len())?;
    for (column, values) in spec.columns.iter().zip(&data.columns) {
        check(&column.name, range.rows() * column.dim, values.len())?;
    }
    Ok(())
}

/// The bytes after the header, in the order of [`layout`].
fn body(spec: &StoreSpec, range: ShardRange, data: &ShardData) -> Result<Vec<u8>, StoreError> {
    let row_bytes: usize = spec.columns.iter().map(|column| column.dim).sum::<usize>()
        * spec.dtype.size()
        + (2 + spec.tags.len()) * size_of::<i64>();
    let mut body = Vec::with_capacity(range.rows() * row_bytes);
    for &id in &data.ids {
        let id = i64::try_from(id).map_err(|_| StoreError::Id { id })?;
        body.extend_from_slice(&id.to_le_bytes());
    }
    for value in data.labels.iter().chain(data.tags.iter().flatten()) {
        body.extend_from_slice(&value.to_le_bytes());
    }
    for (column, values) in spec.columns.iter().zip(&data.columns) {
        if let Some(position) = spec.dtype.encode(values, &mut body) {
            let id = data.ids[position / column.dim];
            let index = position % column.dim;
            let (column, value) = (column.name.clone(), values[position]);
            return Err(if value.is_finite() {
                StoreError::TooLarge {
                    id,
                    column,
                    index,
                    value,
                    dtype: spec.dtype,
                    instead: spec.dtype.wider(),
                }
            } else {
                StoreError::NonFinite {
                    id,
                    column,
                    index,
                    value,
                }
            });
        }
    }
    Ok(body)
}

/// The JSON header, padded with spaces so that the data begins at a multiple of 8.
fn header(
    label: Label,
    tensors: Vec<(String, TensorInfo)>,
) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let label = HashMap::from([(METADATA.to_owned(), serde_json::to_string(&label)?)]);
    let mut header = serde_json::to_vec(&Metadata::new(Some(label), tensors)?)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Ok(header)
}

/// A shard that has been mapped and found valid.
#[derive(Debug)]
pub(crate) struct Shard {
    path: PathBuf,
    map: Mmap,
    /// Where the data begins.
    data: usize,
    /// Where each column lies in the file, in the order of the specification.
    columns: Vec<Range<usize>>,
    sha256: Sha256Hex,
}

impl Shard {
    /// Maps a shard and checks header, sizes and membership; the features themselves are not read.
    pub(crate) fn open(
        dir: &Path,
        spec: &StoreSpec,
        range: ShardRange,
    ) -> Result<Self, StoreError> {
        let path = shard_path(dir, range.index);
        let map = map(&path).map_err(|source| StoreError::Map {
            path: path.clone(),
            source,
        })?;
        let (header, metadata) =
            SafeTensors::read_metadata(&map).map_err(|source| StoreError::Damaged {
                path: path.clone(),
                source,
            })?;
        let sha256 = check_label(&path, spec, range, &metadata)?;

        let expected = layout(spec, range);
        let mismatch = |what: String, expected: String, found: String| StoreError::Mismatch {
            path: path.clone(),
            what,
            expected,
            found,
        };
        let found = metadata.tensors();
        if found.len() != expected.len() {
            return Err(mismatch(
                "the number of tensors".into(),
                expected.len().to_string(),
                found.len().to_string(),
            ));
        }
        let same = |left: &TensorInfo, right: &TensorInfo| {
            left.dtype == right.dtype
                && left.shape == right.shape
                && left.data_offsets == right.data_offsets
        };
        let data = 8 + header;
        let mut columns = Vec::with_capacity(spec.columns.len());
        for (name, expected) in expected {
            let describe = |info: &TensorInfo| {
                format!(
                    "{:?} {:?} at {}",
                    info.dtype, info.shape, info.data_offsets.0
                )
            };
            match found.get(&name) {
                Some(found) if same(found, &expected) => {
                    columns.push(data + expected.data_offsets.0..data + expected.data_offsets.1);
                }
                found => {
                    let found = found.map_or("absent".into(), |info| describe(info));
                    return Err(mismatch(
                        format!("tensor {name:?}"),
                        describe(&expected),
                        found,
                    ));
                }
            }
        }
        // Ids, labels and tags come first.
        columns.drain(..2 + spec.tags.len());
        Ok(Self {
            path,
            map,
            data,
            columns,
            sha256,
        })
    }

    /// The ids of the samples.
    pub(crate) fn ids(&self, rows: usize) -> Result<Vec<u64>, StoreError> {
        self.integers(0, rows)
            .map(|id| {
                u64::try_from(id).map_err(|_| StoreError::Mismatch {
                    path: self.path.clone(),
                    what: "a sample id".into(),
                    expected: "at least 0".into(),
                    found: id.to_string(),
                })
            })
            .collect()
    }

    /// The labels of the samples.
    pub(crate) fn labels(&self, rows: usize) -> impl Iterator<Item = i64> + '_ {
        self.integers(rows, rows)
    }

    /// The values of a tag by its place in the specification.
    pub(crate) fn tag(&self, index: usize, rows: usize) -> impl Iterator<Item = i64> + '_ {
        self.integers((2 + index) * rows, rows)
    }

    /// `count` integers after `skip` others, from the beginning of the data.
    fn integers(&self, skip: usize, count: usize) -> impl Iterator<Item = i64> + '_ {
        let start = self.data + skip * size_of::<i64>();
        let bytes = &self.map[start..start + count * size_of::<i64>()];
        bytes
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| i64::from_le_bytes(*bytes))
    }

    /// Converts rows `first..` of a column of width `dim`, as many as `out` holds.
    pub(crate) fn read(
        &self,
        column: usize,
        dtype: FeatureDtype,
        dim: usize,
        first: usize,
        out: &mut [f32],
    ) {
        let bytes = &self.map[self.columns[column].clone()];
        let start = first * dim * dtype.size();
        dtype.decode(&bytes[start..start + out.len() * dtype.size()], out);
    }

    /// Reads everything and compares its hash with the one taken when it was written.
    pub(crate) fn verify(&self) -> Result<(), StoreError> {
        if Sha256Hex::hash_bytes(&self.map[self.data..]) == self.sha256 {
            return Ok(());
        }
        Err(StoreError::Hash {
            path: self.path.clone(),
        })
    }
}

/// Checks what a shard says about itself and returns the hash of its data.
fn check_label(
    path: &Path,
    spec: &StoreSpec,
    range: ShardRange,
    metadata: &Metadata,
) -> Result<Sha256Hex, StoreError> {
    let mismatch = |what: &str, expected: String, found: String| {
        Err(StoreError::Mismatch {
            path: path.to_path_buf(),
            what: what.to_owned(),
            expected,
            found,
        })
    };
    let text = metadata
        .metadata()
        .as_ref()
        .and_then(|entries| entries.get(METADATA))
        .map_or("", String::as_str);
    let Ok(label) = serde_json::from_str::<Label>(text) else {
        return mismatch(
            "its metadata",
            "that of a shard".into(),
            format!("{text:?}"),
        );
    };
    if label.key != spec.key {
        return mismatch("the key", spec.key.clone(), label.key);
    }
    if (label.index, label.start, label.end) != (range.index, range.start, range.end) {
        let describe =
            |index: usize, start: usize, end: usize| format!("shard {index}, rows {start}..{end}");
        return mismatch(
            "its place",
            describe(range.index, range.start, range.end),
            describe(label.index, label.start, label.end),
        );
    }
    Ok(label.sha256)
}

/// Maps a whole file for reading.
fn map(path: &Path) -> io::Result<Mmap> {
    let file = File::open(path)?;
    #[allow(
        unsafe_code,
        reason = "sound while no one changes the file in place: shards are only ever replaced by a \
                  rename, which leaves a mapped file as it was"
    )]
    unsafe {
        Mmap::map(&file)
    }
}
