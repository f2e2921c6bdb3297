//! A plan as a terminal shows it.

use diffrep_report::{Cell, Column, Table, to_terminal_table};

use super::ledger::{Cost, State, Step};
use super::{Planned, Rate, Row};
use crate::printer::human_duration;

/// Characters of a key that are shown; those in the names of files.
const KEY: usize = 12;

pub(super) fn text(planned: &Planned) -> String {
    let rate = planned.rate.as_ref();
    let mut parts = Vec::new();
    if !planned.missing.is_empty() {
        parts.push(missing(planned));
    }
    parts.push(
        to_terminal_table(&steps(&planned.steps, rate))
            .trim_end()
            .to_owned(),
    );
    parts.push(
        to_terminal_table(&experiments(&planned.experiments, rate))
            .trim_end()
            .to_owned(),
    );
    let unknown = planned.experiments.iter().filter_map(|row| {
        let reason = row.unknown.as_ref()?;
        Some(format!("{}: {reason}", row.name))
    });
    parts.extend(unknown);
    parts.push(total(planned));
    parts.extend(
        planned
            .besides
            .iter()
            .map(|(what, how)| format!("{what}: {how}")),
    );
    parts.join("\n\n")
}

fn missing(planned: &Planned) -> String {
    let mut lines = vec![format!(
        "{} files or folders are missing:",
        planned.missing.len()
    )];
    for one in &planned.missing {
        let how = match one.how.as_str() {
            "" => "",
            how => &format!(": {how}"),
        };
        lines.push(format!(
            "  {}{how} (for {})",
            one.path,
            one.experiments.join(", ")
        ));
    }
    lines.join("\n")
}

fn steps(steps: &[Step], rate: Option<&Rate>) -> Table {
    let rows = steps.iter().map(|step| {
        let key = &step.key.to_string()[..KEY];
        let mut row = vec![
            Cell::text(step.experiment.clone()),
            Cell::text(step.name.clone()),
            Cell::text(match step.exact {
                true => key.to_owned(),
                false => format!("~{key}"),
            }),
            Cell::text(match &step.state {
                State::Done => "on disk".to_owned(),
                State::Shared(other) => format!("with {other}"),
                State::ToDo => "to do".into(),
                State::Lacking => "lacks files".into(),
            }),
        ];
        row.extend(costs(step.cost, rate));
        row
    });
    let mut columns = vec![
        Column::text("experiment"),
        Column::text("step"),
        Column::text("key"),
        Column::text("state"),
    ];
    columns.extend(cost_columns());
    Table {
        caption: "Steps by what determines their results. A key with ~ is the hash of the settings alone: an input is \
            missing, or is the result of a step before"
            .into(),
        columns,
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn experiments(experiments: &[Row], rate: Option<&Rate>) -> Table {
    let rows = experiments.iter().map(|row| {
        let mut cells = vec![
            Cell::text(format!("{}, {}", row.name, row.scale)),
            Cell::text(row.makes.clone()),
            Cell::text(row.steps.to_string()),
            Cell::text(row.done.to_string()),
            Cell::text(row.shared.to_string()),
        ];
        cells.extend(costs(row.cost, rate));
        cells
    });
    let mut columns = vec![
        Column::text("experiment"),
        Column::text("makes"),
        Column::number("steps"),
        Column::number("on disk"),
        Column::number("shared"),
    ];
    columns.extend(cost_columns());
    Table {
        caption: "Experiments, and what is to be done for them".into(),
        columns,
        rows: rows.collect(),
        highlight: Vec::new(),
    }
}

fn cost_columns() -> [Column; 4] {
    [
        Column::number("forwards"),
        Column::number("TFLOP"),
        Column::number("hours"),
        Column::number("disk").with_unit("MB"),
    ]
}

fn costs(cost: Cost, rate: Option<&Rate>) -> [Cell; 4] {
    let hours = rate.map(|rate| cost.flops / rate.flops_per_second / 3600.0);
    [
        Cell::text(cost.forwards.to_string()),
        Cell::number(cost.flops / 1e12, 2),
        hours.map_or_else(Cell::missing, |hours| Cell::number(hours, 3)),
        Cell::number((cost.kept_bytes + cost.passing_bytes) as f64 / 1e6, 1),
    ]
}

fn total(planned: &Planned) -> String {
    let total = planned.total;
    let mut text = format!(
        "{} forwards, {:.1} TFLOP, {:.1} GB of features that stay and at most {:.1} GB that come and go.",
        total.forwards,
        total.flops / 1e12,
        total.kept_bytes as f64 / 1e9,
        total.passing_bytes as f64 / 1e9,
    );
    if let (Some(rate), Some(hours)) = (&planned.rate, planned.hours) {
        let source = if rate.measured {
            "measured here"
        } else {
            "as given"
        };
        text.push_str(&format!(
            " About {} of one device: {:.3} images a second up to block {} ({source}, {:.3} TFLOP/s), other blocks \
             in proportion.",
            human_duration(hours * 3600.0),
            rate.images_per_second,
            rate.block,
            rate.flops_per_second / 1e12
        ));
    }
    text.push_str(
        " Heads, their ways back, decoding and networks of other kinds are not counted; where a setting is still to be \
         chosen the costliest is taken.",
    );
    text
}
