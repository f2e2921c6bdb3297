//! Images drawn into one `.npz` file, which appears when all of them are there.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use diffrep_artifact::{Lock, create_dir_all, write_bytes_atomic};
use diffrep_fid::{ImageFile, write_images};
use serde::{Deserialize, Serialize};

use super::draw::{Determines, Drawing, picture, read};
use crate::commands::pretrain::grid_png;
use crate::printer::Printer;

/// What the file says of its images.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    determines: Determines,
    device: String,
    /// The number of the first image.
    first: u64,
}

/// Whether images go to a file.
pub(super) fn is_archive(out: &Path) -> bool {
    out.extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("npz"))
}

/// Draws those of the images that are in neither the file nor the folder beside it, writes the file, and says
/// how many were drawn.
pub(crate) fn fill(
    drawing: &Drawing<'_>,
    path: &Path,
    wanted: Range<u64>,
    printer: Printer,
) -> Result<u64> {
    let parts = beside(path);
    let before = match path.exists() {
        true => Some(open(drawing, path)?),
        false => None,
    };
    // A file never loses images: it keeps what it has, and grows at an end.
    let wanted = match &before {
        None => wanted,
        Some((_, there)) if there.start <= wanted.start && wanted.end <= there.end => return Ok(0),
        Some((_, there)) if there.end < wanted.start || wanted.end < there.start => bail!(
            "{} holds the images {} to {}, which do not adjoin {} to {}: choose another --out",
            path.display(),
            there.start,
            there.end - 1,
            wanted.start,
            wanted.end - 1
        ),
        Some((_, there)) => there.start.min(wanted.start)..there.end.max(wanted.end),
    };
    create_dir_all(&parts)?;
    let lock = Lock::acquire(&parts)?;
    if let Some((file, there)) = before {
        unpack(drawing, &file, there.start, &wanted, &parts)?;
    }
    let drawn = drawing.fill(&parts, wanted.clone(), printer)?;
    let labels: Option<Vec<i64>> = wanted
        .clone()
        .map(|id| drawing.label(id).map(i64::from))
        .collect();
    let note = serde_json::to_string(&Note {
        determines: drawing.determines(),
        device: drawing.spec.to_string(),
        first: wanted.start,
    })?;
    let [_, size, _] = drawing.options.shape;
    let shape = [(wanted.end - wanted.start) as usize, size, size];
    let pixels = |place: usize| {
        // The evaluator's network reads three channels.
        let image = read(&picture(&parts, wanted.start + place as u64))?.into_rgb8();
        Ok::<_, anyhow::Error>(image.into_raw())
    };
    write_images(path, shape, labels.as_deref(), Some(&note), pixels)?;
    drop(lock);
    std::fs::remove_dir_all(&parts).with_context(|| {
        format!(
            "{} is whole and {} not needed any more, but it cannot be deleted",
            path.display(),
            parts.display()
        )
    })?;
    Ok(drawn)
}

/// The folder in which the images of a file lie until it is whole.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".parts");
    path.with_file_name(name)
}

/// A file of these images, with the numbers of those that it holds; others are refused.
fn open(drawing: &Drawing<'_>, path: &Path) -> Result<(ImageFile, Range<u64>)> {
    let file = ImageFile::open(path)?;
    let Some(note) = file.note() else {
        bail!(
            "{} holds images of another origin: choose another --out",
            path.display()
        );
    };
    let note: Note = serde_json::from_str(note)
        .with_context(|| format!("{} does not say how its images were drawn", path.display()))?;
    if let Some(differs) = drawing.determines().differences(&note.determines)? {
        bail!(
            "{} holds images drawn otherwise: {differs}; choose another --out",
            path.display()
        );
    }
    let there = note.first..note.first + file.count() as u64;
    Ok((file, there))
}

/// Those images of a file that are wanted again, as pictures in a folder.
fn unpack(
    drawing: &Drawing<'_>,
    file: &ImageFile,
    first: u64,
    wanted: &Range<u64>,
    parts: &Path,
) -> Result<()> {
    let [channels, size, _] = drawing.options.shape;
    file.for_each(64, |batch| {
        let images = batch.pixels.chunks_exact(batch.height * batch.width * 3);
        for (place, image) in images.enumerate() {
            let id = first + (batch.first + place) as u64;
            let target = picture(parts, id);
            if !wanted.contains(&id) || target.exists() {
                continue;
            }
            let image: Vec<u8> = match channels {
                1 => image.iter().step_by(3).copied().collect(),
                _ => image.to_vec(),
            };
            write_bytes_atomic(target, &grid_png(&[image], 1, size, channels)?)?;
        }
        Ok::<_, anyhow::Error>(())
    })
}
