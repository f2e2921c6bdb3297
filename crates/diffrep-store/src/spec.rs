//! What a store holds, and how it is cut into shards.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use diffrep_artifact::{ArtifactError, read_json, write_json_atomic};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{FeatureDtype, StoreError};

/// The name of the format in manifests.
const FORMAT: &str = "diffrep-store";
/// The newest version of the format that this program writes and reads. Version 2 has tags; stores without
/// tags are written as version 1, which older programs read, and both are read.
const VERSION: u32 = 2;

/// The entry of a store's information that holds what a run found out by the way and another may find otherwise,
/// such as the memory that it took. It is never told as what makes two runs differ.
pub const NOTE: &str = "note";

/// The name of the manifest's file.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The name of the tensor of sample ids in every shard.
pub(crate) const IDS: &str = "ids";
/// The name of the tensor of labels in every shard.
pub(crate) const LABELS: &str = "labels";

/// One column of features: one setting of timestep, block and pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnSpec {
    /// The name of its tensor in every shard, for example `t90_b24_p2`.
    pub name: String,
    /// How many features a sample has in it.
    pub dim: usize,
    /// What else readers may want to know, for example t, block and pool size.
    pub meta: Value,
}

impl ColumnSpec {
    /// A column without further information.
    pub fn new(name: impl Into<String>, dim: usize) -> Self {
        Self {
            name: name.into(),
            dim,
            meta: Value::Null,
        }
    }
}

/// What a store holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSpec {
    /// The columns, in the order in which shards give them.
    pub columns: Vec<ColumnSpec>,
    /// The type all features are stored in.
    pub dtype: FeatureDtype,
    /// Names of integers that every row carries beside id and label, for example `draw` and `flip` where a
    /// sample has several rows.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// How many rows there are: samples, or so many of each as it has rows.
    pub samples: usize,
    /// How many rows a shard holds; the last one may hold fewer.
    pub shard_rows: usize,
    /// The hash of everything that determines the numbers: checkpoint, data, settings, seed.
    pub key: String,
    /// What readers may want to know, for example provenance. Two runs that differ only here are
    /// the same run, and the manifest keeps what the first one wrote.
    pub info: Value,
    /// The version of the contract under which random numbers were drawn.
    pub contract: u32,
}

/// The rows of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardRange {
    /// The number of the shard, from 0.
    pub index: usize,
    /// Its first row.
    pub start: usize,
    /// The row after its last.
    pub end: usize,
}

impl ShardRange {
    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.end - self.start
    }
}

impl StoreSpec {
    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.samples.div_ceil(self.shard_rows)
    }

    /// The rows of shard `index`.
    ///
    /// # Panics
    ///
    /// Panics if there is no such shard.
    pub fn shard(&self, index: usize) -> ShardRange {
        assert!(
            index < self.shard_count(),
            "shard {index} of {}",
            self.shard_count()
        );
        let start = index * self.shard_rows;
        ShardRange {
            index,
            start,
            end: self.shard_rows.saturating_add(start).min(self.samples),
        }
    }

    /// All shards in order.
    pub fn shards(&self) -> impl Iterator<Item = ShardRange> + '_ {
        (0..self.shard_count()).map(|index| self.shard(index))
    }

    /// Checks that such a store can exist.
    ///
    /// # Errors
    ///
    /// [`StoreError::Spec`] naming the field at fault and what it may hold.
    pub fn validate(&self) -> Result<(), StoreError> {
        let fault = |field, found: String, expected| {
            Err(StoreError::Spec {
                field,
                found,
                expected,
            })
        };
        if self.columns.is_empty() {
            return fault("columns", "[]".into(), "at least one column");
        }
        if self.samples == 0 {
            return fault("samples", "0".into(), "at least one sample");
        }
        if self.shard_rows == 0 {
            return fault("shard_rows", "0".into(), "at least one row");
        }
        if self.key.is_empty() {
            return fault("key", "\"\"".into(), "a hash");
        }
        let mut names = HashSet::new();
        let tags = self.tags.iter().map(|tag| ("tag", tag));
        let columns = self.columns.iter().map(|c| ("column name", &c.name));
        for (field, name) in tags.chain(columns) {
            if name.is_empty() || [IDS, LABELS, "__metadata__"].contains(&name.as_str()) {
                let expected = "a name other than \"\", \"ids\", \"labels\" and \"__metadata__\"";
                return fault(field, format!("{name:?}"), expected);
            }
            if !names.insert(name) {
                return fault(field, format!("{name:?} twice"), "distinct names");
            }
        }
        for column in &self.columns {
            if column.dim == 0 {
                return fault("dim", "0".into(), "at least one feature");
            }
        }
        if self.shard_bytes().is_none() {
            let expected = "columns, dims and shard_rows such that a shard fits into memory";
            return fault(
                "shard size",
                "more than this machine can address".into(),
                expected,
            );
        }
        Ok(())
    }

    /// The version of the format that can hold it.
    fn version(&self) -> u32 {
        if self.tags.is_empty() { 1 } else { 2 }
    }

    /// The size of a full shard's data in bytes, if it can be counted.
    fn shard_bytes(&self) -> Option<usize> {
        let mut row = (2 + self.tags.len()) * size_of::<i64>();
        for column in &self.columns {
            row = row.checked_add(column.dim.checked_mul(self.dtype.size())?)?;
        }
        let bytes = row.checked_mul(self.shard_rows.min(self.samples))?;
        (bytes <= isize::MAX as usize).then_some(bytes)
    }

    /// The first property that makes `found` another run than `self`; `info` does not count.
    fn difference(&self, found: &Self) -> Option<(String, String, String)> {
        let names = |spec: &Self| {
            let names: Vec<_> = spec
                .columns
                .iter()
                .map(|column| format!("{}[{}]", column.name, column.dim))
                .collect();
            names.join(", ")
        };
        let meta = |spec: &Self| {
            let meta: Vec<_> = spec.columns.iter().map(|column| &column.meta).collect();
            serde_json::to_string(&meta).unwrap_or_default()
        };
        let properties = |spec: &Self| {
            [
                ("the key", spec.key.clone()),
                ("the contract of random numbers", spec.contract.to_string()),
                ("the number of samples", spec.samples.to_string()),
                ("the list of tags", spec.tags.join(", ")),
                ("the stored type", spec.dtype.to_string()),
                ("the number of rows in a shard", spec.shard_rows.to_string()),
                ("the list of columns", names(spec)),
                ("the information on the columns", meta(spec)),
            ]
        };
        let determined = || {
            let ours = self.info.as_object()?;
            let (name, ours) = ours
                .iter()
                .find(|(name, value)| *name != NOTE && found.info.get(name) != Some(value))?;
            let theirs = found
                .info
                .get(name)
                .map_or_else(|| "absent".into(), Value::to_string);
            Some((format!("`{name}`"), ours.to_string(), theirs))
        };
        if self.key != found.key
            && let Some(difference) = determined()
        {
            return Some(difference);
        }
        properties(self)
            .into_iter()
            .zip(properties(found))
            .find(|(ours, theirs)| ours.1 != theirs.1)
            .map(|((what, ours), (_, theirs))| (what.to_string(), ours, theirs))
    }
}

/// `manifest.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: String,
    version: u32,
    spec: StoreSpec,
}

/// The path of the manifest in `dir`.
fn manifest_path(dir: &Path) -> PathBuf {
    dir.join(MANIFEST)
}

/// The path of shard `index` in `dir`.
pub(crate) fn shard_path(dir: &Path, index: usize) -> PathBuf {
    dir.join(shard_name(index))
}

/// The file name of shard `index`.
pub(crate) fn shard_name(index: usize) -> String {
    format!("shard-{index:05}.safetensors")
}

/// The number of the shard that a file of this name is, if it is one.
pub(crate) fn shard_number(name: &str) -> Option<usize> {
    let digits = name.strip_prefix("shard-")?.strip_suffix(".safetensors")?;
    let number = digits.parse().ok()?;
    (shard_name(number) == name).then_some(number)
}

/// Reads and checks the manifest of `dir`.
pub(crate) fn read_manifest(dir: &Path) -> Result<StoreSpec, StoreError> {
    /// What every version has, read first so that another version is named as such.
    #[derive(Deserialize)]
    struct Head {
        format: String,
        version: u32,
    }

    let path = manifest_path(dir);
    let head: Head = read_json(&path)?;
    if head.format != FORMAT || !(1..=VERSION).contains(&head.version) {
        return Err(StoreError::Format {
            path,
            format: head.format,
            found: head.version,
            expected: VERSION,
        });
    }
    let manifest: Manifest = read_json(&path)?;
    manifest.spec.validate()?;
    if manifest.spec.version() > manifest.version {
        return Err(StoreError::Spec {
            field: "tags",
            found: format!("{:?}", manifest.spec.tags),
            expected: "none in version 1 of the format",
        });
    }
    Ok(manifest.spec)
}

/// Makes `dir` a store of `spec`: writes the manifest if there is none, else checks that it is of
/// the same run. Returns the manifest's own specification.
pub(crate) fn claim(dir: &Path, spec: &StoreSpec) -> Result<StoreSpec, StoreError> {
    let path = manifest_path(dir);
    let present = path.try_exists().map_err(|source| ArtifactError::Read {
        path: path.clone(),
        source,
    })?;
    if !present {
        let manifest = Manifest {
            format: FORMAT.into(),
            version: spec.version(),
            spec: spec.clone(),
        };
        write_json_atomic(&path, &manifest)?;
    }
    let found = read_manifest(dir)?;
    match spec.difference(&found) {
        None => Ok(found),
        Some((what, expected, found)) => Err(StoreError::OtherRun {
            dir: dir.to_path_buf(),
            what,
            expected,
            found,
        }),
    }
}

#[cfg(test)]
mod tests {
    use diffrep_artifact::read_bytes;

    use super::*;

    fn spec() -> StoreSpec {
        StoreSpec {
            columns: vec![ColumnSpec::new("a", 3), ColumnSpec::new("b", 1)],
            dtype: FeatureDtype::F32,
            tags: Vec::new(),
            samples: 10,
            shard_rows: 4,
            key: "k".into(),
            info: Value::Null,
            contract: 1,
        }
    }

    #[test]
    fn shards_cover_every_row_once() {
        let ranges: Vec<_> = spec()
            .shards()
            .map(|range| (range.start, range.end))
            .collect();
        assert_eq!(ranges, [(0, 4), (4, 8), (8, 10)]);
        let one = StoreSpec {
            shard_rows: usize::MAX,
            ..spec()
        };
        assert_eq!(
            one.shards().map(|range| range.rows()).collect::<Vec<_>>(),
            [10]
        );
        assert!(shard_path(Path::new("x"), 7).ends_with("shard-00007.safetensors"));
        assert_eq!(shard_number("shard-00007.safetensors"), Some(7));
        assert_eq!(shard_number("shard-123456.safetensors"), Some(123_456));
        for other in [
            "shard-7.safetensors",
            "shard-+0007.safetensors",
            "shard-00007.lock",
        ] {
            assert_eq!(shard_number(other), None);
        }
    }

    #[test]
    fn every_fault_is_named() {
        let with = |change: fn(&mut StoreSpec)| {
            let mut spec = spec();
            change(&mut spec);
            match spec.validate() {
                Err(StoreError::Spec { field, .. }) => field,
                other => panic!("{other:?}"),
            }
        };
        assert!(spec().validate().is_ok());
        assert_eq!(with(|spec| spec.columns.clear()), "columns");
        assert_eq!(with(|spec| spec.samples = 0), "samples");
        assert_eq!(with(|spec| spec.shard_rows = 0), "shard_rows");
        assert_eq!(with(|spec| spec.key.clear()), "key");
        assert_eq!(
            with(|spec| spec.columns[1].name = "a".into()),
            "column name"
        );
        assert_eq!(
            with(|spec| spec.columns[1].name = "ids".into()),
            "column name"
        );
        assert_eq!(with(|spec| spec.tags = vec!["ids".into()]), "tag");
        assert_eq!(with(|spec| spec.tags = vec!["a".into()]), "column name");
        assert_eq!(with(|spec| spec.columns[1].dim = 0), "dim");
        assert_eq!(with(|spec| spec.columns[1].dim = usize::MAX), "shard size");
    }

    #[test]
    fn only_the_same_run_may_claim_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        claim(dir.path(), &spec()).unwrap();
        let manifest = read_bytes(manifest_path(dir.path())).unwrap();
        let changes: [fn(&mut StoreSpec); 9] = [
            |spec| spec.tags = vec!["draw".into()],
            |spec| spec.key = "other".into(),
            |spec| spec.contract = 2,
            |spec| spec.samples = 11,
            |spec| spec.dtype = FeatureDtype::F16,
            |spec| spec.shard_rows = 5,
            |spec| spec.columns[0].dim = 4,
            |spec| spec.columns[0].meta = 0.1.into(),
            |spec| spec.columns.swap(0, 1),
        ];
        for change in changes {
            let mut other = spec();
            change(&mut other);
            let error = claim(dir.path(), &other).unwrap_err();
            assert!(matches!(error, StoreError::OtherRun { .. }), "{error:?}");
            assert!(
                error
                    .to_string()
                    .contains("choose another folder or delete it")
            );
        }
        let told = StoreSpec {
            info: serde_json::json!({"encoder": "one", "seed": 0}),
            ..spec()
        };
        let folder = tempfile::tempdir().unwrap();
        claim(folder.path(), &told).unwrap();
        let other = StoreSpec {
            key: "other".into(),
            info: serde_json::json!({"encoder": "one", "seed": 7}),
            ..spec()
        };
        let error = claim(folder.path(), &other).unwrap_err().to_string();
        assert!(error.contains("`seed` is 0, this run needs 7"), "{error}");
        let informed = StoreSpec {
            info: "later".into(),
            ..spec()
        };
        assert_eq!(claim(dir.path(), &informed).unwrap(), spec());
        assert_eq!(read_bytes(manifest_path(dir.path())).unwrap(), manifest);
    }

    #[test]
    fn floats_in_the_information_do_not_make_another_run() {
        let dir = tempfile::tempdir().unwrap();
        let mut precise = spec();
        precise.columns[0].meta = serde_json::json!([0.1 + 0.2, 1e-7 / 3.0, 5e-324, 1e22 / 7.0]);
        claim(dir.path(), &precise).unwrap();
        claim(dir.path(), &precise).unwrap();
    }

    #[test]
    fn only_stores_with_tags_need_the_newer_version() {
        let version_of = |spec: &StoreSpec| {
            let dir = tempfile::tempdir().unwrap();
            claim(dir.path(), spec).unwrap();
            let path = manifest_path(dir.path());
            let manifest: serde_json::Value = read_json(&path).unwrap();
            assert_eq!(
                manifest["spec"].get("tags").is_some(),
                !spec.tags.is_empty()
            );
            // What is there is found again.
            assert_eq!(&claim(dir.path(), spec).unwrap(), spec);
            manifest["version"].clone()
        };
        let tagged = StoreSpec {
            tags: vec!["draw".into(), "flip".into()],
            ..spec()
        };
        assert_eq!(version_of(&spec()), 1);
        assert_eq!(version_of(&tagged), 2);

        let dir = tempfile::tempdir().unwrap();
        let lie = serde_json::json!({"format": FORMAT, "version": 1, "spec": tagged});
        write_json_atomic(manifest_path(dir.path()), &lie).unwrap();
        let error = read_manifest(dir.path()).unwrap_err().to_string();
        assert!(error.contains("none in version 1"), "{error}");
    }

    #[test]
    fn another_version_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let manifest = serde_json::json!({"format": FORMAT, "version": 7, "what": "ever"});
        write_json_atomic(manifest_path(dir.path()), &manifest).unwrap();
        let error = read_manifest(dir.path()).unwrap_err();
        assert!(matches!(
            error,
            StoreError::Format {
                found: 7,
                expected: VERSION,
                ..
            }
        ));
    }
}
