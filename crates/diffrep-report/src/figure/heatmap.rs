//! Heat maps: values over two discrete axes.

/// A matrix of values shown by colour and number.
#[derive(Debug, Clone, PartialEq)]
pub struct Heatmap {
    /// What the chart is about.
    pub title: String,
    /// What the columns are.
    pub x_label: String,
    /// What the rows are.
    pub y_label: String,
    /// One name per column.
    pub columns: Vec<String>,
    /// One name per row.
    pub rows: Vec<String>,
    /// What the values measure, with the unit.
    pub value_label: String,
    /// The values by row; `None` was not measured.
    pub values: Vec<Vec<Option<f64>>>,
    /// Decimals of the printed numbers.
    pub decimals: usize,
    /// Which cell is framed.
    pub best: Best,
}

/// Which cell of a [`Heatmap`] is framed as the best.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Best {
    /// None.
    Unmarked,
    /// The highest value.
    Highest,
    /// The lowest value.
    Lowest,
}
