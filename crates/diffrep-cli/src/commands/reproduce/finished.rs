//! The end of every experiment: its record and report on disk, its results printed.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Result;
use diffrep_artifact::{Record, write_bytes_atomic, write_record};
use diffrep_report::Report;
use serde::Serialize;

use crate::commands::report::write_pictures;
use crate::printer::{Printer, human_duration};

/// An experiment whose results and report are on disk.
pub(super) struct Finished {
    json: String,
    table: String,
    report: PathBuf,
    start: Instant,
}

impl Finished {
    /// Writes `results.json`, `report.html`, `report.md` and the figures of the latter into a folder;
    /// `table` is what a terminal shows.
    pub(super) fn write<T: Serialize>(
        record: &Record<T>,
        report: &Report,
        table: String,
        dir: &Path,
        start: Instant,
    ) -> Result<Self> {
        write_record(dir.join("results.json"), record)?;
        diffrep_report::check(report)?;
        let page = dir.join("report.html");
        write_bytes_atomic(&page, diffrep_report::to_html(report).as_bytes())?;
        write_bytes_atomic(
            dir.join("report.md"),
            diffrep_report::to_markdown(report, "figures").as_bytes(),
        )?;
        write_pictures(report, &dir.join("figures"))?;
        Ok(Self {
            json: serde_json::to_string_pretty(record)?,
            table,
            report: page,
            start,
        })
    }

    /// Prints the results.
    pub(super) fn show(&self, printer: Printer) {
        printer.result(if printer.json() {
            &self.json
        } else {
            &self.table
        });
        printer.say(&format!(
            "report: {} ({})",
            self.report.display(),
            human_duration(self.start.elapsed().as_secs_f64())
        ));
    }
}
