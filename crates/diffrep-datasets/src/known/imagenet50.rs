//! ImageNet-50: 50 classes of ImageNet, chosen for SCAN (Van Gansbeke and others, 2020).

use std::collections::HashMap;
use std::path::Path;

use super::assemble::{Request, incomplete};
use super::{Completeness, imagenet};
use crate::{Dataset, DatasetError};

/// Wnid, label in ImageNet and name of each class, by its label here; the names are WordNet's.
pub(super) const CLASSES: [(&str, u32, &str); 50] = [
    ("n01601694", 20, "water ouzel"),
    ("n01669191", 37, "box turtle"),
    ("n01755581", 67, "diamondback"),
    ("n01770393", 71, "scorpion"),
    ("n01855672", 99, "goose"),
    ("n02018207", 137, "coot"),
    ("n02058221", 146, "albatross"),
    ("n02096177", 192, "cairn"),
    ("n02097130", 197, "giant schnauzer"),
    ("n02099267", 205, "flat-coated retriever"),
    ("n02100877", 213, "Irish setter"),
    ("n02104365", 223, "schipperke"),
    ("n02106030", 231, "collie"),
    ("n02114855", 272, "coyote"),
    ("n02125311", 286, "cougar"),
    ("n02133161", 295, "American black bear"),
    ("n02484975", 370, "guenon"),
    ("n02489166", 376, "proboscis monkey"),
    ("n02747177", 412, "ashcan"),
    ("n02906734", 462, "broom"),
    ("n03124170", 515, "cowboy hat"),
    ("n03272010", 546, "electric guitar"),
    ("n03337140", 553, "filing cabinet"),
    ("n03483316", 589, "hand blower"),
    ("n03498962", 596, "hatchet"),
    ("n03710721", 639, "maillot"),
    ("n03717622", 640, "manhole cover"),
    ("n03733281", 646, "maze"),
    ("n03759954", 650, "microphone"),
    ("n03775071", 658, "mitten"),
    ("n03814639", 678, "neck brace"),
    ("n03837869", 682, "obelisk"),
    ("n03838899", 683, "oboe"),
    ("n03854065", 687, "pipe organ"),
    ("n03954731", 726, "plane"),
    ("n03983396", 737, "pop bottle"),
    ("n04026417", 748, "purse"),
    ("n04200800", 788, "shoe shop"),
    ("n04209239", 794, "shower curtain"),
    ("n04311004", 821, "steel arch bridge"),
    ("n04380533", 846, "table lamp"),
    ("n04428191", 856, "thresher"),
    ("n04443257", 860, "tobacco shop"),
    ("n04509417", 880, "unicycle"),
    ("n04525305", 886, "vending machine"),
    ("n04554684", 897, "washer"),
    ("n04606251", 913, "wreck"),
    ("n07583066", 924, "guacamole"),
    ("n07711569", 935, "mashed potato"),
    ("n07753592", 954, "banana"),
];

pub(super) fn open(request: &Request, path: &Path) -> Result<Dataset, DatasetError> {
    let whole = imagenet::images(path, request.split)?;
    let labels = labels(request, path, &whole)?;
    let kept: Vec<(usize, u32)> = whole
        .labels()
        .iter()
        .enumerate()
        .filter_map(|(position, &label)| Some((position, labels[label as usize]?)))
        .collect();
    let names = CLASSES.map(|(_, _, name)| name.to_owned()).to_vec();
    let dataset = whole.relabelled(request.split, &kept, names.into());
    let wnids = CLASSES.map(|(wnid, _, _)| wnid.to_owned()).to_vec();
    request.finish(path, dataset, wnids)
}

/// The label here of each class of the whole, by wnid where its classes are called so, else by ImageNet's label.
fn labels(
    request: &Request,
    path: &Path,
    whole: &Dataset,
) -> Result<Vec<Option<u32>>, DatasetError> {
    let wnids = imagenet::wnids(path, whole)?;
    let classes = whole.class_names().len();
    if wnids.is_empty() && classes != 1_000 {
        let problem = format!(
            "it has {classes} classes that are no wnids, so the 50 cannot be told from others"
        );
        return Err(incomplete(path, problem));
    }
    if wnids.is_empty() {
        let by_label: HashMap<u32, u32> = CLASSES.iter().map(|class| class.1).zip(0..).collect();
        return Ok((0..1_000)
            .map(|label| by_label.get(&label).copied())
            .collect());
    }
    let absent = CLASSES.iter().find(|class| {
        wnids
            .binary_search_by(|wnid| wnid.as_str().cmp(class.0))
            .is_err()
    });
    match absent {
        Some((wnid, _, name)) if request.completeness == Completeness::Full => {
            Err(incomplete(path, format!("it has no class {wnid} ({name})")))
        }
        _ => {
            let by_wnid: HashMap<&str, u32> =
                CLASSES.iter().map(|class| class.0).zip(0..).collect();
            Ok(wnids
                .iter()
                .map(|wnid| by_wnid.get(wnid.as_str()).copied())
                .collect())
        }
    }
}
