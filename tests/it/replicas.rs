//! Several processes on one PostgreSQL: what one acknowledges, the others serve.

use crate::harness::Database;
use crate::harness::Events;
use crate::harness::Folder;
use crate::harness::PgBouncer;
use crate::harness::Server;
use crate::harness::eventually;
use crate::harness::redis_url;
use serde_json::json;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::net::TcpStream;

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

/// The first byte of the message with which PostgreSQL passes a notification on. Source: its manual, \"Message Formats\".
const NOTIFICATION: u8 = b'A';

/// Passes on what PostgreSQL says, message by message, and keeps the notifications.
async fn pass_on(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    n_kept: &AtomicU64,
) -> io::Result<()> {
    loop {
        let (kind, n_bytes) = (from.read_u8().await?, from.read_u32().await?);
        let mut body = vec![0; usize::try_from(n_bytes - 4).unwrap()];
        from.read_exact(&mut body).await?;
        if kind == NOTIFICATION {
            n_kept.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        to.write_all(&[&[kind][..], &n_bytes.to_be_bytes(), &body].concat()).await?;
    }
}

/// Starts something before PostgreSQL that takes `LISTEN` and passes no notification on; returns how the database is reached
/// through it, and how many it has kept.
async fn keep_notifications(database: &Database) -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (port, to) = (listener.local_addr().unwrap().port(), database.port());
    let kept = Arc::new(AtomicU64::new(0));
    let n_kept = Arc::clone(&kept);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let n_kept = Arc::clone(&n_kept);
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", to)).await.unwrap();
                let (mut from_client, to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                // Whichever side ends, both end.
                tokio::select! {
                    _ = tokio::io::copy(&mut from_client, &mut to_server) => {}
                    _ = pass_on(from_server, to_client, &n_kept) => {}
                }
            });
        }
    });
    // Without TLS, of which the answer would be no message.
    (format!("{}?sslmode=disable", database.url_through(port)), kept)
}

#[tokio::test]
async fn changes_arrive_where_notifications_are_accepted_and_not_delivered() {
    let database = Database::create().await;
    let (url, n_kept) = keep_notifications(&database).await;
    let folders = [Folder::new(), Folder::new()];
    let direct = Server::start_on(folders[0].path(), Some(&database.url), &[]).await;
    eventually("it hears itself", async || direct.metric("vexil_notify_ok").await == 1).await;
    assert_eq!(n_kept.load(Ordering::Relaxed), 0);
    let behind = Server::start_on(folders[1].path(), Some(&url), &[]).await;
    // Nobody else rings: a connection is given up when it does not hear itself, and another one is tried.
    eventually("it has tried twice", async || n_kept.load(Ordering::Relaxed) >= 2).await;
    assert_eq!(behind.metric("vexil_notify_ok").await, 0);
    drop((direct, behind));
    follow(&database.url, &url, &[]).await;
    crate::lab::happened(
        "P14 notifications are accepted and not delivered",
        "a proxy before PostgreSQL that answers LISTEN and keeps every notification",
        &format!(
            "noticed at each connection by a ring to oneself; {CHANGES} changes arrived by the poll"
        ),
    );
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
