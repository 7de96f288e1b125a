//! What SDKs report and what evaluations leave behind: counts of flags, and events for experiments.
//!
//! How the events of an SDK are read is in the room `events`; how they are kept, in `store`.

use crate::model::change::EnvId;
use crate::model::key::FlagKey;
use jiff::Timestamp;

/// How often a flag served one variation at one of its versions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlagCount {
    /// The flag.
    pub flag: FlagKey,
    /// The index of the variation; `None` if there was no value and the caller used its default.
    pub variation: Option<u32>,
    /// The environment's version at which the flag had last changed; 0 if that is not known.
    pub version: i64,
    /// How often.
    pub n: u64,
}

/// How often a flag was asked for that there is not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownCount {
    /// Its key.
    pub flag: FlagKey,
    /// How often.
    pub n: u64,
}

/// The kinds of events that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A context was seen.
    Index,
    /// A context was named by the application.
    Identify,
    /// A flag was evaluated that is tracked.
    Feature,
    /// A flag was evaluated that is being debugged.
    Debug,
    /// Something that the application measures.
    Custom,
    /// A click on a page.
    Click,
    /// A view of a page.
    Pageview,
    /// A step of a migration.
    Migration,
}

/// The words for the kinds, as SDKs write them.
pub const EVENT_KINDS: &[(&str, EventKind)] = &[
    ("index", EventKind::Index),
    ("identify", EventKind::Identify),
    ("feature", EventKind::Feature),
    ("debug", EventKind::Debug),
    ("custom", EventKind::Custom),
    ("click", EventKind::Click),
    ("pageview", EventKind::Pageview),
    ("migration_op", EventKind::Migration),
];

impl EventKind {
    /// The word for it, as SDKs write it.
    pub fn as_str(self) -> &'static str {
        EVENT_KINDS.iter().find(|(_, kind)| *kind == self).map_or("", |(word, _)| word)
    }
}

/// Something that happened to a context; of the context, only kinds and keys.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// When.
    pub at: Timestamp,
    /// The flag or the name of what happened; empty for `index` and `identify`.
    pub key: String,
    /// The kind and the key of each part of the context.
    pub units: Vec<(String, String)>,
    /// The index of the variation that was served.
    pub variation: Option<u32>,
    /// The flag's version.
    pub version: Option<i64>,
    /// Why the variation was served, e.g. `FALLTHROUGH`; one of the words that SDKs know.
    pub reason: Option<&'static str>,
    /// Whether the context takes part in an experiment.
    pub in_experiment: bool,
    /// What was measured.
    pub value: Option<f64>,
    /// The event stands for so many.
    pub sampling_ratio: i64,
}

/// Everything that is kept at once or not at all: what one request of an SDK reported, or what this process counted itself.
#[derive(Debug, Clone)]
pub struct Payload {
    /// The environment.
    pub env: EnvId,
    /// Unique in the environment; another payload with the same id is the same one, sent again.
    pub id: String,
    /// How long the id has to be remembered.
    pub expires_at: Timestamp,
    /// When it happened; decides on the day that it counts for.
    pub at: Timestamp,
    /// Counts of flags.
    pub counts: Vec<FlagCount>,
    /// Counts of flags that there are not.
    pub unknown: Vec<UnknownCount>,
    /// Single events.
    pub events: Vec<Event>,
}

impl Payload {
    /// How many rows it makes, about.
    pub fn n_rows(&self) -> usize {
        let units: usize = self.events.iter().map(|event| event.units.len()).sum();
        1 + self.counts.len() + self.unknown.len() + units
    }

    /// How many bytes of memory it takes, about.
    pub fn n_bytes(&self) -> usize {
        let texts: usize = self
            .events
            .iter()
            .flat_map(|event| &event.units)
            .map(|(kind, key)| kind.len() + key.len() + size_of::<(String, String)>())
            .sum();
        let keys: usize = self.events.iter().map(|event| event.key.len()).sum();
        let flags: usize = self.counts.iter().map(|count| count.flag.as_str().len()).sum();
        let unknown: usize = self.unknown.iter().map(|count| count.flag.as_str().len()).sum();
        size_of::<Self>()
            + texts
            + keys
            + flags
            + unknown
            + self.events.len() * size_of::<Event>()
            + self.counts.len() * size_of::<FlagCount>()
            + self.unknown.len() * size_of::<UnknownCount>()
    }
}
