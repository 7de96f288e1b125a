//! Reading the parts that instructions and segments share: clauses, context kinds, and what is served.

use crate::eval::check;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::decode::wrong_type;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use crate::model::rule::ROLLOUT_HASHES;
use crate::model::rule::RolloutHash;
use crate::model::rule::USER_KIND;
use crate::model::rule::WEIGHT_TOTAL;
use serde_json::Value;

/// What a rule or the fallthrough is to lead to, with variations named by key.
#[derive(Debug, Clone, PartialEq)]
pub enum ServeSpec {
    /// One variation for everyone.
    Variation(String),
    /// A percentage rollout.
    Rollout(RolloutSpec),
}

/// A percentage rollout, with variations named by key.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutSpec {
    /// Variation and weight in thousandths of a percent; sums to [`WEIGHT_TOTAL`].
    pub weights_milli_pct: Vec<(String, u32)>,
    /// The kind of context that is divided; `None` leaves it as it is.
    pub context_kind: Option<String>,
    /// The attribute that is hashed, of which empty means the key; `None` leaves it as it is.
    pub bucket_by: Option<String>,
    /// How it is hashed; `None` leaves it as it is.
    pub hash: Option<RolloutHash>,
    /// Replaces flag key and salt in the hash; `None` leaves it as it is.
    pub seed: Option<i64>,
}

/// The largest seed, either way: whole numbers up to it every JSON reader keeps exactly.
pub(super) const SEED_MAX: i64 = 0x1F_FFFF_FFFF_FFFF;
const SEEDS: std::ops::RangeInclusive<i64> = -SEED_MAX..=SEED_MAX;

/// The sentence for a hash that an environment cannot have.
pub(crate) fn hash_not_served() -> &'static str {
    "must be `sha1` here: LaunchDarkly's SDKs, for which the environment was created, know no other hash"
}

/// Notes that the rules or instructions in the field `name` have more patterns than a flag or segment may have.
///
/// Comes before they are read, because reading builds each of them.
pub fn has_too_many_patterns(fields: &mut Fields<'_>, name: &str) -> bool {
    fn items<'v>(value: &'v Value, name: &str) -> &'v [Value] {
        value.get(name).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
    let rules = fields.peek(name).and_then(Value::as_array).into_iter().flatten();
    // A change has instructions, and an instruction may also hold rules, or one clause.
    let rules = rules.flat_map(|each| items(each, "instructions").iter().chain([each]));
    let nested = |each| items(each, "rules").iter().chain([each]);
    let own = |rule| items(rule, "clauses").iter().chain(Value::get(rule, "clause"));
    let clauses = rules.flat_map(nested).flat_map(own);
    let matching = clauses.filter(|clause| clause.get("op").is_some_and(|op| op == "matches"));
    let n_patterns: usize = matching.map(|clause| items(clause, "values").len()).sum();
    let has_too_many = n_patterns > PATTERNS_MAX;
    if has_too_many {
        fields.refuse(name, "too_many", too_many_patterns());
    }
    has_too_many
}

/// The sentence for too many patterns.
pub(crate) fn too_many_patterns() -> String {
    format!("a flag or segment can have at most {PATTERNS_MAX} patterns of `matches`")
}

/// Reads the field `clauses`.
pub(crate) fn clauses(fields: &mut Fields<'_>) -> Vec<Clause> {
    let path = fields.path("clauses");
    let clauses = fields.list("clauses", CLAUSES_MAX, |item, path, problems| {
        object(item, path, problems, |fields| clause(fields, path))
    });
    for (i, clause) in clauses.iter().enumerate().filter(|(_, clause)| !clause.id.is_empty()) {
        if clauses.iter().take(i).any(|earlier| earlier.id == clause.id) {
            let detail = format!("`{}` is the id of an earlier clause", clause.id);
            fields.problems().add(format!("{path}[{i}].id"), "duplicate_clause", detail);
        }
    }
    clauses
}

/// Reads the fields of a clause.
pub(crate) fn clause(fields: &mut Fields<'_>, path: &str) -> Clause {
    let context_kind = context_kind(fields, "contextKind");
    let n_before = fields.problems().as_slice().len();
    for name in ["op", "values"] {
        if !fields.has(name) {
            fields.missing(name);
        }
    }
    let clause = Clause {
        id: fields.text("id", NAME_CHARS_MAX).unwrap_or_default(),
        context_kind,
        attribute: fields.text("attribute", NAME_CHARS_MAX).unwrap_or_default(),
        op: fields.text("op", NAME_CHARS_MAX).unwrap_or_default(),
        values: fields.list("values", CLAUSE_VALUES_MAX, |value, _, _| Some(value)),
        negate: fields.flag("negate").unwrap_or(false),
    };
    // A field that could not be read would only be complained of twice.
    if fields.problems().as_slice().len() == n_before {
        check::clause(&clause, fields.problems(), path);
    }
    clause
}

/// Reads the name of a context kind; absent means `user`.
pub(crate) fn context_kind(fields: &mut Fields<'_>, name: &'static str) -> String {
    let Some(kind) = fields.text(name, NAME_CHARS_MAX) else {
        return USER_KIND.to_owned();
    };
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
    if kind.is_empty() || !kind.bytes().all(is_word) || ["kind", "multi"].contains(&kind.as_str()) {
        let detail = "a kind must be characters of A-Z a-z 0-9 . _ - and not `kind` or `multi`";
        fields.refuse(name, "invalid_kind", detail);
    }
    kind
}

/// Reads the attribute that is hashed; the key, which is the default, is written as no name at all.
pub(crate) fn bucket_by(fields: &mut Fields<'_>, name: &'static str) -> String {
    let bucket_by = fields.text(name, NAME_CHARS_MAX).unwrap_or_default();
    let path = fields.path(name);
    check::bucket_by(&bucket_by, fields.problems(), &path);
    if bucket_by == "key" { String::new() } else { bucket_by }
}

/// Reads either `variation` or `rolloutWeights` with its companions.
pub(crate) fn serve(fields: &mut Fields<'_>) -> Option<ServeSpec> {
    let has_variation = fields.has("variation");
    let has_weights = fields.has("rolloutWeights");
    let (has_kind, has_bucket_by) =
        (fields.has("rolloutContextKind"), fields.has("rolloutBucketBy"));
    let companions = ["rolloutContextKind", "rolloutBucketBy", "rolloutHash", "rolloutSeed"]
        .map(|name| (name, fields.has(name)));
    let variation = fields.text("variation", NAME_CHARS_MAX);
    let weights = fields.take("rolloutWeights");
    let context_kind = context_kind(fields, "rolloutContextKind");
    let bucket_by = bucket_by(fields, "rolloutBucketBy");
    let hash = fields.word("rolloutHash", ROLLOUT_HASHES);
    let seed = fields.integer("rolloutSeed", SEEDS);
    if has_variation && !has_weights {
        for (name, is_there) in companions {
            if is_there {
                fields.refuse(name, "conflicting_fields", "goes with `rolloutWeights` only");
            }
        }
    }
    match (has_variation, has_weights) {
        (true, false) => variation.map(ServeSpec::Variation),
        (false, true) => {
            let path = fields.path("rolloutWeights");
            let weights_milli_pct = weights_of(weights?, &path, fields.problems())?;
            let context_kind = has_kind.then_some(context_kind);
            let bucket_by = has_bucket_by.then_some(bucket_by);
            let spec = RolloutSpec { weights_milli_pct, context_kind, bucket_by, hash, seed };
            Some(ServeSpec::Rollout(spec))
        }
        (true, true) => {
            let detail = "give either `variation` or `rolloutWeights`, not both";
            fields.refuse("rolloutWeights", "conflicting_fields", detail);
            None
        }
        (false, false) => {
            fields.refuse("variation", "required", "give `variation` or `rolloutWeights`");
            None
        }
    }
}

fn weights_of(value: Value, path: &str, problems: &mut Problems) -> Option<Vec<(String, u32)>> {
    let Value::Object(map) = value else {
        wrong_type(problems, path, "an object from variation to weight", &value);
        return None;
    };
    let mut weights = Vec::with_capacity(map.len());
    let mut are_all_valid = true;
    for (variation, value) in map {
        let weight = value.as_u64().and_then(|weight| u32::try_from(weight).ok());
        match weight.filter(|weight| *weight <= WEIGHT_TOTAL) {
            Some(weight) => weights.push((variation, weight)),
            None => {
                let detail = format!(
                    "must be a whole number of thousandths of a percent from 0 to {WEIGHT_TOTAL}, got {value}"
                );
                problems.add(format!("{path}.{variation}"), "invalid_weight", detail);
                are_all_valid = false;
            }
        }
    }
    // OK because there are at most as many weights as the body has bytes, each at most 100_000.
    let sum: u64 = weights.iter().map(|(_, weight)| u64::from(*weight)).sum();
    if are_all_valid && sum != u64::from(WEIGHT_TOTAL) {
        let detail = format!("weights must sum to {WEIGHT_TOTAL}, got {sum}");
        problems.add(path, "weights_sum", detail);
        are_all_valid = false;
    }
    are_all_valid.then_some(weights)
}
