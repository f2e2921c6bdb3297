//! Line charts: values along an axis.

use super::{Axis, ReferenceLine};

/// Series of points joined by lines.
#[derive(Debug, Clone, PartialEq)]
pub struct LineChart {
    /// What the chart is about.
    pub title: String,
    /// The horizontal axis.
    pub x: Axis,
    /// The vertical axis.
    pub y: Axis,
    /// The lines, in the order of the legend.
    pub series: Vec<Series>,
    /// Horizontal lines to compare with.
    pub reference_lines: Vec<ReferenceLine>,
    /// Remarks tied to a place in the chart.
    pub annotations: Vec<Annotation>,
}

/// One line of a [`LineChart`].
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its name in the legend.
    pub name: String,
    /// Its points, joined in this order.
    pub points: Vec<Point>,
    /// How the line is drawn.
    pub style: LineStyle,
    /// How points are drawn.
    pub marker: Marker,
    /// How intervals are drawn.
    pub spread: Spread,
}

impl Series {
    /// A solid line with error bars and the marker of its place in the chart.
    pub fn new(name: impl Into<String>, points: Vec<Point>) -> Self {
        Self {
            name: name.into(),
            points,
            style: LineStyle::Solid,
            marker: Marker::Automatic,
            spread: Spread::Bars,
        }
    }
}

/// A value with, where known, its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// The place on the horizontal axis.
    pub x: f64,
    /// The value; one that is not finite leaves a gap.
    pub y: f64,
    /// The lower end of the interval.
    pub low: Option<f64>,
    /// The upper end of the interval.
    pub high: Option<f64>,
}

impl Point {
    /// A point without an interval.
    #[must_use]
    pub fn new(x: f64, y: f64) -> Self {
        Self {
            x,
            y,
            low: None,
            high: None,
        }
    }

    /// A point with an interval.
    #[must_use]
    pub fn with_interval(x: f64, y: f64, low: f64, high: f64) -> Self {
        Self {
            x,
            y,
            low: Some(low),
            high: Some(high),
        }
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineStyle {
    /// Unbroken.
    Solid,
    /// Of dashes.
    Dashed,
    /// Of dots.
    Dotted,
}

/// How a point is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// A shape of its own for each series.
    Automatic,
    /// A disc.
    Circle,
    /// A square.
    Square,
    /// A triangle.
    Triangle,
    /// A diamond.
    Diamond,
    /// A ring.
    Ring,
    /// Nothing: the line alone.
    None,
}

/// How the intervals of a series are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spread {
    /// A bar at each point.
    Bars,
    /// A shaded band along the line.
    Band,
}

/// A remark tied to a place in a [`LineChart`].
#[derive(Debug, Clone, PartialEq)]
pub struct Annotation {
    /// The place on the horizontal axis.
    pub x: f64,
    /// The place on the vertical axis.
    pub y: f64,
    /// The remark, as plain text.
    pub text: String,
}
