//! `vexil segment set`: any change of a segment, from a shell.

use super::CHANGE_COLUMNS;
use super::member_instructions;
use super::rule;
use super::segment_key;
use crate::cli::Common;
use crate::cli::change::ChangeArgs;
use crate::cli::change::print_change;
use crate::cli::change::read_instructions;
use crate::cli::flag::tags;
use crate::cli::target::Target;
use crate::model::key::SegmentKey;
use anyhow::bail;
use clap::Args;
use serde_json::Value;
use serde_json::json;
use std::path::PathBuf;

/// What is to be changed about which segment.
#[derive(Debug, Args)]
pub(in crate::cli) struct SetArgs {
    /// The segment
    #[arg(value_parser = segment_key)]
    segment: SegmentKey,
    /// For people
    #[arg(long)]
    name: Option<String>,
    /// What it is for
    #[arg(long)]
    description: Option<String>,
    /// A tag that is added (+TAG or TAG) or removed (-TAG); once for each
    #[arg(long = "tag", value_name = "+TAG|-TAG", allow_hyphen_values = true)]
    tags: Vec<String>,
    /// A context that is in it, e.g. ann or organization:acme; once for each
    #[arg(long = "include", value_name = "KIND:KEY")]
    included: Vec<String>,
    /// A context that is not in it, whatever the rules say; once for each
    #[arg(long = "exclude", value_name = "KIND:KEY")]
    excluded: Vec<String>,
    /// A rule that is added last, e.g. 'user.plan in gold' or 'user.plan in gold => 50'; once for each
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<String>,
    /// The id of a rule that is removed; once for each
    #[arg(long = "remove-rule", value_name = "ID")]
    remove_rules: Vec<String>,
    /// A file of YAML or JSON with any instructions, or - for standard input; they come first
    #[arg(long, value_name = "FILE")]
    instructions: Option<PathBuf>,
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    common: Common,
}

/// Changes a segment.
pub(super) async fn set(args: SetArgs) -> anyhow::Result<()> {
    let instructions = args.read()?;
    if instructions.is_empty() {
        bail!("say what is to be changed: `vexil segment set --help` lists what can be");
    }
    let client = args.common.connection.client()?;
    let path = args.target.find(&client).await?.path();
    let path = format!("{path}/segments/{}{}", args.segment, args.change.query());
    let answer = client.patch(&path, &args.change.body(instructions)).await?;
    print_change(args.common.output, &answer, CHANGE_COLUMNS)
}

impl SetArgs {
    fn read(&self) -> anyhow::Result<Vec<Value>> {
        let mut list = match &self.instructions {
            Some(path) => read_instructions(path)?,
            None => Vec::new(),
        };
        let texts = [("updateName", &self.name), ("updateDescription", &self.description)];
        for (kind, text) in texts {
            list.extend(text.as_ref().map(|text| json!({"kind": kind, "value": text})));
        }
        list.extend(tags(&self.tags)?);
        list.extend(member_instructions("add", "Included", &self.included));
        list.extend(member_instructions("add", "Excluded", &self.excluded));
        for id in &self.remove_rules {
            list.push(json!({"kind": "removeRule", "ruleId": id}));
        }
        for text in &self.rules {
            let mut rule = rule(text)?;
            if let Some(fields) = rule.as_object_mut() {
                fields.insert("kind".to_owned(), json!("addRule"));
            }
            list.push(rule);
        }
        Ok(list)
    }
}
