//! Every metric, as a typed field.

use crate::telemetry::event_metrics::EventMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Metric;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;
use std::sync::atomic::AtomicU64;

/// Which environment a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct EnvironmentLabels {
    /// The project's key.
    pub project: String,
    /// The environment's key.
    pub environment: String,
}

/// Which requests a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    status: &'static str,
}

/// Where whole rulesets are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoadSource {
    /// The database.
    Store,
    /// Redis.
    Cache,
    /// The files of an earlier run.
    Disk,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LoadLabels {
    source: &'static str,
}

/// Whole rulesets that were read, by where.
#[derive(Debug, Default)]
pub struct LoadCounters(Family<LoadLabels, Counter>);

impl LoadCounters {
    /// Counts a ruleset.
    pub fn count(&self, source: LoadSource) {
        let source = match source {
            LoadSource::Store => "store",
            LoadSource::Cache => "cache",
            LoadSource::Disk => "disk",
        };
        self.0.get_or_create(&LoadLabels { source }).inc();
    }
}

/// Which limit a figure is of, and whether what is over it is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct LimitLabels {
    /// The limit's name.
    pub limit: &'static str,
    /// `enforced` or `shadow`.
    pub mode: &'static str,
}

/// Requests answered, by class of status; counting takes no lock.
#[derive(Debug)]
pub struct RequestCounters {
    success: Counter,
    redirection: Counter,
    client_error: Counter,
    server_error: Counter,
}

impl RequestCounters {
    fn new(family: &Family<RequestLabels, Counter>) -> Self {
        let counter = |status| family.get_or_create(&RequestLabels { status }).clone();
        Self {
            success: counter("2xx"),
            redirection: counter("3xx"),
            client_error: counter("4xx"),
            server_error: counter("5xx"),
        }
    }

    /// Counts a request that was answered with this status.
    pub fn count(&self, status: u16) {
        let counter = match status {
            ..=299 => &self.success,
            300..=399 => &self.redirection,
            400..=499 => &self.client_error,
            500.. => &self.server_error,
        };
        counter.inc();
    }
}

/// Why something was refused or has ended.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

/// What happened, by reason.
#[derive(Debug, Default)]
pub struct ReasonCounters(Family<ReasonLabels, Counter>);

impl ReasonCounters {
    pub(super) fn family(&self) -> impl Metric + use<> {
        self.0.clone()
    }

    /// Counts one more for this reason.
    pub fn count(&self, reason: &'static str) {
        self.0.get_or_create(&ReasonLabels { reason }).inc();
    }
}

/// Which task a figure is of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct TaskLabels {
    task: &'static str,
}

/// Tasks that were started again, by name.
#[derive(Debug, Default)]
pub struct TaskCounters(Family<TaskLabels, Counter>);

impl TaskCounters {
    /// Counts one more for this task.
    pub fn count(&self, task: &'static str) {
        self.0.get_or_create(&TaskLabels { task }).inc();
    }
}

/// Every metric of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Flags evaluated for clients.
    pub evaluations: Counter,
    /// Requests answered, by class of status.
    pub requests: RequestCounters,
    /// Requests that were over a limit.
    pub limited: Family<LimitLabels, Counter>,
    /// Requests that passed a bound on one request, by the code of the error.
    pub bounds_refused: ReasonCounters,
    /// Streams that are open.
    pub streams: Gauge,
    /// Streams that were not opened, by reason.
    pub streams_refused: ReasonCounters,
    /// Streams that have ended, by reason.
    pub streams_closed: ReasonCounters,
    /// The version of each environment that is served.
    pub environment_version: Family<EnvironmentLabels, Gauge>,
    /// Rulesets that were refused because they were not newer.
    pub installs_refused: Counter,
    /// Flags and segments whose stored form cannot be read; the last good form is served.
    pub corrupt_rows: Counter,
    /// Whether the store has not confirmed for ten seconds what is served.
    pub store_stale: Gauge,
    /// By how many seconds the system's clock is ahead of the database's.
    pub clock_skew_secs: Gauge<f64, AtomicU64>,
    /// Polls of the store that failed.
    pub store_errors: Counter,
    /// Tasks that were started again, because they had panicked or ended.
    pub task_restarts: TaskCounters,
    /// Changes that were committed by this process.
    pub changes: Counter,
    /// Whole rulesets that were read, by where.
    pub loads: LoadCounters,
    /// Images in Redis and files that were refused.
    pub images_refused: Counter,
    /// Requests to the cache in Redis that failed or were not answered in time.
    pub cache_errors: Counter,
    /// Images in Redis that were older than what the store has.
    pub cache_stale: Counter,
    /// Clients that had seen what the store does not have.
    pub clients_ahead: Counter,
    /// Whether PostgreSQL's notifications arrive.
    pub notify_ok: Gauge,
    /// Environments of which what changed cannot be read.
    pub environments_quarantined: Gauge,
    /// Whether the database has lost what replicas have served.
    pub history_regressed: Gauge,
    /// Images that could not be written to disk.
    pub snapshot_errors: Counter,
    /// What becomes of what SDKs report.
    pub events: EventMetrics,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vexil");
        let requests = Family::default();
        let metrics = Self {
            registry: Registry::default(),
            evaluations: Counter::default(),
            requests: RequestCounters::new(&requests),
            limited: Family::default(),
            bounds_refused: ReasonCounters::default(),
            streams: Gauge::default(),
            streams_refused: ReasonCounters::default(),
            streams_closed: ReasonCounters::default(),
            environment_version: Family::default(),
            installs_refused: Counter::default(),
            corrupt_rows: Counter::default(),
            store_stale: Gauge::default(),
            clock_skew_secs: Gauge::default(),
            store_errors: Counter::default(),
            task_restarts: TaskCounters::default(),
            changes: Counter::default(),
            loads: LoadCounters::default(),
            images_refused: Counter::default(),
            cache_errors: Counter::default(),
            cache_stale: Counter::default(),
            clients_ahead: Counter::default(),
            notify_ok: Gauge::default(),
            environments_quarantined: Gauge::default(),
            history_regressed: Gauge::default(),
            snapshot_errors: Counter::default(),
            events: EventMetrics::default(),
        };
        registry.register("requests", "Requests answered", requests);
        metrics.register(&mut registry);
        metrics.register_store(&mut registry);
        metrics.events.register(&mut registry);
        Self { registry, ..metrics }
    }
}

impl Metrics {
    fn register(&self, registry: &mut Registry) {
        registry.register("evaluations", "Flags evaluated for clients", self.evaluations.clone());
        self.register_limits(registry);
        registry.register(
            "environment_version",
            "Version of the environment that is served",
            self.environment_version.clone(),
        );
        registry.register(
            "installs_refused",
            "Rulesets refused because they were not newer",
            self.installs_refused.clone(),
        );
        registry.register(
            "corrupt_rows",
            "Flags and segments whose stored form cannot be read",
            self.corrupt_rows.clone(),
        );
    }

    /// What concerns the store, the cache and the files.
    fn register_store(&self, registry: &mut Registry) {
        registry.register(
            "store_stale",
            "1 while the store has not confirmed what is served for ten seconds",
            self.store_stale.clone(),
        );
        registry.register_with_unit(
            "clock_skew",
            "How far the system's clock is ahead of the database's, which is used",
            Unit::Seconds,
            self.clock_skew_secs.clone(),
        );
        registry.register(
            "store_errors",
            "Polls of the store that failed",
            self.store_errors.clone(),
        );
        registry.register(
            "task_restarts",
            "Tasks of the process that were started again",
            self.task_restarts.0.clone(),
        );
        registry.register("changes", "Changes committed by this process", self.changes.clone());
        registry.register("ruleset_loads", "Whole rulesets that were read", self.loads.0.clone());
        registry.register(
            "images_refused",
            "Rulesets in Redis and in files that were refused",
            self.images_refused.clone(),
        );
        registry.register(
            "cache_errors",
            "Requests to the cache in Redis that failed or were not answered in time",
            self.cache_errors.clone(),
        );
        registry.register(
            "cache_stale",
            "Rulesets in Redis that were older than what the store has",
            self.cache_stale.clone(),
        );
        registry.register(
            "clients_ahead",
            "Clients that came back to a stream and had seen what the store does not have",
            self.clients_ahead.clone(),
        );
        registry.register(
            "notify_ok",
            "1 while PostgreSQL's notifications arrive",
            self.notify_ok.clone(),
        );
        registry.register(
            "environments_quarantined",
            "Environments of which what changed cannot be read",
            self.environments_quarantined.clone(),
        );
        registry.register(
            "history_regressed",
            "1 while the database lacks what replicas have served",
            self.history_regressed.clone(),
        );
        registry.register(
            "snapshot_errors",
            "Rulesets that could not be written to disk",
            self.snapshot_errors.clone(),
        );
    }

    fn register_limits(&self, registry: &mut Registry) {
        registry.register(
            "limited",
            "Requests that were over a limit, refused unless the limit is in the shadow",
            self.limited.clone(),
        );
        registry.register(
            "bounds_refused",
            "Requests refused because their body, headers, depth or content is too large",
            self.bounds_refused.0.clone(),
        );
        registry.register("streams", "Streams that are open", self.streams.clone());
        registry.register(
            "streams_refused",
            "Streams that were not opened",
            self.streams_refused.0.clone(),
        );
        registry.register(
            "streams_closed",
            "Streams that have ended",
            self.streams_closed.0.clone(),
        );
    }

    /// Returns all metrics in the text format of OpenMetrics 1.0.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // OK because writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
