//! Applying instructions to a segment, all or nothing.
//!
//! Whether segments ask for each other in a circle is checked in `segment`.

use crate::change::apply::Edition;
use crate::change::apply::edit_clauses;
use crate::change::instruction::ClauseEdit;
use crate::change::instruction::check_segments;
use crate::change::instruction::segments_of;
use crate::change::read::hash_not_served;
use crate::change::read::too_many_patterns;
use crate::change::segment::settle_hash;
use crate::change::segment_instruction::SegmentInstruction;
use crate::change::segment_instruction::ShareSpec;
use crate::change::segment_lists::add_keys;
use crate::change::segment_lists::merge_lists;
use crate::change::segment_lists::too_many_keys;
use crate::change::segment_plain::full_rule;
use crate::model::environment::ServerSdk;
use crate::model::flag::sorted_tags;
use crate::model::key::SegmentKey;
use crate::model::limit::CONTEXT_KINDS_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::limit::SEGMENT_KEYS_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use crate::model::rule::USER_KIND;
use crate::model::segment::Segment;
use crate::model::segment::SegmentRule;
use crate::model::segment::SegmentTarget;
use std::collections::BTreeSet;

/// Applies instructions to a segment, in order and all or nothing; returns it with what was done, in words.
///
/// `exists` tells which segments the environment has, `server_sdk` which SDKs evaluate it by themselves; `new_id` makes the ids
/// of rules and clauses that are added.
///
/// # Errors
///
/// Every problem with any of the instructions, with paths like `instructions[0].values`.
pub fn apply_to_segment(
    segment: &Segment,
    exists: &dyn Fn(&str) -> bool,
    server_sdk: ServerSdk,
    instructions: &[SegmentInstruction],
    new_id: &mut dyn FnMut() -> String,
) -> Result<(Segment, Vec<String>), Problems> {
    let (new, changes, problems) =
        try_on_segment(segment, exists, server_sdk, instructions, new_id);
    if changes.is_empty() || new == *segment {
        return problems.into_result((segment.clone(), Vec::new()));
    }
    problems.into_result((new, changes))
}

/// Applies to a segment what can be applied of instructions; returns it with what was done, in words, and what is wrong with the rest.
pub(crate) fn try_on_segment(
    segment: &Segment,
    exists: &dyn Fn(&str) -> bool,
    server_sdk: ServerSdk,
    instructions: &[SegmentInstruction],
    new_id: &mut dyn FnMut() -> String,
) -> (Segment, Vec<String>, Problems) {
    let mut change = SegmentChange {
        segment: segment.clone(),
        changes: Vec::new(),
        problems: Problems::default(),
        path: String::new(),
        exists,
        server_sdk,
        new_id,
    };
    for (i, instruction) in instructions.iter().enumerate() {
        change.path = format!("instructions[{i}]");
        change.step(instruction);
    }
    let SegmentChange { segment, changes, problems, .. } = change;
    (segment, changes, problems)
}

/// A change while it is being applied.
struct SegmentChange<'a> {
    segment: Segment,
    changes: Vec<String>,
    problems: Problems,
    path: String,
    exists: &'a dyn Fn(&str) -> bool,
    server_sdk: ServerSdk,
    new_id: &'a mut dyn FnMut() -> String,
}

impl SegmentChange<'_> {
    fn step(&mut self, instruction: &SegmentInstruction) {
        match instruction {
            SegmentInstruction::UpdateName(name) => {
                if self.segment.name != *name {
                    self.segment.name.clone_from(name);
                    self.say(format!("renamed the segment to `{name}`"));
                }
            }
            SegmentInstruction::UpdateDescription(description) => {
                if self.segment.description != *description {
                    self.segment.description.clone_from(description);
                    self.say("changed the description".to_owned());
                }
            }
            SegmentInstruction::AddTags(tags) => self.add_tags(tags),
            SegmentInstruction::RemoveTags(tags) => {
                let old = &mut self.segment.tags;
                let n_before = old.len();
                old.retain(|tag| !tags.contains(tag));
                if old.len() != n_before {
                    self.say(format!("removed the tags {}", tags.join(", ")));
                }
            }
            SegmentInstruction::EditKeys { is_included, is_added, context_kind, values } => {
                self.edit_keys(*is_included, *is_added, context_kind, values);
            }
            SegmentInstruction::ClearKeys { is_included, context_kind } => {
                self.clear_keys(*is_included, context_kind);
            }
            SegmentInstruction::AddRule { id, description, clauses, share, before_rule_id } => {
                let before = before_rule_id.as_deref();
                self.add_rule(id.as_deref(), description, clauses, share, before);
            }
            SegmentInstruction::RemoveRule(id) => {
                if let Some(position) = self.find_rule("ruleId", id) {
                    self.segment.rules.remove(position);
                    self.say(format!("removed rule {id} from position {}", position + 1));
                }
            }
            SegmentInstruction::ReorderRules(ids) => self.reorder(ids),
            SegmentInstruction::UpdateRuleDescription { rule_id, description } => {
                let Some(rule) = self.rule(rule_id) else { return };
                if rule.description != *description {
                    rule.description.clone_from(description);
                    self.say(format!("described rule {rule_id} as `{description}`"));
                }
            }
            SegmentInstruction::UpdateRuleShare { rule_id, share } => {
                self.share(rule_id, share);
            }
            SegmentInstruction::EditClauses { rule_id, edit } => {
                self.edit_rule(rule_id, edit);
            }
        }
    }

    fn share(&mut self, rule_id: &str, share: &ShareSpec) {
        let Some(old) = self.rule(rule_id).cloned() else { return };
        let new = self.with_share(old.clone(), share);
        if full_rule(old) != full_rule(new.clone())
            && let Some(rule) = self.rule(rule_id)
        {
            *rule = new;
            self.say(format!("changed the share of rule {rule_id}"));
        }
    }

    /// The rule with another share; what is not said stays.
    fn with_share(&mut self, rule: SegmentRule, share: &ShareSpec) -> SegmentRule {
        let mut new = SegmentRule {
            weight_milli_pct: share.weight_milli_pct,
            bucket_by: share.bucket_by.clone().unwrap_or(rule.bucket_by),
            rollout_context_kind: share.context_kind.clone().unwrap_or(rule.rollout_context_kind),
            hash: share.hash.or(rule.hash),
            ..rule
        };
        if !settle_hash(&mut new, self.server_sdk) {
            self.refuse("hash", "hash_not_served", hash_not_served());
        }
        new
    }

    fn clear_keys(&mut self, is_included: bool, context_kind: &str) {
        let n_removed = self.keys(is_included, context_kind).map_or(0, |keys| {
            let n_keys = keys.len();
            keys.clear();
            n_keys
        });
        self.drop_empty_lists();
        if n_removed > 0 {
            let list = name_of_list(is_included);
            self.say(format!("removed {n_removed} {context_kind} key(s) from {list}"));
        }
    }

    fn edit_rule(&mut self, rule_id: &str, edit: &ClauseEdit) {
        let Some(position) = self.find_rule("ruleId", rule_id) else { return };
        let Some(rule) = self.segment.rules.get_mut(position) else { return };
        let mut edition = Edition {
            path: &self.path,
            exists: self.exists,
            new_id: self.new_id,
            problems: &mut self.problems,
        };
        if let Some(words) = edit_clauses(&mut rule.clauses, edit, &mut edition) {
            self.check_patterns();
            self.say(format!("{words} rule {rule_id}"));
        }
    }

    fn say(&mut self, change: String) {
        self.changes.push(change);
    }

    fn refuse(&mut self, field: &str, code: &'static str, detail: impl Into<String>) {
        self.problems.add(format!("{}.{field}", self.path), code, detail);
    }

    fn add_tags(&mut self, tags: &[String]) {
        let old = self.segment.tags.clone();
        let new = sorted_tags(old.iter().chain(tags).cloned().collect());
        if new.len() > TAGS_MAX {
            let detail = format!("a segment can have at most {TAGS_MAX} tags");
            return self.refuse("values", "too_many", detail);
        }
        if new != old {
            self.segment.tags = new;
            self.say(format!("added the tags {}", tags.join(", ")));
        }
    }

    /// The list of keys of one kind; `None` if there are too many kinds.
    fn keys(&mut self, is_included: bool, context_kind: &str) -> Option<&mut Vec<String>> {
        let Segment { included, excluded, included_contexts, excluded_contexts, .. } =
            &mut self.segment;
        let (users, others) = match is_included {
            true => (included, included_contexts),
            false => (excluded, excluded_contexts),
        };
        merge_lists(users, others);
        if context_kind == USER_KIND {
            return Some(users);
        }
        let position = match others.iter().position(|list| list.context_kind == context_kind) {
            Some(position) => position,
            None if others.len() >= CONTEXT_KINDS_MAX => return None,
            None => {
                let context_kind = context_kind.to_owned();
                others.push(SegmentTarget { context_kind, values: Vec::new() });
                others.len() - 1
            }
        };
        others.get_mut(position).map(|list| &mut list.values)
    }

    fn edit_keys(&mut self, is_included: bool, is_added: bool, kind: &str, values: &[String]) {
        let Some(keys) = self.keys(is_included, kind) else {
            let detail = format!("a list can have at most {CONTEXT_KINDS_MAX} kinds");
            return self.refuse("contextKind", "too_many", detail);
        };
        let n_before = keys.len();
        if is_added {
            add_keys(keys, values);
        } else {
            let removed: BTreeSet<&str> = values.iter().map(String::as_str).collect();
            keys.retain(|key| !removed.contains(key.as_str()));
        }
        let n_after = keys.len();
        self.drop_empty_lists();
        if n_after > SEGMENT_KEYS_MAX && n_after > n_before {
            return self.refuse("values", "too_many", too_many_keys());
        }
        let list = name_of_list(is_included);
        match n_after.checked_sub(n_before) {
            Some(0) => {}
            Some(n_added) => self.say(format!("added {n_added} {kind} key(s) to {list}")),
            None => {
                let n_removed = n_before - n_after;
                self.say(format!("removed {n_removed} {kind} key(s) from {list}"));
            }
        }
    }

    fn drop_empty_lists(&mut self) {
        self.segment.included_contexts.retain(|list| !list.values.is_empty());
        self.segment.excluded_contexts.retain(|list| !list.values.is_empty());
    }

    fn add_rule(
        &mut self,
        id: Option<&str>,
        description: &str,
        clauses: &[Clause],
        share: &ShareSpec,
        before_rule_id: Option<&str>,
    ) {
        check_segments(clauses, &self.path, self.exists, &mut self.problems);
        let position = match before_rule_id {
            Some(id) => self.find_rule("beforeRuleId", id),
            None => Some(self.segment.rules.len()),
        };
        let Some(position) = position else { return };
        if self.segment.rules.len() >= RULES_MAX {
            let detail = format!("a segment can have at most {RULES_MAX} rules");
            return self.problems.add(self.path.clone(), "too_many", detail);
        }
        let id = id.map_or_else(|| (self.new_id)(), str::to_owned);
        if self.segment.rules.iter().any(|rule| rule.id == id) {
            let detail = format!("`{id}` is the id of another rule");
            return self.refuse("id", "duplicate_rule", detail);
        }
        let rule = SegmentRule {
            id,
            description: description.to_owned(),
            clauses: clauses.to_vec(),
            rollout_context_kind: USER_KIND.to_owned(),
            ..SegmentRule::default()
        };
        let rule = self.with_share(rule, share);
        self.segment.rules.insert(position, rule);
        self.check_patterns();
        self.say(format!("added a rule at position {}", position + 1));
    }

    fn reorder(&mut self, ids: &[String]) {
        let rules = &self.segment.rules;
        let find = |id: &String| rules.iter().find(|rule| rule.id == *id).cloned();
        let ordered: Vec<SegmentRule> = ids.iter().filter_map(find).collect();
        let named: BTreeSet<&String> = ids.iter().collect();
        if ordered.len() != rules.len() || ids.len() != rules.len() || named.len() != ids.len() {
            let own: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
            let detail = format!("must name each rule of the segment once: {}", own.join(", "));
            return self.refuse("ruleIds", "rules_incomplete", detail);
        }
        if ordered != *rules {
            self.segment.rules = ordered;
            self.say(format!("put the rules into the order {}", ids.join(", ")));
        }
    }

    fn find_rule(&mut self, field: &str, id: &str) -> Option<usize> {
        let position = self.segment.rules.iter().position(|rule| rule.id == id);
        if position.is_none() {
            let detail = format!("`{id}` is not a rule of this segment");
            self.refuse(field, "unknown_rule", detail);
        }
        position
    }

    fn rule(&mut self, id: &str) -> Option<&mut SegmentRule> {
        let position = self.find_rule("ruleId", id)?;
        self.segment.rules.get_mut(position)
    }

    fn check_patterns(&mut self) {
        let clauses = self.segment.rules.iter().flat_map(|rule| &rule.clauses);
        let matching = clauses.filter(|clause| clause.op == "matches");
        if matching.map(|clause| clause.values.len()).sum::<usize>() > PATTERNS_MAX {
            self.problems.add(self.path.clone(), "too_many", too_many_patterns());
        }
    }
}

fn name_of_list(is_included: bool) -> &'static str {
    if is_included { "those who are in" } else { "those who are out" }
}

/// The segments that a segment asks for.
pub fn asked_for(segment: &Segment) -> Vec<SegmentKey> {
    segments_of(segment.rules.iter().flat_map(|rule| &rule.clauses)).collect()
}
