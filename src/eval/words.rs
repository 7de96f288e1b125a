//! The steps of an explanation in words.

use crate::eval::explain::ClausePlace;
use crate::eval::explain::Step;
use serde::Serialize;
use serde_json::Value;
use std::fmt;
use utoipa::ToSchema;

/// A step with the sentence that tells it.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Told {
    /// The step.
    #[serde(flatten)]
    step: Step,
    /// For people; its wording may change.
    text: String,
}

impl From<Step> for Told {
    fn from(step: Step) -> Self {
        let text = step.to_string();
        Self { step, text }
    }
}

impl fmt::Display for ClausePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag, rule, clause } => {
                write!(f, "flag `{flag}`, rule {rule}, clause {clause}")
            }
            Self::Segment { segment, rule, clause } => {
                write!(f, "segment `{segment}`, rule {rule}, clause {clause}")
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag { flag, on } => {
                write!(f, "flag `{flag}` is {}", if *on { "on" } else { "off" })
            }
            Self::Prerequisite { flag, key, wanted, served, is_fulfilled } => {
                let is_fulfilled = if *is_fulfilled { "is fulfilled" } else { "failed" };
                write!(
                    f,
                    "flag `{flag}`: the prerequisite `{key}` {is_fulfilled}: it must be on and serve "
                )?;
                write!(f, "variation {wanted}, and serves {}", or_nothing(served.as_ref()))
            }
            Self::Target { flag, context_kind, key, variation, is_match } => {
                let key =
                    key.as_ref().map_or_else(|| "no key".to_owned(), |key| format!("`{key}`"));
                let is_match = if *is_match { "is" } else { "is not" };
                write!(
                    f,
                    "flag `{flag}`: {context_kind} {key} {is_match} among the targets of variation {variation}"
                )
            }
            Self::Clause { .. } => self.write_clause(f),
            Self::Segment { segment, is_in, because } => {
                write!(f, "segment `{segment}`: {}, because {because}", in_or_out(*is_in))
            }
            Self::Share { segment, rule, bucket, to, is_in } => {
                let bucket = bucket.map_or_else(|| "nowhere".to_owned(), |at| format!("at {at}"));
                let is_in = in_or_out(*is_in);
                write!(
                    f,
                    "segment `{segment}`, rule {rule}: falls {bucket}, {is_in} the share up to {to}"
                )
            }
            Self::Rule { flag, rule, id, is_match } => {
                let is_match = if *is_match { "matches" } else { "does not match" };
                write!(f, "flag `{flag}`, rule {rule} ({id}): {is_match}")
            }
            Self::Rollout { .. } => self.write_rollout(f),
            Self::Result { flag, variation, reason } => {
                write!(f, "flag `{flag}`: {reason}, serves {}", or_nothing(variation.as_ref()))
            }
        }
    }
}

impl Step {
    fn write_clause(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Clause { place, context_kind, attribute, found, segments, op, negate, is_match } =
            self
        else {
            return Ok(());
        };
        write!(f, "{place}: ")?;
        if let Some(attribute) = attribute {
            let kind = context_kind.as_ref().map(|kind| format!("{kind} ")).unwrap_or_default();
            write!(f, "{kind}{attribute} is {}, ", or_absent(found.as_ref()))?;
        }
        let op = if op.is_empty() { "an unknown operator" } else { op };
        write!(f, "{}{op}", if *negate { "not " } else { "" })?;
        if !segments.is_empty() {
            write!(f, " `{}`", segments.join("`, `"))?;
        }
        f.write_str(match is_match {
            Some(true) => ": matches",
            Some(false) => ": does not match",
            None => ": makes no sense",
        })
    }

    fn write_rollout(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Rollout {
            flag,
            context_kind,
            attribute,
            value,
            bucket,
            slice,
            from,
            to,
            variation,
            ..
        } = self
        else {
            return Ok(());
        };
        let value = or_absent(value.as_ref());
        write!(f, "flag `{flag}`: {context_kind} {attribute} {value} falls at {bucket} ")?;
        write!(f, "into slice {slice} from {from} to {to}, of variation {variation}")
    }
}

fn or_nothing(variation: Option<&usize>) -> String {
    variation.map_or_else(|| "nothing".to_owned(), |index| format!("variation {index}"))
}

fn or_absent(value: Option<&Value>) -> String {
    value.filter(|value| !value.is_null()).map_or_else(|| "absent".to_owned(), Value::to_string)
}

fn in_or_out(is_in: Option<bool>) -> &'static str {
    match is_in {
        Some(true) => "in",
        Some(false) => "not in",
        None => "cannot tell whether in",
    }
}
