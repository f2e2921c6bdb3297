//! How much room a disk has, and flushing all of it.

use std::path::Path;

use crate::FetchError;

/// Refuses to begin what cannot end: `needed` more bytes for `path`.
pub(crate) fn ensure(path: &Path, needed: u64) -> Result<(), FetchError> {
    match path.parent().and_then(available) {
        Some(available) if available < needed => Err(FetchError::NoRoom {
            path: path.into(),
            needed,
            available,
        }),
        _ => Ok(()),
    }
}

/// The bytes that this user may still write to the disk of `folder`, if the system tells.
#[cfg(unix)]
fn available(folder: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(folder).ok()?;
    disk.f_bavail.checked_mul(disk.f_frsize)
}

/// Not asked on this system: writing then fails when the disk is full.
#[cfg(not(unix))]
fn available(_folder: &Path) -> Option<u64> {
    None
}

/// Brings everything below `folder` to the device, with one call for thousands of small files.
#[cfg(target_os = "linux")]
pub(crate) fn flush(folder: &Path) -> std::io::Result<()> {
    let folder = std::fs::File::open(folder)?;
    Ok(rustix::fs::syncfs(folder)?)
}

/// There is no such call on this system; a power cut just after unpacking may lose files.
#[cfg(not(target_os = "linux"))]
pub(crate) fn flush(_folder: &Path) -> std::io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_disk_has_room_for_everything() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        ensure(&path, 1).unwrap();
        let error = ensure(&path, u64::MAX);
        if cfg!(unix) {
            assert!(matches!(error, Err(FetchError::NoRoom { .. })), "{error:?}");
        }
        flush(dir.path()).unwrap();
    }
}
