//! Changes that are made later, by several replicas of which one is killed again and again.

use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Server;
use crate::lab::is_full;
use crate::lab::kept;
use crate::lab::size;
use jiff::Timestamp;
use jiff::ToSpan;
use serde_json::Value;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;
use vexil::clock::Ids;

const SCHEDULE: &str = "/api/v1/projects/shop/environments/production/schedule";
/// Entries that are planned: in tests, and as many as is promised.
const ENTRIES: [usize; 2] = [20, 200];
/// Entries that are due at the same time.
const AT_ONCE: usize = 5;
const REPLICAS: usize = 3;
/// From one time to the next.
const STEP_MS: i64 = 1_000;
/// How long planning an entry may take, on a busy machine.
const PLANNING_MS: i64 = 200;
/// How late a change may be while a replica lives. Only asserted at full size: a busy machine proves nothing.
const LATE_MS_MAX: i128 = 2_000;
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn each_change_is_made_once_while_replicas_are_killed() {
    let n_entries = size(ENTRIES[0], ENTRIES[1]);
    let (started, mut n_kills) = (Instant::now(), 0);
    let database = Database::create().await;
    let mut replicas = Vec::new();
    for _ in 0..REPLICAS {
        let folder = Folder::new();
        let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
        replicas.push((server, folder));
    }
    let first = replicas[0].0.admin.clone();
    replicas[0].0.with_environment().await;
    for i in 0..AT_ONCE {
        replicas[0].0.flag(&format!("f{i}")).await;
    }
    let start =
        Timestamp::now() + (2_000 + PLANNING_MS * i64::try_from(n_entries).unwrap()).milliseconds();
    for i in 0..n_entries {
        let (step, flag) = (i / AT_ONCE, i % AT_ONCE);
        let at = start + (STEP_MS * i64::try_from(step).unwrap()).milliseconds();
        let kind = if step % 2 == 0 { "turnFlagOn" } else { "turnFlagOff" };
        let body = json!({"flag": format!("f{flag}"), "at": at.to_string(),
            "instructions": [{"kind": kind}]});
        first.post(SCHEDULE, body).await.expect(201);
    }
    let deadline = Instant::now() + PATIENCE + Duration::from_millis(n_entries as u64 * 300);
    let mut kills = tokio::time::interval(Duration::from_secs(1));
    kills.tick().await;
    loop {
        kills.tick().await;
        assert!(Instant::now() < deadline, "not everything was made");
        let client = &replicas[0].0.admin;
        let pending = client.get(&format!("{SCHEDULE}?state=pending&limit=1")).await;
        if pending.status == 200 && pending.body["items"].as_array().unwrap().is_empty() {
            break;
        }
        let victim = Ids.key()[0] as usize % REPLICAS;
        let (server, folder) = replicas.remove(victim);
        server.kill().await;
        n_kills += 1;
        let server = Server::spawn(folder.path(), Some(&database.url), &[]).await;
        replicas.push((server, folder));
    }
    let client = &replicas[0].0.admin;
    let mut entries: Vec<Value> = Vec::new();
    let mut before = String::new();
    loop {
        let page = client.get(&format!("{SCHEDULE}?limit=500{before}")).await.expect(200);
        entries.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { break };
        before = format!("&before={next}");
    }
    assert_eq!(entries.len(), n_entries);
    let mut made: BTreeMap<String, usize> = BTreeMap::new();
    let mut query = "action=schedule.execute&limit=500".to_owned();
    loop {
        let page = client
            .get(&format!("/api/v1/projects/shop/environments/production/audit?{query}"))
            .await
            .expect(200);
        for entry in page["items"].as_array().unwrap() {
            *made.entry(entry["requestId"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        let Some(next) = page["next"].as_str() else { break };
        query = format!("action=schedule.execute&limit=500&before={next}");
    }
    let time = |value: &Value| value.as_str().unwrap().parse::<Timestamp>().unwrap();
    let mut lateness = Vec::new();
    for entry in &entries {
        assert_eq!(entry["state"], "done", "{entry}");
        assert_eq!(entry["result"]["changes"].as_array().unwrap().len(), 1, "{entry}");
        assert_eq!(made.get(entry["id"].as_str().unwrap()), Some(&1), "{entry}");
        let late = time(&entry["result"]["at"]).duration_since(time(&entry["dueAt"]));
        assert!(!late.is_negative(), "early: {entry}");
        lateness.push(late.as_millis());
    }
    lateness.sort_unstable();
    let (median, latest) = (lateness[lateness.len() / 2], lateness[lateness.len() - 1]);
    // Two replicas always live, so there is no first one that would have to come back.
    assert!(!is_full() || latest <= LATE_MS_MAX, "{latest} ms late");
    let what = format!(
        "{n_entries} entries, {REPLICAS} replicas, one killed at random each second ({n_kills} in all)"
    );
    let found = format!(
        "each made once, none early; half within {median} ms of their time, the latest after {latest} ms"
    );
    kept("what is planned is made once and in time", &what, started, &found);
}
