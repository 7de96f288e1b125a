//! Instructions that edit a flag's definition.

use crate::change::Uses;
use crate::change::apply_to_definition;
use crate::change::decode_definition_instructions;
use crate::change::tests::listed;
use crate::model::decode::object;
use crate::model::flag::FlagDefinition;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::VALUE_BYTES_MAX;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::problem::Problems;
use serde_json::Value;
use serde_json::json;

/// A flag whose body has these fields besides its key, kind and variations.
fn definition(fields: &Value) -> FlagDefinition {
    let mut body = json!({
        "key": "f", "kind": "number",
        "variations": [{"key": "low", "value": 1}, {"key": "high", "value": 10}],
    });
    for (name, value) in fields.as_object().unwrap() {
        body[name.as_str()] = value.clone();
    }
    FlagDefinition::decode(body).unwrap()
}

/// Reads instructions and applies them.
fn change(
    before: &FlagDefinition,
    instructions: &Value,
) -> Result<(FlagDefinition, Vec<String>), Problems> {
    let mut problems = Problems::default();
    let body = json!({"instructions": instructions});
    let list = object(body, "", &mut problems, decode_definition_instructions);
    let list = problems.into_result(list.unwrap())?;
    let defined = apply_to_definition(before, &Uses::default(), &list)?;
    Ok((defined.definition, defined.changes))
}

#[track_caller]
fn assert_refused(before: &FlagDefinition, instructions: &Value, expected: &[(&str, &str)]) {
    let problems = change(before, instructions).unwrap_err();
    assert_eq!(listed(&problems), expected, "{instructions}: {problems}");
}

/// Checks what an instruction makes of a flag, in which words it says so, and that a second time changes nothing.
#[track_caller]
fn assert_change(before: &Value, instruction: &Value, after: &Value, words: &str) {
    let (before, after) = (definition(before), definition(after));
    let found = change(&before, &json!([instruction])).unwrap();
    assert_eq!(found, (after.clone(), vec![words.to_owned()]), "{instruction}");
    let found = change(&after, &json!([instruction])).unwrap();
    assert_eq!(found, (after, Vec::new()), "{instruction}");
}

#[test]
fn names_tags_and_lifetime_are_changed() {
    for (before, instruction, after, words) in [
        (
            json!({}),
            json!({"kind": "updateName", "value": "F"}),
            json!({"name": "F"}),
            "renamed the flag to `F`",
        ),
        (
            json!({}),
            json!({"kind": "updateDescription", "value": "why"}),
            json!({"description": "why"}),
            "changed the description",
        ),
        (
            json!({"description": "why"}),
            json!({"kind": "updateDescription", "value": ""}),
            json!({}),
            "changed the description",
        ),
        (
            json!({"tags": ["b"]}),
            json!({"kind": "addTags", "values": ["c", "a"]}),
            json!({"tags": ["a", "b", "c"]}),
            "added the tags c, a",
        ),
        (
            json!({"tags": ["a", "b"]}),
            json!({"kind": "removeTags", "values": ["b"]}),
            json!({"tags": ["a"]}),
            "removed the tags b",
        ),
        (
            json!({}),
            json!({"kind": "makeFlagTemporary"}),
            json!({"temporary": true}),
            "made the flag temporary",
        ),
        (
            json!({"temporary": true}),
            json!({"kind": "makeFlagPermanent"}),
            json!({}),
            "made the flag permanent",
        ),
    ] {
        assert_change(&before, &instruction, &after, words);
    }
}

#[test]
fn each_kind_of_client_is_shown_the_flag_for_itself() {
    let visible = |web: bool, mobile: bool| {
        let sides = json!({"usingEnvironmentId": web, "usingMobileKey": mobile});
        json!({"clientSideAvailability": sides})
    };
    let on = |side: &str| json!({"kind": "turnOnClientSideAvailability", "value": side});
    let off = |side: &str| json!({"kind": "turnOffClientSideAvailability", "value": side});
    for (before, instruction, after, words) in [
        (
            json!({}),
            on("usingEnvironmentId"),
            visible(true, false),
            "made the flag visible to browsers",
        ),
        (
            json!({}),
            on("usingMobileKey"),
            visible(false, true),
            "made the flag visible to mobile applications",
        ),
        (
            visible(true, true),
            off("usingEnvironmentId"),
            visible(false, true),
            "made the flag invisible to browsers",
        ),
        (
            visible(true, true),
            off("usingMobileKey"),
            visible(true, false),
            "made the flag invisible to mobile applications",
        ),
    ] {
        assert_change(&before, &instruction, &after, words);
    }
}

#[test]
fn variations_are_added_last_and_changed_in_place() {
    let before = definition(&json!({}));
    let variations = |third: Value| {
        let list = [json!({"key": "low", "value": 1}), json!({"key": "high", "value": 10}), third];
        // What was served before is still served, also by default.
        let defaults = json!({"onVariation": "low", "offVariation": "high"});
        definition(&json!({"variations": list, "defaults": defaults}))
    };
    let mid = variations(json!({"key": "mid", "name": "Mid", "value": 5.0}));
    let add = json!({"kind": "addVariation", "key": "mid", "name": "Mid", "value": 5.0});
    let found = change(&before, &json!([add])).unwrap();
    assert_eq!(found, (mid.clone(), vec!["added the variation `mid`".to_owned()]));
    for (fields, after) in [
        (json!({"value": 6}), variations(json!({"key": "mid", "name": "Mid", "value": 6}))),
        (json!({"name": "M"}), variations(json!({"key": "mid", "name": "M", "value": 5.0}))),
        (json!({"name": "", "value": 6}), variations(json!({"key": "mid", "value": 6}))),
    ] {
        let mut update = fields.clone();
        update["kind"] = json!("updateVariation");
        update["variation"] = json!("mid");
        let found = change(&before, &json!([add, update])).unwrap();
        let words = ["added the variation `mid`", "changed the variation `mid`"];
        assert_eq!(found, (after.clone(), words.map(str::to_owned).to_vec()), "{update}");
        assert_eq!(change(&after, &json!([update])).unwrap(), (after, Vec::new()), "{update}");
    }
    // Nothing is to be changed.
    let update = json!({"kind": "updateVariation", "variation": "mid"});
    assert_eq!(change(&mid, &json!([update])).unwrap(), (mid, Vec::new()));
}

#[test]
fn a_bad_variation_is_refused() {
    let before = definition(&json!({}));
    let too_long = json!(["x".repeat(VALUE_BYTES_MAX)]);
    for (fields, expected) in [
        (json!({"kind": "addVariation"}), vec![("key", "required"), ("value", "required")]),
        (json!({"kind": "addVariation", "key": "a b", "value": 1}), vec![("key", "invalid_key")]),
        (
            json!({"kind": "addVariation", "key": "x", "value": too_long}),
            vec![("value", "too_long")],
        ),
        (
            json!({"kind": "addVariation", "key": "low", "value": 2}),
            vec![("key", "duplicate_variation")],
        ),
        (
            json!({"kind": "addVariation", "key": "x", "value": "2"}),
            vec![("value", "variation_kind")],
        ),
        (
            json!({"kind": "addVariation", "key": "x", "value": null}),
            vec![("value", "variation_kind")],
        ),
        (json!({"kind": "updateVariation", "value": 1}), vec![("variation", "required")]),
        (
            json!({"kind": "updateVariation", "variation": "x"}),
            vec![("variation", "unknown_variation")],
        ),
        (
            json!({"kind": "updateVariation", "variation": "low", "value": "1"}),
            vec![("value", "variation_kind")],
        ),
        (
            json!({"kind": "updateVariation", "variation": "low", "key": "lower"}),
            vec![("key", "unknown_field")],
        ),
    ] {
        let expected: Vec<(String, &str)> = expected
            .iter()
            .map(|(path, code)| (format!("instructions[0].{path}"), *code))
            .collect();
        let expected: Vec<(&str, &str)> =
            expected.iter().map(|(path, code)| (path.as_str(), *code)).collect();
        assert_refused(&before, &json!([fields]), &expected);
    }
}

#[test]
fn problems_of_all_instructions_are_reported_at_once_and_nothing_is_applied() {
    let before = definition(&json!({}));
    assert_refused(
        &before,
        &json!([
            {"kind": "turnFlagOn"},
            {"kind": "updateName", "value": "x".repeat(NAME_CHARS_MAX + 1)},
            {"kind": "updateName", "value": ""},
            {"kind": "updateDescription"},
            {"kind": "addTags", "values": ["", 1]},
            {"kind": "removeTags"},
            {"kind": "makeFlagTemporary", "value": true},
            {"kind": "turnOnClientSideAvailability"},
            {"kind": "turnOffClientSideAvailability", "value": "browser"},
        ]),
        &[
            ("instructions[0].kind", "unknown_instruction"),
            ("instructions[1].value", "too_long"),
            ("instructions[2].value", "required"),
            ("instructions[3].value", "required"),
            ("instructions[4].values[0]", "invalid_text"),
            ("instructions[4].values[1]", "wrong_type"),
            ("instructions[5].values", "required"),
            ("instructions[6].value", "unknown_field"),
            ("instructions[7].value", "required"),
            ("instructions[8].value", "unknown_value"),
        ],
    );
    let update = |key: &str| json!({"kind": "updateVariation", "variation": key, "value": 2});
    assert_refused(
        &before,
        &json!([update("x"), {"kind": "makeFlagTemporary"}, update("low"), update("y")]),
        &[
            ("instructions[0].variation", "unknown_variation"),
            ("instructions[3].variation", "unknown_variation"),
        ],
    );
}

#[test]
fn tags_and_variations_are_bounded() {
    let before = definition(&json!({}));
    let tags = |from: usize, to: usize| {
        let values: Vec<String> = (from..to).map(|i| format!("t{i}")).collect();
        json!({"kind": "addTags", "values": values})
    };
    assert_eq!(change(&before, &json!([tags(0, TAGS_MAX)])).unwrap().0.tags.len(), TAGS_MAX);
    let expected = [("instructions[1].values", "too_many")];
    assert_refused(&before, &json!([tags(0, 1), tags(1, TAGS_MAX + 1)]), &expected);
    // The flag has two already.
    let add = |i: usize| json!({"kind": "addVariation", "key": format!("v{i}"), "value": i});
    let full: Vec<Value> = (2..VARIATIONS_MAX).map(add).collect();
    let (full, _) = change(&before, &json!(full)).unwrap();
    assert_eq!(full.variations.len(), VARIATIONS_MAX);
    assert_refused(&full, &json!([add(VARIATIONS_MAX)]), &[("instructions[0]", "too_many")]);
}

#[test]
fn a_custom_property_without_values_is_added_once() {
    let before = definition(&json!({}));
    let one = |kind: &str, values: Value| json!([{"kind": kind, "key": "k", "values": values}]);
    let add = json!([{"kind": "addCustomProperties", "key": "k", "name": "K"}]);
    let (added, _) = change(&before, &add).unwrap();
    assert!(added.custom_properties["k"].values.is_empty());
    for same in [add, one("removeCustomProperties", json!(["x"]))] {
        let (again, changes) = change(&added, &same).unwrap();
        assert_eq!((again, changes), (added.clone(), Vec::new()), "{same}");
    }
    // Replacing by nothing removes it, and twice as well as once.
    let clear = one("replaceCustomProperties", json!([]));
    for from in [&before, &added] {
        assert_eq!(change(from, &clear).unwrap().0, before);
    }
    let (valued, _) = change(&added, &one("addCustomProperties", json!(["x"]))).unwrap();
    assert_eq!(change(&valued, &one("removeCustomProperties", json!(["x"]))).unwrap().0, before);
}
