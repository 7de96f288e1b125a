//! The configuration of the server: flags over environment variables over the file over defaults.
//!
//! The only place, with the command line itself, that reads the environment. Every setting can be given in all three ways;
//! the README's table lists them, and a test compares it with [`SETTINGS`].

mod list;

pub use list::Networks;
pub use list::ShadowLimits;

use anyhow::Context;
use anyhow::bail;
use clap::Args;
use clap::ValueEnum;
use secrecy::ExposeSecret;
use secrecy::SecretString;
use serde::Deserialize;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// The environment variables of all settings, as the README lists them.
pub const SETTINGS: &[&str] = &[
    "VEXIL_CONFIG",
    "VEXIL_LISTEN",
    "VEXIL_DATA_DIR",
    "VEXIL_DATABASE_URL",
    "VEXIL_REDIS_URL",
    "VEXIL_ADMIN_TOKEN",
    "VEXIL_STREAMS_MAX",
    "VEXIL_DRAIN_SECS",
    "VEXIL_EVENT_RETENTION_DAYS",
    "VEXIL_LOG",
    "VEXIL_LOG_FORMAT",
    "VEXIL_LIMIT_REPLICA_RPS",
    "VEXIL_LIMIT_CLIENT_ADDRESS_RPS",
    "VEXIL_LIMIT_SERVER_TOKEN_RPS",
    "VEXIL_LIMIT_ADMIN_TOKEN_RPS",
    "VEXIL_LIMIT_SHADOW",
    "VEXIL_TRUSTED_PROXIES",
    "VEXIL_TLS_CERT",
    "VEXIL_TLS_KEY",
    "VEXIL_LAUNCHDARKLY_FDV2",
    "VEXIL_AUDIT_KEY",
];

/// Characters that a configured administrator's token must have, so that it cannot be guessed.
pub const ADMIN_TOKEN_CHARS_MIN: usize = 32;

/// Requests per second to one replica, if nothing else is configured.
const LIMIT_REPLICA_RPS: u32 = 10_000;
/// Requests per second from one client's address, if nothing else is configured.
const LIMIT_CLIENT_ADDRESS_RPS: u32 = 100;
/// Requests per second with one server token, if nothing else is configured: no limit.
const LIMIT_SERVER_TOKEN_RPS: u32 = 0;
/// Administrators' requests per second with one token, if nothing else is configured: more than the database makes changes, so
/// that pipelines never meet it, and half of what the replica answers, so that one that runs away leaves room for others.
const LIMIT_ADMIN_TOKEN_RPS: u32 = 5_000;
/// Seconds over which clients are sent elsewhere; with the 5 that requests may still take, the process ends within 30.
const DEFAULT_DRAIN_SECS: u32 = 25;
/// The longest time to drain, in seconds.
const DRAIN_SECS_MAX: u32 = 3_600;

/// Days for which events and counts are kept, if nothing else is configured: two years.
const EVENT_RETENTION_DAYS: u32 = 730;
/// The longest time for which they can be kept, in days; each day is a partition.
const EVENT_RETENTION_DAYS_MAX: u32 = 3_650;

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// The settings as they may be given on the command line or in the environment.
#[derive(Debug, Default, Args)]
pub struct Settings {
    /// A TOML file with these settings; flags and environment variables win over it
    #[arg(long, env = "VEXIL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The address to listen on [default: 127.0.0.1:8080]
    #[arg(long, env = "VEXIL_LISTEN", value_name = "ADDRESS")]
    pub listen: Option<SocketAddr>,
    /// Where local files are kept [default: ./vexil-data]
    #[arg(long, env = "VEXIL_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// postgres://…; without it, SQLite in the data directory
    #[arg(long, env = "VEXIL_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<SecretString>,
    /// redis://…; without it, no Redis
    #[arg(long, env = "VEXIL_REDIS_URL", value_name = "URL", hide_env_values = true)]
    pub redis_url: Option<SecretString>,
    /// Accepted as an administrator's token; at least 32 characters
    #[arg(long, env = "VEXIL_ADMIN_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub admin_token: Option<SecretString>,
    /// Streams that may be open at once [default: what descriptors and memory allow]
    #[arg(long, env = "VEXIL_STREAMS_MAX", value_name = "COUNT")]
    pub streams_max: Option<usize>,
    /// Seconds over which clients are sent elsewhere when the process is to stop; 0 is at once [default: 25]
    #[arg(long, env = "VEXIL_DRAIN_SECS", value_name = "SECONDS")]
    pub drain_secs: Option<u32>,
    /// Days for which events and counts of flags are kept, from 1 to 3650 [default: 730]
    #[arg(long, env = "VEXIL_EVENT_RETENTION_DAYS", value_name = "DAYS")]
    pub event_retention_days: Option<u32>,
    /// Which log lines are written, e.g. info or vexil=debug [default: info]
    #[arg(long, env = "VEXIL_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// How log lines are written [default: text]
    #[arg(long, env = "VEXIL_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Requests per second to this replica, 0 for any number [default: 10000]
    #[arg(long, env = "VEXIL_LIMIT_REPLICA_RPS", value_name = "N")]
    pub limit_replica_rps: Option<u32>,
    /// Requests per second with client and mobile tokens from one address, 0 for any number [default: 100]
    #[arg(long, env = "VEXIL_LIMIT_CLIENT_ADDRESS_RPS", value_name = "N")]
    pub limit_client_address_rps: Option<u32>,
    /// Requests per second with one server token, 0 for any number [default: 0]
    #[arg(long, env = "VEXIL_LIMIT_SERVER_TOKEN_RPS", value_name = "N")]
    pub limit_server_token_rps: Option<u32>,
    /// Administrators' requests per second with one token, 0 for any number [default: 5000]
    #[arg(long, env = "VEXIL_LIMIT_ADMIN_TOKEN_RPS", value_name = "N")]
    pub limit_admin_token_rps: Option<u32>,
    /// Limits that only count what is over them: replica, client-address, server-token, admin-token, trigger, streams, body, headers, context, all
    #[arg(long, env = "VEXIL_LIMIT_SHADOW", value_name = "LIMITS")]
    pub limit_shadow: Option<ShadowLimits>,
    /// Proxies whose X-Forwarded-For is believed, e.g. 10.0.0.0/8,192.0.2.1
    #[arg(long, env = "VEXIL_TRUSTED_PROXIES", value_name = "NETWORKS")]
    pub trusted_proxies: Option<Networks>,
    /// A PEM file with the certificate and those it was signed by; with it, only TLS is spoken
    #[arg(long, env = "VEXIL_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// A PEM file with the certificate's key
    #[arg(long, env = "VEXIL_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Whether LaunchDarkly's SDKs may use their second protocol; if not, they are told to use the first [default: true]
    #[arg(long, env = "VEXIL_LAUNCHDARKLY_FDV2", value_name = "BOOL")]
    pub launchdarkly_fdv2: Option<bool>,
    /// A file with the Ed25519 key (PKCS#8, DER) that signs the end of the audit log; it is made if it is missing [default:
    /// audit.key in the data directory]
    #[arg(long, env = "VEXIL_AUDIT_KEY", value_name = "FILE")]
    pub audit_key: Option<PathBuf>,
    /// For tests: does not listen to the database's doorbell, so that only the poll finds changes
    #[arg(long, env = "VEXIL_TEST_NO_LISTEN", hide = true)]
    pub test_no_listen: bool,
}

/// The settings as they may be given in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SettingsFile {
    listen: Option<SocketAddr>,
    data_dir: Option<PathBuf>,
    database_url: Option<String>,
    redis_url: Option<String>,
    admin_token: Option<String>,
    streams_max: Option<usize>,
    drain_secs: Option<u32>,
    event_retention_days: Option<u32>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    limit_replica_rps: Option<u32>,
    limit_client_address_rps: Option<u32>,
    limit_server_token_rps: Option<u32>,
    limit_admin_token_rps: Option<u32>,
    limit_shadow: Option<ShadowLimits>,
    trusted_proxies: Option<Networks>,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    launchdarkly_fdv2: Option<bool>,
    audit_key: Option<PathBuf>,
}

/// The configuration of a server, complete and valid.
#[derive(Debug)]
pub struct Config {
    /// The address to listen on.
    pub listen: SocketAddr,
    /// Where local files are kept.
    pub data_dir: PathBuf,
    /// PostgreSQL; `None` is SQLite in the data directory.
    pub database_url: Option<SecretString>,
    /// Redis; `None` is none.
    pub redis_url: Option<SecretString>,
    /// A token that is accepted as an administrator's without being in the store.
    pub admin_token: Option<SecretString>,
    /// Streams that may be open at once; `None` is what the machine allows.
    pub streams_max: Option<usize>,
    /// Over how long clients are sent elsewhere when the process is to stop.
    pub drain_time: Duration,
    /// Days for which events and counts of flags are kept.
    pub event_retention_days: u32,
    /// Which log lines are written.
    pub log: String,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Requests per second to this replica; 0 is any number.
    pub limit_replica_rps: u32,
    /// Requests per second with client and mobile tokens from one address; 0 is any number.
    pub limit_client_address_rps: u32,
    /// Requests per second with one server token; 0 is any number.
    pub limit_server_token_rps: u32,
    /// Administrators' requests per second with one token; 0 is any number.
    pub limit_admin_token_rps: u32,
    /// Limits that only count what is over them.
    pub limit_shadow: ShadowLimits,
    /// Proxies whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Networks,
    /// The files of the certificate and its key; `None` is no TLS.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// Whether LaunchDarkly's SDKs may use their second protocol.
    pub launchdarkly_fdv2: bool,
    /// The file of the key that signs the end of the audit log; `None` is one in the data directory.
    pub audit_key: Option<PathBuf>,
    /// Whether to listen to the database's doorbell.
    pub does_listen: bool,
}

impl Settings {
    /// Merges the settings with the file and the defaults.
    ///
    /// # Errors
    ///
    /// The file cannot be read or has an unknown setting, the administrator's token is too short, or a certificate has no key.
    pub fn resolve(self) -> anyhow::Result<Config> {
        let file = match &self.config {
            None => SettingsFile::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .with_context(|| format!("could not read the file {}", path.display()))?;
                toml::from_str(&text)
                    .with_context(|| format!("could not understand the file {}", path.display()))?
            }
        };
        let secret = |text: Option<String>| text.map(SecretString::from);
        let is_given = |secret: &SecretString| !secret.expose_secret().is_empty();
        let admin_token =
            self.admin_token.filter(is_given).or(secret(file.admin_token).filter(is_given));
        if let Some(token) = &admin_token
            && token.expose_secret().chars().count() < ADMIN_TOKEN_CHARS_MIN
        {
            bail!(
                "VEXIL_ADMIN_TOKEN must have at least {ADMIN_TOKEN_CHARS_MIN} characters; `openssl rand -hex 32` makes one"
            );
        }
        let tls = match (self.tls_cert.or(file.tls_cert), self.tls_key.or(file.tls_key)) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            _ => bail!("VEXIL_TLS_CERT and VEXIL_TLS_KEY belong together; one of them is missing"),
        };
        let drain_secs = self.drain_secs.or(file.drain_secs).unwrap_or(DEFAULT_DRAIN_SECS);
        if drain_secs > DRAIN_SECS_MAX {
            bail!("VEXIL_DRAIN_SECS must be at most {DRAIN_SECS_MAX}");
        }
        let event_retention_days =
            self.event_retention_days.or(file.event_retention_days).unwrap_or(EVENT_RETENTION_DAYS);
        if !(1..=EVENT_RETENTION_DAYS_MAX).contains(&event_retention_days) {
            bail!("VEXIL_EVENT_RETENTION_DAYS must be from 1 to {EVENT_RETENTION_DAYS_MAX}");
        }
        Ok(Config {
            listen: self.listen.or(file.listen).unwrap_or(DEFAULT_LISTEN),
            data_dir: self.data_dir.or(file.data_dir).unwrap_or_else(|| "./vexil-data".into()),
            database_url: self.database_url.filter(is_given).or(secret(file.database_url)),
            redis_url: self.redis_url.filter(is_given).or(secret(file.redis_url)),
            admin_token,
            streams_max: self.streams_max.or(file.streams_max),
            drain_time: Duration::from_secs(u64::from(drain_secs)),
            event_retention_days,
            log: self.log.or(file.log).unwrap_or_else(|| "info".to_owned()),
            log_format: self.log_format.or(file.log_format).unwrap_or(LogFormat::Text),
            limit_replica_rps: self
                .limit_replica_rps
                .or(file.limit_replica_rps)
                .unwrap_or(LIMIT_REPLICA_RPS),
            limit_client_address_rps: self
                .limit_client_address_rps
                .or(file.limit_client_address_rps)
                .unwrap_or(LIMIT_CLIENT_ADDRESS_RPS),
            limit_server_token_rps: self
                .limit_server_token_rps
                .or(file.limit_server_token_rps)
                .unwrap_or(LIMIT_SERVER_TOKEN_RPS),
            limit_admin_token_rps: self
                .limit_admin_token_rps
                .or(file.limit_admin_token_rps)
                .unwrap_or(LIMIT_ADMIN_TOKEN_RPS),
            limit_shadow: self.limit_shadow.or(file.limit_shadow).unwrap_or_default(),
            trusted_proxies: self.trusted_proxies.or(file.trusted_proxies).unwrap_or_default(),
            tls,
            launchdarkly_fdv2: self.launchdarkly_fdv2.or(file.launchdarkly_fdv2).unwrap_or(true),
            audit_key: self.audit_key.or(file.audit_key),
            does_listen: !self.test_no_listen,
        })
    }
}

/// Loopback only: reaching further is a decision.
pub const DEFAULT_LISTEN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 8080);
