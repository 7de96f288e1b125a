//! The command line: starting a server, and talking to one that runs.
//!
//! Nothing here is needed by a request. Commands that change something go through the same API as everyone else.

mod audit;
mod client;
mod code;
mod demo;
mod emergency;
mod eval;
mod flag;
mod flag_history;
mod history;
mod import;
mod output;
mod parity;
mod schedule;
mod serve;
mod target;
mod token;
mod usage;

use crate::config::Settings;
use crate::http::openapi;
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
    Serve(Settings),
    /// Starts a server with a sample project, on this machine only, and prints what to try
    Demo(demo::DemoArgs),
    /// Brings the database's schema up to date and ends
    Migrate(Settings),
    /// Prints the description of the HTTP API
    Openapi,
    /// Kills flags: everyone gets their off variations at once
    Kill(emergency::EmergencyArgs),
    /// Undoes kills: the flags are as before
    Restore(emergency::RestoreArgs),
    /// Accepts that the database lacks what was served, as after a restored backup
    AcceptHistory(history::AcceptArgs),
    /// Lists, shows, creates and switches flags
    #[command(subcommand)]
    Flag(flag::FlagCommand),
    /// Evaluates a flag for a context, on a server or (with --ruleset) against a file
    Eval(eval::EvalArgs),
    /// Brings over the flags of another server
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Compares what a server answers with what a file of LaunchDarkly's evaluates to: 0 the same, 1 mismatches, 2 an error
    Parity(parity::ParityArgs),
    /// Writes a project into files: environments, flags and segments, but no tokens
    Export(code::ExportArgs),
    /// Says what applying files would change [status: 0 nothing, 2 something, 1 an error]
    Plan(code::PlanArgs),
    /// Makes a project what files say, in one change
    Apply(code::ApplyArgs),
    /// Says what differs from files: the same as plan
    Drift(code::PlanArgs),
    /// Makes, lists, rotates and revokes tokens of an environment
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Plans changes of flags, lists and cancels them
    #[command(subcommand)]
    Schedule(schedule::ScheduleCommand),
    /// Exports and verifies the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
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

/// Runs the command that the arguments name.
///
/// # Errors
///
/// Whatever keeps the command from being done, as a sentence for people.
pub async fn run() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Command::Serve(settings) => Box::pin(serve::serve(settings)).await,
        Command::Demo(args) => Box::pin(demo::demo(args)).await,
        Command::Migrate(settings) => serve::migrate(settings).await,
        Command::Openapi => output::print(openapi::yaml()?),
        Command::Kill(args) => emergency::kill(args).await,
        Command::Restore(args) => emergency::restore(args).await,
        Command::AcceptHistory(args) => history::accept(args).await,
        Command::Flag(command) => Box::pin(flag::run(command)).await,
        Command::Eval(args) => eval::run(args).await,
        Command::Import(command) => import::run(command).await,
        Command::Parity(args) => Box::pin(parity::run(args)).await,
        Command::Export(args) => return code::export(args).await,
        Command::Plan(args) | Command::Drift(args) => return code::plan(args).await,
        Command::Apply(args) => return Box::pin(code::apply(args)).await,
        Command::Token(command) => token::run(command).await,
        Command::Schedule(command) => Box::pin(schedule::run(command)).await,
        Command::Audit(command) => audit::run(command).await,
    }?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
