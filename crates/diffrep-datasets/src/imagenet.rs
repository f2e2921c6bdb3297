//! ImageNet (ILSVRC 2012) as it is distributed: two archives and a development kit, read in place.
//!
//! The training archive holds an archive for each class; the label is the rank of the class's wnid among all. The
//! validation archive is flat, and the kit says which class each of its images has, by a number of its own that only
//! the kit's table translates to a wnid: the two numberings differ.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::prelude::*;

use crate::archive::{Archive, Member};
use crate::dataset::{Source, duplicate};
use crate::devkit::{self, Devkit};
use crate::error::io_error;
use crate::names::{id_of, is_image};
use crate::tar::{Entry, entries};
use crate::{Dataset, DatasetError, Split};

const TRAIN: &str = "ILSVRC2012_img_train.tar";
const VALIDATION: &str = "ILSVRC2012_img_val.tar";

/// The splits whose archive is in the folder.
pub(crate) fn splits(folder: &Path) -> Vec<Split> {
    [(Split::Train, TRAIN), (Split::Validation, VALIDATION)]
        .into_iter()
        .filter(|(_, name)| folder.join(name).is_file())
        .map(|(split, _)| split)
        .collect()
}

/// Opens a split, which must exist.
///
/// # Errors
///
/// If an archive or the kit is damaged, or the kit is missing for the validation images.
pub(crate) fn open(folder: &Path, split: Split) -> Result<Dataset, DatasetError> {
    let devkit = devkit::open(folder)?;
    match split {
        Split::Train => open_train(&folder.join(TRAIN), devkit),
        _ => match devkit {
            Some(devkit) => open_validation(&folder.join(VALIDATION), &devkit),
            None => Err(DatasetError::Incomplete {
                path: folder.join(VALIDATION),
                problem: "the classes of its images stand in the development kit; put ILSVRC2012_devkit_t12.tar.gz, or the folder that it unpacks to, beside it".to_owned(),
            }),
        },
    }
}

fn open_train(path: &Path, devkit: Option<Devkit>) -> Result<Dataset, DatasetError> {
    let (file, len) = open_file(path)?;
    let mut inner = Vec::new();
    for entry in entries(path, &file, 0..len)? {
        let wnid = entry
            .name
            .strip_suffix(".tar")
            .filter(|wnid| !wnid.contains('/'));
        match wnid {
            Some(wnid) => inner.push((wnid.to_owned(), entry)),
            None => {
                return Err(unexpected(
                    path,
                    &entry,
                    "expected archives named <wnid>.tar",
                ));
            }
        }
    }
    inner.sort_unstable_by(|(wnid, _), (other, _)| wnid.cmp(other));
    let class_names: Arc<[String]> = match devkit {
        Some(devkit) => devkit.wnids.into(),
        None => inner.iter().map(|(wnid, _)| wnid.clone()).collect(),
    };

    // On a disk or network that answers slowly, the threads wait for it together.
    let classes: Vec<Vec<Member>> = inner
        .par_iter()
        .map(|(wnid, outer)| read_class(path, wnid, outer))
        .collect::<Result<_, _>>()?;
    let (mut labels, mut members) = (Vec::new(), Vec::new());
    for ((wnid, outer), class) in inner.iter().zip(classes) {
        let label = class_names.binary_search(wnid);
        let label = label
            .map_err(|_| unexpected(path, outer, "it is not a class of the development kit"))?;
        members.extend(class);
        labels.resize(members.len(), label as u32);
    }
    assemble(path, Split::Train, class_names, labels, members)
}

/// The images in the archive of a class.
fn read_class(path: &Path, wnid: &str, outer: &Entry) -> Result<Vec<Member>, DatasetError> {
    let (file, _) = open_file(path)?;
    let shown = path.join(&outer.name);
    let mut members = Vec::new();
    for entry in entries(&shown, &file, outer.offset..outer.offset + outer.len)? {
        if entry.name.ends_with(".tar") {
            let problem = "an archive in an archive in an archive is not read";
            return Err(unexpected(&shown, &entry, problem));
        }
        members.extend(image(entry, wnid, Some(&outer.name)));
    }
    if members.is_empty() {
        return Err(DatasetError::EmptyClass { path: shown });
    }
    // By name, as in the folders that others unpack.
    members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

fn open_validation(path: &Path, devkit: &Devkit) -> Result<Dataset, DatasetError> {
    let (file, len) = open_file(path)?;
    let mut images: Vec<Entry> = entries(path, &file, 0..len)?
        .into_iter()
        .filter(|entry| is_image(&entry.name))
        .collect();
    images.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if images.len() != devkit.validation.len() {
        return Err(DatasetError::CountMismatch {
            path: devkit.path.clone(),
            images: path.to_path_buf(),
            expected: images.len(),
            found: devkit.validation.len(),
        });
    }
    let (mut labels, mut members) = (Vec::new(), Vec::new());
    for entry in images {
        let number = image_number(&entry.name).filter(|&number| number <= devkit.validation.len());
        let number = number.ok_or_else(|| {
            unexpected(
                path,
                &entry,
                "expected names that end in _00000001.JPEG and so on",
            )
        })?;
        let label = devkit.validation[number - 1];
        labels.push(label);
        members.extend(image(entry, &devkit.wnids[label as usize], None));
    }
    assemble(
        path,
        Split::Validation,
        devkit.wnids.clone().into(),
        labels,
        members,
    )
}

fn assemble(
    path: &Path,
    split: Split,
    class_names: Arc<[String]>,
    labels: Vec<u32>,
    members: Vec<Member>,
) -> Result<Dataset, DatasetError> {
    let ids: Vec<u64> = members.iter().map(|member| id_of(&member.name)).collect();
    if let Some(id) = duplicate(&ids) {
        return Err(DatasetError::DuplicateId {
            path: path.to_path_buf(),
            id,
        });
    }
    if members.is_empty() {
        return Err(DatasetError::Incomplete {
            path: path.to_path_buf(),
            problem: "it holds no image".to_owned(),
        });
    }
    let archive = Archive::new(vec![path.to_path_buf()], members)?;
    Ok(Dataset::from_parts(
        split,
        class_names,
        labels,
        ids,
        Source::Archive(archive),
    ))
}

/// The member of an image, named as it would be in class folders; nothing for another file.
fn image(entry: Entry, wnid: &str, within: Option<&str>) -> Option<Member> {
    is_image(&entry.name).then(|| {
        let base = entry.name.rsplit('/').next().unwrap_or_default();
        Member {
            archive: 0,
            offset: entry.offset,
            len: entry.len,
            name: format!("{wnid}/{base}"),
            inside: match within {
                Some(outer) => format!("{outer}/{}", entry.name),
                None => entry.name,
            },
        }
    })
}

/// The number of a validation image, from 1: the digits before the extension.
fn image_number(name: &str) -> Option<usize> {
    let (stem, _) = name.rsplit_once('.')?;
    let number = stem.rsplit('_').next()?.parse().ok()?;
    (number > 0).then_some(number)
}

fn open_file(path: &Path) -> Result<(File, u64), DatasetError> {
    let file = File::open(path).map_err(io_error(path, "opened"))?;
    let len = file.metadata().map_err(io_error(path, "examined"))?.len();
    Ok((file, len))
}

fn unexpected(path: &Path, entry: &Entry, problem: &str) -> DatasetError {
    DatasetError::Archive {
        path: PathBuf::from(path),
        offset: entry.offset,
        problem: format!("the member {}: {problem}", entry.name),
    }
}
