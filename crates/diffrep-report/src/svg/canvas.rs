//! Elements of a drawing, written as they are drawn.

use crate::escape::xml;

use super::number::short;
use super::palette::Paint;

/// A place on the drawing, in pixels from the upper left corner.
pub(crate) type Place = (f64, f64);

/// An upright rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

impl Rect {
    pub(crate) fn right(&self) -> f64 {
        self.x + self.width
    }

    pub(crate) fn bottom(&self) -> f64 {
        self.y + self.height
    }

    pub(crate) fn contains(&self, (x, y): Place) -> bool {
        (self.x..=self.right()).contains(&x) && (self.y..=self.bottom()).contains(&y)
    }

    pub(crate) fn touches(&self, other: &Self) -> bool {
        self.x < other.right()
            && other.x < self.right()
            && self.y < other.bottom()
            && other.y < self.bottom()
    }

    pub(crate) fn grown(&self, by: f64) -> Self {
        Self {
            x: self.x - by,
            y: self.y - by,
            width: self.width + 2.0 * by,
            height: self.height + 2.0 * by,
        }
    }
}

/// How a line is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    pub(crate) paint: Paint,
    pub(crate) width: f64,
    /// Lengths of dashes and gaps; empty for an unbroken line.
    pub(crate) dash: &'static str,
}

impl Stroke {
    pub(crate) fn solid(paint: Paint, width: f64) -> Self {
        Self {
            paint,
            width,
            dash: "",
        }
    }

    fn attributes(self) -> String {
        let dash = if self.dash.is_empty() {
            String::new()
        } else {
            format!(" stroke-dasharray=\"{}\"", self.dash)
        };
        format!(
            "class=\"{}\" stroke=\"{}\" stroke-width=\"{}\"{dash}",
            self.paint.stroke_class(),
            self.paint.fallback(),
            short(self.width)
        )
    }
}

/// Which part of a text its place refers to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text is drawn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Letters {
    pub(crate) size: f64,
    pub(crate) bold: bool,
    pub(crate) anchor: Anchor,
    pub(crate) paint: Paint,
    /// Whether a rim of paper keeps it readable on lines.
    pub(crate) halo: bool,
    /// Degrees clockwise around its place.
    pub(crate) turn: f64,
    /// Whether a pointer over it finds what lies below, whose tooltip then shows.
    pub(crate) transparent: bool,
}

impl Letters {
    pub(crate) fn new(size: f64, paint: Paint) -> Self {
        Self {
            size,
            bold: false,
            anchor: Anchor::Start,
            paint,
            halo: false,
            turn: 0.0,
            transparent: false,
        }
    }

    pub(crate) fn anchored(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(crate) fn bold(self) -> Self {
        Self { bold: true, ..self }
    }

    pub(crate) fn with_halo(self) -> Self {
        Self { halo: true, ..self }
    }

    pub(crate) fn turned(self, turn: f64) -> Self {
        Self { turn, ..self }
    }

    pub(crate) fn transparent(self) -> Self {
        Self {
            transparent: true,
            ..self
        }
    }
}

/// Collects the elements of a drawing.
#[derive(Debug, Default)]
pub(crate) struct Canvas {
    body: String,
}

impl Canvas {
    pub(crate) fn finish(self) -> String {
        self.body
    }

    /// Begins what belongs to one series; the group that has its `name` stands for it where series are
    /// listed.
    pub(crate) fn open_series(&mut self, index: usize, name: &str) {
        let name = match name {
            "" => String::new(),
            name => format!(" data-name=\"{}\"", xml(name)),
        };
        self.body
            .push_str(&format!("<g data-series=\"{index}\"{name}>"));
    }

    /// Ends what [`open_series`](Self::open_series) began.
    pub(crate) fn close(&mut self) {
        self.body.push_str("</g>");
    }

    pub(crate) fn segment(&mut self, from: Place, to: Place, stroke: Stroke) {
        self.body.push_str(&format!(
            "<line x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\" {}/>",
            short(from.0),
            short(from.1),
            short(to.0),
            short(to.1),
            stroke.attributes()
        ));
    }

    pub(crate) fn polyline(&mut self, places: &[Place], stroke: Stroke) {
        self.body.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke-linejoin=\"round\" \
             stroke-linecap=\"{}\" {}/>",
            points(places),
            if stroke.dash.is_empty() {
                "round"
            } else {
                "butt"
            },
            stroke.attributes()
        ));
    }

    /// A translucent area, such as a band of intervals.
    pub(crate) fn area(&mut self, places: &[Place], paint: Paint) {
        self.body.push_str(&format!(
            "<polygon points=\"{}\" class=\"{}\" fill=\"{}\" fill-opacity=\"0.16\"/>",
            points(places),
            paint.fill_class(),
            paint.fallback()
        ));
    }

    /// A rectangle with a tooltip where `tip` is not empty.
    pub(crate) fn rect(&mut self, rect: Rect, radius: f64, paint: Paint, tip: &str) {
        let radius = if radius > 0.0 {
            format!(" rx=\"{}\"", short(radius))
        } else {
            String::new()
        };
        self.body.push_str(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\"{radius} class=\"{}\" fill=\"{}\"{}",
            short(rect.x),
            short(rect.y),
            short(rect.width),
            short(rect.height),
            paint.fill_class(),
            paint.fallback(),
            closed("rect", tip)
        ));
    }

    pub(crate) fn frame(&mut self, rect: Rect, stroke: Stroke) {
        self.body.push_str(&format!(
            "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" rx=\"2\" fill=\"none\" {}/>",
            short(rect.x),
            short(rect.y),
            short(rect.width),
            short(rect.height),
            stroke.attributes()
        ));
    }

    /// A closed shape filled with one paint and rimmed with another, with a tooltip.
    pub(crate) fn shape(&mut self, path: &str, fill: Paint, rim: Stroke, tip: &str) {
        self.body.push_str(&format!(
            "<path d=\"{path}\" class=\"{} {}\" fill=\"{}\" stroke=\"{}\" stroke-width=\"{}\"{}",
            fill.fill_class(),
            rim.paint.stroke_class(),
            fill.fallback(),
            rim.paint.fallback(),
            short(rim.width),
            closed("path", tip)
        ));
    }

    /// One line of text with its baseline at `y`.
    pub(crate) fn text(&mut self, (x, y): Place, text: &str, letters: Letters) {
        if text.is_empty() {
            return;
        }
        let anchor = match letters.anchor {
            Anchor::Start => "",
            Anchor::Middle => " text-anchor=\"middle\"",
            Anchor::End => " text-anchor=\"end\"",
        };
        let weight = if letters.bold {
            " font-weight=\"600\""
        } else {
            ""
        };
        let (halo, halo_class) = if letters.halo {
            let paper = Paint::Paper;
            (
                format!(
                    " stroke=\"{}\" stroke-width=\"4\" stroke-linejoin=\"round\" paint-order=\"stroke\"",
                    paper.fallback()
                ),
                format!(" {}", paper.stroke_class()),
            )
        } else {
            (String::new(), String::new())
        };
        let turn = if letters.turn == 0.0 {
            String::new()
        } else {
            format!(
                " transform=\"rotate({} {} {})\"",
                short(letters.turn),
                short(x),
                short(y)
            )
        };
        let pointer = if letters.transparent {
            " pointer-events=\"none\""
        } else {
            ""
        };
        self.body.push_str(&format!(
            "<text x=\"{}\" y=\"{}\" font-size=\"{}\"{weight}{anchor}{turn}{pointer} class=\"{}{halo_class}\" \
             fill=\"{}\"{halo}>{}</text>",
            short(x),
            short(y),
            short(letters.size),
            letters.paint.fill_class(),
            letters.paint.fallback(),
            xml(text)
        ));
    }
}

fn points(places: &[Place]) -> String {
    places
        .iter()
        .map(|(x, y)| format!("{},{}", short(*x), short(*y)))
        .collect::<Vec<_>>()
        .join(" ")
}

/// The end of a start tag, with a tooltip as content where there is one.
fn closed(name: &str, tip: &str) -> String {
    if tip.is_empty() {
        "/>".to_owned()
    } else {
        format!("><title>{}</title></{name}>", xml(tip))
    }
}
