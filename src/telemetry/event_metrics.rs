//! The metrics of events and usage.

use crate::telemetry::metrics::ReasonCounters;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What becomes of what SDKs report.
#[derive(Debug, Default)]
pub struct EventMetrics {
    /// Payloads of SDKs that were taken.
    pub received: Counter,
    /// Payloads that were left out because they were written already.
    pub duplicates: Counter,
    /// Single events and counters that make no sense.
    pub invalid: Counter,
    /// What was dropped, by reason.
    pub dropped: ReasonCounters,
    /// Bytes of payloads that wait to be written, about.
    pub queue_bytes: Gauge,
    /// Rows that were written.
    pub written: Counter,
    /// Attempts to write that failed.
    pub errors: Counter,
}

impl EventMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("event_payloads", "Payloads of SDKs taken", self.received.clone());
        registry.register(
            "event_duplicates",
            "Payloads that were written already",
            self.duplicates.clone(),
        );
        registry.register("events_invalid", "Events that make no sense", self.invalid.clone());
        registry.register(
            "events_dropped",
            "Payloads, and counts of unknown flags, that were dropped",
            self.dropped.family(),
        );
        registry.register(
            "event_queue_bytes",
            "Bytes that wait to be written, about",
            self.queue_bytes.clone(),
        );
        registry.register("event_rows", "Rows of events and counts written", self.written.clone());
        registry.register(
            "event_write_errors",
            "Attempts to write events that failed",
            self.errors.clone(),
        );
    }
}
