//! ImageNet as Kaggle distributes it.

mod common;

use common::{colours, png, refusal, write};
use diffrep_datasets::{DatasetError, Split, available_splits, open};
use tempfile::{TempDir, tempdir};

fn kaggle() -> TempDir {
    let folder = tempdir().unwrap();
    let root = folder.path();
    let images = root.join("ILSVRC/Data/CLS-LOC");
    write(&images.join("train/n02/n02_7.JPEG"), png([1; 3]));
    write(&images.join("train/n01/n01_9.JPEG"), png([2; 3]));
    write(
        &images.join("val/ILSVRC2012_val_00000001.JPEG"),
        png([3; 3]),
    );
    write(
        &images.join("val/ILSVRC2012_val_00000002.JPEG"),
        png([4; 3]),
    );
    write(
        &images.join("test/ILSVRC2012_test_00000001.JPEG"),
        png([5; 3]),
    );
    write(
        &root.join("LOC_synset_mapping.txt"),
        "n01 tench, Tinca tinca\nn02 goldfish\n",
    );
    let solution = "ImageId,PredictionString\nILSVRC2012_val_00000002,n01 1 2 3 4 n01 5 6 7 8 \nILSVRC2012_val_00000001,n02 1 2 3 4 \n";
    write(&root.join("LOC_val_solution.csv"), solution);
    folder
}

#[test]
fn validation_images_have_the_class_of_their_solution() {
    let folder = kaggle();
    assert_eq!(
        available_splits(folder.path()).unwrap(),
        [Split::Train, Split::Validation]
    );
    let train = open(folder.path(), Split::Train).unwrap();
    assert_eq!(train.class_names(), ["n01", "n02"]);
    assert_eq!(
        (train.labels(), colours(&train)),
        ([0, 1].as_slice(), vec![vec![2; 3], vec![1; 3]])
    );
    let validation = open(folder.path(), Split::Validation).unwrap();
    assert_eq!(
        (validation.labels(), colours(&validation)),
        ([1, 0].as_slice(), vec![vec![3; 3], vec![4; 3]])
    );
}

#[test]
fn ids_are_those_of_the_same_images_in_class_folders() {
    let (folder, unpacked) = (kaggle(), tempdir().unwrap());
    for (name, shade) in [
        ("train/n01/n01_9.JPEG", 2),
        ("train/n02/n02_7.JPEG", 1),
        ("val/n01/ILSVRC2012_val_00000002.JPEG", 4),
        ("val/n02/ILSVRC2012_val_00000001.JPEG", 3),
    ] {
        write(&unpacked.path().join(name), png([shade; 3]));
    }
    for split in [Split::Train, Split::Validation] {
        let key = |root| {
            let dataset = open(root, split).unwrap();
            let mut pairs: Vec<_> = dataset
                .ids()
                .iter()
                .copied()
                .zip(colours(&dataset))
                .collect();
            pairs.sort();
            pairs
        };
        assert_eq!(key(folder.path()), key(unpacked.path()));
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = kaggle();
    let root = folder.path();
    let solution = root.join("LOC_val_solution.csv");
    write(&solution, "ILSVRC2012_val_00000001,n02 1 2 3 4\n");
    let message = refusal(root, Split::Validation);
    assert!(
        message.contains("00000002.JPEG") && message.contains("does not give its class"),
        "{message}"
    );
    write(
        &solution,
        "ILSVRC2012_val_00000001,n02\nILSVRC2012_val_00000002,n77\n",
    );
    assert!(refusal(root, Split::Validation).contains("n77"));
    write(
        &solution,
        "ILSVRC2012_val_00000001,n02\nILSVRC2012_val_00000002,n01\nILSVRC2012_val_00000003,n01\n",
    );
    let error = open(root, Split::Validation).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::CountMismatch {
                expected: 2,
                found: 3,
                ..
            }
        ),
        "{error:?}"
    );
    write(
        &solution,
        "ILSVRC2012_val_00000001,n02\nILSVRC2012_val_00000001,n02\n",
    );
    assert!(refusal(root, Split::Validation).contains("occurs twice"));
    write(&root.join("LOC_synset_mapping.txt"), "../up tench\n");
    assert!(refusal(root, Split::Train).contains("upwards"));
}
