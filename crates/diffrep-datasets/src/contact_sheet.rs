//! A picture of a data set: a few thumbnails of each class.

use diffrep_rng::{Key, Stream};
use rayon::prelude::*;

use crate::{Dataset, DatasetError, Filter, Image, resize};

/// What a contact sheet shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SheetOptions {
    /// Images of each class, in a row.
    pub per_class: usize,
    /// How many classes are shown, the first ones; each has a row.
    pub most_classes: usize,
    /// Width and height of the square that each thumbnail is fitted into, in pixels.
    pub thumbnail: usize,
    /// If given, the images of a class are drawn at random by it; else they are the first.
    pub seed: Option<u64>,
}

impl Default for SheetOptions {
    /// Eight thumbnails of 64 pixels for each of at most 50 classes, the first of their class.
    fn default() -> Self {
        Self {
            per_class: 8,
            most_classes: 50,
            thumbnail: 64,
            seed: None,
        }
    }
}

/// White space between thumbnails and around them, in pixels.
const GAP: usize = 2;

/// The most pixels of a sheet.
const LARGEST: usize = 1 << 27;

/// Behind thumbnails that are not square.
const BACKGROUND: [u8; 3] = [224; 3];

/// In place of an image that cannot be read: a colour that no photograph fills a square with.
const UNREADABLE: [u8; 3] = [255, 0, 255];

/// A draw of the split stream apart from those that choose samples for computation.
const DRAW: u32 = 2;

/// Draws thumbnails in a grid, a row for each class in the order of labels, on white.
///
/// A class with fewer images leaves its row unfilled, and an image that cannot be read is a magenta square.
///
/// # Errors
///
/// [`DatasetError::SheetSize`] if the sheet would be empty or have more than 2^27 pixels.
pub fn contact_sheet(dataset: &Dataset, options: &SheetOptions) -> Result<Image, DatasetError> {
    let rows = dataset.class_names().len().min(options.most_classes);
    let side = |count: usize| {
        options
            .thumbnail
            .checked_add(GAP)?
            .checked_mul(count)?
            .checked_add(GAP)
    };
    let size = side(options.per_class).zip(side(rows));
    let pixels = size.and_then(|(width, height)| width.checked_mul(height));
    let empty = rows == 0 || options.per_class == 0 || options.thumbnail == 0;
    let (Some((width, height)), false, Some(0..=LARGEST)) = (size, empty, pixels) else {
        return Err(DatasetError::SheetSize {
            rows,
            columns: options.per_class,
            thumbnail: options.thumbnail,
        });
    };

    let chosen = choose(dataset, rows, options);
    let thumbnails: Vec<(usize, usize, Image)> = chosen
        .into_par_iter()
        .map(|(row, column, index)| (row, column, thumbnail(dataset, index, options.thumbnail)))
        .collect();
    let mut sheet = vec![255; width * height * 3];
    for (row, column, image) in thumbnails {
        let left = GAP + column * (options.thumbnail + GAP);
        let top = GAP + row * (options.thumbnail + GAP);
        paste(&mut sheet, width, &image, left, top);
    }
    Ok(Image::new(width, height, 3, sheet))
}

/// Row, column and position of each image that is shown.
fn choose(dataset: &Dataset, rows: usize, options: &SheetOptions) -> Vec<(usize, usize, usize)> {
    let mut classes = vec![Vec::new(); rows];
    for (index, &label) in dataset.labels().iter().enumerate() {
        if let Some(class) = classes.get_mut(label as usize) {
            class.push(index);
        }
    }
    let mut chosen = Vec::new();
    for (row, mut indices) in classes.into_iter().enumerate() {
        if let Some(seed) = options.seed {
            let key = Key::new(seed, Stream::Split).sample(row as u64).draw(DRAW);
            key.generator().shuffle(&mut indices);
        }
        let columns = indices.into_iter().take(options.per_class).enumerate();
        chosen.extend(columns.map(|(column, index)| (row, column, index)));
    }
    chosen
}

/// The image fitted into a square, in its middle.
fn thumbnail(dataset: &Dataset, index: usize, size: usize) -> Image {
    let filled = |colour: [u8; 3]| colour.repeat(size * size);
    let Ok(image) = dataset.image(index) else {
        return Image::new(size, size, 3, filled(UNREADABLE));
    };
    let longest = image.width().max(image.height());
    // Rounded down, but a line is still visible.
    let fit = |side: usize| (side * size / longest).max(1);
    let (width, height) = (fit(image.width()), fit(image.height()));
    let filter = if longest < size {
        Filter::Bicubic
    } else {
        Filter::Box
    };
    let small = resize(&image.to_rgb(), width, height, filter);
    let mut square = filled(BACKGROUND);
    paste(
        &mut square,
        size,
        &small,
        (size - width) / 2,
        (size - height) / 2,
    );
    Image::new(size, size, 3, square)
}

/// Copies a colour image into one that is `width` pixels wide.
fn paste(target: &mut [u8], width: usize, image: &Image, left: usize, top: usize) {
    for (row, pixels) in image.pixels().chunks_exact(image.width() * 3).enumerate() {
        let start = ((top + row) * width + left) * 3;
        target[start..start + pixels.len()].copy_from_slice(pixels);
    }
}
