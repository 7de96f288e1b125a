//! What replacing a whole segment does, told as the instructions that would have done the same.
//!
//! So that a segment's changes read alike in the audit log, however they were sent. What the instructions do is in `segment_apply`,
//! and their form as JSON in `segment_encode`.

use crate::change::instruction::ClauseEdit;
use crate::change::segment_apply::try_on_segment;
use crate::change::segment_differences;
use crate::change::segment_encode::encode_segment_instruction;
use crate::change::segment_instruction::SegmentInstruction;
use crate::change::segment_instruction::ShareSpec;
use crate::change::segment_instruction::decode_segment_instructions;
use crate::change::segment_lists::kind_of;
use crate::change::segment_plain::full_rule;
use crate::change::segment_plain::full_segment;
use crate::change::segment_plain::plain;
use crate::model::decode::object;
use crate::model::environment::ServerSdk;
use crate::model::limit::INSTRUCTIONS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use crate::model::rule::USER_KIND;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::collections::BTreeSet;

/// Finds the instructions that make one state of a segment of another, as they are sent, and says in words what they do.
///
/// Whatever has no instruction is only told in words: that a segment of LaunchDarkly's has its keys elsewhere, and the order of
/// keys and clauses, which means nothing. So is everything if no single change could do it, for the limits of instructions, or
/// if the instructions alone would not.
pub fn replacement(before: &Segment, after: &Segment) -> (Vec<Value>, Vec<String>) {
    let mut instructions = labels(before, after);
    instructions.extend(keys(before, after));
    instructions.extend(rules(before, after));
    let n_more = instructions.len().saturating_sub(INSTRUCTIONS_MAX);
    // What cannot be sent is not tried either: each step looks at all clauses.
    instructions.truncate(INSTRUCTIONS_MAX);
    // The segments that are asked for and the hashes were checked, and whatever is added has its id.
    let sdk = ServerSdk::None;
    let applied = try_on_segment(before, &|_| true, sdk, &instructions, &mut String::new);
    let (applied, mut changes, problems) = applied;
    if n_more > 0 {
        changes.push(format!("and {n_more} more"));
        return (Vec::new(), changes);
    }
    let rest = segment_differences(&plain(applied), &plain(after.clone()));
    changes.extend(rest.iter().map(|differs| format!("wrote `{}` anew", differs.path)));
    if changes.is_empty() && full_segment(before.clone()) != full_segment(after.clone()) {
        changes.push("put keys or clauses into another order".to_owned());
    }
    if !problems.is_empty() || !rest.is_empty() {
        return (Vec::new(), changes);
    }
    let encoded: Vec<Value> = instructions.iter().map(encode_segment_instruction).collect();
    // What an older version or an import has let in may be beyond the limits of instructions.
    (if can_be_sent(&encoded) { encoded } else { Vec::new() }, changes)
}

fn can_be_sent(instructions: &[Value]) -> bool {
    let mut problems = Problems::default();
    let body = json!({"instructions": instructions});
    object(body, "", &mut problems, decode_segment_instructions);
    problems.is_empty()
}

fn labels(before: &Segment, after: &Segment) -> Vec<SegmentInstruction> {
    let lacking = |tags: &[String], others: &[String]| -> Vec<String> {
        tags.iter().filter(|tag| !others.contains(tag)).cloned().collect()
    };
    let (removed, added) = (lacking(&before.tags, &after.tags), lacking(&after.tags, &before.tags));
    let is_renamed = before.name != after.name;
    let is_described = before.description != after.description;
    [
        is_renamed.then(|| SegmentInstruction::UpdateName(after.name.clone())),
        is_described.then(|| SegmentInstruction::UpdateDescription(after.description.clone())),
        (!removed.is_empty()).then_some(SegmentInstruction::RemoveTags(removed)),
        (!added.is_empty()).then_some(SegmentInstruction::AddTags(added)),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What is removed comes first, so that no list is too long in between.
fn keys(before: &Segment, after: &Segment) -> Vec<SegmentInstruction> {
    let (mut removals, mut additions) = (Vec::new(), Vec::new());
    for is_included in [true, false] {
        let (old, new) = (lists(before, is_included), lists(after, is_included));
        let kinds: BTreeSet<&str> = old.keys().chain(new.keys()).copied().collect();
        for kind in kinds {
            let (old, new) = (old.get(kind), new.get(kind));
            let lacking = |keys: Option<&BTreeSet<&str>>, others: Option<&BTreeSet<&str>>| {
                let is_lacking = |key: &&&str| others.is_none_or(|others| !others.contains(*key));
                let keys = keys.into_iter().flatten().filter(is_lacking);
                keys.map(|key| (*key).to_owned()).collect::<Vec<String>>()
            };
            let edit = |is_added, values| SegmentInstruction::EditKeys {
                is_included,
                is_added,
                context_kind: kind.to_owned(),
                values,
            };
            let (removed, added) = (lacking(old, new), lacking(new, old));
            if !removed.is_empty() {
                let context_kind = kind.to_owned();
                removals.push(match new {
                    None => SegmentInstruction::ClearKeys { is_included, context_kind },
                    Some(_) => edit(false, removed),
                });
            }
            if !added.is_empty() {
                additions.push(edit(true, added));
            }
        }
    }
    removals.append(&mut additions);
    removals
}

/// The keys of each kind that has any.
fn lists(segment: &Segment, is_included: bool) -> BTreeMap<&str, BTreeSet<&str>> {
    let (users, others) = match is_included {
        true => (&segment.included, &segment.included_contexts),
        false => (&segment.excluded, &segment.excluded_contexts),
    };
    let others = others.iter().map(|list| (kind_of(list), &list.values));
    let mut lists: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (kind, keys) in others.chain([(USER_KIND, users)]).filter(|(_, keys)| !keys.is_empty()) {
        lists.entry(kind).or_default().extend(keys.iter().map(String::as_str));
    }
    lists
}

fn rules(before: &Segment, after: &Segment) -> Vec<SegmentInstruction> {
    let mut instructions = Vec::new();
    let mut order = Vec::new();
    let mut edits = Edits::default();
    for old in &before.rules {
        match after.rules.iter().find(|new| new.id == old.id) {
            None => instructions.push(SegmentInstruction::RemoveRule(old.id.clone())),
            Some(new) => {
                edits.of_rule(&full_rule(old.clone()), &full_rule(new.clone()));
                order.push(old.id.clone());
            }
        }
    }
    instructions.extend(edits.freeing.into_iter().chain(edits.adding));
    let is_new = |new: &&SegmentRule| before.rules.iter().all(|old| old.id != new.id);
    for new in after.rules.iter().filter(is_new) {
        order.push(new.id.clone());
        let share = ShareSpec {
            weight_milli_pct: new.weight_milli_pct,
            bucket_by: Some(new.bucket_by.clone()).filter(|attribute| !attribute.is_empty()),
            context_kind: Some(new.rollout_context_kind.clone())
                .filter(|kind| !kind.is_empty() && kind != USER_KIND),
            hash: new.hash,
        };
        instructions.push(SegmentInstruction::AddRule {
            id: Some(new.id.clone()),
            description: new.description.clone(),
            clauses: new.clauses.clone(),
            share,
            before_rule_id: None,
        });
    }
    let wanted: Vec<String> = after.rules.iter().map(|rule| rule.id.clone()).collect();
    if order != wanted {
        instructions.push(SegmentInstruction::ReorderRules(wanted));
    }
    instructions
}

/// The edits of rules that stay, in an order in which there are never too many patterns in between.
#[derive(Default)]
struct Edits {
    /// What needs no room for patterns, and may make it.
    freeing: Vec<SegmentInstruction>,
    /// What needs more of it.
    adding: Vec<SegmentInstruction>,
}

impl Edits {
    /// Adds what makes one state of a rule of another; both are [full](full_rule).
    fn of_rule(&mut self, old: &SegmentRule, new: &SegmentRule) {
        let rule_id = new.id.clone();
        if old.description != new.description {
            let description = new.description.clone();
            let rule_id = rule_id.clone();
            self.freeing.push(SegmentInstruction::UpdateRuleDescription { rule_id, description });
        }
        let share_of = |rule: &SegmentRule| ShareSpec {
            weight_milli_pct: rule.weight_milli_pct,
            bucket_by: Some(rule.bucket_by.clone()),
            context_kind: Some(rule.rollout_context_kind.clone()),
            hash: rule.weight_milli_pct.map(|_| rule.hash.unwrap_or_default()),
        };
        if share_of(old) != share_of(new) {
            let (rule_id, share) = (rule_id.clone(), share_of(new));
            self.freeing.push(SegmentInstruction::UpdateRuleShare { rule_id, share });
        }
        let edit = |edit| SegmentInstruction::EditClauses { rule_id: rule_id.clone(), edit };
        let is_gone = |old: &&Clause| new.clauses.iter().all(|it| it.id != old.id);
        let gone = old.clauses.iter().filter(is_gone);
        let gone: Vec<String> = gone.map(|clause| clause.id.clone()).collect();
        if !gone.is_empty() {
            self.freeing.push(edit(ClauseEdit::Remove(gone)));
        }
        let mut added = Vec::new();
        for clause in new.clauses.iter().cloned() {
            let Some(old) = old.clauses.iter().find(|old| old.id == clause.id) else {
                added.push(clause);
                continue;
            };
            if *old != clause {
                let needs_room = n_patterns(&clause) > n_patterns(old);
                let edits = if needs_room { &mut self.adding } else { &mut self.freeing };
                edits.push(edit(ClauseEdit::Update { clause_id: clause.id.clone(), clause }));
            }
        }
        if !added.is_empty() {
            let needs_room = added.iter().any(|clause| n_patterns(clause) > 0);
            let edits = if needs_room { &mut self.adding } else { &mut self.freeing };
            edits.push(edit(ClauseEdit::Add(added)));
        }
    }
}

fn n_patterns(clause: &Clause) -> usize {
    if clause.op == "matches" { clause.values.len() } else { 0 }
}
