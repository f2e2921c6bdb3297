//! Files that NumPy wrote, files written here, and hostile files.

mod common;

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use common::{fixture, statistics, tensors};
use diffrep_fid::{
    FEATURES, FeatureFile, Features, FidError, ImageFile, Source, Statistics, StatisticsFile,
    write_features, write_images,
};
use proptest::prelude::*;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

fn source() -> Source {
    Source {
        extractor: "inception, sha256 6726825d, pool3".into(),
        resize: "bilinear to 299".into(),
    }
}

fn close(a: &[f64], b: &[f64], tolerance: f64) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance)
}

/// A `.npz` of one member, with this `.npy` header text and these bytes behind it.
fn npz(name: &str, text: &str, data: &[u8], method: CompressionMethod) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    writer.start_file(format!("{name}.npy"), options).unwrap();
    writer.write_all(b"\x93NUMPY\x01\x00").unwrap();
    writer
        .write_all(&(text.len() as u16).to_le_bytes())
        .unwrap();
    writer.write_all(text.as_bytes()).unwrap();
    writer.write_all(data).unwrap();
    writer.finish().unwrap().into_inner()
}

fn written(folder: &Path, bytes: &[u8]) -> PathBuf {
    let path = folder.join("file.npz");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn statistics_of_numpy_are_read() {
    let all = tensors("frechet/files.safetensors");
    let found = StatisticsFile::read(fixture("frechet/statistics.npz")).unwrap();
    let expected = statistics(&all["x"].1, 6);
    assert!(close(found.pool.mean(), expected.mean(), 1e-15));
    assert!(close(found.pool.covariance(), expected.covariance(), 1e-15));
    assert_eq!((found.pool.count(), found.pool.source()), (None, None));
    // The spatial ones lie there in f32.
    let (found, expected) = (found.spatial.unwrap(), statistics(&all["y"].1, 4));
    assert!(close(found.covariance(), expected.covariance(), 1e-6));
}

#[test]
fn statistics_written_here_are_read_again_with_all_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let all = tensors("frechet/files.safetensors");
    let file = StatisticsFile {
        pool: statistics(&all["x"].1, 6).with_source(source()),
        spatial: Some(statistics(&all["y"].1, 4)),
    };
    for name in ["a.npz", "a.safetensors"] {
        let path = folder.path().join(name);
        file.write(&path).unwrap();
        assert_eq!(StatisticsFile::read(&path).unwrap(), file, "{name}");
        let bytes = std::fs::read(&path).unwrap();
        file.write(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), bytes, "{name}");
    }
    let error = file.write(folder.path().join("a.pkl")).unwrap_err();
    assert!(matches!(error, FidError::Ending { .. }), "{error}");
}

#[test]
fn features_are_read_in_batches_and_whole() {
    let all = tensors("frechet/files.safetensors");
    let file = FeatureFile::open(fixture("frechet/features.npz"), FEATURES).unwrap();
    assert_eq!((file.count(), file.dim()), (40, 6));
    let matrix = file.read::<f64>().unwrap();
    assert_eq!(matrix.view().values(), all["x"].1);
    let mut sizes = Vec::new();
    file.for_each(17, |rows| {
        sizes.push(rows.count());
        Ok::<(), FidError>(())
    })
    .unwrap();
    assert_eq!(sizes, [17, 17, 6]);
    assert_eq!(file.statistics().unwrap(), statistics(&all["x"].1, 6));
    // The same from safetensors, under another name.
    let other = FeatureFile::open(fixture("frechet/files.safetensors"), "x").unwrap();
    assert_eq!(other.read::<f64>().unwrap(), matrix);
}

#[test]
fn features_written_here_are_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("f.safetensors");
    let values: Vec<f32> = (0..12).map(|i| i as f32 / 7.0).collect();
    write_features(&path, Features::new(&values, 4).unwrap(), Some(&source())).unwrap();
    let file = FeatureFile::open(&path, FEATURES).unwrap();
    assert_eq!(file.read::<f32>().unwrap().view().values(), values);
    assert_eq!(file.source(), Some(&source()));
    assert_eq!(file.statistics().unwrap().source(), Some(&source()));
}

#[test]
fn images_of_numpy_are_read_in_batches() {
    let bytes = std::fs::read(fixture("frechet/files.safetensors")).unwrap();
    let expected = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let expected = expected.tensor("images").unwrap().data().to_vec();
    let file = ImageFile::open(fixture("frechet/images.npz")).unwrap();
    assert_eq!((file.count(), file.height(), file.width()), (5, 4, 6));
    assert_eq!(file.labels(), Some(&[3, 1, 4, 1, 5][..]));
    let (mut pixels, mut firsts) = (Vec::new(), Vec::new());
    file.for_each(2, |batch| {
        assert_eq!(
            batch.pixels.len(),
            batch.count * batch.height * batch.width * 3
        );
        firsts.push(batch.first);
        pixels.extend_from_slice(batch.pixels);
        Ok::<(), FidError>(())
    })
    .unwrap();
    assert_eq!(firsts, [0, 2, 4]);
    assert_eq!(pixels, expected);
}

#[test]
fn images_written_here_are_read_again_with_their_labels() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("samples.npz");
    let image = |place: usize| (0..2 * 4 * 3).map(|i| (place * 24 + i) as u8).collect();
    let write = |labels: Option<&[i64]>| {
        write_images(&path, [5, 2, 4], labels, Some("{}"), |place| {
            Ok::<Vec<u8>, FidError>(image(place))
        })
        .unwrap();
        std::fs::read(&path).unwrap()
    };
    let labels = [3i64, 0, 9, 1, 2];
    let bytes = write(Some(&labels));
    let file = ImageFile::open(&path).unwrap();
    assert_eq!((file.count(), file.height(), file.width()), (5, 2, 4));
    assert_eq!(file.labels(), Some(&labels[..]));
    assert_eq!(file.note(), Some("{}"));
    let mut found = Vec::new();
    file.for_each(2, |batch| {
        found.extend_from_slice(batch.pixels);
        Ok::<_, FidError>(())
    })
    .unwrap();
    assert_eq!(found, (0..5).flat_map(image).collect::<Vec<u8>>());
    assert_eq!(
        write(Some(&labels)),
        bytes,
        "the same images, the same bytes"
    );
    write(None);
    assert_eq!(ImageFile::open(&path).unwrap().labels(), None);
}

#[test]
fn images_that_cannot_be_had_leave_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(folder.path(), b"before");
    let done = write_images(&path, [2, 1, 1], None, None, |place| match place {
        0 => Ok(vec![0; 3]),
        _ => Err(FidError::TooFew {
            what: "the second image".into(),
            needed: 1,
            found: 0,
        }),
    });
    assert!(done.unwrap_err().to_string().contains("the second image"));
    assert_eq!(std::fs::read(&path).unwrap(), b"before");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn an_error_names_the_file_and_what_is_there() {
    let error = StatisticsFile::read(fixture("frechet/images.npz")).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("images.npz"), "{text}");
    assert!(
        text.contains(r#"no array `mu`, only ["arr_0", "arr_1"]"#),
        "{text}"
    );
    let error = StatisticsFile::read(fixture("frechet/none.npz")).unwrap_err();
    assert!(matches!(&error, FidError::Read { path, .. } if path.ends_with("none.npz")));
}

#[test]
fn a_shape_that_the_bytes_do_not_fill_reserves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for shape in [
        "(1000000000, 2048)",
        "(4294967296, 4294967296)",
        "(3, 1)",
        "(1, 1)",
    ] {
        let text = format!("{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}");
        let bytes = npz("features", &text, &[0; 16], CompressionMethod::Stored);
        let error = FeatureFile::open(written(folder.path(), &bytes), FEATURES).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("does not fit its"), "{shape}: {text}");
    }
}

#[test]
fn a_size_that_the_archive_lies_about_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{'descr': '<f8', 'fortran_order': False, 'shape': (8, 1000000000000), }";
    let mut bytes = npz("features", text, &[0; 16], CompressionMethod::Deflated);
    // In the central directory and before the member, for both to tell the same lie.
    let true_size = (10 + text.len() + 16) as u32;
    let places: Vec<usize> = (0..bytes.len() - 4)
        .filter(|&i| bytes[i..i + 4] == true_size.to_le_bytes())
        .collect();
    assert_eq!(places.len(), 2);
    for place in places {
        bytes[place..place + 4].copy_from_slice(&0xffff_fff0u32.to_le_bytes());
    }
    assert!(FeatureFile::open(written(folder.path(), &bytes), FEATURES).is_err());
}

#[test]
fn a_zip_bomb_is_not_unpacked_into_memory() {
    let folder = tempfile::tempdir().unwrap();
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (17000, 1024), }";
    let bytes = npz(
        "features",
        text,
        &vec![0; 17000 * 1024 * 4],
        CompressionMethod::Deflated,
    );
    assert!(bytes.len() < 100_000);
    let file = FeatureFile::open(written(folder.path(), &bytes), FEATURES).unwrap();
    let error = file.read::<f32>().unwrap_err();
    assert!(error.to_string().contains("no real features do"), "{error}");
}

#[test]
fn wrong_arrays_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().unwrap();
    let open = |bytes: &[u8]| {
        let error = FeatureFile::open(written(folder.path(), bytes), FEATURES);
        error
            .and_then(|file| file.read::<f64>())
            .unwrap_err()
            .to_string()
    };
    let array = |text: &str, data: &[u8]| npz("features", text, data, CompressionMethod::Stored);
    let columns = "{'descr': '<f8', 'fortran_order': True, 'shape': (2, 1), }";
    assert!(open(&array(columns, &[0; 16])).contains("ascontiguousarray"));
    let line = "{'descr': '<f8', 'fortran_order': False, 'shape': (2,), }";
    assert!(open(&array(line, &[0; 16])).contains("expected [count, dim]"));
    let integers = "{'descr': '<i8', 'fortran_order': False, 'shape': (2, 1), }";
    assert!(open(&array(integers, &[0; 16])).contains("expected floats"));
    let plain = "{'descr': '<f8', 'fortran_order': False, 'shape': (2, 1), }";
    let mut values = [1.0f64.to_le_bytes(), f64::NAN.to_le_bytes()].concat();
    assert!(open(&array(plain, &values)).contains("row 1, column 0 is NaN"));
    // One bit of the data that does not match the checksum.
    values[15] = 0;
    let mut bytes = array(plain, &values);
    let place = bytes.windows(8).position(|w| w == 1.0f64.to_le_bytes());
    bytes[place.unwrap()] ^= 1;
    assert!(open(&bytes).contains("hecksum"), "{}", open(&bytes));
    assert!(open(b"PK\x03\x04").contains("damaged"));
    assert!(open(b"").contains("too early"));
    assert!(open(&[0xff; 64]).contains("its header would have"));
}

#[test]
fn a_matrix_that_is_no_covariance_is_refused() {
    let new = |values: [f64; 4]| Statistics::new(vec![0.0; 2], values.to_vec(), None, None);
    for values in [
        [1.0, 0.5, 0.4, 1.0],
        [1.0, 0.0, 0.0, -1.0],
        [1.0, 0.0, 0.0, f64::NAN],
    ] {
        assert!(new(values).is_err(), "{values:?}");
    }
    // Symmetric, but with the eigenvalues 3 and -1.
    let crooked = new([1.0, 2.0, 2.0, 1.0]).unwrap();
    let error = diffrep_fid::frechet_distance(&crooked, &crooked).unwrap_err();
    assert!(matches!(error, FidError::NotCovariance { .. }), "{error}");
    assert!(Statistics::new(vec![0.0; 2], vec![0.0; 3], None, None).is_err());
}

/// Opens a file in every way; only that nothing panics is of interest.
fn open_all(path: &Path) -> usize {
    let mut good = 0;
    good += usize::from(StatisticsFile::read(path).is_ok());
    for name in [FEATURES, "x", "mu"] {
        let file = FeatureFile::open(path, name);
        good += usize::from(file.and_then(|file| file.read::<f32>()).is_ok());
    }
    let images = ImageFile::open(path);
    let read = images.and_then(|file| file.for_each(2, |_| Ok::<(), FidError>(())));
    good + usize::from(read.is_ok())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn damaged_files_give_errors_and_not_panics(
        which in 0usize..4,
        cut in 0.0f64..1.5,
        flips in prop::collection::vec((0.0f64..1.0, any::<u8>()), 0..4),
    ) {
        let name = ["statistics.npz", "features.npz", "images.npz", "files.safetensors"][which];
        let mut bytes = std::fs::read(fixture("frechet").join(name)).unwrap();
        let length = bytes.len();
        bytes.truncate((cut * length as f64) as usize);
        for (place, value) in flips {
            let place = (place * bytes.len() as f64) as usize;
            if let Some(byte) = bytes.get_mut(place) {
                *byte = value;
            }
        }
        let folder = tempfile::tempdir().unwrap();
        let path = written(folder.path(), &bytes);
        let good = open_all(&path);
        if bytes.len() < length && which < 3 {
            // The list of an archive's members is at its end.
            prop_assert_eq!(good, 0);
        }
    }
}
