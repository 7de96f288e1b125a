//! A project as it is, and what has to change of it.
//!
//! How that is found out is in `plan`.

use crate::change::renumber::Renumbering;
use crate::model::environment::Safety;
use crate::model::environment::ServerSdk;
use crate::model::flag::FlagDefinition;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::problem::Problem;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use serde_json::Value;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// A project as it is.
#[derive(Debug, Clone, Default)]
pub struct Actual {
    /// What it is called; `None` if there is no such project.
    pub name: Option<String>,
    /// Its environments.
    pub environments: BTreeMap<EnvKey, ActualEnvironment>,
    /// Every flag that it has or ever had, and whether it was deleted.
    pub definitions: BTreeMap<FlagKey, (FlagDefinition, bool)>,
}

/// An environment as it is.
#[derive(Debug, Clone, Default)]
pub struct ActualEnvironment {
    /// What it is like.
    pub settings: EnvironmentPlan,
    /// Each flag's configuration, and whether it is killed.
    pub flags: BTreeMap<FlagKey, (FlagConfig, bool)>,
    /// Its segments.
    pub segments: BTreeMap<SegmentKey, Segment>,
}

/// What an owner looks after because it applied it.
#[derive(Debug, Clone, Default)]
pub struct Managed {
    /// Flags.
    pub flags: BTreeSet<FlagKey>,
    /// Segments.
    pub segments: BTreeSet<(EnvKey, SegmentKey)>,
    /// How many of them there are and not archived.
    pub n_live: usize,
}

/// What becomes of the project itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProjectPlan {
    /// It is created with this name.
    Create(String),
    /// It gets this name.
    Rename(String),
}

/// What an environment is like.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EnvironmentPlan {
    /// Whether it has to be created.
    pub is_new: bool,
    /// For people.
    pub name: String,
    /// Which server-side SDKs evaluate it by themselves.
    pub server_sdk: ServerSdk,
    /// How many seconds evaluations go on without confirmation; `None` is for ever.
    pub fail_closed_after_secs: Option<u64>,
    /// What keeps it from being changed by mistake.
    pub safety: Safety,
}

/// What has to change.
#[derive(Debug, Default)]
pub struct StatePlan {
    /// The project itself.
    pub project: Option<ProjectPlan>,
    /// Environments that are new or get other settings.
    pub environments: BTreeMap<EnvKey, EnvironmentPlan>,
    /// Flags that are new.
    pub created: Vec<FlagDefinition>,
    /// Flags that get another definition.
    pub redefined: Vec<FlagDefinition>,
    /// Flags among these that are archived and were not before.
    pub archived: BTreeSet<FlagKey>,
    /// Flags among these whose variations have other numbers than before, and which.
    pub renumbered: BTreeMap<FlagKey, Renumbering>,
    /// Configurations.
    pub configs: BTreeMap<EnvKey, Vec<(FlagKey, FlagConfig)>>,
    /// Segments.
    pub segments: BTreeMap<EnvKey, Vec<Segment>>,
    /// Segments that are deleted.
    pub removed: BTreeMap<EnvKey, Vec<SegmentKey>>,
    /// How many flags are archived and segments deleted because the file has them no more.
    pub n_pruned: usize,
    /// All of it for people.
    pub changes: Vec<PlannedChange>,
    /// What is left alone, and what makes no sense but is kept.
    pub notes: Vec<Problem>,
}

/// A thing that changes.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedChange {
    /// `create`, `update`, `archive` or `delete`.
    pub op: &'static str,
    /// `project`, `environment`, `segment`, `flag` or `configuration`.
    pub kind: &'static str,
    /// Its key.
    pub key: String,
    /// The environment of a segment or configuration.
    pub environment: Option<EnvKey>,
    /// What differs.
    pub details: Vec<PlannedDetail>,
}

/// A field that differs.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedDetail {
    /// The field.
    pub field: String,
    /// How it is.
    pub before: Option<Value>,
    /// How it will be.
    pub after: Option<Value>,
    /// Both in words.
    pub text: String,
}

impl StatePlan {
    /// Whether nothing has to change.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.configs.is_empty()
    }
}
