//! PNG files, through the `image` crate.

use std::io::Cursor;
use std::path::Path;

use ::image::codecs::png::PngDecoder;
use ::image::{DynamicImage, ImageDecoder, Limits};

use crate::decode::{check_size, damaged};
use crate::{DatasetError, Image};

pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Image, DatasetError> {
    // The default limit bounds what compressed profiles and texts may expand to.
    let decoder =
        PngDecoder::with_limits(Cursor::new(bytes), Limits::default()).map_err(damaged(path))?;
    let (width, height) = decoder.dimensions();
    check_size(path, width.into(), height.into(), bytes.len())?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(damaged(path))?;
    Ok(from_dynamic(decoded))
}

/// The samples without alpha; deep ones keep their high byte.
pub(crate) fn from_dynamic(decoded: DynamicImage) -> Image {
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
