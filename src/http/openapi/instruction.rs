//! The schemas of instructions, made from what `change` says of each.
//!
//! One schema for each kind and each part of it; and for a configuration, a definition and a segment one that is any of
//! theirs; for lists that may change all of these, one for all.

use crate::change::CONFIG_INSTRUCTIONS;
use crate::change::Choice;
use crate::change::DEFINITION_INSTRUCTIONS;
use crate::change::Field;
use crate::change::Holds;
use crate::change::SEGMENT_INSTRUCTIONS;
use crate::change::Shape;
use crate::model::flag::FLAG_END_CHARS_MAX;
use crate::model::rule::WEIGHT_TOTAL;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// What changes, and the instructions for it.
const FAMILIES: &[(&str, &str, &[Shape])] = &[
    ("Config", "A step of a change of a flag's configuration.", CONFIG_INSTRUCTIONS),
    ("Definition", "A step of a change of a flag's definition.", DEFINITION_INSTRUCTIONS),
    ("Segment", "A step of a change of a segment.", SEGMENT_INSTRUCTIONS),
];
const KEY: &str = "^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$";
const CONTEXT_KIND: &str = "^[A-Za-z0-9._-]{1,256}$";

/// All schemas of instructions, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let mut all = Map::new();
    for (family, meaning, shapes) in FAMILIES {
        let mut any = Vec::new();
        let mut mapping = Map::new();
        for shape in *shapes {
            let name = format!("{family}{}", capitalized(shape.name));
            let reference = reference(&name);
            if let Some(target) = reference.get("$ref") {
                mapping.insert(shape.name.to_owned(), target.clone());
            }
            any.push(reference);
            all.insert(name, object(shape, Some(shape.name)));
            add_parts(shape, &mut all);
        }
        let discriminator = json!({"propertyName": "kind", "mapping": mapping});
        let schema = json!({"description": meaning, "oneOf": any, "discriminator": discriminator});
        all.insert(format!("{family}Instruction"), schema);
    }
    let any = FAMILIES.iter().map(|(family, ..)| reference(&format!("{family}Instruction")));
    let any = any.collect::<Value>();
    let meaning = "A step of a change of what the change names.";
    all.insert("AnyInstruction".to_owned(), json!({"description": meaning, "anyOf": any}));
    all
}

fn add_parts(shape: &Shape, all: &mut Map<String, Value>) {
    for field in shape.fields() {
        if let Holds::Part(part) | Holds::Parts(part, _) = &field.holds {
            all.insert(part.name.to_owned(), object(part, None));
            add_parts(part, all);
        }
    }
}

fn capitalized(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn object(shape: &Shape, kind: Option<&str>) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    if let Some(kind) = kind {
        properties.insert("kind".to_owned(), json!({"type": "string", "enum": [kind]}));
        required.push("kind");
    }
    for field in shape.fields() {
        properties.insert(field.name.to_owned(), property(field));
        required.extend(field.is_required.then_some(field.name));
    }
    let mut schema = json!({
        "type": "object",
        "description": shape.meaning,
        "properties": properties,
        "additionalProperties": false,
    });
    if let Some(fields) = schema.as_object_mut().filter(|_| !required.is_empty()) {
        fields.insert("required".to_owned(), json!(required));
    }
    let (word, names) = match shape.choice {
        Choice::None => return schema,
        Choice::One(names) => ("oneOf", names),
        Choice::Any(names) => ("anyOf", names),
    };
    // What is `null` counts as absent.
    let there =
        |name: &&str| json!({"required": [name], "properties": {*name: {"not": {"type": "null"}}}});
    if let Some(fields) = schema.as_object_mut() {
        fields.insert(word.to_owned(), names.iter().map(there).collect());
    }
    schema
}

fn property(field: &Field) -> Value {
    let mut schema = holds(&field.holds);
    if field.is_required || matches!(field.holds, Holds::Value) {
        return described(schema, field.meaning);
    }
    if let Some(fields) = schema.as_object_mut() {
        match fields.get("type").cloned() {
            Some(one) => drop(fields.insert("type".to_owned(), json!([one, "null"]))),
            None => return described(json!({"oneOf": [{"type": "null"}, schema]}), field.meaning),
        }
        if let Some(words) = fields.get_mut("enum").and_then(Value::as_array_mut) {
            words.push(Value::Null);
        }
    }
    described(schema, field.meaning)
}

fn described(mut schema: Value, meaning: &str) -> Value {
    if let Some(fields) = schema.as_object_mut().filter(|_| !meaning.is_empty()) {
        fields.insert("description".to_owned(), json!(meaning));
    }
    schema
}

fn holds(holds: &Holds) -> Value {
    match holds {
        Holds::Text(chars_max) => json!({"type": "string", "maxLength": chars_max}),
        Holds::Name(chars_max) => {
            json!({"type": "string", "minLength": 1, "maxLength": chars_max})
        }
        Holds::Key => json!({"type": "string", "pattern": KEY}),
        Holds::ContextKind => {
            json!({"type": "string", "pattern": CONTEXT_KIND, "not": {"enum": ["kind", "multi"]}})
        }
        Holds::Flag => json!({"type": "boolean"}),
        Holds::Day => {
            let either = [json!({"format": "date"}), json!({"format": "date-time"})];
            json!({"type": "string", "maxLength": FLAG_END_CHARS_MAX, "anyOf": either})
        }
        Holds::Integer(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
        Holds::Word(words) => json!({"type": "string", "enum": words}),
        Holds::Texts { items_max, chars_max } => {
            let text = json!({"type": "string", "minLength": 1, "maxLength": chars_max});
            json!({"type": "array", "items": text, "maxItems": items_max})
        }
        Holds::Value => json!({}),
        Holds::Values(items_min, items_max) => {
            json!({"type": "array", "items": {}, "minItems": items_min, "maxItems": items_max})
        }
        Holds::Weight => weight("A share in thousandths of a percent."),
        Holds::Weights => json!({
            "type": "object",
            "description": "Weights by the key of the variation; they sum to 100,000.",
            "minProperties": 1,
            "additionalProperties": weight("In thousandths of a percent."),
        }),
        Holds::Part(part) => reference(part.name),
        Holds::Parts(part, items_max) => {
            json!({"type": "array", "items": reference(part.name), "maxItems": items_max})
        }
    }
}

fn weight(meaning: &str) -> Value {
    json!({"type": "integer", "description": meaning, "minimum": 0, "maximum": WEIGHT_TOTAL})
}
