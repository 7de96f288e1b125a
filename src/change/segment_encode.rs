//! The instructions that edit a segment, written as they are sent.
//!
//! How they are read is in `segment_instruction`.

use crate::change::instruction::ClauseEdit;
use crate::change::segment_instruction::SegmentInstruction;
use crate::change::segment_instruction::ShareSpec;
use crate::model::rule::ROLLOUT_HASHES;
use serde_json::Map;
use serde_json::Value;
use serde_json::json;

/// Writes an instruction as JSON.
pub(super) fn encode_segment_instruction(instruction: &SegmentInstruction) -> Value {
    match instruction {
        SegmentInstruction::UpdateName(name) => json!({"kind": "updateName", "value": name}),
        SegmentInstruction::UpdateDescription(description) => {
            json!({"kind": "updateDescription", "value": description})
        }
        SegmentInstruction::AddTags(tags) => json!({"kind": "addTags", "values": tags}),
        SegmentInstruction::RemoveTags(tags) => json!({"kind": "removeTags", "values": tags}),
        SegmentInstruction::EditKeys { is_included, is_added, context_kind, values } => {
            let kind =
                format!("{}{}", if *is_added { "add" } else { "remove" }, list(*is_included));
            json!({"kind": kind, "contextKind": context_kind, "values": values})
        }
        SegmentInstruction::ClearKeys { is_included, context_kind } => {
            json!({"kind": format!("clear{}", list(*is_included)), "contextKind": context_kind})
        }
        SegmentInstruction::AddRule { id, description, clauses, share, before_rule_id } => {
            let clauses = json!({"clauses": clauses});
            let texts = [("id", id.as_ref()), ("beforeRuleId", before_rule_id.as_ref())];
            let description = Some(description).filter(|text| !text.is_empty());
            let texts = texts.into_iter().chain([("description", description)]);
            let texts = texts
                .filter_map(|(name, text)| Some((name.to_owned(), Value::from(text?.as_str()))));
            with_kind("addRule", [fields(clauses), texts.collect(), share_fields(share)])
        }
        SegmentInstruction::RemoveRule(id) => json!({"kind": "removeRule", "ruleId": id}),
        SegmentInstruction::ReorderRules(ids) => json!({"kind": "reorderRules", "ruleIds": ids}),
        SegmentInstruction::UpdateRuleDescription { rule_id, description } => json!({
            "kind": "updateRuleDescription", "ruleId": rule_id, "description": description,
        }),
        SegmentInstruction::UpdateRuleShare { rule_id, share } => with_kind(
            "updateRuleRolloutAndContextKind",
            [fields(json!({"ruleId": rule_id})), share_fields(share)],
        ),
        SegmentInstruction::EditClauses { rule_id, edit } => {
            let (kind, edit) = encode_edit(edit);
            with_kind(kind, [fields(json!({"ruleId": rule_id})), fields(edit)])
        }
    }
}

fn encode_edit(edit: &ClauseEdit) -> (&'static str, Value) {
    match edit {
        ClauseEdit::Add(clauses) => ("addClauses", json!({"clauses": clauses})),
        ClauseEdit::Remove(ids) => ("removeClauses", json!({"clauseIds": ids})),
        ClauseEdit::Update { clause_id, clause } => {
            ("updateClause", json!({"clauseId": clause_id, "clause": clause}))
        }
        ClauseEdit::AddValues { clause_id, values } => {
            ("addValuesToClause", json!({"clauseId": clause_id, "values": values}))
        }
        ClauseEdit::RemoveValues { clause_id, values } => {
            ("removeValuesFromClause", json!({"clauseId": clause_id, "values": values}))
        }
    }
}

fn share_fields(share: &ShareSpec) -> Map<String, Value> {
    let ShareSpec { weight_milli_pct, bucket_by, context_kind, hash } = share;
    // An attribute that is not named would stay as it is.
    let bucket_by = bucket_by.as_deref().map(|it| if it.is_empty() { "key" } else { it });
    let hash = hash.and_then(|hash| ROLLOUT_HASHES.iter().find(|(_, it)| *it == hash));
    let given = [
        ("weight", weight_milli_pct.map(Value::from)),
        ("bucketBy", bucket_by.map(Value::from)),
        ("rolloutContextKind", context_kind.as_deref().map(Value::from)),
        ("hash", hash.map(|(word, _)| Value::from(*word))),
    ];
    given.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

fn list(is_included: bool) -> &'static str {
    if is_included { "IncludedTargets" } else { "ExcludedTargets" }
}

fn fields(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn with_kind<const N: usize>(kind: &str, parts: [Map<String, Value>; N]) -> Value {
    let kind = [("kind".to_owned(), Value::from(kind))];
    Value::Object(kind.into_iter().chain(parts.into_iter().flatten()).collect())
}
