//! A segment: a named set of contexts that rules can refer to, in one environment.
//!
//! Whether a context is in it is decided in `eval`.

use crate::model::key::SegmentKey;
use crate::model::rule::Clause;
use crate::model::rule::RolloutHash;
use crate::model::rule::is_default;
use crate::model::rule::name_clauses;
use serde::Deserialize;
use serde::Serialize;
use utoipa::ToSchema;

/// A named set of contexts.
///
/// The first of these that applies decides: `included`, `included_contexts`, `excluded`, `excluded_contexts`, `rules`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Segment {
    /// Unique in the environment.
    pub key: SegmentKey,
    /// For people.
    pub name: String,
    /// For people; may be empty.
    #[serde(default)]
    pub description: String,
    /// Free labels, sorted, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Keys of user contexts that are in.
    #[serde(default)]
    pub included: Vec<String>,
    /// Keys of user contexts that are out.
    #[serde(default)]
    pub excluded: Vec<String>,
    /// Keys of contexts of other kinds that are in.
    #[serde(default)]
    pub included_contexts: Vec<SegmentTarget>,
    /// Keys of contexts of other kinds that are out.
    #[serde(default)]
    pub excluded_contexts: Vec<SegmentTarget>,
    /// The context is in if any of these matches.
    #[serde(default)]
    pub rules: Vec<SegmentRule>,
    /// Mixed into the hash of weighted rules.
    #[serde(default)]
    pub salt: String,
    /// Whether LaunchDarkly keeps the keys elsewhere, which is understood but not served: only the rules count.
    #[serde(default, skip_serializing_if = "is_default")]
    pub unbounded: bool,
    /// The kind of the contexts whose keys are kept elsewhere; empty means `user`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub unbounded_context_kind: String,
    /// Which edition of the keys that are kept elsewhere is meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}

impl Segment {
    /// Gives every clause an id, for people who want to name it.
    pub fn name_clauses(&mut self) {
        self.rules.iter_mut().for_each(|rule| name_clauses(&mut rule.clauses));
    }
}

/// Keys of contexts of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SegmentTarget {
    /// The kind of the contexts.
    pub context_kind: String,
    /// Their keys.
    pub values: Vec<String>,
}

/// Contexts for which all clauses match, or a share of them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct SegmentRule {
    /// Unique in the segment.
    pub id: String,
    /// For people; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// All must match.
    pub clauses: Vec<Clause>,
    /// The share of the matching contexts that is in, in thousandths of a percent; absent means all.
    #[serde(rename = "weight", skip_serializing_if = "Option::is_none")]
    pub weight_milli_pct: Option<u32>,
    /// The attribute that is hashed for the share; empty means `key`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bucket_by: String,
    /// The kind of the context that is hashed for the share; empty means `user`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub rollout_context_kind: String,
    /// How a context is placed on the ring of which the share is the beginning.
    ///
    /// Absent means MurmurHash3.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<RolloutHash>,
}
