//! What all charts share: the title, markers and line styles.

use crate::figure::{LineStyle, Marker};

use super::canvas::{Canvas, Letters, Place, Stroke};
use super::labels;
use super::number::short;
use super::palette::Paint;

/// Letter sizes in pixels.
pub(crate) const TITLE: f64 = 15.0;
pub(crate) const LABEL: f64 = 12.5;
pub(crate) const SMALL: f64 = 11.5;

/// The stroke of lines to compare with.
pub(crate) const REFERENCE: Stroke = Stroke {
    paint: Paint::Soft,
    width: 1.2,
    dash: "4 3",
};

/// Draws the title and returns the height it takes.
pub(crate) fn title(canvas: &mut Canvas, title: &str, width: f64) -> f64 {
    let lines = labels::wrap_within(title, TITLE, true, width - 4.0, 4);
    let letters = Letters::new(TITLE, Paint::Ink).bold();
    let leading = TITLE * labels::LEADING;
    for (index, line) in lines.iter().enumerate() {
        canvas.text((0.0, TITLE + index as f64 * leading), line, letters);
    }
    if lines.is_empty() {
        4.0
    } else {
        lines.len() as f64 * leading + 10.0
    }
}

/// Draws lines of text with the first baseline at `place`.
pub(crate) fn lines(canvas: &mut Canvas, (x, y): Place, lines: &[String], letters: Letters) {
    for (index, line) in lines.iter().enumerate() {
        let y = y + index as f64 * letters.size * labels::LEADING;
        canvas.text((x, y), line, letters);
    }
}

/// The marker of a series; `Automatic` differs from series to series.
pub(crate) fn resolve(marker: Marker, series: usize) -> Marker {
    const ORDER: [Marker; 5] = [
        Marker::Circle,
        Marker::Square,
        Marker::Triangle,
        Marker::Diamond,
        Marker::Ring,
    ];
    match marker {
        Marker::Automatic => ORDER[series % ORDER.len()],
        other => other,
    }
}

/// Draws a marker with a tooltip.
pub(crate) fn marker(canvas: &mut Canvas, marker: Marker, at: Place, paint: Paint, tip: &str) {
    let (x, y) = at;
    let polygon = |corners: &[(f64, f64)]| {
        let corners: Vec<String> = corners
            .iter()
            .map(|(dx, dy)| format!("{} {}", short(x + dx), short(y + dy)))
            .collect();
        format!("M{}Z", corners.join("L"))
    };
    let path = match marker {
        Marker::None | Marker::Automatic => return,
        Marker::Circle => disc(at, 4.0),
        Marker::Ring => disc(at, 3.4),
        Marker::Square => polygon(&[(-3.5, -3.5), (3.5, -3.5), (3.5, 3.5), (-3.5, 3.5)]),
        Marker::Triangle => polygon(&[(0.0, -4.6), (4.4, 3.4), (-4.4, 3.4)]),
        Marker::Diamond => polygon(&[(0.0, -5.0), (5.0, 0.0), (0.0, 5.0), (-5.0, 0.0)]),
    };
    if marker == Marker::Ring {
        canvas.shape(&path, Paint::Paper, Stroke::solid(paint, 1.8), tip);
    } else {
        canvas.shape(&path, paint, Stroke::solid(Paint::Paper, 1.0), tip);
    }
}

/// The path of a disc.
pub(crate) fn disc((x, y): Place, radius: f64) -> String {
    format!(
        "M{} {}a{r} {r} 0 1 0 {d} 0a{r} {r} 0 1 0 -{d} 0Z",
        short(x - radius),
        short(y),
        r = short(radius),
        d = short(2.0 * radius)
    )
}

/// The stroke of a series.
pub(crate) fn stroke(style: LineStyle, paint: Paint) -> Stroke {
    Stroke {
        paint,
        width: 2.0,
        dash: match style {
            LineStyle::Solid => "",
            LineStyle::Dashed => "7 4",
            LineStyle::Dotted => "2 3.5",
        },
    }
}

/// A value with its interval, as tooltips and descriptions say it.
pub(crate) fn with_interval(value: &str, interval: Option<(String, String)>) -> String {
    match interval {
        Some((low, high)) => format!("{value} [{low}, {high}]"),
        None => value.to_owned(),
    }
}
