//! The values of charts that do not print them.

use crate::figure::Chart;
use crate::svg::{name_of, readable, with_interval};
use crate::table::{Cell, Column, Table};

/// The points of a line chart, a row for each place on the horizontal axis; other charts print their values.
pub(crate) fn values(chart: &Chart) -> Option<Table> {
    let Chart::Line(chart) = chart else {
        return None;
    };
    let mut places: Vec<f64> = chart
        .series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.x))
        .collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    if places.is_empty() {
        return None;
    }
    let names = chart
        .series
        .iter()
        .map(|series| Column::number(series.name.clone()));
    let columns = [Column::text(chart.x.label.clone())]
        .into_iter()
        .chain(names);
    let rows = places.iter().map(|&x| {
        let values = chart.series.iter().map(|series| {
            let point = series.points.iter().find(|point| point.x == x);
            point
                .filter(|point| point.y.is_finite())
                .map_or_else(Cell::missing, |point| {
                    let ends = point.low.zip(point.high);
                    let ends = ends.map(|(low, high)| (readable(low), readable(high)));
                    Cell::text(with_interval(&readable(point.y), ends))
                })
        });
        [Cell::text(name_of(chart, x))]
            .into_iter()
            .chain(values)
            .collect()
    });
    Some(Table {
        rows: rows.collect(),
        columns: columns.collect(),
        ..Table::default()
    })
}
