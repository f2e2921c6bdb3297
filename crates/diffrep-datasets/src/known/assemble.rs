//! From a listing to a data set: counts, missing files, identities.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{Completeness, KnownDataset, Partial};
use crate::dataset::{Origin, Source};
use crate::error::io_error;
use crate::names::{id_of, safe_name};
use crate::open::require_folder;
use crate::{Dataset, DatasetError, Split};

/// What the annotation files of a data set say about one split.
pub(super) struct Listing {
    /// The file that lists the samples.
    pub(super) list: PathBuf,
    /// The folder of images.
    pub(super) root: PathBuf,
    /// Names by label.
    pub(super) class_names: Vec<String>,
    /// What the data set itself calls the classes, or nothing.
    pub(super) class_ids: Vec<String>,
    /// Path below `root` and label of each sample.
    pub(super) samples: Vec<(String, u32)>,
}

/// What was asked for.
pub(super) struct Request {
    pub(super) known: KnownDataset,
    pub(super) split: Split,
    pub(super) completeness: Completeness,
}

impl Request {
    /// Checks a listing and makes the data set of the files that are there.
    pub(super) fn assemble(&self, listing: Listing) -> Result<Dataset, DatasetError> {
        let Listing {
            list,
            root,
            class_names,
            class_ids,
            mut samples,
        } = listing;
        self.require_classes(&list, class_names.len())?;
        self.require_count(&list, samples.len())?;
        let mut names = HashSet::new();
        if let Some((name, _)) = samples.iter().find(|(name, _)| !names.insert(name)) {
            return Err(incomplete(&list, format!("it lists {name:?} twice")));
        }
        self.require_even_classes(&list, samples.iter().map(|(_, label)| *label))?;
        self.keep_present(&root, &mut samples)?;

        let (names, labels): (Vec<String>, Vec<u32>) = samples.into_iter().unzip();
        let ids: Vec<u64> = names.iter().map(|name| id_of(name)).collect();
        if let Some(id) = crate::dataset::duplicate(&ids) {
            return Err(DatasetError::DuplicateId { path: root, id });
        }
        // A link in an unpacked archive may lead anywhere, so links out of the folder are not followed.
        let root = fs::canonicalize(&root).map_err(io_error(&root, "opened"))?;
        let source = Source::Listed { root, names };
        let dataset = Dataset::from_parts(self.split, class_names.into(), labels, ids, source);
        Ok(self.with_origin(dataset, class_ids))
    }

    /// Checks a data set that was opened by another way.
    pub(super) fn finish(
        &self,
        path: &Path,
        dataset: Dataset,
        class_ids: Vec<String>,
    ) -> Result<Dataset, DatasetError> {
        self.require_classes(path, dataset.class_names().len())?;
        self.require_count(path, dataset.len())?;
        self.require_even_classes(path, dataset.labels().iter().copied())?;
        Ok(self.with_origin(dataset, class_ids))
    }

    fn expected(&self) -> usize {
        let expected = self.known.expected(self.split);
        expected.expect("validation was refused before")
    }

    /// Labels would mean other classes if one were missing, so this holds for partial data as well.
    fn require_classes(&self, path: &Path, found: usize) -> Result<(), DatasetError> {
        let expected = self.known.classes();
        if found == expected {
            return Ok(());
        }
        let title = self.known.title();
        let problem = format!("it gives {found} classes, and {title} has {expected}");
        Err(incomplete(path, problem))
    }

    fn require_count(&self, path: &Path, found: usize) -> Result<(), DatasetError> {
        let expected = self.expected();
        let fewer = found < expected && found > 0;
        if found == expected || (fewer && self.completeness == Completeness::AllowPartial) {
            return Ok(());
        }
        Err(DatasetError::WrongCount {
            path: path.to_path_buf(),
            known: self.known.title(),
            split: self.split,
            expected,
            found,
        })
    }

    /// Tells the official split from another of the same size, where its classes are of one size.
    fn require_even_classes(
        &self,
        path: &Path,
        labels: impl Iterator<Item = u32>,
    ) -> Result<(), DatasetError> {
        let facts = self.known.facts();
        let part = match self.split {
            Split::Train => &facts.train,
            _ => &facts.test,
        };
        let Some(expected) = part.per_class else {
            return Ok(());
        };
        let mut counts = vec![0_usize; facts.classes];
        for label in labels {
            counts[label as usize] += 1;
        }
        let fits = |count: usize| match self.completeness {
            Completeness::Full => count == expected,
            Completeness::AllowPartial => count <= expected,
        };
        match counts.iter().position(|&count| !fits(count)) {
            None => Ok(()),
            Some(label) => Err(incomplete(
                path,
                format!(
                    "the class of label {label} has {} images in the {} split, and each has {expected} officially",
                    counts[label], self.split
                ),
            )),
        }
    }

    fn keep_present(
        &self,
        root: &Path,
        samples: &mut Vec<(String, u32)>,
    ) -> Result<(), DatasetError> {
        let present: Vec<bool> = samples
            .par_iter()
            .map(|(name, _)| root.join(name).is_file())
            .collect();
        let missing = present.iter().filter(|&&present| !present).count();
        if missing == 0 {
            return Ok(());
        }
        if self.completeness == Completeness::Full || missing == samples.len() {
            let first = present.iter().position(|&present| !present);
            return Err(DatasetError::MissingImages {
                path: root.join(&samples[first.expect("one is missing")].0),
                known: self.known.title(),
                split: self.split,
                missing,
                expected: self.expected(),
            });
        }
        let mut present = present.into_iter();
        samples.retain(|_| present.next() == Some(true));
        Ok(())
    }

    fn with_origin(&self, dataset: Dataset, class_ids: Vec<String>) -> Dataset {
        let (expected, found) = (self.expected(), dataset.len());
        let partial = (found < expected).then_some(Partial { expected, found });
        dataset.with_origin(Origin {
            known: self.known,
            class_ids,
            partial,
        })
    }
}

/// The first folder that holds one of the files or folders by which the data set is known: `path` itself, else one of
/// `below`, which are relative to it.
pub(super) fn locate(
    known: KnownDataset,
    path: &Path,
    below: &[&str],
    marks: &[&str],
) -> Result<PathBuf, DatasetError> {
    require_folder(path)?;
    std::iter::once(path.to_path_buf())
        .chain(below.iter().map(|folder| path.join(folder)))
        .find(|folder| marks.iter().any(|mark| folder.join(mark).exists()))
        .ok_or_else(|| DatasetError::NotThisDataset {
            path: path.to_path_buf(),
            known: known.title(),
            expected: format!("{} in it or in {}", marks.join(" or "), below.join(" or ")),
        })
}

/// The first of several relative paths that exists, or the error that none does.
pub(super) fn first_existing(root: &Path, names: &[&str]) -> Result<PathBuf, DatasetError> {
    let mut paths = names.iter().map(|name| root.join(name));
    paths
        .find(|path| path.exists())
        .ok_or_else(|| incomplete(root, format!("it has no {}", names.join(" or "))))
}

/// A file name from a list, which must be safe and without folders.
pub(super) fn plain_name(list: &Path, name: &str) -> Result<String, DatasetError> {
    let safe = safe_name(list, name)?;
    if safe == name && !name.contains('/') {
        return Ok(safe);
    }
    let problem = format!("it names {name:?}, expected a file name without folders");
    Err(incomplete(list, problem))
}

pub(super) fn incomplete(path: &Path, problem: impl Into<String>) -> DatasetError {
    DatasetError::Incomplete {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}
