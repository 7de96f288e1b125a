//! What one client notes of its stream, and what all notes say together.

use serde_json::Value;
use serde_json::json;
use std::time::Duration;

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

/// A change that was made.
#[derive(Debug, Clone, Copy)]
pub struct Made {
    pub version: i64,
    /// When the request was sent.
    pub sent_at: Duration,
    /// When it was answered.
    pub answered_at: Duration,
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

/// Sums the notes of those clients up that have to have heard of everything.
pub fn summary<'a>(logs: impl Iterator<Item = &'a Log>, changes: &[Made]) -> Value {
    let last = changes.last().map_or(0, |made| made.version);
    let (mut since_answer, mut since_sent) = (Vec::new(), Vec::new());
    let (mut n_clients, mut n_events, mut n_lost) = (0, 0, 0);
    let (mut n_repeated, mut n_backwards) = (0, 0);
    for log in logs {
        n_clients += 1;
        n_events += log.events.len();
        n_lost += usize::from(log.last != last);
        n_repeated += log.n_repeated;
        n_backwards += log.n_backwards;
        let mut events = log.events.iter().peekable();
        for made in changes {
            // The first event that is not older: several changes may have become one.
            while events.next_if(|(version, _)| *version < made.version).is_some() {}
            if let Some((_, at)) = events.peek() {
                since_answer.push(at.saturating_sub(made.answered_at));
                since_sent.push(at.saturating_sub(made.sent_at));
            }
        }
    }
    json!({
        "clients": n_clients,
        "events": n_events,
        "lost": n_lost,
        "repeated": n_repeated,
        "backwards": n_backwards,
        "sinceAnswerMs": quantiles(since_answer),
        "sinceSentMs": quantiles(since_sent),
    })
}

fn quantiles(mut times: Vec<Duration>) -> Value {
    times.sort_unstable();
    let at = |share: f64| {
        let index = (times.len().saturating_sub(1)) as f64 * share;
        times.get(index as usize).map_or(0.0, |time| time.as_secs_f64() * 1e3)
    };
    json!({"p50": at(0.5), "p99": at(0.99), "max": at(1.0)})
}
