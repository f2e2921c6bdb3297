//! Names of the lines: beside their ends where there is room, else in a row above.

use crate::figure::{LineChart, Marker};
use crate::svg::canvas::{Canvas, Letters, Place, Stroke};
use crate::svg::marks::SMALL;
use crate::svg::number::readable;
use crate::svg::palette::Paint;
use crate::svg::{COMPACT, labels, marks};

use super::frame::Frame;

const LEADING: f64 = SMALL * labels::LEADING;
/// Distance from the plot to the names beside it; the leader lines cross it.
const GAP: f64 = 20.0;
/// Length of the sample of a line in the legend.
const SWATCH: f64 = 26.0;

/// The width that names beside the lines take, or `None` if they go above.
pub(super) fn direct_width(chart: &LineChart, width: f64) -> Option<f64> {
    if width < COMPACT || chart.series.len() > 7 {
        return None;
    }
    let names = chart.series.iter().map(|series| series.name.as_str());
    let references = chart.reference_lines.iter().map(|line| line.label.as_str());
    let longest = labels::widest(names, SMALL, true).max(labels::widest(references, SMALL, false));
    Some(longest.min(width * 0.24) + GAP + 4.0)
}

/// Draws the names of series and of reference lines beside the ends of their lines.
pub(super) fn direct(canvas: &mut Canvas, chart: &LineChart, frame: &Frame, room: f64) {
    let wrap = |name: &str, bold| labels::wrap_within(name, SMALL, bold, room - GAP - 4.0, 3);
    let mut entries: Vec<(Option<usize>, Place, Vec<String>)> = Vec::new();
    for (index, series) in chart.series.iter().enumerate() {
        let end = series
            .points
            .iter()
            .filter_map(|point| frame.place(point.x, point.y))
            .max_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(end) = end {
            entries.push((Some(index), end, wrap(&series.name, true)));
        }
    }
    for reference in &chart.reference_lines {
        if let Some(y) = frame.y(reference.value) {
            let end = (frame.plot.right() - 3.0, y);
            entries.push((None, end, wrap(&reference.label, false)));
        }
    }
    let wanted: Vec<f64> = entries.iter().map(|(_, end, _)| end.1).collect();
    let heights: Vec<f64> = entries
        .iter()
        .map(|(_, _, lines)| lines.len() as f64 * LEADING + 3.0)
        .collect();
    let (low, high) = (frame.plot.y - 6.0, frame.plot.bottom() + 4.0);
    let middles = labels::spread(&wanted, &heights, low, high);
    let x = frame.plot.right() + GAP;
    for ((index, end, lines), middle) in entries.iter().zip(middles) {
        let letters = match index {
            // Some hues are too pale for letters; the leader line carries the hue.
            Some(_) => Letters::new(SMALL, Paint::Ink).bold(),
            None => Letters::new(SMALL, Paint::Soft),
        };
        let hue = index.map_or(Paint::Soft, Paint::Series);
        if let Some(index) = index {
            canvas.open_series(*index, "");
        }
        let elbow = (frame.plot.right() + 4.0).max(end.0 + 7.0);
        let leader = [(end.0 + 7.0, end.1), (elbow, end.1), (x - 4.0, middle)];
        canvas.polyline(&leader, Stroke::solid(hue, 1.4));
        let first = middle - (lines.len() as f64 - 1.0) * LEADING / 2.0 + SMALL * 0.35;
        marks::lines(canvas, (x, first), lines, letters);
        if index.is_some() {
            canvas.close();
        }
    }
}

/// Draws the names in rows below `top`, with those of the reference lines `listed`, and returns
/// the height they take.
pub(super) fn draw(
    canvas: &mut Canvas,
    chart: &LineChart,
    listed: &[usize],
    top: f64,
    width: f64,
) -> f64 {
    let series = chart.series.iter().enumerate().map(|(index, series)| {
        let paint = Paint::Series(index);
        let marker = marks::resolve(series.marker, index);
        let stroke = marks::stroke(series.style, paint);
        (series.name.clone(), stroke, marker)
    });
    let references = listed.iter().map(|index| {
        let line = &chart.reference_lines[*index];
        // The value tells lines of the same look apart.
        let name = format!("{}, {}", line.label, readable(line.value));
        (name, marks::REFERENCE, Marker::None)
    });
    let (mut x, mut y) = (0.0, top + SMALL);
    for (name, stroke, marker) in series.chain(references) {
        let room = width - SWATCH - 10.0;
        let name = labels::wrap_within(&name, SMALL, false, room, 1).concat();
        let item = SWATCH + 6.0 + labels::width(&name, SMALL, false);
        if x > 0.0 && x + item > width {
            x = 0.0;
            y += LEADING + 4.0;
        }
        let middle = y - SMALL * 0.35;
        canvas.segment((x, middle), (x + SWATCH, middle), stroke);
        marks::marker(canvas, marker, (x + SWATCH / 2.0, middle), stroke.paint, "");
        canvas.text(
            (x + SWATCH + 6.0, y),
            &name,
            Letters::new(SMALL, Paint::Ink),
        );
        x += item + 16.0;
    }
    if x > 0.0 { y - top + 12.0 } else { 0.0 }
}
