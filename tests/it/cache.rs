//! The cache in Redis: replicas start from it, and believe nothing that they find there.

use crate::harness::Client;
use crate::harness::Database;
use crate::harness::Folder;
use crate::harness::Postgres;
use crate::harness::Server;
use crate::harness::eventually;
use crate::harness::redis_url;
use redis::AsyncCommands;
use secrecy::SecretString;
use serde_json::json;
use std::sync::Arc;
use tokio::sync::Barrier;
use vexil::clock::Ids;
use vexil::model::change::Position;
use vexil::store::CACHE_TTL;
use vexil::store::Cache;
use vexil::store::Redis;

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
    let identity = "select identity || '/' || oid from cluster, pg_database
        where datname = current_database()";
    let identity: String = database.ask(identity).await;
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
    crate::lab::happened(
        "R4 poisoned values in Redis",
        "wrong bytes, cut off, forged, 100,000 brackets",
        "refused, counted, and read from PostgreSQL",
    );
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

/// Two installations of which one is a copy of the other, with one Redis, go on without taking anything from each other.
async fn do_not_meet(original: &str, copy: &str, token: &str) {
    let redis = redis_url();
    let args = ["--redis-url", redis.as_str()];
    let [first_folder, second_folder] = [Folder::new(), Folder::new()];
    let first = Server::start_on(first_folder.path(), Some(original), &args).await;
    let second = Server::start_on(second_folder.path(), Some(copy), &args).await;
    for _ in 0..3 {
        second.admin.change("f", json!([{"kind": "turnFlagOff"}])).await.expect(200);
        second.admin.change("f", json!([{"kind": "turnFlagOn"}])).await.expect(200);
    }
    first.admin.post("/kill/f", json!({})).await.expect(200);
    for (url, wanted) in [(original, false), (copy, true), (original, false)] {
        // What it has to start from is in Redis.
        let is_cached = async || {
            let folder = Folder::new();
            let fresh = Server::start_on(folder.path(), Some(url), &args).await;
            let client = fresh.admin.with_token(token);
            assert_eq!(client.value("f", json!({})).await, wanted, "{url}");
            assert_eq!(figure(&fresh.admin, REFUSED).await, 0, "{url}");
            figure(&fresh.admin, FROM_CACHE).await == 1
        };
        eventually("a replica starts from Redis", is_cached).await;
    }
    for server in [&first, &second] {
        let ready = server.admin.get("/readyz").await.expect(200);
        assert!(ready.get("historyRegressed").is_none(), "{ready}");
        server.admin.change("f", json!([{"kind": "turnFlagOn"}])).await;
        server.admin.post("/kill/f", json!({})).await.expect(200);
    }
}

#[tokio::test]
async fn a_copy_of_the_database_takes_nothing_from_its_originals_part_of_redis() {
    let first = Postgres::start().await;
    let folder = Folder::new();
    let redis = redis_url();
    let args = ["--redis-url", redis.as_str()];
    let mut server = Server::start_on(folder.path(), Some(&first.url), &args).await;
    let token = server.with_environment().await.token;
    server.flag_on("f").await;
    assert!(server.stop().await);
    let second = Postgres::start().await;
    first.dump_into(&second).await;
    do_not_meet(&first.url, &second.url, &token).await;
}

#[tokio::test]
async fn a_copy_on_the_same_server_takes_nothing_from_its_originals_part_of_redis() {
    let database = Database::create().await;
    let folder = Folder::new();
    let mut server = Server::start_on(folder.path(), Some(&database.url), &[]).await;
    let token = server.with_environment().await.token;
    server.flag_on("f").await;
    assert!(server.stop().await);
    let copy = database.copy().await;
    do_not_meet(&database.url, &copy.url, &token).await;
}

/// Puts an image, whose bytes are its position, and tries again while Redis is too slow to answer.
async fn put(cache: &Cache, epoch: i64, version: i64) -> bool {
    let at = Position { epoch, version };
    loop {
        let image = format!("{epoch}-{version}");
        if let Ok(is_put) = cache.put(1, at, CACHE_TTL, image.as_bytes(), false).await {
            return is_put;
        }
    }
}

async fn lies_there(cache: &Cache) -> String {
    loop {
        if let Ok(image) = cache.read(1, 0).await {
            return String::from_utf8(image.unwrap()).unwrap();
        }
    }
}

#[tokio::test]
async fn of_many_writers_the_highest_position_stays() {
    let redis = Redis::new(&SecretString::from(redis_url())).unwrap();
    let cache = Cache::new(redis.clone(), Ids.next());
    for (epoch, version, is_put) in [
        (1, 10, true),
        (1, 9, false),
        (1, 11, true),
        (0, 999, false),
        (2, 1, true),
        (1, 12, false),
        (2, 9, true),
        (2, 10, true),
    ] {
        assert_eq!(put(&cache, epoch, version).await, is_put, "{epoch}-{version}");
    }
    assert_eq!(lies_there(&cache).await, "2-10");

    const WRITERS: i64 = 16;
    const EACH: i64 = 25;
    let cache = Cache::new(redis, Ids.next());
    let together = Arc::new(Barrier::new(usize::try_from(WRITERS).unwrap()));
    let writers = (0..WRITERS).map(|writer| {
        let (cache, together) = (cache.clone(), Arc::clone(&together));
        tokio::spawn(async move {
            together.wait().await;
            for n in 0..EACH {
                // Each number once, in an order of each writer's own: 7 and 25 have no common factor.
                let version = (n * 7 + writer) % EACH * WRITERS + writer;
                put(&cache, version / 200, version).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let highest = WRITERS * EACH - 1;
    assert_eq!(lies_there(&cache).await, format!("{}-{highest}", highest / 200));
    crate::lab::happened(
        "R10 old and new writers to Redis at once",
        "writers in random order",
        "the highest position stayed",
    );
}
