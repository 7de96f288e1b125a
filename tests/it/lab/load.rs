//! What runs while something is broken: writers that remember what was acknowledged, and probes that ask every replica and
//! hold the answers against it.
//!
//! Change `n` adds the target `w<n>` to a flag, so that whether it is there can be asked of every replica at any time: an
//! answer at a version has exactly the changes up to that version.

use crate::harness::Client;
use crate::harness::eventually;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long a writer or a probe waits for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a writer rests between two changes.
const REST: Duration = Duration::from_millis(10);
/// How long one stream is followed before another replica is asked for the rest.
const LISTEN_TIME: Duration = Duration::from_millis(700);
/// Changes of one flag, after which the next one is changed; each makes the flag longer.
const CHANGES_OF_FLAG: u64 = 500;
/// Flags that are changed, one after another.
pub const N_FLAGS: u64 = 20;

/// The flag that a change is made in.
pub fn flag_of(n: u64) -> String {
    format!("lab-{}", n / CHANGES_OF_FLAG % N_FLAGS)
}

/// A place in the history: epoch and version.
pub type Position = (i64, i64);

/// Reads `Vexil-Version`.
pub fn position_of(headers: &reqwest::header::HeaderMap) -> Option<Position> {
    let (epoch, version) = headers.get("vexil-version")?.to_str().ok()?.split_once('-')?;
    Some((epoch.parse().ok()?, version.parse().ok()?))
}

/// What everybody knows.
#[derive(Debug, Default)]
pub struct Record {
    /// Changes that were acknowledged, with the version that each made.
    pub acknowledged: Mutex<Vec<(u64, i64)>>,
    /// What must not happen and did.
    pub violations: Mutex<Vec<String>>,
    /// Microseconds that each evaluation took.
    pub latencies: Mutex<Vec<u64>>,
    next: AtomicU64,
    pub refused: AtomicU64,
    pub is_over: AtomicBool,
}

impl Record {
    pub fn complain(&self, violation: String) {
        self.violations.lock().unwrap().push(violation);
    }

    /// Waits until another change is acknowledged.
    pub async fn acknowledges(&self) {
        let n = || self.acknowledged.lock().unwrap().len();
        let before = n();
        eventually("a change is acknowledged", || {
            let is_more = n() > before;
            async move { is_more }
        })
        .await;
    }

    /// Asks a server for every change that was acknowledged.
    pub async fn lost_nothing(&self, client: &Client) {
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        for chunk in acknowledged.chunks(500) {
            let contexts: Vec<_> =
                chunk.iter().map(|(n, _)| json!({"targetingKey": format!("w{n}")})).collect();
            let flags: BTreeSet<_> = chunk.iter().map(|(n, _)| flag_of(*n)).collect();
            let body = json!({"contexts": contexts, "flags": flags});
            let answer = client.post("/api/v1/evaluate", body).await.expect(200);
            for ((n, version), row) in chunk.iter().zip(answer["results"].as_array().unwrap()) {
                let has_it = row.as_array().unwrap().iter().any(|value| *value == true);
                assert!(has_it, "{} lost change {n} of version {version}", client.url);
            }
        }
    }

    fn any(&self) -> Option<(u64, i64)> {
        let acknowledged = self.acknowledged.lock().unwrap();
        let n = acknowledged.len();
        // Old and new ones in turn, the newest most often.
        let step = usize::try_from(self.next.load(Ordering::Relaxed)).unwrap();
        (n > 0).then(|| acknowledged[if step % 2 == 0 { n - 1 } else { step * 31 % n }])
    }
}

/// A replica as its clients see it: where it is, or nowhere while it is down.
pub type Place = watch::Receiver<Option<Client>>;

/// Makes numbered changes at one replica and remembers those that were acknowledged.
pub async fn write(record: Arc<Record>, place: Place) {
    while !record.is_over.load(Ordering::Relaxed) {
        let Some(client) = place.borrow().clone() else {
            tokio::time::sleep(REST).await;
            continue;
        };
        tokio::time::sleep(REST).await;
        let n = record.next.fetch_add(1, Ordering::Relaxed);
        let instruction =
            json!({"kind": "addTargets", "values": [format!("w{n}")], "variation": "on"});
        let path = format!("/api/v1/projects/shop/environments/production/flags/{}", flag_of(n));
        let request = client.request(reqwest::Method::PATCH, &path).timeout(ANSWER_TIMEOUT);
        let answer = request.json(&json!({"instructions": [instruction]})).send().await;
        match answer {
            Ok(answer) if answer.status() == 200 => {
                let body: Value = answer.json().await.unwrap_or_default();
                match body["version"].as_i64() {
                    Some(version) => record.acknowledged.lock().unwrap().push((n, version)),
                    // The answer was cut off after its head: it is not known what was acknowledged.
                    None => _ = record.refused.fetch_add(1, Ordering::Relaxed),
                }
            }
            Ok(answer) if [409, 503].contains(&answer.status().as_u16()) => {
                record.refused.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Ok(answer) => record.complain(format!("a write was answered {}", answer.status())),
            // The process was killed, or PostgreSQL in the middle of it.
            Err(_) => _ = record.refused.fetch_add(1, Ordering::Relaxed),
        }
    }
}

/// Asks one replica again and again, and holds what it says against what was acknowledged.
pub async fn probe(record: Arc<Record>, place: Place, token: String, name: usize) {
    let mut seen: Position = (0, 0);
    let mut of = String::new();
    while !record.is_over.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let Some(client) = place.borrow().clone() else { continue };
        let Some((n, version)) = record.any() else { continue };
        if of != client.url {
            // Another process begins where its files end.
            (seen, of) = ((0, 0), client.url.clone());
        }
        let started = Instant::now();
        let context = json!({"context": {"targetingKey": format!("w{n}")}});
        let request = client
            .with_token(&token)
            .request(reqwest::Method::POST, &format!("/ofrep/v1/evaluate/flags/{}", flag_of(n)))
            .timeout(ANSWER_TIMEOUT);
        let answer = request.json(&context).send().await;
        // Whoever is being killed may not answer.
        let is_there = place.borrow().as_ref().is_some_and(|now| now.url == client.url);
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) if is_there => {
                record.complain(format!("replica {name} did not answer: {error}"));
                continue;
            }
            Err(_) => continue,
        };
        let taken = u64::try_from(started.elapsed().as_micros()).unwrap();
        let (status, position) = (answer.status(), position_of(answer.headers()));
        let body: Value = answer.json().await.unwrap_or_default();
        let (Some(position), 200) = (position, status.as_u16()) else {
            if is_there {
                record.complain(format!("replica {name} answered {status}: {body}"));
            }
            continue;
        };
        record.latencies.lock().unwrap().push(taken);
        if position < seen {
            record.complain(format!("replica {name} went back from {seen:?} to {position:?}"));
        }
        seen = seen.max(position);
        let has_it = body["value"] == true;
        if has_it != (position.1 >= version) {
            record.complain(format!(
                "replica {name} at {position:?} has change {n} of version {version}: {has_it}"
            ));
        }
    }
}

/// Follows a stream, at another replica whenever it ends, and complains if it ever hears of something older than before.
pub async fn listen(record: Arc<Record>, places: Vec<Place>, token: String) {
    let mut seen: Position = (0, 0);
    for turn in 0.. {
        if record.is_over.load(Ordering::Relaxed) {
            return;
        }
        tokio::time::sleep(REST).await;
        let Some(client) = places[turn % places.len()].borrow().clone() else { continue };
        let client = client.with_token(&token);
        let mut request = client.request(reqwest::Method::GET, "/api/v1/stream");
        if seen > (0, 0) {
            request = request.header("Last-Event-ID", format!("{}-{}", seen.0, seen.1));
        }
        let opening = tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await;
        // One that is behind says so, and one that is killed says nothing.
        let Ok(Ok(mut stream)) = opening else { continue };
        if stream.status() != 200 {
            continue;
        }
        let mut text = String::new();
        let until = Instant::now() + LISTEN_TIME;
        while let Ok(Ok(Some(piece))) = tokio::time::timeout_at(until, stream.chunk()).await {
            text.push_str(&String::from_utf8_lossy(&piece));
            while let Some((line, rest)) = text.split_once('\n') {
                if let Some((epoch, version)) =
                    line.strip_prefix("id: ").and_then(|id| id.split_once('-'))
                {
                    let at = (epoch.parse().unwrap(), version.parse().unwrap());
                    if at < seen {
                        record.complain(format!("a stream went back from {seen:?} to {at:?}"));
                    }
                    seen = seen.max(at);
                }
                text = rest.to_owned();
            }
        }
    }
}
