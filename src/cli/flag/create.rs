//! `vexil flag create`.

use super::flag_key;
use crate::cli::Common;
use crate::cli::change::DeedArgs;
use crate::cli::change::insert_some;
use crate::cli::target::Target;
use crate::model::key::FlagKey;
use anyhow::Context;
use clap::Args;
use reqwest::Method;
use serde_json::Value;
use serde_json::json;

/// A flag that is to be created.
#[derive(Debug, Args)]
pub(in crate::cli) struct CreateArgs {
    /// The flag's key
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// The flag's name
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// boolean, string, number or json
    #[arg(long, default_value = "boolean")]
    kind: String,
    /// A variation as KEY=JSON, e.g. --variation blue='"#00f"'; once for each, and none for a boolean flag
    #[arg(long = "variation", value_name = "KEY=JSON")]
    variations: Vec<String>,
    /// The variation that is served when the flag is on [default: the first]
    #[arg(long, value_name = "VARIATION")]
    on_variation: Option<String>,
    /// The variation that is served when the flag is off [default: the last]
    #[arg(long, value_name = "VARIATION")]
    off_variation: Option<String>,
    /// A tag; once for each
    #[arg(long = "tag")]
    tags: Vec<String>,
    /// Who looks after it
    #[arg(long)]
    maintainer: Option<String>,
    /// It is meant to be removed one day
    #[arg(long)]
    temporary: bool,
    /// When it is to be gone, e.g. 2027-01-31: it is temporary then
    #[arg(long, value_name = "DAY|TIME")]
    temporary_until: Option<String>,
    /// Shows the flag to browsers
    #[arg(long)]
    client_side: bool,
    /// Shows the flag to mobile applications
    #[arg(long)]
    mobile: bool,
    #[command(flatten)]
    deed: DeedArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Creates a flag.
pub(super) async fn create(args: CreateArgs) -> anyhow::Result<()> {
    let client = args.common.connection.client()?;
    let project = args.target.find_project(&client).await?;
    let mut availability = json!({"usingEnvironmentId": args.client_side});
    if let (true, Some(fields)) = (args.mobile, availability.as_object_mut()) {
        fields.insert("usingMobileKey".to_owned(), json!(true));
    }
    let mut body = json!({
        "key": args.flag,
        "kind": args.kind,
        "tags": args.tags,
        "clientSideAvailability": availability,
    });
    let Some(fields) = body.as_object_mut() else { return Ok(()) };
    insert_some(fields, "name", args.name.as_deref());
    insert_some(fields, "description", args.description.as_deref());
    insert_some(fields, "maintainer", args.maintainer.as_deref());
    insert_some(fields, "temporaryUntil", args.temporary_until.as_deref());
    if args.temporary || args.temporary_until.is_some() {
        fields.insert("temporary".to_owned(), json!(true));
    }
    let mut defaults = serde_json::Map::new();
    insert_some(&mut defaults, "onVariation", args.on_variation.as_deref());
    insert_some(&mut defaults, "offVariation", args.off_variation.as_deref());
    if !defaults.is_empty() {
        fields.insert("defaults".to_owned(), Value::Object(defaults));
    }
    if !args.variations.is_empty() {
        let variations: Vec<Value> = args
            .variations
            .iter()
            .map(|text| variation(text).map(|(key, value)| json!({"key": key, "value": value})))
            .collect::<Result<_, _>>()?;
        fields.insert("variations".to_owned(), Value::Array(variations));
    }
    let path = format!("/api/v1/projects/{project}/flags");
    let answer = args.deed.send(&client, Method::POST, &path, Some(&body)).await?;
    let columns = [("FLAG", "/key"), ("KIND", "/kind"), ("TAGS", "/tags"), ("NAME", "/name")];
    args.deed.print_made(args.common.output, &answer, &columns)
}

/// Reads a variation from `KEY=JSON`.
pub(super) fn variation(text: &str) -> anyhow::Result<(&str, Value)> {
    let (key, value) = text
        .split_once('=')
        .with_context(|| format!("--variation must be KEY=JSON, got `{text}`"))?;
    let value: Value = serde_json::from_str(value)
        .with_context(|| format!("the value of `{key}` must be JSON; texts need quotes"))?;
    Ok((key, value))
}
