//! Whole documents: HTML, Markdown with its files, CSV and terminal text.

mod support;

use diffrep_report::*;

const HOSTILE: &str = "<script>alert(1)</script>\"'&|`*[x](javascript:alert(1))\n# \u{1b}[31m";

fn table() -> Table {
    Table {
        caption: "Heads at `t = 90`".into(),
        columns: vec![
            Column::text("Head"),
            Column::number("Accuracy").with_unit("%"),
        ],
        rows: vec![
            vec!["linear | plain".into(), Cell::percent(61.94, Some(0.25))],
            vec!["attention".into(), Cell::percent(74.6, None).best()],
            vec!["published".into(), Cell::missing()],
        ],
        highlight: vec![0],
    }
}

fn chart(title: &str) -> Chart {
    LineChart {
        title: title.into(),
        x: Axis::new(title, Scale::Linear),
        y: Axis::new(title, Scale::Linear),
        series: vec![Series::new(title, vec![Point::new(1.0, 2.0)])],
        reference_lines: vec![ReferenceLine::new(title, 1.0)],
        annotations: vec![Annotation {
            x: 1.0,
            y: 2.0,
            text: title.into(),
        }],
    }
    .into()
}

fn picture(caption: &str) -> ImageGrid {
    let mut png = std::io::Cursor::new(Vec::new());
    image::GrayImage::new(4, 2)
        .write_to(&mut png, image::ImageFormat::Png)
        .expect("writes to memory");
    ImageGrid {
        caption: caption.into(),
        columns: 2,
        row_labels: vec![caption.into()],
        column_labels: vec![caption.into(), "b".into()],
        png: png.into_inner(),
        width: 4,
        height: 2,
        scale: 8,
    }
}

/// Every kind of block, with the same words in every place.
fn report(words: &str) -> Report {
    let figure = || {
        Block::Figure(Figure {
            caption: words.into(),
            chart: chart(words),
        })
    };
    let mut bad = table();
    bad.caption = words.into();
    bad.columns[0] = Column::text(words).with_unit(words);
    bad.rows[0][0] = Cell::text(words);
    Report {
        title: words.into(),
        subtitle: words.into(),
        verdicts: [Answer::Yes, Answer::No, Answer::Undecided]
            .map(|answer| VerdictLine {
                claim: words.into(),
                answer,
                evidence: words.into(),
            })
            .into(),
        sections: vec![Section {
            title: words.into(),
            blocks: vec![
                Block::Heading(words.into()),
                Block::Verdicts(vec![VerdictLine {
                    claim: words.into(),
                    answer: Answer::Yes,
                    evidence: words.into(),
                }]),
                Block::Paragraph(words.into()),
                Block::Table(bad.clone()),
                figure(),
                Block::Details {
                    summary: words.into(),
                    blocks: vec![Block::Table(bad), figure()],
                },
                Block::Images(picture(words)),
                Block::Note {
                    kind: NoteKind::Warning,
                    text: words.into(),
                },
                Block::KeyValues(vec![(words.into(), words.into())]),
            ],
        }],
    }
}

#[test]
fn tables_as_markdown() {
    let report = Report {
        title: "T".into(),
        sections: vec![Section {
            title: "S".into(),
            blocks: vec![Block::Table(table())],
        }],
        ..Report::default()
    };
    let expected = "\
# T

## S

**Table 1.** Heads at `t = 90`

| Head | Accuracy \\[%\\] |
| :--- | ---: |
| **linear \\| plain** | 61.9 ± 0.2 |
| attention | **74.6** |
| published | *–* |
";
    assert_eq!(to_markdown(&report, ""), expected);
}

#[test]
fn tables_as_text_and_csv() {
    let expected = [
        "Heads at t = 90",
        "",
        "  Head            Accuracy [%]",
        "  ──────────────  ────────────",
        "> linear | plain  61.9 ± 0.2",
        "  attention             74.6 *",
        "  published                –",
    ];
    let text = to_terminal_table(&table());
    assert_eq!(text.split_terminator('\n').collect::<Vec<_>>(), expected);

    let mut quoted = table();
    quoted.rows[0][0] = Cell::text("a, \"b\"\nc");
    let csv = to_csv(&quoted);
    assert!(
        csv.starts_with("Head,Accuracy [%]\r\n\"a, \"\"b\"\"\nc\",61.9 ± 0.2\r\n"),
        "{csv}"
    );
}

#[test]
fn the_page_needs_nothing_beside_itself() {
    let html = to_html(&report("words"));
    for outside in ["<script src", "src=\"http", "<link", "@import", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(html.matches("<script").count(), 1);
    assert!(html.contains("src=\"data:image/png;base64,iVBORw0KGgo"));
    assert!(html.contains("prefers-color-scheme:dark"));
    let mut ids: Vec<&str> = html
        .split(" id=\"")
        .skip(1)
        .map(|s| &s[..s.find('"').unwrap()])
        .collect();
    let count = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), count, "ids are unique");
}

#[test]
fn tables_and_figures_are_numbered_alike_everywhere() {
    let report = report("words");
    let (html, markdown) = (to_html(&report), to_markdown(&report, "out/"));
    for label in [
        "Table 1.",
        "Table 2.",
        "Figure 1.",
        "Figure 2.",
        "Figure 3.",
    ] {
        assert!(html.contains(&format!("<b>{label}</b>")), "{label}");
        assert!(markdown.contains(&format!("**{label}**")), "{label}");
    }
    let files = assets(&report);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "figure-1-words.svg",
            "figure-2-words.svg",
            "figure-3-images.png"
        ]
    );
    for name in names {
        assert!(markdown.contains(&format!("out/{name}")), "{name}");
    }
    support::parse(std::str::from_utf8(&files[0].1).expect("text"));
    assert_eq!(files[2].1, picture("").png);
}

#[test]
fn hostile_words_stay_words() {
    let report = report(HOSTILE);
    check(&report).expect("words are no reason to fail");
    let html = to_html(&report);
    assert_eq!(html.matches("<script").count(), 1, "the page's own");
    assert!(!html.contains("href=\"javascript"));
    assert!(!html.contains('\u{1b}'));
    // Between tags and quotes nothing of the words may be left unescaped.
    for drawing in html.split("<svg xmlns").skip(1) {
        let end = drawing.find("</svg>").expect("closed");
        support::parse(&format!("<svg xmlns{}</svg>", &drawing[..end]));
    }
    let markdown = to_markdown(&report, "a b/(c)");
    assert!(!markdown.contains("<script>"));
    // Lines of HTML hold no Markdown; elsewhere no unescaped bracket may precede the target.
    let mut lines = markdown.lines().filter(|line| !line.starts_with('<'));
    assert!(lines.all(|line| !line.replace("\\]", "").contains("](javascript")));
    assert!(!markdown.lines().any(|line| line.starts_with("# \u{fffd}")));
    assert!(markdown.contains("a%20b/%28c%29/figure-1-"));
    let body: Vec<&str> = markdown
        .lines()
        .filter(|line| line.starts_with('|'))
        .collect();
    assert!(
        body.iter()
            .all(|line| line.replace("\\|", "").matches('|').count() == 3),
        "{body:?}"
    );
    for (name, _) in assets(&report) {
        assert!(
            name.bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b)),
            "{name}"
        );
    }
    let Block::Table(table) = &report.sections[0].blocks[3] else {
        panic!("a table");
    };
    let text = to_terminal_table(table);
    assert!(!text.contains('\u{1b}'));
    assert_eq!(text.lines().count(), 2 + 2 + table.rows.len());
}

#[test]
fn sections_may_be_linked_to_and_hold_headings_and_claims() {
    let section = |title: &str, blocks| Section {
        title: title.into(),
        blocks,
    };
    let claim = VerdictLine {
        claim: "It **holds**".into(),
        answer: Answer::No,
        evidence: "see [the table](#b-one-more)".into(),
    };
    let report = Report {
        sections: vec![
            section("A", vec![Block::Heading("Heads & more".into())]),
            section("B: one more", vec![Block::Verdicts(vec![claim])]),
            section("A", vec![]),
        ],
        ..Report::default()
    };
    let html = to_html(&report);
    for anchor in ["a", "b-one-more", "a-1"] {
        assert!(
            html.contains(&format!("<section id=\"{anchor}\">")),
            "{anchor}"
        );
        assert!(
            html.contains(&format!("<a href=\"#{anchor}\">")),
            "{anchor}"
        );
    }
    assert!(html.contains("<h3>Heads &amp; more</h3>"));
    assert!(html.contains("<li class=\"no\">"));
    let markdown = to_markdown(&report, "");
    assert!(markdown.contains("\n### Heads \\& more\n"), "{markdown}");
    assert!(markdown.contains("- **Does not** — It **holds**<br>see [the table](#b-one-more)"));
    assert_eq!(anchor("B: one more"), "b-one-more");
}

#[test]
fn a_line_chart_has_its_values_in_a_table() {
    let html = to_html(&report("words"));
    let (_, values) = html
        .split_once("<details class=\"values\">")
        .expect("values");
    let (values, _) = values.split_once("</details>").expect("closed");
    assert!(values.contains("<summary>Values</summary>"), "{values}");
    let Chart::Line(chart) = chart("words") else {
        panic!("a line chart");
    };
    let places: std::collections::BTreeSet<u64> = chart
        .series
        .iter()
        .flat_map(|series| series.points.iter().map(|point| point.x.to_bits()))
        .collect();
    assert_eq!(values.matches("<tr>").count(), 1 + places.len());
    for series in &chart.series {
        assert!(html.contains(&format!("data-name=\"{}\"", series.name)));
    }
}

#[test]
fn what_cannot_be_shown_is_named() {
    let with = |block: Block| Report {
        sections: vec![Section {
            title: String::new(),
            blocks: vec![Block::Details {
                summary: String::new(),
                blocks: vec![block],
            }],
        }],
        ..Report::default()
    };
    let figure = |chart: Chart| {
        Block::Figure(Figure {
            caption: String::new(),
            chart,
        })
    };
    let mut ragged = table();
    ragged.rows[1].pop();
    let error = check(&with(Block::Table(ragged.clone()))).expect_err("ragged");
    assert!(matches!(
        error,
        ReportError::RaggedTable {
            row: 1,
            expected: 2,
            found: 1,
            ..
        }
    ));
    // Renderers still show what there is.
    assert_eq!(to_csv(&ragged).lines().nth(2), Some("attention,"));
    let mut absent = table();
    absent.highlight = vec![7];
    let error = check(&with(Block::Table(absent))).expect_err("absent");
    assert!(matches!(
        error,
        ReportError::NoSuchRow {
            row: 7,
            rows: 3,
            ..
        }
    ));

    let mut wrong = picture("p");
    wrong.width = 5;
    let error = check(&with(Block::Images(wrong))).expect_err("size");
    assert!(matches!(error, ReportError::BadPicture { width: 5, .. }));
    let mut wrong = picture("p");
    wrong.column_labels.pop();
    let error = check(&with(Block::Images(wrong))).expect_err("labels");
    assert!(matches!(
        error,
        ReportError::BadLabels {
            expected: 2,
            found: 1,
            ..
        }
    ));

    let Chart::Line(mut line) = chart("c") else {
        panic!("a line chart");
    };
    line.x.scale = Scale::Log;
    line.series[0].points.push(Point::new(0.0, 1.0));
    let error = check(&with(figure(line.clone().into()))).expect_err("no place");
    assert_eq!(
        error.to_string(),
        "chart \"c\", \"c\": 0 has no place on the axis"
    );
    line.x.scale = Scale::Linear;
    line.series[0].points.push(Point::new(3.0, f64::NAN));
    check(&with(figure(line.into()))).expect("a gap is no error");

    let heatmap = Heatmap {
        title: "h".into(),
        x_label: String::new(),
        y_label: String::new(),
        columns: vec!["a".into(), "b".into()],
        rows: vec!["r".into()],
        value_label: String::new(),
        values: vec![vec![Some(1.0)]],
        decimals: 0,
        best: Best::Highest,
    };
    let error = check(&with(figure(heatmap.into()))).expect_err("ragged");
    assert!(matches!(
        error,
        ReportError::RaggedHeatmap {
            rows: 1,
            columns: 2,
            ..
        }
    ));
}
