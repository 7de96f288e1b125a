//! Usage on the command line: which flags may be removed, and how often one is evaluated.

use crate::cli::Common;
use crate::cli::client::Client;
use crate::cli::flag::flag_key;
use crate::cli::output::is_table;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use clap::Args;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;
use serde_json::json;

/// Flags in one answer of the server.
const PAGE: u32 = 500;

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

/// Which keys are listed.
#[derive(Debug, Args)]
pub(super) struct UnknownArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// A flag or all, and how far back they are looked at.
#[derive(Debug, Args)]
pub(super) struct UsageArgs {
    /// The flag [default: all that were evaluated]
    #[arg(value_parser = flag_key)]
    flag: Option<FlagKey>,
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

/// Lists keys that are asked for and that no flag has.
pub(super) async fn unknown(args: UnknownArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let columns = [
        ("KEY", "/flag"),
        ("COUNT", "/count"),
        ("FIRST", "/firstAskedAt"),
        ("LAST", "/lastAskedAt"),
        ("DELETED", "/deleted"),
    ];
    print_rows(args.common.output, &client.get(&format!("{path}/unknown-flags")).await?, &columns)
}

/// Shows how often one flag or all were evaluated.
pub(super) async fn usage(args: UsageArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let Some(flag) = &args.flag else {
        let answer = all_usage(&client, &format!("{path}/usage?days={}", args.days)).await?;
        let columns =
            [("FLAG", "/flag"), ("COUNT", "/total"), ("LAST EVALUATED", "/lastEvaluatedAt")];
        return print_rows(args.common.output, &answer, &columns);
    };
    let answer = client.get(&format!("{path}/flags/{flag}/usage?days={}", args.days)).await?;
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

/// Reads all pages.
async fn all_usage(client: &Client, path: &str) -> anyhow::Result<Value> {
    let mut all = Vec::new();
    let mut after = String::new();
    loop {
        let mut page = client.get(&format!("{path}&limit={PAGE}{after}")).await?;
        all.extend(items(&mut page).map(std::mem::take));
        match page.get("next").and_then(Value::as_str) {
            Some(next) => after = format!("&after={}", utf8_percent_encode(next, NON_ALPHANUMERIC)),
            None => return Ok(json!({"items": all})),
        }
    }
}

fn items(answer: &mut Value) -> impl Iterator<Item = &mut Value> {
    answer.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten()
}

fn texts(list: Option<&Value>, name: &str) -> Vec<String> {
    let items = list.and_then(Value::as_array).into_iter().flatten();
    items.filter_map(|item| item.get(name)?.as_str().map(str::to_owned)).collect()
}
