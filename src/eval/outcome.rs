//! What an evaluation yields: a variation, if there is one, and the reason.

use crate::eval::CompiledVariation;
use serde::Serialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

/// The result of evaluating one flag for one context, borrowed from the ruleset.
#[derive(Debug, Clone, Copy)]
pub struct Outcome<'r> {
    /// The variation and its index; `None` if there is no value, and the caller uses the default in its own code.
    pub variation: Option<(usize, &'r CompiledVariation)>,
    /// Why.
    pub reason: Reason<'r>,
    /// Whether a percentage rollout chose the variation.
    pub is_split: bool,
    /// Whether a segment was asked whose keys LaunchDarkly keeps elsewhere: only its rules could be looked at.
    pub lacks_big_segments: bool,
}

impl<'r> Outcome<'r> {
    /// The outcome without a value, because of an error.
    pub fn error(kind: ErrorKind) -> Self {
        Self {
            variation: None,
            reason: Reason::Error(kind),
            is_split: false,
            lacks_big_segments: false,
        }
    }

    /// The value as JSON text, if there is one.
    pub fn value(&self) -> Option<&'r RawValue> {
        self.variation.map(|(_, variation)| variation.json())
    }
}

/// Why a variation was chosen.
///
/// Source: LaunchDarkly's evaluation reasons.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason<'r> {
    /// The flag is off.
    Off,
    /// No target and no rule matched.
    Fallthrough {
        /// Whether the context takes part in an experiment.
        in_experiment: bool,
    },
    /// The context's key is listed.
    TargetMatch,
    /// A rule matched.
    RuleMatch {
        /// Its position, from 0.
        rule_index: usize,
        /// Its id.
        rule_id: &'r str,
        /// Whether the context takes part in an experiment.
        in_experiment: bool,
    },
    /// A prerequisite is off, unknown or serves another variation.
    PrerequisiteFailed {
        /// The key of the other flag.
        key: &'r str,
    },
    /// There is no value.
    Error(ErrorKind),
}

impl Reason<'_> {
    /// The same, of a context that takes part in an experiment.
    pub(crate) fn in_experiment(self) -> Self {
        match self {
            Self::RuleMatch { rule_index, rule_id, .. } => {
                Self::RuleMatch { rule_index, rule_id, in_experiment: true }
            }
            Self::Fallthrough { .. } => Self::Fallthrough { in_experiment: true },
            other => other,
        }
    }

    /// Whether the context takes part in an experiment.
    pub fn is_in_experiment(&self) -> bool {
        matches!(
            self,
            Self::RuleMatch { in_experiment: true, .. } | Self::Fallthrough { in_experiment: true }
        )
    }

    /// The reason's name as LaunchDarkly's SDKs know it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Off => "OFF",
            Self::Fallthrough { .. } => "FALLTHROUGH",
            Self::TargetMatch => "TARGET_MATCH",
            Self::RuleMatch { .. } => "RULE_MATCH",
            Self::PrerequisiteFailed { .. } => "PREREQUISITE_FAILED",
            Self::Error(_) => "ERROR",
        }
    }
}

/// A reason as LaunchDarkly's SDKs write it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReasonBody<'a> {
    /// `OFF`, `FALLTHROUGH`, `TARGET_MATCH`, `RULE_MATCH`, `PREREQUISITE_FAILED` or `ERROR`.
    pub kind: &'static str,
    /// The position of the rule that matched, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_index: Option<usize>,
    /// The id of the rule that matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule_id: Option<&'a str>,
    /// The flag that did not serve what was wanted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prerequisite_key: Option<&'a str>,
    /// `true` if the context takes part in an experiment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_experiment: Option<bool>,
    /// `MALFORMED_FLAG`, `FLAG_NOT_FOUND`, `USER_NOT_SPECIFIED` or `EXCEPTION`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_kind: Option<&'static str>,
    /// `NOT_CONFIGURED` if a segment was asked whose keys are kept elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub big_segments_status: Option<&'static str>,
}

impl ReasonBody<'_> {
    /// There is no such flag.
    pub const FLAG_NOT_FOUND: Self = Self::error("FLAG_NOT_FOUND");
    /// The context is not valid, or lacks the key that the flag needs.
    pub const USER_NOT_SPECIFIED: Self = Self::error("USER_NOT_SPECIFIED");

    /// What was asked cannot be read.
    pub const EXCEPTION: Self = Self::error("EXCEPTION");

    const fn error(kind: &'static str) -> Self {
        Self {
            kind: "ERROR",
            rule_index: None,
            rule_id: None,
            prerequisite_key: None,
            in_experiment: None,
            error_kind: Some(kind),
            big_segments_status: None,
        }
    }
}

impl<'r> Outcome<'r> {
    /// The reason as LaunchDarkly's SDKs write it.
    pub fn reason_body(&self) -> ReasonBody<'r> {
        let body = match self.reason {
            Reason::Error(ErrorKind::MalformedFlag) => ReasonBody::error("MALFORMED_FLAG"),
            Reason::Error(ErrorKind::TargetingKeyMissing) => ReasonBody::USER_NOT_SPECIFIED,
            _ => ReasonBody { kind: self.reason.kind(), error_kind: None, ..ReasonBody::error("") },
        };
        let (rule_index, rule_id) = match self.reason {
            Reason::RuleMatch { rule_index, rule_id, .. } => (Some(rule_index), Some(rule_id)),
            _ => (None, None),
        };
        let prerequisite_key = match self.reason {
            Reason::PrerequisiteFailed { key } => Some(key),
            _ => None,
        };
        ReasonBody {
            rule_index,
            rule_id: rule_id.filter(|id| !id.is_empty()),
            prerequisite_key,
            in_experiment: self.reason.is_in_experiment().then_some(true),
            big_segments_status: self.lacks_big_segments.then_some("NOT_CONFIGURED"),
            ..body
        }
    }
}

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The flag's data makes no sense where the evaluation reached it.
    MalformedFlag,
    /// The flag divides contexts by their key, and this one has none.
    TargetingKeyMissing,
}
