//! Tables and the cells they are made of.

/// A table.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Table {
    /// What the table shows; may use inline markup.
    pub caption: String,
    /// The columns, left to right.
    pub columns: Vec<Column>,
    /// The rows, each as long as `columns`.
    pub rows: Vec<Vec<Cell>>,
    /// Indices of the rows that the reader should find first.
    pub highlight: Vec<usize>,
}

/// A column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    /// The heading.
    pub name: String,
    /// Where cells stand in the column.
    pub align: Align,
    /// The unit of every cell, shown once in the heading.
    pub unit: Option<String>,
}

impl Column {
    /// A left-aligned column of words.
    pub fn text(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            align: Align::Left,
            unit: None,
        }
    }

    /// A right-aligned column of numbers.
    pub fn number(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            align: Align::Right,
            unit: None,
        }
    }

    /// Names the unit of the column.
    #[must_use]
    pub fn with_unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = Some(unit.into());
        self
    }

    /// The heading as one string: the name, and the unit in brackets.
    #[must_use]
    pub fn heading(&self) -> String {
        match &self.unit {
            Some(unit) => format!("{} [{unit}]", self.name),
            None => self.name.clone(),
        }
    }
}

/// Where the cells of a column stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// At the left edge, for words.
    Left,
    /// At the right edge, for numbers.
    Right,
    /// In the middle, for short marks.
    Center,
}

/// One entry of a table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cell {
    /// What the cell says, as plain text.
    pub text: String,
    /// Whether it is the best of its kind.
    pub best: bool,
    /// Whether it steps back, such as a published value beside a measured one.
    pub muted: bool,
}

impl Cell {
    /// A cell of plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            best: false,
            muted: false,
        }
    }

    /// A number with a fixed count of decimals.
    #[must_use]
    pub fn number(value: f64, decimals: usize) -> Self {
        Self::text(fixed(value, decimals))
    }

    /// A percentage and, where given, half the width of its interval: `62.7 ± 0.4`.
    ///
    /// Both are in percent already; the sign belongs to the unit of the column.
    #[must_use]
    pub fn percent(mean: f64, half_range: Option<f64>) -> Self {
        match half_range {
            Some(half) => Self::text(format!("{} ± {}", fixed(mean, 1), fixed(half, 1))),
            None => Self::number(mean, 1),
        }
    }

    /// An interval with one decimal: `[61.9, 63.5]`.
    #[must_use]
    pub fn interval(low: f64, high: f64) -> Self {
        Self::text(format!("[{}, {}]", fixed(low, 1), fixed(high, 1)))
    }

    /// A value that does not exist, shown as a muted dash.
    #[must_use]
    pub fn missing() -> Self {
        Self::text("–").muted()
    }

    /// Marks the cell as the best of its kind.
    #[must_use]
    pub fn best(mut self) -> Self {
        self.best = true;
        self
    }

    /// Lets the cell step back.
    #[must_use]
    pub fn muted(mut self) -> Self {
        self.muted = true;
        self
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// Prints with a true minus sign, never as `-0.0`; what is not a number is a dash.
pub(crate) fn fixed(value: f64, decimals: usize) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    let digits = format!("{:.decimals$}", value.abs());
    let is_zero = digits.bytes().all(|byte| matches!(byte, b'0' | b'.'));
    if value < 0.0 && !is_zero {
        format!("−{digits}")
    } else {
        digits
    }
}
