//! Reading a finished store.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diffrep_artifact::ArtifactError;

use crate::shard::Shard;
use crate::spec::{read_manifest, shard_number, shard_path};
use crate::{ColumnSpec, StoreError, StoreSpec};

/// A finished store, memory-mapped. It may be shared between threads.
#[derive(Debug)]
pub struct Store {
    dir: PathBuf,
    spec: StoreSpec,
    shards: Vec<Shard>,
    ids: Vec<u64>,
    labels: Vec<i64>,
    /// Per tag, in the order of the specification.
    tags: Vec<Vec<i64>>,
}

impl Store {
    /// Opens the store in `dir` and checks the manifest and every shard's header, size and place.
    ///
    /// # Errors
    ///
    /// [`StoreError::Missing`] if the store was not finished; [`StoreError::Damaged`],
    /// [`StoreError::Mismatch`] or [`StoreError::Map`] naming the shard; [`StoreError::Artifact`]
    /// or [`StoreError::Format`] if there is no usable manifest.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self, StoreError> {
        let dir = dir.as_ref();
        let spec = read_manifest(dir)?;
        // By the names in the folder, because a damaged manifest may announce more shards than can be looked for.
        let present = shards_present(dir, spec.shard_count())?;
        if present.len() < spec.shard_count() {
            let numbers = present.iter().enumerate();
            let first = numbers
                .take_while(|(number, index)| number == *index)
                .count();
            return Err(StoreError::Missing {
                missing: spec.shard_count() - present.len(),
                total: spec.shard_count(),
                first: shard_path(dir, first),
            });
        }
        let shards = spec
            .shards()
            .map(|range| Shard::open(dir, &spec, range))
            .collect::<Result<Vec<_>, _>>()?;
        let mut ids = Vec::with_capacity(spec.samples);
        let mut labels = Vec::with_capacity(spec.samples);
        let mut tags = vec![Vec::with_capacity(spec.samples); spec.tags.len()];
        for (range, shard) in spec.shards().zip(&shards) {
            ids.extend(shard.ids(range.rows())?);
            labels.extend(shard.labels(range.rows()));
            for (index, tag) in tags.iter_mut().enumerate() {
                tag.extend(shard.tag(index, range.rows()));
            }
        }
        Ok(Self {
            dir: dir.to_path_buf(),
            spec,
            shards,
            ids,
            labels,
            tags,
        })
    }

    /// What the store holds.
    pub fn spec(&self) -> &StoreSpec {
        &self.spec
    }

    /// How many rows there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "a store is never empty")]
    pub fn len(&self) -> usize {
        self.spec.samples
    }

    /// The id of the sample of every row, in their order; repeated where a sample has several rows.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The label of every row, in their order.
    pub fn labels(&self) -> &[i64] {
        &self.labels
    }

    /// The values of a tag, in the order of the rows, where the store has it.
    pub fn tag(&self, name: &str) -> Option<&[i64]> {
        let index = self.spec.tags.iter().position(|tag| tag == name)?;
        Some(&self.tags[index])
    }

    /// The column of that name.
    ///
    /// # Errors
    ///
    /// [`StoreError::NoColumn`] listing the names there are.
    pub fn column(&self, name: &str) -> Result<Column<'_>, StoreError> {
        let columns = &self.spec.columns;
        match columns.iter().position(|column| column.name == name) {
            Some(index) => Ok(Column { store: self, index }),
            None => Err(StoreError::NoColumn {
                dir: self.dir.clone(),
                name: name.to_owned(),
                available: columns.iter().map(|column| column.name.clone()).collect(),
            }),
        }
    }

    /// Reads every shard and compares its content with the hash taken when it was written. Opening
    /// does not do this, because it reads the whole store.
    ///
    /// # Errors
    ///
    /// [`StoreError::Hash`] naming the first shard that has changed.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.shards.iter().try_for_each(Shard::verify)
    }
}

/// The numbers below `count` of the shards that lie in `dir`.
fn shards_present(dir: &Path, count: usize) -> Result<BTreeSet<usize>, StoreError> {
    let failed = |source| ArtifactError::Read {
        path: dir.to_path_buf(),
        source,
    };
    let mut present = BTreeSet::new();
    for entry in std::fs::read_dir(dir).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        present.extend(name.to_str().and_then(shard_number));
    }
    present.retain(|&number| number < count);
    Ok(present)
}

/// One column of a [`Store`]: a row-major `[len, dim]` matrix.
#[derive(Clone, Copy, Debug)]
pub struct Column<'store> {
    store: &'store Store,
    index: usize,
}

impl Column<'_> {
    /// Its specification.
    pub fn spec(&self) -> &ColumnSpec {
        &self.store.spec.columns[self.index]
    }

    /// How many features a sample has.
    pub fn dim(&self) -> usize {
        self.spec().dim
    }

    /// How many rows there are; at least one.
    #[allow(clippy::len_without_is_empty, reason = "a store is never empty")]
    pub fn len(&self) -> usize {
        self.store.len()
    }

    /// Reads the given rows, in the given order, which may repeat.
    ///
    /// # Shapes
    ///
    /// `out` is row-major `[rows.len(), dim]`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Row`] for a row that does not exist, [`StoreError::Buffer`] if `out` has
    /// another length; `out` is then unchanged.
    pub fn read_rows(&self, rows: &[usize], out: &mut [f32]) -> Result<(), StoreError> {
        let dim = self.dim();
        if rows.len().checked_mul(dim) != Some(out.len()) {
            return Err(StoreError::Buffer {
                rows: rows.len(),
                dim,
                found: out.len(),
            });
        }
        if let Some(&row) = rows.iter().find(|&&row| row >= self.len()) {
            return Err(StoreError::Row {
                row,
                rows: self.len(),
            });
        }
        let spec = &self.store.spec;
        for (&row, out) in rows.iter().zip(out.chunks_exact_mut(dim)) {
            let shard = &self.store.shards[row / spec.shard_rows];
            shard.read(self.index, spec.dtype, dim, row % spec.shard_rows, out);
        }
        Ok(())
    }

    /// The whole column in memory, row-major `[len, dim]`.
    pub fn to_f32(&self) -> Vec<f32> {
        let (spec, dim) = (&self.store.spec, self.dim());
        let mut out = vec![0.0; self.len() * dim];
        for (range, shard) in spec.shards().zip(&self.store.shards) {
            let out = &mut out[range.start * dim..range.end * dim];
            shard.read(self.index, spec.dtype, dim, 0, out);
        }
        out
    }
}
