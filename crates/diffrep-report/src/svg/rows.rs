//! One value per row along a shared axis: the layout of dot, bar and difference plots.

mod axis;

use crate::figure::{Axis, ReferenceLine};

use super::canvas::{Anchor, Canvas, Letters, Rect, Stroke};
use super::labels::{self, LEADING};
use super::marks::{LABEL, SMALL};
use super::number::is_drawable;
use super::palette::Paint;
use super::scale::Domain;
use super::{COMPACT, Drawing, marks};

/// What is drawn.
pub(crate) struct RowChart<'a> {
    pub(crate) title: &'a str,
    pub(crate) axis: &'a Axis,
    pub(crate) rows: Vec<Row<'a>>,
    /// Dashed vertical lines with their labels on top.
    pub(crate) references: &'a [ReferenceLine],
    /// Words left and right of a firm line at zero.
    pub(crate) sides: Option<(&'a str, &'a str)>,
    pub(crate) description: String,
}

/// One row.
pub(crate) struct Row<'a> {
    pub(crate) label: &'a str,
    pub(crate) value: f64,
    pub(crate) interval: Option<(f64, f64)>,
    /// The value and its interval as they are printed.
    pub(crate) printed: String,
    pub(crate) paint: Paint,
    pub(crate) mark: Mark,
}

/// How a value is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Mark {
    Dot,
    Ring,
    Bar,
}

/// Places of the columns and of the plot.
struct Layout {
    compact: bool,
    plot: Rect,
    /// Lines of each label.
    labels: Vec<Vec<String>>,
    /// Upper edge of each row and of what follows the last.
    edges: Vec<f64>,
}

/// Draws a chart of rows.
pub(crate) fn draw(chart: &RowChart, width: f64) -> Drawing {
    let mut canvas = Canvas::default();
    let top = marks::title(&mut canvas, chart.title, width);
    let layout = layout(chart, top, width);
    let values: Vec<f64> = chart
        .rows
        .iter()
        .flat_map(|row| {
            let (low, high) = row.interval.unwrap_or((row.value, row.value));
            [row.value, low, high]
        })
        .chain(chart.references.iter().map(|line| line.value))
        .collect();
    let domain = Domain::new(chart.axis, &values, 0.05);
    let x = |value: f64| Some(layout.plot.x + domain.share(value)? * layout.plot.width);

    axis::ticks(&mut canvas, chart, &layout, &domain, &values);
    axis::headings(&mut canvas, chart, &layout, &x);
    let base = layout.plot.x + domain.base() * layout.plot.width;
    for (index, row) in chart.rows.iter().enumerate() {
        draw_row(&mut canvas, row, index, &layout, &x, base, width);
    }
    let label = labels::wrap_within(&chart.axis.label, LABEL, false, width - 4.0, 2);
    let label_width = labels::widest(label.iter().map(String::as_str), LABEL, false);
    let middle = (layout.plot.x + layout.plot.width / 2.0)
        .min(width - label_width / 2.0)
        .max(label_width / 2.0);
    let y = layout.plot.bottom() + 12.0 + SMALL * LEADING + LABEL;
    let letters = Letters::new(LABEL, Paint::Soft).anchored(Anchor::Middle);
    marks::lines(&mut canvas, (middle, y), &label, letters);
    Drawing {
        width,
        height: y + (label.len() as f64 - 1.0).max(0.0) * LABEL * LEADING + 8.0,
        description: chart.description.clone(),
        body: canvas.finish(),
    }
}

fn layout(chart: &RowChart, top: f64, width: f64) -> Layout {
    let compact = width < COMPACT;
    let printed = chart.rows.iter().map(|row| row.printed.as_str());
    let printed = labels::widest(printed, SMALL, false);
    let names = chart.rows.iter().map(|row| row.label);
    let room = if compact {
        width - printed - 16.0
    } else {
        labels::widest(names, LABEL, false).min(width * 0.34)
    };
    let labels: Vec<Vec<String>> = chart
        .rows
        .iter()
        .map(|row| labels::wrap_within(row.label, LABEL, false, room, 3))
        .collect();
    let (left, right) = if compact {
        (10.0, width - 10.0)
    } else {
        (room + 18.0, width - printed - 18.0)
    };
    let mut edges = vec![top + heading_height(chart)];
    for lines in &labels {
        let text = lines.len().max(1) as f64 * LABEL * LEADING;
        let height = if compact { text + 25.0 } else { text + 12.0 };
        edges.push(edges[edges.len() - 1] + height);
    }
    let plot = Rect {
        x: left,
        y: edges[0],
        width: (right - left).max(60.0),
        height: edges[edges.len() - 1] - edges[0] + 4.0,
    };
    Layout {
        compact,
        plot,
        labels,
        edges,
    }
}

fn heading_height(chart: &RowChart) -> f64 {
    let levels = chart.references.len().min(3) + usize::from(chart.sides.is_some());
    levels as f64 * SMALL * LEADING + if levels > 0 { 6.0 } else { 0.0 }
}

fn draw_row(
    canvas: &mut Canvas,
    row: &Row,
    index: usize,
    layout: &Layout,
    x: &impl Fn(f64) -> Option<f64>,
    base: f64,
    width: f64,
) {
    let lines = &layout.labels[index];
    let text = lines.len().max(1) as f64 * LABEL * LEADING;
    let (top, bottom) = (layout.edges[index], layout.edges[index + 1]);
    let (first, middle) = if layout.compact {
        (top + LABEL + 2.0, top + text + 12.0)
    } else {
        (top + 6.0 + LABEL * 0.95, (top + bottom) / 2.0)
    };
    let printed_y = if layout.compact {
        first
    } else {
        middle + SMALL * 0.35
    };
    let label = Letters::new(LABEL, Paint::Ink);
    if layout.compact {
        let label_width = labels::widest(lines.iter().map(String::as_str), LABEL, false);
        let printed_width = labels::width(&row.printed, SMALL, false);
        blank(canvas, 0.0, top + 2.0, label_width + 4.0, text);
        let x = width - printed_width - 4.0;
        blank(canvas, x, top + 2.0, printed_width + 4.0, LABEL * LEADING);
        marks::lines(canvas, (0.0, first), lines, label);
    } else {
        let x = layout.plot.x - 12.0;
        marks::lines(canvas, (x, first), lines, label.anchored(Anchor::End));
    }
    let printed = Letters::new(SMALL, Paint::Soft).anchored(Anchor::End);
    canvas.text((width, printed_y), &row.printed, printed);

    let tip = format!("{}: {}", row.label, row.printed);
    let Some(at) = x(row.value) else {
        return;
    };
    if row.mark == Mark::Bar {
        let rect = Rect {
            x: base.min(at),
            y: middle - 6.0,
            width: (at - base).abs(),
            height: 12.0,
        };
        canvas.rect(rect, 1.5, row.paint, &tip);
    }
    if let Some((low, high)) = row
        .interval
        .filter(|ends| is_drawable(ends.0) && is_drawable(ends.1))
        && let (Some(low), Some(high)) = (x(low), x(high))
    {
        let (paint, width) = if row.mark == Mark::Bar {
            (Paint::Ink, 1.3)
        } else {
            (row.paint, 2.2)
        };
        let stroke = Stroke::solid(paint, width);
        canvas.segment((low, middle), (high, middle), stroke);
        for end in [low, high] {
            canvas.segment((end, middle - 3.5), (end, middle + 3.5), stroke);
        }
    }
    match row.mark {
        Mark::Bar => {}
        Mark::Dot => {
            let rim = Stroke::solid(Paint::Paper, 1.2);
            canvas.shape(&marks::disc((at, middle), 5.0), row.paint, rim, &tip);
        }
        Mark::Ring => {
            let rim = Stroke::solid(row.paint, 2.0);
            canvas.shape(&marks::disc((at, middle), 4.2), Paint::Paper, rim, &tip);
        }
    }
}

/// Clears the lines of the plot behind words that stand on it.
fn blank(canvas: &mut Canvas, x: f64, y: f64, width: f64, height: f64) {
    let rect = Rect {
        x,
        y,
        width,
        height,
    };
    canvas.rect(rect, 0.0, Paint::Paper, "");
}
