//! What an evaluation yields: a variation, if there is one, and the reason.

use crate::eval::CompiledVariation;
use serde_json::value::RawValue;

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

/// Why there is no value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The flag's data makes no sense where the evaluation reached it.
    MalformedFlag,
    /// The flag divides contexts by their key, and this one has none.
    TargetingKeyMissing,
}
