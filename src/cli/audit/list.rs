//! `vexil audit list`.

use crate::cli::Common;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use clap::Args;
use clap::ValueEnum;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;

/// Whose log is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogScope {
    /// What was done in the environment.
    Environment,
    /// What was done in the project.
    Project,
    /// Everything.
    Installation,
}

/// Which entries are listed.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Whose log
    #[arg(long, value_enum, default_value = "environment")]
    scope: LogScope,
    /// By the token with this id or name
    #[arg(long)]
    actor: Option<String>,
    /// Of this action, like flag.kill, or of those that begin with it if it ends in a dot, like flag.
    #[arg(long)]
    action: Option<String>,
    /// About this flag
    #[arg(long)]
    flag: Option<String>,
    /// From this time on, e.g. 2026-11-23T19:05:00Z
    #[arg(long)]
    since: Option<String>,
    /// Before this time
    #[arg(long)]
    until: Option<String>,
    /// In which this text occurs
    #[arg(long)]
    text: Option<String>,
    /// So many entries, up to 500
    #[arg(long, default_value_t = 50)]
    limit: u32,
    /// Reads on: `next` of the answer before
    #[arg(long)]
    before: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Lists entries of the audit log.
pub(super) async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = match args.scope {
        LogScope::Environment => args.target.find(&client).await?.path(),
        LogScope::Project => {
            format!("/api/v1/projects/{}", args.target.find_project(&client).await?)
        }
        LogScope::Installation => "/api/v1".to_owned(),
    };
    let mut path = format!("{path}/audit?limit={}", args.limit);
    let given = [
        ("actor", &args.actor),
        ("action", &args.action),
        ("flag", &args.flag),
        ("since", &args.since),
        ("until", &args.until),
        ("text", &args.text),
        ("before", &args.before),
    ];
    for (name, text) in given {
        if let Some(text) = text {
            path.push_str(&format!("&{name}={}", utf8_percent_encode(text, NON_ALPHANUMERIC)));
        }
    }
    let columns = [
        ("AT", "/at"),
        ("BY", "/actor/name"),
        ("ACTION", "/action"),
        ("PROJECT", "/project"),
        ("ENVIRONMENT", "/environment"),
        ("SUBJECT", "/subject"),
        ("VERSION", "/version"),
        ("COMMENT", "/comment"),
    ];
    print_rows(args.common.output, &client.get(&path).await?, &columns)
}
