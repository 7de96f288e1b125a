//! The database goes away while SDKs report, and days begin and end.

use super::counted;
use super::feature;
use super::send;
use super::summary;
use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::eventually;
use crate::lab::proxy::Fault;
use crate::lab::proxy::Proxy;
use serde_json::Value;
use serde_json::json;

#[tokio::test]
async fn what_is_reported_without_a_database_is_written_later() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let one = json!([summary(&[("f", Some(0), 1)])]);
    assert_eq!(send(&client, "/bulk", None, &one).await, 202);
    counted(&server, "f", json!({"on": 1})).await;
    postgres.stop().await;
    for i in 0..50 {
        assert_eq!(send(&client, "/bulk", Some(&format!("p{i}")), &one).await, 202);
        client.evaluate("f", json!({})).await.expect(200);
    }
    assert!(server.metric("vexil_event_queue_bytes").await > 0);
    eventually("an attempt to write has failed", || async {
        server.metric("vexil_event_write_errors_total").await > 0
    })
    .await;
    postgres.resume().await;
    eventually("everything is counted", || async {
        let usage = server.admin.get(&format!("{}/flags/f/usage", super::ENVIRONMENT)).await;
        usage.status == 200 && usage.body["total"] == 101
    })
    .await;
    assert_eq!(server.metric("vexil_event_queue_bytes").await, 0);
}

#[tokio::test]
async fn what_is_reported_to_a_slow_database_is_written_in_the_end() {
    let database = Database::create().await;
    let (server_part, name) = database.url.rsplit_once('/').unwrap();
    let (start, port) = server_part.rsplit_once(':').unwrap();
    let proxy = Proxy::start(port.parse().unwrap()).await;
    let folder = Folder::new();
    let url = format!("{start}:{}/{name}", proxy.port);
    let server = Server::start_on(folder.path(), Some(&url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    // Whatever passes takes up to a second in each direction: there is a database, and writing takes long.
    proxy.set(Fault::Delay(1_000));
    let one = json!([summary(&[("f", Some(0), 1)])]);
    for i in 0..200 {
        assert_eq!(send(&client, "/bulk", Some(&format!("p{i}")), &one).await, 202);
        client.evaluate("f", json!({})).await.expect(200);
    }
    assert!(server.metric("vexil_event_queue_bytes").await <= 64 * 1024 * 1024);
    proxy.set(Fault::Pass);
    counted(&server, "f", json!({"on": 400})).await;
    assert_eq!(server.metric("vexil_events_dropped_total{reason=\"queue_full\"}").await, 0);
}

#[tokio::test]
async fn what_waits_for_a_database_that_is_lost_is_not_written_to_the_one_that_is_accepted() {
    let database = Database::create().await;
    let [folder, other_folder] = [Folder::new(), Folder::new()];
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    let reports = async |client: &Client, flag: &str| {
        let events = json!([feature(flag, 0, "u")]);
        assert_eq!(send(client, "/bulk", None, &events).await, 202);
    };
    let n_events = async |n: i64| {
        let count = "select count(*) from event";
        eventually("the events are there", || async { database.ask::<i64>(count).await == n })
            .await;
    };
    reports(&client, "former").await;
    n_events(1).await;
    // Dropping it would wait for who reads just then, who may wait for it.
    database.run("alter schema public rename to former; create schema public").await;
    let other = Server::start_on(other_folder.path(), Some(&database.url), &[]).await;
    server.admin.becomes("historyRegressed", true).await;
    reports(&client, "former").await;
    let accept = "/api/v1/history/accept";
    server.admin.post(accept, json!({"comment": "lost"})).await.expect(200);
    let dropped = "vexil_events_dropped_total{reason=\"other_installation\"}";
    eventually("it is dropped", || async { server.metric(dropped).await == 1 }).await;
    client.evaluates_with("f", 401).await;
    let client = server.with_environment().await;
    reports(&client, "f").await;
    reports(&other.admin.with_token(&client.token), "f").await;
    n_events(2).await;
    let n_former: i64 = database.ask("select count(*) from event where key = 'former'").await;
    assert_eq!(n_former, 0);
    let n_people: i64 = database.ask("select count(distinct unit) from event").await;
    assert_eq!(n_people, 1, "both replicas hash alike");
}

/// Events in one payload, and characters in the key of each, so that the queue is soon full.
const EVENTS: usize = 20_000;
const KEY_CHARS: usize = 200;

#[tokio::test]
async fn what_is_too_much_is_dropped_and_counted() {
    let mut postgres = Postgres::start().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&postgres.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    postgres.stop().await;
    let user = "u".repeat(KEY_CHARS);
    let event = json!({"kind": "custom", "key": "bought", "contextKeys": {"user": user}});
    let events = Value::Array(vec![event; EVENTS]);
    let dropped = "vexil_events_dropped_total{reason=\"queue_full\"}";
    let mut n_sent = 0;
    while server.metric(dropped).await == 0 {
        assert_eq!(send(&client, "/bulk", None, &events).await, 202);
        n_sent += 1;
        assert!(n_sent < 100, "the queue has no bound");
    }
    assert!(server.metric("vexil_event_queue_bytes").await <= 64 * 1024 * 1024);
    assert_eq!(client.value("f", json!({})).await, true);
}

#[tokio::test]
async fn days_are_prepared_and_dropped() {
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let client = server.with_environment().await;
    server.flag_on("f").await;
    let events = json!([feature("f", 0, "u"), feature("f", 0, "u"), feature("f", 1, "v")]);
    assert_eq!(send(&client, "/bulk", None, &events).await, 202);
    eventually("the events are there", || async {
        database.ask::<i64>("select count(*) from event").await == 3
    })
    .await;
    let exposures: i64 = database.ask("select count(*) from exposure where in_experiment").await;
    assert_eq!(exposures, 2, "one for each unit and variation a day");
    let n: i64 = database.ask("select max(count) from exposure").await;
    assert_eq!(n, 2);
    const PARTITIONS: &str = "select count(*) from pg_inherits where inhparent = 'event'::regclass";
    assert_eq!(database.ask::<i64>(PARTITIONS).await, 9, "yesterday, today, and a week");
    assert!(server.kill().await.0.is_none());

    // A day that is long over.
    database
        .run(
            "create table event_p20200101 partition of event
                for values from ('2020-01-01') to ('2020-01-02');
            insert into flag_usage select environment_id, flag_key, '2020-01-01', 0, 1, 7
                from (select 1 as environment_id, 'f' as flag_key) as old",
        )
        .await;
    let again = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    eventually("the old day is gone", || async {
        database.ask::<i64>(PARTITIONS).await == 9
            && database.ask::<i64>("select count(*) from flag_usage where day < '2021-01-01'").await
                == 0
    })
    .await;
    assert_eq!(database.ask::<i64>("select count(*) from event").await, 3);
    drop(again);
}
