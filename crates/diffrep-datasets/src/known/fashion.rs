//! Fashion-MNIST: IDX files whose labels are the official ones.

use std::path::Path;

use super::KnownDataset;
use super::assemble::{Request, incomplete, locate};
use crate::{Dataset, DatasetError, fashion_mnist, idx_folder};

pub(super) fn open(request: &Request, path: &Path) -> Result<Dataset, DatasetError> {
    let below = ["fashion-mnist", "FashionMNIST/raw", "raw"];
    let marks = [
        "train-images-idx3-ubyte.gz",
        "train-images-idx3-ubyte",
        "t10k-images-idx3-ubyte.gz",
        "t10k-images-idx3-ubyte",
    ];
    let root = locate(KnownDataset::FashionMnist, path, &below, &marks)?;
    let dataset = idx_folder::open(&root, request.split)?;
    // MNIST has the same file names and counts; cuts of ours carry the names in their description.
    if dataset.class_names() != fashion_mnist::CLASS_NAMES {
        let problem =
            "its labels are not those of Fashion-MNIST; MNIST has files of the same names";
        return Err(incomplete(&root, problem));
    }
    request.finish(&root, dataset, Vec::new())
}
