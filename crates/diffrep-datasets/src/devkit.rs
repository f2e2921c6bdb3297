//! The development kit of ILSVRC 2012: the classes, and the classes of the validation images.

use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use diffrep_artifact::read_bytes;
use flate2::read::MultiGzDecoder;

use crate::error::io_error;
use crate::mat::MatFile;
use crate::tar::entries;
use crate::{DatasetError, IlsvrcClasses};

const NAME: &str = "ILSVRC2012_devkit_t12";
const META: &str = "data/meta.mat";
const TRUTH: &str = "data/ILSVRC2012_validation_ground_truth.txt";

/// The most bytes that the packed kit may unpack to; the real one has some 3 million.
const LARGEST: u64 = 64 << 20;

/// What the kit says.
pub(crate) struct Devkit {
    /// The file that the classes of the validation images were read from.
    pub(crate) path: PathBuf,
    /// The wnids of the classes, sorted: the label is the rank.
    pub(crate) wnids: Vec<String>,
    /// The label of each validation image, in the order of their numbers.
    pub(crate) validation: Vec<u32>,
}

/// Reads the kit in a folder, unpacked or not; nothing if there is none.
pub(crate) fn open(folder: &Path) -> Result<Option<Devkit>, DatasetError> {
    let unpacked = folder.join(NAME);
    let packed = folder.join(format!("{NAME}.tar.gz"));
    if unpacked.is_dir() {
        let (meta, truth) = (unpacked.join(META), unpacked.join(TRUTH));
        let contents = (read_bytes(&meta)?, read_bytes(&truth)?);
        return Ok(Some(parse(&meta, &contents.0, truth, &contents.1)?));
    }
    if packed.is_file() {
        return Ok(Some(read_packed(&packed)?));
    }
    Ok(None)
}

fn read_packed(path: &Path) -> Result<Devkit, DatasetError> {
    let file = fs::File::open(path).map_err(io_error(path, "opened"))?;
    let mut bytes = Vec::new();
    MultiGzDecoder::new(file)
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(io_error(path, "decompressed"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(incomplete(
            path,
            format!("it unpacks to more than {LARGEST} bytes"),
        ));
    }
    let members = entries(path, Cursor::new(&bytes), 0..bytes.len() as u64)?;
    let member = |name: &str| {
        let name = format!("{NAME}/{name}");
        let entry = members.iter().find(|entry| entry.name == name);
        let entry = entry.ok_or_else(|| incomplete(path, format!("it lacks {name}")))?;
        Ok::<_, DatasetError>(&bytes[entry.offset as usize..][..entry.len as usize])
    };
    parse(
        &path.join(META),
        member(META)?,
        path.join(TRUTH),
        member(TRUTH)?,
    )
}

fn parse(
    meta_path: &Path,
    meta: &[u8],
    truth_path: PathBuf,
    truth: &[u8],
) -> Result<Devkit, DatasetError> {
    let classes = IlsvrcClasses::of(meta_path, &MatFile::from_bytes(meta_path, meta)?)?;
    let text =
        std::str::from_utf8(truth).map_err(|_| incomplete(&truth_path, "it is not valid UTF-8"))?;
    let mut validation = Vec::new();
    for (index, line) in text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
    {
        let number = line.trim().parse().ok();
        let label = number.and_then(|number| classes.label(number));
        validation.push(label.ok_or_else(|| DatasetError::List {
            path: truth_path.clone(),
            line: index + 1,
            problem: format!("{:?} is not the number of a class in {META}", line.trim()),
        })?);
    }
    Ok(Devkit {
        path: truth_path,
        wnids: classes.wnids().to_vec(),
        validation,
    })
}

fn incomplete(path: &Path, problem: impl Into<String>) -> DatasetError {
    DatasetError::Incomplete {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}
