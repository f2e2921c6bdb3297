//! Figures drawn as SVG.
//!
//! A chart is laid out for a given width, so that a page can hold one drawing for wide and one for narrow screens with letters of the same size.
//! Every colour is a class with a plain fallback attribute: in a page the classes follow the variables of the page, in a file those of [`palette::style`], and a renderer without CSS still sees the fallback.

mod canvas;
mod differences;
mod dots;
mod heatmap;
mod labels;
mod line;
mod marks;
mod number;
pub(crate) mod palette;
mod place;
mod rows;
mod scale;

pub(crate) use line::name_of;
pub(crate) use marks::with_interval;
pub(crate) use number::{is_drawable, readable};

use crate::escape::xml;
use crate::figure::Chart;

/// Width of a drawing for wide screens and for files.
pub(crate) const WIDE: f64 = 720.0;
/// Width of a drawing for telephones.
pub(crate) const NARROW: f64 = 350.0;
/// Paper around the drawing in a file.
const MARGIN: f64 = 14.0;
/// Below this width, labels move from beside the marks to above them.
const COMPACT: f64 = 480.0;

/// A finished drawing without its outer element.
struct Drawing {
    width: f64,
    height: f64,
    description: String,
    body: String,
}

/// Draws a chart as a stand-alone SVG file that adapts to light and dark by itself.
#[must_use]
pub fn to_svg(chart: &Chart) -> String {
    let drawing = draw(chart, WIDE);
    let width = number::short(drawing.width + 2.0 * MARGIN);
    let height = number::short(drawing.height + 2.0 * MARGIN);
    let corner = number::short(-MARGIN);
    let inside = format!(
        "<style>{}</style><rect class=\"{}\" fill=\"{}\" x=\"{corner}\" y=\"{corner}\" \
         width=\"{width}\" height=\"{height}\"/>{}",
        palette::style(),
        palette::Paint::Paper.fill_class(),
        palette::Paint::Paper.fallback(),
        drawing.body
    );
    let size = format!(" width=\"{width}\" height=\"{height}\"");
    element(chart.title(), &drawing, "chart", MARGIN, &size, &inside)
}

/// Draws a chart to stand inside a page; `id` must be unique in the page.
pub(crate) fn inline(chart: &Chart, width: f64, id: &str) -> String {
    let drawing = draw(chart, width);
    // A drawing that could not fit is scrolled sideways instead of shrunk beyond reading.
    let least = number::short((drawing.width * 0.92).min(drawing.width - 1.0));
    let size = format!(
        " style=\"min-width:{}px;max-width:{}px\"",
        if drawing.width > width { &least } else { "0" },
        number::short(drawing.width * 1.1)
    );
    element(chart.title(), &drawing, id, 0.0, &size, &drawing.body)
}

fn draw(chart: &Chart, width: f64) -> Drawing {
    match chart {
        Chart::Line(chart) => line::draw(chart, width),
        Chart::Heatmap(chart) => heatmap::draw(chart, width),
        Chart::Dots(chart) => dots::draw(chart, width),
        Chart::Differences(chart) => differences::draw(chart, width),
    }
}

fn element(
    title: &str,
    drawing: &Drawing,
    id: &str,
    margin: f64,
    size: &str,
    inside: &str,
) -> String {
    let corner = number::short(-margin);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" role=\"img\" viewBox=\"{corner} {corner} {} {}\"{size} \
         aria-labelledby=\"{id}-title {id}-desc\" font-family=\"{}\">\
         <title id=\"{id}-title\">{}</title><desc id=\"{id}-desc\">{}</desc>{inside}</svg>",
        number::short(drawing.width + 2.0 * margin),
        number::short(drawing.height + 2.0 * margin),
        palette::FONT,
        xml(title),
        xml(&drawing.description),
    )
}
