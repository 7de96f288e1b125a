//! From a stored flag to the form that is evaluated.
//!
//! Compiling never fails: what makes no sense becomes a part that yields an error outcome when an evaluation reaches it.

use crate::eval::Reason;
use crate::eval::clause::CompiledClause;
use crate::eval::key_set::KeySet;
use crate::eval::rollout::CompiledRollout;
use crate::eval::rollout::index_or_none;
use crate::eval::rollout::kind_or_user;
use crate::eval::usage::Usage;
use crate::model::context::KindRef;
use crate::model::flag::ClientSideAvailability;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::VariationKey;
use crate::model::rule::FlagConfig;
use crate::model::rule::Target;
use crate::model::rule::USER_KIND;
use crate::model::rule::VariationOrRollout;
use serde_json::value::RawValue;
use std::sync::Arc;

/// A flag of one environment, ready to be evaluated.
#[derive(Debug)]
pub struct CompiledFlag {
    /// Its key.
    pub key: FlagKey,
    /// The environment's version at which it last changed.
    pub version: i64,
    /// Which client-side SDKs may see it.
    pub client_side_availability: ClientSideAvailability,
    /// Whether everyone gets the same variation while it is on: no prerequisites, targets, rules or rollout.
    pub is_static: bool,
    /// How often it was evaluated for clients; shared, so that it can be read when the flag has been replaced.
    pub usage: Arc<Usage>,
    pub(crate) is_on: bool,
    pub(crate) variations: Box<[CompiledVariation]>,
    pub(crate) off_variation: Option<u32>,
    pub(crate) prerequisites: Box<[CompiledPrerequisite]>,
    pub(crate) targets: Box<[CompiledTarget]>,
    pub(crate) rules: Box<[CompiledRule]>,
    pub(crate) fallthrough: Serve,
    /// Whether SDKs report each evaluation as an event.
    pub track_events: bool,
    track_events_fallthrough: bool,
}

/// A value that a flag can take, rendered.
#[derive(Debug)]
pub struct CompiledVariation {
    /// Its key, which OFREP calls `variant`.
    pub key: VariationKey,
    json: Box<RawValue>,
}

impl CompiledFlag {
    /// The flags that are asked first, in order.
    pub fn prerequisite_keys(&self) -> impl Iterator<Item = &FlagKey> {
        self.prerequisites.iter().map(|prerequisite| &prerequisite.key)
    }

    /// Whether an evaluation with this reason is measured: SDKs report it as an event, with the reason.
    ///
    /// Source: LaunchDarkly's Go SDK, `isExperiment`.
    pub fn is_measured(&self, reason: &Reason<'_>) -> bool {
        let is_tracked = match reason {
            Reason::Fallthrough { .. } => self.track_events_fallthrough,
            Reason::RuleMatch { rule_index, .. } => {
                self.rules.get(*rule_index).is_some_and(|rule| rule.track_events)
            }
            Reason::Off
            | Reason::TargetMatch
            | Reason::PrerequisiteFailed { .. }
            | Reason::Error(_) => false,
        };
        is_tracked || reason.is_in_experiment()
    }

    /// How many variations it has.
    pub fn n_variations(&self) -> usize {
        self.variations.len()
    }

    /// A flag that cannot be read: an error for everyone.
    pub(crate) fn malformed(key: FlagKey) -> Self {
        Self {
            usage: Arc::new(Usage::new(key.clone(), 0, 0)),
            key,
            version: 0,
            client_side_availability: ClientSideAvailability::default(),
            is_static: false,
            is_on: true,
            variations: Box::default(),
            off_variation: None,
            prerequisites: Box::default(),
            targets: Box::default(),
            rules: Box::default(),
            fallthrough: Serve::Malformed,
            track_events: false,
            track_events_fallthrough: false,
        }
    }
}

impl CompiledVariation {
    /// The value as JSON text.
    pub fn json(&self) -> &RawValue {
        &self.json
    }
}

#[derive(Debug)]
pub(crate) struct CompiledPrerequisite {
    pub(crate) key: FlagKey,
    pub(crate) variation: u32,
}

#[derive(Debug)]
pub(crate) struct CompiledTarget {
    pub(crate) kind: KindRef,
    pub(crate) keys: KeySet,
    pub(crate) variation: u32,
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) id: Box<str>,
    pub(crate) clauses: Box<[CompiledClause]>,
    pub(crate) serve: Serve,
    track_events: bool,
}

/// What a rule or the fallthrough leads to.
#[derive(Debug)]
pub(crate) enum Serve {
    Variation(u32),
    Rollout(Box<CompiledRollout>),
    /// Neither a variation nor a rollout, or one that makes no sense.
    Malformed,
}

/// Compiles a flag of one environment.
pub fn compile(definition: &FlagDefinition, config: &FlagConfig, version: i64) -> CompiledFlag {
    let fallthrough = Serve::new(&config.fallthrough, &definition.key, &config.salt);
    let targets = compile_targets(config);
    CompiledFlag {
        key: definition.key.clone(),
        version,
        usage: Arc::new(Usage::new(definition.key.clone(), version, definition.variations.len())),
        client_side_availability: definition.client_side_availability,
        is_static: config.prerequisites.is_empty()
            && targets.is_empty()
            && config.rules.is_empty()
            && matches!(fallthrough, Serve::Variation(_)),
        // What was put away is off for everyone who still asks.
        is_on: config.on && !definition.archived,
        variations: definition
            .variations
            .iter()
            .map(|variation| CompiledVariation {
                key: variation.key.clone(),
                // OK because what a JSON value writes is JSON.
                json: RawValue::from_string(variation.value.to_string()).unwrap_or_default(),
            })
            .collect(),
        off_variation: config.off_variation.map(index_or_none),
        prerequisites: config
            .prerequisites
            .iter()
            .map(|prerequisite| CompiledPrerequisite {
                key: prerequisite.key.clone(),
                variation: index_or_none(prerequisite.variation),
            })
            .collect(),
        targets,
        rules: config
            .rules
            .iter()
            .map(|rule| CompiledRule {
                id: Box::from(rule.id.as_str()),
                clauses: rule.clauses.iter().map(CompiledClause::new).collect(),
                serve: Serve::new(&rule.serve, &definition.key, &config.salt),
                track_events: rule.track_events,
            })
            .collect(),
        fallthrough,
        track_events: config.track_events,
        track_events_fallthrough: config.track_events_fallthrough,
    }
}

/// Puts both lists of targets into one, in the order in which they are tried.
fn compile_targets(config: &FlagConfig) -> Box<[CompiledTarget]> {
    let compiled = |kind: &str, target: &Target| CompiledTarget {
        kind: KindRef::new(kind),
        keys: target.values.iter().map(String::as_str).collect(),
        variation: index_or_none(target.variation),
    };
    if config.context_targets.is_empty() {
        return config.targets.iter().map(|target| compiled(USER_KIND, target)).collect();
    }
    let is_user = |target: &Target| kind_or_user(&target.context_kind) == USER_KIND;
    let resolve = |entry: &Target| {
        if is_user(entry) && entry.values.is_empty() {
            let same = config.targets.iter().find(|target| target.variation == entry.variation);
            return same.map(|target| compiled(USER_KIND, target));
        }
        Some(compiled(kind_or_user(&entry.context_kind), entry))
    };
    config.context_targets.iter().filter_map(resolve).collect()
}

impl Serve {
    fn new(serve: &VariationOrRollout, key: &FlagKey, salt: &str) -> Self {
        match (serve.variation, &serve.rollout) {
            (Some(variation), _) => Self::Variation(index_or_none(variation)),
            (None, Some(rollout)) => {
                let own = format!("{key}.{salt}.");
                let compiled = CompiledRollout::new(rollout, &own);
                compiled.map_or(Self::Malformed, |compiled| Self::Rollout(Box::new(compiled)))
            }
            (None, None) => Self::Malformed,
        }
    }
}
