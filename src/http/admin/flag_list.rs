//! Lists of flags: which are asked for, in which order, how many at once, and which of their fields.

use crate::control::StaleReason;
use crate::http::error::ApiError;
use crate::model::flag::FLAG_KINDS;
use crate::model::flag::FlagDefinition;
use crate::model::flag::FlagKind;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeSet;

/// Flags in one page.
pub(crate) const PAGE_MAX: usize = 1_000;
/// Terms of one filter.
const TERMS_MAX: usize = 20;

/// The fields of a definition that can be asked for.
pub(crate) const DEFINITION_FIELDS: &[&str] = &[
    "key",
    "name",
    "description",
    "kind",
    "variations",
    "tags",
    "temporary",
    "temporaryUntil",
    "clientSideAvailability",
    "defaults",
    "maintainer",
    "customProperties",
    "deprecated",
    "archived",
];
/// The fields that a flag has in an environment besides.
pub(crate) const ENVIRONMENT_FIELDS: &[&str] = &[
    "on",
    "prerequisites",
    "targets",
    "contextTargets",
    "rules",
    "fallthrough",
    "offVariation",
    "salt",
    "trackEvents",
    "trackEventsFallthrough",
    "version",
    "killed",
    "createdAt",
    "changedAt",
];

/// What a list may be asked for.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    limit: Option<String>,
    cursor: Option<String>,
    filter: Option<String>,
    sort: Option<String>,
    fields: Option<String>,
}

/// What a list is asked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    limit: usize,
    cursor: Option<(String, String)>,
    terms: Vec<Term>,
    pub(crate) order: Order,
    is_descending: bool,
    fields: Option<BTreeSet<String>>,
}

/// By what a list is sorted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    Key,
    Name,
    Created,
}

const ORDERS: &[(&str, Order)] =
    &[("key", Order::Key), ("name", Order::Name), ("created", Order::Created)];

#[derive(Debug)]
enum Term {
    Tag(String),
    Kind(FlagKind),
    State(State),
    Stale(Stale),
    Text(String),
}

/// Whether a flag may be removed, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stale {
    /// For any reason.
    Yes,
    /// For none.
    No,
    /// For this one, among others.
    For(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    All,
    Live,
    Archived,
    Deprecated,
    Temporary,
    On,
    Off,
    Killed,
}

const STATES: &[(&str, State)] = &[
    ("all", State::All),
    ("live", State::Live),
    ("archived", State::Archived),
    ("deprecated", State::Deprecated),
    ("temporary", State::Temporary),
];
const ENVIRONMENT_STATES: &[(&str, State)] =
    &[("on", State::On), ("off", State::Off), ("killed", State::Killed)];

/// What is looked at of a flag.
#[derive(Debug)]
pub(crate) struct Facts<'f> {
    pub(crate) definition: &'f FlagDefinition,
    /// Whether it is on and whether it is killed, in an environment.
    pub(crate) switches: Option<(bool, bool)>,
    pub(crate) created_at: Option<Timestamp>,
    /// Why it may be removed, in an environment, if that is asked for.
    pub(crate) stale: Vec<StaleReason>,
}

/// An item of a list, as a whole or with some of its fields.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Item<T> {
    Whole(T),
    Sparse(Value),
}

/// A page of a list.
#[derive(Debug)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<Item<T>>,
    /// How many there are on all pages.
    pub(crate) total: usize,
    /// Where the next page begins, if there is one.
    pub(crate) next: Option<String>,
}

impl ListQuery {
    /// Reads what is asked for; `in_environment` says whether flags have switches.
    ///
    /// # Errors
    ///
    /// 400 with a code that names the parameter.
    pub(crate) fn read(self, in_environment: bool) -> Result<Wanted, ApiError> {
        let limit = match self.limit.as_deref().map(str::parse::<usize>) {
            None => usize::MAX,
            Some(Ok(limit)) if (1..=PAGE_MAX).contains(&limit) => limit,
            Some(_) => {
                let detail = format!("limit must be from 1 to {PAGE_MAX}");
                return Err(ApiError::bad_request("invalid_limit", detail));
            }
        };
        let sort = self.sort.as_deref().unwrap_or("key");
        let (name, is_descending) =
            sort.strip_prefix('-').map_or((sort, false), |name| (name, true));
        let Some((_, order)) = ORDERS.iter().find(|(word, _)| *word == name) else {
            let detail = "sort must be key, name or created, with - before it to turn it around";
            return Err(ApiError::bad_request("invalid_sort", detail));
        };
        let cursor = match self.cursor {
            None => None,
            Some(text) => {
                let Some((key, value)) = text.split_once(':') else {
                    let detail = "cursor must be the `next` of an earlier answer";
                    return Err(ApiError::bad_request("invalid_cursor", detail));
                };
                Some((value.to_owned(), key.to_owned()))
            }
        };
        let terms = read_terms(self.filter.as_deref().unwrap_or_default(), in_environment)?;
        let fields = self.fields.map(|text| read_fields(&text, in_environment)).transpose()?;
        Ok(Wanted { limit, cursor, terms, order: *order, is_descending, fields })
    }
}

fn read_terms(filter: &str, in_environment: bool) -> Result<Vec<Term>, ApiError> {
    let invalid = |detail: String| ApiError::bad_request("invalid_filter", detail);
    let mut terms = Vec::new();
    for term in filter.split(',').map(str::trim).filter(|term| !term.is_empty()) {
        terms.push(match term.split_once(':') {
            Some(("tag", tag)) => Term::Tag(tag.to_owned()),
            Some(("kind", kind)) => {
                let found = FLAG_KINDS.iter().find(|(word, _)| *word == kind);
                let (_, kind) = found.ok_or_else(|| {
                    invalid("kind must be boolean, string, number or json".to_owned())
                })?;
                Term::Kind(*kind)
            }
            Some(("state", state)) => {
                let own = if in_environment { ENVIRONMENT_STATES } else { &[] };
                let found = STATES.iter().chain(own).find(|(word, _)| *word == state);
                let known: Vec<&str> = STATES.iter().chain(own).map(|(word, _)| *word).collect();
                let (_, state) = found
                    .ok_or_else(|| invalid(format!("state must be one of {}", known.join(", "))))?;
                Term::State(*state)
            }
            Some(("stale", word)) => Term::Stale(read_stale(word, in_environment)?),
            Some(("text", text)) => Term::Text(text.to_lowercase()),
            Some((name, _)) => {
                let detail = format!("`{name}` is not tag, kind, state, stale or text");
                return Err(invalid(detail));
            }
            None => Term::Text(term.to_lowercase()),
        });
    }
    if terms.len() > TERMS_MAX {
        return Err(invalid(format!("a filter can have at most {TERMS_MAX} terms")));
    }
    Ok(terms)
}

fn read_stale(word: &str, in_environment: bool) -> Result<Stale, ApiError> {
    let invalid = |detail: String| ApiError::bad_request("invalid_filter", detail);
    if !in_environment {
        let detail = "a flag is stale in an environment; ask for the flags of one";
        return Err(invalid(detail.to_owned()));
    }
    match word {
        "true" => Ok(Stale::Yes),
        "false" => Ok(Stale::No),
        word => {
            let found = StaleReason::CODES.iter().find(|code| **code == word);
            found.map(|code| Stale::For(code)).ok_or_else(|| {
                let known = StaleReason::CODES.join(", ");
                invalid(format!("stale must be true, false or a reason: one of {known}"))
            })
        }
    }
}

fn read_fields(text: &str, in_environment: bool) -> Result<BTreeSet<String>, ApiError> {
    let own = if in_environment { ENVIRONMENT_FIELDS } else { &[] };
    let mut fields = BTreeSet::new();
    for name in text.split(',').map(str::trim).filter(|name| !name.is_empty()) {
        if !DEFINITION_FIELDS.iter().chain(own).any(|known| *known == name) {
            let known: Vec<&str> = DEFINITION_FIELDS.iter().chain(own).copied().collect();
            let detail = format!("`{name}` is not a field here; known are {}", known.join(", "));
            return Err(ApiError::bad_request("invalid_fields", detail));
        }
        fields.insert(name.to_owned());
    }
    Ok(fields)
}

impl Wanted {
    /// Whether it must be known why flags may be removed.
    pub(crate) fn asks_for_stale(&self) -> bool {
        self.terms.iter().any(|term| matches!(term, Term::Stale(_)))
    }

    /// The page that is asked for. Flags that are archived are left out unless a state is asked for.
    pub(crate) fn page<S, T: Serialize>(
        &self,
        items: Vec<S>,
        facts: impl Fn(&S) -> Facts<'_>,
        body: impl Fn(S) -> T,
    ) -> Page<T> {
        let mut listed: Vec<((String, String), S)> = Vec::new();
        for item in items {
            let known = facts(&item);
            if self.is_meant(&known) {
                let value = self.value_of(&known);
                let key = known.definition.key.to_string();
                listed.push(((value, key), item));
            }
        }
        listed.sort_by(|(left, _), (right, _)| left.cmp(right));
        if self.is_descending {
            listed.reverse();
        }
        let total = listed.len();
        if let Some(cursor) = &self.cursor {
            let is_behind = |place: &(String, String)| match self.is_descending {
                true => place < cursor,
                false => place > cursor,
            };
            listed.retain(|(place, _)| is_behind(place));
        }
        let has_more = listed.len() > self.limit;
        listed.truncate(self.limit);
        let last = listed.last().filter(|_| has_more);
        let next = last.map(|((value, key), _)| format!("{key}:{value}"));
        let items = listed.into_iter().map(|(_, item)| self.prune(body(item))).collect();
        Page { items, total, next }
    }

    fn is_meant(&self, facts: &Facts<'_>) -> bool {
        let definition = facts.definition;
        let has_state = self.terms.iter().any(|term| matches!(term, Term::State(_)));
        if definition.archived && !has_state {
            return false;
        }
        let (is_on, is_killed) = facts.switches.unwrap_or_default();
        self.terms.iter().all(|term| match term {
            Term::Tag(tag) => definition.tags.contains(tag),
            Term::Kind(kind) => definition.kind == *kind,
            Term::Text(text) => {
                let texts = [definition.key.as_str(), &definition.name, &definition.description];
                texts.iter().any(|each| each.to_lowercase().contains(text))
            }
            Term::Stale(wanted) => match wanted {
                Stale::Yes => !facts.stale.is_empty(),
                Stale::No => facts.stale.is_empty(),
                Stale::For(code) => facts.stale.iter().any(|reason| reason.code() == *code),
            },
            Term::State(state) => match state {
                State::All => true,
                State::Live => !definition.archived,
                State::Archived => definition.archived,
                State::Deprecated => definition.deprecated,
                State::Temporary => definition.temporary,
                State::On => is_on && !definition.archived,
                State::Off => !is_on || definition.archived,
                State::Killed => is_killed,
            },
        })
    }

    fn value_of(&self, facts: &Facts<'_>) -> String {
        match self.order {
            Order::Key => String::new(),
            Order::Name => facts.definition.name.to_lowercase(),
            // With zeros before it, so that texts sort as numbers do.
            Order::Created => {
                format!("{:020}", facts.created_at.map_or(0, Timestamp::as_microsecond))
            }
        }
    }

    fn prune<T: Serialize>(&self, body: T) -> Item<T> {
        let Some(fields) = &self.fields else { return Item::Whole(body) };
        // OK because keys of bodies are texts.
        let mut value = serde_json::to_value(body).unwrap_or_default();
        if let Value::Object(all) = &mut value {
            all.retain(|name, _| fields.contains(name));
        }
        Item::Sparse(value)
    }
}
