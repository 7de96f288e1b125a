//! What holds for every change that is valid.

use crate::change::tests::Surroundings;
use crate::change::tests::config;
use crate::change::tests::definition;
use crate::change::tests::string_flag;
use crate::eval::Reason;
use crate::eval::Ruleset;
use crate::eval::RulesetChange;
use crate::eval::compile;
use crate::eval::compile_segment;
use crate::eval::evaluate;
use crate::model::context::Context;
use crate::model::flag::FlagDefinition;
use crate::model::key::SegmentKey;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::rule::FlagConfig;
use crate::model::rule::VariationOrRollout;
use crate::model::rule::WEIGHT_TOTAL;
use crate::model::segment::Segment;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;

const VARIATIONS: [&str; 3] = ["on", "off", "beta"];
const KINDS: [&str; 3] = ["user", "org", "device"];

/// The environment that a configuration of the flag `f` stands in, compiled.
fn ruleset(config: &FlagConfig) -> Ruleset {
    let on = json!({"on": true, "fallthrough": {"variation": 0}});
    let on: FlagConfig = serde_json::from_value(on).unwrap();
    let compiled = |definition: &FlagDefinition, config: &FlagConfig| {
        (definition.key.clone(), Some(Arc::new(compile(definition, config, 1))))
    };
    let segment = |(key, included): (&str, &str)| {
        let clause = json!({"contextKind": "org", "attribute": "tier", "op": "in", "values": [1]});
        let rules = json!([{"id": "r", "clauses": [clause], "weight": 30_000}]);
        let stored = json!({"key": key, "name": key, "included": [included], "rules": rules});
        let segment: Segment = serde_json::from_value(stored).unwrap();
        (segment.key.clone(), Some(Arc::new(compile_segment(&segment, 1))))
    };
    let others = ["b", "c"].map(|key| compiled(&string_flag(key, &["yes", "no"]), &on));
    let change = RulesetChange {
        flags: others.into_iter().chain([compiled(&definition(), config)]).collect(),
        segments: [("staff", "u1"), ("testers", "u2")].into_iter().map(segment).collect(),
    };
    Ruleset::default().with(1, 1, &change)
}

/// Numbers from which an instruction is made that is valid where it stands.
type Dice = (usize, usize, usize, Vec<u32>);

fn dice() -> impl Strategy<Value = Dice> {
    (0..1_000_usize, 0..1_000_usize, 0..1_000_usize, vec(0..=WEIGHT_TOTAL, 2))
}

/// Knows what an instruction may name.
struct Author {
    rules: Vec<String>,
    n_new_rules: usize,
    prerequisites: BTreeSet<String>,
}

impl Author {
    /// Starts a new list of instructions for a flag that has these rules and prerequisites.
    fn new(config: &FlagConfig) -> Self {
        Self {
            rules: config.rules.iter().map(|rule| rule.id.clone()).collect(),
            n_new_rules: 0,
            prerequisites: config.prerequisites.iter().map(|each| each.key.to_string()).collect(),
        }
    }

    fn instruction(&mut self, (kind, a, b, cuts): &Dice) -> Value {
        let variation = VARIATIONS[a % VARIATIONS.len()];
        let keys = [format!("u{}", b % 5), format!("u{}", a % 7)];
        let context_kind = KINDS[b % KINDS.len()];
        match kind % 12 {
            0 => json!({"kind": "turnFlagOff"}),
            1 | 2 => json!({"kind": "turnFlagOn"}),
            3 => json!({"kind": "updateOffVariation", "variation": variation}),
            4 => with_kind("updateFallthroughVariationOrRollout", serve(*a, *b, cuts)),
            5 | 6 => self.add_rule(*a, *b, cuts),
            7 if !self.rules.is_empty() => {
                let id = self.rules.remove(a % self.rules.len());
                json!({"kind": "removeRule", "ruleId": id})
            }
            8 => json!({
                "kind": "addTargets", "variation": variation, "values": keys,
                "contextKind": context_kind,
            }),
            9 => json!({
                "kind": "removeTargets", "variation": variation, "values": keys,
                "contextKind": context_kind,
            }),
            10 => {
                let key = ["b", "c"][a % 2];
                let variation = ["yes", "no"][b % 2];
                self.prerequisites.insert(key.to_owned());
                json!({"kind": "addPrerequisite", "key": key, "variation": variation})
            }
            11 if !self.prerequisites.is_empty() => {
                let key = self.prerequisites.pop_first();
                json!({"kind": "removePrerequisite", "key": key})
            }
            _ => json!({"kind": "addTargets", "variation": variation, "values": keys}),
        }
    }

    fn add_rule(&mut self, a: usize, b: usize, cuts: &[u32]) -> Value {
        let mut instruction = with_kind("addRule", serve(b, a, cuts));
        let clauses = clauses();
        let n_clauses = a % 3;
        let chosen: Vec<&Value> = clauses.iter().cycle().skip(b).take(n_clauses).collect();
        instruction["clauses"] = json!(chosen);
        if b.is_multiple_of(2) && !self.rules.is_empty() {
            instruction["beforeRuleId"] = json!(self.rules[a % self.rules.len()]);
        }
        self.n_new_rules += 1;
        // The ids of the list before are taken out of the way by `renamed`.
        self.rules.push(format!("new-{}", self.n_new_rules));
        instruction
    }
}

fn with_kind(kind: &str, mut instruction: Value) -> Value {
    instruction["kind"] = json!(kind);
    instruction
}

/// A variation, or weights that sum to the whole.
fn serve(a: usize, b: usize, cuts: &[u32]) -> Value {
    if a.is_multiple_of(3) {
        return json!({"variation": VARIATIONS[b % VARIATIONS.len()]});
    }
    let (low, high) = (cuts[0].min(cuts[1]), cuts[0].max(cuts[1]));
    let mut serve = json!({
        "rolloutWeights": {"beta": high - low, "on": low, "off": WEIGHT_TOTAL - high},
    });
    if b.is_multiple_of(4) {
        serve["rolloutContextKind"] = json!(KINDS[a % KINDS.len()]);
        serve["rolloutBucketBy"] = json!(["plan", "/address/city", "key"][a % 3]);
    }
    serve
}

/// A clause for each operator.
fn clauses() -> [Value; 11] {
    [
        json!({"attribute": "plan", "op": "in", "values": ["gold", 1, null, ["x"]]}),
        json!({"attribute": "plan", "op": "startsWith", "values": ["g"]}),
        json!({"attribute": "/address/city", "op": "endsWith", "values": ["m"]}),
        json!({"attribute": "name", "op": "contains", "values": [""], "negate": true}),
        json!({"contextKind": "org", "attribute": "key", "op": "matches", "values": ["^o\\d"]}),
        json!({"attribute": "n", "op": "lessThan", "values": [5]}),
        json!({"attribute": "n", "op": "lessThanOrEqual", "values": [5.5, -1]}),
        json!({"attribute": "n", "op": "greaterThan", "values": [5], "negate": true}),
        json!({"attribute": "kind", "op": "in", "values": ["org"]}),
        json!({"op": "segmentMatch", "values": ["staff", "testers"]}),
        json!({"attribute": "n", "op": "greaterThanOrEqual", "values": [0]}),
    ]
}

fn contexts() -> Vec<Context> {
    let json = [
        json!({"key": "u1", "plan": "gold", "n": 5}),
        json!({"key": "u2", "plan": ["x"], "n": "5", "address": {"city": "Ulm"}}),
        json!({"kind": "org", "key": "u3", "tier": 1}),
        json!({"kind": "multi", "user": {"key": "u4", "n": -3.5}, "org": {"key": "o1", "tier": 1}}),
        json!({"kind": "robot", "key": "u0"}),
    ];
    json.into_iter().map(|json| Context::decode(json).unwrap()).collect()
}

/// What is true of every configuration that this server has written.
pub(super) fn assert_is_valid(config: &FlagConfig) {
    let serves = config.rules.iter().map(|rule| &rule.serve).chain([&config.fallthrough]);
    for serve in serves {
        let VariationOrRollout { variation, rollout } = serve;
        assert_eq!(variation.is_some(), rollout.is_none());
        let slices = rollout.iter().flat_map(|rollout| &rollout.variations);
        let sum: u32 = slices.clone().map(|slice| slice.weight_milli_pct).sum();
        assert!(rollout.is_none() || sum == WEIGHT_TOTAL, "{serve:?}");
        assert!(slices.clone().all(|slice| slice.weight_milli_pct > 0), "{serve:?}");
        let mut indexes = slices.map(|slice| slice.variation).chain(*variation);
        assert!(indexes.all(|index| (0..3).contains(&index)), "{serve:?}");
    }
    let mut targeted = BTreeSet::new();
    for target in config.targets.iter().chain(&config.context_targets) {
        for value in &target.values {
            let is_new = targeted.insert((target.context_kind.as_str(), value.as_str()));
            assert!(is_new, "{value} has two variations");
        }
    }
    let ids: BTreeSet<&str> = config.rules.iter().map(|rule| rule.id.as_str()).collect();
    assert_eq!(ids.len(), config.rules.len(), "two rules have one id");
    let stored = serde_json::to_string(config).unwrap();
    assert_eq!(serde_json::from_str::<FlagConfig>(&stored).unwrap(), *config);
}

/// The share of each variation.
fn shares(serve: &VariationOrRollout) -> [u32; 3] {
    let slices = serve.rollout.iter().flat_map(|rollout| &rollout.variations);
    let mut shares = [0; 3];
    for slice in slices {
        shares[usize::try_from(slice.variation).unwrap()] += slice.weight_milli_pct;
    }
    shares
}

/// Gives the rules ids that the next list of instructions does not make again.
fn renamed(mut config: FlagConfig, round: usize) -> FlagConfig {
    for rule in &mut config.rules {
        rule.id = format!("round-{round}-{}", rule.id);
    }
    config
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn valid_instructions_lead_to_a_flag_that_evaluates(
        rounds in vec(vec(dice(), 0..12), 1..4),
    ) {
        let surroundings = Surroundings::new();
        let mut before = config(&json!({}));
        for (i, round) in rounds.iter().enumerate() {
            let mut author = Author::new(&before);
            let list: Vec<Value> = round.iter().map(|dice| author.instruction(dice)).collect();
            let applied = surroundings.change(&before, &json!(list));
            let applied = applied.map_err(|problems| TestCaseError::fail(problems.to_string()))?;
            assert_is_valid(&applied.config);
            if applied.changes.is_empty() {
                prop_assert_eq!(&applied.config, &before);
            }
            let ids: Vec<&str> = applied.config.rules.iter().map(|rule| rule.id.as_str()).collect();
            let known: BTreeSet<&str> = author.rules.iter().map(String::as_str).collect();
            prop_assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), known);
            let ruleset = ruleset(&applied.config);
            for context in contexts() {
                let outcome = evaluate(&ruleset, ruleset.flag("f").unwrap(), &context);
                let is_error = matches!(outcome.reason, Reason::Error(_));
                let is_good = !is_error && outcome.variation.is_some();
                prop_assert!(is_good, "{:?} {:?}", outcome, context);
            }
            before = renamed(applied.config, i);
        }
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn whoever_gets_another_variation_leaves_one_that_shrinks_for_one_that_grows(
        steps in vec(vec(0..=WEIGHT_TOTAL, 2), 2..6),
    ) {
        let surroundings = Surroundings::new();
        let users: Vec<Context> = (0..300)
            .map(|i| Context::decode(json!({"key": format!("user-{i}")})).unwrap())
            .collect();
        let served = |config: &FlagConfig| -> Vec<usize> {
            let ruleset = ruleset(config);
            let flag = ruleset.flag("f").unwrap();
            let index = |user| evaluate(&ruleset, flag, user).variation.map(|(index, _)| index);
            users.iter().map(|user| index(user).unwrap()).collect()
        };
        let mut config = config(&json!({"on": true}));
        let mut old_weights = [WEIGHT_TOTAL, 0, 0];
        for cuts in steps {
            let (low, high) = (cuts[0].min(cuts[1]), cuts[0].max(cuts[1]));
            let weights = [low, high - low, WEIGHT_TOTAL - high];
            let instruction = json!({
                "kind": "updateFallthroughVariationOrRollout",
                "rolloutWeights": {"on": weights[0], "off": weights[1], "beta": weights[2]},
            });
            let applied = surroundings.change(&config, &json!([instruction])).unwrap();
            prop_assert_eq!(shares(&applied.config.fallthrough), weights);
            for (old, new) in served(&config).into_iter().zip(served(&applied.config)) {
                let is_right = weights[old] < old_weights[old] && weights[new] > old_weights[new];
                prop_assert!(old == new || is_right, "{:?} to {:?}", old_weights, weights);
            }
            config = applied.config;
            old_weights = weights;
        }
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn growing_a_rollout_step_by_step_takes_nobody_out(
        weights in vec(1..WEIGHT_TOTAL, 1..8),
        hash in select(vec!["murmur3", "sha1"]),
    ) {
        let mut weights = weights;
        weights.sort_unstable();
        weights.push(WEIGHT_TOTAL);
        let surroundings = Surroundings::new();
        let slices = json!([{"variation": 1, "weight": WEIGHT_TOTAL}]);
        let rollout = json!({"hash": hash, "contextKind": "user", "variations": slices});
        let mut config = config(&json!({"on": true, "fallthrough": {"rollout": rollout}}));
        let mut is_in = [false; 500];
        for weight in weights {
            let instruction = json!({
                "kind": "updateFallthroughVariationOrRollout",
                "rolloutWeights": {"on": weight, "off": WEIGHT_TOTAL - weight},
            });
            config = surroundings.change(&config, &json!([instruction])).unwrap().config;
            let stored = config.fallthrough.rollout.as_ref().unwrap();
            prop_assert_eq!(serde_json::to_value(stored.hash).unwrap(), hash);
            let ruleset = ruleset(&config);
            let flag = ruleset.flag("f").unwrap();
            for (i, was_in) in is_in.iter_mut().enumerate() {
                let user = Context::decode(json!({"key": format!("user-{i}")})).unwrap();
                let index = evaluate(&ruleset, flag, &user).variation.map(|(index, _)| index);
                prop_assert!(index == Some(0) || !*was_in, "user-{} was taken out at {}", i, weight);
                *was_in = index == Some(0);
            }
        }
        prop_assert!(is_in.iter().all(|is_in| *is_in));
    }
}

#[test]
fn a_flag_that_asks_for_many_segments_is_evaluated() {
    let mut surroundings = Surroundings::new();
    let keys: Vec<String> = (0..CLAUSE_VALUES_MAX).map(|i| format!("s{i}")).collect();
    surroundings.segments.extend(keys.iter().map(|key| SegmentKey::stored(key)));
    let clause = json!({"op": "segmentMatch", "values": keys});
    let rule = json!({"kind": "addRule", "variation": "beta", "clauses": [clause]});
    let config = config(&json!({"on": true}));
    let applied = surroundings.change(&config, &json!(vec![rule; 11])).unwrap();
    let segments = keys.iter().map(|key| {
        let stored = json!({"key": key, "name": key, "included": ["somebody else"]});
        let segment: Segment = serde_json::from_value(stored).unwrap();
        (segment.key.clone(), Some(Arc::new(compile_segment(&segment, 1))))
    });
    let change = RulesetChange { flags: Vec::new(), segments: segments.collect() };
    let ruleset = ruleset(&applied.config).with(1, 2, &change);
    let user = Context::decode(json!({"key": "u"})).unwrap();
    let outcome = evaluate(&ruleset, ruleset.flag("f").unwrap(), &user);
    assert_eq!(outcome.reason, Reason::Fallthrough { in_experiment: false });
}
