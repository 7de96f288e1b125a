//! A flag's configuration in one environment: who gets which variation.
//!
//! The names and shapes are LaunchDarkly's, so that the same JSON serves the admin API, export files and LaunchDarkly's
//! streams. Types here admit what older versions or other servers may have written (an index out of range, an operator that
//! nobody knows): `eval` gives all of it a meaning, `change` refuses it when it is written.

use crate::model::flag::FlagDefinition;
use crate::model::flag::size_problem;
use crate::model::key::FlagKey;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;
use utoipa::ToSchema;

/// The weights of a rollout sum to this: one unit is a thousandth of a percent.
pub const WEIGHT_TOTAL: u32 = 100_000;
/// The kind of context that is meant where none is named.
pub const USER_KIND: &str = "user";

/// A flag's configuration in one environment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct FlagConfig {
    /// While `false`, everyone gets the off variation.
    pub on: bool,
    /// Flags that must serve a given variation first.
    pub prerequisites: Vec<Prerequisite>,
    /// Keys of user contexts that get a variation.
    pub targets: Vec<Target>,
    /// Keys of contexts of any kind; an entry of kind `user` without values stands for the entry of `targets` with the same
    /// variation.
    pub context_targets: Vec<Target>,
    /// Tried in order; the first that matches decides.
    pub rules: Vec<Rule>,
    /// What everyone else gets.
    pub fallthrough: VariationOrRollout,
    /// The index of the variation that is served while the flag is off; `None` serves no value.
    pub off_variation: Option<i64>,
    /// Mixed into the hash of rollouts, so that environments are independent of each other.
    pub salt: String,
    /// Whether LaunchDarkly's SDKs report each evaluation as an event.
    #[serde(skip_serializing_if = "is_default")]
    pub track_events: bool,
    /// Whether they do so for those that the fallthrough serves.
    #[serde(skip_serializing_if = "is_default")]
    pub track_events_fallthrough: bool,
}

impl FlagConfig {
    /// Says what is wrong if the configuration is larger than it may be.
    pub fn size_problem(&self) -> Option<String> {
        size_problem(self)
    }

    /// Gives every clause an id, for people who want to name it.
    pub fn name_clauses(&mut self) {
        self.rules.iter_mut().for_each(|rule| name_clauses(&mut rule.clauses));
    }

    /// The configuration that a flag starts with in an environment: off, and ready to serve its default to everyone.
    ///
    /// The salt is derived and not random, so that the same flag in the same project and environment places users alike
    /// in every installation.
    pub fn initial(definition: &FlagDefinition, salt: String) -> Self {
        let index_of =
            |key: &str| definition.variation_index(key).and_then(|i| i64::try_from(i).ok());
        Self {
            fallthrough: VariationOrRollout {
                variation: index_of(definition.defaults.on_variation.as_str()),
                rollout: None,
            },
            off_variation: index_of(definition.defaults.off_variation.as_str()),
            salt,
            ..Self::default()
        }
    }
}

/// A flag that must serve a given variation before this one is considered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Prerequisite {
    /// The other flag.
    pub key: FlagKey,
    /// The index of the variation that it must serve.
    #[serde(default)]
    pub variation: i64,
}

/// Contexts that get a variation because of their key.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Target {
    /// The kind of the contexts; empty means `user`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_kind: String,
    /// The keys of the contexts.
    pub values: Vec<String>,
    /// The index of the variation.
    pub variation: i64,
}

/// If all clauses match, the context gets a variation or takes part in a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Rule {
    /// Unique in the flag; stays with the rule when rules are reordered.
    pub id: String,
    /// For people; may be empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// All must match; a rule without clauses matches everyone.
    pub clauses: Vec<Clause>,
    /// What is served.
    #[serde(flatten)]
    pub serve: VariationOrRollout,
    /// Whether LaunchDarkly's SDKs report each evaluation that it decides as an event.
    #[serde(rename = "trackEvents", skip_serializing_if = "is_default")]
    pub track_events: bool,
}

/// A test of one attribute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Clause {
    /// Unique in the rule. Absent for a clause that has kept its first place; see [`name_clauses`].
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// The kind of the context that has the attribute. Empty (in old data) means `user`, and that `attribute` is a plain name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_kind: String,
    /// A plain name, or a path that starts with `/`.
    pub attribute: String,
    /// The operator's name; `eval` knows which there are.
    pub op: String,
    /// The clause matches if the operator holds for any of these.
    pub values: Vec<Value>,
    /// Inverts the result, except where the attribute is absent.
    pub negate: bool,
}

/// Gives each clause of a rule that has none an id, made from its place, or from the next one whose id no other clause has.
///
/// Instructions do this before they move or change clauses, so that an id that was shown once stays with its clause.
pub fn name_clauses(clauses: &mut [Clause]) {
    let mut taken: BTreeSet<String> = clauses.iter().map(|clause| clause.id.clone()).collect();
    for (i, clause) in clauses.iter_mut().enumerate().filter(|(_, clause)| clause.id.is_empty()) {
        let mut place = i + 1;
        while !taken.insert(format!("clause-{place}")) {
            place += 1;
        }
        clause.id = format!("clause-{place}");
    }
}

/// Either a fixed variation or a percentage rollout; if both are there, the variation wins.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct VariationOrRollout {
    /// The index of the variation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variation: Option<i64>,
    /// How contexts are divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// Divides contexts among variations by a hash of one attribute.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Rollout {
    /// Whether it is an experiment.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: RolloutKind,
    /// How a context is placed on the ring.
    #[serde(skip_serializing_if = "is_default")]
    pub hash: RolloutHash,
    /// The kind of the context whose attribute is hashed; empty means `user`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub context_kind: String,
    /// The attribute that is hashed; empty means `key`. Experiments hash the key whatever it says.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub bucket_by: String,
    /// Replaces flag key and salt in the hash, so that several flags can divide alike.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// Slices of a ring of [`WEIGHT_TOTAL`] slots, in order. A variation may own several.
    pub variations: Vec<Slice>,
}

/// A stretch of a rollout's ring that belongs to one variation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Slice {
    /// The index of the variation.
    pub variation: i64,
    /// How many slots, in thousandths of a percent.
    #[serde(rename = "weight")]
    pub weight_milli_pct: u32,
    /// Whether the contexts in it are left out of the experiment that the rollout is.
    #[serde(skip_serializing_if = "is_default")]
    pub untracked: bool,
}

/// What a rollout is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutKind {
    /// Contexts are measured: they are divided by their key, and the reason says that they take part.
    Experiment,
    /// Contexts are divided, and that is all; also whatever kind a later version may invent.
    #[default]
    #[serde(other)]
    Rollout,
}

/// How a context is placed on a rollout's ring.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RolloutHash {
    /// MurmurHash3, exact to the slot.
    #[default]
    Murmur3,
    /// SHA-1 in single precision, as LaunchDarkly's SDKs compute it by themselves.
    Sha1,
}

/// The words for the hashes, as they appear in JSON.
pub const ROLLOUT_HASHES: &[(&str, RolloutHash)] =
    &[("murmur3", RolloutHash::Murmur3), ("sha1", RolloutHash::Sha1)];

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
