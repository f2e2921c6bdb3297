//! Bytes of a PNG or JPEG file to an image, as Pillow's `convert("RGB")` would have it.

use std::path::Path;

use ::image::{DynamicImage, ImageFormat, guess_format, load_from_memory_with_format};

use crate::{DatasetError, Image};

/// Decodes by the first bytes, whatever the extension.
///
/// Palettes are looked up, alpha is dropped without compositing, 16-bit samples keep their high byte, and EXIF
/// orientation is not applied. `path` only names the file in errors.
///
/// # Errors
///
/// If the bytes are neither PNG nor JPEG, or damaged.
pub fn decode(path: &Path, bytes: &[u8]) -> Result<Image, DatasetError> {
    let format = match guess_format(bytes) {
        Ok(format @ (ImageFormat::Png | ImageFormat::Jpeg)) => format,
        _ => {
            return Err(DatasetError::UnknownFormat {
                path: path.to_path_buf(),
            });
        }
    };
    // The decoder fills what is missing with grey; Pillow refuses, and so must a data set.
    if format == ImageFormat::Jpeg && !jpeg_has_end(bytes) {
        return Err(DatasetError::TruncatedJpeg {
            path: path.to_path_buf(),
        });
    }
    let decoded =
        load_from_memory_with_format(bytes, format).map_err(|source| DatasetError::Decode {
            path: path.to_path_buf(),
            source,
        })?;
    Ok(from_dynamic(decoded))
}

/// Whether the markers of a JPEG stream lead to an end-of-image marker.
///
/// Segments are stepped over by their length, so a thumbnail's own marker does not count.
fn jpeg_has_end(bytes: &[u8]) -> bool {
    let mut position = 2;
    while let Some(&[prefix, marker]) = bytes.get(position..position + 2) {
        match (prefix, marker) {
            (0xff, 0xd9) => return true,
            // Fill bytes before a marker.
            (0xff, 0xff) => position += 1,
            // A stuffed zero, a restart, or a marker without a body.
            (0xff, 0x00 | 0x01 | 0xd0..=0xd8) => position += 2,
            (0xff, _) => match bytes.get(position + 2..position + 4) {
                Some(&[high, low]) => position += 2 + usize::from(u16::from_be_bytes([high, low])),
                _ => return false,
            },
            _ => position += 1,
        }
    }
    false
}

fn from_dynamic(decoded: DynamicImage) -> Image {
    let (width, height) = (decoded.width() as usize, decoded.height() as usize);
    let grey = |pixels| Image::new(width, height, 1, pixels);
    let colour = |pixels| Image::new(width, height, 3, pixels);
    match decoded {
        DynamicImage::ImageLuma8(image) => grey(image.into_raw()),
        DynamicImage::ImageLumaA8(image) => grey(image.pixels().map(|pixel| pixel[0]).collect()),
        DynamicImage::ImageLuma16(image) => grey(image.iter().map(high_byte).collect()),
        DynamicImage::ImageLumaA16(image) => {
            grey(image.pixels().map(|pixel| high_byte(&pixel[0])).collect())
        }
        DynamicImage::ImageRgb8(image) => colour(image.into_raw()),
        DynamicImage::ImageRgba8(image) => colour(
            image
                .pixels()
                .flat_map(|pixel| [pixel[0], pixel[1], pixel[2]])
                .collect(),
        ),
        DynamicImage::ImageRgb16(image) => colour(image.iter().map(high_byte).collect()),
        DynamicImage::ImageRgba16(image) => colour(
            image
                .pixels()
                .flat_map(|pixel| [0, 1, 2].map(|channel| high_byte(&pixel[channel])))
                .collect(),
        ),
        // Neither PNG nor JPEG yields floating point samples.
        other => colour(other.into_rgb8().into_raw()),
    }
}

fn high_byte(sample: &u16) -> u8 {
    (sample >> 8) as u8
}
