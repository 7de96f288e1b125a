//! From payloads to the rows that are written: added up, in order, and with hashes in place of the keys of contexts.

use crate::model::change::EnvId;
use crate::model::event::Event;
use crate::model::event::EventKind;
use crate::model::event::Payload;
use crate::record::day_of;
use crate::store::Asked;
use crate::store::EventRow;
use crate::store::Exposure;
use crate::store::ExposureKey;
use crate::store::UNIT_BYTES;
use crate::store::Unit;
use crate::store::UsageKey;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// The variation of an evaluation that had no value.
const NO_VARIATION: i64 = -1;

/// The rows of a batch.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) usage: BTreeMap<UsageKey, i64>,
    pub(super) last: BTreeMap<(EnvId, String), Timestamp>,
    pub(super) unknown: BTreeMap<(EnvId, String), Asked>,
    pub(super) events: Vec<EventRow>,
    pub(super) exposures: BTreeMap<ExposureKey, Exposure>,
}

impl Rows {
    /// Adds what a payload has.
    pub(super) fn add(&mut self, payload: &Payload, key: &[u8; 32]) {
        // Texts of times have one length then, so that both databases order them alike.
        let at = Timestamp::from_second(payload.at.as_second()).unwrap_or(payload.at);
        let day = day_of(payload.at);
        for count in &payload.counts {
            let flag = count.flag.to_string();
            let variation = count.variation.map_or(NO_VARIATION, i64::from);
            let n = i64::try_from(count.n).unwrap_or(i64::MAX);
            let of = (payload.env, flag.clone(), day, variation, count.version);
            let sum = self.usage.entry(of).or_default();
            *sum = sum.saturating_add(n);
            let last = self.last.entry((payload.env, flag)).or_insert(at);
            *last = at.max(*last);
        }
        for count in &payload.unknown {
            let n = i64::try_from(count.n).unwrap_or(i64::MAX);
            let of = (payload.env, count.flag.to_string());
            let asked = self.unknown.entry(of).or_insert(Asked { n: 0, first_at: at, last_at: at });
            asked.n = asked.n.saturating_add(n);
            asked.first_at = at.min(asked.first_at);
            asked.last_at = at.max(asked.last_at);
        }
        for event in &payload.events {
            for (unit_kind, unit_key) in &event.units {
                let unit = hash(key, payload.env, unit_kind, unit_key);
                self.add_event(payload.env, event, unit_kind, unit);
            }
        }
    }

    /// How many rows there are.
    pub(super) fn len(&self) -> usize {
        self.usage.len() + self.unknown.len() + self.events.len() + self.exposures.len()
    }

    fn add_event(&mut self, env: EnvId, event: &Event, unit_kind: &str, unit: Unit) {
        let day = day_of(event.at);
        let variation = event.variation.map(i64::from);
        // A debugged evaluation of a tracked flag comes as a `feature` as well.
        if event.kind == EventKind::Feature
            && let Some(variation) = variation
        {
            let of = (day, env, event.key.clone(), unit_kind.to_owned(), unit, variation);
            let exposure = self.exposures.entry(of).or_insert(Exposure {
                version: event.version.unwrap_or_default(),
                reason: event.reason,
                in_experiment: event.in_experiment,
                first_at: event.at,
                n: 0,
            });
            exposure.n = exposure.n.saturating_add(event.sampling_ratio);
            exposure.in_experiment |= event.in_experiment;
            exposure.first_at = exposure.first_at.min(event.at);
        }
        self.events.push(EventRow {
            day,
            at: event.at,
            env,
            kind: event.kind,
            key: event.key.clone(),
            unit_kind: unit_kind.to_owned(),
            unit,
            variation,
            version: event.version,
            reason: event.reason,
            in_experiment: event.in_experiment,
            value: event.value,
            sampling_ratio: event.sampling_ratio,
        });
    }
}

/// What stands for the key of a context: the same in all events of an environment, different in every other one, and of no use
/// to who has not the key of the installation.
fn hash(key: &[u8; 32], env: EnvId, unit_kind: &str, unit_key: &str) -> Unit {
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&env.to_be_bytes()).update(unit_kind.as_bytes()).update(b"\0");
    let digest = hasher.update(unit_key.as_bytes()).finalize();
    let mut unit = [0; UNIT_BYTES];
    for (to, from) in unit.iter_mut().zip(digest.as_bytes()) {
        *to = *from;
    }
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::event::FlagCount;
    use crate::model::key::FlagKey;

    fn payload(events: Vec<Event>) -> Payload {
        let flag = FlagKey::stored("f");
        Payload {
            env: 1,
            id: "p".to_owned(),
            expires_at: Timestamp::UNIX_EPOCH,
            at: "2026-11-23T23:59:59.9Z".parse().unwrap(),
            counts: vec![FlagCount { flag, variation: Some(0), version: 3, n: 2 }],
            unknown: Vec::new(),
            events,
        }
    }

    fn feature(variation: Option<u32>, at: &str) -> Event {
        Event {
            kind: EventKind::Feature,
            at: at.parse().unwrap(),
            key: "f".to_owned(),
            units: vec![("user".to_owned(), "u".to_owned()), ("org".to_owned(), "u".to_owned())],
            variation,
            version: Some(3),
            reason: None,
            in_experiment: false,
            value: None,
            sampling_ratio: 1,
        }
    }

    #[test]
    fn counts_add_up_and_exposures_are_told_once_a_day() {
        let mut rows = Rows::default();
        let late = feature(Some(1), "2026-11-23T12:00:00Z");
        let early = feature(Some(1), "2026-11-23T09:00:00Z");
        rows.add(
            &payload(vec![late, early.clone(), feature(None, "2026-11-23T09:00:00Z")]),
            &[7; 32],
        );
        rows.add(&payload(Vec::new()), &[7; 32]);
        let day = jiff::civil::date(2026, 11, 23);
        assert_eq!(rows.usage[&(1, "f".to_owned(), day, 0, 3)], 4);
        assert_eq!(rows.events.len(), 6, "one for each part of each context");
        assert_eq!(rows.exposures.len(), 2);
        let exposure = rows.exposures.values().next().unwrap();
        assert_eq!((exposure.n, exposure.first_at), (2, early.at));
    }

    #[test]
    fn units_differ_by_key_kind_and_environment() {
        let unit = hash(&[1; 32], 1, "user", "u");
        assert_eq!(unit, hash(&[1; 32], 1, "user", "u"));
        for other in [
            hash(&[2; 32], 1, "user", "u"),
            hash(&[1; 32], 2, "user", "u"),
            hash(&[1; 32], 1, "org", "u"),
            hash(&[1; 32], 1, "user", "v"),
        ] {
            assert_ne!(unit, other);
        }
    }
}
