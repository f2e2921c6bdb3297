//! Finds what the renderers could not show.

use thiserror::Error;

use crate::document::{Block, ImageGrid, Report};
use crate::figure::{Chart, Heatmap, LineChart, Scale};
use crate::table::Table;

/// Something in a report that cannot be shown as it was given.
#[derive(Debug, Clone, PartialEq, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// A row is not as long as there are columns.
    #[error("table {table:?}, row {row}: {found} cells for {expected} columns")]
    RaggedTable {
        /// The caption of the table.
        table: String,
        /// Index of the row.
        row: usize,
        /// Number of columns.
        expected: usize,
        /// Number of cells.
        found: usize,
    },
    /// A highlighted row does not exist.
    #[error("table {table:?} highlights row {row} of {rows}")]
    NoSuchRow {
        /// The caption of the table.
        table: String,
        /// Index of the row.
        row: usize,
        /// Number of rows.
        rows: usize,
    },
    /// The values of a heat map do not match its row and column names.
    #[error("heat map {chart:?}: values are not {rows} x {columns} as its names")]
    RaggedHeatmap {
        /// The title of the heat map.
        chart: String,
        /// Number of row names.
        rows: usize,
        /// Number of column names.
        columns: usize,
    },
    /// A value has no place on its axis, such as zero on a logarithmic one.
    #[error("chart {chart:?}, {series:?}: {value} has no place on the axis")]
    OffScale {
        /// The title of the chart.
        chart: String,
        /// The series or row.
        series: String,
        /// The value.
        value: f64,
    },
    /// A picture is not a PNG of the stated size.
    #[error("picture {caption:?} is not a PNG of {width} x {height} pixels")]
    BadPicture {
        /// The caption of the picture.
        caption: String,
        /// Stated width.
        width: u32,
        /// Stated height.
        height: u32,
    },
    /// A picture has labels for another number of columns.
    #[error("picture {caption:?}: {found} column labels for {expected} columns")]
    BadLabels {
        /// The caption of the picture.
        caption: String,
        /// Number of columns.
        expected: usize,
        /// Number of labels.
        found: usize,
    },
}

/// Checks that everything in a report can be shown.
///
/// The renderers never fail: they leave out what has no place. This names the first such thing.
///
/// # Errors
///
/// The first row, value or picture, in reading order, that cannot be shown as it was given.
/// A value of a line chart that is not a number is a gap, not an error.
pub fn check(report: &Report) -> Result<(), ReportError> {
    report
        .sections
        .iter()
        .try_for_each(|section| check_blocks(&section.blocks))
}

fn check_blocks(blocks: &[Block]) -> Result<(), ReportError> {
    blocks.iter().try_for_each(|block| match block {
        Block::Table(table) => check_table(table),
        Block::Figure(figure) => check_chart(&figure.chart),
        Block::Images(images) => check_images(images),
        Block::Details { blocks, .. } => check_blocks(blocks),
        Block::Heading(_)
        | Block::Verdicts(_)
        | Block::Paragraph(_)
        | Block::Note { .. }
        | Block::KeyValues(_) => Ok(()),
    })
}

fn check_table(table: &Table) -> Result<(), ReportError> {
    let expected = table.columns.len();
    for (row, cells) in table.rows.iter().enumerate() {
        if cells.len() != expected {
            return Err(ReportError::RaggedTable {
                table: table.caption.clone(),
                row,
                expected,
                found: cells.len(),
            });
        }
    }
    let rows = table.rows.len();
    match table.highlight.iter().find(|row| **row >= rows) {
        Some(&row) => Err(ReportError::NoSuchRow {
            table: table.caption.clone(),
            row,
            rows,
        }),
        None => Ok(()),
    }
}

fn check_chart(chart: &Chart) -> Result<(), ReportError> {
    let off = |series: &str, value: f64| ReportError::OffScale {
        chart: chart.title().to_owned(),
        series: series.to_owned(),
        value,
    };
    match chart {
        Chart::Line(chart) => check_line(chart, &off),
        Chart::Heatmap(chart) => check_heatmap(chart),
        Chart::Dots(chart) => {
            for row in &chart.rows {
                let (low, high) = row.interval.unwrap_or((row.value, row.value));
                for value in [row.value, low, high] {
                    if !has_place(&chart.axis.scale, value) {
                        return Err(off(&row.label, value));
                    }
                }
            }
            Ok(())
        }
        Chart::Differences(chart) => {
            for row in &chart.rows {
                for value in [row.difference, row.low, row.high] {
                    if !has_place(&chart.axis.scale, value) {
                        return Err(off(&row.label, value));
                    }
                }
            }
            Ok(())
        }
    }
}

fn check_line(
    chart: &LineChart,
    off: &impl Fn(&str, f64) -> ReportError,
) -> Result<(), ReportError> {
    for series in &chart.series {
        for point in &series.points {
            if !has_place(&chart.x.scale, point.x) {
                return Err(off(&series.name, point.x));
            }
            let ends = [point.low, point.high];
            for value in ends.into_iter().flatten().chain([point.y]) {
                if !value.is_nan() && !has_place(&chart.y.scale, value) {
                    return Err(off(&series.name, value));
                }
            }
        }
    }
    for line in &chart.reference_lines {
        if !has_place(&chart.y.scale, line.value) {
            return Err(off(&line.label, line.value));
        }
    }
    Ok(())
}

fn has_place(scale: &Scale, value: f64) -> bool {
    let is_drawable = crate::svg::is_drawable(value);
    match scale {
        Scale::Linear | Scale::SymLog => is_drawable,
        Scale::Log => is_drawable && value > 0.0,
        Scale::Categories(names) => {
            value.fract() == 0.0 && value >= 0.0 && value < names.len() as f64
        }
    }
}

fn check_heatmap(chart: &Heatmap) -> Result<(), ReportError> {
    let (rows, columns) = (chart.rows.len(), chart.columns.len());
    let fits = chart.values.len() == rows && chart.values.iter().all(|row| row.len() == columns);
    if fits {
        Ok(())
    } else {
        Err(ReportError::RaggedHeatmap {
            chart: chart.title.clone(),
            rows,
            columns,
        })
    }
}

fn check_images(images: &ImageGrid) -> Result<(), ReportError> {
    if png_size(&images.png) != Some((images.width, images.height)) {
        return Err(ReportError::BadPicture {
            caption: images.caption.clone(),
            width: images.width,
            height: images.height,
        });
    }
    let found = images.column_labels.len();
    if found != 0 && found != images.columns {
        return Err(ReportError::BadLabels {
            caption: images.caption.clone(),
            expected: images.columns,
            found,
        });
    }
    Ok(())
}

/// Width and height from the header of a PNG.
fn png_size(png: &[u8]) -> Option<(u32, u32)> {
    let rest = png.strip_prefix(b"\x89PNG\r\n\x1a\n")?;
    let header = rest.get(4..16)?.strip_prefix(b"IHDR")?;
    let number = |bytes: &[u8]| bytes.try_into().ok().map(u32::from_be_bytes);
    Some((number(&header[..4])?, number(&header[4..])?))
}
