//! What may stand where in a file of flags, so that nothing in it is silently lost.
//!
//! Whether it makes sense is decided later, when it is known what it refers to.

use crate::model::problem::Problems;
use serde_json::Value;

/// What a value must look like.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// Anything.
    Any,
    /// `true` or `false`.
    Flag,
    /// A text.
    Text,
    /// A whole number.
    Whole,
    /// The key of a variation; its number where the flag has none with it.
    Variation,
    /// A list of these.
    List(&'static Shape),
    /// An object with these fields, any of which may be left out.
    Object(&'static [(&'static str, Shape)]),
}

use Shape::Any;
use Shape::Flag;
use Shape::List;
use Shape::Object;
use Shape::Text;
use Shape::Variation;
use Shape::Whole;

const TEXTS: Shape = List(&Text);
const CLAUSE: Shape = Object(&[
    ("id", Text),
    ("contextKind", Text),
    ("attribute", Text),
    ("op", Text),
    ("values", List(&Any)),
    ("negate", Flag),
]);
const SLICE: Shape = Object(&[("variation", Variation), ("weight", Whole), ("untracked", Flag)]);
const ROLLOUT: Shape = Object(&[
    ("kind", Text),
    ("hash", Text),
    ("contextKind", Text),
    ("bucketBy", Text),
    ("seed", Whole),
    ("variations", List(&SLICE)),
]);
const TARGET: Shape = Object(&[("contextKind", Text), ("values", TEXTS), ("variation", Variation)]);
const RULE: Shape = Object(&[
    ("id", Text),
    ("description", Text),
    ("clauses", List(&CLAUSE)),
    ("variation", Variation),
    ("rollout", ROLLOUT),
    ("trackEvents", Flag),
]);

/// A flag's configuration in one environment.
pub(super) const CONFIG: Shape = Object(&[
    ("on", Flag),
    ("prerequisites", List(&Object(&[("key", Text), ("variation", Variation)]))),
    ("targets", List(&TARGET)),
    ("contextTargets", List(&TARGET)),
    ("rules", List(&RULE)),
    ("fallthrough", Object(&[("variation", Variation), ("rollout", ROLLOUT)])),
    ("offVariation", Variation),
    ("salt", Text),
    ("trackEvents", Flag),
    ("trackEventsFallthrough", Flag),
]);

const SEGMENT_TARGETS: Shape = List(&Object(&[("contextKind", Text), ("values", TEXTS)]));

/// A segment.
pub(super) const SEGMENT: Shape = Object(&[
    ("name", Text),
    ("description", Text),
    ("tags", TEXTS),
    ("included", TEXTS),
    ("excluded", TEXTS),
    ("includedContexts", SEGMENT_TARGETS),
    ("excludedContexts", SEGMENT_TARGETS),
    (
        "rules",
        List(&Object(&[
            ("id", Text),
            ("description", Text),
            ("clauses", List(&CLAUSE)),
            ("weight", Whole),
            ("bucketBy", Text),
            ("rolloutContextKind", Text),
            ("hash", Text),
        ])),
    ),
    ("salt", Text),
    ("unbounded", Flag),
    ("unboundedContextKind", Text),
    ("generation", Whole),
]);

/// What a definition has beside what can be given when a flag is created.
pub(super) const DEFINITION_EXTRAS: Shape =
    Object(&[("deprecated", Flag), ("archived", Flag), ("customProperties", Any)]);

/// Notes whatever does not look as it must.
pub(super) fn check(value: &Value, shape: Shape, path: &str, problems: &mut Problems) {
    let wanted = match (shape, value) {
        (Any, _)
        | (Flag, Value::Bool(_))
        | (Text, Value::String(_))
        | (Variation, Value::String(_) | Value::Null) => return,
        (Whole | Variation, Value::Number(number)) if number.is_i64() => return,
        (List(item), Value::Array(items)) => {
            for (i, each) in items.iter().enumerate() {
                check(each, *item, &format!("{path}[{i}]"), problems);
            }
            return;
        }
        (Object(fields), Value::Object(given)) => {
            for (name, each) in given {
                let path = format!("{path}.{name}");
                match fields.iter().find(|(known, _)| known == name) {
                    Some((_, shape)) => check(each, *shape, &path, problems),
                    None => {
                        let names: Vec<&str> = fields.iter().map(|(known, _)| *known).collect();
                        let detail = format!("is not known here; known are {}", names.join(", "));
                        problems.add(path, "unknown_field", detail);
                    }
                }
            }
            return;
        }
        (Flag, _) => "must be `true` or `false`",
        (Text, _) => "must be a text",
        (Whole, _) => "must be a whole number",
        (Variation, _) => "must be the key of a variation",
        (List(_), _) => "must be a list",
        (Object(_), _) => "must be an object",
    };
    problems.add(path, "wrong_type", wanted);
}
