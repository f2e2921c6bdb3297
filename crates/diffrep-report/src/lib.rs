#![doc = include_str!("../README.md")]

mod document;
mod figure;
mod table;

mod check;
mod html;
mod markdown;
mod table_text;
mod values;

mod assets;
mod escape;
mod inline;
mod png;
mod svg;

pub use assets::assets;
pub use check::{ReportError, check};
pub use document::{Answer, Block, ImageGrid, NoteKind, Report, Section, VerdictLine};
pub use figure::{
    Annotation, Axis, Best, Chart, DifferencePlot, DifferenceRow, DotMark, DotPlot, DotRow, Figure,
    Heatmap, LineChart, LineStyle, Marker, Point, ReferenceLine, RowKind, Scale, Series, Spread,
};
pub use html::{anchor, to_html};
pub use inline::escape_inline;
pub use markdown::to_markdown;
pub use png::heatmap_png;
pub use svg::to_svg;
pub use table::{Align, Cell, Column, Table};
pub use table_text::{to_csv, to_terminal_table};
