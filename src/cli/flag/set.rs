//! `vexil flag set`: any change of a flag, from a shell.
//!
//! What is given becomes instructions, in an order that makes sense whatever the order on the line. If both the definition and
//! the configuration are to change, both go to the server as one change.

use super::CHANGE_COLUMNS;
use super::create::variation;
use super::flag_key;
use crate::change::DEFINITION_INSTRUCTION_KINDS;
use crate::cli::Common;
use crate::cli::change::ChangeArgs;
use crate::cli::change::insert_some;
use crate::cli::change::print_change;
use crate::cli::change::print_impact;
use crate::cli::change::read_instructions;
use crate::cli::change::unconfirmed;
use crate::cli::client::Client;
use crate::cli::client::Conditions;
use crate::cli::confirm::confirm;
use crate::cli::output::is_table;
use crate::cli::output::print;
use crate::cli::output::print_value;
use crate::cli::target::Target;
use crate::cli::words;
use crate::model::key::FlagKey;
use anyhow::Context;
use anyhow::bail;
use clap::Args;
use reqwest::Method;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::path::Path;
use std::path::PathBuf;

/// What is to be changed about which flag.
#[derive(Debug, Args)]
pub(in crate::cli) struct SetArgs {
    /// The flag
    #[arg(value_parser = flag_key)]
    flag: FlagKey,
    /// A file of YAML or JSON with any instructions, or - for standard input; they come first
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,
    /// Does not ask, if the flag is to be archived or deleted
    #[arg(long, short = 'y')]
    yes: bool,
    /// Does nothing unless the flag is at this version in the environment
    #[arg(long, value_name = "VERSION")]
    if_match: Option<u64>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    config: ConfigArgs,
    #[command(flatten)]
    definition: DefinitionArgs,
}

/// What a flag is in one environment.
#[derive(Debug, Args)]
#[command(next_help_heading = "In the environment")]
struct ConfigArgs {
    /// Turns the flag on, after everything else
    #[arg(long, conflicts_with = "off")]
    on: bool,
    /// Turns the flag off, before everything else
    #[arg(long)]
    off: bool,
    /// The variation for everyone whom no target and no rule matches
    #[arg(long, value_name = "VARIATION", conflicts_with = "rollout")]
    fallthrough: Option<String>,
    /// Or percentages, e.g. on=25,off=75; as few as possible get another variation
    #[arg(long, value_name = "WEIGHTS")]
    rollout: Option<String>,
    /// By what the rollout divides, e.g. user.key or organization.id [default: as before]
    #[arg(long, value_name = "KIND.ATTRIBUTE", requires = "rollout")]
    by: Option<String>,
    /// The variation for everyone while the flag is off
    #[arg(long, value_name = "VARIATION")]
    off_variation: Option<String>,
    /// A context that gets a variation before any rule, e.g. user:ann=on; once for each
    #[arg(long = "add-target", value_name = "KIND:KEY=VARIATION")]
    add_targets: Vec<String>,
    /// A context that is no target any more, e.g. user:ann; once for each
    #[arg(long = "remove-target", value_name = "KIND:KEY")]
    remove_targets: Vec<String>,
    /// A rule that is added last, e.g. 'user.plan in gold,silver => on'; once for each
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<String>,
    /// The id of a rule that is removed; once for each
    #[arg(long = "remove-rule", value_name = "ID")]
    remove_rules: Vec<String>,
    /// A flag that must be on and serve a variation; once for each
    #[arg(long = "add-prerequisite", value_name = "FLAG=VARIATION")]
    add_prerequisites: Vec<String>,
    /// A flag that is no condition any more; once for each
    #[arg(long = "remove-prerequisite", value_name = "FLAG")]
    remove_prerequisites: Vec<String>,
    /// Whether LaunchDarkly's SDKs report each evaluation by itself
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    track_events: Option<bool>,
    /// Whether they report each that the fallthrough serves
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    track_events_fallthrough: Option<bool>,
}

/// What a flag is in all environments.
#[derive(Debug, Args)]
#[command(next_help_heading = "Everywhere")]
struct DefinitionArgs {
    /// The flag's name
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// A tag that is added (+TAG or TAG) or removed (-TAG); once for each
    #[arg(long = "tag", value_name = "+TAG|-TAG", allow_hyphen_values = true)]
    tags: Vec<String>,
    /// Whether browsers see it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    client_side: Option<bool>,
    /// Whether mobile applications see it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    mobile: Option<bool>,
    /// Who looks after it; nobody, if it is empty
    #[arg(long)]
    maintainer: Option<String>,
    /// Whether it is meant to be removed one day
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    temporary: Option<bool>,
    /// When a temporary flag is to be gone, e.g. 2027-01-31; not known, if it is empty
    #[arg(long, value_name = "DAY|TIME")]
    temporary_until: Option<String>,
    /// Whether nobody should use it any more
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    deprecated: Option<bool>,
    /// A variation that is added; once for each
    #[arg(long = "add-variation", value_name = "KEY=JSON")]
    add_variations: Vec<String>,
    /// A variation that gets another value; once for each
    #[arg(long = "variation", value_name = "KEY=JSON")]
    variations: Vec<String>,
    /// A variation that nothing uses and that is removed; once for each
    #[arg(long = "remove-variation", value_name = "KEY")]
    remove_variations: Vec<String>,
}

/// Changes a flag.
pub(super) async fn set(args: SetArgs) -> anyhow::Result<()> {
    let (mut definition, mut config) = match &args.instructions {
        Some(path) => from_file(path)?,
        None => (Vec::new(), Vec::new()),
    };
    // What can be wrong here is told before anything is asked of the server.
    definition.extend(args.definition.instructions()?);
    config.extend(args.config.instructions()?);
    let needs_targets = !args.config.remove_targets.is_empty();
    if definition.is_empty() && config.is_empty() && !needs_targets {
        bail!("say what is to be changed: `vexil flag set --help` lists what can be");
    }
    let client = args.common.connection.client()?;
    if config.is_empty() && !needs_targets {
        if args.if_match.is_some() {
            bail!("--if-match is about an environment, and nothing is to be changed in one");
        }
        let project = args.target.find_project(&client).await?;
        ask(&args, &definition, &format!("all environments of {project}"))?;
        let path = format!("/api/v1/projects/{project}/flags/{}{}", args.flag, args.change.query());
        let answer = client.patch(&path, &args.change.body(definition)).await?;
        let columns = [("FLAG", "/flag/key"), ("NAME", "/flag/name")];
        return print_change(args.common.output, &answer, &columns);
    }
    let place = args.target.find(&client).await?;
    let path = format!("{}/flags/{}", place.path(), args.flag);
    if needs_targets {
        let flag = client.get(&path).await?;
        config.splice(0..0, removals(&flag, &args.config.remove_targets)?);
    }
    if definition.is_empty() {
        let path = format!("{path}{}", args.change.query());
        let body = args.change.body(config);
        let conditions = Conditions { comment: None, if_match: args.if_match };
        let answer = client.send(Method::PATCH, &path, Some(&body), &conditions).await?;
        return print_change(args.common.output, &answer, CHANGE_COLUMNS);
    }
    ask(&args, &definition, &format!("all environments of {}", place.project))?;
    let mut changes = json!([
        {"flag": args.flag, "instructions": definition},
        {"flag": args.flag, "environment": place.environment, "instructions": config},
    ]);
    let in_environment = changes.pointer_mut("/1").and_then(Value::as_object_mut);
    if let (Some(version), Some(fields)) = (args.if_match, in_environment) {
        fields.insert("ifVersion".to_owned(), json!(version));
    }
    both(&args, &client, &place.project, changes).await
}

/// Asks, if the flag would be gone.
fn ask(args: &SetArgs, definition: &[Value], place: &str) -> anyhow::Result<()> {
    let kind =
        |instruction: &Value| instruction.get("kind").and_then(Value::as_str).map(str::to_owned);
    let takes_away = |instruction: &Value| {
        matches!(kind(instruction).as_deref(), Some("archiveFlag" | "deleteFlag"))
    };
    if args.change.dry_run || !definition.iter().any(takes_away) {
        return Ok(());
    }
    confirm(&format!("archive or delete 1 flag, `{}`, in {place}", args.flag), args.yes)
}

async fn both(
    args: &SetArgs,
    client: &Client,
    project: &str,
    changes: Value,
) -> anyhow::Result<()> {
    let mut body = Map::new();
    insert_some(&mut body, "comment", args.change.comment.as_deref());
    body.insert("changes".to_owned(), changes);
    let path = format!("/api/v1/projects/{project}/changes{}", args.change.query());
    let answer = client.post(&path, &Value::Object(body)).await?;
    if !is_table(args.common.output) {
        print_value(args.common.output, &answer)?;
        return unconfirmed(&answer);
    }
    let verb = if args.change.dry_run { "would change" } else { "changed" };
    print(&format!("{verb} {}\n", args.flag))?;
    for part in answer.get("changes").and_then(Value::as_array).into_iter().flatten() {
        print_impact(part)?;
    }
    unconfirmed(&answer)
}

/// The instructions of a file, those for the definition and the others.
fn from_file(path: &Path) -> anyhow::Result<(Vec<Value>, Vec<Value>)> {
    let is_definition = |instruction: &Value| {
        let kind = instruction.get("kind").and_then(Value::as_str).unwrap_or_default();
        DEFINITION_INSTRUCTION_KINDS.contains(&kind)
    };
    Ok(read_instructions(path)?.into_iter().partition(is_definition))
}

/// Takes keys from the targets of whichever variations have them.
fn removals(flag: &Value, keys: &[String]) -> anyhow::Result<Vec<Value>> {
    let list = |value: &Value, name: &str| -> Vec<Value> {
        value.get(name).and_then(Value::as_array).cloned().unwrap_or_default()
    };
    let mut targets = list(flag, "targets");
    targets.extend(list(flag, "contextTargets"));
    let variations = list(flag, "variations");
    let mut removals = Vec::new();
    for text in keys {
        let (kind, key) = words::context_key(text);
        let has = |target: &&Value| {
            target.get("contextKind").and_then(Value::as_str).unwrap_or("user") == kind
                && list(target, "values").iter().any(|value| value.as_str() == Some(key))
        };
        let Some(target) = targets.iter().find(has) else {
            bail!("the {kind} `{key}` is no target of the flag");
        };
        let index = target.get("variation").and_then(Value::as_u64).unwrap_or_default();
        let variation =
            usize::try_from(index).ok().and_then(|index| variations.get(index)?.get("key"));
        removals.push(json!({"kind": "removeTargets", "variation": variation,
            "contextKind": kind, "values": [key]}));
    }
    Ok(removals)
}

fn assigned<'t>(text: &'t str, form: &str) -> anyhow::Result<(&'t str, &'t str)> {
    text.rsplit_once('=').with_context(|| format!("`{text}` must be {form}"))
}

impl ConfigArgs {
    fn instructions(&self) -> anyhow::Result<Vec<Value>> {
        let mut list = Vec::new();
        if self.off {
            list.push(json!({"kind": "turnFlagOff"}));
        }
        if let Some(variation) = &self.off_variation {
            list.push(json!({"kind": "updateOffVariation", "variation": variation}));
        }
        for key in &self.remove_prerequisites {
            list.push(json!({"kind": "removePrerequisite", "key": key}));
        }
        for text in &self.add_prerequisites {
            let (key, variation) = assigned(text, "FLAG=VARIATION")?;
            list.push(json!({"kind": "addPrerequisite", "key": key, "variation": variation}));
        }
        for text in &self.add_targets {
            let (context, variation) = assigned(text, "KIND:KEY=VARIATION")?;
            let (kind, key) = words::context_key(context);
            list.push(json!({"kind": "addTargets", "variation": variation, "contextKind": kind,
                "values": [key]}));
        }
        for id in &self.remove_rules {
            list.push(json!({"kind": "removeRule", "ruleId": id}));
        }
        for text in &self.rules {
            let (clauses, result) = words::rule(text)?;
            let result = result.with_context(|| {
                format!("the rule `{text}` must say what is served, like `=> on`")
            })?;
            let mut rule = words::serve(result)?;
            rule.insert("kind".to_owned(), json!("addRule"));
            rule.insert("clauses".to_owned(), Value::Array(clauses));
            list.push(Value::Object(rule));
        }
        list.extend(self.fallthrough()?);
        let all = ("updateTrackEvents", self.track_events);
        let of_fallthrough = ("updateTrackEventsFallthrough", self.track_events_fallthrough);
        for (kind, is_tracked) in [all, of_fallthrough] {
            let instruction = |is_tracked| json!({"kind": kind, "trackEvents": is_tracked});
            list.extend(is_tracked.map(instruction));
        }
        if self.on {
            list.push(json!({"kind": "turnFlagOn"}));
        }
        Ok(list)
    }

    fn fallthrough(&self) -> anyhow::Result<Option<Value>> {
        let mut fields = Map::new();
        match (&self.fallthrough, &self.rollout) {
            (Some(variation), _) => {
                fields.insert("variation".to_owned(), json!(variation));
            }
            (_, Some(weights)) => {
                fields.insert("rolloutWeights".to_owned(), words::weights(weights)?);
                if let Some(by) = &self.by {
                    words::divide_by(&mut fields, by)?;
                }
            }
            (None, None) => return Ok(None),
        }
        fields.insert("kind".to_owned(), json!("updateFallthroughVariationOrRollout"));
        Ok(Some(Value::Object(fields)))
    }
}

impl DefinitionArgs {
    fn instructions(&self) -> anyhow::Result<Vec<Value>> {
        let mut list = Vec::new();
        let texts = [("updateName", &self.name), ("updateDescription", &self.description)];
        for (kind, text) in texts {
            list.extend(text.as_ref().map(|text| json!({"kind": kind, "value": text})));
        }
        match self.maintainer.as_deref() {
            Some("") => list.push(json!({"kind": "removeMaintainer"})),
            Some(text) => list.push(json!({"kind": "updateMaintainerMember", "value": text})),
            None => {}
        }
        list.extend(tags(&self.tags)?);
        let availability =
            [("usingEnvironmentId", self.client_side), ("usingMobileKey", self.mobile)];
        for (value, wanted) in availability {
            list.extend(wanted.map(|is_on| {
                let word = if is_on { "On" } else { "Off" };
                json!({"kind": format!("turn{word}ClientSideAvailability"), "value": value})
            }));
        }
        let switches = [
            (self.temporary, "makeFlagTemporary", "makeFlagPermanent"),
            (self.deprecated, "deprecateFlag", "restoreDeprecatedFlag"),
        ];
        for (wanted, yes, no) in switches {
            list.extend(wanted.map(|is_so| json!({"kind": if is_so { yes } else { no }})));
        }
        match self.temporary_until.as_deref() {
            Some("") => list.push(json!({"kind": "removeTemporaryUntil"})),
            Some(text) => list.push(json!({"kind": "updateTemporaryUntil", "value": text})),
            None => {}
        }
        for text in &self.add_variations {
            let (key, value) = variation(text)?;
            list.push(json!({"kind": "addVariation", "key": key, "value": value}));
        }
        for text in &self.variations {
            let (key, value) = variation(text)?;
            list.push(json!({"kind": "updateVariation", "variation": key, "value": value}));
        }
        for key in &self.remove_variations {
            list.push(json!({"kind": "removeVariation", "variation": key}));
        }
        Ok(list)
    }
}

/// Reads tags that are added and removed.
pub(in crate::cli) fn tags(texts: &[String]) -> anyhow::Result<Vec<Value>> {
    let (removed, added): (Vec<&str>, Vec<&str>) =
        texts.iter().map(String::as_str).partition(|text| text.starts_with('-'));
    let names = |texts: Vec<&str>, sign: char| -> anyhow::Result<Vec<String>> {
        let name = |text: &str| text.strip_prefix(sign).unwrap_or(text).to_owned();
        let names: Vec<String> = texts.into_iter().map(name).collect();
        if names.iter().any(String::is_empty) {
            bail!("--tag must be +TAG or -TAG");
        }
        Ok(names)
    };
    let mut list = Vec::new();
    for (kind, names) in [("addTags", names(added, '+')?), ("removeTags", names(removed, '-')?)] {
        if !names.is_empty() {
            list.push(json!({"kind": kind, "values": names}));
        }
    }
    Ok(list)
}
