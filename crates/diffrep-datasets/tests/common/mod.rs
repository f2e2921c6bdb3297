//! What the tests of several layouts write.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::fs;
use std::io::Cursor;
use std::path::Path;

use diffrep_datasets::{Dataset, Split, open};

/// A 3x2 PNG of one colour.
pub(crate) fn png(colour: [u8; 3]) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image::RgbImage::from_pixel(3, 2, image::Rgb(colour))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// Writes a file and the folders above it.
pub(crate) fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

/// A tar archive with the given members.
pub(crate) fn tar(members: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, name, content.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// The colour of the first pixel of every image.
pub(crate) fn colours(dataset: &Dataset) -> Vec<Vec<u8>> {
    (0..dataset.len())
        .map(|index| dataset.image(index).unwrap().pixels()[..3].to_vec())
        .collect()
}

/// The message of the error that opening a split gives.
pub(crate) fn refusal(path: &Path, split: Split) -> String {
    open(path, split).unwrap_err().to_string()
}
