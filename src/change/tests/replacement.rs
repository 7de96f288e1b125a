//! Replacing a whole segment, told as instructions and in words.

use crate::change::apply_to_segment;
use crate::change::decode_segment;
use crate::change::decode_segment_instructions;
use crate::change::replacement;
use crate::change::settle_hashes;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::key::SegmentKey;
use crate::model::limit::INSTRUCTIONS_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::problem::Problems;
use crate::model::segment::Segment;
use crate::model::segment::SegmentTarget;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::sample::subsequence;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// The segment `s` with these fields.
fn segment(fields: &Value) -> Segment {
    let key = SegmentKey::stored("s");
    decode_segment(fields.clone(), Some(&key), "salt", &mut || "new".to_owned()).unwrap()
}

/// Reads instructions as they are sent and applies them.
fn sent(segment: &Segment, instructions: &[Value]) -> (Segment, Vec<String>) {
    let mut problems = Problems::default();
    let body = json!({"instructions": instructions});
    let read = object(body, "", &mut problems, decode_segment_instructions).unwrap();
    assert!(problems.is_empty(), "{problems}");
    apply_to_segment(segment, &|_| true, ServerSdk::None, &read, &mut || unreachable!()).unwrap()
}

fn clause(id: &str, value: &str) -> Value {
    json!({"id": id, "contextKind": "user", "attribute": "a", "op": "in", "values": [value], "negate": false})
}

/// Two states of a segment that differ in everything.
fn states() -> (Segment, Segment) {
    let before = segment(&json!({
        "name": "S", "tags": ["a", "b"], "included": ["u1", "u2"], "excluded": ["u3"],
        "includedContexts": [{"contextKind": "org", "values": ["o1"]}],
        "rules": [
            {"id": "gone"},
            {"id": "kept", "clauses": [clause("c1", "x"), clause("c2", "y")]},
            {"id": "last", "weight": 1_000, "bucketBy": "/a"},
        ],
    }));
    let after = segment(&json!({
        "name": "T", "tags": ["b", "c"], "included": ["u4", "u1"],
        "excludedContexts": [{"contextKind": "org", "values": ["o1", "o2"]}],
        "rules": [
            {"id": "last", "weight": 2_000},
            {"id": "kept", "description": "D", "clauses": [clause("c2", "z"), clause("c3", "x")]},
            {"id": "new", "weight": 500},
        ],
    }));
    (before, after)
}

#[test]
fn a_replaced_segment_is_told_by_instructions_and_in_words() {
    let (before, after) = states();
    let (instructions, words) = replacement(&before, &after);
    let expected = [
        (json!({"kind": "updateName", "value": "T"}), "renamed the segment to `T`"),
        (json!({"kind": "removeTags", "values": ["a"]}), "removed the tags a"),
        (json!({"kind": "addTags", "values": ["c"]}), "added the tags c"),
        (
            json!({"kind": "clearIncludedTargets", "contextKind": "org"}),
            "removed 1 org key(s) from those who are in",
        ),
        (
            json!({"kind": "removeIncludedTargets", "contextKind": "user", "values": ["u2"]}),
            "removed 1 user key(s) from those who are in",
        ),
        (
            json!({"kind": "clearExcludedTargets", "contextKind": "user"}),
            "removed 1 user key(s) from those who are out",
        ),
        (
            json!({"kind": "addIncludedTargets", "contextKind": "user", "values": ["u4"]}),
            "added 1 user key(s) to those who are in",
        ),
        (
            json!({"kind": "addExcludedTargets", "contextKind": "org", "values": ["o1", "o2"]}),
            "added 2 org key(s) to those who are out",
        ),
        (json!({"kind": "removeRule", "ruleId": "gone"}), "removed rule gone from position 1"),
        (
            json!({"kind": "updateRuleDescription", "ruleId": "kept", "description": "D"}),
            "described rule kept as `D`",
        ),
        (
            json!({"kind": "removeClauses", "ruleId": "kept", "clauseIds": ["c1"]}),
            "removed 1 clause(s) from rule kept",
        ),
        (
            json!({"kind": "updateClause", "ruleId": "kept", "clauseId": "c2",
                "clause": clause("c2", "z")}),
            "changed the clause c2 of rule kept",
        ),
        (
            json!({"kind": "addClauses", "ruleId": "kept", "clauses": [clause("c3", "x")]}),
            "added 1 clause(s) to rule kept",
        ),
        (
            json!({"kind": "updateRuleRolloutAndContextKind", "ruleId": "last", "weight": 2_000,
                "bucketBy": "key", "rolloutContextKind": "user", "hash": "murmur3"}),
            "changed the share of rule last",
        ),
        (
            json!({"kind": "addRule", "clauses": [], "id": "new", "weight": 500}),
            "added a rule at position 3",
        ),
        (
            json!({"kind": "reorderRules", "ruleIds": ["last", "kept", "new"]}),
            "put the rules into the order last, kept, new",
        ),
    ];
    let (expected, expected_words): (Vec<Value>, Vec<&str>) = expected.into_iter().unzip();
    assert_eq!(instructions, expected);
    assert_eq!(words, expected_words);
}

#[test]
fn what_no_instruction_does_is_told_in_words_only() {
    let before = segment(&json!({"included": ["u1", "u2"]}));
    assert_eq!(replacement(&before, &before), (Vec::new(), Vec::new()));
    let after = segment(&json!({"included": ["u2", "u1"]}));
    let words = vec!["put keys or clauses into another order".to_owned()];
    assert_eq!(replacement(&before, &after), (Vec::new(), words));
    let imported = Segment { unbounded: true, ..before.clone() };
    let words = vec!["wrote `unbounded` anew".to_owned()];
    assert_eq!(replacement(&imported, &before), (Vec::new(), words));
}

#[test]
fn instructions_that_would_not_do_the_same_are_not_recorded() {
    let before = Segment { unbounded: true, ..segment(&json!({"name": "S"})) };
    let (instructions, words) = replacement(&before, &segment(&json!({"name": "T"})));
    let told = ["renamed the segment to `T`", "wrote `unbounded` anew"];
    assert_eq!((instructions, words), (Vec::new(), told.map(str::to_owned).to_vec()));
}

#[test]
fn instructions_that_could_not_be_sent_are_not_recorded() {
    let with_list = |kind: &str| {
        let list = json!({"contextKind": kind, "values": ["k"]});
        let stored = json!({"key": "s", "name": "s", "salt": "salt", "includedContexts": [list]});
        serde_json::from_value::<Segment>(stored).unwrap()
    };
    let after = segment(&json!({"name": "s"}));
    // No kind means users, as it does for whoever evaluates.
    for (kind, cleared) in [("", Some("user")), ("user", Some("user")), ("multi", None)] {
        let before = with_list(kind);
        let (instructions, words) = replacement(&before, &after);
        let clear = |kind| json!({"kind": "clearIncludedTargets", "contextKind": kind});
        assert_eq!(instructions, cleared.map(clear).into_iter().collect::<Vec<Value>>());
        let kind = cleared.unwrap_or(kind);
        assert_eq!(words, [format!("removed 1 {kind} key(s) from those who are in")]);
        if cleared.is_some() {
            assert_eq!(sent(&before, &instructions).0, after);
        }
    }
}

#[test]
fn a_clause_without_an_id_never_takes_that_of_another() {
    let unnamed = |value| json!({"contextKind": "user", "attribute": "a", "op": "in", "values": [value], "negate": false});
    let with = |clauses: &[Value]| segment(&json!({"rules": [{"id": "r", "clauses": clauses}]}));
    let mut before = with(&[clause("clause-2", "A"), unnamed("B"), unnamed("C")]);
    let after = with(&[clause("clause-2", "A"), clause("clause-4", "C")]);
    let (instructions, _) = replacement(&before, &after);
    let removed = json!({"kind": "removeClauses", "ruleId": "r", "clauseIds": ["clause-3"]});
    assert_eq!(instructions, [removed]);
    assert_eq!(sent(&before, &instructions).0, after);
    before.name_clauses();
    let named = [clause("clause-2", "A"), clause("clause-3", "B"), clause("clause-4", "C")];
    assert_eq!(before, with(&named));
}

#[test]
fn a_name_that_reads_as_a_path_once_a_kind_is_said_is_told_apart() {
    // Old data, in which a name is a name.
    let stored = json!({"key": "s", "name": "s", "salt": "salt", "rules": [{"id": "r",
        "weight": 10, "bucketBy": "/a", "clauses": [
            {"attribute": "/a", "op": "in", "values": [1]},
            {"attribute": "a", "op": "in", "values": [1]},
            {"attribute": "", "op": "segmentMatch", "values": ["/a"]}]}]});
    let before: Segment = serde_json::from_value(stored).unwrap();
    let mut shown = before.clone();
    shown.name_clauses();
    let after = segment(&json!({"name": "s", "rules": shown.rules}));
    let (instructions, words) = replacement(&before, &after);
    let told = ["changed the share of rule r", "changed the clause clause-1 of rule r"];
    assert_eq!(words, told);
    let (applied, _) = sent(&before, &instructions);
    assert_eq!(
        (&applied.rules[0].rollout_context_kind, &applied.rules[0].clauses[0]),
        (&after.rules[0].rollout_context_kind, &after.rules[0].clauses[0])
    );
}

/// A clause with so many patterns.
fn patterns(id: &str, n: usize) -> Value {
    let values: Vec<String> = (0..n).map(|i| format!("p{i}")).collect();
    json!({"id": id, "attribute": "a", "op": "matches", "values": values})
}

/// A segment with a rule for each of these lists of clauses: `r0`, `r1`, ….
fn ruled(clauses: &[Value]) -> Segment {
    let rule = |(i, clauses)| json!({"id": format!("r{i}"), "clauses": clauses});
    segment(&json!({"rules": clauses.iter().enumerate().map(rule).collect::<Vec<Value>>()}))
}

#[test]
fn patterns_that_move_are_never_too_many_in_between() {
    for (before, after) in [
        (
            [json!([patterns("a", 10), patterns("b", 10)]), json!([])],
            [json!([patterns("a", 18), patterns("b", 2)]), json!([])],
        ),
        ([json!([]), json!([patterns("a", 15)])], [json!([patterns("b", 15)]), json!([])]),
        (
            [json!([patterns("a", 1)]), json!([patterns("b", 15)])],
            [json!([patterns("a", 16)]), json!([patterns("b", 4)])],
        ),
    ] {
        let (before, after) = (ruled(&before), ruled(&after));
        let (instructions, words) = replacement(&before, &after);
        assert_eq!(sent(&before, &instructions), (after, words));
    }
}

#[test]
fn what_no_single_change_could_do_is_told_in_words_only() {
    let with = |text: &str| {
        let clauses = ["c1", "c2"].map(|id| clause(id, text));
        let mut all = ruled(&vec![json!(clauses); RULES_MAX]);
        all.rules.iter_mut().for_each(|rule| text.clone_into(&mut rule.description));
        all
    };
    let (instructions, words) = replacement(&with("x"), &with("y"));
    let n_more = 3 * RULES_MAX - INSTRUCTIONS_MAX;
    assert_eq!((instructions.len(), words.len()), (0, INSTRUCTIONS_MAX + 1));
    assert_eq!(words[0], "described rule r0 as `y`");
    assert_eq!(words[INSTRUCTIONS_MAX], format!("and {n_more} more"));

    // An older version may have let more patterns in.
    let mut before = ruled(&[json!([patterns("a", PATTERNS_MAX)]), json!([])]);
    before.rules[1].clauses = before.rules[0].clauses.clone();
    let mut after = before.clone();
    "T".clone_into(&mut after.name);
    after.rules[0].clauses[0].values.pop();
    let words = ["renamed the segment to `T`", "changed the clause a of rule r0"];
    assert_eq!(replacement(&before, &after), (Vec::new(), words.map(str::to_owned).to_vec()));
}

/// The same segment with one list for each kind, in the order of their kinds and keys.
fn sorted(mut segment: Segment) -> Segment {
    segment.name_clauses();
    settle_hashes(&mut segment, ServerSdk::None).unwrap();
    for (users, others) in [
        (&mut segment.included, &mut segment.included_contexts),
        (&mut segment.excluded, &mut segment.excluded_contexts),
    ] {
        let mut by_kind: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        let of_users = SegmentTarget { context_kind: String::new(), values: std::mem::take(users) };
        for list in others.drain(..).chain([of_users]) {
            let kind = if list.context_kind.is_empty() { "user" } else { &list.context_kind };
            by_kind.entry(kind.to_owned()).or_default().extend(list.values);
        }
        users.extend(by_kind.remove("user").into_iter().flatten());
        let list = |(context_kind, keys): (String, BTreeSet<String>)| SegmentTarget {
            context_kind,
            values: keys.into_iter().collect(),
        };
        others.extend(by_kind.into_iter().map(list));
    }
    for rule in &mut segment.rules {
        rule.clauses.sort_by(|a, b| a.id.cmp(&b.id));
    }
    segment
}

fn some(of: &'static [&'static str]) -> impl Strategy<Value = Vec<&'static str>> {
    subsequence(of, 0..=of.len()).prop_shuffle()
}

fn rule(id: &'static str) -> impl Strategy<Value = Value> {
    let clause = |id| {
        let clause =
            move |(id, value)| json!({"id": id, "attribute": "a", "op": "in", "values": [value]});
        (select(vec![id, ""]), select(vec![1, 2])).prop_map(clause)
    };
    let clauses = [clause("c1"), clause("clause-1"), clause("clause-2")].prop_flat_map(|all| {
        let n_clauses = all.len();
        subsequence(all.to_vec(), 0..=n_clauses).prop_shuffle()
    });
    let share = select(vec![
        json!({}),
        json!({"weight": 10}),
        json!({"weight": 10, "bucketBy": "plan"}),
        json!({"weight": 10, "hash": "sha1"}),
        json!({"weight": 20, "hash": "sha1", "rolloutContextKind": "org"}),
    ]);
    (clauses, share, select(vec!["", "D"])).prop_map(move |(clauses, mut rule, description)| {
        rule["id"] = json!(id);
        rule["clauses"] = json!(clauses);
        rule["description"] = json!(description);
        rule
    })
}

fn any_segment() -> impl Strategy<Value = Segment> {
    const KEYS: &[&str] = &["u1", "u2", "u3"];
    const KINDS: &[&str] = &["device", "org"];
    let users = (some(KEYS), some(KEYS));
    let kinds = || (some(KINDS), subsequence(KEYS, 1..=3));
    let rules = [rule("r1"), rule("r2"), rule("r3")]
        .prop_flat_map(|all| subsequence(all.to_vec(), 0..=3).prop_shuffle());
    let labels = (select(vec!["S", "T"]), select(vec!["", "D"]), some(&["a", "b", "c"]));
    (labels, users, kinds(), kinds(), rules).prop_map(|(labels, users, ins, outs, rules)| {
        let lists = |(kinds, keys): (Vec<&str>, Vec<&str>)| {
            let list = |kind: &&str| json!({"contextKind": kind, "values": keys});
            kinds.iter().map(list).collect::<Vec<Value>>()
        };
        let (name, description, tags) = labels;
        let mut made = segment(&json!({
            "name": name, "description": description, "tags": tags,
            "included": users.0, "excluded": users.1,
            "includedContexts": lists(ins), "excludedContexts": lists(outs), "rules": rules,
        }));
        settle_hashes(&mut made, ServerSdk::None).unwrap();
        made
    })
}

/// A segment as it may be stored: also as an import or a file leaves it.
fn any_stored() -> impl Strategy<Value = Segment> {
    let kinds = select(vec!["", "user", "org", "multi"]);
    let list = (kinds, select(vec!["u1", "u4"])).prop_map(|(kind, key)| SegmentTarget {
        context_kind: kind.to_owned(),
        values: vec![key.to_owned()],
    });
    let lists = || proptest::collection::vec(list.clone(), 0..=2);
    let is_unbounded = proptest::bool::weighted(0.1);
    (any_segment(), lists(), lists(), is_unbounded).prop_map(|(segment, ins, outs, unbounded)| {
        let mut stored = Segment { unbounded, ..segment };
        stored.included_contexts.extend(ins);
        stored.excluded_contexts.extend(outs);
        stored
    })
}

/// Whether no list of instructions makes an ordinary segment of it: one that LaunchDarkly has the keys of, or a kind that
/// cannot be named.
fn is_beyond_instructions(stored: &Segment) -> bool {
    let mut lists = stored.included_contexts.iter().chain(&stored.excluded_contexts);
    stored.unbounded || lists.any(|list| list.context_kind == "multi")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn the_instructions_make_the_one_segment_of_the_other_and_are_told_in_the_same_words(
        before in any_stored(),
        after in any_segment(),
    ) {
        let (instructions, words) = replacement(&before, &after);
        let is_other = before != after;
        if is_beyond_instructions(&before) {
            prop_assert!(instructions.is_empty() && !words.is_empty());
            return Ok(());
        }
        let (applied, told) = sent(&before, &instructions);
        prop_assert_eq!(sorted(applied), sorted(after.clone()));
        let words: Vec<String> =
            words.into_iter().filter(|word| !word.ends_with("another order")).collect();
        prop_assert_eq!(&words, &told);
        prop_assert!(is_other || words.is_empty());
    }
}
