//! What LaunchDarkly's SDKs are sent of an environment: its flags and segments, or those that changed, dependencies first.
//!
//! In which events that is wrapped is in `launchdarkly` and `data_system`; the form of one flag is in `model/launchdarkly`.

use crate::model::change::Position;
use crate::model::key::FlagKey;
use crate::model::key::SegmentKey;
use crate::model::launchdarkly::wire_position;
use crate::model::launchdarkly::wire_version;
use crate::model::launchdarkly::write_flag;
use crate::model::launchdarkly::write_segment;
use crate::model::rule::FlagConfig;
use crate::model::segment::Segment;
use crate::snapshot::Environment;
use crate::snapshot::Image;
use crate::snapshot::Missed;
use serde_json::Value;
use std::collections::BTreeSet;
use std::collections::HashMap;

/// The operator of a clause that asks for segments.
const SEGMENT_MATCH: &str = "segmentMatch";

/// What is sent of an environment, at one position.
#[derive(Debug)]
pub(super) struct Content {
    /// Whether it is everything, and not what somebody has missed.
    pub(super) is_full: bool,
    /// Where it leads.
    pub(super) to: Position,
    /// What tells this history from others.
    pub(super) stamp: Box<str>,
    /// The environment, as SDKs know it.
    pub(super) env_id: String,
    /// Segments, dependencies first; they come before the flags.
    pub(super) segments: Vec<Item>,
    /// Flags, prerequisites first.
    pub(super) flags: Vec<Item>,
}

/// A flag or segment.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) key: String,
    /// By which SDKs tell what is newer.
    pub(super) wire_version: i64,
    /// Its JSON; `None` if it is gone.
    pub(super) json: Option<String>,
    /// What should be there before it.
    needs: Vec<String>,
}

/// The name by which SDKs know an environment.
pub(crate) fn env_id(environment: &Environment) -> String {
    format!("{}/{}", environment.project, environment.key)
}

impl Content {
    /// What somebody at `since` has missed, or everything if that is nowhere or not known; `None` if nothing was missed.
    pub(super) fn since(environment: &Environment, since: Option<Position>) -> Option<Self> {
        // Taken first, so that no change which it has is missing in what was missed.
        let image = environment.image();
        let missed = since.map_or(Missed::Unknown, |position| environment.missed_since(position));
        let mut changes = match missed {
            Missed::Nothing => return None,
            Missed::Unknown => return Some(Self::full(environment, &image)),
            Missed::One(change) => vec![change],
            Missed::Many(changes) => changes,
        };
        changes.retain(|change| change.to <= image.position);
        if changes.is_empty() {
            return None;
        }
        let flags: BTreeSet<&FlagKey> = changes.iter().flat_map(|change| &change.flags).collect();
        let segments: BTreeSet<&SegmentKey> =
            changes.iter().flat_map(|change| &change.segments).collect();
        let flags = flags.into_iter().filter_map(|key| flag_item(&image, key)).collect();
        let segments = segments.into_iter().filter_map(|key| segment_item(&image, key)).collect();
        Some(Self::new(environment, &image, false, segments, flags))
    }

    fn full(environment: &Environment, image: &Image) -> Self {
        let flags = image.flags.keys().filter_map(|key| flag_item(image, key)).collect();
        let segments = image.segments.keys().filter_map(|key| segment_item(image, key)).collect();
        Self::new(environment, image, true, segments, flags)
    }

    fn new(
        environment: &Environment,
        image: &Image,
        is_full: bool,
        segments: Vec<Item>,
        flags: Vec<Item>,
    ) -> Self {
        Self {
            is_full,
            to: image.position,
            stamp: image.stamp.clone(),
            env_id: env_id(environment),
            segments: dependencies_first(segments),
            flags: dependencies_first(flags),
        }
    }
}

/// The JSON of one flag as it is served; `None` if there is none.
pub(crate) fn flag_json(environment: &Environment, key: &FlagKey) -> Option<String> {
    flag_item(&environment.image(), key)?.json
}

/// The JSON of one segment as it is served; `None` if there is none.
pub(crate) fn segment_json(environment: &Environment, key: &SegmentKey) -> Option<String> {
    segment_item(&environment.image(), key)?.json
}

/// A flag as it is sent; `None` if what is stored cannot be read, of which SDKs keep what they have.
fn flag_item(image: &Image, key: &FlagKey) -> Option<Item> {
    let Some(stored) = image.flags.get(key) else { return Some(Item::gone(image, key.as_str())) };
    let (definition, config) = stored.read().ok().flatten()?;
    let wire_version = wire_version(image.position.epoch, stored.version);
    Some(Item {
        key: key.to_string(),
        wire_version,
        json: Some(write_flag(&definition, &config, wire_version)),
        needs: needs_of_flag(&config),
    })
}

/// A segment as it is sent; `None` if what is stored cannot be read.
fn segment_item(image: &Image, key: &SegmentKey) -> Option<Item> {
    let Some(stored) = image.segments.get(key) else {
        return Some(Item::gone(image, key.as_str()));
    };
    let segment = stored.read().ok().flatten()?;
    let wire_version = wire_version(image.position.epoch, stored.version);
    Some(Item {
        key: key.to_string(),
        wire_version,
        json: Some(write_segment(&segment, wire_version)),
        needs: needs_of_segment(&segment),
    })
}

impl Item {
    /// Gone as of the image: above all versions that it had, and below all that it may have again.
    fn gone(image: &Image, key: &str) -> Self {
        let wire_version = wire_position(image.position);
        Self { key: key.to_owned(), wire_version, json: None, needs: Vec::new() }
    }
}

fn needs_of_flag(config: &FlagConfig) -> Vec<String> {
    config.prerequisites.iter().map(|prerequisite| prerequisite.key.to_string()).collect()
}

fn needs_of_segment(segment: &Segment) -> Vec<String> {
    let clauses = segment.rules.iter().flat_map(|rule| &rule.clauses);
    let asking = clauses.filter(|clause| clause.op == SEGMENT_MATCH);
    asking.flat_map(|clause| &clause.values).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Puts each item behind those that it needs; the order of the others, and of those that need each other, stays.
fn dependencies_first(items: Vec<Item>) -> Vec<Item> {
    let index: HashMap<&str, usize> =
        items.iter().enumerate().map(|(i, item)| (item.key.as_str(), i)).collect();
    let mut order = Vec::with_capacity(items.len());
    let mut is_seen = vec![false; items.len()];
    // What is to be visited, and whether all that it needs was.
    let mut waiting: Vec<(usize, bool)> = (0..items.len()).rev().map(|i| (i, false)).collect();
    while let Some((i, is_satisfied)) = waiting.pop() {
        if is_satisfied {
            order.push(i);
            continue;
        }
        let (Some(item), Some(seen)) = (items.get(i), is_seen.get_mut(i)) else { continue };
        if std::mem::replace(seen, true) {
            continue;
        }
        waiting.push((i, true));
        let needed = item.needs.iter().rev().filter_map(|key| index.get(key.as_str()));
        waiting.extend(needed.map(|i| (*i, false)));
    }
    let mut items: Vec<Option<Item>> = items.into_iter().map(Some).collect();
    order.into_iter().filter_map(|i| items.get_mut(i)?.take()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(key: &str, needs: &[&str]) -> Item {
        let needs = needs.iter().map(|key| (*key).to_owned()).collect();
        Item { key: key.to_owned(), wire_version: 1, json: None, needs }
    }

    fn order(items: Vec<Item>) -> String {
        dependencies_first(items).into_iter().map(|item| item.key).collect()
    }

    #[test]
    fn what_is_needed_comes_first() {
        assert_eq!(order(vec![]), "");
        assert_eq!(order(vec![item("a", &[]), item("b", &[]), item("c", &[])]), "abc");
        assert_eq!(
            order(vec![item("a", &["c", "b"]), item("b", &["c"]), item("c", &["x"])]),
            "cba"
        );
        assert_eq!(order(vec![item("a", &["b"]), item("b", &["a"]), item("c", &["a"])]), "bac");
        assert_eq!(order(vec![item("a", &["a"])]), "a");
    }
}
