//! Heat maps with printed numbers.

use crate::figure::{Best, Heatmap};

use super::canvas::{Anchor, Canvas, Letters, Rect, Stroke};
use super::labels::{self, LEADING, Names};
use super::marks::{LABEL, SMALL};
use super::number::{is_drawable, printed};
use super::palette::{self, Paint};
use super::{COMPACT, Drawing, marks};

/// Draws a heat map; it becomes wider than `width` where its numbers need the room.
pub(crate) fn draw(chart: &Heatmap, width: f64) -> Drawing {
    let mut canvas = Canvas::default();
    let columns = chart.columns.len().max(1);
    let numbers: Vec<String> = cells(chart)
        .map(|(_, _, value)| print(chart, value))
        .collect();
    let number_size = if width < COMPACT { 11.0 } else { 12.0 };
    let widest = labels::widest(numbers.iter().map(String::as_str), number_size, true);
    let names = chart.rows.iter().map(String::as_str);
    let left = labels::widest(names, SMALL, false).min(width * 0.3) + 12.0;
    let room = (width - left - 2.0) / columns as f64;
    let cell_width = room.min(92.0).max(widest + 6.0).max(22.0);
    let cell_height = 34.0;
    let width = width.max(left + cell_width * columns as f64 + 2.0);

    let mut top = marks::title(&mut canvas, &chart.title, width);
    top += scale_bar(&mut canvas, chart, top, width);
    let y_label = labels::wrap_within(&chart.y_label, LABEL, false, width - 4.0, 2);
    let soft = Letters::new(LABEL, Paint::Soft);
    marks::lines(&mut canvas, (0.0, top + LABEL), &y_label, soft);
    top += y_label.len() as f64 * LABEL * LEADING + 8.0;

    let small = Letters::new(SMALL, Paint::Soft);
    for (row, name) in chart.rows.iter().enumerate() {
        let lines = labels::wrap_within(name, SMALL, false, left - 10.0, 2);
        let middle = top + (row as f64 + 0.5) * cell_height;
        let first = middle + SMALL * 0.35 - (lines.len() as f64 - 1.0) * SMALL * LEADING / 2.0;
        marks::lines(
            &mut canvas,
            (left - 8.0, first),
            &lines,
            small.anchored(Anchor::End),
        );
    }
    let place = |row: usize, column: usize| Rect {
        x: left + column as f64 * cell_width + 1.0,
        y: top + row as f64 * cell_height + 1.0,
        width: cell_width - 2.0,
        height: cell_height - 2.0,
    };
    draw_cells(&mut canvas, chart, number_size, &place);

    let bottom = top + chart.rows.len() as f64 * cell_height;
    let names = labels::names(&chart.columns, SMALL, cell_width);
    for column in 0..chart.columns.len() {
        let x = left + (column as f64 + 0.5) * cell_width;
        match &names {
            Names::Upright(names) => {
                let letters = small.anchored(Anchor::Middle);
                marks::lines(
                    &mut canvas,
                    (x, bottom + 5.0 + SMALL),
                    &names[column],
                    letters,
                );
            }
            Names::Slanted(names) => {
                let letters = small.anchored(Anchor::End).turned(labels::SLANT);
                canvas.text((x + 3.0, bottom + 3.0 + SMALL), &names[column], letters);
            }
        }
    }
    let y = bottom + 8.0 + names.height(SMALL) + LABEL;
    let middle = left + columns as f64 * cell_width / 2.0;
    let x_label = labels::wrap_within(&chart.x_label, LABEL, false, width - left, 2);
    marks::lines(
        &mut canvas,
        (middle, y),
        &x_label,
        soft.anchored(Anchor::Middle),
    );
    Drawing {
        width,
        height: y + (x_label.len() as f64 - 1.0).max(0.0) * LABEL * LEADING + 8.0,
        description: description(chart),
        body: canvas.finish(),
    }
}

fn draw_cells(
    canvas: &mut Canvas,
    chart: &Heatmap,
    size: f64,
    place: &impl Fn(usize, usize) -> Rect,
) {
    let (low, high) = range(chart);
    let best = best(chart);
    for (row, column, value) in cells(chart) {
        let rect = place(row, column);
        let is_best = best == Some((row, column));
        let (paint, ink) = match value {
            Some(value) => {
                let share = if high > low {
                    (value - low) / (high - low)
                } else {
                    0.5
                };
                let colour = palette::heat(share);
                let ink = Paint::Fixed(palette::readable_on(colour));
                (Paint::Fixed(colour), ink)
            }
            None => (Paint::Grid, Paint::Soft),
        };
        let text = print(chart, value);
        let tip = format!("{}, {}: {text}", chart.rows[row], chart.columns[column]);
        canvas.rect(rect, 2.0, paint, &tip);
        // The whole cell tells its value to a pointer, its number too.
        let mut letters = Letters::new(size, ink)
            .anchored(Anchor::Middle)
            .transparent();
        if is_best {
            letters = letters.bold();
        }
        let middle = (
            rect.x + rect.width / 2.0,
            rect.y + rect.height / 2.0 + size * 0.35,
        );
        canvas.text(middle, &text, letters);
    }
    if let Some((row, column)) = best {
        let rect = place(row, column);
        canvas.frame(rect.grown(0.5), Stroke::solid(Paint::Ink, 2.5));
        canvas.frame(rect.grown(-1.5), Stroke::solid(Paint::Paper, 1.5));
    }
}

/// Draws the colours with their values below `top` and returns the height they take.
fn scale_bar(canvas: &mut Canvas, chart: &Heatmap, top: f64, width: f64) -> f64 {
    const STEPS: usize = 40;
    let (low, high) = range(chart);
    let small = Letters::new(SMALL, Paint::Soft);
    let ends = [low, high].map(|end| printed(end, chart.decimals));
    let bar = 120.0;
    let label_room =
        width - bar - 24.0 - labels::widest(ends.iter().map(String::as_str), SMALL, false) * 2.0;
    let label = labels::wrap_within(&chart.value_label, SMALL, false, label_room, 1).concat();
    let mut x = 0.0;
    let y = top + SMALL;
    canvas.text((x, y), &label, small);
    if !label.is_empty() {
        x += labels::width(&label, SMALL, false) + 10.0;
    }
    if high > low {
        canvas.text((x, y), &ends[0], small);
        x += labels::width(&ends[0], SMALL, false) + 5.0;
        for step in 0..STEPS {
            let rect = Rect {
                x: x + step as f64 * bar / STEPS as f64,
                y: y - 9.0,
                // Each step reaches under the next, so that no seam shows between them.
                width: if step + 1 < STEPS {
                    bar / STEPS as f64 + 1.0
                } else {
                    bar / STEPS as f64
                },
                height: 10.0,
            };
            let share = step as f64 / (STEPS - 1) as f64;
            canvas.rect(rect, 0.0, Paint::Fixed(palette::heat(share)), "");
        }
        canvas.text((x + bar + 5.0, y), &ends[1], small);
    }
    SMALL * LEADING + 12.0
}

/// All cells with their values; what a row lacks was not measured.
fn cells(chart: &Heatmap) -> impl Iterator<Item = (usize, usize, Option<f64>)> {
    (0..chart.rows.len()).flat_map(move |row| {
        (0..chart.columns.len()).map(move |column| {
            let value = chart.values.get(row).and_then(|values| values.get(column));
            let value = value.copied().flatten().filter(|value| is_drawable(*value));
            (row, column, value)
        })
    })
}

fn range(chart: &Heatmap) -> (f64, f64) {
    let (low, high) = cells(chart)
        .filter_map(|(_, _, value)| value)
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
            (low.min(value), high.max(value))
        });
    if low <= high { (low, high) } else { (0.0, 0.0) }
}

fn best(chart: &Heatmap) -> Option<(usize, usize)> {
    let sign = match chart.best {
        Best::Unmarked => return None,
        Best::Highest => 1.0,
        Best::Lowest => -1.0,
    };
    cells(chart)
        .filter_map(|(row, column, value)| Some((row, column, sign * value?)))
        .reduce(|best, cell| if cell.2 > best.2 { cell } else { best })
        .map(|(row, column, _)| (row, column))
}

fn print(chart: &Heatmap, value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| printed(value, chart.decimals))
}

fn description(chart: &Heatmap) -> String {
    let (low, high) = range(chart);
    let mut text = format!(
        "Heat map of {}, {} by {}, from {} to {}.",
        chart.value_label,
        chart.y_label,
        chart.x_label,
        print(chart, Some(low)),
        print(chart, Some(high))
    );
    if let Some((row, column)) = best(chart) {
        text.push_str(&format!(
            " Best: {} at {}, {}.",
            print(chart, chart.values[row][column]),
            chart.rows[row],
            chart.columns[column]
        ));
    }
    text
}
