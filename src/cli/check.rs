//! `vexil check`: whether a server could start with these settings, without starting one.
//!
//! Changes nothing but what opening files to write would, so it is safe beside a server that runs.

use crate::app::check_audit_key;
use crate::auth;
use crate::cli::demo;
use crate::cli::output::OutputFormat;
use crate::cli::output::print_rows;
use crate::config::Config;
use crate::config::Settings;
use crate::http::Tls;
use crate::store::Redis;
use crate::store::SchemaState;
use crate::store::StoreError;
use crate::store::inspect_postgres;
use crate::store::inspect_sqlite;
use anyhow::bail;
use clap::Args;
use secrecy::ExposeSecret;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::time::Duration;

/// How long one database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The settings of the server that is to be started, and how to print.
#[derive(Debug, Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    settings: Settings,
    /// How to print [default: table on a terminal, json otherwise]
    #[arg(long, value_enum)]
    output: Option<OutputFormat>,
}

/// What was found about one thing.
struct Finding {
    what: &'static str,
    status: &'static str,
    detail: String,
}

impl Finding {
    fn new(what: &'static str, status: &'static str, detail: impl Into<String>) -> Self {
        Self { what, status, detail: detail.into() }
    }
}

const FINE: &str = "ok";
const WARNING: &str = "warning";
const FAILED: &str = "failed";

/// Checks everything that can be, prints a row for each, and fails if anything keeps a server from starting.
pub(super) async fn check(args: CheckArgs) -> anyhow::Result<()> {
    let findings = match args.settings.resolve() {
        Ok(config) => look(&config).await,
        Err(error) => vec![Finding::new("configuration", FAILED, format!("{error:#}"))],
    };
    let n_failed = findings.iter().filter(|finding| finding.status == FAILED).count();
    let row = |finding: &Finding| json!({"check": finding.what, "status": finding.status, "detail": finding.detail});
    let rows: Vec<Value> = findings.iter().map(row).collect();
    let columns = [("CHECK", "/check"), ("STATUS", "/status"), ("DETAIL", "/detail")];
    print_rows(args.output, &Value::Array(rows), &columns)?;
    if n_failed > 0 {
        bail!("{n_failed} check(s) failed; a server with these settings would not work");
    }
    Ok(())
}

async fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![configuration(config), data_dir(&config.data_dir)];
    let state = match &config.database_url {
        Some(url) => within(inspect_postgres(url)).await,
        None => within(inspect_sqlite(&config.data_dir)).await,
    };
    findings.push(database(config.database_url.is_some(), state));
    if let Some(url) = &config.redis_url {
        let answer = match Redis::new(url) {
            Ok(redis) => within(async move { redis.ping().await }).await,
            Err(error) => Err(error),
        };
        findings.push(match answer {
            Ok(()) => Finding::new("redis", FINE, "it answers"),
            // A server starts and works without it.
            Err(StoreError::Unavailable(detail)) => Finding::new("redis", WARNING, detail),
            Err(error) => Finding::new("redis", FAILED, error.to_string()),
        });
    }
    if let Some((certificate, key)) = &config.tls {
        findings.push(match Tls::new(certificate.clone(), key.clone()) {
            Ok(_) => Finding::new("tls", FINE, "the certificate and its key fit"),
            Err(error) => Finding::new("tls", FAILED, format!("{error:#}")),
        });
    }
    findings.push(match check_audit_key(config) {
        Ok(detail) => Finding::new("audit key", FINE, detail),
        Err(error) => Finding::new("audit key", FAILED, format!("{error:#}")),
    });
    findings.push(match std::net::TcpListener::bind(config.listen) {
        Ok(_) => Finding::new("listen", FINE, format!("{} is free", config.listen)),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let detail = format!("{} is in use, as it is while a server runs", config.listen);
            Finding::new("listen", WARNING, detail)
        }
        Err(error) => Finding::new("listen", FAILED, format!("{}: {error}", config.listen)),
    });
    findings
}

async fn within<T>(work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable("it does not answer".to_owned());
    tokio::time::timeout(ANSWER_TIMEOUT, work).await.map_err(late)?
}

fn configuration(config: &Config) -> Finding {
    let is_demo = |token: &str| demo::TOKENS.contains(&token);
    match &config.admin_token {
        Some(token) if is_demo(token.expose_secret()) => Finding::new(
            "configuration",
            FAILED,
            "VEXIL_ADMIN_TOKEN is the demonstration's token, which everybody knows",
        ),
        Some(token) if auth::is_mistyped(token.expose_secret()) => Finding::new(
            "configuration",
            WARNING,
            "VEXIL_ADMIN_TOKEN looks like a token of vexil's, but its checksum is wrong",
        ),
        Some(_) => Finding::new("configuration", FINE, "the settings are valid"),
        None => Finding::new(
            "configuration",
            WARNING,
            "VEXIL_ADMIN_TOKEN is not set; only administration tokens made before are accepted",
        ),
    }
}

fn data_dir(path: &Path) -> Finding {
    let shown = path.display();
    match std::fs::metadata(path) {
        Ok(found) if !found.is_dir() => {
            Finding::new("data directory", FAILED, format!("{shown} is no folder"))
        }
        Ok(_) => match rustix::fs::access(path, rustix::fs::Access::WRITE_OK) {
            Ok(()) => Finding::new("data directory", FINE, format!("{shown} can be written")),
            Err(error) => Finding::new(
                "data directory",
                FAILED,
                format!("{shown} cannot be written: {error}"),
            ),
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Finding::new("data directory", FINE, format!("{shown} is made at the first start"))
        }
        Err(error) => Finding::new("data directory", FAILED, format!("{shown}: {error}")),
    }
}

fn database(is_postgres: bool, state: Result<SchemaState, StoreError>) -> Finding {
    let name = if is_postgres { "PostgreSQL" } else { "SQLite" };
    match state {
        Ok(SchemaState { missing, .. }) if missing.is_empty() => {
            Finding::new("database", FINE, format!("{name}: the schema is up to date"))
        }
        Ok(SchemaState { is_new: true, .. }) => Finding::new(
            "database",
            FINE,
            format!("{name}: empty; the first start makes the tables"),
        ),
        Ok(SchemaState { missing, .. }) => {
            let names: Vec<String> =
                missing.iter().map(|each| format!("{} ({})", each.number, each.name)).collect();
            let detail = format!(
                "{name}: the next start, or `vexil migrate`, applies the migrations {}",
                names.join(", ")
            );
            Finding::new("database", WARNING, detail)
        }
        Err(error) => Finding::new("database", FAILED, format!("{name}: {error}")),
    }
}
