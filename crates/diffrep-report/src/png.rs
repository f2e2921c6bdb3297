//! Heat maps as pixels, for where no SVG is shown.

use std::io::Cursor;

use font8x8::legacy::BASIC_LEGACY;
use image::{ImageFormat, Rgb, RgbImage};

use crate::figure::Heatmap;
use crate::svg::palette::{heat, readable_on};

/// Width and height of a letter, in pixels.
const LETTER: u32 = 8;
/// Pixels between things.
const GAP: u32 = 6;
/// Height of a cell.
const CELL: u32 = 20;
/// Width and height of the bar of colours.
const BAR: (u32, u32) = (160, 12);

const PAPER: Rgb<u8> = Rgb([255; 3]);
const INK: Rgb<u8> = Rgb([40; 3]);
const NOT_MEASURED: Rgb<u8> = Rgb([225; 3]);

/// A heat map as a PNG file: the colours and numbers of its SVG, names of rows on the left, names of
/// columns from top to bottom below. What is not ASCII is shown as `?`.
pub fn heatmap_png(chart: &Heatmap) -> Vec<u8> {
    let numbers: Vec<Vec<String>> = chart
        .rows
        .iter()
        .enumerate()
        .map(|(row, _)| {
            let number = |column| match value(chart, row, column) {
                Some(value) => format!("{value:.*}", chart.decimals),
                None => "-".into(),
            };
            (0..chart.columns.len()).map(number).collect()
        })
        .collect();
    let longest = |texts: &mut dyn Iterator<Item = &String>| {
        texts
            .map(|text| text.chars().count() as u32)
            .max()
            .unwrap_or(0)
    };
    let cell = longest(&mut numbers.iter().flatten()) * LETTER + GAP;
    let left = longest(&mut chart.rows.iter()) * LETTER + 2 * GAP;
    let below = longest(&mut chart.columns.iter()) * LETTER + 2 * GAP;
    let top = 3 * (LETTER + GAP) + BAR.1 + GAP;
    let (rows, columns) = (chart.rows.len() as u32, chart.columns.len() as u32);
    let head = [&chart.title, &chart.value_label]
        .map(|text| text.chars().count() as u32 * LETTER + 2 * GAP);
    let width = (left + columns * cell + GAP)
        .max(head[0])
        .max(head[1])
        .max(BAR.0 + 12 * LETTER);
    let mut image = RgbImage::from_pixel(width, top + rows * CELL + below, PAPER);

    write(&mut image, (GAP, GAP), &chart.title, INK, Direction::Right);
    let second = 2 * GAP + LETTER;
    write(
        &mut image,
        (GAP, second),
        &chart.value_label,
        INK,
        Direction::Right,
    );
    let (low, high) = range(chart);
    scale(&mut image, second + LETTER + GAP, low, high, chart.decimals);
    for (row, name) in chart.rows.iter().enumerate() {
        let y = top + row as u32 * CELL;
        let x = left - GAP - name.chars().count() as u32 * LETTER;
        write(
            &mut image,
            (x, y + (CELL - LETTER) / 2),
            name,
            INK,
            Direction::Right,
        );
        for (column, number) in numbers[row].iter().enumerate() {
            let x = left + column as u32 * cell;
            let (paint, ink) = match value(chart, row, column) {
                None => (NOT_MEASURED, INK),
                Some(value) => {
                    let colour = heat(share(value, low, high));
                    (Rgb(colour), Rgb(readable_on(colour)))
                }
            };
            fill(&mut image, (x, y), (cell - 1, CELL - 1), paint);
            let room = cell - number.chars().count() as u32 * LETTER;
            let place = (x + room / 2, y + (CELL - LETTER) / 2);
            write(&mut image, place, number, ink, Direction::Right);
        }
    }
    for (column, name) in chart.columns.iter().enumerate() {
        let x = left + column as u32 * cell + (cell - LETTER) / 2;
        write(
            &mut image,
            (x, top + rows * CELL + GAP),
            name,
            INK,
            Direction::Down,
        );
    }
    let mut bytes = Cursor::new(Vec::new());
    image
        .write_to(&mut bytes, ImageFormat::Png)
        .expect("an image in memory is written to memory");
    bytes.into_inner()
}

#[derive(Clone, Copy)]
enum Direction {
    Right,
    Down,
}

fn value(chart: &Heatmap, row: usize, column: usize) -> Option<f64> {
    let value = chart.values.get(row)?.get(column).copied().flatten();
    value.filter(|value| value.is_finite())
}

fn range(chart: &Heatmap) -> (f64, f64) {
    let values = chart.values.iter().flatten().flatten().copied();
    let values = values.filter(|value| value.is_finite());
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    })
}

fn share(value: f64, low: f64, high: f64) -> f64 {
    if high > low {
        (value - low) / (high - low)
    } else {
        0.5
    }
}

/// The colours between their ends.
fn scale(image: &mut RgbImage, y: u32, low: f64, high: f64, decimals: usize) {
    if low > high {
        return;
    }
    let [first, last] = [low, high].map(|end| format!("{end:.decimals$}"));
    let left = GAP + first.chars().count() as u32 * LETTER + GAP;
    write(image, (GAP, y + 2), &first, INK, Direction::Right);
    for step in 0..BAR.0 {
        let colour = heat(f64::from(step) / f64::from(BAR.0 - 1));
        fill(image, (left + step, y), (1, BAR.1), Rgb(colour));
    }
    write(
        image,
        (left + BAR.0 + GAP, y + 2),
        &last,
        INK,
        Direction::Right,
    );
}

fn fill(image: &mut RgbImage, (x, y): (u32, u32), (width, height): (u32, u32), paint: Rgb<u8>) {
    for y in y..(y + height).min(image.height()) {
        for x in x..(x + width).min(image.width()) {
            image.put_pixel(x, y, paint);
        }
    }
}

/// Writes a line of text with its upper left corner at a place.
fn write(
    image: &mut RgbImage,
    (mut x, mut y): (u32, u32),
    text: &str,
    ink: Rgb<u8>,
    direction: Direction,
) {
    for letter in text.chars() {
        let code = if letter.is_ascii() { letter } else { '?' } as usize;
        let glyph = BASIC_LEGACY.get(code).copied().unwrap_or_default();
        for (line, bits) in (0u32..).zip(glyph) {
            for bit in (0..LETTER).filter(|bit| bits >> bit & 1 == 1) {
                if x + bit < image.width() && y + line < image.height() {
                    image.put_pixel(x + bit, y + line, ink);
                }
            }
        }
        match direction {
            Direction::Right => x += LETTER,
            Direction::Down => y += LETTER,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Best;

    #[test]
    fn cells_have_the_colours_of_their_values() {
        let chart = Heatmap {
            title: "t".into(),
            x_label: "x".into(),
            y_label: "y".into(),
            columns: vec!["a".into(), "b".into()],
            rows: vec!["first".into(), "second ü".into()],
            value_label: "v".into(),
            values: vec![vec![Some(0.0), Some(1.0)], vec![None, Some(0.5)]],
            decimals: 2,
            best: Best::Unmarked,
        };
        let image = image::load_from_memory(&heatmap_png(&chart))
            .unwrap()
            .into_rgb8();
        // The corner of a cell carries its colour alone.
        let corner = |row: u32, column: u32| {
            let left = 8 * LETTER + 2 * GAP + column * (4 * LETTER + GAP);
            let top = 3 * (LETTER + GAP) + BAR.1 + GAP + row * CELL;
            *image.get_pixel(left, top)
        };
        assert_eq!(corner(0, 0), Rgb(heat(0.0)));
        assert_eq!(corner(0, 1), Rgb(heat(1.0)));
        assert_eq!(corner(1, 0), NOT_MEASURED);
        assert_eq!(corner(1, 1), Rgb(heat(0.5)));
        let empty = Heatmap {
            columns: Vec::new(),
            rows: Vec::new(),
            values: Vec::new(),
            ..chart
        };
        assert!(image::load_from_memory(&heatmap_png(&empty)).is_ok());
    }
}
