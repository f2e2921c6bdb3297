//! What figures look like, read back from the SVG.

mod support;

use diffrep_report::*;
use proptest::prelude::*;
use support::{Element, parse};

fn line_chart(x: Scale, series: Vec<Series>) -> LineChart {
    LineChart {
        title: "Title".into(),
        x: Axis::new("x axis", x),
        y: Axis::new("y axis", Scale::Linear),
        series,
        reference_lines: vec![],
        annotations: vec![],
    }
}

fn draw(chart: impl Into<Chart>) -> Element {
    parse(&to_svg(&chart.into()))
}

#[test]
fn points_stand_where_their_values_are() {
    let points = [0.0, 10.0, 20.0].map(|x| Point::new(x, 2.0 * x));
    let svg = draw(line_chart(
        Scale::Linear,
        vec![Series::new("s", points.into())],
    ));
    let at: Vec<(f64, f64)> = ["s: 0 →", "s: 10 →", "s: 20 →"]
        .map(|tip| svg.with_tip(tip).path_start())
        .into();
    assert!(
        at[0].0 < at[1].0 && at[0].1 > at[1].1,
        "right and up: {at:?}"
    );
    assert!(
        (at[2].0 - at[1].0 - (at[1].0 - at[0].0)).abs() < 0.05,
        "{at:?}"
    );
    assert!(
        (at[2].1 - at[1].1 - (at[1].1 - at[0].1)).abs() < 0.05,
        "{at:?}"
    );
    // The tick labelled 20 stands on the height of the value 20.
    let tick = svg
        .named("text")
        .into_iter()
        .filter(|text| text.text == "20")
        .min_by(|a, b| a.number("x").total_cmp(&b.number("x")))
        .expect("a tick at 20");
    assert!((tick.number("y") - at[1].1).abs() < 6.0);
}

#[test]
fn a_missing_value_breaks_the_line() {
    let values = [1.0, 2.0, f64::NAN, 3.0, 4.0];
    let points = (0..5)
        .map(|i| Point::new(f64::from(i), values[i as usize]))
        .collect();
    let svg = draw(line_chart(Scale::Linear, vec![Series::new("s", points)]));
    let runs: Vec<usize> = svg
        .named("polyline")
        .iter()
        .filter(|line| line.number("stroke-width") == 2.0)
        .map(|line| line.attribute("points").expect("points").split(' ').count())
        .collect();
    assert_eq!(runs, [2, 2]);
}

#[test]
fn error_bars_span_the_interval_and_bands_are_areas() {
    let points = vec![
        Point::with_interval(0.0, 5.0, 4.0, 8.0),
        Point::new(1.0, 5.0),
    ];
    let mut series = Series::new("s", points);
    let svg = draw(line_chart(Scale::Linear, vec![series.clone()]));
    let (_, y) = svg.with_tip("s: 0 → 5 [4, 8]").path_start();
    let bar = svg
        .named("line")
        .into_iter()
        .find(|line| line.number("stroke-width") == 1.3 && line.number("x1") == line.number("x2"))
        .expect("an error bar");
    let (below, above) = (bar.number("y1") - y, y - bar.number("y2"));
    assert!(
        below > 0.0 && (above / below - 3.0).abs() < 0.01,
        "{below} {above}"
    );
    assert!(svg.named("polygon").is_empty());
    series.spread = Spread::Band;
    series.points.push(Point::with_interval(2.0, 5.0, 4.0, 6.0));
    let svg = draw(line_chart(Scale::Linear, vec![series]));
    assert_eq!(svg.named("polygon").len(), 2);
}

#[test]
fn zero_and_names_have_places() {
    let times = [0.0, 1.0, 10.0, 100.0];
    let points: Vec<Point> = times.iter().map(|x| Point::new(*x, 1.0)).collect();
    let svg = draw(line_chart(Scale::SymLog, vec![Series::new("s", points)]));
    let places = ["0", "1", "10", "100"].map(|label| {
        let texts = svg.named("text").into_iter();
        let ticks =
            texts.filter(|t| t.text == label && t.attribute("text-anchor") == Some("middle"));
        ticks.map(|t| t.number("x")).next().expect("a tick")
    });
    assert!(
        places.windows(2).all(|pair| pair[1] - pair[0] > 30.0),
        "{places:?}"
    );

    let names = vec!["first".to_owned(), "second".to_owned()];
    let points = vec![Point::new(0.0, 1.0), Point::new(1.0, 2.0)];
    let svg = draw(line_chart(
        Scale::Categories(names),
        vec![Series::new("s", points)],
    ));
    let (x, _) = svg.with_tip("s: second →").path_start();
    assert!((svg.saying("second").number("x") - x).abs() < 5.0);
}

#[test]
fn names_beside_lines_do_not_touch() {
    let series = (0..6)
        .map(|i| {
            let points = vec![
                Point::new(0.0, 50.0),
                Point::new(1.0, 50.0 + f64::from(i) * 0.1),
            ];
            Series::new(format!("series {i}"), points)
        })
        .chain([Series::new("low", vec![Point::new(0.0, 0.0)])])
        .collect();
    let svg = draw(line_chart(Scale::Linear, series));
    let mut ys: Vec<f64> = (0..6)
        .map(|i| svg.saying(&format!("series {i}")).number("y"))
        .collect();
    ys.sort_by(f64::total_cmp);
    assert!(
        ys.windows(2).all(|pair| pair[1] - pair[0] >= 14.0),
        "{ys:?}"
    );
}

#[test]
fn the_best_cell_is_framed_and_missing_ones_are_dashes() {
    let heatmap = |best| Heatmap {
        title: "T".into(),
        x_label: "x".into(),
        y_label: "y".into(),
        columns: vec!["c0".into(), "c1".into()],
        rows: vec!["r0".into(), "r1".into()],
        value_label: "v".into(),
        values: vec![vec![Some(1.0), Some(4.0)], vec![None, Some(2.5)]],
        decimals: 1,
        best,
    };
    for (best, tip) in [
        (Best::Highest, "r0, c1: 4.0"),
        (Best::Lowest, "r0, c0: 1.0"),
    ] {
        let svg = draw(heatmap(best));
        let cell = svg.with_tip(tip);
        let frame = svg
            .named("rect")
            .into_iter()
            .find(|rect| rect.attribute("fill") == Some("none"))
            .expect("a frame");
        let middle = |rect: &Element| rect.number("x") + rect.number("width") / 2.0;
        assert!((middle(frame) - middle(cell)).abs() < 0.02);
        svg.with_tip("r1, c0: –");
    }
    let unmarked = draw(heatmap(Best::Unmarked));
    let frames = unmarked.named("rect").into_iter();
    assert_eq!(
        frames
            .filter(|r| r.attribute("fill") == Some("none"))
            .count(),
        0
    );
    let low = unmarked
        .with_tip("r0, c0")
        .attribute("fill")
        .map(str::to_owned);
    assert_eq!(low.as_deref(), Some("#440154"));
    // A pointer over a cell's number finds the cell, which tells its value.
    let texts = unmarked.named("text").into_iter();
    let numbers = texts.filter(|text| text.attribute("pointer-events") == Some("none"));
    assert_eq!(numbers.count(), 4);
}

#[test]
fn cells_grow_with_their_numbers() {
    let svg = draw(Heatmap {
        title: "T".into(),
        x_label: "x".into(),
        y_label: "y".into(),
        columns: vec!["c0".into(), "c1".into()],
        rows: vec!["r0".into()],
        value_label: "v".into(),
        values: vec![vec![Some(666_711_496.085_568), Some(0.5)]],
        decimals: 3,
        best: Best::Unmarked,
    });
    let cell = svg.with_tip("r0, c0: 666,711,496.086");
    // Sixteen digits and marks of 12 pixels are wider than the widest ordinary cell.
    assert!(cell.number("width") > 92.0, "{}", cell.number("width"));
}

#[test]
fn differences_show_by_shape_and_colour_whether_zero_is_excluded() {
    let row = |label: &str, difference, low, high| DifferenceRow {
        label: label.into(),
        difference,
        low,
        high,
    };
    let svg = draw(DifferencePlot {
        title: "T".into(),
        axis: Axis::new("points", Scale::Linear),
        below: "worse".into(),
        above: "better".into(),
        rows: vec![
            row("up", 2.0, 1.0, 3.0),
            row("open", 0.5, -0.5, 1.5),
            row("down", -2.0, -3.0, -1.0),
        ],
        decimals: 1,
    });
    let class = |tip: &str| {
        svg.with_tip(tip)
            .attribute("class")
            .map(str::to_owned)
            .expect("class")
    };
    assert!(class("up: +2.0 [+1.0, +3.0]").starts_with("dr-f-s0"));
    assert!(class("open: +0.5 [−0.5, +1.5]").starts_with("dr-f-paper"));
    assert!(class("down: −2.0 [−3.0, −1.0]").starts_with("dr-f-s1"));
    let zero = svg.saying("0").number("x");
    assert!(svg.with_tip("down").path_start().0 < zero);
    assert!(svg.with_tip("up").path_start().0 > zero);
}

#[test]
fn bars_start_at_zero() {
    let row = |label: &str, value| DotRow {
        label: label.into(),
        value,
        interval: None,
        kind: RowKind::Method,
    };
    let svg = draw(DotPlot {
        title: "T".into(),
        axis: Axis::new("v", Scale::Linear),
        rows: vec![row("a", 80.0), row("b", 40.0)],
        reference_lines: vec![ReferenceLine::new("chance", 10.0)],
        mark: DotMark::Bar,
        decimals: 0,
    });
    let (a, b) = (svg.with_tip("a: 80"), svg.with_tip("b: 40"));
    assert_eq!(a.number("x"), b.number("x"));
    assert!((a.number("width") / b.number("width") - 2.0).abs() < 0.01);
    assert!((svg.saying("0").number("x") - a.number("x")).abs() < 0.1);
    svg.saying("chance");
}

#[test]
fn a_drawing_names_itself_and_adapts_to_dark_paper() {
    let svg = draw(line_chart(
        Scale::Linear,
        vec![Series::new("s", vec![Point::new(1.0, 2.0)])],
    ));
    assert_eq!(svg.attribute("role"), Some("img"));
    let ids = svg.attribute("aria-labelledby").expect("labels");
    for (id, name) in ids.split(' ').zip(["title", "desc"]) {
        let element = svg.children.iter().find(|child| child.name == name);
        assert_eq!(element.expect("present").attribute("id"), Some(id));
    }
    assert!(
        svg.named("style")[0]
            .text
            .contains("prefers-color-scheme:dark")
    );
    assert!(svg.named("desc")[0].text.contains("y axis"));
}

fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("</svg><script>alert(1)</script>".to_owned()),
        Just("\"onload=\"x' & <b>\u{0}\u{1b}[31m".to_owned()),
        "\\PC{0,60}",
    ]
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => -100.0..100.0f64,
        1 => prop::num::f64::ANY,
        1 => prop_oneof![Just(0.0), Just(f64::MAX), Just(f64::MIN_POSITIVE), Just(1e99)],
    ]
}

fn axis() -> impl Strategy<Value = Axis> {
    let scale = prop_oneof![
        Just(Scale::Linear),
        Just(Scale::Log),
        Just(Scale::SymLog),
        prop::collection::vec(words(), 0..5).prop_map(Scale::Categories),
    ];
    (words(), scale, prop::option::of((value(), value()))).prop_map(|(label, scale, include)| {
        Axis {
            label,
            scale,
            include,
        }
    })
}

/// Well-formed in a file and, for both widths, in a page, with every coordinate finite.
fn assert_sound(chart: &Chart) -> Result<(), TestCaseError> {
    assert_drawing(&parse(&to_svg(chart)))?;
    let figure = Figure {
        caption: String::new(),
        chart: chart.clone(),
    };
    let html = to_html(&Report {
        sections: vec![Section {
            title: String::new(),
            blocks: vec![Block::Figure(figure)],
        }],
        ..Report::default()
    });
    let drawings: Vec<&str> = html.split("<svg xmlns").skip(1).collect();
    prop_assert_eq!(drawings.len(), 2);
    for drawing in drawings {
        let end = drawing.find("</svg>").expect("closed");
        assert_drawing(&parse(&format!("<svg xmlns{}</svg>", &drawing[..end])))?;
    }
    Ok(())
}

fn assert_drawing(svg: &Element) -> Result<(), TestCaseError> {
    for element in svg.all() {
        prop_assert!(!matches!(element.name.as_str(), "script" | "b"));
        for (key, value) in &element.attributes {
            prop_assert!(!key.starts_with("on"), "{key}");
            if !matches!(key.as_str(), "class" | "font-family" | "id" | "data-name") {
                prop_assert!(
                    !value.contains("NaN") && !value.contains("inf"),
                    "{key}={value}"
                );
            }
        }
        if element.name == "rect" {
            prop_assert!(element.number("width") >= 0.0 && element.number("height") >= 0.0);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn any_line_chart_is_sound(
        (title, x, y) in (words(), axis(), axis()),
        series in prop::collection::vec(
            (words(), prop::collection::vec((value(), value(), prop::option::of((value(), value()))), 0..6)),
            0..9,
        ),
        lines in prop::collection::vec((words(), value()), 0..3),
        remarks in prop::collection::vec((value(), value(), words()), 0..3),
    ) {
        let series = series.into_iter().enumerate().map(|(index, (name, points))| {
            let points = points.into_iter().map(|(x, y, ends)| Point {
                x,
                y,
                low: ends.map(|ends| ends.0),
                high: ends.map(|ends| ends.1),
            });
            let mut series = Series::new(name, points.collect());
            series.spread = [Spread::Bars, Spread::Band][index % 2];
            series
        });
        let chart = LineChart {
            title,
            x,
            y,
            series: series.collect(),
            reference_lines: lines.into_iter().map(|(l, v)| ReferenceLine::new(l, v)).collect(),
            annotations: remarks.into_iter().map(|(x, y, text)| Annotation { x, y, text }).collect(),
        };
        assert_sound(&chart.into())?;
    }

    #[test]
    fn any_row_chart_is_sound(
        (title, axis, label) in (words(), axis(), words()),
        rows in prop::collection::vec((words(), value(), prop::option::of((value(), value()))), 0..6),
        line in value(),
    ) {
        let dots = rows.iter().map(|(label, value, interval)| DotRow {
            label: label.clone(),
            value: *value,
            interval: *interval,
            kind: RowKind::Control,
        });
        for mark in [DotMark::Dot, DotMark::Bar] {
            let chart = DotPlot {
                title: title.clone(),
                axis: axis.clone(),
                rows: dots.clone().collect(),
                reference_lines: vec![ReferenceLine::new(label.clone(), line)],
                mark,
                decimals: 2,
            };
            assert_sound(&chart.into())?;
        }
        let chart = DifferencePlot {
            title,
            axis,
            below: label.clone(),
            above: label,
            rows: rows.into_iter().map(|(label, difference, ends)| {
                let (low, high) = ends.unwrap_or((line, line));
                DifferenceRow { label, difference, low, high }
            }).collect(),
            decimals: 1,
        };
        assert_sound(&chart.into())?;
    }

    #[test]
    fn any_heat_map_is_sound(
        (title, columns, rows) in (
            words(),
            prop::collection::vec(words(), 0..8),
            prop::collection::vec(words(), 0..5),
        ),
        values in prop::collection::vec(prop::collection::vec(prop::option::of(value()), 0..8), 0..6),
    ) {
        let chart = Heatmap {
            x_label: title.clone(),
            y_label: title.clone(),
            value_label: title.clone(),
            title,
            columns,
            rows,
            values,
            decimals: 1,
            best: Best::Highest,
        };
        assert_sound(&chart.into())?;
    }
}
