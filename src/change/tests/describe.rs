//! What is said of instructions is how they are read.

use crate::change::CONFIG_INSTRUCTIONS;
use crate::change::Choice;
use crate::change::DEFINITION_INSTRUCTION_KINDS;
use crate::change::DEFINITION_INSTRUCTIONS;
use crate::change::Field;
use crate::change::Holds;
use crate::change::INSTRUCTION_KINDS;
use crate::change::SEGMENT_INSTRUCTION_KINDS;
use crate::change::SEGMENT_INSTRUCTIONS;
use crate::change::Shape;
use crate::change::decode_definition_instructions;
use crate::change::decode_instructions;
use crate::change::decode_segment_instructions;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::problem::Problems;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;

type Read = fn(&mut Fields<'_>);

const FAMILIES: [(&[Shape], &[&str], Read); 3] = [
    (CONFIG_INSTRUCTIONS, &INSTRUCTION_KINDS, |fields| drop(decode_instructions(fields))),
    (DEFINITION_INSTRUCTIONS, DEFINITION_INSTRUCTION_KINDS, |fields| {
        drop(decode_definition_instructions(fields));
    }),
    (SEGMENT_INSTRUCTIONS, SEGMENT_INSTRUCTION_KINDS, |fields| {
        drop(decode_segment_instructions(fields));
    }),
];

/// What is wrong with an instruction.
fn problems(read: Read, instruction: &Value) -> Problems {
    let mut problems = Problems::default();
    object(json!({"instructions": [instruction]}), "", &mut problems, read);
    problems
}

/// Values just within what a field may hold, a small one last.
fn good(holds: &Holds) -> Vec<Value> {
    match holds {
        Holds::Text(max) => vec![json!("ä".repeat(*max)), json!("")],
        Holds::Name(max) => vec![json!("ä".repeat(*max)), json!("a")],
        Holds::Key => vec![json!("k".repeat(128)), json!("K.1_-")],
        Holds::ContextKind => vec![json!("k".repeat(256)), json!("a.b_c-d")],
        Holds::Flag => vec![json!(true), json!(false)],
        Holds::Day => vec![json!("2027-01-31T12:00:00+01:00"), json!("2027-01-31")],
        Holds::Integer(min, max) => vec![json!(min), json!(max)],
        Holds::Word(words) => words.iter().map(|word| json!(word)).collect(),
        Holds::Texts { items_max, chars_max } => {
            vec![json!(vec!["a"; *items_max]), json!(["ä".repeat(*chars_max)]), json!([])]
        }
        Holds::Value => vec![json!(true), json!(null), json!({"a": [1]})],
        Holds::Values(min, max) => vec![json!(vec!["1"; *max]), json!(vec!["1"; *min])],
        Holds::Weight => vec![json!(0), json!(100_000)],
        Holds::Weights => vec![json!({"on": 100_000}), json!({"on": 1, "off": 99_999})],
        Holds::Part(part) => vec![least(part)],
        Holds::Parts(part, _) => vec![json!([least(part)]), json!([])],
    }
}

/// Values that a field may not hold.
fn bad(holds: &Holds) -> Vec<Value> {
    let mut bad = match holds {
        Holds::Value => return Vec::new(),
        Holds::Text(max) => vec![json!("ä".repeat(max + 1)), json!(1)],
        Holds::Name(max) => vec![json!("ä".repeat(max + 1)), json!(""), json!(1)],
        Holds::Key => vec![json!("k".repeat(129)), json!(""), json!("-a"), json!("ä"), json!(1)],
        Holds::ContextKind => {
            let texts = ["", "kind", "multi", "a b", "ä"].map(|text| json!(text));
            texts.into_iter().chain([json!("k".repeat(257)), json!(1)]).collect()
        }
        Holds::Flag => vec![json!("true"), json!(1)],
        Holds::Day => vec![json!("soon"), json!("2027-13-01"), json!(""), json!(1)],
        Holds::Integer(min, max) => vec![json!(min - 1), json!(max + 1), json!(1.5), json!("1")],
        Holds::Word(_) => vec![json!("no such word"), json!(""), json!(1)],
        Holds::Texts { items_max, chars_max } => vec![
            json!(vec!["a"; items_max + 1]),
            json!(["ä".repeat(chars_max + 1)]),
            json!([""]),
            json!([1]),
            json!("a"),
        ],
        Holds::Values(min, max) => {
            let fewer = min.checked_sub(1).map(|n| json!(vec!["1"; n]));
            fewer.into_iter().chain([json!(vec!["1"; max + 1]), json!("1")]).collect()
        }
        Holds::Weight => vec![json!(-1), json!(100_001), json!("1")],
        Holds::Weights => vec![
            json!({}),
            json!({"on": 100_001}),
            json!({"on": -1, "off": 100_001}),
            json!({"on": "all"}),
            json!([100_000]),
        ],
        Holds::Part(_) => vec![json!([])],
        Holds::Parts(part, max) => {
            vec![json!(vec![least(part); max + 1]), json!([1]), json!({"0": {}})]
        }
    };
    if !matches!(holds, Holds::Flag | Holds::Weights | Holds::Parts(..)) {
        bad.push(json!({}));
    }
    bad
}

/// An object of a shape with nothing in it but what must be there.
fn least(shape: &Shape) -> Value {
    let chosen = match shape.choice {
        Choice::None => None,
        Choice::One(names) | Choice::Any(names) => names.first(),
    };
    let is_in = |field: &&Field| field.is_required || chosen == Some(&field.name);
    let mut least = Map::new();
    for field in shape.fields().filter(is_in) {
        least.insert(field.name.to_owned(), good(&field.holds).pop().unwrap());
    }
    if shape.name == "NewClause" {
        // An operator that takes any value.
        least.insert("op".to_owned(), json!("in"));
        least.insert("attribute".to_owned(), json!("a"));
        least.insert("values".to_owned(), json!(["1"]));
    }
    Value::Object(least)
}

/// The fields that an answer to an unknown one says are known.
fn known_fields(problems: &Problems) -> BTreeSet<String> {
    let unknown = problems.as_slice().iter().find(|problem| problem.code == "unknown_field");
    let (_, known) = unknown.unwrap().detail.split_once("known are ").unwrap();
    known.split(", ").filter(|name| *name != "kind").map(str::to_owned).collect()
}

fn field_names(shape: &Shape) -> BTreeSet<String> {
    shape.fields().map(|field| field.name.to_owned()).collect()
}

/// An object with a field set. What is chosen between stands alone, and the companions of weights with weights.
fn with_field(least: &Value, field: &Field, chosen: &[&str], value: &Value) -> Value {
    let mut own = least.clone();
    own[field.name] = value.clone();
    let fields = own.as_object_mut().unwrap();
    if chosen.contains(&field.name) {
        fields.retain(|name, _| name == field.name || !chosen.contains(&name.as_str()));
    } else if field.name.starts_with("rollout") && !chosen.is_empty() {
        fields.remove("variation");
        fields.insert("rolloutWeights".to_owned(), json!({"on": 100_000}));
    }
    own
}

/// Checks an object of a shape within the instruction that `whole` puts it into.
fn check(shape: &Shape, read: Read, whole: &dyn Fn(&Value) -> Value) {
    let told = |own: &Value| problems(read, &whole(own));
    let assert_good = |own: &Value| {
        let problems = told(own);
        assert!(problems.is_empty(), "{}: {own}: {problems}", shape.name);
    };
    let assert_bad = |own: &Value, name: &str| {
        let problems = told(own);
        let has = problems.as_slice().iter().any(|problem| problem.path.contains(name));
        assert!(has, "{}.{name}: {own}: {problems}", shape.name);
    };
    let least = least(shape);
    assert_good(&least);
    let mut unknown = least.clone();
    unknown["no-such-field"] = json!(1);
    assert_eq!(known_fields(&told(&unknown)), field_names(shape), "{}", shape.name);
    let chosen: &[&str] = match shape.choice {
        Choice::None => &[],
        Choice::One(names) | Choice::Any(names) => names,
    };
    for field in shape.fields() {
        let with = |value: &Value| with_field(&least, field, chosen, value);
        // Which values and attributes are good depends on the operator.
        let is_free =
            shape.name != "NewClause" || !["op", "values", "attribute"].contains(&field.name);
        if is_free {
            good(&field.holds).iter().for_each(|value| assert_good(&with(value)));
        }
        bad(&field.holds).iter().for_each(|value| assert_bad(&with(value), field.name));
        if field.is_required {
            let mut own = least.clone();
            own.as_object_mut().unwrap().shift_remove(field.name);
            assert_bad(&own, field.name);
        }
        if field.is_required && !matches!(field.holds, Holds::Value) {
            assert_bad(&with(&Value::Null), field.name);
        } else if is_free && !chosen.contains(&field.name) {
            assert_good(&with(&Value::Null));
        }
        if let Holds::Part(part) = &field.holds {
            check(part, read, &|own| whole(&with(own)));
        }
        if let Holds::Parts(part, _) = &field.holds {
            check(part, read, &|own| whole(&with(&json!([own]))));
        }
    }
    let Some(first) = chosen.first() else { return };
    let mut own = least.clone();
    own.as_object_mut().unwrap().shift_remove(*first);
    assert_bad(&own, first);
    let all: Vec<&Field> = shape.fields().filter(|field| chosen.contains(&field.name)).collect();
    for field in &all {
        own[field.name] = good(&field.holds).pop().unwrap();
    }
    match shape.choice {
        Choice::One(_) => assert_bad(&own, all.last().unwrap().name),
        _ => assert_good(&own),
    }
}

#[test]
fn every_kind_is_described_as_it_is_read() {
    for (shapes, kinds, read) in FAMILIES {
        let described: Vec<&str> = shapes.iter().map(|shape| shape.name).collect();
        assert_eq!(described, kinds);
        for shape in shapes {
            check(shape, read, &|own| {
                let mut instruction = own.clone();
                instruction["kind"] = json!(shape.name);
                instruction
            });
        }
    }
}
