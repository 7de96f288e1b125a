//! `vexil flag`.
//!
//! Each group of commands has a file: `create`, `state` (on, off, archive, restore, delete), `set`, `show` and `history`. Usage is in
//! `cli/usage`.

mod create;
mod history;
mod set;
mod show;
mod state;

pub(super) use history::HistoryArgs;
pub(super) use history::history;
pub(super) use set::tags;

use crate::cli::usage::StaleArgs;
use crate::cli::usage::UnknownArgs;
use crate::cli::usage::UsageArgs;
use crate::cli::usage::stale;
use crate::cli::usage::unknown;
use crate::cli::usage::usage;
use crate::model::key::FlagKey;
use crate::model::key::KEY_RULE;
use clap::Subcommand;

/// What can be done with flags.
#[derive(Debug, Subcommand)]
pub(super) enum FlagCommand {
    /// Lists the flags of an environment
    #[command(after_help = "Examples:
  vexil flag list
  vexil flag list --tag experimental --state on --sort -created --limit 20")]
    List(show::ListArgs),
    /// Shows a flag with its configuration
    #[command(after_help = "Examples:
  vexil flag show checkout-v2
  vexil flag show checkout-v2 --output yaml")]
    Show(show::ShowArgs),
    /// Creates a flag; it starts off everywhere
    #[command(after_help = "Examples:
  vexil flag create dark-mode --name 'Dark mode' --tag frontend --client-side
  vexil flag create theme --kind string --variation light='\"light\"' --variation dark='\"dark\"'")]
    Create(create::CreateArgs),
    /// Turns a flag on in an environment
    #[command(after_help = "Examples:
  vexil flag on dark-mode --comment launch
  vexil flag on dark-mode --dry-run")]
    On(state::SwitchArgs),
    /// Turns a flag off in an environment
    #[command(after_help = "Examples:
  vexil flag off dark-mode --comment 'too dark'
  vexil flag off dark-mode --if-match 17")]
    Off(state::SwitchArgs),
    /// Changes a flag: its rollout, rules, targets, name, tags and all else
    #[command(after_help = "Examples:
  vexil flag set new-search --rollout on=50,off=50 --comment 'half of all users'
  vexil flag set new-search --rule 'user.plan in gold,silver => on' --add-target user:ann=on --dry-run
  vexil flag set new-search --name 'New search' --tag +search --tag -old
  vexil flag set new-search --instructions changes.yaml

A rule is CLAUSE [and CLAUSE]… => VARIATION or => on=25,off=75 [by user.key].
A clause is KIND.ATTRIBUTE [not] OPERATOR VALUE,… or [not] segment KEY,…
All of it is one change: everything is done or nothing.")]
    Set(Box<set::SetArgs>),
    /// Puts a flag away: it is off everywhere and cannot be changed until it is restored
    #[command(after_help = "Examples:
  vexil flag archive dark-mode --comment 'everybody has it' --yes
  vexil flag archive dark-mode --dry-run")]
    Archive(state::PutAwayArgs),
    /// Takes a flag back that was archived; it is as it was
    #[command(
        visible_alias = "unarchive",
        after_help = "Example:
  vexil flag restore dark-mode"
    )]
    Restore(state::TakeBackArgs),
    /// Deletes a flag everywhere; its key is never given to another flag
    #[command(after_help = "Example:
  vexil flag delete dark-mode --comment 'no code asks for it' --yes")]
    Delete(state::PutAwayArgs),
    /// Lists the versions of a flag in an environment
    #[command(after_help = "Example:
  vexil flag history checkout-v2 --limit 10")]
    History(HistoryArgs),
    /// Gives a flag the configuration back that it had at an earlier version
    #[command(after_help = "Examples:
  vexil flag revert checkout-v2 12 --dry-run
  vexil flag revert checkout-v2 12 --comment 'it was better before'")]
    Revert(history::RevertArgs),
    /// Lists flags that may be removed, with the reasons
    #[command(after_help = "Example:
  vexil flag stale --days 60")]
    Stale(StaleArgs),
    /// Shows how often flags were evaluated, by variation
    #[command(after_help = "Examples:
  vexil flag usage checkout-v2 --days 7
  vexil flag usage")]
    Usage(UsageArgs),
    /// Lists keys that are asked for and that no flag has
    #[command(after_help = "Example:
  vexil flag unknown")]
    Unknown(UnknownArgs),
}

/// Keys go into paths, so they are checked before anything is sent.
pub(super) fn flag_key(text: &str) -> Result<FlagKey, String> {
    FlagKey::parse(text).ok_or_else(|| KEY_RULE.to_owned())
}

/// The columns of a change of a flag in an environment.
const CHANGE_COLUMNS: &[(&str, &str)] =
    &[("FLAG", "/flag/key"), ("ON", "/flag/on"), ("VERSION", "/version")];

/// Does something with flags.
pub(super) async fn run(command: FlagCommand) -> anyhow::Result<()> {
    match command {
        FlagCommand::List(args) => show::list(args).await,
        FlagCommand::Show(args) => show::show(args).await,
        FlagCommand::Create(args) => create::create(args).await,
        FlagCommand::On(args) => state::switch(args, "turnFlagOn").await,
        FlagCommand::Off(args) => state::switch(args, "turnFlagOff").await,
        FlagCommand::Set(args) => set::set(*args).await,
        FlagCommand::Archive(args) => state::put_away(args, "archive", "archiveFlag").await,
        FlagCommand::Restore(args) => state::take_back(args).await,
        FlagCommand::Delete(args) => state::put_away(args, "delete", "deleteFlag").await,
        FlagCommand::History(args) => history::history(args).await,
        FlagCommand::Revert(args) => history::revert(args).await,
        FlagCommand::Stale(args) => stale(args).await,
        FlagCommand::Usage(args) => usage(args).await,
        FlagCommand::Unknown(args) => unknown(args).await,
    }
}
