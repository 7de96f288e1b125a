//! Faults of what a process stands on: a disk that is full, a clock that jumps, a database that stays away, another database
//! in its place. Those of links are in `lab`, those of clients in `hostile` and `sockets`.

use crate::harness::Backend;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::ShiftedClock;
use crate::harness::command;
use crate::harness::command_with_file_kib;
use crate::harness::eventually;
use crate::harness::free_port;
use crate::harness::redis_url;
use crate::kept::kept;
use jiff::SignedDuration;
use jiff::Timestamp;
use redis::AsyncCommands;
use serde_json::json;
use vexil::clock::Clock;

/// How large a file may be.
const FILE_KIB_MAX: u32 = 8;
/// Characters of a description.
const DESCRIPTION_CHARS: usize = 4_000;
/// Changes under a hail of rings.
const CHANGES: usize = 20;
/// The channel of rings, in PostgreSQL and in Redis.
const RINGS: &str = "vexil";
const DAY_SECS: i64 = 86_400;
/// How long the database stays away.
const OUTAGE_SECS: u64 = 600;
/// How long it is tried again at the latest.
const OUTAGE_STEP_SECS: u64 = 5;
/// What the process may have more in memory after the outage; far less than one byte for each moment of it.
const OUTAGE_KIB_MAX: u64 = 8 * 1_024;

async fn is_ready(admin: &Client) {
    eventually("the server is ready", || async { admin.get("/readyz").await.status == 200 }).await;
}

async fn version(client: &Client) -> String {
    client.evaluate("f", json!({})).await.header("vexil-version").to_owned()
}

#[tokio::test]
async fn a_full_disk_costs_what_is_kept_and_nothing_else() {
    let database = Database::create().await;
    let folder = Folder::new();
    let limited = command_with_file_kib(FILE_KIB_MAX);
    let server = Server::spawn_by(limited, folder.path(), Some(&database.url), &[]).await;
    is_ready(&server.admin).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    kept(folder.path(), "\"tokens\":[[").await;
    assert_eq!(server.metric("vexil_snapshot_errors_total").await, 0);
    for key in ["a", "b", "c"] {
        let description = "x".repeat(DESCRIPTION_CHARS);
        let body = json!({"key": key, "kind": "boolean", "description": description});
        server.admin.post("/api/v1/projects/shop/flags", body).await.expect(201);
    }
    eventually("it is told", || async { server.metric("vexil_snapshot_errors_total").await > 0 })
        .await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(client.value("f", json!({})).await, false, "what is served goes on");
    let ready = server.admin.get("/readyz").await.expect(200);
    assert_eq!(ready["stale"], false, "{ready}");
    server.kill().await;

    // What was written before is whole.
    let nowhere = format!("postgres://vexil@127.0.0.1:{}/nothing", free_port());
    let server = Server::start_on(folder.path(), Some(&nowhere), &[]).await;
    let client = server.admin.with_token(&client.token);
    assert_eq!(client.value("f", json!({})).await, true, "as it was when there was room");
    server.kill().await;

    // With room again, it is kept again.
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.admin.with_token(&client.token);
    assert_eq!(client.value("f", json!({})).await, false);
    kept(folder.path(), r#"\"on\":false"#).await;
    assert_eq!(server.metric("vexil_snapshot_errors_total").await, 0);
    crate::lab::happened(
        "C4 the disk is full",
        "files could not grow beyond 8 KiB",
        "evaluations and changes went on; what was kept stayed whole; the failure was counted",
    );
}

/// C4.
#[tokio::test]
async fn a_folder_that_vanishes_or_cannot_be_written_costs_what_is_kept_and_nothing_else() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    kept(folder.path(), r#"\"on\":true"#).await;
    let snapshot = folder.path().join("snapshot");
    // The process may just be writing into it, or making it anew.
    eventually("the folder vanishes", || {
        let is_removed = std::fs::remove_dir_all(&snapshot).is_ok();
        async move { is_removed }
    })
    .await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    kept(folder.path(), r#"\"on\":false"#).await;
    // Not even who may do everything can write into a file as if it were a folder.
    eventually("something is in the way", || {
        let _ = std::fs::remove_dir_all(&snapshot);
        let is_in_the_way = std::fs::write(&snapshot, "in the way").is_ok();
        async move { is_in_the_way }
    })
    .await;
    server.admin.post("/restore/f", json!({})).await.expect(200);
    eventually("it is counted", || async {
        server.metric("vexil_snapshot_errors_total").await > 0
    })
    .await;
    assert_eq!(client.value("f", json!({})).await, true, "what is served goes on");
    assert_eq!(server.admin.get("/readyz").await.expect(200)["stale"], false);
    std::fs::remove_file(&snapshot).unwrap();
    kept(folder.path(), r#"\"on\":true"#).await;
    crate::lab::happened(
        "C4 the folder of snapshots vanishes, or cannot be written",
        "removed while the process runs; a file put in its place; taken away again",
        "evaluations went on, the failure was counted, and what is served was kept again each time",
    );
}

#[tokio::test]
async fn a_clock_that_jumps_makes_nothing_stale_and_loses_no_change() {
    let clock = ShiftedClock::new().await;
    let database = Database::create().await;
    let [folder, other_folder] = [Folder::new(), Folder::new()];
    let jumping = clock.rules(command());
    let server = Server::spawn_by(jumping, folder.path(), Some(&database.url), &[]).await;
    is_ready(&server.admin).await;
    let other = Server::start_on(other_folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    let other_client = other.admin.with_token(&client.token);
    server.flag_on("f").await;
    let mut is_on = true;
    for days in [1, -1, 400, -400, 0] {
        clock.shift(days * DAY_SECS, 0);
        // A change of each is served by both, each time.
        for admin in [&server.admin, &other.admin] {
            is_on = !is_on;
            let kind = if is_on { "turnFlagOn" } else { "turnFlagOff" };
            let changed = admin.change("f", json!([{"kind": kind}])).await.expect(200);
            for client in [&client, &other_client] {
                eventually("the change is served", || async {
                    client.value("f", json!({})).await == is_on
                })
                .await;
            }
            assert_eq!(version(&client).await, format!("1-{}", changed["version"]));
        }
        let answer = client.evaluate("f", json!({})).await;
        assert_eq!(answer.header("vexil-stale"), "", "{days} days");
        let ready = server.admin.get("/readyz").await.expect(200);
        assert_eq!(ready["stale"], false, "{days} days: {ready}");
        // The time of the database counts, and how wrong the machine's is is told.
        let audit = server.admin.get("/api/v1/audit?limit=100").await.expect(200);
        for entry in audit["items"].as_array().unwrap() {
            let at: Timestamp = entry["at"].as_str().unwrap().parse().unwrap();
            let off = Clock.now().duration_since(at).abs();
            assert!(off < SignedDuration::from_mins(5), "{days} days: {entry}");
        }
        eventually("the skew is told", || async {
            let text = server.admin.get("/metrics").await.text;
            let name = "vexil_clock_skew_seconds ";
            let told = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let wrong = told.parse::<f64>().unwrap() - (days * DAY_SECS) as f64;
            wrong.abs() < 60.0
        })
        .await;
    }
    crate::lab::happened(
        "C7 the clock jumps",
        "the time of day set forth and back by a day and by 400 days",
        "nothing became stale, no change was lost or late",
    );
}

#[tokio::test]
async fn ten_minutes_without_database_and_files_are_waited_for() {
    let mut postgres = Postgres::start().await;
    postgres.stop().await;
    let clock = ShiftedClock::new().await;
    let folder = Folder::new();
    let waiting = clock.rules(command());
    let server = Server::spawn_by(waiting, folder.path(), Some(&postgres.url), &[]).await;
    let mut resident_kib = 0;
    for passed in (0..=OUTAGE_SECS).step_by(usize::try_from(OUTAGE_STEP_SECS).unwrap()) {
        clock.shift(i64::try_from(passed).unwrap(), passed);
        // A request also wakes the process, which finds that time has passed.
        assert_eq!(server.admin.get("/livez").await.status, 200, "after {passed} s");
        assert_eq!(server.admin.get("/readyz").await.expect(503)["status"], "starting");
        let early = server.admin.evaluate("f", json!({})).await;
        assert!(early.header("retry-after").parse::<u32>().is_ok_and(|secs| secs <= 10));
        early.expect(503);
        if passed == OUTAGE_SECS / 10 {
            resident_kib = server.resident_kib();
        }
    }
    let more_kib = server.resident_kib().saturating_sub(resident_kib);
    assert!(more_kib < OUTAGE_KIB_MAX, "{more_kib} KiB");
    postgres.resume().await;
    is_ready(&server.admin).await;
    server.with_environment().await;
    server.flag_on("f").await;
}

#[tokio::test]
async fn a_standby_without_the_last_changes_is_noticed_after_a_failover() {
    let mut primary = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&primary.url), &[]).await;
    let client = server.with_environment().await;
    let mut standby = primary.copy(true).await;
    server.flag_on("f").await;
    let question = "select count(*) > 0 from flag_config where body like '%\"on\":true%'";
    eventually("the standby has the change", || standby.says(question)).await;
    standby.stop().await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    primary.stop().await;
    standby.succeed(&primary);
    standby.promote().await;
    is_decided(&server, &client).await;
    crate::lab::happened(
        "P7 failover with a lost tail",
        "a standby without the last change was promoted",
        "noticed; changes 409 until the loss was accepted; nothing went back",
    );
}

#[tokio::test]
async fn a_backup_without_the_last_changes_is_noticed_after_its_restoration() {
    let mut primary = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&primary.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let mut backup = primary.copy(false).await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    primary.stop().await;
    backup.succeed(&primary);
    backup.resume().await;
    is_decided(&server, &client).await;
    crate::lab::happened(
        "C13 a backup without the last changes",
        "an older copy of the data directory put in place",
        "noticed; changes 409 until the loss was accepted; nothing went back",
    );
}

/// The kill of `f` is lost: it is served on, nothing can be written, and an operator decides.
async fn is_decided(server: &Server, client: &Client) {
    server.admin.becomes("historyRegressed", true).await;
    assert_eq!(client.value("f", json!({})).await, false, "the kill is not undone");
    let before = version(client).await;
    let refused = server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(409);
    assert_eq!(refused["code"], "history_regressed");
    let accept = "/api/v1/history/accept";
    let accepted = server.admin.post(accept, json!({"comment": "lost"})).await.expect(200);
    assert!(accepted["lost"].as_str().unwrap().contains("shop/production"), "{accepted}");
    eventually("what is there is served", || async { client.value("f", json!({})).await == true })
        .await;
    let epoch = |version: &str| version.split_once('-').unwrap().0.parse::<i64>().unwrap();
    assert!(epoch(&version(client).await) > epoch(&before), "an epoch has begun");
    server.admin.post("/kill/f", json!({})).await.expect(200);
    assert_eq!(client.value("f", json!({})).await, false);
}

#[tokio::test]
async fn what_was_dumped_and_read_into_another_server_goes_on_in_an_epoch_of_its_own() {
    let mut first = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&first.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    server.admin.post("/kill/f", json!({})).await.expect(200);
    let before = version(&client).await;
    kept(folder.path(), r#"\"on\":false"#).await;
    server.kill().await;
    let second = Postgres::start().await;
    first.dump_into(&second).await;
    first.stop().await;

    let server = Server::start_on(folder.path(), Some(&second.url), &[]).await;
    let client = server.admin.with_token(&client.token);
    assert_eq!(client.value("f", json!({})).await, false);
    let (_, n) = before.split_once('-').unwrap();
    assert_eq!(version(&client).await, format!("2-{n}"));
    let ready = server.admin.get("/readyz").await.expect(200);
    assert!(ready.get("historyRegressed").is_none(), "{ready}");
    server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    crate::lab::happened(
        "C14 dumped and read into another server",
        "pg_dump into a fresh cluster",
        "another epoch, and everything was there",
    );
}

#[tokio::test]
async fn what_a_client_says_of_itself_and_its_clock_is_not_believed() {
    let server = Server::start(Backend::Sqlite).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let path = "/ofrep/v1/evaluate/flags/f";
    let plain = client.evaluate("f", json!({})).await;
    for (name, value) in [
        ("Host", "attacker.example"),
        ("X-Forwarded-Host", "attacker.example"),
        ("X-Forwarded-Proto", "https"),
        ("X-Forwarded-For", "127.0.0.1"),
        ("Forwarded", "for=127.0.0.1;host=attacker.example"),
        ("X-Real-IP", "127.0.0.1"),
        ("X-Original-URL", "/api/v1/projects"),
        ("X-HTTP-Method-Override", "DELETE"),
        ("Date", "Thu, 01 Jan 1970 00:00:00 GMT"),
        ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"),
    ] {
        let request = client.request(reqwest::Method::POST, path).header(name, value);
        let answer = client.send(request.json(&json!({"context": {}}))).await;
        assert_eq!((answer.status, &answer.text), (200, &plain.text), "{name}");
        assert!(!format!("{:?}", answer.headers).contains("attacker"), "{name}");
        let nobody = client.with_token("nobody's");
        let request = nobody.request(reqwest::Method::GET, "/api/v1/projects").header(name, value);
        assert_eq!(nobody.send(request).await.status, 401, "{name}");
    }
    crate::lab::happened(
        "N15 forged hosts, addresses and times",
        "forged Host, X-Forwarded-For, Forwarded, Date and others",
        "none was believed",
    );
}

#[tokio::test]
async fn rings_without_number_and_without_cause_do_no_harm() {
    let database = Database::create().await;
    let redis = redis_url();
    let args = ["--redis-url", redis.as_str()];
    let [folder, other_folder] = [Folder::new(), Folder::new()];
    let server = Server::start_on(folder.path(), Some(&database.url), &args).await;
    let other = Server::start_on(other_folder.path(), Some(&database.url), &args).await;
    let client = server.with_environment().await;
    let other_client = other.admin.with_token(&client.token);
    server.flag_on("f").await;
    let ringing = async {
        let redis = redis::Client::open(redis_url()).unwrap();
        let mut redis = redis.get_multiplexed_async_connection().await.unwrap();
        loop {
            // Of something old, of something that is not there yet, and of nothing at all.
            for text in ["1:1:1", "1:1:999999", "", "?"] {
                let _: i64 = redis.publish(RINGS, text).await.unwrap();
                let notify = format!("notify {RINGS}, '{text}'; notify {RINGS}");
                database.run(&notify).await;
            }
        }
    };
    let changing = async {
        let mut last = 0;
        for n in 0..CHANGES {
            let kind = if n % 2 == 0 { "turnFlagOff" } else { "turnFlagOn" };
            let changed = server.admin.change("f", json!([{"kind": kind}])).await.expect(200);
            eventually("the other replica serves it, and nothing older", || async {
                let at = version(&other_client).await;
                let at: i64 = at.strip_prefix("1-").unwrap().parse().unwrap();
                assert!(at >= last, "{at} after {last}");
                at == changed["version"]
            })
            .await;
            last = changed["version"].as_i64().unwrap();
            assert_eq!(other_client.value("f", json!({})).await, n % 2 != 0);
        }
    };
    tokio::select! {
        () = changing => {}
        _ = ringing => {}
    }
    crate::lab::happened(
        "R7, N12 rings lost, doubled, late, made up",
        "a hail of old, future and unreadable rings by NOTIFY and Redis during 20 changes",
        "each change arrived, and only higher positions were served",
    );
}
