//! Numbers of a running training, as events for whoever watches it.

use tracing::span::EnteredSpan;

/// Target of the spans and events of this module.
pub const TARGET: &str = "diffrep::metrics";

/// Names what is trained from here on in this thread, until the span is dropped: its field `run`.
pub fn training(run: &str) -> EnteredSpan {
    tracing::debug_span!(target: TARGET, "training", run).entered()
}

/// Tells a number after `step` steps: an event with the fields `metric`, `step` and `value`.
pub fn record(metric: &str, step: u64, value: f64) {
    tracing::debug!(target: TARGET, metric, step, value);
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Remembers the fields of all spans and events.
    #[derive(Clone, Default)]
    struct Listener(Arc<Mutex<Vec<String>>>);

    impl Visit for Listener {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            self.0.lock().unwrap().push(format!("{field}={value:?}"));
        }
    }

    impl Subscriber for Listener {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            metadata.target() == TARGET
        }
        fn new_span(&self, span: &Attributes<'_>) -> Id {
            span.record(&mut self.clone());
            Id::from_u64(1)
        }
        fn event(&self, event: &Event<'_>) {
            event.record(&mut self.clone());
        }
        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn a_listener_hears_the_run_and_its_numbers() {
        let listener = Listener::default();
        tracing::subscriber::with_default(listener.clone(), || {
            let _span = training("linear");
            record("loss", 3, 0.25);
        });
        let heard = listener.0.lock().unwrap().join(" ");
        assert_eq!(heard, r#"run="linear" metric="loss" step=3 value=0.25"#);
    }
}
