//! The clauses of a rule, of a flag's as of a segment's.

use super::Change;
use super::rule::has_too_many_patterns;
use super::rule::name_of;
use crate::change::instruction::ClauseEdit;
use crate::change::instruction::check_segments;
use crate::change::instruction::check_segments_among;
use crate::change::read::too_many_patterns;
use crate::eval::check;
use crate::model::limit::CLAUSE_VALUES_MAX;
use crate::model::limit::CLAUSES_MAX;
use crate::model::limit::PATTERNS_MAX;
use crate::model::problem::Problems;
use crate::model::rule::Clause;
use crate::model::rule::name_clauses;

impl Change<'_> {
    pub(super) fn edit_rule(&mut self, rule_id: &str, edit: &ClauseEdit) {
        let Some(position) = self.find_rule(rule_id) else { return };
        let Some(rule) = self.applied.config.rules.get(position) else { return };
        let name = name_of(rule);
        let scene = self.scene;
        let exists = |key: &str| scene.segments.contains(key);
        let mut clauses = rule.clauses.clone();
        let mut edition = Edition {
            path: &self.path,
            exists: &exists,
            new_id: self.new_id,
            problems: &mut self.problems,
        };
        let Some(words) = edit_clauses(&mut clauses, edit, &mut edition) else { return };
        let mut rules = self.applied.config.rules.clone();
        if let Some(rule) = rules.get_mut(position) {
            rule.clauses = clauses;
        }
        if has_too_many_patterns(rules.iter()) {
            return self.problems.add(self.path.clone(), "too_many", too_many_patterns());
        }
        self.applied.config.rules = rules;
        self.say(format!("{words} {name}"));
    }
}

/// What the edition of clauses needs beside them.
pub(crate) struct Edition<'e> {
    /// The path of the instruction.
    pub(crate) path: &'e str,
    /// Which segments exist.
    pub(crate) exists: &'e dyn Fn(&str) -> bool,
    /// Makes the ids of clauses that are added.
    pub(crate) new_id: &'e mut dyn FnMut() -> String,
    /// Where problems are noted.
    pub(crate) problems: &'e mut Problems,
}

impl Edition<'_> {
    fn refuse(&mut self, field: &str, code: &'static str, detail: impl Into<String>) {
        self.problems.add(format!("{}.{field}", self.path), code, detail);
    }
}

/// Edits clauses; returns what was done, as the beginning of a sentence that ends with the rule's name.
///
/// `None` if nothing changes, or something is wrong, which is noted.
pub(crate) fn edit_clauses(
    clauses: &mut Vec<Clause>,
    edit: &ClauseEdit,
    edition: &mut Edition<'_>,
) -> Option<String> {
    let n_problems = edition.problems.as_slice().len();
    name_clauses(clauses);
    let words = match edit {
        ClauseEdit::Add(added) => add(clauses, added, edition),
        ClauseEdit::Remove(ids) => remove(clauses, ids, edition),
        ClauseEdit::Update { clause_id, clause } => {
            let values = format!("{}.clause", edition.path);
            check_segments_among(clause, &values, edition.exists, edition.problems);
            let found = find(clauses, clause_id, edition)?;
            let new = Clause { id: found.id.clone(), ..clause.clone() };
            (*found != new).then(|| {
                *found = new;
                format!("changed the clause {clause_id} of")
            })
        }
        ClauseEdit::AddValues { clause_id, values } => {
            let found = find(clauses, clause_id, edition)?;
            let mut all = found.values.clone();
            let fresh: Vec<_> = values.iter().filter(|value| !all.contains(value)).collect();
            let fresh: Vec<_> = fresh.into_iter().cloned().collect();
            all.extend(fresh.iter().cloned());
            if all.len() > CLAUSE_VALUES_MAX {
                let detail = format!("a clause can have at most {CLAUSE_VALUES_MAX} values");
                edition.refuse("values", "too_many", detail);
                return None;
            }
            // Before they are checked, because checking builds each of them.
            if found.op == "matches" && all.len() > PATTERNS_MAX {
                edition.refuse("values", "too_many", too_many_patterns());
                return None;
            }
            let n_fresh = fresh.len();
            // All that were sent, so that places in the problems are those in the body.
            let sent = Clause { values: values.clone(), ..found.clone() };
            if !sent.values.is_empty() {
                check::clause(&sent, edition.problems, edition.path);
            }
            check_segments_among(&sent, edition.path, edition.exists, edition.problems);
            found.values = all;
            (n_fresh > 0).then(|| format!("added {n_fresh} value(s) to the clause {clause_id} of"))
        }
        ClauseEdit::RemoveValues { clause_id, values } => {
            let found = find(clauses, clause_id, edition)?;
            let n_before = found.values.len();
            found.values.retain(|value| !values.contains(value));
            let n_removed = n_before - found.values.len();
            if found.values.is_empty() && n_removed > 0 {
                let detail = "would leave the clause without any value; remove the clause instead";
                edition.refuse("values", "required", detail);
            }
            let removed = || format!("removed {n_removed} value(s) from the clause {clause_id} of");
            (n_removed > 0).then(removed)
        }
    };
    words.filter(|_| edition.problems.as_slice().len() == n_problems)
}

fn add(clauses: &mut Vec<Clause>, added: &[Clause], edition: &mut Edition<'_>) -> Option<String> {
    check_segments(added, edition.path, edition.exists, edition.problems);
    if clauses.len() + added.len() > CLAUSES_MAX {
        let detail = format!("a rule can have at most {CLAUSES_MAX} clauses");
        edition.refuse("clauses", "too_many", detail);
        return None;
    }
    for (i, clause) in added.iter().enumerate() {
        let mut clause = clause.clone();
        if clause.id.is_empty() {
            clause.id = (edition.new_id)();
        } else if clauses.iter().any(|earlier| earlier.id == clause.id) {
            let detail = format!("`{}` is the id of an earlier clause", clause.id);
            edition.refuse(&format!("clauses[{i}].id"), "duplicate_clause", detail);
        }
        clauses.push(clause);
    }
    (!added.is_empty()).then(|| format!("added {} clause(s) to", added.len()))
}

fn remove(clauses: &mut Vec<Clause>, ids: &[String], edition: &mut Edition<'_>) -> Option<String> {
    for (i, id) in ids.iter().enumerate() {
        match clauses.iter().position(|clause| clause.id == *id) {
            Some(position) => _ = clauses.remove(position),
            None => {
                edition.refuse(&format!("clauseIds[{i}]"), "unknown_clause", not_a_clause(id));
            }
        }
    }
    (!ids.is_empty()).then(|| format!("removed {} clause(s) from", ids.len()))
}

fn find<'c>(
    clauses: &'c mut [Clause],
    id: &str,
    edition: &mut Edition<'_>,
) -> Option<&'c mut Clause> {
    let found = clauses.iter_mut().find(|clause| clause.id == id);
    if found.is_none() {
        edition.refuse("clauseId", "unknown_clause", not_a_clause(id));
    }
    found
}

fn not_a_clause(id: &str) -> String {
    format!("`{id}` is not a clause of this rule")
}
