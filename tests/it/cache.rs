//! The cache in Redis: replicas start from it, and believe nothing that they find there.

use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
use crate::harness::redis_url;
use redis::AsyncCommands;
use serde_json::json;

/// A figure from the metrics of a server; 0 if it is not there.
async fn figure(admin: &Client, name: &str) -> u64 {
    let text = admin.get("/metrics").await.text;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    line.unwrap_or(0)
}

const FROM_CACHE: &str = "vexil_ruleset_loads_total{source=\"cache\"}";
const FROM_STORE: &str = "vexil_ruleset_loads_total{source=\"store\"}";
const REFUSED: &str = "vexil_images_refused_total";

async fn connect() -> redis::aio::MultiplexedConnection {
    let client = redis::Client::open(redis_url()).unwrap();
    client.get_multiplexed_async_connection().await.unwrap()
}

/// The key under which the environment's ruleset lies, once it is at this version or a later one.
async fn key_of(database: &Database, version: i64) -> String {
    let redis = connect().await;
    // Other tests use the same Redis: each installation has a name of its own there.
    let secret: Vec<u8> = database.ask("select cache_key from cluster").await;
    let identity: String = database.ask("select identity from cluster").await;
    let own = format!("{}{identity}", hex::encode(secret));
    let name = blake3::derive_key("vexil name in Redis", own.as_bytes());
    let env: i64 = database.ask("select id from environment").await;
    let key = format!("vexil:{}:ruleset:{env}", hex::encode(&name[..8]));
    eventually("the ruleset is cached", || {
        let (mut redis, key) = (redis.clone(), key.clone());
        async move {
            redis.hget::<_, _, Option<i64>>(key, "v").await.unwrap().is_some_and(|v| v >= version)
        }
    })
    .await;
    key
}

#[tokio::test]
async fn a_replica_starts_from_the_cache_and_refuses_what_is_not_authentic() {
    let database = Database::create().await;
    let redis = redis_url();
    let args = ["--redis-url", redis.as_str()];
    let folder = Folder::new();
    let first = Server::start_on(folder.path(), Some(&database.url), &args).await;
    let client = first.with_environment().await;
    first.flag_on("f").await;
    let changed = first.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    let version = changed["version"].as_i64().unwrap();
    let key = key_of(&database, version).await;

    let start = async || {
        let folder = Folder::new();
        let server = Server::start_on(folder.path(), Some(&database.url), &args).await;
        let client = server.admin.with_token(&client.token);
        assert_eq!(client.value("f", json!({})).await, false);
        let admin = &server.admin;
        let from_cache = figure(admin, FROM_CACHE).await;
        let figures = (from_cache, figure(admin, FROM_STORE).await, figure(admin, REFUSED).await);
        (figures, server, folder)
    };
    assert_eq!(start().await.0, (1, 0, 0), "from the cache");

    let mut redis = connect().await;
    let good: Vec<u8> = redis.hget(&key, "b").await.unwrap();
    let text = String::from_utf8(good.clone()).unwrap();
    let (seal, body) = text.split_once('\n').unwrap();
    assert!(body.contains(":false"), "{body}");
    let forged = format!("{seal}\n{}", body.replace(":false", ":true"));
    for poison in [
        b"vexil".to_vec(),
        good[..good.len() / 2].to_vec(),
        forged.into_bytes(),
        vec![b'['; 100_000],
    ] {
        let _: () = redis.hset(&key, "b", &poison).await.unwrap();
        let (figures, _server, _folder) = start().await;
        assert_eq!(figures, (0, 1, 1), "refused, counted, and read from the store");
        eventually("it is replaced by what is good", || {
            let (mut redis, key, good) = (redis.clone(), key.clone(), good.clone());
            async move { redis.hget::<_, _, Vec<u8>>(key, "b").await.unwrap() == good }
        })
        .await;
        let _: () = redis.del(format!("{key}:reader")).await.unwrap();
    }
    assert_eq!(start().await.0, (1, 0, 0), "from the cache");
}

#[tokio::test]
async fn replicas_that_start_together_read_the_database_once() {
    let database = Database::create().await;
    let redis = redis_url();
    let args = ["--redis-url", redis.as_str()];
    let folder = Folder::new();
    let mut first = Server::start_on(folder.path(), Some(&database.url), &args).await;
    let token = first.with_environment().await.token;
    first.flag_on("f").await;
    let version = first.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
    let key = key_of(&database, version["version"].as_i64().unwrap()).await;
    assert!(first.stop().await);
    let mut redis = connect().await;
    let _: () =
        redis.del(&[key.clone(), format!("{key}:reader"), format!("{key}:writer")]).await.unwrap();

    let start = async || {
        let folder = Folder::new();
        let server = Server::start_on(folder.path(), Some(&database.url), &args).await;
        let client = server.admin.with_token(&token);
        assert_eq!(client.value("f", json!({})).await, false);
        figure(&server.admin, FROM_STORE).await
    };
    let (a, b, c, d) = tokio::join!(start(), start(), start(), start());
    assert_eq!(a + b + c + d, 1, "{a} {b} {c} {d}");
}
