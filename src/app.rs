//! The composition root: builds everything from the configuration, owns the tasks, and knows in which order to stop.

use crate::auth;
use crate::clock::Clock;
use crate::clock::Ids;
use crate::config::Config;
use crate::control::Control;
use crate::http;
use crate::http::AdminState;
use crate::http::DataState;
use crate::http::Front;
use crate::http::LimitSetting;
use crate::http::LimitSettings;
use crate::http::Limits;
use crate::http::Sockets;
use crate::http::Tls;
use crate::model::token::Digest;
use crate::model::token::Grant;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::TokenKind;
use crate::snapshot::Follower;
use crate::snapshot::Snapshots;
use crate::store::Doorbell;
use crate::store::RedisHints;
use crate::store::Store;
use crate::store::StoreError;
use crate::telemetry::Metrics;
use anyhow::Context;
use secrecy::ExposeSecret;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::error;
use tracing::info;
use tracing::warn;

/// How long requests may go on after the process was told to stop.
const GRACE_PERIOD: Duration = Duration::from_secs(10);
/// The first wait before the database is tried again at start.
const START_DELAY_MIN: Duration = Duration::from_millis(100);
/// The longest wait before the database is tried again at start.
const START_DELAY_MAX: Duration = Duration::from_secs(5);
/// Connections that the kernel keeps until they are accepted.
const BACKLOG: u32 = 4_096;

/// A server that is put together but does not serve yet.
#[derive(Debug)]
pub struct App {
    /// Every command.
    pub control: Control,
    listener: TcpListener,
    limits: Arc<Limits>,
    tls: Option<Arc<Tls>>,
    follower: Follower,
    doorbells: Vec<Doorbell>,
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
        let redis = config.redis_url.as_ref().map(RedisHints::new).transpose()?;
        let tls = match &config.tls {
            Some((certificate, key)) => Some(Tls::new(certificate.clone(), key.clone())?),
            None => None,
        };
        let listener = listen(config.listen)
            .with_context(|| format!("could not listen on {}", config.listen))?;
        let snapshots = Arc::new(Snapshots::default());
        let metrics = Arc::new(Metrics::default());
        let follower = Follower {
            store: store.clone(),
            snapshots: Arc::clone(&snapshots),
            metrics: Arc::clone(&metrics),
            configured: configured_tokens(config),
            refused,
            ids: Ids,
        };
        let of_store = Doorbell::of(&store).filter(|_| config.does_listen);
        let of_redis = redis.clone().map(|redis| Doorbell::Redis(Box::new(redis)));
        let doorbells = of_store.into_iter().chain(of_redis).collect();
        let limits = Arc::new(Limits::new(limit_settings(config), &metrics));
        let control = Control { store, snapshots, redis, metrics, clock: Clock, ids: Ids };
        Ok(Self {
            control,
            listener,
            limits,
            tls: tls.map(Arc::new),
            follower,
            doorbells,
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
        let Self { control, listener, limits, tls, follower, doorbells, stop, connections, tasks } =
            self;
        let store = control.store.clone();
        let failed = CancellationToken::new();
        let data = DataState {
            snapshots: Arc::clone(&control.snapshots),
            metrics: Arc::clone(&control.metrics),
            limits,
            stop: Arc::new(stop.clone()),
        };
        for doorbell in doorbells {
            let name = doorbell.name();
            let listening = follower.clone().listen(doorbell, stop.clone());
            spawn(&tasks, name, &stop, &failed, listening);
        }
        let front = Front::new(data, AdminState { control });
        let service_for = move |peer| front.service(peer);
        if let Some(tls) = tls.clone() {
            spawn(&tasks, "certificate", &stop, &failed, tls.keep_current(stop.clone()));
        }
        let sockets = Sockets { tls, ..Sockets::within_descriptors() };
        let serving =
            http::serve(listener, service_for, sockets, connections.clone(), stop.clone());
        spawn(&tasks, "accept loop", &stop, &failed, serving);
        let following = {
            let stop = stop.clone();
            async move {
                let prepared = tokio::select! {
                    prepared = prepare(&follower.store) => prepared,
                    () = stop.cancelled() => return,
                };
                if let Err(error) = prepared {
                    error!(%error, "cannot use the database");
                    return;
                }
                follower.run(stop).await;
            }
        };
        spawn(&tasks, "follower", &stop, &failed, following);
        tokio::select! {
            () = told_to_stop() => info!("stopping"),
            () = failed.cancelled() => {}
        }
        // Ends the accept loop, the streams and the followers; requests that are in progress go on for a while.
        stop.cancel();
        connections.close();
        tasks.close();
        if tokio::time::timeout(GRACE_PERIOD, connections.wait()).await.is_err() {
            warn!("requests were still in progress when the grace period ended");
        }
        if tokio::time::timeout(GRACE_PERIOD, tasks.wait()).await.is_err() {
            warn!("tasks were still running when the grace period ended");
        }
        store.close().await;
        if failed.is_cancelled() {
            anyhow::bail!("a task that must go on has ended; the log has the cause");
        }
        Ok(())
    }
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

/// Brings the schema up to date; waits for the database as long as it takes.
async fn prepare(store: &Store) -> Result<(), StoreError> {
    let mut delay = START_DELAY_MIN;
    loop {
        match store.migrate().await {
            Ok(applied) => {
                for migration in applied {
                    info!(migration.number, migration.name, "applied a migration");
                }
                return Ok(());
            }
            Err(StoreError::Unavailable(cause)) => {
                warn!(cause, "waiting for the database");
                tokio::time::sleep(delay.mul_f64(0.5 + Ids.jitter())).await;
                delay = (delay * 2).min(START_DELAY_MAX);
            }
            Err(error) => return Err(error),
        }
    }
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        tokio::net::TcpSocket::new_v4()?
    } else {
        tokio::net::TcpSocket::new_v6()?
    };
    // So that a restart does not wait for connections of the process before it.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn limit_settings(config: &Config) -> LimitSettings {
    let limit = |rps, is_shadow| LimitSetting { rps, is_shadow };
    let shadow = config.limit_shadow;
    LimitSettings {
        replica: limit(config.limit_replica_rps, shadow.replica),
        client_address: limit(config.limit_client_address_rps, shadow.client_address),
        server_token: limit(config.limit_server_token_rps, shadow.server_token),
        trusted_proxies: config.trusted_proxies.0.clone(),
    }
}

fn configured_tokens(config: &Config) -> Vec<(Digest, Grant)> {
    let grant = || Grant {
        id: "configured".to_owned(),
        name: "VEXIL_ADMIN_TOKEN".to_owned(),
        kind: TokenKind::Admin,
        role: Some(Role::Administrator),
        scope: Scope::All,
    };
    let token = config.admin_token.iter();
    token.map(|token| (auth::digest(token.expose_secret()), grant())).collect()
}

/// Waits for SIGTERM or SIGINT.
async fn told_to_stop() {
    use tokio::signal::unix::SignalKind;
    use tokio::signal::unix::signal;
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signals) => {
                signals.recv().await;
            }
            Err(error) => {
                warn!(%error, "cannot hear SIGTERM");
                std::future::pending::<()>().await;
            }
        }
    };
    tokio::select! {
        () = terminate => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}
