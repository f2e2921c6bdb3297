//! JPEG files: libjpeg-turbo's samples, and Pillow's idea of which files are whole and how CMYK becomes RGB.

use std::io::{BufRead, Cursor};
use std::path::Path;

use ::image::codecs::jpeg::JpegDecoder;
use ::image::{DynamicImage, ImageDecoder};
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use crate::decode::{MAX_PIXELS, check_size, damaged};
use crate::{DatasetError, Image, png};

/// The bits of libjpeg-turbo with its defaults, which are Pillow's: accurate integer DCT, smooth upsampling of chroma.
pub(crate) fn decode(path: &Path, bytes: &[u8]) -> Result<Image, DatasetError> {
    check_end(path, bytes)?;
    let limits = DecodeLimits {
        max_pixels: MAX_PIXELS,
        ..DecodeLimits::default()
    };
    let mut decoder = Decoder::new_with_limits(bytes, limits).map_err(damaged(path))?;
    let (width, height) = decoder.header().dimensions();
    check_size(path, width as u64, height as u64, bytes.len())?;
    let (precision, components) = {
        let header = decoder.header();
        (header.precision, header.components.len())
    };
    let format = match (precision, components) {
        (8, 1) => PixelFormat::Grayscale,
        (8, 3) => PixelFormat::Rgb,
        (8, 4) => PixelFormat::Cmyk,
        _ => {
            return Err(DatasetError::UnsupportedJpeg {
                path: path.to_path_buf(),
                precision,
                components,
            });
        }
    };
    decoder.set_output_format(format);
    // Off unless asked for, other than in libjpeg; it shows in progressive files that lack scans.
    decoder.set_block_smoothing(true);
    let decoded = decoder.decode_image().map_err(damaged(path))?;
    let pixels = match format {
        PixelFormat::Cmyk => rgb_from_cmyk(&decoded.data),
        _ => decoded.data,
    };
    let channels = if components == 1 { 1 } else { 3 };
    Ok(Image::new(width, height, channels, pixels))
}

/// The samples of `zune-jpeg`.
pub(crate) fn decode_approximately(path: &Path, bytes: &[u8]) -> Result<Image, DatasetError> {
    check_end(path, bytes)?;
    let decoder = JpegDecoder::new(Cursor::new(bytes)).map_err(damaged(path))?;
    let (width, height) = decoder.dimensions();
    check_size(path, width.into(), height.into(), bytes.len())?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(damaged(path))?;
    Ok(png::from_dynamic(decoded))
}

/// Pillow's conversion: all four samples are inverted first, as Adobe's programs store them, whether or not the file
/// has their marker.
fn rgb_from_cmyk(samples: &[u8]) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(samples.len() / 4 * 3);
    for &[cyan, magenta, yellow, black] in samples.as_chunks::<4>().0 {
        // 255 less the inverted black is black as stored.
        let light = i32::from(black);
        rgb.extend([cyan, magenta, yellow].map(|ink| {
            let product = light * i32::from(255 - ink) + 128;
            let absorbed = ((product >> 8) + product) >> 8;
            (light - absorbed).clamp(0, 255) as u8
        }));
    }
    rgb
}

/// Pillow refuses a file that ends early; decoders fill what is missing with grey.
fn check_end(path: &Path, bytes: &[u8]) -> Result<(), DatasetError> {
    if has_end(bytes) {
        return Ok(());
    }
    Err(DatasetError::TruncatedJpeg {
        path: path.to_path_buf(),
    })
}

/// Whether the markers of a JPEG stream lead to an end-of-image marker.
///
/// Segments are stepped over by their length, so a thumbnail's own marker does not count.
fn has_end(bytes: &[u8]) -> bool {
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        rest = match rest {
            [0xff, 0xd9, ..] => return true,
            // Fill bytes before a marker.
            [0xff, 0xff, ..] => &rest[1..],
            // A stuffed zero, a restart, or a marker without a body.
            [0xff, 0x00 | 0x01 | 0xd0..=0xd8, tail @ ..] => tail,
            // The length of a segment counts its own two bytes.
            [0xff, _, high, low, ..] => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest.get(2 + length.max(2)..).unwrap_or_default()
            }
            [] | [0xff, ..] => return false,
            // Entropy-coded data or stray bytes.
            _ => next_marker(rest),
        };
    }
}

/// The bytes from the next 0xff on.
fn next_marker(mut bytes: &[u8]) -> &[u8] {
    let all = bytes;
    // A slice is a reader that cannot fail, and this search is a vectorised one.
    let skipped = bytes.skip_until(0xff).unwrap_or(all.len());
    match all[..skipped].last() {
        Some(0xff) => &all[skipped - 1..],
        _ => &[],
    }
}
