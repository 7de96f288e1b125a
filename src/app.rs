//! The composition root: builds everything from the configuration, owns the tasks, and knows in which order to stop.

mod capacity;
mod setting;
mod stop;

pub use setting::check_audit_key;

use crate::clock::Clock;
use crate::clock::Ids;
use crate::config::Config;
use crate::control::Control;
use crate::http;
use crate::http::AdminState;
use crate::http::DataState;
use crate::http::Front;
use crate::http::Limits;
use crate::http::Sockets;
use crate::http::Streams;
use crate::model::token::Digest;
use crate::record::LAST_WRITE_TIMEOUT;
use crate::record::Recorder;
use crate::snapshot::Folder;
use crate::snapshot::Follower;
use crate::snapshot::Heart;
use crate::snapshot::Keeper;
use crate::snapshot::Loader;
use crate::snapshot::Snapshots;
use crate::store::Doorbell;
use crate::store::Redis;
use crate::store::Store;
use crate::store::StoreError;
use crate::telemetry::Metrics;
use anyhow::Context;
use futures_util::FutureExt;
use setting::configured_tokens;
use setting::head_signer;
use setting::limit_settings;
use setting::listen;
use setting::replica_name;
use setting::tls;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stop::GRACE_PERIOD;
use stop::Signal;
use stop::Signals;
use stop::drain;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use tracing::info;
use tracing::warn;

/// How long bringing the tables up to date may take; large ones take their time.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(600);
/// The first wait before the database is tried again at start.
const START_DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest wait before the database is tried again at start.
const START_DELAY_MAX: Duration = Duration::from_secs(5);
/// How long a start waits for the database before it serves what an earlier run kept.
const START_PATIENCE: Duration = Duration::from_millis(500);
/// The folder in the data directory where what is served is kept.
const FOLDER: &str = "snapshot";

/// A server that is put together but does not serve yet.
#[derive(Debug)]
pub struct App {
    /// Every command.
    pub control: Control,
    listener: TcpListener,
    limits: Arc<Limits>,
    sockets: Sockets,
    follower: Follower,
    keeper: Keeper,
    recorder: Recorder,
    doorbells: Vec<Doorbell>,
    streams: Arc<Streams>,
    drain_time: Duration,
    serves_data_system: bool,
    stop: CancellationToken,
    /// Connections in progress.
    connections: TaskTracker,
    /// Everything else that runs.
    tasks: TaskTracker,
}

impl App {
    /// Opens the store and the listening socket; a PostgreSQL that is down now does not matter yet.
    ///
    /// # Errors
    ///
    /// The address is taken, a URL is wrong, the certificate cannot be used, or another process uses the data directory.
    pub async fn build(config: &Config, refused: Vec<Digest>) -> anyhow::Result<Self> {
        let store = match &config.database_url {
            Some(url) => Store::postgres(url)?,
            None => Store::sqlite(&config.data_dir).await?,
        };
        let redis = config.redis_url.as_ref().map(Redis::new).transpose()?;
        let tls = tls(config)?;
        let listener = listen(config.listen)
            .with_context(|| format!("could not listen on {}", config.listen))?;
        let snapshots = Arc::new(Snapshots::default());
        let metrics = Arc::new(Metrics::default());
        let heart = Heart {
            store: store.clone(),
            replica: replica_name(&listener),
            snapshots: Arc::clone(&snapshots),
        };
        let replica = heart.replica.clone();
        let (follower, keeper) = following(config, refused, redis.clone(), heart, &metrics);
        let of_store = Doorbell::of(&store).filter(|_| config.does_listen);
        let of_redis = redis.clone().map(|redis| Doorbell::Redis(Box::new(redis)));
        let doorbells = of_store.into_iter().chain(of_redis).collect();
        let limits = Arc::new(Limits::new(limit_settings(config), &metrics));
        let mut sockets = Sockets { tls: tls.map(Arc::new), ..Sockets::within_descriptors() };
        let allowed = || capacity::streams(sockets.connections_max);
        let streams_max = config.streams_max.unwrap_or_else(allowed);
        let streams = Streams::new(
            Arc::clone(&snapshots),
            Arc::clone(&metrics),
            streams_max,
            config.limit_shadow.streams,
        );
        sockets.leaving = streams.leaving();
        let recorder = Recorder::new(&store, &snapshots, &metrics, config.event_retention_days);
        let signer = Arc::new(head_signer(config)?);
        let control =
            Control { store, snapshots, replica, redis, metrics, clock: Clock, ids: Ids, signer };
        Ok(Self {
            control,
            listener,
            limits,
            sockets,
            follower,
            keeper,
            recorder,
            doorbells,
            streams: Arc::new(streams),
            drain_time: config.drain_time,
            serves_data_system: config.launchdarkly_fdv2,
            stop: CancellationToken::new(),
            connections: TaskTracker::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The address on which it listens.
    ///
    /// # Errors
    ///
    /// The system does not know.
    pub fn address(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("could not read the address of the socket")
    }

    /// Serves until the process is told to stop or a task that must go on ends.
    ///
    /// Requests are accepted at once; until everything is loaded they are answered 503.
    ///
    /// # Errors
    ///
    /// A task ended early.
    pub async fn run(self) -> anyhow::Result<()> {
        let Self {
            control,
            listener,
            limits,
            sockets,
            follower,
            keeper,
            recorder,
            doorbells,
            streams,
            drain_time,
            serves_data_system,
            stop,
            connections,
            tasks,
        } = self;
        let store = control.store.clone();
        let [failed, is_prepared, is_last] = std::array::from_fn(|_| CancellationToken::new());
        let data = DataState {
            snapshots: Arc::clone(&control.snapshots),
            metrics: Arc::clone(&control.metrics),
            limits,
            streams: Arc::clone(&streams),
            serves_data_system,
            events: Arc::clone(&recorder.events),
        };
        let mut signals = Signals::new()?;
        let run = |name, task| spawn(&tasks, name, &stop, &failed, task);
        for doorbell in doorbells {
            let name = doorbell.name();
            let (snapshots, stopped) = (Arc::clone(&control.snapshots), stop.clone());
            run(name, async move { snapshots.listen(doorbell, Ids, stopped).await }.boxed());
        }
        run("heart", follower.heart.clone().run(stop.clone()).boxed());
        run("keeper", keeper.run(stop.clone()).boxed());
        run("upkeep", control.clone().keep_up(stop.clone()).boxed());
        run("schedule", control.clone().run_schedule(stop.clone()).boxed());
        run("streams", Arc::clone(&streams).run(stop.clone()).boxed());
        let front = Front::new(data, AdminState { control });
        let service_for = move |peer| front.service(peer);
        if let Some(tls) = sockets.tls.clone() {
            run("certificate", tls.keep_current(stop.clone()).boxed());
        }
        let serving =
            http::serve(listener, service_for, sockets, connections.clone(), stop.clone());
        run("accept loop", serving.boxed());
        run("recorder", recorder.run(is_prepared.clone(), is_last.clone()).boxed());
        run("follower", follow(follower, is_prepared, stop.clone()).boxed());
        let mut grace_period = GRACE_PERIOD;
        tokio::select! {
            signal = signals.next() => {
                info!(?signal, "stopping");
                if signal == Signal::Terminate && !drain_time.is_zero() {
                    grace_period = drain(&streams, &connections, drain_time, &mut signals, &failed).await;
                }
            }
            () = failed.cancelled() => {}
        }
        // Ends the streams, the accept loop and the followers; requests that are in progress go on for a while.
        streams.close_all();
        stop.cancel();
        connections.close();
        tasks.close();
        let finished = finished(&connections, &tasks, &is_last, grace_period, &store);
        wait_for_the_last(finished, grace_period, &mut signals).await;
        if failed.is_cancelled() {
            anyhow::bail!("a task that must go on has ended; the log has the cause");
        }
        Ok(())
    }
}

/// What follows the store, and what keeps what is served.
fn following(
    config: &Config,
    refused: Vec<Digest>,
    redis: Option<Redis>,
    heart: Heart,
    metrics: &Arc<Metrics>,
) -> (Follower, Keeper) {
    let Heart { store, snapshots, .. } = heart.clone();
    // With SQLite there is one process, and a file beside it already.
    let is_shared = config.database_url.is_some();
    let cache = redis.filter(|_| is_shared);
    let loader = Loader::new(store.clone(), cache, Arc::clone(metrics), Ids);
    let folder = is_shared.then(|| Folder::new(config.data_dir.join(FOLDER)));
    let configured = configured_tokens(config);
    let keeper = Keeper {
        snapshots: Arc::clone(&snapshots),
        folder: folder.clone(),
        loader: loader.clone(),
        metrics: Arc::clone(metrics),
        configured: configured.clone(),
        ids: Ids,
    };
    let follower = Follower {
        store,
        loader,
        heart,
        folder,
        kept: Arc::default(),
        snapshots,
        metrics: Arc::clone(metrics),
        configured,
        refused,
        ids: Ids,
    };
    (follower, keeper)
}

/// Waits until everything has ended, but no longer than the grace period, and not if told again to stop.
async fn wait_for_the_last(
    finished: impl Future<Output = ()>,
    grace_period: Duration,
    signals: &mut Signals,
) {
    tokio::select! {
        () = finished => {}
        () = tokio::time::sleep(grace_period) => {
            warn!("requests or tasks were still in progress when the grace period ended");
        }
        _ = signals.next() => warn!("told again to stop"),
    }
}

/// Waits until everything has ended, and closes the store.
///
/// What is counted is written when no request can add to it any more, or when there is just time left for it.
async fn finished(
    connections: &TaskTracker,
    tasks: &TaskTracker,
    is_last: &CancellationToken,
    grace_period: Duration,
    store: &Store,
) {
    let patience = grace_period.saturating_sub(LAST_WRITE_TIMEOUT);
    // OK because what goes on is waited for below.
    let _ = tokio::time::timeout(patience, connections.wait()).await;
    is_last.cancel();
    connections.wait().await;
    tasks.wait().await;
    store.close().await;
}

/// Runs a task that must go on until the process stops; if it ends early, by a panic too, the process stops.
#[expect(clippy::disallowed_methods, reason = "the one place that spawns tasks of the process")]
fn spawn(
    tasks: &TaskTracker,
    name: &'static str,
    stop: &CancellationToken,
    failed: &CancellationToken,
    task: impl Future<Output = ()> + Send + 'static,
) {
    let (stop, failed) = (stop.clone(), failed.clone());
    let handle = tokio::task::spawn(tasks.track_future(task));
    tasks.spawn(async move {
        let result = handle.await;
        if !stop.is_cancelled() {
            let panic = result.err().map(|error| error.to_string()).unwrap_or_default();
            error!(task = name, panic, "a task ended early");
            failed.cancel();
        }
    });
}

/// Serves what an earlier run kept if the store does not answer soon, brings the schema up to date, and follows.
async fn follow(follower: Follower, is_prepared: CancellationToken, stop: CancellationToken) {
    follower.load_kept().await;
    let prepared = async {
        let preparing = prepare(&follower);
        let mut preparing = std::pin::pin!(preparing);
        if let Ok(prepared) = tokio::time::timeout(START_PATIENCE, preparing.as_mut()).await {
            return prepared;
        }
        follower.serve_kept();
        preparing.await
    };
    let prepared = tokio::select! {
        prepared = prepared => prepared,
        () = stop.cancelled() => return,
    };
    match prepared {
        Ok(()) => {
            is_prepared.cancel();
            follower.run(stop).await;
        }
        Err(error) => error!(%error, "cannot use the database"),
    }
}

/// Brings the schema up to date; waits for the database as long as it takes.
async fn prepare(follower: &Follower) -> Result<(), StoreError> {
    let mut delay = START_DELAY_MIN;
    loop {
        let migrated = tokio::time::timeout(MIGRATION_TIMEOUT, follower.store.migrate()).await;
        let stalled = |_| Err(StoreError::Unavailable("the database does not answer".to_owned()));
        match migrated.unwrap_or_else(stalled) {
            Ok(applied) => {
                for migration in applied {
                    info!(migration.number, migration.name, "applied a migration");
                }
                return Ok(());
            }
            Err(StoreError::Unavailable(cause)) => {
                warn!(cause, "waiting for the database");
                follower.serve_kept();
                tokio::time::sleep(delay.mul_f64(0.5 + Ids.jitter())).await;
                delay = (delay * 2).min(START_DELAY_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_panics_or_ends_early_stops_the_process() {
        let panicking = async { panic!("on purpose") };
        for task in [panicking.boxed(), std::future::ready(()).boxed()] {
            let tasks = TaskTracker::new();
            let [stop, failed] = std::array::from_fn(|_| CancellationToken::new());
            spawn(&tasks, "test", &stop, &failed, task);
            failed.cancelled().await;
        }
    }

    #[tokio::test]
    async fn a_task_may_end_when_the_process_stops() {
        let tasks = TaskTracker::new();
        let [stop, failed] = std::array::from_fn(|_| CancellationToken::new());
        stop.cancel();
        spawn(&tasks, "test", &stop, &failed, async {});
        tasks.close();
        tasks.wait().await;
        assert!(!failed.is_cancelled());
    }
}
