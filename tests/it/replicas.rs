//! Several processes on one PostgreSQL: what one acknowledges, the others serve.

use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::PgBouncer;
use crate::harness::Server;
use crate::harness::redis_url;
use serde_json::json;

/// Changes that are made on one replica and must reach the other.
const CHANGES: i64 = 50;

#[tokio::test]
async fn changes_arrive_by_notification() {
    let database = Database::create().await;
    follow(&database.url, &database.url, &[]).await;
}

#[tokio::test]
async fn changes_arrive_without_notifications() {
    let database = Database::create().await;
    follow(&database.url, &database.url, &["--test-no-listen"]).await;
}

#[tokio::test]
async fn changes_arrive_through_a_pooler_in_transaction_mode() {
    let database = Database::create().await;
    let pooler = PgBouncer::start(&database).await;
    follow(&pooler.url, &pooler.url, &[]).await;
}

#[tokio::test]
async fn changes_arrive_by_redis() {
    let database = Database::create().await;
    let redis = redis_url();
    follow(&database.url, &database.url, &["--test-no-listen", "--redis-url", &redis]).await;
}

/// Changes a flag on one replica again and again and watches it on the other.
async fn follow(first_url: &str, second_url: &str, args: &[&str]) {
    let (first_folder, second_folder) = (Folder::new(), Folder::new());
    let first = Server::start_on(first_folder.path(), Some(first_url), args).await;
    let token = first.with_environment().await.token;
    first.flag("f").await;
    let second = Server::start_on(second_folder.path(), Some(second_url), args).await;
    let client = second.admin.with_token(&token);
    let mut events = Events::open(&client, None).await;
    for i in 0..CHANGES {
        let kind = if i % 2 == 0 { "turnFlagOn" } else { "turnFlagOff" };
        let changed = first.admin.change("f", json!([{"kind": kind}])).await.expect(200);
        // The reader gives up after a while, so a change that never arrives fails the test.
        let event = events.next().await.unwrap();
        assert_eq!(event["version"], changed["version"]);
        assert_eq!(client.value("f", json!({})).await, i % 2 == 0);
    }
}
