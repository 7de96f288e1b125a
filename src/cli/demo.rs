//! `vexil demo`: a server with a sample project, on this machine only.
//!
//! The sample is put in through the same commands that the admin API uses. Its tokens are constants that everybody knows,
//! so the server refuses to listen beyond loopback.

use crate::app::App;
use crate::auth::NewSecret;
use crate::auth::digest;
use crate::change::decode_instructions;
use crate::cli::output::print;
use crate::config::DEFAULT_LISTEN;
use crate::config::LogFormat;
use crate::config::Settings;
use crate::control::Author;
use crate::control::ConfigChange;
use crate::control::Control;
use crate::control::ControlError;
use crate::control::Provenance;
use crate::control::TokenRequest;
use crate::model::change::Actor;
use crate::model::change::Position;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::ProjectKey;
use crate::model::problem::Problems;
use crate::model::token::Holder;
use crate::model::token::Role;
use crate::model::token::Scope;
use crate::model::token::TokenKind;
use crate::telemetry::init_log;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use serde_json::json;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const ADMIN_TOKEN: &str = "vxa_DemonstrationAdminTokenNeverUseInProduction0xsAhQ";
const SERVER_TOKEN: &str = "vxs_DemonstrationServerTokenNeverUseInProductio0lFVxi";
const CLIENT_TOKEN: &str = "vxc_DemonstrationClientTokenNeverUseInProductio2mdvgp";
/// The demonstration's tokens, which a real server must not accept.
pub(super) const TOKENS: &[&str] = &[ADMIN_TOKEN, SERVER_TOKEN, CLIENT_TOKEN];

const PROJECT: &str = "demo";
const ENVIRONMENT: &str = "production";
/// The sample's flags, each with the instructions that configure it.
const FLAGS: &str = include_str!("demo.json");
/// How long loading an empty store may take.
const READY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a demonstration can be told.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Prints the URL and the tokens as one line of JSON instead of the walkthrough
    #[arg(long)]
    json: bool,
    /// The address to listen on; loopback only
    #[arg(long, default_value_t = DEFAULT_LISTEN, value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where the sample is kept; it is made if the folder has none
    #[arg(long, default_value = "./vexil-demo", value_name = "DIR")]
    data_dir: PathBuf,
    /// Which log lines are written
    #[arg(long, default_value = "warn", value_name = "FILTER")]
    log: String,
}

/// A flag of the sample: the body that creates it, and the instructions that configure it.
#[derive(Debug, Deserialize)]
struct SampleFlag {
    definition: Value,
    instructions: Value,
}

/// Starts the demonstration.
pub(super) async fn demo(args: DemoArgs) -> anyhow::Result<()> {
    if !args.listen.ip().is_loopback() {
        bail!(
            "a demonstration listens on loopback only, because everybody knows its tokens; `vexil serve` is for {}",
            args.listen
        );
    }
    init_log(&args.log, LogFormat::Text)?;
    let settings = Settings {
        listen: Some(args.listen),
        data_dir: Some(args.data_dir),
        // Somebody waits for it to end.
        drain_secs: Some(0),
        ..Settings::default()
    };
    let app = App::build(&settings.resolve()?, Vec::new()).await?;
    let url = format!("http://{}", app.address()?);
    let control = app.control.clone();
    let serving = app.run();
    let introducing = async {
        introduce(&control, &url, args.json).await?;
        std::future::pending().await
    };
    tokio::select! {
        result = serving => result,
        result = introducing => result,
    }
}

async fn introduce(control: &Control, url: &str, is_json: bool) -> anyhow::Result<()> {
    let first = Position { epoch: 1, version: 1 };
    let is_loaded = control.snapshots.wait_for_directory(first);
    tokio::time::timeout(READY_TIMEOUT, is_loaded)
        .await
        .context("the store did not load in time")?;
    seed(control).await?;
    if is_json {
        let line = json!({
            "url": url,
            "adminToken": ADMIN_TOKEN,
            "serverToken": SERVER_TOKEN,
            "clientToken": CLIENT_TOKEN,
            "project": PROJECT,
            "environment": ENVIRONMENT,
        });
        return print(&format!("{line}\n"));
    }
    print(&walkthrough(url))
}

/// Puts the sample in, unless it is there already.
async fn seed(control: &Control) -> anyhow::Result<()> {
    let project = ProjectKey::stored(PROJECT);
    let env = EnvKey::stored(ENVIRONMENT);
    let admin = digest(ADMIN_TOKEN);
    if control.tokens().await?.iter().any(|token| token.digest == admin) {
        return Ok(());
    }
    let actor = Actor { id: "demo".to_owned(), name: "vexil demo".to_owned(), holder: None };
    let request_id = "demo".to_owned();
    let author = Author { actor, request_id, comment: None, provenance: Provenance::default() };
    // A demonstration that was ended too early is continued: what is there already stays.
    unless_there(control.create_project(&author, &project, "Demonstration").await)?;
    unless_there(
        control.create_environment(&author, &project, &env, "Production", ServerSdk::None).await,
    )?;
    let flags: Vec<SampleFlag> = serde_json::from_str(FLAGS).context("the sample is not JSON")?;
    for flag in flags {
        let raw = flag.instructions.to_string();
        let change = json!({"instructions": flag.instructions});
        let definition = FlagDefinition::decode(flag.definition)?;
        unless_there(control.create_flag(&author, &project, &definition).await)?;
        if control.flag(&project, &env, &definition.key).await?.config.on {
            continue;
        }
        let mut problems = Problems::default();
        let instructions = object(change, "", &mut problems, decode_instructions);
        let instructions = problems.into_result(instructions.unwrap_or_default())?;
        let change = ConfigChange { instructions, raw, if_version: None };
        control.change_config(&author, &project, &env, &definition.key, change).await?;
    }
    // The administrator's token comes last: it says that the sample is complete.
    let own = Scope::Environment(project, env);
    for (token, kind, role, scope) in [
        (SERVER_TOKEN, TokenKind::Server, None, own.clone()),
        (CLIENT_TOKEN, TokenKind::Client, None, own),
        (ADMIN_TOKEN, TokenKind::Admin, Some(Role::Administrator), Scope::All),
    ] {
        let name = "demonstration".to_owned();
        let holder = role.map(|_| Holder::Service);
        let request = TokenRequest { name, kind, role, scope, holder, expires_at: None };
        let secret = NewSecret::known(token);
        unless_there(control.create_token(&author, request, &secret).await.map(|_| ()))?;
    }
    Ok(())
}

/// Makes nothing of it that something is there already.
fn unless_there<T>(result: Result<T, ControlError>) -> Result<(), ControlError> {
    match result {
        Ok(_) | Err(ControlError::Conflict { code: "key_taken", .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What to try, as lines that can be pasted in order.
fn walkthrough(url: &str) -> String {
    let server = format!("-H 'Authorization: Bearer {SERVER_TOKEN}'");
    let admin = format!("-H 'Authorization: Bearer {ADMIN_TOKEN}'");
    let user = r#"-d '{"context":{"targetingKey":"user-42","plan":"gold","country":"DE"}}'"#;
    format!(
        "Vexil is listening on {url} with a sample project; end it with Ctrl-C.
Everybody knows the tokens below, so it listens on this machine only.

# Evaluate one flag, then all four:
curl -s {server} {user} {url}/ofrep/v1/evaluate/flags/checkout-v2
curl -s {server} {user} {url}/ofrep/v1/evaluate/flags

# Watch changes for the next minute, in the background:
(curl -sN --max-time 60 {server} {url}/api/v1/stream &)

# Kill a flag, see it serve its off variation, and bring it back:
curl -s -X POST {admin} {url}/kill/checkout-v2
curl -s {server} {user} {url}/ofrep/v1/evaluate/flags/checkout-v2
curl -s -X POST {admin} {url}/restore/checkout-v2

# Raise the rollout of new-search from 25 % to 50 %; nobody who has it loses it:
curl -s -X PATCH {admin} -d '{{\"instructions\":[{{\"kind\":\"updateFallthroughVariationOrRollout\",\"rolloutWeights\":{{\"on\":50000,\"off\":50000}}}}]}}' {url}/api/v1/projects/{PROJECT}/environments/{ENVIRONMENT}/flags/new-search

# Who did what:
curl -s {admin} {url}/api/v1/projects/{PROJECT}/environments/{ENVIRONMENT}/audit
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::is_mistyped;

    #[test]
    fn the_tokens_say_what_they_are_for_and_are_well_formed() {
        for token in TOKENS {
            assert!(token.contains("Demonstration") && !is_mistyped(token), "{token}");
        }
    }
}
