//! Reading what is to be planned, and when.

use crate::change::Instruction;
use crate::change::decode_instructions;
use crate::change::decode_segment_instructions;
use crate::control::Part;
use crate::control::ScheduleRequest;
use crate::control::When;
use crate::http::admin::change::has_too_much;
use crate::model::decode::Fields;
use crate::model::decode::object;
use crate::model::key::EnvKey;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::limit::CHANGES_MAX;
use crate::model::limit::NAME_CHARS_MAX;
use crate::model::limit::SCHEDULE_LATE_SECS_MAX;
use crate::model::window::DAYS;
use crate::model::window::Day;
use crate::model::window::Windows;
use crate::model::window::time_zone;
use jiff::SignedDuration;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::civil::Time;
use serde_json::Value;
use serde_json::json;

/// Reads a whole request; what is missing of it is in the headers and the query.
pub(super) fn request(fields: &mut Fields<'_>, env: &EnvKey) -> Option<ScheduleRequest> {
    let is_list = fields.has("changes");
    let planned = match (is_list, fields.has("windows")) {
        (true, _) => {
            for other in ["flag", "segment", "instructions", "windows"] {
                if fields.has(other) {
                    let detail = format!("give either `changes` or `{other}`, not both");
                    fields.refuse(other, "conflicting_fields", detail);
                }
            }
            Some(changes(fields, env))
        }
        (false, true) => {
            for other in ["segment", "instructions"] {
                if fields.has(other) {
                    let detail = format!("windows turn a flag on and off, and have no `{other}`");
                    fields.refuse(other, "conflicting_fields", detail);
                }
            }
            let flag = fields.required_key("flag", FlagKey::parse);
            let instructions = vec![Instruction::TurnFlagOn];
            let sent = json!([{"kind": "turnFlagOn"}]);
            let if_version = fields.integer("ifVersion", 1..=i64::MAX);
            let env = env.clone();
            flag.map(|flag| vec![(Part::Config { env, flag, if_version, instructions }, sent)])
        }
        (false, false) => one(fields, env).map(|one| vec![one]),
    };
    let when = if fields.has("windows") { windows(fields) } else { at(fields) };
    let skip_if_late_by_secs = lateness(fields);
    // Named so that they are known where they are not read.
    for name in ["flag", "segment", "instructions", "changes", "windows", "at", "timeZone"] {
        fields.take(name);
    }
    let (parts, instructions) = planned?.into_iter().unzip();
    Some(ScheduleRequest {
        parts,
        instructions,
        is_list,
        when: when?,
        skip_if_late_by_secs,
        author_expires_at: None,
    })
}

fn changes(fields: &mut Fields<'_>, env: &EnvKey) -> Vec<(Part, Value)> {
    if has_too_much(fields) {
        return Vec::new();
    }
    let changes = fields.list("changes", CHANGES_MAX, |item, path, problems| {
        object(item, path, problems, |fields| one(fields, env)).flatten()
    });
    if changes.is_empty() && fields.problems().is_empty() {
        fields.refuse("changes", "required", "must have at least one change");
    }
    changes
}

/// Reads the instructions of one flag or segment.
fn one(fields: &mut Fields<'_>, env: &EnvKey) -> Option<(Part, Value)> {
    let sent = fields.peek("instructions").cloned().unwrap_or_default();
    let (has_flag, has_segment) = (fields.has("flag"), fields.has("segment"));
    let flag = fields.key("flag", FlagKey::parse);
    let segment = fields.key("segment", SegmentKey::parse);
    let if_version = fields.integer("ifVersion", 1..=i64::MAX);
    let env = env.clone();
    match (has_flag, has_segment) {
        (true, false) => {
            let instructions = decode_instructions(fields);
            Some((Part::Config { env, flag: flag?, if_version, instructions }, sent))
        }
        (false, true) => {
            let instructions = decode_segment_instructions(fields);
            Some((Part::Segment { env, segment: segment?, if_version, instructions }, sent))
        }
        (true, true) => {
            let detail = "give either `flag` or `segment`, not both";
            fields.refuse("segment", "conflicting_fields", detail);
            fields.take("instructions");
            None
        }
        (false, false) => {
            fields.refuse("flag", "required", "give `flag`, `segment` or `changes`");
            fields.take("instructions");
            None
        }
    }
}

/// Reads the time; one that a change of the clocks leaves out is taken later, and of one that comes twice the first is meant.
fn at(fields: &mut Fields<'_>) -> Option<When> {
    if !fields.has("at") {
        fields.refuse("at", "required", "give `at`, or `windows`");
    }
    let text = fields.text("at", NAME_CHARS_MAX)?;
    let name = fields.text("timeZone", NAME_CHARS_MAX);
    let zone = name.as_deref().map(|name| (name, time_zone(name)));
    if let Some((name, None)) = &zone {
        fields.refuse("timeZone", "unknown_time_zone", unknown_zone(name));
        return None;
    }
    let time = match (text.parse::<Timestamp>(), zone) {
        (Ok(_), Some(_)) => {
            let detail = "`at` has an offset already; give it without one";
            fields.refuse("timeZone", "conflicting_fields", detail);
            return None;
        }
        (Ok(time), None) => Some(time),
        (Err(_), zone) => {
            let local = text.parse::<DateTime>().ok();
            let Some(local) = local else {
                let detail = "must be a time like 2026-12-01T09:00:00, with an offset like +01:00 or with `timeZone`";
                fields.refuse("at", "invalid_time", detail);
                return None;
            };
            let Some((_, Some(zone))) = zone else {
                let detail = "`at` has no offset, so `timeZone` must say where it is meant, like Europe/Berlin";
                fields.refuse("timeZone", "required", detail);
                return None;
            };
            zone.to_timestamp(local).ok()
        }
    };
    if time.is_none() {
        fields.refuse("at", "invalid_time", "is out of range");
    }
    Some(When::At { time: time?, text, time_zone: name })
}

fn windows(fields: &mut Fields<'_>) -> Option<When> {
    for other in ["at", "timeZone"] {
        if fields.has(other) {
            let detail = format!("windows have no `{other}` beside them");
            fields.refuse(other, "conflicting_fields", detail);
        }
    }
    let path = fields.path("windows");
    let value = fields.take("windows")?;
    let windows = object(value, &path, fields.problems(), |fields| {
        let time_zone = zone_name(fields);
        if !fields.has("days") {
            fields.missing("days");
        }
        let mut days: Vec<Day> = Vec::new();
        for text in fields.texts("days", DAYS.len(), NAME_CHARS_MAX) {
            match DAYS.iter().find(|(word, _)| *word == text) {
                Some((_, day)) if days.contains(day) => {
                    fields.refuse("days", "duplicate", format!("`{text}` is there twice"));
                }
                Some((_, day)) => days.push(*day),
                None => {
                    let words: Vec<&str> = DAYS.iter().map(|(word, _)| *word).collect();
                    let detail = format!("must be some of {}", words.join(", "));
                    fields.refuse("days", "unknown_value", detail);
                }
            }
        }
        if days.is_empty() && fields.problems().is_empty() {
            fields.refuse("days", "required", "must name at least one day");
        }
        let (from, to) = (minute(fields, "from"), minute(fields, "to"));
        if from.is_some() && from == to {
            let detail = "must not be the same as `from`: the flag would be off for no time";
            fields.refuse("to", "empty_window", detail);
        }
        Some(Windows { time_zone: time_zone?, days, from: from?, to: to? })
    });
    windows.flatten().map(When::Windows)
}

fn zone_name(fields: &mut Fields<'_>) -> Option<String> {
    let name = fields.required_text("timeZone", NAME_CHARS_MAX);
    if name.is_empty() {
        return None;
    }
    if time_zone(&name).is_none() {
        fields.refuse("timeZone", "unknown_time_zone", unknown_zone(&name));
    }
    Some(name)
}

fn unknown_zone(name: &str) -> String {
    format!("`{name}` is not a name of the IANA time zone database, like Europe/Berlin or UTC")
}

/// Reads a time of the day, to the minute.
fn minute(fields: &mut Fields<'_>, name: &'static str) -> Option<Time> {
    let text = fields.required_text(name, NAME_CHARS_MAX);
    if text.is_empty() {
        return None;
    }
    let parts = text.split_once(':').filter(|(hour, minute)| hour.len() == 2 && minute.len() == 2);
    let time = parts
        .and_then(|(hour, minute)| Time::new(hour.parse().ok()?, minute.parse().ok()?, 0, 0).ok());
    if time.is_none() {
        fields.refuse(name, "invalid_time", "must be a time of the day like 09:00");
    }
    time
}

fn lateness(fields: &mut Fields<'_>) -> Option<i64> {
    let text = fields.text("skipIfLateBy", NAME_CHARS_MAX)?;
    let secs = text.parse::<SignedDuration>().ok().map(|duration| duration.as_secs());
    let secs = secs.filter(|secs| (1..=SCHEDULE_LATE_SECS_MAX).contains(secs));
    if secs.is_none() {
        let days = SCHEDULE_LATE_SECS_MAX / 86_400;
        let detail = format!("must be a time like 90s, 30m or 1h, from one second to {days} days");
        fields.refuse("skipIfLateBy", "invalid_duration", detail);
    }
    secs
}
