//! One decoded image.

use crate::CropBox;

/// An image of `u8` samples in `[height, width, channels]` order, with 1 (grey) or 3 (red, green, blue) channels.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// Wraps pixels in `[height, width, channels]` order.
    ///
    /// # Panics
    ///
    /// If a side is 0, `channels` is neither 1 nor 3, or the number of pixels does not match.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Self {
        assert!(width > 0 && height > 0, "an image has at least one pixel");
        assert!(
            channels == 1 || channels == 3,
            "an image has 1 or 3 channels, not {channels}"
        );
        assert_eq!(
            pixels.len(),
            width * height * channels,
            "pixels and shape disagree"
        );
        Self {
            width,
            height,
            channels,
            pixels,
        }
    }

    /// Number of columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// 1 for grey, 3 for colour.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Samples in `[height, width, channels]` order.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// The same picture with three channels; grey is replicated.
    pub fn to_rgb(&self) -> Self {
        if self.channels == 3 {
            return self.clone();
        }
        let pixels = self.pixels.iter().flat_map(|&grey| [grey; 3]).collect();
        Self::new(self.width, self.height, 3, pixels)
    }

    /// Like [`Image::to_rgb`], without a copy of what has three channels already.
    pub fn into_rgb(self) -> Self {
        if self.channels == 3 {
            self
        } else {
            self.to_rgb()
        }
    }

    /// A rectangle of the picture.
    ///
    /// # Panics
    ///
    /// If it is empty or leaves the picture.
    pub fn crop(&self, crop: CropBox) -> Self {
        assert!(
            crop.left + crop.width <= self.width && crop.top + crop.height <= self.height,
            "{crop:?} leaves an image of {}x{} pixels",
            self.width,
            self.height
        );
        let columns = crop.left * self.channels..(crop.left + crop.width) * self.channels;
        let mut pixels = Vec::with_capacity(crop.width * crop.height * self.channels);
        let rows = self.pixels.chunks_exact(self.width * self.channels);
        for row in rows.skip(crop.top).take(crop.height) {
            pixels.extend_from_slice(&row[columns.clone()]);
        }
        Self::new(crop.width, crop.height, self.channels, pixels)
    }

    /// Centred on a black square whose sides are no shorter, an odd pixel going to the right or below.
    pub(crate) fn padded(self, size: usize) -> Self {
        if self.width == size && self.height == size {
            return self;
        }
        let (left, top) = ((size - self.width) / 2, (size - self.height) / 2);
        let mut pixels = vec![0; size * size * self.channels];
        let rows = self.pixels.chunks_exact(self.width * self.channels);
        for (y, row) in rows.enumerate() {
            let start = ((top + y) * size + left) * self.channels;
            pixels[start..start + row.len()].copy_from_slice(row);
        }
        Self::new(size, size, self.channels, pixels)
    }

    /// The same picture with one channel: ITU-R 601 luma with the rounding of Pillow's `L` mode.
    pub fn to_grey(&self) -> Self {
        if self.channels == 1 {
            return self.clone();
        }
        let pixels = self.pixels.chunks_exact(3).map(luma).collect();
        Self::new(self.width, self.height, 1, pixels)
    }

    /// The picture mirrored left to right.
    pub fn flipped(&self) -> Self {
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for row in self.pixels.chunks_exact(self.width * self.channels) {
            for pixel in row.chunks_exact(self.channels).rev() {
                pixels.extend_from_slice(pixel);
            }
        }
        Self::new(self.width, self.height, self.channels, pixels)
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Image({}x{}, {} channels)",
            self.width, self.height, self.channels
        )
    }
}

/// Pillow's `L24` macro: weights in 1/65536, rounded half up.
fn luma(rgb: &[u8]) -> u8 {
    let sum = u32::from(rgb[0]) * 19_595 + u32::from(rgb[1]) * 38_470 + u32::from(rgb[2]) * 7_471;
    ((sum + 0x8000) >> 16) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_follows_pillow() {
        // Image.new("RGB", (1, 1), c).convert("L") for four colours, worked out from the published weights.
        let image = Image::new(
            4,
            1,
            3,
            vec![255, 0, 0, 0, 255, 0, 0, 0, 255, 255, 255, 255],
        );
        assert_eq!(image.to_grey().pixels(), [76, 150, 29, 255]);
    }

    #[test]
    fn replicated_grey_comes_back() {
        let grey = Image::new(16, 16, 1, (0..=255).collect());
        assert_eq!(grey.to_rgb().channels(), 3);
        assert_eq!(grey.to_rgb().to_grey(), grey);
    }

    #[test]
    fn flipping_mirrors_columns_and_keeps_channels() {
        let image = Image::new(2, 2, 3, (0..12).collect());
        assert_eq!(
            image.flipped().pixels(),
            [3, 4, 5, 0, 1, 2, 9, 10, 11, 6, 7, 8]
        );
        assert_eq!(image.flipped().flipped(), image);
    }
}
