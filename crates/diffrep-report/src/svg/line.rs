//! Line charts.

mod frame;
mod legend;
mod words;

use crate::figure::{LineChart, Point, Scale, Series, Spread};

use super::canvas::{Canvas, Stroke};
use super::number::{is_drawable, readable};
use super::palette::Paint;
use super::place::Obstacles;
use super::{Drawing, marks};
use frame::Frame;

/// Draws a line chart.
///
/// Names of lines stand beside their ends where there is room.
/// Elsewhere they go into a legend, and with them the names of those reference lines that would cover data; which those are is known only once the plot has been laid out, so it is laid out again.
pub(crate) fn draw(chart: &LineChart, width: f64) -> Drawing {
    let (frame, body) = match legend::direct_width(chart, width) {
        Some(room) => {
            let mut canvas = Canvas::default();
            let top = marks::title(&mut canvas, &chart.title, width);
            let frame = Frame::new(chart, top, width, room);
            draw_plot(&mut canvas, chart, &frame);
            legend::direct(&mut canvas, chart, &frame, room);
            (frame, canvas.finish())
        }
        None => {
            let (.., crowded) = with_legend(chart, width, &[]);
            let (frame, body, _) = with_legend(chart, width, &crowded);
            (frame, body)
        }
    };
    Drawing {
        width,
        height: frame.height,
        description: description(chart),
        body,
    }
}

/// Draws the chart with a legend that names the reference lines `listed`.
///
/// Also returns the reference lines that have no free room in the plot.
fn with_legend(chart: &LineChart, width: f64, listed: &[usize]) -> (Frame, String, Vec<usize>) {
    let mut canvas = Canvas::default();
    let top = marks::title(&mut canvas, &chart.title, width);
    let legend = legend::draw(&mut canvas, chart, listed, top, width);
    let frame = Frame::new(chart, top + legend, width, 0.0);
    let mut obstacles = draw_plot(&mut canvas, chart, &frame);
    let crowded = words::references(&mut canvas, chart, &frame, &mut obstacles, listed);
    (frame, canvas.finish(), crowded)
}

/// Draws everything inside the plot but the names, and returns what names must stay clear of.
fn draw_plot(canvas: &mut Canvas, chart: &LineChart, frame: &Frame) -> Obstacles {
    frame.draw(canvas);
    let mut obstacles = obstacles(chart, frame);
    reference_lines(canvas, chart, frame);
    for (index, series) in chart.series.iter().enumerate() {
        canvas.open_series(index, "");
        spread(canvas, series, frame, Paint::Series(index));
        canvas.close();
    }
    for (index, series) in chart.series.iter().enumerate() {
        canvas.open_series(index, &series.name);
        line(canvas, series, frame, index, chart);
        canvas.close();
    }
    words::annotations(canvas, chart, frame, &mut obstacles);
    obstacles
}

/// The interval of a point, as far as both ends can be drawn.
fn interval(point: &Point) -> Option<(f64, f64)> {
    let (low, high) = (point.low?, point.high?);
    (is_drawable(low) && is_drawable(high)).then_some((low, high))
}

/// Runs of points without a gap.
fn runs<T>(places: impl Iterator<Item = Option<T>>) -> Vec<Vec<T>> {
    let mut runs = vec![Vec::new()];
    for place in places {
        match place {
            Some(place) => runs.last_mut().expect("one run always exists").push(place),
            None => runs.push(Vec::new()),
        }
    }
    runs.retain(|run| !run.is_empty());
    runs
}

fn spread(canvas: &mut Canvas, series: &Series, frame: &Frame, paint: Paint) {
    let ends = |point: &Point| {
        let (low, high) = interval(point)?;
        let x = frame.x(point.x)?;
        Some(((x, frame.y(low)?), (x, frame.y(high)?)))
    };
    match series.spread {
        Spread::Bars => {
            let stroke = Stroke::solid(paint, 1.3);
            for (low, high) in series.points.iter().filter_map(ends) {
                canvas.segment(low, high, stroke);
                for (x, y) in [low, high] {
                    canvas.segment((x - 3.0, y), (x + 3.0, y), stroke);
                }
            }
        }
        Spread::Band => {
            for run in runs(series.points.iter().map(ends)) {
                let lows = run.iter().map(|(low, _)| *low);
                let highs = run.iter().rev().map(|(_, high)| *high);
                canvas.area(&lows.chain(highs).collect::<Vec<_>>(), paint);
            }
        }
    }
}

fn line(canvas: &mut Canvas, series: &Series, frame: &Frame, index: usize, chart: &LineChart) {
    let paint = Paint::Series(index);
    let places = series
        .points
        .iter()
        .map(|point| frame.place(point.x, point.y));
    for run in runs(places) {
        if run.len() > 1 {
            canvas.polyline(&run, marks::stroke(series.style, paint));
        }
    }
    let marker = marks::resolve(series.marker, index);
    for point in &series.points {
        if let Some(place) = frame.place(point.x, point.y) {
            let x = name_of(chart, point.x);
            let ends = interval(point).map(|(low, high)| (readable(low), readable(high)));
            let value = marks::with_interval(&readable(point.y), ends);
            let tip = format!("{}: {x} → {value}", series.name);
            marks::marker(canvas, marker, place, paint, &tip);
        }
    }
}

/// Everything inside the plot that words should leave readable.
fn obstacles(chart: &LineChart, frame: &Frame) -> Obstacles {
    let mut obstacles = Obstacles::default();
    for series in &chart.series {
        let places = series
            .points
            .iter()
            .map(|point| frame.place(point.x, point.y));
        for run in runs(places) {
            for place in &run {
                obstacles.add_segment((place.0 - 4.0, place.1), (place.0 + 4.0, place.1));
            }
            for pair in run.windows(2) {
                obstacles.add_segment(pair[0], pair[1]);
            }
        }
        for point in &series.points {
            if let (Some(x), Some((low, high))) = (frame.x(point.x), interval(point))
                && let (Some(low), Some(high)) = (frame.y(low), frame.y(high))
            {
                obstacles.add_segment((x, low), (x, high));
            }
        }
    }
    for reference in &chart.reference_lines {
        if let Some(y) = frame.y(reference.value) {
            obstacles.add_segment((frame.plot.x, y), (frame.plot.right(), y));
        }
    }
    obstacles
}

fn reference_lines(canvas: &mut Canvas, chart: &LineChart, frame: &Frame) {
    for reference in &chart.reference_lines {
        if let Some(y) = frame.y(reference.value) {
            canvas.segment((frame.plot.x, y), (frame.plot.right(), y), marks::REFERENCE);
        }
    }
}

fn description(chart: &LineChart) -> String {
    let mut text = format!("Line chart of {} against {}.", chart.y.label, chart.x.label);
    for series in &chart.series {
        let highest = series
            .points
            .iter()
            .filter(|point| is_drawable(point.y))
            .max_by(|a, b| a.y.total_cmp(&b.y));
        if let Some(point) = highest {
            let x = name_of(chart, point.x);
            text.push_str(&format!(
                " {}: {} points, highest {} at {x}.",
                series.name,
                series.points.len(),
                readable(point.y),
            ));
        }
    }
    for reference in &chart.reference_lines {
        text.push_str(&format!(
            " Reference {}: {}.",
            reference.label,
            readable(reference.value)
        ));
    }
    text
}

/// A value of the horizontal axis in words.
pub(crate) fn name_of(chart: &LineChart, x: f64) -> String {
    match &chart.x.scale {
        Scale::Categories(names) => names.get(x as usize).cloned(),
        _ => None,
    }
    .unwrap_or_else(|| readable(x))
}
