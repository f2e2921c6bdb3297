//! All that the command says: results on standard output, progress and messages on standard error.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the one place that prints"
)]

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Why a result could not be printed.
static UNSAID: OnceLock<std::io::Error> = OnceLock::new();

/// Why a result could not be printed, if one could not.
pub(crate) fn unsaid() -> Option<&'static std::io::Error> {
    UNSAID.get()
}

/// Where output goes and how much of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Printer {
    quiet: bool,
    json: bool,
    /// Whether messages, progress and errors are events of the log, which is JSON.
    events: bool,
}

impl Printer {
    pub(crate) fn new(quiet: bool, json: bool, events: bool) -> Self {
        Self {
            quiet,
            json,
            events,
        }
    }

    /// Whether results are JSON.
    pub(crate) fn json(self) -> bool {
        self.json
    }

    /// A result, on standard output. A closed pipe is not an error; anything else makes the command
    /// fail at its end (see [`unsaid`]), when what it wrote to files is safe.
    pub(crate) fn result(self, text: &str) {
        let mut out = std::io::stdout().lock();
        match writeln!(out, "{text}").and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                let _ = UNSAID.set(error);
            }
            _ => {}
        }
    }

    /// A message about what goes on, on standard error.
    pub(crate) fn say(self, text: &str) {
        match (self.quiet, self.events) {
            (true, _) => {}
            (false, true) => tracing::info!("{text}"),
            (false, false) => eprintln!("{text}"),
        }
    }

    /// An error with its causes, and a hint where there is one.
    pub(crate) fn error(self, error: &anyhow::Error, hint: Option<&str>) {
        let mut chain = Vec::<String>::new();
        for cause in error.chain() {
            let text = cause.to_string();
            // Errors that pass a cause through say the same twice.
            if chain.last() != Some(&text) {
                chain.push(text);
            }
        }
        let mut text = chain.join(": ");
        if let Some(hint) = hint {
            text.push_str("\n\nhint: ");
            text.push_str(hint);
        }
        match self.events {
            true => tracing::error!("{text}"),
            false => eprintln!("error: {text}"),
        }
    }

    /// Progress of `total` items with time left: a bar on a terminal, a line every few seconds
    /// elsewhere, nothing when quiet.
    pub(crate) fn progress(self, what: &str, total: u64) -> Progress {
        let style = "{msg} {wide_bar} {human_pos}/{human_len} {per_sec} {eta} left";
        self.bar(what, Some(total), style)
    }

    /// The same for bytes, of which the total may not be known.
    pub(crate) fn bytes(self, what: &str, total: Option<u64>) -> Progress {
        let style = "{msg} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        self.bar(what, total, style)
    }

    fn bar(self, what: &str, total: Option<u64>, style: &str) -> Progress {
        let terminal = std::io::stderr().is_terminal() && !self.quiet && !self.events;
        let bar = if terminal {
            let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr());
            if let Ok(style) = ProgressStyle::with_template(style) {
                bar.set_style(style);
            }
            bar.set_message(what.to_string());
            Some(bar)
        } else {
            None
        };
        let now = Instant::now();
        Progress {
            printer: self,
            what: what.into(),
            bar,
            total: total.unwrap_or_default(),
            first: None,
            start: now,
            said: now,
        }
    }
}

/// A running progress display.
pub(crate) struct Progress {
    printer: Printer,
    what: String,
    bar: Option<ProgressBar>,
    total: u64,
    first: Option<u64>,
    start: Instant,
    said: Instant,
}

/// How often progress is said where there is no terminal.
const INTERVAL: Duration = Duration::from_secs(10);

impl Progress {
    /// `done` of the total are done; `note` is said with it.
    pub(crate) fn at(&mut self, done: u64, note: &str) {
        let first = *self.first.get_or_insert(done.saturating_sub(1));
        if let Some(bar) = &self.bar {
            if done == first + 1 {
                bar.reset_eta();
            }
            bar.set_position(done);
            bar.set_message(format!("{} {note}", self.what));
            return;
        }
        // Who watches the log wants to know that a step is done.
        let ends = self.printer.events && done == self.total;
        if !self.printer.quiet && (ends || self.said.elapsed() >= INTERVAL) {
            self.said = Instant::now();
            let rate = (done - first) as f64 / self.start.elapsed().as_secs_f64().max(1e-9);
            let left = (self.total - done.min(self.total)) as f64 / rate.max(1e-9);
            match self.printer.events {
                true => tracing::info!(
                    step = self.what,
                    done,
                    total = self.total,
                    seconds_left = left,
                    note,
                    "progress"
                ),
                false => eprintln!(
                    "{}: {done}/{} {note}, {} left",
                    self.what,
                    self.total,
                    human_duration(left)
                ),
            }
        }
    }

    /// Ends the display.
    pub(crate) fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Seconds as a person says them: `42 s`, `3 min 5 s`, `2 h 10 min`.
pub(crate) fn human_duration(seconds: f64) -> String {
    let total = seconds.round().max(0.0) as u64;
    match (total / 3600, total / 60 % 60, total % 60) {
        (0, 0, s) => format!("{s} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!(human_duration(41.6), "42 s");
        assert_eq!(human_duration(185.0), "3 min 5 s");
        assert_eq!(human_duration(7800.0), "2 h 10 min");
    }
}
