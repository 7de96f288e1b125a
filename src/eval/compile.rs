//! From a stored flag to the form that is evaluated.
//!
//! Compiling never fails: what makes no sense becomes a part that yields an error outcome when an evaluation reaches it.

use crate::eval::clause::CompiledClause;
use crate::model::context::AttributeRef;
use crate::model::flag::ClientSideAvailability;
use crate::model::flag::FlagDefinition;
use crate::model::key::FlagKey;
use crate::model::key::VariationKey;
use crate::model::rule::FlagConfig;
use crate::model::rule::Rollout;
use crate::model::rule::Target;
use crate::model::rule::USER_KIND;
use crate::model::rule::VariationOrRollout;
use serde_json::value::RawValue;
use std::collections::HashSet;

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
    pub(crate) is_on: bool,
    pub(crate) variations: Vec<CompiledVariation>,
    pub(crate) off_variation: Option<i64>,
    pub(crate) prerequisites: Vec<(FlagKey, i64)>,
    pub(crate) targets: Vec<CompiledTarget>,
    pub(crate) rules: Vec<CompiledRule>,
    pub(crate) fallthrough: Serve,
}

/// A value that a flag can take, rendered.
#[derive(Debug)]
pub struct CompiledVariation {
    /// Its key, which OFREP calls `variant`.
    pub key: VariationKey,
    json: Box<RawValue>,
}

impl CompiledVariation {
    /// The value as JSON text.
    pub fn json(&self) -> &RawValue {
        &self.json
    }
}

#[derive(Debug)]
pub(crate) struct CompiledTarget {
    pub(crate) kind: String,
    pub(crate) keys: HashSet<String>,
    pub(crate) variation: i64,
}

#[derive(Debug)]
pub(crate) struct CompiledRule {
    pub(crate) id: String,
    pub(crate) clauses: Vec<CompiledClause>,
    pub(crate) serve: Serve,
}

/// What a rule or the fallthrough leads to.
#[derive(Debug)]
pub(crate) enum Serve {
    Variation(i64),
    Rollout(CompiledRollout),
    /// Neither a variation nor a rollout, or one that makes no sense.
    Malformed,
}

#[derive(Debug)]
pub(crate) struct CompiledRollout {
    pub(crate) kind: String,
    pub(crate) bucket_by: AttributeRef,
    pub(crate) prefix: String,
    /// The first slot after each slice, and the slice's variation; at least one.
    pub(crate) slices: Vec<(u32, i64)>,
    pub(crate) last_variation: i64,
}

/// Compiles a flag of one environment.
pub fn compile(definition: &FlagDefinition, config: &FlagConfig, version: i64) -> CompiledFlag {
    let fallthrough = Serve::new(&config.fallthrough, &definition.key, &config.salt);
    let targets = compile_targets(config);
    CompiledFlag {
        key: definition.key.clone(),
        version,
        client_side_availability: definition.client_side_availability,
        is_static: config.prerequisites.is_empty()
            && targets.is_empty()
            && config.rules.is_empty()
            && matches!(fallthrough, Serve::Variation(_)),
        is_on: config.on,
        variations: definition
            .variations
            .iter()
            .map(|variation| CompiledVariation {
                key: variation.key.clone(),
                // OK because what a JSON value writes is JSON.
                json: RawValue::from_string(variation.value.to_string()).unwrap_or_default(),
            })
            .collect(),
        off_variation: config.off_variation,
        prerequisites: config
            .prerequisites
            .iter()
            .map(|prerequisite| (prerequisite.key.clone(), prerequisite.variation))
            .collect(),
        targets,
        rules: config
            .rules
            .iter()
            .map(|rule| CompiledRule {
                id: rule.id.clone(),
                clauses: rule.clauses.iter().map(CompiledClause::new).collect(),
                serve: Serve::new(&rule.serve, &definition.key, &config.salt),
            })
            .collect(),
        fallthrough,
    }
}

/// Puts both lists of targets into one, in the order in which they are tried.
fn compile_targets(config: &FlagConfig) -> Vec<CompiledTarget> {
    let compiled = |kind: &str, target: &Target| CompiledTarget {
        kind: kind.to_owned(),
        keys: target.values.iter().cloned().collect(),
        variation: target.variation,
    };
    if config.context_targets.is_empty() {
        return config.targets.iter().map(|target| compiled(USER_KIND, target)).collect();
    }
    let is_user =
        |target: &Target| target.context_kind.is_empty() || target.context_kind == USER_KIND;
    let resolve = |entry: &Target| {
        if is_user(entry) && entry.values.is_empty() {
            let same = config.targets.iter().find(|target| target.variation == entry.variation);
            return same.map(|target| compiled(USER_KIND, target));
        }
        let kind = if is_user(entry) { USER_KIND } else { &entry.context_kind };
        Some(compiled(kind, entry))
    };
    config.context_targets.iter().filter_map(resolve).collect()
}

impl Serve {
    fn new(serve: &VariationOrRollout, key: &FlagKey, salt: &str) -> Self {
        match (serve.variation, &serve.rollout) {
            (Some(variation), _) => Self::Variation(variation),
            (None, Some(rollout)) => {
                let own = format!("{key}.{salt}.");
                CompiledRollout::new(rollout, own).map_or(Self::Malformed, Self::Rollout)
            }
            (None, None) => Self::Malformed,
        }
    }
}

impl CompiledRollout {
    fn new(rollout: &Rollout, own_prefix: String) -> Option<Self> {
        let mut end = 0_u32;
        let mut slices = Vec::with_capacity(rollout.variations.len());
        for slice in &rollout.variations {
            end = end.saturating_add(slice.weight_milli_pct);
            slices.push((end, slice.variation));
        }
        Some(Self {
            kind: kind_or_user(&rollout.context_kind).to_owned(),
            bucket_by: bucket_attribute(&rollout.context_kind, &rollout.bucket_by)?,
            prefix: rollout.seed.map_or(own_prefix, |seed| format!("{seed}.")),
            last_variation: slices.last()?.1,
            slices,
        })
    }

    /// The variation that owns a slot; weights that sum to less than the ring leave the rest to the last one.
    pub(crate) fn variation_at(&self, slot: u32) -> i64 {
        let owner = self.slices.iter().find(|(end, _)| slot < *end);
        owner.map_or(self.last_variation, |(_, variation)| *variation)
    }
}

/// The kind of context that is meant; none named means `user`.
pub(crate) fn kind_or_user(kind: &str) -> &str {
    if kind.is_empty() { USER_KIND } else { kind }
}

/// The attribute that is hashed; none named means the key, and without a kind (old data) the name is plain.
pub(crate) fn bucket_attribute(kind: &str, bucket_by: &str) -> Option<AttributeRef> {
    match (bucket_by.is_empty(), kind.is_empty()) {
        (true, _) => Some(AttributeRef::key()),
        (false, true) => Some(AttributeRef::literal(bucket_by)),
        (false, false) => AttributeRef::parse(bucket_by),
    }
}
