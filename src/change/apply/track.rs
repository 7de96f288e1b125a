//! Which evaluations SDKs report as events. It changes nobody's value.

use super::Change;
use super::rule::name_of;

impl Change<'_> {
    pub(super) fn track(&mut self, track: bool) {
        if self.applied.config.track_events != track {
            self.applied.config.track_events = track;
            self.say(format!("{} events for every evaluation", verb(track)));
        }
    }

    pub(super) fn track_fallthrough(&mut self, track: bool) {
        if self.applied.config.track_events_fallthrough != track {
            self.applied.config.track_events_fallthrough = track;
            self.say(format!("{} events for the fallthrough", verb(track)));
        }
    }

    pub(super) fn track_rule(&mut self, rule_id: &str, track: bool) {
        let Some(position) = self.find_rule(rule_id) else { return };
        let Some(rule) = self.applied.config.rules.get_mut(position) else { return };
        if rule.track_events != track {
            rule.track_events = track;
            let name = name_of(rule);
            self.say(format!("{} events for {name}", verb(track)));
        }
    }
}

fn verb(track: bool) -> &'static str {
    if track { "began to track" } else { "stopped tracking" }
}
