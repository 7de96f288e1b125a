//! What a change did or would do, as it is told.

use crate::change::Difference;
use crate::change::Moved;
use crate::control::Dependency;
use crate::control::PartChanged;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// What a change means.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImpactBody {
    /// What was done, in words; empty if everything was so already.
    changes: Vec<String>,
    /// How many of those whom the fallthrough serves get another variation, if it was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    moved: Option<MovedBody>,
    /// The same for each rule that leads elsewhere.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rules_moved: Vec<RuleMoved>,
    /// What is allowed but cannot be meant.
    warnings: Vec<String>,
    /// What differs; in the answer to a dry run only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    diff: Vec<Difference>,
    /// The flags and segments that depend on it; in the answer to a dry run only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    dependants: Vec<DependencyBody>,
    /// The flags and segments that it depends on; in the answer to a dry run only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    depends_on: Vec<DependencyBody>,
}

/// How many contexts get another variation, in thousandths of a percent.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct MovedBody {
    moved: u32,
    /// The share of each variation before.
    from: BTreeMap<String, u32>,
    /// The share of each variation after.
    to: BTreeMap<String, u32>,
    /// Between which variations they move.
    between: Vec<PairBody>,
}

/// A share of all contexts that goes from one variation to another.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PairBody {
    from: String,
    to: String,
    moved: u32,
}

/// How many of those whom a rule serves get another variation.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RuleMoved {
    rule_id: String,
    #[serde(flatten)]
    moved: MovedBody,
}

/// A flag or a segment of an environment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DependencyBody {
    environment: EnvKey,
    #[serde(skip_serializing_if = "Option::is_none")]
    flag: Option<FlagKey>,
    #[serde(skip_serializing_if = "Option::is_none")]
    segment: Option<SegmentKey>,
}

impl MovedBody {
    fn new(moved: Moved, definition: &FlagDefinition) -> Self {
        let named = |shares: BTreeMap<i64, u32>| {
            let name = |(index, share)| (definition.variation_name(index), share);
            shares.into_iter().map(name).collect()
        };
        let pair = |((from, to), moved): ((i64, i64), u32)| PairBody {
            from: definition.variation_name(from),
            to: definition.variation_name(to),
            moved,
        };
        Self {
            moved: moved.moved_milli_pct,
            from: named(moved.from),
            to: named(moved.to),
            between: moved.between.into_iter().map(pair).collect(),
        }
    }
}

impl From<Dependency> for DependencyBody {
    fn from(dependency: Dependency) -> Self {
        let (environment, flag, segment) = match dependency {
            Dependency::Flag(environment, key) => (environment, Some(key), None),
            Dependency::Segment(environment, key) => (environment, None, Some(key)),
        };
        Self { environment, flag, segment }
    }
}

impl ImpactBody {
    /// Names variations by the keys that the flag has; a change of a segment has none to name.
    pub(crate) fn new(done: PartChanged, definition: Option<&FlagDefinition>) -> Self {
        let named = |moved| definition.map(|definition| MovedBody::new(moved, definition));
        let rule =
            |(rule_id, moved): (String, Moved)| Some(RuleMoved { rule_id, moved: named(moved)? });
        Self {
            changes: done.changes,
            moved: done.moved.and_then(named),
            rules_moved: done.rules_moved.into_iter().filter_map(rule).collect(),
            warnings: done.warnings,
            diff: done.differences,
            dependants: done.dependants.into_iter().map(DependencyBody::from).collect(),
            depends_on: done.depends_on.into_iter().map(DependencyBody::from).collect(),
        }
    }
}
