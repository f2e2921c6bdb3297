//! Writes a demonstration report; every number in it is invented to show the layout.
//!
//! `cargo run -p diffrep-report --example demo -- FOLDER`

use std::error::Error;
use std::io::Cursor;
use std::path::PathBuf;
use std::{env, fs};

use diffrep_report::*;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = env::args_os().nth(1).ok_or("usage: demo FOLDER")?;
    let folder = PathBuf::from(folder);
    let report = report()?;
    check(&report)?;
    fs::create_dir_all(folder.join("figures"))?;
    fs::write(folder.join("report.html"), to_html(&report))?;
    fs::write(folder.join("report.md"), to_markdown(&report, "figures"))?;
    for (name, bytes) in assets(&report) {
        fs::write(folder.join("figures").join(name), bytes)?;
    }
    fs::write(folder.join("heads.csv"), to_csv(&heads()))?;
    fs::write(folder.join("heads.txt"), to_terminal_table(&heads()))?;
    Ok(())
}

fn report() -> Result<Report, Box<dyn Error>> {
    let figure = |chart: Chart, caption: &str| {
        let caption = caption.to_owned();
        Block::Figure(Figure { caption, chart })
    };
    let paragraph = |text: &str| Block::Paragraph(text.to_owned());
    let section = |title: &str, blocks: Vec<Block>| Section {
        title: title.to_owned(),
        blocks,
    };
    Ok(Report {
        title: "How good a classifier is hidden in a diffusion model?".into(),
        subtitle: "**Demo, invented numbers for layout only.** Probes on frozen features of a small U-Net, against raw pixels and random weights.".into(),
        verdicts: vec![
            verdict(Answer::Yes, "Frozen diffusion features beat raw pixels under the same probe.", "+5.6 points, 95 % interval [+4.9, +6.3], five seeds"),
            verdict(Answer::No, "The best features lie in the middle block.", "block 8 leads block 6 by 3.0 [2.2, 3.8] points"),
            verdict(Answer::Undecided, "An attention head reads more than a linear one.", "+0.3 points, 95 % interval [−0.4, +1.0] at `t = 90`"),
        ],
        sections: vec![
            section("Where the information is", vec![
                paragraph("Each block of the network was read at each diffusion time, pooled to `2 × 2` and given to the same linear probe. The setting was chosen on a validation split; **the test split was read once**, as in [the paper](https://arxiv.org/abs/2307.08702)."),
                figure(times().into(), "Accuracy of a linear probe by the diffusion time at which features were read. Bars and bands are 95 % intervals over five seeds. The horizontal axis is logarithmic except near zero."),
                figure(grid().into(), "The framed setting is the best on the validation split. A dash marks a setting that was not measured."),
            ]),
            section("Against controls", vec![
                figure(controls().into(), "Test accuracy with 95 % intervals. Full dots are diffusion features, rings are controls that were tuned over the same grid."),
                figure(differences().into(), "Paired differences to the linear probe on raw pixels. A ring marks an interval that includes zero."),
                Block::Table(heads()),
                Block::Note { kind: NoteKind::Warning, text: "Published numbers come from another data set and are shown for orientation only; see [their repository](https://github.com/soumik-kanad/diffssl).".into() },
            ]),
            section("How few labels are enough", vec![
                figure(labels().into(), "Accuracy by number of labelled images."),
                figure(speed().into(), "Images per second while features are extracted."),
                Block::Images(tiles()?),
            ]),
            section("How it was done", vec![
                Block::KeyValues(vec![
                    ("checkpoint".into(), "sha256:4f1c9a0d7e5b2c83 (small ADM U-Net, 13 blocks)".into()),
                    ("data".into(), "Fashion-MNIST, 60,000 training and 10,000 test images".into()),
                    ("seed".into(), "0, 1, 2, 3, 4".into()),
                ]),
                Block::Details { summary: "All settings of the grid".into(), blocks: vec![paragraph("Every combination of block and time, by validation accuracy."), Block::Table(settings())] },
                Block::Note { kind: NoteKind::Info, text: "Run `diffrep reproduce --scale mini` to make this page with measured numbers.".into() },
            ]),
        ],
    })
}

fn verdict(answer: Answer, claim: &str, evidence: &str) -> VerdictLine {
    VerdictLine {
        claim: claim.into(),
        answer,
        evidence: evidence.into(),
    }
}

fn series(name: &str, xs: &[f64], ys: &[f64], half: f64) -> Series {
    let points = xs.iter().zip(ys);
    let points = points.map(|(x, y)| Point::with_interval(*x, *y, y - half, y + half));
    Series::new(name, points.collect())
}

fn times() -> LineChart {
    let times = [0.0, 1.0, 3.0, 10.0, 30.0, 90.0, 150.0, 300.0, 600.0, 900.0];
    let mut band = series(
        "block 6 (middle)",
        &times,
        &[83.0, 83.1, 83.4, 84.0, 85.1, 86.6, 86.9, 85.0, 78.2, 66.4],
        0.9,
    );
    band.spread = Spread::Band;
    let mut random = series(
        "block 8, random weights",
        &times,
        &[84.1, 84.0, 84.1, 83.9, 83.0, 80.9, 78.8, 72.7, 57.4, 34.0],
        0.6,
    );
    random.style = LineStyle::Dashed;
    LineChart {
        title: "Features are best at a little noise".into(),
        x: Axis::new("diffusion time t at which features are read", Scale::SymLog),
        y: Axis::new("top-1 accuracy, %", Scale::Linear),
        series: vec![
            series(
                "block 8",
                &times,
                &[87.0, 87.2, 87.6, 88.3, 89.2, 89.9, 89.5, 87.1, 79.9, 64.3],
                0.5,
            ),
            band,
            random,
        ],
        reference_lines: vec![
            ReferenceLine::new("raw pixels, linear probe", 84.3),
            ReferenceLine::new("trained from scratch", 92.4),
        ],
        annotations: vec![Annotation {
            x: 90.0,
            y: 89.9,
            text: "chosen on the validation split".into(),
        }],
    }
}

fn grid() -> Heatmap {
    let times = [0, 10, 30, 90, 150, 300, 600];
    let blocks = [2, 4, 6, 8, 10, 12];
    let value = |block: i32, time: i32| {
        let depth = f64::from(block - 8) / 6.0;
        let noise = (f64::from(time + 20) / 110.0).ln();
        (!(block == 12 && time == 600)).then_some(89.9 - 7.0 * depth * depth - 1.9 * noise * noise)
    };
    Heatmap {
        title: "Accuracy by block and time".into(),
        x_label: "diffusion time t".into(),
        y_label: "block".into(),
        columns: times.iter().map(ToString::to_string).collect(),
        rows: blocks.iter().map(|block| block.to_string()).collect(),
        value_label: "validation accuracy, %".into(),
        values: blocks
            .iter()
            .map(|block| times.iter().map(|time| value(*block, *time)).collect())
            .collect(),
        decimals: 1,
        best: Best::Highest,
    }
}

fn controls() -> DotPlot {
    let row = |label: &str, value: f64, half: f64, kind| DotRow {
        label: label.into(),
        value,
        interval: Some((value - half, value + half)),
        kind,
    };
    DotPlot {
        title: "Diffusion features against controls".into(),
        axis: Axis::new("test accuracy, %", Scale::Linear),
        rows: vec![
            row(
                "Attention head, block 8, t = 90",
                90.2,
                0.5,
                RowKind::Method,
            ),
            row("Linear probe, block 8, t = 90", 89.9, 0.4, RowKind::Method),
            row("Linear probe, block 6, t = 150", 86.9, 0.6, RowKind::Method),
            row("Linear probe, raw pixels", 84.3, 0.3, RowKind::Control),
            row(
                "Linear probe, same U-Net with random weights",
                84.1,
                0.7,
                RowKind::Control,
            ),
        ],
        reference_lines: vec![ReferenceLine::new("trained from scratch", 92.4)],
        mark: DotMark::Dot,
        decimals: 1,
    }
}

fn differences() -> DifferencePlot {
    let row = |label: &str, difference: f64, half: f64| DifferenceRow {
        label: label.into(),
        difference,
        low: difference - half,
        high: difference + half,
    };
    DifferencePlot {
        title: "Difference to raw pixels".into(),
        axis: Axis::new("difference in test accuracy, points", Scale::Linear),
        below: "pixels better".into(),
        above: "features better".into(),
        rows: vec![
            row("Block 8, t = 90", 5.6, 0.7),
            row("Block 6, t = 150", 2.6, 0.8),
            row("Block 8, random weights", -0.2, 0.9),
            row("Block 2, t = 600", -3.1, 1.1),
        ],
        decimals: 1,
    }
}

fn labels() -> LineChart {
    let counts = [10.0, 100.0, 1000.0, 10_000.0, 60_000.0];
    LineChart {
        title: "A few labels go a long way".into(),
        x: Axis::new("labelled images", Scale::Log),
        y: Axis::new("top-1 accuracy, %", Scale::Linear).including(0.0, 100.0),
        series: vec![
            series(
                "diffusion features",
                &counts,
                &[48.0, 72.4, 82.9, 87.8, 89.9],
                1.2,
            ),
            series("raw pixels", &counts, &[41.0, 65.1, 76.4, 81.9, 84.3], 1.2),
        ],
        reference_lines: vec![ReferenceLine::new("chance", 10.0)],
        annotations: vec![],
    }
}

fn speed() -> DotPlot {
    let row = |label: &str, value: f64, kind| DotRow {
        label: label.into(),
        value,
        interval: Some((value * 0.96, value * 1.04)),
        kind,
    };
    DotPlot {
        title: "Extraction speed".into(),
        axis: Axis::new("images per second, 2 cores", Scale::Linear),
        rows: vec![
            row("early exit at block 8", 412.0, RowKind::Method),
            row("full forward", 268.0, RowKind::Control),
        ],
        reference_lines: vec![],
        mark: DotMark::Bar,
        decimals: 0,
    }
}

fn heads() -> Table {
    Table {
        caption: "Heads on block 8 at `t = 90`. Mean and half the 95 % interval over five seeds; bold is best.".into(),
        columns: vec![
            Column::text("Head"),
            Column::number("Parameters"),
            Column::number("Test accuracy").with_unit("%"),
            Column::number("95 % interval").with_unit("%"),
            Column::number("Published").with_unit("%"),
        ],
        rows: vec![
            vec!["Linear".into(), "10,250".into(), Cell::percent(89.9, Some(0.4)), Cell::interval(89.5, 90.3), Cell::number(61.9, 1).muted()],
            vec!["MLP".into(), "533,514".into(), Cell::percent(90.0, Some(0.4)), Cell::interval(89.6, 90.4), Cell::missing()],
            vec!["CNN".into(), "312,330".into(), Cell::percent(90.1, Some(0.6)), Cell::interval(89.5, 90.7), Cell::number(68.9, 1).muted()],
            vec!["Attention".into(), "801,802".into(), Cell::percent(90.2, Some(0.5)).best(), Cell::interval(89.7, 90.7), Cell::number(74.6, 1).muted()],
        ],
        highlight: vec![0],
    }
}

fn settings() -> Table {
    let grid = grid();
    let rows = grid.rows.iter().zip(&grid.values);
    Table {
        caption: "Validation accuracy.".into(),
        columns: [Column::text("Block")]
            .into_iter()
            .chain(
                grid.columns
                    .iter()
                    .map(|time| Column::number(format!("t = {time}"))),
            )
            .collect(),
        rows: rows
            .map(|(name, values)| {
                let cells = values
                    .iter()
                    .map(|value| value.map_or_else(Cell::missing, |value| Cell::number(value, 1)));
                [Cell::text(name)].into_iter().chain(cells).collect()
            })
            .collect(),
        highlight: vec![],
    }
}

/// Discs under more and more noise.
fn tiles() -> Result<ImageGrid, Box<dyn Error>> {
    let (columns, rows, side) = (6u32, 2u32, 32u32);
    let picture = image::GrayImage::from_fn(columns * side, rows * side, |x, y| {
        let (dx, dy) = ((x % side) as f32 - 15.5, (y % side) as f32 - 15.5);
        let radius = if y < side { 11.0 } else { 6.0 };
        let clean = if dx.hypot(dy) < radius { 220.0 } else { 20.0 };
        let mixed = (x * 7919 + y * 104_729).wrapping_mul(2_654_435_761);
        let noise = ((mixed ^ (mixed >> 13)).wrapping_mul(0x85eb_ca6b) >> 24) as f32;
        let share = (x / side) as f32 / 6.0;
        image::Luma([(clean * (1.0 - share) + noise * share) as u8])
    });
    let mut png = Cursor::new(Vec::new());
    picture.write_to(&mut png, image::ImageFormat::Png)?;
    Ok(ImageGrid {
        caption: "What the network sees: images after `q_sample` at growing times.".into(),
        columns: columns as usize,
        row_labels: vec!["large disc".into(), "small disc".into()],
        column_labels: ["t = 0", "10", "90", "150", "300", "600"]
            .map(String::from)
            .to_vec(),
        png: png.into_inner(),
        width: columns * side,
        height: rows * side,
        scale: 3,
    })
}
