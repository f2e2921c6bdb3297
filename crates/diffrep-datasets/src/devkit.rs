//! The development kit of ILSVRC 2012: the classes, and the classes of the validation images.

use std::collections::HashMap;
use std::fs;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use diffrep_artifact::read_bytes;
use flate2::read::MultiGzDecoder;

use crate::DatasetError;
use crate::error::io_error;

use crate::mat::{self, MatFile};
use crate::names::safe_name;
use crate::tar::entries;

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
    let classes = read_classes(meta_path, meta)?;
    let mut wnids: Vec<String> = classes.values().cloned().collect();
    wnids.sort_unstable();
    if wnids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(incomplete(meta_path, "two classes have the same wnid"));
    }
    let text =
        std::str::from_utf8(truth).map_err(|_| incomplete(&truth_path, "it is not valid UTF-8"))?;
    let mut validation = Vec::new();
    for (index, line) in text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .enumerate()
    {
        let wnid = line
            .trim()
            .parse()
            .ok()
            .and_then(|id: u64| classes.get(&id));
        let wnid = wnid.ok_or_else(|| DatasetError::List {
            path: truth_path.clone(),
            line: index + 1,
            problem: format!("{:?} is not the number of a class in {META}", line.trim()),
        })?;
        let rank = wnids.binary_search(wnid).expect("every class has a rank");
        validation.push(rank as u32);
    }
    Ok(Devkit {
        path: truth_path,
        wnids,
        validation,
    })
}

/// The wnid of each class by the kit's own number; rows with children are not classes but groups of them.
fn read_classes(path: &Path, meta: &[u8]) -> Result<HashMap<u64, String>, DatasetError> {
    let variables = mat::parse(meta).map_err(|fault| DatasetError::Mat {
        path: path.to_path_buf(),
        fault,
    })?;
    let file = MatFile::new(path, variables);
    let mut classes = HashMap::new();
    for synset in file.records("synsets")? {
        if synset.integer("num_children")? > 0 {
            continue;
        }
        let id = synset.integer("ILSVRC2012_ID")?;
        let wnid = safe_name(path, synset.text("WNID")?)?;
        if classes.insert(id, wnid).is_some() {
            return Err(incomplete(
                path,
                format!("two classes have the number {id}"),
            ));
        }
    }
    if classes.is_empty() {
        return Err(incomplete(path, "it names no class"));
    }
    Ok(classes)
}

fn incomplete(path: &Path, problem: impl Into<String>) -> DatasetError {
    DatasetError::Incomplete {
        path: path.to_path_buf(),
        problem: problem.into(),
    }
}
