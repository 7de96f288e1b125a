//! `vexil serve` and `vexil migrate`.

use crate::app::App;
use crate::auth;
use crate::cli::demo;
use crate::cli::output::print;
use crate::config::Settings;
use crate::store::Store;
use crate::telemetry::init_log;
use anyhow::bail;
use secrecy::ExposeSecret;
use tracing::info;
use tracing::warn;

/// Runs the server until it is told to stop.
pub(super) async fn serve(settings: Settings) -> anyhow::Result<()> {
    let config = settings.resolve()?;
    init_log(&config.log, config.log_format)?;
    let is_demo = |token: &str| demo::TOKENS.contains(&token);
    if config.admin_token.as_ref().is_some_and(|token| is_demo(token.expose_secret())) {
        bail!(
            "VEXIL_ADMIN_TOKEN is the demonstration's token, which everybody knows; make your own"
        );
    }
    // A data directory that a demonstration left behind holds tokens that everybody knows.
    let refused = demo::TOKENS.iter().map(|token| auth::digest(token)).collect();
    if config.admin_token.is_none() {
        warn!("VEXIL_ADMIN_TOKEN is not set; only administration tokens made before are accepted");
    }
    let app = App::build(&config, refused).await?;
    let (address, store) = (app.address()?, app.control.store.name());
    info!(%address, store, "listening");
    app.run().await
}

/// Brings the schema up to date.
pub(super) async fn migrate(settings: Settings) -> anyhow::Result<()> {
    let config = settings.resolve()?;
    init_log(&config.log, config.log_format)?;
    let store = match &config.database_url {
        Some(url) => Store::postgres(url)?,
        None => Store::sqlite(&config.data_dir).await?,
    };
    let applied = store.migrate().await?;
    for migration in &applied {
        print(&format!("applied migration {} ({})\n", migration.number, migration.name))?;
    }
    if applied.is_empty() {
        print("the schema is up to date\n")?;
    }
    store.close().await;
    Ok(())
}
