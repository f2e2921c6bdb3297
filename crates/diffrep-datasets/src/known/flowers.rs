//! Oxford Flowers-102: `imagelabels.mat` has the class of every image, `setid.mat` the numbers of the images of the
//! three official parts, all counted from 1.
//!
//! The paper trains on `trnid` and `valid` together and tests on `tstid`. The test part is the largest, for which some
//! copies exchange it with the training part; they are refused.

use std::path::Path;

use super::KnownDataset;
use super::assemble::{Listing, first_existing, incomplete, locate};
use crate::mat::read_mat;
use crate::{DatasetError, Split};

pub(super) fn read(path: &Path, split: Split) -> Result<Listing, DatasetError> {
    let below = ["flowers-102", "flowers102", "flowers"];
    let root = locate(KnownDataset::Flowers, path, &below, &["setid.mat"])?;
    let list = root.join("setid.mat");
    let file = read_mat(&list)?;
    let train = file.integers("trnid")?;
    let validation = file.integers("valid")?;
    let test = file.integers("tstid")?;
    if train.len() + validation.len() >= test.len() {
        let problem = format!(
            "its parts are exchanged: trnid and valid have {} and {} images, tstid has {}; the official test part is the largest, with 6149",
            train.len(),
            validation.len(),
            test.len()
        );
        return Err(incomplete(&list, problem));
    }

    let labels_path = root.join("imagelabels.mat");
    let labels = read_mat(&labels_path)?.integers("labels")?;
    let classes = KnownDataset::Flowers.classes() as u64;
    if let Some(position) = labels
        .iter()
        .position(|label| !(1..=classes).contains(label))
    {
        let problem = format!(
            "image {} has the label {}, expected 1 to {classes}",
            position + 1,
            labels[position]
        );
        return Err(incomplete(&labels_path, problem));
    }
    let mut seen = vec![false; labels.len()];
    for &id in train.iter().chain(&validation).chain(&test) {
        let position = usize::try_from(id).ok().and_then(|id| id.checked_sub(1));
        match position.and_then(|position| seen.get_mut(position)) {
            None => {
                let problem = format!(
                    "it names image {id}, expected 1 to {}, one for each label",
                    labels.len()
                );
                return Err(incomplete(&list, problem));
            }
            Some(true) => return Err(incomplete(&list, format!("it names image {id} twice"))),
            Some(seen) => *seen = true,
        }
    }

    let ids = match split {
        Split::Train => [train, validation].concat(),
        _ => test,
    };
    let samples = ids
        .into_iter()
        .map(|id| {
            (
                format!("image_{id:05}.jpg"),
                labels[id as usize - 1] as u32 - 1,
            )
        })
        .collect();
    Ok(Listing {
        list,
        root: first_existing(&root, &["jpg"])?,
        // The files have no names; the numbers are those of the official page.
        class_names: (1..=classes)
            .map(|class| format!("class_{class:03}"))
            .collect(),
        class_ids: Vec::new(),
        samples,
    })
}
