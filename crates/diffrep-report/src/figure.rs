//! What figures say; how they look is the business of `svg`.

mod heatmap;
mod line;
mod rows;

pub use heatmap::{Best, Heatmap};
pub use line::{Annotation, LineChart, LineStyle, Marker, Point, Series, Spread};
pub use rows::{DifferencePlot, DifferenceRow, DotMark, DotPlot, DotRow, RowKind};

/// A numbered figure.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    /// What to see in it; may use inline markup.
    pub caption: String,
    /// What is drawn.
    pub chart: Chart,
}

/// The kinds of figures.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// Values along an axis.
    Line(LineChart),
    /// Values over two discrete axes.
    Heatmap(Heatmap),
    /// One value per row.
    Dots(DotPlot),
    /// One difference per row, around zero.
    Differences(DifferencePlot),
}

impl Chart {
    /// The title of the chart, whatever its kind.
    #[must_use]
    pub fn title(&self) -> &str {
        match self {
            Self::Line(chart) => &chart.title,
            Self::Heatmap(chart) => &chart.title,
            Self::Dots(chart) => &chart.title,
            Self::Differences(chart) => &chart.title,
        }
    }
}

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    /// What it measures, with the unit.
    pub label: String,
    /// How values become places.
    pub scale: Scale,
    /// Values that it must span beside those of the data.
    pub include: Option<(f64, f64)>,
}

impl Axis {
    /// An axis that spans the data.
    pub fn new(label: impl Into<String>, scale: Scale) -> Self {
        Self {
            label: label.into(),
            scale,
            include: None,
        }
    }

    /// Makes the axis span at least `low..=high`.
    #[must_use]
    pub fn including(mut self, low: f64, high: f64) -> Self {
        self.include = Some((low, high));
        self
    }
}

/// How the values of an axis become places.
#[derive(Debug, Clone, PartialEq)]
pub enum Scale {
    /// Equal steps for equal differences.
    Linear,
    /// Equal steps for equal ratios; shows values above zero only.
    Log,
    /// Logarithmic away from zero and linear around it, so that zero has a place.
    SymLog,
    /// Equal steps for names; values are indices into them.
    Categories(Vec<String>),
}

/// A line across the chart to compare with.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceLine {
    /// What it stands for.
    pub label: String,
    /// Its place on the axis of values.
    pub value: f64,
}

impl ReferenceLine {
    /// A labelled reference line.
    pub fn new(label: impl Into<String>, value: f64) -> Self {
        Self {
            label: label.into(),
            value,
        }
    }
}

impl From<LineChart> for Chart {
    fn from(chart: LineChart) -> Self {
        Self::Line(chart)
    }
}

impl From<Heatmap> for Chart {
    fn from(chart: Heatmap) -> Self {
        Self::Heatmap(chart)
    }
}

impl From<DotPlot> for Chart {
    fn from(chart: DotPlot) -> Self {
        Self::Dots(chart)
    }
}

impl From<DifferencePlot> for Chart {
    fn from(chart: DifferencePlot) -> Self {
        Self::Differences(chart)
    }
}
