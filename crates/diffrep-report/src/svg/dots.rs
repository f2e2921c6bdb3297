//! Dot and bar plots: methods beside their controls.

use crate::figure::{Axis, DotMark, DotPlot, RowKind};

use super::Drawing;
use super::marks::with_interval;
use super::number::printed;
use super::palette::Paint;
use super::rows::{self, Mark, Row, RowChart};

/// Draws a dot or bar plot.
pub(crate) fn draw(chart: &DotPlot, width: f64) -> Drawing {
    let print = |value: f64| printed(value, chart.decimals);
    let rows: Vec<Row> = chart
        .rows
        .iter()
        .map(|row| Row {
            label: &row.label,
            value: row.value,
            interval: row.interval,
            printed: with_interval(
                &print(row.value),
                row.interval.map(|(low, high)| (print(low), print(high))),
            ),
            paint: match row.kind {
                RowKind::Method => Paint::Series(0),
                RowKind::Control => Paint::Soft,
            },
            mark: match (chart.mark, row.kind) {
                (DotMark::Bar, _) => Mark::Bar,
                (DotMark::Dot, RowKind::Method) => Mark::Dot,
                (DotMark::Dot, RowKind::Control) => Mark::Ring,
            },
        })
        .collect();
    let axis = match chart.mark {
        DotMark::Dot => chart.axis.clone(),
        DotMark::Bar => from_zero(&chart.axis),
    };
    let described: Vec<String> = rows
        .iter()
        .map(|row| format!("{}: {}", row.label, row.printed))
        .collect();
    let chart = RowChart {
        title: &chart.title,
        axis: &axis,
        references: &chart.reference_lines,
        sides: None,
        description: format!(
            "Comparison along {}. {}.",
            chart.axis.label,
            described.join("; ")
        ),
        rows,
    };
    rows::draw(&chart, width)
}

/// The axis with zero on it: a bar that starts elsewhere misleads.
pub(super) fn from_zero(axis: &Axis) -> Axis {
    let (low, high) = axis.include.unwrap_or((0.0, 0.0));
    axis.clone().including(low.min(0.0), high.max(0.0))
}
