//! `vexil schedule`.

use crate::cli::Common;
use crate::cli::change::DeedArgs;
use crate::cli::flag::flag_key;
use crate::cli::output::print_rows;
use crate::cli::segment::segment_key;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use anyhow::Context;
use clap::Args;
use clap::Subcommand;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// What can be done with the schedule of an environment.
#[derive(Debug, Subcommand)]
pub(super) enum ScheduleCommand {
    /// Lists what is planned and what came of it
    #[command(after_help = "Example:
  vexil schedule list --flag checkout-v2 --state pending")]
    List {
        /// Only what changes this flag
        #[arg(long, value_parser = flag_key)]
        flag: Option<FlagKey>,
        /// pending, done, failed, conflict, skipped or cancelled
        #[arg(long, value_parser = ["pending", "done", "failed", "conflict", "skipped", "cancelled"])]
        state: Option<String>,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
    /// Plans a change of a flag or a segment, or windows in which a flag is on
    #[command(after_help = "Examples:
  vexil schedule add checkout-v2 --on --at 2027-01-04T09:00 --time-zone Europe/Berlin
  vexil schedule add checkout-v2 --days mon,fri --from 09:00 --to 17:00 --time-zone Europe/Berlin
  vexil schedule add --segment beta --instructions '[{\"kind\":\"addIncludedTargets\",\"values\":[\"ann\"]}]' --at 2027-01-04T09:00:00Z")]
    Add(AddArgs),
    /// Takes an entry back that is still to come
    #[command(after_help = "Example:
  vexil schedule cancel 01a207e1-41f0-7d2c-b7b1-0d1b6a5f9a7e")]
    Cancel {
        /// The entry's id, as `list` shows it
        id: uuid::Uuid,
        #[command(flatten)]
        deed: DeedArgs,
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        common: Common,
    },
}

/// What is to be planned.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The flag
    #[arg(value_parser = flag_key, required_unless_present = "segment")]
    flag: Option<FlagKey>,
    /// A segment instead, with --instructions
    #[arg(long, value_parser = segment_key, conflicts_with_all = ["flag", "on", "off", "days"], requires = "instructions")]
    segment: Option<SegmentKey>,
    /// Turns the flag on
    #[arg(long, conflicts_with_all = ["off", "instructions", "days"])]
    on: bool,
    /// Turns the flag off
    #[arg(long, conflicts_with_all = ["instructions", "days"])]
    off: bool,
    /// Instructions as JSON, e.g. '[{"kind":"turnFlagOn"}]'
    #[arg(long, conflicts_with = "days")]
    instructions: Option<String>,
    /// When, e.g. 2026-12-01T09:00:00+01:00, or without an offset together with --time-zone
    #[arg(long, required_unless_present = "days", conflicts_with = "days")]
    at: Option<String>,
    /// A time zone like Europe/Berlin
    #[arg(long)]
    time_zone: Option<String>,
    /// Days on which the flag is on, e.g. mon,tue,fri
    #[arg(long, value_delimiter = ',', requires_all = ["time_zone", "from", "to"])]
    days: Vec<String>,
    /// When it is turned on on these days, e.g. 09:00
    #[arg(long, requires = "days")]
    from: Option<String>,
    /// When it is turned off, e.g. 17:00
    #[arg(long, requires = "days")]
    to: Option<String>,
    /// Does nothing if it is later than this, e.g. 30m or 1h
    #[arg(long)]
    skip_if_late_by: Option<String>,
    /// Only says what would happen
    #[arg(long)]
    dry_run: bool,
    /// Why; kept in the audit log
    #[arg(long)]
    comment: Option<String>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

const COLUMNS: &[(&str, &str)] = &[
    ("ID", "/id"),
    ("STATE", "/state"),
    ("DUE", "/dueAt"),
    ("FLAG", "/flag"),
    ("SEGMENT", "/segment"),
    ("BY", "/createdBy"),
    ("RESULT", "/result/changes"),
    ("PROBLEM", "/result/problem/detail"),
];

/// Does something with the schedule.
pub(super) async fn run(command: ScheduleCommand) -> anyhow::Result<()> {
    match command {
        ScheduleCommand::List { flag, state, target, common } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            let flag = flag.map(|flag| format!("flag={flag}"));
            let state = state.map(|state| format!("state={state}"));
            let query: Vec<String> = flag.into_iter().chain(state).collect();
            let answer = client.get(&format!("{path}/schedule?{}", query.join("&"))).await?;
            print_rows(common.output, &answer, COLUMNS)
        }
        ScheduleCommand::Add(args) => add(args).await,
        ScheduleCommand::Cancel { id, deed, target, common } => {
            let client = common.connection.client()?;
            let path = target.find(&client).await?.path();
            let path = format!("{path}/schedule/{id}");
            let answer = deed.send(&client, Method::DELETE, &path, None).await?;
            deed.print_made(common.output, &answer, COLUMNS)
        }
    }
}

async fn add(args: AddArgs) -> anyhow::Result<()> {
    let mut body = match (&args.flag, &args.segment) {
        (_, Some(segment)) => json!({"segment": segment}),
        (flag, None) => json!({"flag": flag}),
    };
    let Some(fields) = body.as_object_mut() else { return Ok(()) };
    if args.days.is_empty() {
        let instructions = match (args.on, args.off, args.instructions) {
            (true, _, _) => json!([{"kind": "turnFlagOn"}]),
            (_, true, _) => json!([{"kind": "turnFlagOff"}]),
            (_, _, Some(text)) => {
                serde_json::from_str::<Value>(&text).context("--instructions is not JSON")?
            }
            _ => anyhow::bail!("say what is to be done: --on, --off, --instructions or --days"),
        };
        fields.insert("instructions".to_owned(), instructions);
        fields.extend(args.time_zone.map(|zone| ("timeZone".to_owned(), json!(zone))));
    } else {
        let (days, zone) = (args.days, args.time_zone);
        let windows = json!({"timeZone": zone, "days": days, "from": args.from, "to": args.to});
        fields.insert("windows".to_owned(), windows);
    }
    let given =
        [("at", args.at), ("skipIfLateBy", args.skip_if_late_by), ("comment", args.comment)];
    for (name, text) in given {
        fields.extend(text.map(|text| (name.to_owned(), json!(text))));
    }
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let query = if args.dry_run { "?dryRun=true" } else { "" };
    let answer = client.post(&format!("{path}/schedule{query}"), &body).await?;
    print_rows(args.common.output, &answer, COLUMNS)
}
