//! Stanford Cars: its layouts, and its two numberings that must not meet.

use std::fs;
use std::path::Path;

use common::known::{id, names, partial, refusal, touch};
use common::mat::{Value, texts, write_mat};
use diffrep_datasets::{Completeness, KnownDataset, Split, open_known};
use tempfile::{TempDir, tempdir};

#[path = "common"]
mod common {
    pub(crate) mod known;
    pub(crate) mod mat;
}

const CARS: KnownDataset = KnownDataset::Cars;

fn car_names() -> Vec<String> {
    let mut names: Vec<String> = (1..=196)
        .rev()
        .map(|class| format!("Make {class} Coupe 2012"))
        .collect();
    names[100] = "Ram C/V Cargo Van Minivan 2012".to_owned();
    names
}

fn meta(path: &Path) {
    write_mat(path, &[("class_names", texts(car_names()))]);
}

/// Annotations as in the development kit, with or without classes.
fn annotations(cars: &[(&str, Option<u8>)]) -> Value {
    let mut fields = vec!["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2"];
    if cars.iter().all(|(_, class)| class.is_some()) {
        fields.push("class");
    }
    fields.push("fname");
    let cars = cars.iter().map(|(name, class)| {
        let mut values: Vec<Value> = (0..4).map(|edge| Value::Words(vec![edge * 100])).collect();
        values.extend(class.map(|class| Value::Bytes(vec![class])));
        values.push(Value::Text((*name).to_owned()));
        values
    });
    Value::Structs(fields, cars.collect())
}

fn write_annotations(path: &Path, cars: &[(&str, Option<u8>)]) {
    write_mat(path, &[("annotations", annotations(cars))]);
}

const SOME_CARS: [(&str, Option<u8>); 3] = [
    ("00001.jpg", Some(14)),
    ("00002.jpg", Some(1)),
    ("00003.jpg", Some(196)),
];

#[test]
fn cars_open_from_the_split_archives_also_with_doubled_folders() {
    for doubled in [false, true] {
        for kit in ["devkit", "", "car_devkit/devkit"] {
            let folder = tempdir().unwrap();
            let root = folder.path().join("stanford_cars");
            let inner = |name: &str| match doubled {
                true => root.join(name).join(name),
                false => root.join(name),
            };
            meta(&root.join(kit).join("cars_meta.mat"));
            write_annotations(&root.join(kit).join("cars_train_annos.mat"), &SOME_CARS);
            write_annotations(
                &root.join("cars_test_annos_withlabels.mat"),
                &SOME_CARS[..1],
            );
            touch(&inner("cars_train"), SOME_CARS.map(|car| car.0));
            touch(&inner("cars_test"), ["00001.jpg"]);
            for path in [folder.path(), &root] {
                let train = partial(CARS, path, Split::Train);
                assert_eq!(train.labels(), [13, 0, 195]);
                assert_eq!(train.class_names(), car_names());
                assert_eq!(names(&train, &inner("cars_train"))[2], "00003.jpg");
                assert_eq!(train.id(2), id("00003.jpg"), "doubled folders change no id");
                assert_eq!(partial(CARS, path, Split::Test).labels(), [13]);
            }
            let error = open_known(CARS, &root, Split::Train, Completeness::Full).unwrap_err();
            assert!(
                error.to_string().contains(
                    "gives 3 images for the train split of Stanford Cars, expected exactly 8144"
                ),
                "{error}"
            );
        }
    }
}

#[test]
fn absent_test_labels_of_cars_are_said_to_be_absent() {
    let folder = tempdir().unwrap();
    meta(&folder.path().join("devkit/cars_meta.mat"));
    touch(&folder.path().join("cars_test"), ["00001.jpg"]);
    write_annotations(
        &folder.path().join("devkit/cars_test_annos.mat"),
        &[("00001.jpg", None)],
    );
    let sentence = "the labels of the test images are absent";
    let message = refusal(CARS, folder.path(), Split::Test);
    assert!(
        message.contains(sentence) && message.contains("cars_test_annos_withlabels.mat"),
        "{message}"
    );
    // The file without labels under the other name.
    write_annotations(
        &folder.path().join("cars_test_annos_withlabels.mat"),
        &[("00001.jpg", None)],
    );
    assert!(refusal(CARS, folder.path(), Split::Test).contains(sentence));
}

/// Annotations as in `cars_annos.mat`: path, class, whether it is a test image.
fn whole_annotations(cars: &[(&str, u8, u8)]) -> Value {
    let cars = cars.iter().map(|(name, class, test)| {
        let text = Value::Text((*name).to_owned());
        vec![text, Value::Bytes(vec![*class]), Value::Bytes(vec![*test])]
    });
    Value::Structs(vec!["relative_im_path", "class", "test"], cars.collect())
}

fn whole_cars(cars: &[(&str, u8, u8)]) -> TempDir {
    let folder = tempdir().unwrap();
    let variables = [
        ("annotations", whole_annotations(cars)),
        ("class_names", texts(car_names())),
    ];
    write_mat(&folder.path().join("cars_annos.mat"), &variables);
    touch(
        &folder.path().join("car_ims"),
        ["000001.jpg", "000002.jpg", "00001.jpg"],
    );
    folder
}

#[test]
fn cars_open_from_the_archive_of_all_images() {
    let folder = whole_cars(&[("car_ims/000001.jpg", 3, 0), ("car_ims/000002.jpg", 196, 1)]);
    let train = partial(CARS, folder.path(), Split::Train);
    assert_eq!(
        (train.labels(), train.id(0)),
        ([2].as_slice(), id("000001.jpg"))
    );
    assert_eq!(train.class_names()[100], "Ram C/V Cargo Van Minivan 2012");
    assert_eq!(partial(CARS, folder.path(), Split::Test).labels(), [195]);
}

#[test]
fn the_two_numberings_of_cars_never_meet() {
    let folder = whole_cars(&[("car_ims/00001.jpg", 3, 0)]);
    let sentence = "expected a number of 6 digits; images numbered by five and by six digits are different sequences";
    assert!(refusal(CARS, folder.path(), Split::Train).contains(sentence));

    let folder = tempdir().unwrap();
    meta(&folder.path().join("cars_meta.mat"));
    touch(&folder.path().join("cars_train"), ["000001.jpg"]);
    write_annotations(
        &folder.path().join("cars_train_annos.mat"),
        &[("000001.jpg", Some(1))],
    );
    assert!(refusal(CARS, folder.path(), Split::Train).contains("expected a number of 5 digits"));

    // What a common copy has: images of one numbering, the list of the other.
    let folder = whole_cars(&[("car_ims/000001.jpg", 3, 0)]);
    fs::remove_dir_all(folder.path().join("car_ims")).unwrap();
    touch(&folder.path().join("cars_train/cars_train"), ["00001.jpg"]);
    let message = refusal(CARS, folder.path(), Split::Train);
    assert!(
        message.contains("cars_annos.mat numbers the images of car_ims by six digits"),
        "{message}"
    );

    let folder = tempdir().unwrap();
    touch(&folder.path().join("car_ims"), ["000001.jpg"]);
    write_annotations(&folder.path().join("cars_train_annos.mat"), &SOME_CARS);
    let message = refusal(CARS, folder.path(), Split::Train);
    assert!(
        message.contains("six-digit images of car_ims but no cars_annos.mat"),
        "{message}"
    );
}

#[test]
fn damaged_lists_of_cars_are_refused() {
    for (name, class, test, sentence) in [
        (
            "car_ims/000001.jpg",
            0,
            0,
            "it has the class 0, expected 1 to 196",
        ),
        (
            "car_ims/000001.jpg",
            197,
            0,
            "it has the class 197, expected 1 to 196",
        ),
        ("car_ims/000001.jpg", 1, 2, "has test = 2, expected 0 or 1"),
        ("../car_ims/000001.jpg", 1, 0, "leads upwards"),
        ("/car_ims/000001.jpg", 1, 0, "is absolute"),
        ("car_ims\\000001.jpg", 1, 0, "a backslash"),
        ("car_ims/\0a.jpg", 1, 0, "NUL"),
        ("elsewhere/000001.jpg", 1, 0, "expected an image in car_ims"),
    ] {
        let folder = whole_cars(&[(name, class, test)]);
        let message = refusal(CARS, folder.path(), Split::Train);
        assert!(
            message.contains(sentence) && message.contains("cars_annos.mat"),
            "{message}"
        );
    }
    let folder = whole_cars(&[("car_ims/000001.jpg", 1, 0), ("car_ims/000001.jpg", 2, 0)]);
    assert!(refusal(CARS, folder.path(), Split::Train).contains("lists \"000001.jpg\" twice"));
}

#[test]
fn class_folders_of_cars_get_the_official_numbers() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("car_data/car_data");
    // A folder cannot be called "Ram C/V".
    let file = |name: &str| format!("{}/00001.jpg", name.replace("C/V", "C-V"));
    touch(
        &root.join("train"),
        car_names().iter().map(|name| file(name)),
    );
    touch(&root.join("test"), [file("Make 1 Coupe 2012")]);
    let message = refusal(CARS, folder.path(), Split::Train);
    assert!(
        message.contains("it has no cars_meta.mat"),
        "without it the numbers are unknown: {message}"
    );

    meta(&root.join("cars_meta.mat"));
    let train = partial(CARS, folder.path(), Split::Train);
    assert_eq!(
        (train.len(), train.class_names()),
        (196, car_names().as_slice())
    );
    // In the order of folders, "Make 1" is the first and "Ram" the last.
    assert_eq!((train.label(0), train.label(195)), (195, 100));
    assert_eq!(
        train.id(195),
        id("Ram C-V Cargo Van Minivan 2012/00001.jpg")
    );
    assert_eq!(partial(CARS, folder.path(), Split::Test).labels(), [195]);

    touch(&root.join("train"), ["Make 999 Coupe 2012/1.jpg"]);
    assert!(refusal(CARS, folder.path(), Split::Train).contains("Make 999"));
}

/// Folder and number of each breed.

#[test]
fn files_of_scipy_are_understood() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/mat");
    let folder = tempdir().unwrap();
    meta(&folder.path().join("cars_meta.mat"));
    fs::copy(
        fixtures.join("cars.mat"),
        folder.path().join("cars_train_annos.mat"),
    )
    .unwrap();
    touch(
        &folder.path().join("cars_train"),
        SOME_CARS.map(|car| car.0),
    );
    assert_eq!(
        partial(CARS, folder.path(), Split::Train).labels(),
        [13, 2, 195]
    );
}
