//! ImageNet's own archives, read in place.

mod common;
#[path = "common/mat.rs"]
mod mat;

use std::path::Path;

use common::{colours, png, refusal, tar, write};
use diffrep_datasets::{DatasetError, Split, available_splits, open};
use flate2::Compression;
use flate2::write::GzEncoder;
use mat::{Value, file};
use tempfile::{TempDir, tempdir};

const KIT: &str = "ILSVRC2012_devkit_t12";

/// Three classes, numbered otherwise than their wnids are ordered, and a group of them.
fn meta() -> Vec<u8> {
    let synset = |id: u16, wnid: &str, children: u8| {
        vec![
            Value::Words(vec![id]),
            Value::Text(wnid.into()),
            Value::Text("words, of it".into()),
            Value::Bytes(vec![children]),
        ]
    };
    let rows = vec![
        synset(1, "n00000003", 0),
        synset(2, "n00000001", 0),
        synset(3, "n00000002", 0),
        synset(4, "n00000000", 2),
    ];
    let synsets = Value::Structs(vec!["ILSVRC2012_ID", "WNID", "words", "num_children"], rows);
    file(&[("synsets", synsets)])
}

const TRUTH: &str = "3\n1\n2\n1\n";

fn kit_files() -> Vec<(String, Vec<u8>)> {
    vec![
        (format!("{KIT}/readme.txt"), b"read me".to_vec()),
        (format!("{KIT}/data/meta.mat"), meta()),
        (
            format!("{KIT}/data/ILSVRC2012_validation_ground_truth.txt"),
            TRUTH.into(),
        ),
    ]
}

fn pack(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let members: Vec<_> = files
        .iter()
        .map(|(name, content)| (name.as_str(), content.clone()))
        .collect();
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    std::io::Write::write_all(&mut gzip, &tar(&members)).unwrap();
    gzip.finish().unwrap()
}

/// Images of one shade each, as `(class, file, shade)`.
const TRAIN: [(&str, &str, u8); 4] = [
    ("n00000002", "n00000002_9.JPEG", 1),
    ("n00000002", "n00000002_10.JPEG", 2),
    ("n00000001", "n00000001_5.JPEG", 3),
    ("n00000003", "n00000003_1.JPEG", 4),
];

fn train_tar() -> Vec<u8> {
    let inner = |wnid: &str| {
        let members: Vec<_> = TRAIN
            .iter()
            .filter(|(class, ..)| *class == wnid)
            .map(|(_, file, shade)| (*file, png([*shade; 3])))
            .collect();
        tar(&members)
    };
    // Not in the order of their names.
    tar(&[
        ("n00000002.tar", inner("n00000002")),
        ("n00000001.tar", inner("n00000001")),
        ("n00000003.tar", inner("n00000003")),
    ])
}

fn val_tar() -> Vec<u8> {
    // Nor these.
    let image = |number: u8| {
        (
            format!("ILSVRC2012_val_0000000{number}.JPEG"),
            png([10 * number; 3]),
        )
    };
    let members = [3, 1, 2, 4].map(image);
    let members: Vec<_> = members
        .iter()
        .map(|(name, content)| (name.as_str(), content.clone()))
        .collect();
    tar(&members)
}

fn distributed() -> TempDir {
    let folder = tempdir().unwrap();
    write(&folder.path().join("ILSVRC2012_img_train.tar"), train_tar());
    write(&folder.path().join("ILSVRC2012_img_val.tar"), val_tar());
    write(
        &folder.path().join(format!("{KIT}.tar.gz")),
        pack(&kit_files()),
    );
    folder
}

#[test]
fn labels_are_ranks_of_wnids_in_both_splits() {
    let folder = distributed();
    let root = folder.path();
    assert_eq!(
        available_splits(root).unwrap(),
        [Split::Train, Split::Validation]
    );
    let train = open(root, Split::Train).unwrap();
    assert_eq!(
        train.class_names(),
        ["n00000001", "n00000002", "n00000003"],
        "the group n00000000 is no class"
    );
    assert_eq!(train.labels(), [0, 1, 1, 2]);
    assert_eq!(
        colours(&train),
        [[3; 3], [2; 3], [1; 3], [4; 3]],
        "by class, then by name"
    );
    assert!(
        train
            .name(1)
            .ends_with("ILSVRC2012_img_train.tar/n00000002.tar/n00000002_10.JPEG"),
        "{}",
        train.name(1)
    );

    // The truth of images 1 to 4 is 3, 1, 2, 1: n00000002, n00000003, n00000001, n00000003.
    let validation = open(root, Split::Validation).unwrap();
    assert_eq!(validation.labels(), [1, 2, 0, 2]);
    assert_eq!(colours(&validation), [[10; 3], [20; 3], [30; 3], [40; 3]]);
    assert_eq!(validation.class_names(), train.class_names());
}

#[test]
fn an_unpacked_kit_reads_the_same() {
    let folder = distributed();
    let packed = open(folder.path(), Split::Validation).unwrap();
    std::fs::remove_file(folder.path().join(format!("{KIT}.tar.gz"))).unwrap();
    for (name, content) in kit_files() {
        write(&folder.path().join(name), content);
    }
    let unpacked = open(folder.path(), Split::Validation).unwrap();
    assert_eq!(unpacked.labels(), packed.labels());
    assert_eq!(
        unpacked.fingerprint().unwrap(),
        packed.fingerprint().unwrap()
    );
}

#[test]
fn ids_and_fingerprints_are_those_of_the_unpacked_folders() {
    let (folder, unpacked) = (distributed(), tempdir().unwrap());
    for (class, file, shade) in TRAIN {
        write(
            &unpacked.path().join(format!("train/{class}/{file}")),
            png([shade; 3]),
        );
    }
    for (number, class) in [
        (1, "n00000002"),
        (2, "n00000003"),
        (3, "n00000001"),
        (4, "n00000003"),
    ] {
        let name = format!("val/{class}/ILSVRC2012_val_0000000{number}.JPEG");
        write(&unpacked.path().join(name), png([10 * number; 3]));
    }
    let print = |root: &Path| open(root, Split::Train).unwrap().fingerprint().unwrap();
    assert_eq!(print(folder.path()), print(unpacked.path()));
    let ids = |root: &Path| {
        let mut ids = open(root, Split::Validation).unwrap().ids().to_vec();
        ids.sort_unstable();
        ids
    };
    assert_eq!(ids(folder.path()), ids(unpacked.path()));
}

#[test]
fn without_the_kit_only_training_images_have_classes() {
    let folder = distributed();
    std::fs::remove_file(folder.path().join(format!("{KIT}.tar.gz"))).unwrap();
    assert_eq!(
        open(folder.path(), Split::Train).unwrap().labels(),
        [0, 1, 1, 2]
    );
    let message = refusal(folder.path(), Split::Validation);
    assert!(
        message.contains("development kit") && message.contains("ILSVRC2012_devkit_t12.tar.gz"),
        "{message}"
    );
}

#[test]
fn an_archive_left_beside_unpacked_folders_is_not_read() {
    let folder = distributed();
    write(&folder.path().join("train/n00000001/a.png"), png([1; 3]));
    assert_eq!(
        open(folder.path(), Split::Train).unwrap().class_names(),
        ["n00000001"]
    );
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let folder = distributed();
    let root = folder.path();
    let kit = root.join(format!("{KIT}.tar.gz"));
    let with = |position: usize, content: &[u8]| {
        let mut files = kit_files();
        files[position].1 = content.to_vec();
        write(&kit, pack(&files));
    };
    with(2, b"3\n1\n2\n");
    let error = open(root, Split::Validation).unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::CountMismatch {
                expected: 4,
                found: 3,
                ..
            }
        ),
        "{error:?}"
    );
    with(2, b"3\n1\n4\n1\n");
    let message = refusal(root, Split::Validation);
    assert!(
        message.contains("line 3") && message.contains("\"4\" is not the number of a class"),
        "{message}"
    );
    with(1, &meta()[..200]);
    assert!(refusal(root, Split::Validation).contains("meta.mat"));
    write(&kit, pack(&kit_files()[..2]));
    assert!(
        refusal(root, Split::Validation)
            .contains("lacks ILSVRC2012_devkit_t12/data/ILSVRC2012_validation")
    );
    write(&kit, &pack(&kit_files())[..200]);
    assert!(matches!(
        open(root, Split::Validation).unwrap_err(),
        DatasetError::Io {
            action: "decompressed",
            ..
        }
    ));

    write(&kit, pack(&kit_files()));
    let train = root.join("ILSVRC2012_img_train.tar");
    write(
        &train,
        tar(&[("n00000077.tar", tar(&[("a.JPEG", png([0; 3]))]))]),
    );
    assert!(refusal(root, Split::Train).contains("not a class of the development kit"));
}

#[test]
fn an_archive_of_another_form_is_refused() {
    let folder = tempdir().unwrap();
    let train = folder.path().join("ILSVRC2012_img_train.tar");
    let image = || png([0; 3]);
    for (content, expected) in [
        (tar(&[("n00000001_1.JPEG", image())]), "<wnid>.tar"),
        (
            tar(&[("x/n00000001.tar", tar(&[("a.JPEG", image())]))]),
            "<wnid>.tar",
        ),
        (
            tar(&[(
                "n00000001.tar",
                tar(&[("n00000002.tar", tar(&[("a.JPEG", image())]))]),
            )]),
            "in an archive in an archive",
        ),
        (tar(&[("n00000001.tar", vec![])]), "holds no image"),
        (
            tar(&[("n00000001.tar", b"not an archive".to_vec())]),
            "header",
        ),
        (tar(&[]), "holds no image"),
    ] {
        write(&train, content);
        let message = refusal(folder.path(), Split::Train);
        assert!(message.contains(expected), "{expected}: {message}");
        assert!(message.contains("ILSVRC2012_img_train.tar"), "{message}");
    }

    // A member of the inner archive that is said to go on behind it, into the next one.
    let mut inner = tar(&[("a.JPEG", image())]);
    inner.truncate(512);
    let content = tar(&[
        ("n00000001.tar", inner),
        ("n00000002.tar", tar(&[("b.JPEG", image())])),
    ]);
    write(&train, content);
    let message = refusal(folder.path(), Split::Train);
    assert!(
        message.contains("n00000001.tar") && message.contains("only 0 are left"),
        "{message}"
    );
}
