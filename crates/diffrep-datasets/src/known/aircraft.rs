//! FGVC-Aircraft, 2013b: `variants.txt` numbers the classes by its lines, `images_variant_*.txt` have `<id> <variant>`.
//!
//! Names of variants hold spaces and slashes (`F/A-18`), so a line is split at its first space. The copyright banner
//! below each photograph is left in, as torchvision leaves it.

use std::collections::HashMap;
use std::path::Path;

use diffrep_artifact::read_bytes;

use super::KnownDataset;
use super::assemble::{Listing, incomplete, locate, plain_name};
use crate::list::{lines, pairs, start};
use crate::list_files::list_error;
use crate::{DatasetError, Split};

pub(super) fn read(path: &Path, split: Split) -> Result<Listing, DatasetError> {
    let below = ["data", "fgvc-aircraft-2013b", "fgvc-aircraft-2013b/data"];
    let root = locate(KnownDataset::Aircraft, path, &below, &["variants.txt"])?;
    let class_names = variants(&root.join("variants.txt"))?;
    let labels: HashMap<&str, u32> = class_names.iter().map(String::as_str).zip(0..).collect();

    let list = root.join(match split {
        Split::Train => "images_variant_trainval.txt",
        _ => "images_variant_test.txt",
    });
    let bytes = read_bytes(&list)?;
    let mut samples = Vec::new();
    for pair in pairs(&list, &bytes)? {
        let label = labels.get(pair.rest).ok_or_else(|| {
            let problem = format!("the variant {:?} is not in variants.txt", start(pair.rest));
            list_error(&list, pair.line, problem)
        })?;
        samples.push((plain_name(&list, &format!("{}.jpg", pair.id))?, *label));
    }
    Ok(Listing {
        list,
        root: root.join("images"),
        class_names,
        class_ids: Vec::new(),
        samples,
    })
}

fn variants(path: &Path) -> Result<Vec<String>, DatasetError> {
    let bytes = read_bytes(path)?;
    let lines = lines(path, &bytes)?;
    let names: Vec<String> = lines.iter().map(|(_, name)| (*name).to_owned()).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(names),
        Some(pair) => Err(incomplete(path, format!("it lists {:?} twice", pair[0]))),
    }
}
