//! All files of an asset, one after the other, into one folder.

use std::fs;
use std::path::{Component, Path, PathBuf};

use diffrep_artifact::{Lock, create_dir_all};

use crate::check::{Checked, check};
use crate::download::download;
use crate::error::io_error;
use crate::unpack::{is_unpacked, unpack};
use crate::{Asset, FetchError, Options, Progress, RemoteFile, Source};

/// What to do about a file that lies in the folder but is not the published one.
const REMOVE: &str = "remove it to have it downloaded again, or choose another folder";

/// What was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The folder in which everything lies.
    pub folder: PathBuf,
    /// What became of each file, in the catalogue's order.
    pub files: Vec<FetchedFile>,
}

impl Fetched {
    /// The files that were compared with no published hash, with the hash they have.
    pub fn unverified(&self) -> impl Iterator<Item = (&Path, &Checked)> {
        self.files.iter().filter_map(|file| {
            let checked = file.checked.as_ref()?;
            (!checked.by.is_verified()).then_some((file.path.as_path(), checked))
        })
    }
}

/// What became of one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchedFile {
    /// Where it lies; an archive may be gone after it was unpacked.
    pub path: PathBuf,
    /// Where it came from.
    pub origin: Origin,
    /// Its size, its hash and what they were compared with; `None` for an archive that was
    /// unpacked by an earlier run, which is not read again.
    pub checked: Option<Checked>,
    /// What was unpacked from it by this run.
    pub unpacked: Vec<PathBuf>,
}

/// Where a file came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This run downloaded it, or the rest of it.
    Downloaded,
    /// It was there and is right.
    Present,
    /// What it yields was there, unpacked by an earlier run.
    Unpacked,
}

/// Downloads, checks and unpacks the files of `asset` into `folder`, which is created if absent.
///
/// What is there already and right is left as it is, and what an earlier run began is gone on
/// with. The folder should belong to this asset alone; it is locked meanwhile. `on_progress` is
/// called after every few hundred kilobytes.
///
/// # Errors
///
/// [`FetchError::ByHand`] if the asset has steps instead of files; [`FetchError::Artifact`] with a
/// lock error if another process fetches into the folder; [`FetchError::WrongSize`] and
/// [`FetchError::WrongHash`] if a file is not the published one, be it new or found there; and
/// whatever the host, the network, the disk or an archive does.
pub fn fetch(
    asset: &Asset,
    folder: impl AsRef<Path>,
    options: &Options,
    mut on_progress: impl FnMut(Progress<'_>),
) -> Result<Fetched, FetchError> {
    let folder = folder.as_ref();
    let remotes = match asset.source {
        Source::Files(remotes) => remotes,
        Source::ByHand { steps, .. } => {
            return Err(FetchError::ByHand {
                name: asset.name,
                steps: steps.len(),
            });
        }
    };
    for remote in remotes {
        ensure_plain(remote.file.name)?;
    }
    create_dir_all(folder)?;
    let _lock = Lock::acquire(folder)?;
    let files = remotes
        .iter()
        .map(|remote| fetch_file(remote, folder, options, &mut on_progress))
        .collect::<Result<_, _>>()?;
    Ok(Fetched {
        folder: folder.into(),
        files,
    })
}

/// Compares the files of `asset` that lie in `folder` with what is known about them, however they
/// came there; absent ones are left out.
///
/// # Errors
///
/// [`FetchError::WrongSize`] or [`FetchError::WrongHash`] for the first file that is not the
/// published one, [`FetchError::Io`] if one cannot be read.
pub fn verify(
    asset: &Asset,
    folder: impl AsRef<Path>,
    mut on_progress: impl FnMut(Progress<'_>),
) -> Result<Vec<(PathBuf, Checked)>, FetchError> {
    let mut found = Vec::new();
    for known in asset.known_files() {
        ensure_plain(known.name)?;
        let path = folder.as_ref().join(known.name);
        if path.is_file() {
            let checked = check(&path, &known, REMOVE, &mut on_progress)?;
            found.push((path, checked));
        }
    }
    Ok(found)
}

/// Brings one file into the folder, whose lock is held.
fn fetch_file(
    remote: &RemoteFile,
    folder: &Path,
    options: &Options,
    on_progress: &mut dyn FnMut(Progress<'_>),
) -> Result<FetchedFile, FetchError> {
    let path = folder.join(remote.file.name);
    let plan = remote.unpack;
    if plan.is_some_and(|plan| is_unpacked(folder, &plan)) {
        return Ok(FetchedFile {
            path,
            origin: Origin::Unpacked,
            checked: None,
            unpacked: Vec::new(),
        });
    }
    let (origin, checked) = if path.try_exists().map_err(io_error(&path, "opened"))? {
        let checked = check(&path, &remote.file, REMOVE, on_progress)?;
        (Origin::Present, checked)
    } else {
        let checked = download(remote, &path, options, on_progress)?;
        (Origin::Downloaded, checked)
    };
    let unpacked = match plan {
        Some(plan) => unpack(&path, remote.file.name, &plan, on_progress)?,
        None => Vec::new(),
    };
    if plan.is_some() && !options.keep_archives {
        fs::remove_file(&path).map_err(io_error(&path, "removed"))?;
    }
    Ok(FetchedFile {
        path,
        origin,
        checked: Some(checked),
        unpacked,
    })
}

/// Refuses a name that would lead out of the folder.
fn ensure_plain(name: &str) -> Result<(), FetchError> {
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if only == name => Ok(()),
        _ => Err(FetchError::BadName { name: name.into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_names_are_written() {
        ensure_plain("a.tgz").unwrap();
        for name in ["", ".", "..", "a/b", "/a", "a/", "../a"] {
            assert!(ensure_plain(name).is_err(), "{name}");
        }
    }
}
