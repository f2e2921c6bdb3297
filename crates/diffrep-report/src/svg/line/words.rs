//! Words inside the plot of a line chart: names of reference lines and remarks.

use crate::figure::LineChart;
use crate::svg::canvas::{Canvas, Letters, Place, Rect, Stroke};
use crate::svg::palette::Paint;
use crate::svg::place::Obstacles;
use crate::svg::{labels, marks};

use super::frame::Frame;

/// The widest line of a remark.
const REMARK: f64 = 190.0;

/// Room above the plot for the longest remark, since data often peak where a remark belongs.
pub(super) fn headroom(chart: &LineChart) -> f64 {
    let lines = chart.annotations.iter().map(|one| remark(&one.text).len());
    match lines.max() {
        Some(lines) => lines as f64 * marks::SMALL * labels::LEADING + 8.0,
        None => 0.0,
    }
}

fn remark(text: &str) -> Vec<String> {
    labels::wrap_within(text, marks::SMALL, false, REMARK, 4)
}

/// Draws the names of reference lines but those `listed` elsewhere, each where it covers nothing.
///
/// Returns those that found no such place.
pub(super) fn references(
    canvas: &mut Canvas,
    chart: &LineChart,
    frame: &Frame,
    obstacles: &mut Obstacles,
    listed: &[usize],
) -> Vec<usize> {
    let size = marks::SMALL;
    let mut crowded = Vec::new();
    for (index, reference) in chart.reference_lines.iter().enumerate() {
        if listed.contains(&index) {
            continue;
        }
        let Some(y) = frame.y(reference.value) else {
            continue;
        };
        let plot = frame.plot;
        let text = labels::wrap_within(&reference.label, size, false, plot.width * 0.7, 1).concat();
        let width = labels::width(&text, size, false);
        let candidates: Vec<(Rect, usize)> = [1.0, 0.0, 0.5, 0.75, 0.25]
            .into_iter()
            .flat_map(|share| {
                let x = plot.x + 4.0 + share * (plot.width - width - 8.0);
                // Five pixels keep the words off their own line, which counts as ink too.
                [y - size - 5.0, y + 5.0].map(|y| {
                    let rect = Rect {
                        x,
                        y,
                        width,
                        height: size,
                    };
                    (rect, 0)
                })
            })
            .collect();
        match obstacles.best(&candidates, plot) {
            Some(rect) if obstacles.leaves_free(rect) => {
                let letters = Letters::new(size, Paint::Soft).with_halo();
                canvas.text((rect.x, rect.y + size * 0.85), &text, letters);
                obstacles.add_words(rect);
            }
            _ => crowded.push(index),
        }
    }
    crowded
}

/// Draws the remarks, each tied to its place by a thin line.
pub(super) fn annotations(
    canvas: &mut Canvas,
    chart: &LineChart,
    frame: &Frame,
    obstacles: &mut Obstacles,
) {
    let size = marks::SMALL;
    let leading = size * labels::LEADING;
    for annotation in &chart.annotations {
        let Some((x, y)) = frame.place(annotation.x, annotation.y) else {
            continue;
        };
        let lines = remark(&annotation.text);
        let width = labels::widest(lines.iter().map(String::as_str), size, false);
        let height = lines.len() as f64 * leading;
        let candidates: Vec<(Rect, usize)> = [16.0, 28.0, 44.0, 64.0, 90.0, 125.0, 170.0]
            .into_iter()
            .flat_map(|far| DIRECTIONS.map(|(dx, dy)| (far * dx, far * dy, dx, dy)))
            .map(|(right, down, dx, dy)| {
                let rect = Rect {
                    x: x + right - width * (1.0 - dx) / 2.0,
                    y: y + down - height * (1.0 - dy) / 2.0,
                    width,
                    height,
                };
                let start = toward((x, y), rect, 12.0);
                let crossed = obstacles.near(start, nearest((x, y), rect));
                let far = right.hypot(down) / 8.0;
                (rect, crossed + far as usize)
            })
            .collect();
        let Some(rect) = obstacles.best(&candidates, frame.remarks()) else {
            continue;
        };
        let stroke = Stroke::solid(Paint::Soft, 1.0);
        canvas.segment(toward((x, y), rect, 8.0), nearest((x, y), rect), stroke);
        let ring = Rect {
            x: x - 7.0,
            y: y - 7.0,
            width: 14.0,
            height: 14.0,
        };
        obstacles.add_words(ring);
        obstacles.add_words(rect);
        obstacles.add_segment((x, y), nearest((x, y), rect));
        ringed(canvas, (x, y));
        let letters = Letters::new(size, Paint::Ink).with_halo();
        marks::lines(canvas, (rect.x, rect.y + size * 0.9), &lines, letters);
    }
}

/// Directions in which a remark may stand from its place, the best first.
const DIRECTIONS: [Place; 8] = [
    (0.0, -1.0),
    (1.0, -0.7),
    (-1.0, -0.7),
    (0.0, 1.0),
    (1.0, 0.7),
    (-1.0, 0.7),
    (1.0, 0.0),
    (-1.0, 0.0),
];

fn ringed(canvas: &mut Canvas, (x, y): Place) {
    let ring: Vec<Place> = (0..=32)
        .map(|step| {
            let angle = f64::from(step) / 32.0 * std::f64::consts::TAU;
            (x + 7.5 * angle.cos(), y + 7.5 * angle.sin())
        })
        .collect();
    canvas.polyline(&ring, Stroke::solid(Paint::Soft, 1.0));
}

/// The place on the rim of `rect` that is nearest to `from`.
fn nearest((x, y): Place, rect: Rect) -> Place {
    let room = rect.grown(2.0);
    (
        x.clamp(room.x, room.right()),
        y.clamp(room.y, room.bottom()),
    )
}

/// The place `distance` away from `from` on the way to `rect`.
fn toward(from: Place, rect: Rect, distance: f64) -> Place {
    let to = nearest(from, rect);
    let length = (to.0 - from.0).hypot(to.1 - from.1).max(distance);
    (
        from.0 + (to.0 - from.0) / length * distance,
        from.1 + (to.1 - from.1) / length * distance,
    )
}
