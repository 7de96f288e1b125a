//! `vexil flag list` and `vexil flag show`.

use super::flag_key;
use crate::cli::Common;
use crate::cli::change::percent;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_rows;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use clap::Args;
use percent_encoding::NON_ALPHANUMERIC;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;

/// Which flags are listed.
#[derive(Debug, Args)]
pub(in crate::cli) struct ListArgs {
    /// Only flags with this tag; with several, those that have all of them
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Only flags in this state: on, off, killed, live, archived, deprecated, temporary or all
    #[arg(long)]
    state: Option<String>,
    /// Only flags that may be removed (true), that may not (false), or that may for a reason, like off
    #[arg(long, value_name = "BOOL|REASON", num_args = 0..=1, default_missing_value = "true")]
    stale: Option<String>,
    /// Only flags whose key, name or description contain this text
    #[arg(long)]
    text: Option<String>,
    /// By key, name or created; with - before it the other way around
    #[arg(long, default_value = "key", allow_hyphen_values = true)]
    sort: String,
    /// So many flags, up to 1000 [default: all]
    #[arg(long)]
    limit: Option<u32>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Which flag is shown.
#[derive(Debug, Args)]
pub(in crate::cli) struct ShowArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

const COLUMNS: &[(&str, &str)] = &[
    ("FLAG", "/key"),
    ("KIND", "/kind"),
    ("ON", "/on"),
    ("VERSION", "/version"),
    ("TAGS", "/tags"),
    ("KILLED", "/killed/killedAt"),
    ("NAME", "/name"),
];

/// Lists flags.
pub(super) async fn list(args: ListArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let tags = args.tags.iter().map(|tag| format!("tag:{tag}"));
    let state = args.state.iter().map(|state| format!("state:{state}"));
    let stale = args.stale.iter().map(|stale| format!("stale:{stale}"));
    let text = args.text.iter().map(|text| format!("text:{text}"));
    let terms: Vec<String> = tags.chain(state).chain(stale).chain(text).collect();
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let query = format!("filter={}&sort={}", encode(&terms.join(",")), encode(&args.sort));
    // Without a limit all come at once, of one version of the environment.
    let limit = args.limit.map(|limit| format!("&limit={limit}")).unwrap_or_default();
    let answer = client.get(&format!("{path}/flags?{query}{limit}")).await?;
    print_rows(args.common.output, &answer, COLUMNS)
}

/// Shows a flag.
pub(super) async fn show(args: ShowArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let place = args.target.find(&client).await?;
    let flag = client.get(&format!("{}/flags/{}", place.path(), args.flag)).await?;
    print_rows(args.common.output, &flag, COLUMNS)?;
    if is_table(args.common.output) {
        for line in details(&flag) {
            print(&format!("  {line}\n"))?;
        }
    }
    Ok(())
}

/// What a flag serves to whom, a line for each.
fn details(flag: &Value) -> Vec<String> {
    let list = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let variations = list(flag, "variations");
    let name_of = |index: Option<&Value>| -> String {
        let index = index.and_then(Value::as_u64).and_then(|index| usize::try_from(index).ok());
        let key = index.and_then(|index| variations.get(index)?.get("key")?.as_str());
        key.map_or_else(|| "-".to_owned(), |key| format!("`{key}`"))
    };
    let served = |value: &Value| -> String {
        let slices = value.pointer("/rollout/variations").and_then(Value::as_array);
        let Some(slices) = slices else { return name_of(value.get("variation")) };
        let slice = |slice: &Value| {
            let weight = slice.get("weight").and_then(Value::as_u64).unwrap_or_default();
            format!("{} {}", percent(weight), name_of(slice.get("variation")))
        };
        slices.iter().map(slice).collect::<Vec<_>>().join(", ")
    };
    let text = |value: &Value, name: &str| -> String {
        value.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let mut lines = Vec::new();
    let description = text(flag, "description");
    if !description.is_empty() {
        lines.push(description);
    }
    for variation in &variations {
        let value = variation.get("value").unwrap_or(&Value::Null);
        lines.push(format!("variation `{}`: {value}", text(variation, "key")));
    }
    for other in list(flag, "prerequisites") {
        lines.push(format!("needs the flag {}", text(&other, "key")));
    }
    for target in list(flag, "targets").iter().chain(&list(flag, "contextTargets")) {
        let kind = target.get("contextKind").and_then(Value::as_str).unwrap_or("user");
        let n = list(target, "values").len();
        if n > 0 {
            lines.push(format!("{n} {kind} key(s): {}", name_of(target.get("variation"))));
        }
    }
    for rule in list(flag, "rules") {
        let n = list(&rule, "clauses").len();
        let (id, description) = (text(&rule, "id"), text(&rule, "description"));
        let description =
            if description.is_empty() { description } else { format!(" ({description})") };
        lines.push(format!("rule {id}{description}, {n} clause(s): {}", served(&rule)));
    }
    if let Some(fallthrough) = flag.get("fallthrough") {
        lines.push(format!("everyone else: {}", served(fallthrough)));
    }
    lines.push(format!("when it is off: {}", name_of(flag.get("offVariation"))));
    lines
}
