//! Usage on the command line: which flags may be removed, and how often one is evaluated.

use crate::cli::Common;
use crate::cli::flag::flag_key;
use crate::cli::output::is_table;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use clap::Args;
use serde_json::Value;
use serde_json::json;

/// How far back flags are looked at.
#[derive(Debug, Args)]
pub(super) struct StaleArgs {
    /// How many days back the reasons look
    #[arg(long, default_value_t = 30)]
    days: u32,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// A flag, and how far back it is looked at.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// How many days back, besides today
    #[arg(long, default_value_t = 30)]
    days: u32,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Lists flags that may be removed.
pub(super) async fn stale(args: StaleArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let place = args.target.find(&client).await?;
    let mut answer = client.get(&format!("{}/stale?days={}", place.path(), args.days)).await?;
    if is_table(args.common.output) {
        for flag in items(&mut answer) {
            let codes = texts(flag.get("reasons"), "code");
            if let Some(fields) = flag.as_object_mut() {
                fields.insert("reasons".to_owned(), json!(codes));
            }
        }
    }
    let columns = [
        ("FLAG", "/flag"),
        ("ON", "/on"),
        ("CHANGED", "/changedAt"),
        ("LAST EVALUATED", "/lastEvaluatedAt"),
        ("REASONS", "/reasons"),
    ];
    print_rows(args.common.output, &answer, &columns)
}

/// Shows how often a flag was evaluated.
pub(super) async fn usage(args: UsageArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let path = format!("{path}/flags/{}/usage?days={}", args.flag, args.days);
    let answer = client.get(&path).await?;
    if !is_table(args.common.output) {
        return print_rows(args.common.output, &answer, &[]);
    }
    // A row for each variation, since the last evaluation is the flag's.
    let last = answer.get("lastEvaluatedAt").cloned().unwrap_or_default();
    let mut rows = answer.get("variations").cloned().unwrap_or_default();
    for row in rows.as_array_mut().into_iter().flatten() {
        if let Some(fields) = row.as_object_mut() {
            let n_days = fields.get("days").and_then(Value::as_array).map_or(0, Vec::len);
            fields.insert("nDays".to_owned(), json!(n_days));
            fields.insert("last".to_owned(), last.clone());
        }
    }
    let columns = [
        ("VARIATION", "/variation"),
        ("COUNT", "/count"),
        ("DAYS", "/nDays"),
        ("FLAG LAST EVALUATED", "/last"),
    ];
    print_rows(args.common.output, &rows, &columns)
}

fn items(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    answer.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten()
}

fn texts(list: Option<&Value>, name: &str) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get(name)?.as_str().map(str::to_owned)).collect()
}
