//! Numbers of running trainings as TensorBoard's event files: a folder for each training, a file in it
//! for each process that worked at it.
//!
//! A file is a log that grows by whole records, so it is not written through `diffrep-artifact`: what a
//! killed process leaves is valid up to its last record.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::{Context as _, Result};
use diffrep_artifact::{create_dir_all, unix_now};
use diffrep_train::metrics;
use prost::Message;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// `tensorflow.Event`, what of it is written (tensorflow/core/util/event.proto).
#[derive(Clone, PartialEq, Message)]
struct Record {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

/// `tensorflow.Summary` (tensorflow/core/framework/summary.proto).
#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<Scalar>,
}

/// `tensorflow.Summary.Value` with a number.
#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, tag = "2")]
    simple_value: f32,
}

/// Writes what `diffrep_train` records; see [`metrics`].
pub(crate) struct EventFiles {
    folder: PathBuf,
    /// By the name of the training; none once it could not be written.
    files: Mutex<BTreeMap<String, Option<File>>>,
}

impl EventFiles {
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        create_dir_all(folder).context(
            "the folder of --tensorboard cannot be made\n\nhint: give a folder that you may write to",
        )?;
        Ok(Self {
            folder: folder.into(),
            files: Mutex::default(),
        })
    }

    /// A number of the training `run`. A file that cannot be written ends that training's log, with a
    /// warning, and not the training.
    fn write(&self, run: &str, metric: &Metric) {
        let mut files = self
            .files
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let file = files.entry(run.to_owned()).or_insert_with(|| {
            self.open(run)
                .inspect_err(|error| warn(&self.folder, run, error))
                .ok()
        });
        let summary = Summary {
            value: vec![Scalar {
                tag: metric.name.clone(),
                simple_value: metric.value as f32,
            }],
        };
        let record = Record {
            wall_time: unix_now() as f64,
            step: metric.step as i64,
            file_version: None,
            summary: Some(summary),
        };
        if let Some(open) = file
            && let Err(error) = open.write_all(&framed(&record))
        {
            warn(&self.folder, run, &error);
            *file = None;
        }
    }

    fn open(&self, run: &str) -> std::io::Result<File> {
        let folder = run
            .split('/')
            .fold(self.folder.clone(), |at, part| at.join(plain(part)));
        std::fs::create_dir_all(&folder)?;
        let name = format!(
            "events.out.tfevents.{}.diffrep.{}",
            unix_now(),
            std::process::id()
        );
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(folder.join(name))?;
        file.write_all(&framed(&Record {
            wall_time: unix_now() as f64,
            file_version: Some("brain.Event:2".into()),
            ..Record::default()
        }))?;
        Ok(file)
    }
}

/// A record of a TFRecord file: length, its checksum, bytes, their checksum.
fn framed(record: &Record) -> Vec<u8> {
    let bytes = record.encode_to_vec();
    let length = (bytes.len() as u64).to_le_bytes();
    let mut framed = length.to_vec();
    framed.extend(masked(&length).to_le_bytes());
    framed.extend(&bytes);
    framed.extend(masked(&bytes).to_le_bytes());
    framed
}

/// The checksum of TFRecord files (tensorflow/core/lib/hash/crc32c.h).
fn masked(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
        .rotate_right(15)
        .wrapping_add(0xa282_ead8)
}

/// A name that is one folder on every system.
fn plain(name: &str) -> String {
    let allowed = |c: char| c.is_alphanumeric() || "-_=.".contains(c);
    let name: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '-' })
        .collect();
    match name.trim_start_matches('.') {
        "" => "training".into(),
        name => name.into(),
    }
}

#[allow(
    clippy::print_stderr,
    reason = "a layer of the log cannot log, and the training goes on"
)]
fn warn(folder: &Path, run: &str, error: &std::io::Error) {
    let folder = folder.display();
    eprintln!("warning: no more numbers of `{run}` are written to {folder}: {error}");
}

/// One number.
#[derive(Default)]
struct Metric {
    name: String,
    step: u64,
    value: f64,
}

impl Visit for Metric {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "metric" {
            value.clone_into(&mut self.name);
        }
    }
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "step" {
            self.step = value;
        }
    }
    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "value" {
            self.value = value;
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// The name of a training, kept with its span.
#[derive(Default)]
struct Run(String);

impl Visit for Run {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "run" {
            value.clone_into(&mut self.0);
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for EventFiles {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().target() == metrics::TARGET
            && let Some(span) = context.span(id)
        {
            let mut run = Run::default();
            attributes.record(&mut run);
            span.extensions_mut().insert(run);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target() != metrics::TARGET {
            return;
        }
        let mut metric = Metric::default();
        event.record(&mut metric);
        let scope = context.event_scope(event).into_iter();
        let runs = scope.flat_map(|scope| scope.from_root());
        let runs: Vec<String> = runs
            .filter_map(|span| span.extensions().get::<Run>().map(|run| run.0.clone()))
            .collect();
        self.write(&runs.join("/"), &metric);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_the_bytes_that_tensorboard_writes() {
        // `SummaryWriter` of tensorboard 2.21, `file_version` at wall time 1.
        let record = Record {
            wall_time: 1.0,
            file_version: Some("brain.Event:2".into()),
            ..Record::default()
        };
        let expected = include_bytes!("../../../fixtures/tensorboard/version.tfevents");
        assert_eq!(framed(&record), expected);
        let summary = Summary {
            value: vec![Scalar {
                tag: "loss".into(),
                simple_value: 0.25,
            }],
        };
        let record = Record {
            wall_time: 2.0,
            step: 7,
            file_version: None,
            summary: Some(summary),
        };
        let expected = include_bytes!("../../../fixtures/tensorboard/scalar.tfevents");
        assert_eq!(framed(&record), expected);
    }

    #[test]
    fn names_become_folders() {
        assert_eq!(plain("linear rate 0.01"), "linear-rate-0.01");
        assert_eq!(plain("../up"), "-up");
        assert_eq!(plain(".."), "training");
    }
}
