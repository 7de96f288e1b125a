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
async fn what_is_older_in_the_cache_is_counted_and_completed_from_the_store() {
    let database = Database::create().await;
    let redis = redis_url();
    let args = ["--redis-url", redis.as_str()];
    let folders = [Folder::new(), Folder::new()];
    let mut first = Server::start_on(folders[0].path(), Some(&database.url), &args).await;
    let client = first.with_environment().await;
    first.flag_on("f").await;
    let change = async |kind: &str| {
        let changed = first.admin.change("f", json!([{"kind": kind}])).await.expect(200);
        key_of(&database, changed["version"].as_i64().unwrap()).await
    };
    let mut redis = connect().await;
    let key = change("turnFlagOff").await;
    let old: Vec<(String, Vec<u8>)> = redis.hgetall(&key).await.unwrap();
    change("turnFlagOn").await;
    // So that nobody is left who would replace it.
    assert!(first.stop().await);
    let _: () = redis.hset_multiple(&key, &old).await.unwrap();
    let second = Server::start_on(folders[1].path(), Some(&database.url), &args).await;
    assert_eq!(second.admin.with_token(&client.token).value("f", json!({})).await, true);
    let figures = [FROM_CACHE, "vexil_cache_stale_total", FROM_STORE, REFUSED];
    let mut found = [0; 4];
    for (name, found) in figures.into_iter().zip(&mut found) {
        *found = figure(&second.admin, name).await;
    }
    assert_eq!(found, [1, 1, 0, 0], "from the cache, older, and what is missing from the store");
    crate::lab::happened(
        "R3 an older value in Redis",
        "the value before the last change put back",
        "counted, and what was missing read from PostgreSQL",
    );
}

/// A way to Redis on which it can be dropped whatever the process sends; counts the subscriptions.
#[cfg(target_os = "linux")]
#[derive(Default)]
struct Way {
    from_process: std::sync::Mutex<Vec<std::os::fd::OwnedFd>>,
    n_subscriptions: std::sync::atomic::AtomicUsize,
}

#[cfg(target_os = "linux")]
impl Way {
    /// Carries one connection.
    async fn carry(&self, mut client: tokio::net::TcpStream) {
        use std::os::fd::AsFd;
        use tokio::io::AsyncReadExt;
        use tokio::io::AsyncWriteExt;
        self.from_process.lock().unwrap().push(client.as_fd().try_clone_to_owned().unwrap());
        let to = redis_url();
        let to = to.trim_start_matches("redis://").trim_end_matches('/');
        let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
        let (mut asked, mut answered) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
        loop {
            tokio::select! {
                n_bytes = client.read(&mut asked) => {
                    let Ok(n_bytes @ 1..) = n_bytes else { return };
                    if asked[..n_bytes].windows(9).any(|text| text.eq_ignore_ascii_case(b"SUBSCRIBE")) {
                        self.n_subscriptions.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    }
                    server.write_all(&asked[..n_bytes]).await.unwrap();
                }
                n_bytes = server.read(&mut answered) => {
                    let Ok(n_bytes @ 1..) = n_bytes else { return };
                    if client.write_all(&answered[..n_bytes]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }

    fn n_subscriptions(&self) -> usize {
        self.n_subscriptions.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Drops every packet of the process on the connections that are there: nothing is acknowledged any more, and neither an
    /// end nor a reset is seen.
    fn drop_all(&self) {
        const BPF_RETURN: u16 = 0x06;
        for socket in &*self.from_process.lock().unwrap() {
            let drop_all = socket2::SockFilter::new(BPF_RETURN, 0, 0, 0);
            socket2::SockRef::from(socket).attach_filter(&[drop_all]).unwrap();
        }
    }
}

/// A subscription sends nothing that could stay unanswered: only the kernel's probes find out that nobody is there.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_subscription_whose_other_end_is_gone_without_a_word_is_made_anew() {
    let way = Arc::new(Way::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("redis://{}", listener.local_addr().unwrap());
    let carrying = Arc::clone(&way);
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let way = Arc::clone(&carrying);
            tokio::spawn(async move { way.carry(client).await });
        }
    });
    let database = Database::create().await;
    let folder = Folder::new();
    let server = Server::start_on(folder.path(), Some(&database.url), &["--redis-url", &url]).await;
    server.with_environment().await;
    eventually("it subscribes", async || way.n_subscriptions() == 1).await;
    way.drop_all();
    eventually("it subscribes anew", async || way.n_subscriptions() == 2).await;
    crate::lab::happened(
        "R8 a subscription whose other end is gone without a word",
        "every packet on the connections to Redis dropped",
        "noticed by the kernel's probes, and subscribed anew",
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
