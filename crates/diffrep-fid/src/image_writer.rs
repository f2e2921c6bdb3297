//! Images as guided-diffusion's `image_sample.py` saves them and its evaluator reads them.

use std::io::{self, Write};
use std::path::Path;

use diffrep_artifact::write_atomic;
use zip::write::{SimpleFileOptions, ZipWriter};

use crate::FidError;
use crate::image_file::{IMAGES, LABELS, NOTE};
use crate::npy::{Element, Header};

/// Writes RGB images of one size as `.npz`: `arr_0` u8 `[count, height, width, 3]` and, with labels, `arr_1`
/// i64 `[count]`; a note about them lies beside as `note`, which others do not read. The file appears whole or not at all, one image is in memory at a time, and the same images
/// give the same bytes.
///
/// `shape` is count, height and width; `image` gives an image's samples by its place, `[height, width, 3]`, red
/// first.
///
/// # Errors
///
/// [`FidError::Artifact`] when the file cannot be written, and the first error of `image`.
///
/// # Panics
///
/// When an image has another length than its shape says, or there are more or fewer labels than images.
pub fn write_images<E: From<FidError>>(
    path: impl AsRef<Path>,
    shape: [usize; 3],
    labels: Option<&[i64]>,
    note: Option<&str>,
    mut image: impl FnMut(usize) -> Result<Vec<u8>, E>,
) -> Result<(), E> {
    let [count, height, width] = shape;
    let mut refused = None;
    let written = write_atomic(path, |output| {
        let mut writer = ZipWriter::new_stream(output);
        let options = SimpleFileOptions::default()
            .compression_method(zip::CompressionMethod::Stored)
            .large_file(true);
        begin(
            &mut writer,
            IMAGES,
            options,
            Element::Unsigned(1),
            &[count, height, width, 3],
        )?;
        for place in 0..count {
            let pixels = match image(place) {
                Ok(pixels) => pixels,
                Err(error) => {
                    refused = Some(error);
                    return Err(io::ErrorKind::InvalidData.into());
                }
            };
            assert_eq!(pixels.len(), height * width * 3, "samples of an image");
            writer.write_all(&pixels)?;
        }
        if let Some(labels) = labels {
            assert_eq!(labels.len(), count, "a label for each image");
            begin(&mut writer, LABELS, options, Element::Signed(8), &[count])?;
            for label in labels {
                writer.write_all(&label.to_le_bytes())?;
            }
        }
        if let Some(note) = note {
            let shape = [note.len()];
            begin(&mut writer, NOTE, options, Element::Unsigned(1), &shape)?;
            writer.write_all(note.as_bytes())?;
        }
        writer.finish().map_err(io::Error::other)?;
        Ok(())
    });
    match (refused, written) {
        (Some(error), _) => Err(error),
        (None, written) => written.map_err(|error| E::from(error.into())),
    }
}

/// Begins an array.
fn begin<W: Write + io::Seek>(
    writer: &mut ZipWriter<W>,
    name: &str,
    options: SimpleFileOptions,
    element: Element,
    shape: &[usize],
) -> io::Result<()> {
    let begun = writer.start_file(format!("{name}.npy"), options);
    begun.map_err(io::Error::other)?;
    let header = Header {
        element,
        fortran_order: false,
        shape: shape.iter().map(|axis| *axis as u64).collect(),
    };
    header.write(writer)
}
