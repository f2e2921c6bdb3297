//! Known data sets with lists of text: FGVC-Aircraft, CUB-200-2011 and NABirds.

use std::fs;
use std::path::{Path, PathBuf};

use common::known::{full, id, lines, names, partial, refusal, touch, write};
use diffrep_datasets::{Completeness, DatasetError, KnownDataset, Partial, Split, open_known};
use tempfile::{TempDir, tempdir};

#[path = "common"]
mod common {
    pub(crate) mod known;
}

const AIRCRAFT: KnownDataset = KnownDataset::Aircraft;
const CUB: KnownDataset = KnownDataset::Cub;
const NABIRDS: KnownDataset = KnownDataset::NaBirds;

/// 100 variants, two with spaces and slashes.
fn variants() -> Vec<String> {
    let mut names: Vec<String> = (0..98)
        .map(|index| format!("A{index:03}-{}00", index % 7))
        .collect();
    names.insert(17, "Boeing 717".to_owned());
    names.insert(60, "F/A-18".to_owned());
    names
}

/// Both lists, and the test images, which are empty.
fn aircraft() -> TempDir {
    let folder = tempdir().unwrap();
    let data = folder.path().join("fgvc-aircraft-2013b/data");
    let variants = variants();
    write(&data.join("variants.txt"), lines(&variants));
    for (list, range) in [("trainval", 3_333..10_000), ("test", 0..3_333)] {
        let rows = range.map(|index| format!("{index:07} {}", variants[index % 100]));
        write(
            &data.join(format!("images_variant_{list}.txt")),
            lines(rows),
        );
    }
    let images = (0..3_333).map(|index| format!("{index:07}.jpg"));
    touch(&data.join("images"), images);
    folder
}

#[test]
fn a_whole_split_of_aircraft_passes_and_missing_images_are_counted() {
    let folder = aircraft();
    let data = folder.path().join("fgvc-aircraft-2013b/data");
    for root in [folder.path(), data.parent().unwrap(), &data] {
        let test = full(AIRCRAFT, root, Split::Test);
        assert_eq!((test.len(), test.partial()), (3_333, None));
        assert_eq!(test.class_names(), variants());
        assert_eq!(test.class_names()[test.label(1_260) as usize], "F/A-18");
        assert_eq!(test.id(3), id("0000003.jpg"));
        assert_eq!((test.known(), test.split()), (Some(AIRCRAFT), Split::Test));
        assert!(test.class_ids().is_empty());
    }
    // The list is whole, but not one image is there.
    let message = refusal(AIRCRAFT, folder.path(), Split::Train);
    assert!(
        message.starts_with("6667 of the 6667 images of the train split"),
        "{message}"
    );

    for index in [5, 2_000] {
        fs::remove_file(data.join(format!("images/{index:07}.jpg"))).unwrap();
    }
    let error = open_known(AIRCRAFT, folder.path(), Split::Test, Completeness::Full).unwrap_err();
    let expected = format!(
        "2 of the 3333 images of the test split of FGVC-Aircraft (variants) are missing, the first is {}",
        data.join("images/0000005.jpg").display()
    );
    assert_eq!(error.to_string(), expected);

    let some = partial(AIRCRAFT, folder.path(), Split::Test);
    let counts = Some(Partial {
        expected: 3_333,
        found: 3_331,
    });
    assert_eq!((some.len(), some.partial()), (3_331, counts));
    assert_eq!(some.id(5), id("0000006.jpg"));
    assert_eq!(some.subset(&[1, 2]).partial(), counts, "subsets remember");
}

#[test]
fn validation_and_other_folders_are_refused() {
    let folder = tempdir().unwrap();
    let message = refusal(AIRCRAFT, folder.path(), Split::Validation);
    assert_eq!(
        message,
        "FGVC-Aircraft (variants) has no official validation split here; hold a part of its training split out instead"
    );
    for known in KnownDataset::ALL {
        for path in [folder.path().to_path_buf(), folder.path().join("absent")] {
            for split in [Split::Train, Split::Test] {
                let message = refusal(known, &path, split);
                assert!(
                    message.contains(folder.path().to_str().unwrap()),
                    "{message}"
                );
            }
        }
    }
    let message = refusal(AIRCRAFT, folder.path(), Split::Train);
    assert!(
        message.contains(
            "does not hold FGVC-Aircraft (variants): expected variants.txt in it or in data"
        ),
        "{message}"
    );
}

/// A small data folder; `rows` are those of the list of test images.
fn small_aircraft(rows: &[u8]) -> TempDir {
    let folder = tempdir().unwrap();
    write(&folder.path().join("variants.txt"), lines(variants()));
    write(&folder.path().join("images_variant_test.txt"), rows);
    touch(&folder.path().join("images"), ["1.jpg", "2.jpg"]);
    folder
}

#[test]
fn marks_and_line_ends_of_other_systems_do_not_count() {
    let folder = small_aircraft(b"\xef\xbb\xbf2 Boeing 717\r\n\r\n1 F/A-18\r\n");
    let test = partial(AIRCRAFT, folder.path(), Split::Test);
    assert_eq!(test.labels(), [17, 60]);
    assert_eq!(
        names(&test, &folder.path().join("images")),
        ["2.jpg", "1.jpg"]
    );
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_not_read() {
    let folder = small_aircraft(b"1 Boeing 717\n");
    let outside = tempdir().unwrap();
    write(&outside.path().join("secret.jpg"), "secret");
    let link = folder.path().join("images/1.jpg");
    fs::remove_file(&link).unwrap();
    std::os::unix::fs::symlink(outside.path().join("secret.jpg"), link).unwrap();
    let test = partial(AIRCRAFT, folder.path(), Split::Test);
    let error = test.image(0).unwrap_err();
    assert!(
        matches!(error, DatasetError::UnsafeName { .. }),
        "{error:?}"
    );
}

#[test]
fn a_damaged_list_of_aircraft_is_refused() {
    let cases: [(&[u8], &str); 7] = [
        (b"1 Boeing 717\n2 Boeing 7\n", "line 2 of"),
        (b"1 Boeing 717\n2\n", "has no second part"),
        (b"1 Boeing 717\n1 F/A-18\n", "lists \"1.jpg\" twice"),
        (b"../1 Boeing 717\n", "leads upwards"),
        (b"/1 Boeing 717\n", "is absolute"),
        (b"a\\1 Boeing 717\n", "a backslash"),
        (b"a/1 Boeing 717\n", "expected a file name without folders"),
    ];
    for (rows, sentence) in cases {
        let folder = small_aircraft(rows);
        let message = refusal(AIRCRAFT, folder.path(), Split::Test);
        assert!(message.contains(sentence), "{message}");
        assert!(message.contains("images_variant_test.txt"), "{message}");
    }
    let folder = small_aircraft(b"1\0 Boeing 717\n");
    assert!(refusal(AIRCRAFT, folder.path(), Split::Test).contains("NUL"));
    let folder = small_aircraft(b"7 Boeing 717\n");
    let message = refusal(AIRCRAFT, folder.path(), Split::Test);
    assert!(
        message.contains("are missing, the first is"),
        "an empty data set is none: {message}"
    );

    let folder = small_aircraft(b"1 Boeing 717\n");
    write(
        &folder.path().join("variants.txt"),
        lines(&variants()[..99]),
    );
    let message = refusal(AIRCRAFT, folder.path(), Split::Test);
    assert!(
        message.contains("it gives 99 classes, and FGVC-Aircraft (variants) has 100"),
        "{message}"
    );
}

#[test]
fn more_images_than_the_official_number_are_refused_in_any_case() {
    let rows = lines((0..3_334).map(|index| format!("{index} Boeing 717")));
    let folder = small_aircraft(rows.as_bytes());
    let error = open_known(
        AIRCRAFT,
        folder.path(),
        Split::Test,
        Completeness::AllowPartial,
    )
    .unwrap_err();
    assert!(
        matches!(
            error,
            DatasetError::WrongCount {
                expected: 3_333,
                found: 3_334,
                split: Split::Test,
                ..
            }
        ),
        "{error:?}"
    );
}

/// CUB with one training and one test image in each class, the rows of each list in another order.
fn cub(root: &Path) {
    let class = |number: usize| format!("{number:03}.Bird_{number}");
    // Images 1 to 400; odd ones train.
    let image = |id: usize| format!("{0}/Bird_{id:04}.jpg", class(id.div_ceil(2)));
    let ids = || 1..=400_usize;
    write(
        &root.join("images.txt"),
        lines(ids().map(|id| format!("{id} {}", image(id)))),
    );
    let labels = ids().rev().map(|id| format!("{id} {}", id.div_ceil(2)));
    write(&root.join("image_class_labels.txt"), lines(labels));
    let parts = ids()
        .map(|id| (id * 7) % 401)
        .map(|id| format!("{id} {}", id % 2));
    write(&root.join("train_test_split.txt"), lines(parts));
    let classes = (1..=200)
        .rev()
        .map(|number| format!("{number} {}", class(number)));
    write(&root.join("classes.txt"), lines(classes));
    touch(&root.join("images"), ids().map(image));
}

#[test]
fn cub_is_joined_on_ids_and_not_on_rows() {
    let folder = tempdir().unwrap();
    let root = folder.path().join("CUB_200_2011/CUB_200_2011");
    cub(&root);
    for path in [folder.path(), root.parent().unwrap(), &root] {
        for (split, remainder) in [(Split::Train, 1), (Split::Test, 2)] {
            let set = partial(CUB, path, split);
            assert_eq!(set.labels(), (0..200).collect::<Vec<_>>());
            assert_eq!(set.class_names()[9], "010.Bird_10");
            let expected = format!("010.Bird_10/Bird_{:04}.jpg", 18 + remainder);
            assert_eq!(names(&set, &root.join("images"))[9], expected);
            assert_eq!(set.id(9), id(&expected));
        }
    }
    let counts = Partial {
        expected: 5_994,
        found: 200,
    };
    assert_eq!(partial(CUB, &root, Split::Train).partial(), Some(counts));
    let error = open_known(CUB, &root, Split::Train, Completeness::Full).unwrap_err();
    assert!(
        error.to_string().contains(
            "gives 200 images for the train split of CUB-200-2011, expected exactly 5994"
        ),
        "{error}"
    );
}

/// The message of the refusal with one list of CUB changed, which is restored after it.
fn altered_cub(root: &Path, list: &str, from: &str, to: &str) -> String {
    let path = root.join(list);
    let text = fs::read_to_string(&path).unwrap();
    let altered = text.replacen(from, to, 1);
    assert_ne!(altered, text, "nothing was changed");
    fs::write(&path, altered).unwrap();
    let message = refusal(CUB, root, Split::Train);
    fs::write(&path, text).unwrap();
    message
}

#[test]
fn lists_of_cub_that_contradict_each_other_are_refused() {
    let folder = tempdir().unwrap();
    cub(folder.path());
    let labels = "image_class_labels.txt";
    let cases = [
        (
            labels,
            "400 200\n",
            "",
            "it lacks 1 images of images.txt, one is \"400\"",
        ),
        (labels, "400 200\n", "401 200\n", "line 1 of"),
        (
            labels,
            "\n399 200\n",
            "\n400 200\n",
            "the id \"400\" occurs twice",
        ),
        (
            labels,
            "\n399 200\n",
            "\n399 two\n",
            "it gives \"two\", expected the number of a class",
        ),
        (
            labels,
            "\n399 200\n",
            "\n399 201\n",
            "classes.txt cannot be opened as a data set: it has no class 201, which images have",
        ),
        (
            labels,
            "\n399 200\n",
            "\n399 199\n",
            "the class \"199.Bird_199\"",
        ),
        (
            labels,
            "\n399 200\n",
            "\n399 -1\n",
            "expected the number of a class",
        ),
        (
            "train_test_split.txt",
            "7 1\n",
            "7 2\n",
            "it gives \"2\", expected 1 for training or 0 for test",
        ),
        ("train_test_split.txt", "7 1\n", "", "it lacks 1 images"),
        ("images.txt", "\n2 0", "\n1 0", "line 2 of"),
        (
            "images.txt",
            "\n3 002.Bird_2/",
            "\n3 ../002.Bird_2/",
            "leads upwards",
        ),
        (
            "images.txt",
            "\n3 002.Bird_2/",
            "\n3 /002.Bird_2/",
            "is absolute",
        ),
        (
            "images.txt",
            "\n3 002.Bird_2/",
            "\n3 002.Bird_2\\",
            "a backslash",
        ),
        ("images.txt", "\n3 002.Bird_2/", "\n3 \0/", "NUL"),
        (
            "classes.txt",
            "\n199 ",
            "\n200 ",
            "the class 200 occurs twice",
        ),
        ("classes.txt", "\n199 ", "\nx ", "it starts with \"x\""),
    ];
    for (list, from, to, sentence) in cases {
        let message = altered_cub(folder.path(), list, from, to);
        assert!(
            message.contains(sentence) && (message.contains(list) || sentence.contains(".txt")),
            "{sentence}: {message}"
        );
    }
    // Numbers from 0 would shift every label by one.
    let zero_based = |number: usize| number - 1;
    let rows = (1..=400).map(|id: usize| format!("{id} {}", zero_based(id.div_ceil(2))));
    write(&folder.path().join(labels), lines(rows));
    let classes =
        (1..=200).map(|number| format!("{} {number:03}.Bird_{number}", zero_based(number)));
    write(&folder.path().join("classes.txt"), lines(classes));
    let message = refusal(CUB, folder.path(), Split::Train);
    assert!(
        message.contains("the numbers of its classes are not 1, 2, 3"),
        "{message}"
    );
}

/// The number of the class with the given label: 555 of 1,011, with gaps and with more than three digits.
fn bird(label: usize) -> usize {
    match label {
        0..10 => label * 3,
        _ => 1_010 - (554 - label),
    }
}

/// NABirds with one training image in each of the 555 classes and a test image in one.
fn nabirds() -> (TempDir, PathBuf) {
    let folder = tempdir().unwrap();
    let root = folder.path().join("nabirds");
    let mut images = Vec::new();
    for label in (0..555).rev() {
        images.push((format!("0000139e-{label:04}"), bird(label), 1));
    }
    images.push(("ffff139e-0001".to_owned(), bird(3), 0));
    let path =
        |(id, class, _): &(String, usize, u8)| format!("{class:04}/{}.jpg", id.replace('-', ""));
    write(
        &root.join("images.txt"),
        lines(
            images
                .iter()
                .map(|image| format!("{} {}", image.0, path(image))),
        ),
    );
    let labels = images
        .iter()
        .rev()
        .map(|image| format!("{} {}", image.0, image.1));
    write(&root.join("image_class_labels.txt"), lines(labels));
    let parts = images
        .iter()
        .map(|image| format!("{} {}", image.0, image.2));
    write(&root.join("train_test_split.txt"), lines(parts));
    let classes = (0..1_011).map(|class| format!("{class} Bird No. {class} (Female/immature)"));
    write(&root.join("classes.txt"), lines(classes));
    touch(&root.join("images"), images.iter().map(path));
    (folder, root)
}

#[test]
fn nabirds_has_555_classes_ranked_by_number() {
    let (folder, root) = nabirds();
    for path in [folder.path(), &root] {
        let train = partial(NABIRDS, path, Split::Train);
        assert_eq!(
            train.class_names().len(),
            555,
            "not the 1,011 nodes of the tree"
        );
        assert_eq!(train.class_names()[543], "Bird No. 999 (Female/immature)");
        assert_eq!(
            train.class_names()[544],
            "Bird No. 1000 (Female/immature)",
            "as text, 1000 would come before 999"
        );
        assert_eq!(train.class_ids()[..5], ["0", "3", "6", "9", "12"]);
        assert_eq!(train.class_ids()[554], "1010");
        assert_eq!(train.labels()[..2], [554, 553]);
        assert_eq!(
            names(&train, &root.join("images"))[0],
            "1010/0000139e0554.jpg"
        );
        assert_eq!(train.subset(&[0]).class_ids().len(), 555);
    }
    let test = partial(NABIRDS, &root, Split::Test);
    assert_eq!(test.labels(), [3], "the classes are those of both splits");
}

#[test]
fn a_cut_list_of_nabirds_cannot_shift_labels() {
    let (folder, root) = nabirds();
    let drop_first = |list: &str| {
        let path = root.join(list);
        let text = fs::read_to_string(&path).unwrap();
        let kept: Vec<&str> = text
            .lines()
            .filter(|line| !line.starts_with("0000139e-0200"))
            .collect();
        fs::write(&path, lines(kept)).unwrap();
    };
    drop_first("images.txt");
    let message = refusal(NABIRDS, folder.path(), Split::Train);
    assert!(message.contains("is not in images.txt"), "{message}");
    drop_first("image_class_labels.txt");
    drop_first("train_test_split.txt");
    let message = refusal(NABIRDS, folder.path(), Split::Train);
    assert!(
        message.contains("it gives 554 classes, and NABirds has 555"),
        "{message}"
    );
}
