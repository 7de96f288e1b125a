//! Reading what SDKs send: a JSON array of events of several kinds, in the schemas 3 and 4.
//!
//! Reads forgivingly: an event that makes no sense is left out and counted, and the others are taken. What belongs to which
//! flag is decided where the rulesets are.
//!
//! Source: the event schemas of LaunchDarkly's SDKs.

use crate::events::unit::ContextUnits;
use crate::events::unit::KeyUnits;
use crate::events::unit::Text;
use crate::events::unit::Units;
use crate::events::unit::keep;
use crate::model::event::EVENT_KINDS;
use crate::model::event::Event;
use crate::model::event::EventKind;
use crate::model::limit::VARIATIONS_MAX;
use crate::model::rule::USER_KIND;
use jiff::SignedDuration;
use jiff::Timestamp;
use serde::Deserialize;
use serde::Deserializer;
use serde::de::SeqAccess;
use serde::de::Visitor;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// Events and counters in one payload; the rest is left out.
const ITEMS_MAX: usize = 50_000;
/// Characters of the name of what happened.
const NAME_CHARS_MAX: usize = 256;
/// How far back a client's clock is believed; nothing is believed to lie ahead. What is not believed happened just now.
const BACK_MAX: SignedDuration = SignedDuration::from_hours(24);
/// Evaluations in one counter; more cannot have happened between two flushes.
const COUNT_MAX: u64 = 1_000_000_000;
/// The word for the event of one evaluation.
const FEATURE: &str = "feature";
/// The words of SDKs for why a variation was served.
const REASONS: &[&str] =
    &["OFF", "FALLTHROUGH", "TARGET_MATCH", "RULE_MATCH", "PREREQUISITE_FAILED", "ERROR"];

/// How an SDK tells how often it has evaluated.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Counting {
    /// In summaries.
    #[default]
    InSummaries,
    /// By one event for each evaluation, as PHP's, which keeps nothing between two requests.
    OneByOne,
}

/// What the events say.
#[derive(Debug, Default)]
pub struct Report {
    /// How often flags were evaluated.
    pub counters: Vec<Counter>,
    /// Single events.
    pub events: Vec<Event>,
    /// When the newest summary ended.
    pub ended_at: Option<Timestamp>,
    /// Events that make no sense.
    pub n_invalid: u64,
}

/// How often an SDK served a variation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// What the SDK was asked for.
    pub flag: String,
    /// The index of the variation.
    pub variation: Option<u32>,
    /// The flag's version.
    pub version: Option<i64>,
    /// Whether the SDK knew no such flag.
    pub is_unknown: bool,
    /// How often.
    pub n: u64,
}

/// The body is not a JSON array.
#[derive(Debug, thiserror::Error)]
#[error("the body is not a JSON array of events: {0}")]
pub struct ReadError(serde_json::Error);

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEvent {
    kind: String,
    creation_date: Option<f64>,
    #[serde(default)]
    key: Text,
    context: Option<ContextUnits>,
    context_keys: Option<KeyUnits>,
    user: Option<ContextUnits>,
    #[serde(default)]
    user_key: Text,
    variation: Option<f64>,
    version: Option<f64>,
    reason: Option<RawReason>,
    metric_value: Option<f64>,
    sampling_ratio: Option<f64>,
    track_events: Option<bool>,
    exclude_from_summaries: Option<bool>,
    evaluation: Option<RawEvaluation>,
    end_date: Option<f64>,
    features: Option<BTreeMap<String, RawFeature>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawReason {
    kind: Option<String>,
    in_experiment: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct RawEvaluation {
    #[serde(default)]
    key: Text,
    variation: Option<f64>,
    version: Option<f64>,
    reason: Option<RawReason>,
}

#[derive(Debug, Deserialize)]
struct RawFeature {
    #[serde(default)]
    counters: Vec<RawCounter>,
}

#[derive(Debug, Deserialize)]
struct RawCounter {
    variation: Option<f64>,
    version: Option<f64>,
    unknown: Option<bool>,
    count: f64,
}

/// Reads the body that an SDK sent at `now`.
///
/// # Errors
///
/// It is not a JSON array.
pub(super) fn read(body: &[u8], counting: Counting, now: Timestamp) -> Result<Report, ReadError> {
    struct Array(Counting, Timestamp);
    impl<'de> Visitor<'de> for Array {
        type Value = Report;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Report, A::Error> {
            let mut report = Report::default();
            // One after another, so that a list of a million nothings takes no memory.
            while let Some(text) = seq.next_element::<&RawValue>()? {
                match serde_json::from_str::<RawEvent>(text.get()) {
                    Ok(event) if self.0 == Counting::OneByOne && event.kind == FEATURE => {
                        report.count_one(event, self.1);
                    }
                    Ok(event) => report.add(event, self.1),
                    Err(_) => report.n_invalid += 1,
                }
            }
            Ok(report)
        }
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let report = deserializer.deserialize_seq(Array(counting, now)).map_err(ReadError)?;
    deserializer.end().map_err(ReadError)?;
    Ok(report)
}

impl Report {
    fn add(&mut self, raw: RawEvent, now: Timestamp) {
        if raw.kind == "summary" {
            let at = believed(raw.end_date, now);
            self.ended_at = Some(self.ended_at.map_or(at, |other| other.max(at)));
            self.add_summary(raw.features.unwrap_or_default());
            return;
        }
        let kind = EVENT_KINDS.iter().find(|(word, _)| *word == raw.kind).map(|(_, kind)| *kind);
        let event = kind.and_then(|kind| read_event(kind, raw, now));
        match event {
            Some(event) if self.events.len() < ITEMS_MAX => self.events.push(event),
            _ => self.n_invalid += 1,
        }
    }

    /// Counts an evaluation; it is kept as an event of its own only if that is asked for.
    fn count_one(&mut self, raw: RawEvent, now: Timestamp) {
        let flag = raw.key.0.clone().filter(|key| is_name(key));
        if raw.exclude_from_summaries != Some(true) {
            match flag {
                Some(flag) if self.counters.len() < ITEMS_MAX => self.counters.push(Counter {
                    flag,
                    variation: index(raw.variation),
                    version: whole(raw.version),
                    is_unknown: false,
                    n: 1,
                }),
                _ => self.n_invalid += 1,
            }
            let at = believed(raw.creation_date, now);
            self.ended_at = Some(self.ended_at.map_or(at, |other| other.max(at)));
        }
        if raw.track_events == Some(true) {
            self.add(raw, now);
        }
    }

    fn add_summary(&mut self, features: BTreeMap<String, RawFeature>) {
        for (flag, feature) in features {
            for counter in feature.counters {
                let n = whole(Some(counter.count)).and_then(|n| u64::try_from(n).ok());
                match n.filter(|n| (1..=COUNT_MAX).contains(n)) {
                    Some(n) if self.counters.len() < ITEMS_MAX => self.counters.push(Counter {
                        flag: flag.clone(),
                        variation: index(counter.variation),
                        version: whole(counter.version),
                        is_unknown: counter.unknown == Some(true),
                        n,
                    }),
                    _ => self.n_invalid += 1,
                }
            }
        }
    }
}

/// Puts an event into the form in which it is kept; `None` if it makes no sense.
fn read_event(kind: EventKind, raw: RawEvent, now: Timestamp) -> Option<Event> {
    let at = believed(raw.creation_date, now);
    let sampling_ratio = whole(raw.sampling_ratio).filter(|ratio| *ratio > 0).unwrap_or(1);
    let units = units_of(raw.context, raw.context_keys, raw.user, raw.user_key);
    let evaluation = raw.evaluation.unwrap_or(RawEvaluation {
        key: raw.key,
        variation: raw.variation,
        version: raw.version,
        reason: raw.reason,
    });
    // The key of these two is that of a context, in the old schema.
    let key = match kind {
        EventKind::Index | EventKind::Identify => String::new(),
        _ => evaluation.key.0.filter(|key| is_name(key))?,
    };
    let reason = evaluation.reason;
    let in_experiment = reason.as_ref().and_then(|reason| reason.in_experiment) == Some(true);
    let word = reason.and_then(|reason| reason.kind);
    Some(Event {
        kind,
        at,
        key,
        units: Some(units).filter(|units| !units.is_empty())?,
        variation: index(evaluation.variation),
        version: whole(evaluation.version),
        reason: REASONS.iter().find(|known| word.as_deref() == Some(**known)).copied(),
        in_experiment,
        value: raw.metric_value,
        sampling_ratio,
    })
}

fn units_of(
    context: Option<ContextUnits>,
    keys: Option<KeyUnits>,
    user: Option<ContextUnits>,
    user_key: Text,
) -> Units {
    if let Some(ContextUnits(units)) = context.or(user) {
        return units;
    }
    if let Some(KeyUnits(units)) = keys {
        return units;
    }
    let mut units = Vec::new();
    keep(&mut units, USER_KIND.to_owned(), user_key.0);
    units
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('\0') && name.chars().count() <= NAME_CHARS_MAX
}

/// A time that a client told, as far as it can be believed.
fn believed(millis: Option<f64>, now: Timestamp) -> Timestamp {
    let told = whole(millis).and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let earliest = now.checked_sub(BACK_MAX).unwrap_or(now);
    told.filter(|told| (earliest..=now).contains(told)).unwrap_or(now)
}

/// A whole number; SDKs whose language has no others may write `3.0`.
fn whole(number: Option<f64>) -> Option<i64> {
    /// Up to here, every whole number can be told exactly.
    const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
    let number = number.filter(|number| number.fract() == 0.0 && number.abs() <= WHOLE_MAX)?;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and within the bounds")]
    Some(number as i64)
}

fn index(number: Option<f64>) -> Option<u32> {
    let index = whole(number).and_then(|index| u32::try_from(index).ok())?;
    usize::try_from(index).is_ok_and(|index| index < VARIATIONS_MAX).then_some(index)
}

#[cfg(test)]
mod tests;
