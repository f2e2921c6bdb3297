//! The axis of a chart of rows: ticks below, reference lines and words above.

use crate::svg::canvas::{Anchor, Canvas, Letters, Rect, Stroke};
use crate::svg::labels::{self, LEADING};
use crate::svg::marks::{self, SMALL};
use crate::svg::palette::Paint;
use crate::svg::scale::Domain;

use super::{Layout, RowChart};

/// Draws the grid, the ticks and the axis itself.
pub(super) fn ticks(
    canvas: &mut Canvas,
    chart: &RowChart,
    layout: &Layout,
    domain: &Domain,
    values: &[f64],
) {
    let plot = layout.plot;
    let wanted = (plot.width / 70.0) as usize;
    let shown: Vec<(f64, String)> = domain
        .ticks(chart.axis, wanted, values)
        .into_iter()
        .filter_map(|tick| Some((plot.x + domain.share(tick.value)? * plot.width, tick.label)))
        .collect();
    let places: Vec<f64> = shown.iter().map(|(x, _)| *x).collect();
    let widths: Vec<f64> = shown
        .iter()
        .map(|(_, label)| labels::width(label, SMALL, false))
        .collect();
    let keep = labels::apart(&places, &widths, 6.0);
    for ((x, label), _) in shown.iter().zip(keep).filter(|(_, keep)| *keep) {
        let grid = Stroke::solid(Paint::Grid, 1.0);
        canvas.segment((*x, plot.y), (*x, plot.bottom()), grid);
        let letters = Letters::new(SMALL, Paint::Soft).anchored(Anchor::Middle);
        canvas.text((*x, plot.bottom() + 7.0 + SMALL), label, letters);
    }
    let axis = Stroke::solid(Paint::Soft, 1.0);
    canvas.segment((plot.x, plot.bottom()), (plot.right(), plot.bottom()), axis);
}

/// Draws reference lines with their labels, each on a level of its own where they would touch.
pub(super) fn headings(
    canvas: &mut Canvas,
    chart: &RowChart,
    layout: &Layout,
    x: &impl Fn(f64) -> Option<f64>,
) {
    let plot = layout.plot;
    let small = Letters::new(SMALL, Paint::Soft);
    let line = SMALL * LEADING;
    let mut taken: Vec<Rect> = Vec::new();
    let mut names = Vec::new();
    for reference in chart.references {
        let Some(at) = x(reference.value) else {
            continue;
        };
        let text = labels::wrap_within(&reference.label, SMALL, false, plot.width, 1).concat();
        let width = labels::width(&text, SMALL, false);
        let middle = at.min(plot.right() - width / 2.0).max(plot.x + width / 2.0);
        let mut rect = Rect {
            x: middle - width / 2.0,
            y: plot.y - 5.0 - line,
            width,
            height: line - 1.0,
        };
        while taken.iter().any(|other| other.touches(&rect.grown(0.4))) {
            rect.y -= line;
        }
        taken.push(rect);
        canvas.segment((at, rect.y + line), (at, plot.bottom()), marks::REFERENCE);
        names.push(((middle, rect.y + SMALL), text));
    }
    // Names come after all lines, so that no line runs through the name of another.
    for (place, text) in names {
        let letters = small.anchored(Anchor::Middle).with_halo();
        canvas.text(place, &text, letters);
    }
    if let (Some((below, above)), Some(zero)) = (chart.sides, x(0.0)) {
        canvas.segment(
            (zero, plot.y),
            (zero, plot.bottom()),
            Stroke::solid(Paint::Ink, 1.2),
        );
        let y = plot.y - 7.0;
        let left = labels::wrap_within(below, SMALL, false, (zero - plot.x - 16.0).max(0.0), 1);
        let right = labels::wrap_within(above, SMALL, false, plot.right() - zero - 16.0, 1);
        // A word that would be cut to almost nothing is left out; the axis label still says it.
        for (lines, anchor, arrow_first) in
            [(left, Anchor::End, true), (right, Anchor::Start, false)]
        {
            let text = lines.concat();
            if text.chars().count() < 3 {
                continue;
            }
            let (text, at) = if arrow_first {
                (format!("← {text}"), zero - 6.0)
            } else {
                (format!("{text} →"), zero + 6.0)
            };
            canvas.text((at, y), &text, small.anchored(anchor));
        }
    }
}
