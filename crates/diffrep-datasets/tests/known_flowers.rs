//! Oxford Flowers-102: the official parts, and what is mistaken for them.

use std::fs;
use std::path::Path;

use common::known::{full, id, names, partial, refusal, touch};
use common::mat::{Value, write_mat};
use diffrep_datasets::{Completeness, KnownDataset, Partial, Split, open_known};
use tempfile::tempdir;

#[path = "common"]
mod common {
    pub(crate) mod known;
    pub(crate) mod mat;
}

const FLOWERS: KnownDataset = KnownDataset::Flowers;

/// Parts of Flowers with the official counts: of each class the first 10 images train, the next 10 validate.
struct Flowers {
    labels: Vec<u8>,
    train: Vec<u16>,
    validation: Vec<u16>,
    test: Vec<u16>,
}

impl Flowers {
    /// The images of a class follow each other, and the first class is 77, as in the official files.
    fn official() -> Self {
        let mut flowers = Self {
            labels: vec![],
            train: vec![],
            validation: vec![],
            test: vec![],
        };
        for class in (77..=102).chain(1..77) {
            // 8,189 images in 102 classes.
            let count = 80 + u16::from(class % 102 < 29);
            for index in 0..count {
                flowers.labels.push(class as u8);
                let id = flowers.labels.len() as u16;
                match index {
                    // Ids are not in ascending order.
                    0..10 => flowers.train.insert(0, id),
                    10..20 => flowers.validation.push(id),
                    _ => flowers.test.push(id),
                }
            }
        }
        flowers
    }

    fn write(&self, root: &Path) {
        write_mat(
            &root.join("imagelabels.mat"),
            &[("labels", Value::Bytes(self.labels.clone()))],
        );
        let parts = [
            ("trnid", Value::Words(self.train.clone())),
            ("valid", Value::Words(self.validation.clone())),
            ("tstid", Value::Words(self.test.clone())),
        ];
        write_mat(&root.join("setid.mat"), &parts);
        touch(
            &root.join("jpg"),
            ["image_00001.jpg", "image_00002.jpg", "image_00080.jpg"],
        );
    }

    fn refusal(&self) -> String {
        let folder = tempdir().unwrap();
        self.write(folder.path());
        let message = refusal(FLOWERS, folder.path(), Split::Train);
        assert_eq!(
            message,
            refusal(FLOWERS, folder.path(), Split::Test),
            "both splits are refused"
        );
        message
    }
}

#[test]
fn the_whole_of_flowers_passes() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("flowers-102");
    let flowers = Flowers::official();
    assert_eq!(flowers.labels.len(), 8_189);
    flowers.write(&root);
    touch(
        &root.join("jpg"),
        (1..=8_189).map(|id| format!("image_{id:05}.jpg")),
    );
    for path in [folder.path(), &root] {
        let train = full(FLOWERS, path, Split::Train);
        assert_eq!((train.len(), train.partial()), (2_040, None));
        // The first id of trnid is that of the last class in the file, 76.
        assert_eq!(train.label(0), 75, "classes are counted from 1");
        assert_eq!(train.class_names()[75], "class_076");
        let first = format!("image_{:05}.jpg", flowers.train[0]);
        assert_eq!(names(&train, &root.join("jpg"))[0], first);
        assert_eq!(train.id(0), id(&first));
        assert_eq!(
            names(&train, &root.join("jpg"))[1_020],
            "image_00011.jpg",
            "valid follows trnid"
        );
        let test = full(FLOWERS, path, Split::Test);
        assert_eq!((test.len(), test.label(0)), (6_149, 76));
    }
    assert_eq!(
        refusal(FLOWERS, folder.path(), Split::Validation),
        "Oxford Flowers-102 has no official validation split here; hold a part of its training split out instead"
    );
}

#[test]
fn some_of_flowers_is_said_to_be_partial() {
    let folder = tempdir().unwrap();
    Flowers::official().write(folder.path());
    let train = partial(FLOWERS, folder.path(), Split::Train);
    let counts = Partial {
        expected: 2_040,
        found: 2,
    };
    assert_eq!(
        (train.labels(), train.partial()),
        ([76, 76].as_slice(), Some(counts))
    );
    let error = open_known(FLOWERS, folder.path(), Split::Train, Completeness::Full).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("2038 of the 2040 images of the train split"),
        "{error}"
    );
}

#[test]
fn exchanged_parts_of_flowers_are_refused() {
    let mut flowers = Flowers::official();
    std::mem::swap(&mut flowers.train, &mut flowers.test);
    let message = flowers.refusal();
    assert!(
        message.contains(
            "its parts are exchanged: trnid and valid have 6149 and 1020 images, tstid has 1020"
        ),
        "{message}"
    );
}

#[test]
fn damaged_lists_of_flowers_are_refused() {
    let altered = |alter: fn(&mut Flowers)| {
        let mut flowers = Flowers::official();
        alter(&mut flowers);
        flowers.refusal()
    };
    let cases: [(fn(&mut Flowers), &str); 6] = [
        (
            |flowers| flowers.labels[6] = 0,
            "image 7 has the label 0, expected 1 to 102",
        ),
        (
            |flowers| flowers.labels[6] = 103,
            "image 7 has the label 103, expected 1 to 102",
        ),
        (
            |flowers| flowers.train[0] = 0,
            "it names image 0, expected 1 to 8189",
        ),
        (
            |flowers| flowers.train[0] = 8_190,
            "it names image 8190, expected 1 to 8189",
        ),
        (|flowers| flowers.train[0] = flowers.test[0], "twice"),
        (
            |flowers| flowers.labels.truncate(8_188),
            "one for each label",
        ),
    ];
    for (alter, sentence) in cases {
        let message = altered(alter);
        assert!(message.contains(sentence), "{message}");
    }
}

#[test]
fn another_choice_of_flowers_is_told_from_the_official_one() {
    let folder = tempdir().unwrap();
    let mut flowers = Flowers::official();
    flowers.train.clear();
    flowers.write(folder.path());
    let error = open_known(FLOWERS, folder.path(), Split::Train, Completeness::Full).unwrap_err();
    let message = error.to_string();
    assert!(
        message.contains("gives 1020 images for the train split"),
        "{message}"
    );

    // As many images as officially, but another choice of them.
    let mut flowers = Flowers::official();
    std::mem::swap(&mut flowers.train[0], &mut flowers.test[0]);
    flowers.write(folder.path());
    let message = refusal(FLOWERS, folder.path(), Split::Train);
    assert!(
        message.contains("the class of label 76 has 21 images in the train split, and each has 20"),
        "{message}"
    );

    fs::write(folder.path().join("setid.mat"), b"MATLAB 7.3 MAT-file").unwrap();
    assert!(refusal(FLOWERS, folder.path(), Split::Train).contains("HDF5"));
}
