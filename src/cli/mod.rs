//! The command line: starting a server, and talking to one that runs.
//!
//! Nothing here is needed by a request. Commands that change something go through the same API as everyone else.

mod audit;
mod cases;
mod change;
mod changes;
mod check;
mod client;
mod code;
mod confirm;
mod demo;
mod emergency;
mod environment;
mod eval;
mod flag;
mod help;
mod history;
mod import;
mod output;
mod parity;
mod project;
mod schedule;
mod segment;
mod serve;
mod target;
mod token;
mod trigger;
mod usage;
mod words;

use crate::config::Settings;
use crate::http::openapi;
use clap::CommandFactory;
use clap::FromArgMatches;
use clap::Parser;
use clap::Subcommand;
use client::Connection;
use output::OutputFormat;
pub use parity::Incomplete;
use std::process::ExitCode;

/// A self-hosted feature flag server.
#[derive(Debug, Parser)]
#[command(name = "vexil", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts the server
    #[command(after_help = "Examples:
  vexil serve
  vexil serve --listen 0.0.0.0:8080 --config vexil.toml")]
    Serve(Settings),
    /// Starts a server with a sample project, on this machine only
    #[command(after_help = "Examples:
  vexil demo
  vexil demo --json --listen 127.0.0.1:9000")]
    Demo(demo::DemoArgs),
    /// Brings the database's schema up to date and ends
    #[command(after_help = "Example:
  vexil migrate --database-url postgres://vexil@127.0.0.1/vexil")]
    Migrate(Settings),
    /// Checks whether a server could start with these settings, without starting one
    #[command(after_help = "Examples:
  vexil check
  vexil check --config vexil.toml --output json")]
    Check(Box<check::CheckArgs>),
    /// Prints the description of the HTTP API
    #[command(after_help = "Example:
  vexil openapi > openapi.yaml")]
    Openapi,
    /// Kills flags: everyone gets their off variations at once
    #[command(after_help = "Examples:
  vexil kill checkout-v2 --comment 'payments fail'
  vexil kill --tag experimental --wait")]
    Kill(emergency::EmergencyArgs),
    /// Undoes kills: the flags are as before
    #[command(after_help = "Examples:
  vexil restore checkout-v2 --comment 'payments work'
  vexil restore --tag experimental")]
    Restore(emergency::RestoreArgs),
    /// Accepts that the database lacks what was served, as after a restored backup
    #[command(after_help = "Example:
  vexil accept-history --comment 'restored the backup of Monday'")]
    AcceptHistory(history::AcceptArgs),
    /// Lists, shows, creates, switches and changes flags
    #[command(subcommand)]
    Flag(flag::FlagCommand),
    /// Lists, shows, creates and changes segments
    #[command(subcommand)]
    Segment(segment::SegmentCommand),
    /// Makes many changes of flags and segments as one
    #[command(after_help = "Examples:
  vexil changes --file changes.yaml --dry-run
  vexil changes --file changes.yaml --comment launch --yes")]
    Changes(changes::ChangesArgs),
    /// Lists the versions of a flag in an environment: the same as flag history
    #[command(after_help = "Example:
  vexil history checkout-v2")]
    History(flag::HistoryArgs),
    /// Evaluates a flag for a context, on a server or (with --ruleset) against a file
    #[command(after_help = "Examples:
  vexil eval checkout-v2 --context '{\"targetingKey\":\"user-42\"}' --explain
  vexil eval --test cases.yaml
  vexil eval --ruleset flags.json checkout --context '{\"key\":\"user-42\"}'")]
    Eval(eval::EvalArgs),
    /// Brings over the flags of another server
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Compares a server's answers with those of a file of LaunchDarkly's
    #[command(after_help = "Example:
  vexil parity --ruleset flags.json --contexts contexts.jsonl

Status: 0 the same, 1 mismatches, 2 an error.")]
    Parity(parity::ParityArgs),
    /// Writes a project into files: environments, flags and segments, but no tokens
    #[command(after_help = "Example:
  vexil export --project demo --out flags/")]
    Export(code::ExportArgs),
    /// Says what applying files would change
    #[command(after_help = "Example:
  vexil plan --file flags/

Status: 0 nothing to change, 2 something, 1 an error.")]
    Plan(code::PlanArgs),
    /// Makes a project what files say, in one change
    #[command(after_help = "Examples:
  vexil apply --file flags/ --yes
  vexil apply --file flags/ --prune --dry-run")]
    Apply(code::ApplyArgs),
    /// Says what differs from files: the same as plan
    #[command(after_help = "Example:
  vexil drift --file flags/

Status: 0 nothing differs, 2 something, 1 an error.")]
    Drift(code::PlanArgs),
    /// Lists, creates, renames and deletes projects
    #[command(subcommand)]
    Project(project::ProjectCommand),
    /// Lists, creates, changes and deletes environments
    #[command(subcommand)]
    Environment(environment::EnvironmentCommand),
    /// Makes, lists, rotates and revokes tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Plans changes of flags, lists and cancels them
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Makes, lists and revokes secret URLs that kill or restore a flag
    #[command(subcommand)]
    Trigger(trigger::TriggerCommand),
    /// Lists, exports and verifies the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Prints completions for a shell
    #[command(after_help = "Examples:
  vexil completions bash > /etc/bash_completion.d/vexil
  vexil completions zsh > ~/.zfunc/_vexil")]
    Completions(help::CompletionsArgs),
}

/// What every command that talks to a server can be told.
#[derive(Debug, clap::Args)]
struct Common {
    #[command(flatten)]
    connection: Connection,
    /// How to print [default: table on a terminal, json otherwise]
    #[arg(long, value_enum, global = true)]
    output: Option<OutputFormat>,
}

/// The whole command line.
fn command() -> clap::Command {
    help::grouped(Cli::command())
}

/// Runs the command that the arguments name.
///
/// # Errors
///
/// Whatever keeps the command from being done, as a sentence for people.
pub async fn run() -> anyhow::Result<ExitCode> {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // OK because nobody is left to tell who has closed where it is told.
            let _ = error.print();
            // What can be read of it says which command was meant.
            let meant = command().ignore_errors(true).try_get_matches().ok();
            let meant = meant.as_ref().and_then(clap::ArgMatches::subcommand_name);
            return Ok(ExitCode::from(usage_status(&error, meant)));
        }
    };
    match Cli::from_arg_matches(&matches)?.command {
        Command::Serve(settings) => Box::pin(serve::serve(settings)).await,
        Command::Demo(args) => Box::pin(demo::demo(args)).await,
        Command::Migrate(settings) => serve::migrate(settings).await,
        Command::Check(args) => Box::pin(check::check(*args)).await,
        Command::Openapi => output::print(openapi::yaml()?),
        Command::Kill(args) => emergency::kill(args).await,
        Command::Restore(args) => emergency::restore(args).await,
        Command::AcceptHistory(args) => history::accept(args).await,
        Command::Flag(command) => Box::pin(flag::run(command)).await,
        Command::Segment(command) => Box::pin(segment::run(command)).await,
        Command::Changes(args) => Box::pin(changes::changes(args)).await,
        Command::History(args) => flag::history(args).await,
        Command::Eval(args) => Box::pin(eval::run(args)).await,
        Command::Import(command) => import::run(command).await,
        Command::Parity(args) => Box::pin(parity::run(args)).await,
        Command::Export(args) => return code::export(args).await,
        Command::Plan(args) | Command::Drift(args) => return code::plan(args).await,
        Command::Apply(args) => return Box::pin(code::apply(args)).await,
        Command::Project(command) => project::run(command).await,
        Command::Environment(command) => environment::run(command).await,
        Command::Token(command) => token::run(command).await,
        Command::Schedule(command) => Box::pin(schedule::run(command)).await,
        Command::Trigger(command) => trigger::run(command).await,
        Command::Completions(args) => help::completions(&args, command()),
        Command::Audit(command) => audit::run(command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The status of a command line that cannot be read, or asks for help; where 2 says that there are changes, it is not 2.
fn usage_status(error: &clap::Error, command: Option<&str>) -> u8 {
    match (error.exit_code(), command) {
        (0, _) => 0,
        (_, Some("plan" | "drift")) => 1,
        (status, _) => u8::try_from(status).unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every command that does something, with its words.
    fn leaves(command: &clap::Command, words: &str, found: &mut Vec<(String, clap::Command)>) {
        for inner in command.get_subcommands() {
            let words = format!("{words} {}", inner.get_name());
            if inner.has_subcommands() {
                leaves(inner, &words, found);
            } else {
                found.push((words, inner.clone()));
            }
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_does_and_shows_how() {
        let mut found = Vec::new();
        leaves(&command(), "vexil", &mut found);
        assert!(found.len() > 60, "{}", found.len());
        for (words, command) in found {
            assert!(command.get_about().is_some(), "{words} has no help");
            let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let is_own = |line: &str| line.trim_start().starts_with(&words);
            assert!(examples.lines().any(is_own), "{words} has no example");
            for argument in command.get_arguments() {
                let is_told = argument.get_help().is_some() || argument.is_hide_set();
                assert!(is_told, "{words} --{} has no help", argument.get_id());
            }
        }
    }

    #[test]
    fn the_help_groups_every_command_once() {
        let listed = help::GROUPS.iter().flat_map(|(_, names)| names.iter().copied());
        let mut listed: Vec<&str> = listed.filter(|name| *name != "help").collect();
        let command = command();
        let mut there: Vec<&str> =
            command.get_subcommands().map(|inner| inner.get_name()).collect();
        listed.sort_unstable();
        there.sort_unstable();
        assert_eq!(listed, there);
    }

    #[test]
    fn the_page_about_the_command_line_names_every_command() {
        let page = std::fs::read_to_string("docs/cli.md").unwrap();
        let mut found = Vec::new();
        leaves(&command(), "vexil", &mut found);
        for (words, _) in found {
            assert!(page.contains(&words), "docs/cli.md has no `{words}`");
        }
    }
}
