//! The plot area of a line chart: where values stand, and the axes around them.

use crate::figure::{LineChart, Scale};
use crate::svg::canvas::{Anchor, Canvas, Letters, Place, Rect, Stroke};
use crate::svg::labels::{self, Names};
use crate::svg::marks::{LABEL, SMALL};
use crate::svg::palette::Paint;
use crate::svg::scale::{Domain, Tick};
use crate::svg::{COMPACT, marks};

use super::words;

/// The plot area with its axes.
pub(super) struct Frame {
    /// Where data are drawn.
    pub(super) plot: Rect,
    /// Height of the whole drawing.
    pub(super) height: f64,
    x: Domain,
    y: Domain,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    names: Option<Names>,
    /// Room above the plot that remarks may use.
    headroom: f64,
    y_label: Vec<String>,
    x_label: Vec<String>,
}

impl Frame {
    /// Lays the plot out below `top`, leaving `right` pixels for labels of the lines.
    pub(super) fn new(chart: &LineChart, top: f64, width: f64, right: f64) -> Self {
        let xs: Vec<f64> = points(chart).map(|point| point.x).collect();
        let ys: Vec<f64> = points(chart)
            .flat_map(|point| [Some(point.y), point.low, point.high])
            .flatten()
            .chain(chart.reference_lines.iter().map(|line| line.value))
            .collect();
        let x = Domain::new(&chart.x, &xs, 0.03);
        let y = Domain::new(&chart.y, &ys, 0.06);
        let plot_height = if width < COMPACT { 230.0 } else { 290.0 };
        let y_ticks = y.ticks(&chart.y, (plot_height / 55.0) as usize, &[]);
        let tick_names = y_ticks.iter().map(|tick| tick.label.as_str());
        let y_label = labels::wrap_within(&chart.y.label, LABEL, false, width - 4.0, 2);
        let above = y_label.len() as f64 * LABEL * labels::LEADING;
        let headroom = words::headroom(chart);
        let mut plot = Rect {
            x: labels::widest(tick_names, SMALL, false).min(width * 0.3) + 10.0,
            y: top + above + 8.0 + headroom,
            width: 0.0,
            height: plot_height,
        };
        plot.width = (width - plot.x - right.max(8.0)).max(60.0);

        let mut names = None;
        let mut below = SMALL * labels::LEADING;
        if let Scale::Categories(categories) = &chart.x.scale {
            let slot = plot.width / categories.len().max(1) as f64;
            let fitted = labels::names(categories, SMALL, slot);
            let hang = fitted.overhang(SMALL) - slot / 2.0 - plot.x;
            if hang > 0.0 {
                plot.x += hang;
                plot.width = (plot.width - hang).max(60.0);
            }
            below = fitted.height(SMALL);
            names = Some(fitted);
        }
        let wanted = (plot.width / 75.0) as usize;
        let x_ticks = x.ticks(&chart.x, wanted, &xs);
        if names.is_none() {
            let reach = x_ticks
                .iter()
                .filter_map(|tick| {
                    let place = plot.x + x.share(tick.value)? * plot.width;
                    Some(place + labels::width(&tick.label, SMALL, false) / 2.0)
                })
                .fold(0.0, f64::max);
            plot.width -= (reach - width + 2.0).clamp(0.0, plot.width / 4.0);
        }
        let x_label = labels::wrap_within(&chart.x.label, LABEL, false, plot.width, 2);
        let label_height = x_label.len() as f64 * LABEL * labels::LEADING;
        Self {
            height: plot.bottom() + 8.0 + below + label_height + 8.0,
            plot,
            x,
            y,
            x_ticks,
            y_ticks,
            names,
            headroom,
            y_label,
            x_label,
        }
    }

    /// Where remarks may stand: the plot and the room above it.
    pub(super) fn remarks(&self) -> Rect {
        Rect {
            y: self.plot.y - self.headroom,
            height: self.plot.height + self.headroom,
            ..self.plot
        }
    }

    /// Where a value of the horizontal axis stands.
    pub(super) fn x(&self, value: f64) -> Option<f64> {
        Some(self.plot.x + self.x.share(value)? * self.plot.width)
    }

    /// Where a value of the vertical axis stands.
    pub(super) fn y(&self, value: f64) -> Option<f64> {
        Some(self.plot.bottom() - self.y.share(value)? * self.plot.height)
    }

    /// Where a point stands.
    pub(super) fn place(&self, x: f64, y: f64) -> Option<Place> {
        Some((self.x(x)?, self.y(y)?))
    }

    /// Draws grid, ticks and labels of the axes.
    pub(super) fn draw(&self, canvas: &mut Canvas) {
        let plot = self.plot;
        let soft = Letters::new(LABEL, Paint::Soft);
        let small = Letters::new(SMALL, Paint::Soft);
        let up = self.y_label.len() as f64 * LABEL * labels::LEADING;
        marks::lines(
            canvas,
            (0.0, plot.y - up - self.headroom),
            &self.y_label,
            soft,
        );

        let places: Vec<f64> = self
            .y_ticks
            .iter()
            .filter_map(|t| self.y(t.value))
            .collect();
        let keep = labels::apart(&places, &vec![SMALL; places.len()], 3.0);
        let grid = Stroke::solid(Paint::Grid, 1.0);
        let shown = self.y_ticks.iter().zip(&places).zip(keep);
        for ((tick, y), _) in shown.filter(|(_, keep)| *keep) {
            canvas.segment((plot.x, *y), (plot.right(), *y), grid);
            let room = plot.x - 8.0;
            let label = labels::wrap_within(&tick.label, SMALL, false, room, 1).concat();
            let letters = small.anchored(Anchor::End);
            canvas.text((plot.x - 7.0, y + SMALL * 0.35), &label, letters);
        }
        let axis = Stroke::solid(Paint::Soft, 1.0);
        canvas.segment((plot.x, plot.bottom()), (plot.right(), plot.bottom()), axis);
        match &self.names {
            Some(names) => self.draw_names(canvas, names, small),
            None => self.draw_ticks(canvas, small),
        }
        let lines = self.x_label.len() as f64 - 1.0;
        let y = self.height - 8.0 - lines * LABEL * labels::LEADING;
        let middle = plot.x + plot.width / 2.0;
        let letters = soft.anchored(Anchor::Middle);
        marks::lines(canvas, (middle, y), &self.x_label, letters);
    }

    fn draw_ticks(&self, canvas: &mut Canvas, letters: Letters) {
        let shown: Vec<(f64, &str)> = self
            .x_ticks
            .iter()
            .filter_map(|tick| Some((self.x(tick.value)?, tick.label.as_str())))
            .collect();
        let places: Vec<f64> = shown.iter().map(|(x, _)| *x).collect();
        let widths: Vec<f64> = shown
            .iter()
            .map(|(_, label)| labels::width(label, SMALL, false))
            .collect();
        let keep = labels::apart(&places, &widths, 5.0);
        let bottom = self.plot.bottom();
        for ((x, label), keep) in shown.into_iter().zip(keep) {
            let stroke = Stroke::solid(Paint::Soft, 1.0);
            canvas.segment(
                (x, bottom),
                (x, bottom + if keep { 5.0 } else { 3.0 }),
                stroke,
            );
            if keep {
                let letters = letters.anchored(Anchor::Middle);
                canvas.text((x, bottom + 7.0 + SMALL), label, letters);
            }
        }
    }

    fn draw_names(&self, canvas: &mut Canvas, names: &Names, letters: Letters) {
        let y = self.plot.bottom() + 6.0 + SMALL;
        let place = |index: usize| self.x(index as f64);
        match names {
            Names::Upright(labels) => {
                for (index, lines) in labels.iter().enumerate() {
                    if let Some(x) = place(index) {
                        marks::lines(canvas, (x, y), lines, letters.anchored(Anchor::Middle));
                    }
                }
            }
            Names::Slanted(labels) => {
                for (index, label) in labels.iter().enumerate() {
                    if let Some(x) = place(index) {
                        let letters = letters.anchored(Anchor::End).turned(labels::SLANT);
                        canvas.text((x + 3.0, y - 3.0), label, letters);
                    }
                }
            }
        }
    }
}

fn points(chart: &LineChart) -> impl Iterator<Item = &crate::figure::Point> {
    chart.series.iter().flat_map(|series| &series.points)
}
