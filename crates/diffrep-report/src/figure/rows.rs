//! Charts with one value per row: methods beside controls, and differences around zero.

use super::{Axis, ReferenceLine};

/// One value per row, with intervals: methods beside their controls.
#[derive(Debug, Clone, PartialEq)]
pub struct DotPlot {
    /// What the chart is about.
    pub title: String,
    /// The axis of values.
    pub axis: Axis,
    /// The rows, top to bottom.
    pub rows: Vec<DotRow>,
    /// Vertical lines to compare with, such as chance.
    pub reference_lines: Vec<ReferenceLine>,
    /// How values are drawn.
    pub mark: DotMark,
    /// Decimals of the printed numbers.
    pub decimals: usize,
}

/// A row of a [`DotPlot`].
#[derive(Debug, Clone, PartialEq)]
pub struct DotRow {
    /// Its name.
    pub label: String,
    /// Its value.
    pub value: f64,
    /// The interval around the value.
    pub interval: Option<(f64, f64)>,
    /// Its role in the comparison.
    pub kind: RowKind,
}

/// The role of a [`DotRow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// What the chart is about: coloured.
    Method,
    /// What it is measured against: grey and hollow.
    Control,
}

/// How a [`DotPlot`] draws values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DotMark {
    /// A dot; the axis need not start at zero.
    Dot,
    /// A bar from zero.
    Bar,
}

/// Differences with their intervals around a line of no difference.
#[derive(Debug, Clone, PartialEq)]
pub struct DifferencePlot {
    /// What the chart is about.
    pub title: String,
    /// The axis of differences; zero is always on it.
    pub axis: Axis,
    /// What a difference below zero means, such as `control better`.
    pub below: String,
    /// What a difference above zero means.
    pub above: String,
    /// The rows, top to bottom.
    pub rows: Vec<DifferenceRow>,
    /// Decimals of the printed numbers.
    pub decimals: usize,
}

/// A row of a [`DifferencePlot`].
#[derive(Debug, Clone, PartialEq)]
pub struct DifferenceRow {
    /// What is compared.
    pub label: String,
    /// The difference.
    pub difference: f64,
    /// The lower end of its interval.
    pub low: f64,
    /// The upper end of its interval.
    pub high: f64,
}
