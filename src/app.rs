//! The composition root: builds everything from the configuration, owns the tasks, and knows in which order to stop.

mod capacity;
mod prepare;
mod setting;
mod stop;
mod supervise;

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
use crate::telemetry::Metrics;
use anyhow::Context;
use prepare::follow;
use setting::configured_tokens;
use setting::head_signer;
use setting::limit_settings;
use setting::listen;
use setting::lock_data_dir;
use setting::replica_name;
use setting::tls;
use std::fs::File;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stop::GRACE_PERIOD;
use stop::Signal;
use stop::Signals;
use stop::drain;
use supervise::Supervisor;
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;
use tracing::warn;

/// The folder in the data directory where what is served is kept.
const FOLDER: &str = "snapshot";

/// A server that is put together but does not serve yet.
#[derive(Debug)]
pub struct App {
    /// Every command.
    pub control: Control,
    listener: Arc<TcpListener>,
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
    /// Keeps other processes from the data directory.
    lock: Option<File>,
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
        let lock = match config.database_url.is_some() {
            true => lock_data_dir(&config.data_dir)?,
            false => None,
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
        let allowed = || capacity::streams(sockets.places.available_permits());
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
            listener: Arc::new(listener),
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
            lock,
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

    /// Serves until the process is told to stop.
    ///
    /// Requests are accepted at once; until everything is loaded they are answered 503.
    ///
    /// # Errors
    ///
    /// It cannot hear that it is told to stop.
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
            lock,
            tasks,
        } = self;
        let store = control.store.clone();
        let [is_prepared, is_last] = std::array::from_fn(|_| CancellationToken::new());
        let data = DataState {
            snapshots: Arc::clone(&control.snapshots),
            metrics: Arc::clone(&control.metrics),
            limits,
            streams: Arc::clone(&streams),
            serves_data_system,
            events: Arc::clone(&recorder.events),
        };
        let mut signals = Signals::new()?;
        let (tasks, metrics) = (tasks.clone(), Arc::clone(&control.metrics));
        let supervisor = Supervisor { tasks: tasks.clone(), stop: stop.clone(), metrics };
        start_following(&supervisor, &control, follower, keeper, doorbells, &is_prepared, &is_last);
        let recorder = Arc::new(Mutex::new(recorder));
        let (prepared, last) = (is_prepared, is_last.clone());
        supervisor.run("recorder", move || {
            Recorder::run(Arc::clone(&recorder), prepared.clone(), last.clone())
        });
        let (hub, stopped) = (Arc::clone(&streams), stop.clone());
        supervisor.run("streams", move || Arc::clone(&hub).run(stopped.clone()));
        if let Some(tls) = sockets.tls.clone() {
            let stopped = stop.clone();
            supervisor.run("certificate", move || Arc::clone(&tls).keep_current(stopped.clone()));
        }
        let front = Arc::new(Front::new(data, AdminState { control }));
        let (accepted, stopped) = (connections.clone(), stop.clone());
        supervisor.run("accept loop", move || {
            let front = Arc::clone(&front);
            let service_for = move |peer| front.service(peer);
            let (listener, sockets) = (Arc::clone(&listener), sockets.clone());
            http::serve(listener, service_for, sockets, accepted.clone(), stopped.clone())
        });
        let mut grace_period = GRACE_PERIOD;
        let signal = signals.next().await;
        info!(?signal, "stopping");
        if signal == Signal::Terminate && !drain_time.is_zero() {
            grace_period = drain(&streams, &connections, drain_time, &mut signals).await;
        }
        // Ends the streams and the accept loop; requests that are in progress go on for a while, and what they need with them.
        streams.close_all();
        stop.cancel();
        connections.close();
        tasks.close();
        let finished = finished(&connections, &tasks, &is_last, grace_period, &store);
        wait_for_the_last(finished, grace_period, &mut signals).await;
        drop(lock);
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

/// Starts the tasks of everything between the store and what is served.
fn start_following(
    supervisor: &Supervisor,
    control: &Control,
    follower: Follower,
    keeper: Keeper,
    doorbells: Vec<Doorbell>,
    is_prepared: &CancellationToken,
    is_last: &CancellationToken,
) {
    let stop = &supervisor.stop;
    for doorbell in doorbells {
        let (snapshots, stop) = (Arc::clone(&control.snapshots), is_last.clone());
        let metrics = Arc::clone(&control.metrics);
        supervisor.run(doorbell.name(), move || {
            let (snapshots, doorbell) = (Arc::clone(&snapshots), doorbell.clone());
            let (metrics, stop) = (Arc::clone(&metrics), stop.clone());
            async move { snapshots.listen(doorbell, metrics, Ids, stop).await }
        });
    }
    // As long as requests are answered, what they are answered with is kept current, and this replica is waited for.
    let (heart, stopped) = (follower.heart.clone(), is_last.clone());
    supervisor.run("heart", move || heart.clone().run(stopped.clone()));
    let stopped = stop.clone();
    supervisor.run("keeper", move || keeper.clone().run(stopped.clone()));
    let (upkeep, stopped) = (control.clone(), stop.clone());
    supervisor.run("upkeep", move || upkeep.clone().keep_up(stopped.clone()));
    let (schedule, stopped) = (control.clone(), stop.clone());
    supervisor.run("schedule", move || schedule.clone().run_schedule(stopped.clone()));
    let (is_prepared, stopped) = (is_prepared.clone(), is_last.clone());
    supervisor
        .run("follower", move || follow(follower.clone(), is_prepared.clone(), stopped.clone()));
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
/// What is counted is written, and the replica signs off, when no request can come any more, or when there is just time left
/// for it.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;
    use crate::model::change::Position;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering;

    #[tokio::test]
    async fn a_follower_that_panics_twice_follows_again() {
        let dir = std::env::temp_dir().join(format!("vexil-{}", Ids.next()));
        let listen = Some("127.0.0.1:0".parse().unwrap());
        let settings = Settings { listen, data_dir: Some(dir.clone()), ..Settings::default() };
        let app = App::build(&settings.resolve().unwrap(), Vec::new()).await.unwrap();
        let supervisor = Supervisor {
            tasks: app.tasks.clone(),
            stop: app.stop.clone(),
            metrics: Arc::clone(&app.control.metrics),
        };
        let (follower, is_prepared, stop) =
            (app.follower.clone(), CancellationToken::new(), app.stop.clone());
        let n_starts = Arc::new(AtomicUsize::new(0));
        let n = Arc::clone(&n_starts);
        let snapshots = Arc::clone(&app.control.snapshots);
        supervisor.run("follower", move || {
            let is_bad = n.fetch_add(1, Ordering::Relaxed) < 2;
            let following = follow(follower.clone(), is_prepared.clone(), stop.clone());
            let snapshots = Arc::clone(&snapshots);
            async move {
                let ready = snapshots.wait_for_directory(Position { epoch: 1, version: 1 });
                tokio::select! {
                    () = following => {}
                    () = ready, if is_bad => panic!("on purpose"),
                }
            }
        });
        while n_starts.load(Ordering::Relaxed) < 3 {
            tokio::task::yield_now().await;
        }
        let mut tx = app.control.store.begin_writing().await.unwrap();
        let version = tx.bump_directory().await.unwrap();
        tx.commit().await.unwrap();
        app.control.snapshots.wait_for_directory(Position { epoch: 1, version }).await;
        app.stop.cancel();
        app.tasks.close();
        app.tasks.wait().await;
        std::fs::remove_dir_all(&dir).unwrap();
    }
}
