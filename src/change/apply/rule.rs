//! Rules: their order, what people call them, and what they lead to. Their clauses are in `clause`.

use super::Change;
use crate::change::instruction::RuleSpec;
use crate::change::instruction::check_segments;
use crate::change::read::ServeSpec;
use crate::change::read::too_many_patterns;
use crate::model::limit::PATTERNS_MAX;
use crate::model::limit::RULES_MAX;
use crate::model::rule::Clause;
use crate::model::rule::Rule;
use std::collections::BTreeSet;

impl Change<'_> {
    pub(super) fn add_rule(
        &mut self,
        id: Option<&str>,
        description: &str,
        clauses: &[Clause],
        serve: &ServeSpec,
        before_rule_id: Option<&str>,
    ) {
        self.check_segments(clauses);
        let serve = self.served(serve, None);
        let position = self.rule_position(before_rule_id);
        let (Some(serve), Some(position)) = (serve, position) else { return };
        if self.applied.config.rules.len() == RULES_MAX {
            let detail = format!("a flag can have at most {RULES_MAX} rules");
            return self.problems.add(self.path.clone(), "too_many", detail);
        }
        let (description, clauses) = (description.to_owned(), clauses.to_vec());
        let id = id.map_or_else(|| (self.new_id)(), str::to_owned);
        if self.applied.config.rules.iter().any(|rule| rule.id == id) {
            let detail = format!("`{id}` is the id of another rule");
            return self.refuse("id", "duplicate_rule", detail);
        }
        let rule = Rule { id, description, clauses, serve, track_events: false };
        if has_too_many_patterns(self.applied.config.rules.iter().chain([&rule])) {
            return self.refuse("clauses", "too_many", too_many_patterns());
        }
        let name = name_of(&rule);
        self.applied.config.rules.insert(position, rule);
        self.say(format!("added {name} at position {}", position + 1));
    }

    pub(super) fn remove_rule(&mut self, rule_id: &str) {
        let Some(position) = self.find_rule(rule_id) else { return };
        self.applied.config.rules.remove(position);
        self.say(format!("removed rule {rule_id} from position {}", position + 1));
    }

    pub(super) fn reorder_rules(&mut self, rule_ids: &[String]) {
        let rules = &self.applied.config.rules;
        let own: BTreeSet<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
        let named: BTreeSet<&str> = rule_ids.iter().map(String::as_str).collect();
        if own != named || rule_ids.len() != rules.len() {
            let ids: Vec<&str> = rules.iter().map(|rule| rule.id.as_str()).collect();
            let detail = format!("must name each rule of the flag once: {}", ids.join(", "));
            return self.refuse("ruleIds", "rules_incomplete", detail);
        }
        let find = |id: &String| rules.iter().find(|rule| rule.id == *id).cloned();
        let ordered: Vec<Rule> = rule_ids.iter().filter_map(find).collect();
        if ordered != *rules {
            self.applied.config.rules = ordered;
            self.say(format!("put the rules into the order {}", rule_ids.join(", ")));
        }
    }

    pub(super) fn replace_rules(&mut self, specs: &[RuleSpec]) {
        let path = self.path.clone();
        let n_before = self.problems.as_slice().len();
        let mut rules: Vec<Rule> = Vec::with_capacity(specs.len());
        for (i, spec) in specs.iter().enumerate() {
            self.path = format!("{path}.rules[{i}]");
            rules.extend(self.replacing_rule(spec, &rules));
        }
        self.path = path;
        if self.problems.as_slice().len() != n_before || rules.len() != specs.len() {
            return;
        }
        if has_too_many_patterns(rules.iter()) {
            return self.refuse("rules", "too_many", too_many_patterns());
        }
        if rules != self.applied.config.rules {
            let n_rules = rules.len();
            self.applied.config.rules = rules;
            self.say(format!("replaced all rules by {n_rules}"));
        }
    }

    /// A rule among those that replace all others; one that goes on keeps whom it can.
    fn replacing_rule(&mut self, spec: &RuleSpec, earlier: &[Rule]) -> Option<Rule> {
        self.check_segments(&spec.clauses);
        let mut old = None;
        if let Some(id) = &spec.id {
            let scene = self.scene.config.rules.iter();
            old = self.applied.config.rules.iter().chain(scene).find(|rule| rule.id == *id);
            if earlier.iter().any(|rule| rule.id == *id) {
                let detail = format!("`{id}` is the id of an earlier rule");
                self.refuse("id", "duplicate_rule", detail);
                return None;
            }
        }
        let old = old.cloned();
        let serve = self.served(&spec.serve, old.as_ref().map(|rule| &rule.serve))?;
        let id = spec.id.clone().unwrap_or_else(|| (self.new_id)());
        let (description, clauses) = (spec.description.clone(), spec.clauses.clone());
        let before = old.is_some_and(|rule| rule.track_events);
        let track_events = spec.track_events.unwrap_or(before);
        Some(Rule { id, description, clauses, serve, track_events })
    }

    pub(super) fn describe_rule(&mut self, rule_id: &str, description: &str) {
        let Some(position) = self.find_rule(rule_id) else { return };
        let Some(rule) = self.applied.config.rules.get_mut(position) else { return };
        if rule.description != description {
            description.clone_into(&mut rule.description);
            self.say(format!("described rule {} as `{description}`", position + 1));
        }
    }

    pub(super) fn set_rule_serve(&mut self, rule_id: &str, serve: &ServeSpec) {
        let Some(position) = self.find_rule(rule_id) else { return };
        let Some(old) = self.applied.config.rules.get(position).cloned() else { return };
        let Some(new) = self.served(serve, Some(&old.serve)) else { return };
        if old.serve != new {
            let words = self.words_for(serve);
            if let Some(rule) = self.applied.config.rules.get_mut(position) {
                rule.serve = new;
            }
            self.say(format!("set {} to {words}", name_of(&old)));
        }
    }

    /// The position of a rule; notes a problem if there is none.
    pub(super) fn find_rule(&mut self, rule_id: &str) -> Option<usize> {
        let position = self.applied.config.rules.iter().position(|rule| rule.id == rule_id);
        if position.is_none() {
            self.refuse("ruleId", "unknown_rule", not_a_rule(rule_id));
        }
        position
    }

    fn check_segments(&mut self, clauses: &[Clause]) {
        let scene = self.scene;
        let exists = |key: &str| scene.segments.contains(key);
        check_segments(clauses, &self.path, exists, &mut self.problems);
    }

    /// Where a new rule goes: last, or before another.
    fn rule_position(&mut self, before_rule_id: Option<&str>) -> Option<usize> {
        let rules = &self.applied.config.rules;
        let Some(id) = before_rule_id else { return Some(rules.len()) };
        let position = rules.iter().position(|rule| rule.id == id);
        if position.is_none() {
            let detail = "is not a rule of this flag in this environment";
            self.refuse("beforeRuleId", "unknown_rule", detail);
        }
        position
    }
}

/// What people call a rule.
pub(super) fn name_of(rule: &Rule) -> String {
    if rule.description.is_empty() {
        format!("rule {}", rule.id)
    } else {
        format!("rule `{}`", rule.description)
    }
}

fn not_a_rule(id: &str) -> String {
    format!("`{id}` is not a rule of this flag in this environment")
}

/// Whether rules have more patterns than a flag may have.
pub(super) fn has_too_many_patterns<'r>(rules: impl Iterator<Item = &'r Rule>) -> bool {
    let matching = rules.flat_map(|rule| &rule.clauses).filter(|clause| clause.op == "matches");
    matching.map(|clause| clause.values.len()).sum::<usize>() > PATTERNS_MAX
}
