//! Applying instructions to a flag's definition, all or nothing.

use crate::change::definition::ClientSide;
use crate::change::definition::DefinitionInstruction;
use crate::change::definition::ListEdit;
use crate::change::names::list_names;
use crate::change::renumber::Renumbering;
use crate::model::flag::CustomProperty;
use crate::model::flag::FlagDefinition;
use crate::model::flag::FlagEnd;
use crate::model::flag::Variation;
use crate::model::flag::sorted_tags;
use crate::model::flag::unknown_variation;
use crate::model::limit::CUSTOM_PROPERTIES_MAX;
use crate::model::limit::CUSTOM_VALUES_MAX;
use crate::model::limit::TAGS_MAX;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::problem::Problems;
use serde_json::Value;
use std::collections::BTreeMap;

/// Flags that keep one from being archived or deleted and are named; further ones are counted.
const DEPENDANTS_NAMED_MAX: usize = 20;

/// Where a flag is used; needed only if it is archived or deleted, or loses a variation.
#[derive(Debug, Default)]
pub struct Uses {
    /// The flags that have it as a prerequisite and are not archived, in words: "`b` in `production`".
    pub live_dependants: Vec<String>,
    /// Those that are archived.
    pub archived_dependants: Vec<String>,
    /// One use of each variation that is used, in words, by its index.
    pub variations: BTreeMap<i64, String>,
}

/// The result of a change of a definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Defined {
    /// The definition after it.
    pub definition: FlagDefinition,
    /// What was done, in words, one sentence per effect; empty if everything was so already.
    pub changes: Vec<String>,
    /// Which index each variation has now, if that is not the one it had.
    pub renumbering: Option<Renumbering>,
    /// Whether the flag is to be deleted.
    pub is_deleted: bool,
}

/// Applies instructions to a definition, in order and all or nothing.
///
/// # Errors
///
/// Every problem with any of the instructions, with paths like `instructions[0].value`.
pub fn apply_to_definition(
    definition: &FlagDefinition,
    uses: &Uses,
    instructions: &[DefinitionInstruction],
) -> Result<Defined, Problems> {
    let origins = (0..definition.variations.len()).map(Some).collect();
    let mut change = DefinitionChange {
        flag: definition.clone(),
        uses,
        origins,
        is_deleted: false,
        problems: Problems::default(),
    };
    let mut changes = Vec::new();
    for (i, instruction) in instructions.iter().enumerate() {
        let before = change.flag.clone();
        let was_deleted = change.is_deleted;
        let words = change.step(instruction, &format!("instructions[{i}]"));
        if change.flag != before || change.is_deleted != was_deleted {
            changes.push(words);
        }
    }
    let DefinitionChange { flag: new, origins, is_deleted, mut problems, .. } = change;
    // What was too large already, in data of an older version, may be edited.
    if new != *definition
        && let Some(detail) = new.size_problem()
        && definition.size_problem().is_none()
    {
        problems.add("instructions", "too_large", detail);
    }
    if new == *definition && !is_deleted {
        // One step may have undone another.
        changes.clear();
    }
    let renumbering = Renumbering::new(definition.variations.len(), &origins);
    problems.into_result(Defined { definition: new, changes, renumbering, is_deleted })
}

/// A change while it is being applied.
struct DefinitionChange<'a> {
    flag: FlagDefinition,
    uses: &'a Uses,
    /// The index that each variation had before the change; `None` for one that was added.
    origins: Vec<Option<usize>>,
    is_deleted: bool,
    problems: Problems,
}

impl DefinitionChange<'_> {
    fn step(&mut self, instruction: &DefinitionInstruction, path: &str) -> String {
        if self.is_deleted {
            self.problems.add(path, "deleted", "an earlier instruction deletes the flag");
            return String::new();
        }
        let is_lifecycle = matches!(
            instruction,
            DefinitionInstruction::Restore
                | DefinitionInstruction::Archive { .. }
                | DefinitionInstruction::Delete
        );
        if self.flag.archived && !is_lifecycle {
            let detail = "the flag is archived; restore it first by `restoreFlag`";
            self.problems.add(format!("{path}.kind"), "archived", detail);
            return String::new();
        }
        match instruction {
            DefinitionInstruction::AddVariation(variation) => {
                self.add_variation(variation, path);
                format!("added the variation `{}`", variation.key)
            }
            DefinitionInstruction::RemoveVariation(key) => {
                self.remove_variation(key, path);
                format!("removed the variation `{key}`")
            }
            DefinitionInstruction::Archive { .. } => {
                self.archive(path);
                "archived the flag".to_owned()
            }
            DefinitionInstruction::Restore => {
                self.flag.archived = false;
                "restored the flag from the archive".to_owned()
            }
            DefinitionInstruction::Delete => {
                self.delete(path);
                "deleted the flag".to_owned()
            }
            _ => edit(&mut self.flag, instruction, path, &mut self.problems),
        }
    }

    fn archive(&mut self, path: &str) {
        let dependants = self.uses.live_dependants.iter();
        if self.is_unused(dependants.collect(), path) {
            self.flag.archived = true;
        }
    }

    fn delete(&mut self, path: &str) {
        let Uses { live_dependants, archived_dependants, .. } = self.uses;
        let dependants = live_dependants.iter().chain(archived_dependants);
        self.is_deleted = self.is_unused(dependants.collect(), path);
    }

    /// Whether no flag has this one as a prerequisite; otherwise, names those that have.
    fn is_unused(&mut self, dependants: Vec<&String>, path: &str) -> bool {
        if dependants.is_empty() {
            return true;
        }
        let names = list_names(dependants.into_iter(), DEPENDANTS_NAMED_MAX);
        let detail = format!("the flag is a prerequisite of {names}; remove that first");
        self.problems.add(format!("{path}.kind"), "in_use", detail);
        false
    }

    fn add_variation(&mut self, variation: &Variation, path: &str) {
        let n_before = self.flag.variations.len();
        add_variation(&mut self.flag, variation, path, &mut self.problems);
        if self.flag.variations.len() > n_before {
            self.origins.push(None);
        }
    }

    fn remove_variation(&mut self, key: &str, path: &str) {
        let path = format!("{path}.variation");
        let Some(index) = self.flag.variation_index(key) else {
            let detail = unknown_variation(key, &self.flag.variations);
            return self.problems.add(path, "unknown_variation", detail);
        };
        let origin = self.origins.get(index).copied().flatten();
        let used = origin.and_then(|origin| self.uses.variations.get(&i64::try_from(origin).ok()?));
        let defaults = &self.flag.defaults;
        if let Some(used) = used {
            let detail = format!("`{key}` is used by {used}; change that first");
            self.problems.add(path, "in_use", detail);
        } else if defaults.on_variation.as_str() == key || defaults.off_variation.as_str() == key {
            let detail = format!(
                "`{key}` is what new environments start with; choose another by `updateDefaultVariation` first"
            );
            self.problems.add(path, "in_use", detail);
        } else if self.flag.variations.len() == 1 {
            self.problems.add(path, "required", "a flag must have at least one variation");
        } else {
            self.flag.variations.remove(index);
            if index < self.origins.len() {
                self.origins.remove(index);
            }
        }
    }
}

/// Everything that needs to know nothing but the flag.
fn edit(
    flag: &mut FlagDefinition,
    instruction: &DefinitionInstruction,
    path: &str,
    problems: &mut Problems,
) -> String {
    match instruction {
        DefinitionInstruction::UpdateName(name) => {
            flag.name.clone_from(name);
            format!("renamed the flag to `{name}`")
        }
        DefinitionInstruction::UpdateDescription(description) => {
            flag.description.clone_from(description);
            "changed the description".to_owned()
        }
        DefinitionInstruction::AddTags(tags) => add_tags(flag, tags, path, problems),
        DefinitionInstruction::RemoveTags(tags) => {
            let (removed, kept): (Vec<String>, Vec<String>) =
                flag.tags.drain(..).partition(|tag| tags.contains(tag));
            flag.tags = kept;
            format!("removed the tags {}", removed.join(", "))
        }
        DefinitionInstruction::SetTemporary(temporary) => {
            flag.temporary = *temporary;
            flag.temporary_until.take_if(|_| !*temporary);
            format!("made the flag {}", if *temporary { "temporary" } else { "permanent" })
        }
        DefinitionInstruction::SetTemporaryUntil(end) => {
            set_end(flag, end.as_ref(), path, problems)
        }
        DefinitionInstruction::SetClientSideAvailability { side, available } => {
            show_to(flag, *side, *available)
        }
        DefinitionInstruction::UpdateVariation { variation, value, name } => {
            update_variation(flag, variation, value.as_ref(), name.as_ref(), path, problems);
            format!("changed the variation `{variation}`")
        }
        DefinitionInstruction::UpdateDefaultVariation { on, off } => {
            for (name, key) in [("onVariation", on), ("offVariation", off)] {
                set_default(flag, name, key.as_deref(), path, problems);
            }
            "changed what new environments start with".to_owned()
        }
        DefinitionInstruction::SetMaintainer(maintainer) => {
            flag.maintainer.clone_from(maintainer);
            match maintainer {
                Some(name) => format!("gave the flag to `{name}`"),
                None => "removed the maintainer".to_owned(),
            }
        }
        DefinitionInstruction::EditCustomProperty { key, name, edit } => {
            edit_custom_property(flag, key, name.as_deref(), edit, path, problems);
            format!("changed the custom property `{key}`")
        }
        DefinitionInstruction::SetDeprecated(deprecated) => {
            flag.deprecated = *deprecated;
            let words = if *deprecated { "deprecated the flag" } else { "ended the deprecation" };
            words.to_owned()
        }
        // Where it is decided what they do, more is known.
        DefinitionInstruction::AddVariation(_)
        | DefinitionInstruction::RemoveVariation(_)
        | DefinitionInstruction::Archive { .. }
        | DefinitionInstruction::Restore
        | DefinitionInstruction::Delete => String::new(),
    }
}

fn set_end(
    flag: &mut FlagDefinition,
    end: Option<&FlagEnd>,
    path: &str,
    problems: &mut Problems,
) -> String {
    if end.is_some() && !flag.temporary {
        let detail = "the flag is permanent; make it temporary first by `makeFlagTemporary`";
        problems.add(format!("{path}.kind"), "not_temporary", detail);
    }
    flag.temporary_until = end.cloned();
    match end {
        Some(end) => format!("the flag is to be gone by {}", end.as_str()),
        None => "removed the end of the flag".to_owned(),
    }
}

fn show_to(flag: &mut FlagDefinition, side: ClientSide, is_available: bool) -> String {
    let availability = &mut flag.client_side_availability;
    let (field, who) = match side {
        ClientSide::UsingEnvironmentId => (&mut availability.using_environment_id, "browsers"),
        ClientSide::UsingMobileKey => (&mut availability.using_mobile_key, "mobile applications"),
    };
    *field = is_available;
    format!("made the flag {} to {who}", if is_available { "visible" } else { "invisible" })
}

fn add_variation(
    flag: &mut FlagDefinition,
    variation: &Variation,
    path: &str,
    problems: &mut Problems,
) {
    if flag.variation_index(variation.key.as_str()).is_some() {
        let detail = format!("`{}` is a variation already", variation.key);
        problems.add(format!("{path}.key"), "duplicate_variation", detail);
    } else if !flag.kind.admits(&variation.value) {
        wrong_kind(flag, path, problems);
    } else if flag.variations.len() == VARIATIONS_MAX {
        let detail = format!("a flag can have at most {VARIATIONS_MAX} variations");
        problems.add(path, "too_many", detail);
    } else {
        flag.variations.push(variation.clone());
    }
}

fn update_variation(
    flag: &mut FlagDefinition,
    key: &str,
    value: Option<&Value>,
    name: Option<&String>,
    path: &str,
    problems: &mut Problems,
) {
    let kind = flag.kind;
    let Some(found) = flag.variations.iter_mut().find(|each| each.key.as_str() == key) else {
        let detail = unknown_variation(key, &flag.variations);
        return problems.add(format!("{path}.variation"), "unknown_variation", detail);
    };
    if let Some(name) = name {
        found.name.clone_from(name);
    }
    match value {
        Some(value) if kind.admits(value) => found.value = value.clone(),
        Some(_) => wrong_kind(flag, path, problems),
        None => {}
    }
}

fn wrong_kind(flag: &FlagDefinition, path: &str, problems: &mut Problems) {
    let detail = format!("must be a value of kind {}", flag.kind.as_str());
    problems.add(format!("{path}.value"), "variation_kind", detail);
}

fn add_tags(
    flag: &mut FlagDefinition,
    tags: &[String],
    path: &str,
    problems: &mut Problems,
) -> String {
    let is_new = |tag: &&String| !flag.tags.contains(tag);
    let added: Vec<&str> = tags.iter().filter(is_new).map(String::as_str).collect();
    let words = format!("added the tags {}", added.join(", "));
    flag.tags = sorted_tags(flag.tags.iter().chain(tags).cloned().collect());
    if flag.tags.len() > TAGS_MAX {
        let detail = format!("a flag can have at most {TAGS_MAX} tags");
        problems.add(format!("{path}.values"), "too_many", detail);
    }
    words
}

fn set_default(
    flag: &mut FlagDefinition,
    name: &str,
    key: Option<&str>,
    path: &str,
    problems: &mut Problems,
) {
    let Some(key) = key else { return };
    let found = flag.variations.iter().find(|variation| variation.key.as_str() == key);
    let Some(found) = found.map(|variation| variation.key.clone()) else {
        let detail = unknown_variation(key, &flag.variations);
        return problems.add(format!("{path}.{name}"), "unknown_variation", detail);
    };
    match name {
        "onVariation" => flag.defaults.on_variation = found,
        _ => flag.defaults.off_variation = found,
    }
}

fn edit_custom_property(
    flag: &mut FlagDefinition,
    key: &str,
    name: Option<&str>,
    edit: &ListEdit,
    path: &str,
    problems: &mut Problems,
) {
    let is_new = !flag.custom_properties.contains_key(key);
    if is_new && matches!(edit, ListEdit::Remove(_)) {
        return;
    }
    let fresh = || CustomProperty { name: key.to_owned(), values: Vec::new() };
    let property = flag.custom_properties.entry(key.to_owned()).or_insert_with(fresh);
    let n_before = property.values.len();
    if let Some(name) = name.filter(|_| !matches!(edit, ListEdit::Remove(_))) {
        name.clone_into(&mut property.name);
    }
    match edit {
        ListEdit::Add(values) => append(&mut property.values, values),
        ListEdit::Replace(values) => {
            property.values.clear();
            append(&mut property.values, values);
        }
        ListEdit::Remove(values) => property.values.retain(|value| !values.contains(value)),
    }
    if property.values.len() > CUSTOM_VALUES_MAX {
        let detail = format!("a custom property can have at most {CUSTOM_VALUES_MAX} values");
        problems.add(format!("{path}.values"), "too_many", detail);
    }
    // A property ends with its last value, or when it is removed as a whole; one that was added without any stays.
    let is_over = match edit {
        ListEdit::Add(_) => false,
        ListEdit::Replace(_) => property.values.is_empty(),
        ListEdit::Remove(values) => {
            values.is_empty() || (property.values.is_empty() && n_before > 0)
        }
    };
    if is_over {
        flag.custom_properties.remove(key);
    }
    if flag.custom_properties.len() > CUSTOM_PROPERTIES_MAX {
        let detail = format!("a flag can have at most {CUSTOM_PROPERTIES_MAX} custom properties");
        problems.add(format!("{path}.key"), "too_many", detail);
    }
}

fn append(list: &mut Vec<String>, values: &[String]) {
    for value in values {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
}
