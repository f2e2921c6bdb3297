//! WebDataset: tar shards in which adjacent files with a common key make a sample.
//!
//! The key is the path up to the first dot of the file name, and what follows is the field. A sample has one image
//! (`.jpg`, `.png`, ...) and its label in decimal digits (`.cls`); other fields are passed over.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diffrep_artifact::read_bytes;
use rayon::prelude::*;

use crate::archive::{Archive, Member};
use crate::dataset::{Source, duplicate};
use crate::error::io_error;
use crate::list_files::MOST_CLASSES;
use crate::names::{id_of, is_image, split_in};
use crate::tar::{Entry, entries};
use crate::{Dataset, DatasetError, Split};

/// The most shards that one name with braces may stand for.
const MOST_SHARDS: usize = 100_000;

/// The most bytes of a label.
const LONGEST_LABEL: u64 = 32;

/// The names of the classes, one in each line, beside the shards or beside the folders of the splits.
const CLASS_NAMES: &str = "classnames.txt";

/// The shards of each split.
pub(crate) struct Shards {
    folder: PathBuf,
    pub(crate) splits: Vec<(Split, Vec<PathBuf>)>,
}

/// The shards in a folder, or in its folders `train`, `val` and `test`; none if there is no tar file.
///
/// The split is the one that a file name or folder mentions. Shards that mention none are for training, if no other
/// shard does.
pub(crate) fn in_folder(folder: &Path) -> Result<Option<Shards>, DatasetError> {
    let mut splits: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
    let mut unnamed = Vec::new();
    for path in tar_files(folder)? {
        match split_in(&file_name(&path)) {
            Some(split) => splits.entry(split as usize).or_default().push(path),
            None => unnamed.push(path),
        }
    }
    if splits.is_empty() && unnamed.is_empty() {
        for name in ["train", "val", "validation", "valid", "test"] {
            let inner = folder.join(name);
            let split = split_in(name).expect("each is the name of a split");
            if inner.is_dir() {
                let shards = tar_files(&inner)?;
                if !shards.is_empty() {
                    splits.entry(split as usize).or_default().extend(shards);
                }
            }
        }
    }
    if let (false, Some(path)) = (splits.is_empty(), unnamed.first()) {
        return Err(DatasetError::Incomplete {
            path: path.clone(),
            problem: "its name mentions no split, unlike other shards; name it like train, val or test, or move it away".to_owned(),
        });
    }
    if !unnamed.is_empty() {
        splits.insert(Split::Train as usize, unnamed);
    }
    let splits: Vec<_> = splits
        .into_iter()
        .map(|(split, paths)| (Split::ALL[split], paths))
        .collect();
    Ok((!splits.is_empty()).then(|| Shards {
        folder: folder.to_path_buf(),
        splits,
    }))
}

/// The shards that one path stands for: a tar file, or several by a range in braces, `name-{000..146}.tar`.
///
/// Nothing if the path does not end in `.tar`.
pub(crate) fn by_name(path: &Path) -> Result<Option<Shards>, DatasetError> {
    let name = file_name(path);
    if !name.ends_with(".tar") || path.is_dir() {
        return Ok(None);
    }
    let names = expand(&name).map_err(|problem| DatasetError::Incomplete {
        path: path.to_path_buf(),
        problem,
    })?;
    let folder = path.parent().unwrap_or(Path::new("")).to_path_buf();
    let paths: Vec<PathBuf> = names.iter().map(|name| folder.join(name)).collect();
    for path in &paths {
        fs::metadata(path).map_err(io_error(path, "opened"))?;
    }
    let split = split_in(&name).unwrap_or(Split::Train);
    Ok(Some(Shards {
        folder,
        splits: vec![(split, paths)],
    }))
}

/// Opens a split, which must exist.
///
/// Without names of classes the shards of every split are read for the highest label, so that all splits agree.
pub(crate) fn open(shards: &Shards, split: Split) -> Result<Dataset, DatasetError> {
    let paths = |wanted| {
        let found = shards.splits.iter().find(|(split, _)| *split == wanted);
        found.map_or(&[][..], |(_, paths)| paths.as_slice())
    };
    let named = class_names(shards)?;
    let samples = read_shards(paths(split))?;
    let class_names: Arc<[String]> = match named {
        Some(names) => names.into(),
        None => {
            let mut highest = highest(&samples);
            for (other, paths) in &shards.splits {
                if *other != split {
                    highest = highest.max(self::highest(&read_shards(paths)?));
                }
            }
            (0..=highest).map(|label| label.to_string()).collect()
        }
    };
    assemble(paths(split), split, class_names, samples)
}

fn assemble(
    paths: &[PathBuf],
    split: Split,
    class_names: Arc<[String]>,
    samples: Vec<Vec<Sample>>,
) -> Result<Dataset, DatasetError> {
    let (mut labels, mut members) = (Vec::new(), Vec::new());
    for (archive, samples) in samples.into_iter().enumerate() {
        let shard = file_name(&paths[archive]);
        for (position, sample) in samples.into_iter().enumerate() {
            if sample.label as usize >= class_names.len() {
                return Err(DatasetError::LabelRange {
                    path: paths[archive].clone(),
                    position,
                    label: sample.label,
                    classes: class_names.len(),
                });
            }
            labels.push(sample.label);
            members.push(Member {
                archive,
                offset: sample.image.offset,
                len: sample.image.len,
                name: format!("{shard}/{}", sample.image.name),
                inside: sample.image.name,
            });
        }
    }
    let ids: Vec<u64> = members.iter().map(|member| id_of(&member.name)).collect();
    let first = paths.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
    if members.is_empty() {
        return Err(DatasetError::Incomplete {
            path: first.to_path_buf(),
            problem: "no shard holds a sample: expected images with a .cls file of the same key"
                .to_owned(),
        });
    }
    if let Some(id) = duplicate(&ids) {
        return Err(DatasetError::DuplicateId {
            path: first.to_path_buf(),
            id,
        });
    }
    let archive = Archive::new(paths.to_vec(), members)?;
    Ok(Dataset::from_parts(
        split,
        class_names,
        labels,
        ids,
        Source::Archive(archive),
    ))
}

struct Sample {
    image: Entry,
    label: u32,
}

/// The samples of each shard; shards are read in parallel.
fn read_shards(paths: &[PathBuf]) -> Result<Vec<Vec<Sample>>, DatasetError> {
    paths.par_iter().map(|path| read_shard(path)).collect()
}

fn read_shard(path: &Path) -> Result<Vec<Sample>, DatasetError> {
    let mut file = File::open(path).map_err(io_error(path, "opened"))?;
    let len = file.metadata().map_err(io_error(path, "examined"))?.len();
    let mut samples = Vec::new();
    let mut group = Group::default();
    for entry in entries(path, &file, 0..len)? {
        let Some((key, field)) = key_and_field(&entry.name) else {
            continue;
        };
        if key != group.key {
            let key = key.to_owned();
            samples.extend(std::mem::take(&mut group).sample(path, &mut file)?);
            group.key = key;
        }
        let slot = match field.as_str() {
            "cls" => &mut group.label,
            field if is_image(&format!("x.{field}")) => &mut group.image,
            _ => continue,
        };
        if let Some(before) = slot.replace(entry) {
            return Err(broken(
                path,
                before.offset,
                format!("the sample {:?} has two images or two labels", group.key),
            ));
        }
    }
    samples.extend(group.sample(path, &mut file)?);
    Ok(samples)
}

/// The files of one sample.
#[derive(Default)]
struct Group {
    key: String,
    image: Option<Entry>,
    label: Option<Entry>,
}

impl Group {
    /// The sample, if there is any; half of one is an error, for a label must not be lost unnoticed.
    fn sample(self, path: &Path, file: &mut File) -> Result<Option<Sample>, DatasetError> {
        match (self.image, self.label) {
            (Some(image), Some(label)) => {
                let label = read_label(path, file, &label)?;
                Ok(Some(Sample { image, label }))
            }
            (None, None) => Ok(None),
            (Some(image), None) => Err(broken(
                path,
                image.offset,
                format!(
                    "the sample {:?} has an image but no label (.cls) beside it",
                    self.key
                ),
            )),
            (None, Some(label)) => Err(broken(
                path,
                label.offset,
                format!(
                    "the sample {:?} has a label but no image beside it",
                    self.key
                ),
            )),
        }
    }
}

fn read_label(path: &Path, file: &mut File, entry: &Entry) -> Result<u32, DatasetError> {
    let mut text = String::new();
    file.seek(SeekFrom::Start(entry.offset))
        .map_err(io_error(path, "read"))?;
    file.take(entry.len.min(LONGEST_LABEL))
        .read_to_string(&mut text)
        .map_err(io_error(path, "read"))?;
    let label = text
        .trim()
        .parse()
        .ok()
        .filter(|&label| entry.len <= LONGEST_LABEL && label < MOST_CLASSES);
    label.ok_or_else(|| {
        broken(
            path,
            entry.offset,
            format!(
                "{} holds {text:?}, expected a label from 0 to {} in decimal digits",
                entry.name,
                MOST_CLASSES - 1
            ),
        )
    })
}

/// The key with its folder, and the field in lower case; nothing for metadata and for names without a dot.
fn key_and_field(name: &str) -> Option<(&str, String)> {
    let start = name.rfind('/').map_or(0, |slash| slash + 1);
    let base = &name[start..];
    let dot = base.find('.')?;
    if base.starts_with("__") || dot == 0 {
        return None;
    }
    Some((&name[..start + dot], base[dot + 1..].to_ascii_lowercase()))
}

fn highest(samples: &[Vec<Sample>]) -> u32 {
    samples
        .iter()
        .flatten()
        .map(|sample| sample.label)
        .max()
        .unwrap_or(0)
}

fn class_names(shards: &Shards) -> Result<Option<Vec<String>>, DatasetError> {
    let path = shards.folder.join(CLASS_NAMES);
    if !path.is_file() {
        return Ok(None);
    }
    let text = String::from_utf8(read_bytes(&path)?).map_err(|_| DatasetError::Incomplete {
        path,
        problem: "it is not valid UTF-8".to_owned(),
    })?;
    Ok(Some(
        text.lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| !line.is_empty())
            .collect(),
    ))
}

/// The sorted tar files in a folder.
fn tar_files(folder: &Path) -> Result<Vec<PathBuf>, DatasetError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(io_error(folder, "listed"))? {
        let path = entry.map_err(io_error(folder, "listed"))?.path();
        let name = file_name(&path);
        if name.ends_with(".tar") && !name.starts_with('.') && path.is_file() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The names that a range in braces stands for; a name without braces stands for itself.
fn expand(name: &str) -> Result<Vec<String>, String> {
    let Some((before, rest)) = name.split_once('{') else {
        return Ok(vec![name.to_owned()]);
    };
    let expected = || "expected one range such as {000..146}".to_owned();
    let (range, after) = rest.split_once('}').ok_or_else(expected)?;
    let (first, last) = range.split_once("..").ok_or_else(expected)?;
    if after.contains('{') || last.len() < first.len() {
        return Err(expected());
    }
    let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<usize>().ok(),
        false => None,
    };
    let (low, high) = number(first).zip(number(last)).ok_or_else(expected)?;
    if high < low || high - low >= MOST_SHARDS {
        return Err(format!(
            "the range in braces must ascend and stand for at most {MOST_SHARDS} shards"
        ));
    }
    let width = first.len();
    Ok((low..=high)
        .map(|shard| format!("{before}{shard:0width$}{after}"))
        .collect())
}

fn broken(path: &Path, offset: u64, problem: String) -> DatasetError {
    DatasetError::Archive {
        path: path.to_path_buf(),
        offset,
        problem,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn braces_stand_for_every_number_of_the_range() {
        assert_eq!(
            expand("a-{08..11}.tar").unwrap(),
            ["a-08.tar", "a-09.tar", "a-10.tar", "a-11.tar"]
        );
        assert_eq!(expand("a.tar").unwrap(), ["a.tar"]);
        for name in [
            "{1}.tar",
            "{1..x}.tar",
            "{2..1}.tar",
            "{1..2}{1..2}.tar",
            "{0..999999999}.tar",
            "{1..2.tar",
        ] {
            assert!(expand(name).is_err(), "{name}");
        }
    }

    #[test]
    fn a_key_ends_at_the_first_dot_of_the_file_name() {
        assert_eq!(
            key_and_field("a.b/c.seg.PNG"),
            Some(("a.b/c", "seg.png".to_owned()))
        );
        assert_eq!(key_and_field("a/__meta.json"), None);
        assert_eq!(key_and_field("a/README"), None);
    }
}
