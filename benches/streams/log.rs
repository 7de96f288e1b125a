//! What one client notes of its stream, and what all notes say together.

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;
use std::time::Duration;

/// The time by the system's monotonic clock, which is the same one for all processes.
pub fn now() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What one client has heard.
#[derive(Debug, Default)]
pub struct Log {
    /// What has arrived of a block that is not complete.
    rest: Vec<u8>,
    /// The last id, to continue from.
    pub last_id: String,
    /// The version of the last event; zero before the first.
    pub last: i64,
    /// Each event's version and when it came.
    pub events: Vec<(i64, Duration)>,
    pub n_repeated: usize,
    pub n_backwards: usize,
}

/// A change that was made; its times are those of [`now`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Made {
    pub version: i64,
    /// When the request was sent.
    pub sent_at: Duration,
    /// When it was answered.
    pub answered_at: Duration,
}

/// What the clients of one process noted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Notes {
    n_clients: usize,
    n_events: usize,
    n_lost: usize,
    n_repeated: usize,
    n_backwards: usize,
    /// For each client and change: microseconds from its answer to the event, and from its request.
    micros: Vec<(u32, u32)>,
}

impl Log {
    /// Takes what has arrived; returns whether a greeting was in it.
    ///
    /// The sizes of HTTP/1.1's chunks stand on lines of their own between the blocks and are no fields.
    pub fn take(&mut self, bytes: &[u8], now: Duration) -> bool {
        self.rest.extend_from_slice(bytes);
        let mut has_greeted = false;
        while let Some(end) = self.rest.windows(2).position(|pair| pair == b"\n\n") {
            let block = String::from_utf8(self.rest.drain(..end + 2).collect()).unwrap();
            has_greeted |= block.contains("retry: ");
            self.take_block(&block, now);
        }
        if self.rest.is_empty() {
            self.rest = Vec::new();
        }
        has_greeted
    }

    /// Forgets half a block, because the connection has ended.
    pub fn cut_off(&mut self) {
        self.rest.clear();
    }

    fn take_block(&mut self, block: &str, now: Duration) {
        let Some(id) = block.lines().find_map(|line| line.strip_prefix("id: ")) else { return };
        id.clone_into(&mut self.last_id);
        if !block.contains("event: change\n") {
            return;
        }
        let version = id.split('-').nth(1).unwrap().parse().unwrap();
        self.n_repeated += usize::from(version == self.last);
        self.n_backwards += usize::from(version < self.last);
        self.last = version;
        self.events.push((version, now));
    }
}

/// Gathers the notes of those clients that have to have heard of everything.
pub fn gather<'a>(logs: impl Iterator<Item = &'a Log>, changes: &[Made]) -> Notes {
    let last = changes.last().map_or(0, |made| made.version);
    let mut notes = Notes::default();
    for log in logs {
        notes.n_clients += 1;
        notes.n_events += log.events.len();
        notes.n_lost += usize::from(log.last != last);
        notes.n_repeated += log.n_repeated;
        notes.n_backwards += log.n_backwards;
        let mut events = log.events.iter().peekable();
        for made in changes {
            // The first event that is not older: several changes may have become one.
            while events.next_if(|(version, _)| *version < made.version).is_some() {}
            if let Some((_, at)) = events.peek() {
                let since = |then| at.saturating_sub(then).as_micros() as u32;
                notes.micros.push((since(made.answered_at), since(made.sent_at)));
            }
        }
    }
    notes
}

/// Sums up what was noted in all processes.
pub fn summary(all: &[Notes]) -> Value {
    let sum = |count: fn(&Notes) -> usize| all.iter().map(count).sum::<usize>();
    let micros = || all.iter().flat_map(|notes| &notes.micros);
    json!({
        "clients": sum(|notes| notes.n_clients),
        "events": sum(|notes| notes.n_events),
        "lost": sum(|notes| notes.n_lost),
        "repeated": sum(|notes| notes.n_repeated),
        "backwards": sum(|notes| notes.n_backwards),
        "sinceAnswerMs": quantiles(micros().map(|pair| pair.0).collect()),
        "sinceSentMs": quantiles(micros().map(|pair| pair.1).collect()),
    })
}

fn quantiles(mut micros: Vec<u32>) -> Value {
    micros.sort_unstable();
    let at = |share: f64| {
        let index = (micros.len().saturating_sub(1)) as f64 * share;
        micros.get(index as usize).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    };
    json!({"p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
}
