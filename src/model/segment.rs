//! A segment: a named set of contexts that rules can refer to, in one environment.
//!
//! Whether a context is in it is decided in `eval`.

use crate::model::key::SegmentKey;
use crate::model::rule::Clause;
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
}
