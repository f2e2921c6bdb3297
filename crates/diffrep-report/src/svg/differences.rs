//! Difference plots: how far apart two things are, and whether zero is excluded.

use crate::figure::DifferencePlot;

use super::marks::with_interval;
use super::number::printed;
use super::palette::Paint;
use super::rows::{self, Mark, Row, RowChart};
use super::{Drawing, dots};

/// Draws a difference plot.
///
/// Colour and a full dot say that the interval excludes zero; grey and a ring that it does not.
pub(crate) fn draw(chart: &DifferencePlot, width: f64) -> Drawing {
    let print = |value: f64| {
        let text = printed(value, chart.decimals);
        let is_above_zero = value > 0.0 && text.contains(|c| matches!(c, '1'..='9'));
        if is_above_zero {
            format!("+{text}")
        } else {
            text
        }
    };
    let rows: Vec<Row> = chart
        .rows
        .iter()
        .map(|row| {
            let (paint, mark) = if row.low > 0.0 {
                (Paint::Series(0), Mark::Dot)
            } else if row.high < 0.0 {
                (Paint::Series(1), Mark::Dot)
            } else {
                (Paint::Soft, Mark::Ring)
            };
            Row {
                label: &row.label,
                value: row.difference,
                interval: Some((row.low, row.high)),
                printed: with_interval(
                    &print(row.difference),
                    Some((print(row.low), print(row.high))),
                ),
                paint,
                mark,
            }
        })
        .collect();
    let described: Vec<String> = rows
        .iter()
        .map(|row| format!("{}: {}", row.label, row.printed))
        .collect();
    let axis = dots::from_zero(&chart.axis);
    let chart = RowChart {
        title: &chart.title,
        axis: &axis,
        references: &[],
        sides: Some((&chart.below, &chart.above)),
        description: format!(
            "Differences along {}; left of zero: {}; right of zero: {}. {}.",
            chart.axis.label,
            chart.below,
            chart.above,
            described.join("; ")
        ),
        rows,
    };
    rows::draw(&chart, width)
}
