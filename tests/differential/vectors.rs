//! Answers of LaunchDarkly's Go library, which are kept in `tests/vectors`.

use crate::ours::Ours;
use crate::ours::with_floats;
use serde_json::Value;
use std::collections::BTreeMap;

const VECTORS: &str = include_str!("../vectors/evaluation.jsonl");

#[test]
fn the_answers_of_the_go_library_are_ours() {
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut differences = Vec::new();
    for line in VECTORS.lines() {
        let line: Value = serde_json::from_str(line).unwrap();
        let ours = Ours::read(line["ruleset"].clone());
        for case in line["cases"].as_array().unwrap() {
            let mut expected = case["expected"].clone();
            expected["value"] = with_floats(&expected["value"]);
            let own = ours.answer(case["flag"].as_str().unwrap(), &case["context"]);
            if own != expected {
                let about = &line["about"];
                differences.push(format!("{about}: {case}\nours {own}\n{}", line["ruleset"]));
            }
            let reason = &expected["reason"];
            let words =
                [&reason["kind"], &reason["errorKind"]].map(|word| word.as_str().unwrap_or(""));
            *reasons.entry(words.join(" ").trim_end().to_owned()).or_default() += 1;
        }
    }
    let n_differences = differences.len();
    differences.truncate(5);
    assert!(differences.is_empty(), "{n_differences} differences\n{}", differences.join("\n"));
    assert!(reasons.values().sum::<usize>() >= 600, "{reasons:?}");
    for kind in ["OFF", "FALLTHROUGH", "TARGET_MATCH", "RULE_MATCH", "PREREQUISITE_FAILED"] {
        assert!(reasons.contains_key(kind), "{kind}");
    }
    for kind in ["MALFORMED_FLAG", "USER_NOT_SPECIFIED", "FLAG_NOT_FOUND"] {
        assert!(reasons.contains_key(&format!("ERROR {kind}")), "{kind}");
    }
}
