//! ImageNet, its 50 classes and Fashion-MNIST, from the layouts that are recognised anyway.

use std::fs;
use std::path::Path;

use common::known::{id, lines, partial, refusal, touch, write};
use common::mat::{Value, write_mat};
use diffrep_datasets::idx::{Idx, write_idx_gz};
use diffrep_datasets::{
    Completeness, IlsvrcClasses, KnownDataset, Partial, Split, fashion_mnist, open, open_known,
};
use tempfile::tempdir;

#[path = "common"]
mod common {
    pub(crate) mod known;
    pub(crate) mod mat;
}

const IMAGENET: KnownDataset = KnownDataset::ImageNet;
const IMAGENET_50: KnownDataset = KnownDataset::ImageNet50;
const FASHION: KnownDataset = KnownDataset::FashionMnist;

/// Some of the 50 with their label among them and their label in ImageNet.
const OF_THE_50: [(&str, u32, u32); 4] = [
    ("n01601694", 0, 20),
    ("n02747177", 18, 412),
    ("n07583066", 47, 924),
    ("n07753592", 49, 954),
];

/// Those of the 1,000 classes.
fn wnids() -> Vec<String> {
    let wnids: Vec<String> = include_str!("../src/known/imagenet_wnids.txt")
        .lines()
        .map(str::to_owned)
        .collect();
    assert!(wnids.len() == 1_000 && wnids.is_sorted());
    for (wnid, _, label) in OF_THE_50 {
        assert_eq!(wnids[label as usize], wnid);
    }
    wnids
}

/// One training image in each class, and a validation image in each of [`OF_THE_50`].
fn imagenet(root: &Path, train: &str, val: &str) {
    let images = wnids()
        .into_iter()
        .map(|wnid| format!("{wnid}/{wnid}_10026.JPEG"));
    touch(&root.join(train), images);
    let images = OF_THE_50.map(|(wnid, _, label)| format!("{wnid}/ILSVRC2012_val_{label:08}.JPEG"));
    touch(&root.join(val), images);
}

#[test]
fn imagenet_opens_from_class_folders_with_validation_as_test() {
    for (train, val) in [
        ("train", "val"),
        ("ILSVRC2012_img_train", "ILSVRC2012_img_val"),
    ] {
        let folder = tempdir().unwrap();
        imagenet(folder.path(), train, val);
        let set = partial(IMAGENET, folder.path(), Split::Train);
        let counts = Partial {
            expected: 1_281_167,
            found: 1_000,
        };
        assert_eq!((set.len(), set.partial()), (1_000, Some(counts)));
        assert_eq!(set.class_ids(), wnids());
        assert_eq!(set.id(20), id("n01601694/n01601694_10026.JPEG"));
        let test = partial(IMAGENET, folder.path(), Split::Test);
        assert_eq!(
            (test.len(), test.split(), test.label(1)),
            (4, Split::Test, 412)
        );
        assert_eq!(test.id(0), id("n01601694/ILSVRC2012_val_00000020.JPEG"));

        let error =
            open_known(IMAGENET, folder.path(), Split::Test, Completeness::Full).unwrap_err();
        assert!(
            error.to_string().contains(
                "gives 4 images for the test split of ImageNet (ILSVRC2012), expected exactly 50000"
            ),
            "{error}"
        );
        assert!(
            refusal(IMAGENET, folder.path(), Split::Validation)
                .contains("no official validation split")
        );
        fs::remove_dir_all(folder.path().join(train).join("n01601694")).unwrap();
        let error = open_known(IMAGENET, folder.path(), Split::Train, Completeness::Full);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("it gives 999 classes")
        );
        // Those after a class that is missing keep their labels.
        let set = partial(IMAGENET, folder.path(), Split::Train);
        assert_eq!(set.class_names().len(), 1_000);
        assert_eq!((set.len(), set.label(998)), (999, 999));
        let foreign = format!("{train}/n00000001/a.jpg");
        touch(folder.path(), [foreign.as_str()]);
        let message = refusal(IMAGENET, folder.path(), Split::Train);
        assert!(
            message.contains("n00000001 is not among the 1000"),
            "{message}"
        );
    }
}

#[test]
fn fifty_classes_are_taken_by_wnid() {
    let folder = tempdir().unwrap();
    imagenet(folder.path(), "train", "val");
    for split in [Split::Train, Split::Test] {
        let set = partial(IMAGENET_50, folder.path(), split);
        // Every class has a training image, four have one to test on.
        let expected: Vec<u32> = match split {
            Split::Train => (0..50).collect(),
            _ => OF_THE_50.map(|class| class.1).to_vec(),
        };
        assert_eq!(set.labels(), expected);
        assert_eq!(set.class_names().len(), 50);
        assert_eq!(set.class_names()[49], "banana");
        assert_eq!(set.class_ids()[49], "n07753592");
        assert_eq!((set.known(), set.split()), (Some(IMAGENET_50), split));
    }
    // Noise is keyed by ids, so a class among 50 has the ids that it has among 1,000.
    let whole = partial(IMAGENET, folder.path(), Split::Test);
    let some = partial(IMAGENET_50, folder.path(), Split::Test);
    assert_eq!(some.noise_id(1), whole.noise_id(1));
    fs::remove_dir_all(folder.path().join("train/n01669191")).unwrap();
    let error =
        open_known(IMAGENET_50, folder.path(), Split::Train, Completeness::Full).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it has no class n01669191 (box turtle)"),
        "{error}"
    );
}

#[test]
fn fifty_classes_are_taken_by_label_where_wnids_are_not_known() {
    let folder = tempdir().unwrap();
    let rows = (0..1_000).map(|label| format!("{label}.jpg,{label}"));
    write(&folder.path().join("train.csv"), lines(rows));
    touch(folder.path(), ["0.jpg", "20.jpg"]);
    assert_eq!(open(folder.path(), Split::Train).unwrap().len(), 1_000);
    let set = partial(IMAGENET_50, folder.path(), Split::Train);
    assert_eq!(set.len(), 50);
    assert_eq!((set.label(0), set.id(0)), (0, id("20.jpg")));
    assert_eq!((set.label(49), set.id(49)), (49, id("954.jpg")));

    write(&folder.path().join("train.csv"), "0.jpg,0\n20.jpg,20\n");
    let message = refusal(IMAGENET_50, folder.path(), Split::Train);
    assert!(
        message.contains("it has 21 classes that are no wnids"),
        "{message}"
    );
}

#[test]
fn numbers_of_the_development_kit_are_not_labels() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mat");
    let classes = IlsvrcClasses::read(&fixtures.join("synsets.mat")).unwrap();
    assert_eq!(classes.wnids(), ["n01440764", "n02119789"]);
    // Number 1 is the kit fox, whose wnid is the second.
    assert_eq!(
        (classes.wnid(1), classes.label(1)),
        (Some("n02119789"), Some(1))
    );
    assert_eq!(
        (classes.wnid(2), classes.label(2)),
        (Some("n01440764"), Some(0))
    );
    for outside in [0, 3, 1_001, u64::MAX] {
        assert_eq!(
            (classes.wnid(outside), classes.label(outside)),
            (None, None)
        );
    }
}

/// A `meta.mat` of synsets without children: number and wnid.
fn synsets(synsets: &[(u16, &str)]) -> Value {
    let fields = vec!["ILSVRC2012_ID", "WNID", "num_children"];
    let synset = |(number, wnid): &(u16, &str)| {
        let wnid = Value::Text((*wnid).to_owned());
        vec![Value::Words(vec![*number]), wnid, Value::Bytes(vec![0])]
    };
    Value::Structs(fields, synsets.iter().map(synset).collect())
}

#[test]
fn damaged_development_kits_are_refused() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("meta.mat");
    for (rows, sentence) in [
        ([(1, "n00000002"), (3, "n00000001")], "are not 1, 2, 3"),
        ([(1, "n00000002"), (1, "n00000001")], "are not 1, 2, 3"),
        ([(0, "n00000002"), (1, "n00000001")], "are not 1, 2, 3"),
        (
            [(1, "n00000001"), (2, "n00000001")],
            "it has n00000001 twice",
        ),
        (
            [(1, "../../0001"), (2, "n00000001")],
            "expected n and eight digits",
        ),
    ] {
        write_mat(&path, &[("synsets", synsets(&rows))]);
        let message = IlsvrcClasses::read(&path).unwrap_err().to_string();
        assert!(
            message.contains(sentence) && message.contains("meta.mat"),
            "{message}"
        );
    }
}

fn write_fashion(root: &Path, labels: &[u8], classes: &[&str]) {
    let count = labels.len();
    let images = Idx {
        dims: vec![count, 28, 28],
        data: vec![7_u8; count * 28 * 28],
    };
    fs::create_dir_all(root).unwrap();
    write_idx_gz(&root.join("train-images-idx3-ubyte.gz"), &images).unwrap();
    let labels = Idx {
        dims: vec![count],
        data: labels.to_vec(),
    };
    write_idx_gz(&root.join("train-labels-idx1-ubyte.gz"), &labels).unwrap();
    if !classes.is_empty() {
        let classes = format!(r#"{{"classes": {classes:?}}}"#);
        write(&root.join("dataset.json"), classes);
    }
}

#[test]
fn fashion_mnist_is_told_from_mnist() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("FashionMNIST/raw");
    // The official labels start like this, and have 6,000 of each class.
    let mut labels = vec![9, 0, 0, 3, 0, 2, 7, 2];
    let mut counts = [0_usize; 10];
    labels
        .iter()
        .for_each(|&label: &u8| counts[usize::from(label)] += 1);
    for (label, count) in (0..).zip(counts) {
        labels.resize(labels.len() + 6_000 - count, label);
    }
    write_fashion(&root, &labels, &[]);
    let train = common::known::full(FASHION, folder.path(), Split::Train);
    assert_eq!(
        (train.len(), train.partial(), train.id(59_999)),
        (60_000, None, 59_999)
    );
    assert_eq!(train.class_names(), fashion_mnist::CLASS_NAMES);

    // One label changed: still their number, no longer their balance.
    labels[8] = 5;
    write_fashion(&root, &labels, &[]);
    let message = refusal(FASHION, folder.path(), Split::Train);
    assert!(
        message.contains("and each has 6000 officially"),
        "{message}"
    );

    labels[0] = 5;
    write_fashion(&root, &labels, &[]);
    let message = refusal(FASHION, folder.path(), Split::Train);
    assert!(
        message.contains("MNIST has files of the same names"),
        "{message}"
    );
}

#[test]
fn a_cut_of_fashion_mnist_is_partial() {
    let folder = tempdir().unwrap();
    write_fashion(folder.path(), &[9, 0, 3], &fashion_mnist::CLASS_NAMES);
    let train = partial(FASHION, folder.path(), Split::Train);
    let counts = Partial {
        expected: 60_000,
        found: 3,
    };
    assert_eq!(
        (train.labels(), train.partial()),
        ([9, 0, 3].as_slice(), Some(counts))
    );
    let error = open_known(FASHION, folder.path(), Split::Train, Completeness::Full).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("gives 3 images for the train split of Fashion-MNIST"),
        "{error}"
    );
}
