//! What is promised in numbers: few of each in tests, as many as is promised in `scripts/fault-lab --promise`.
//!
//! Kills are in `crash`, confirmations by all replicas in `applied`.

use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::harness::eventually;
use crate::lab::Dice;
use crate::lab::Lab;
use crate::lab::is_full;
use crate::lab::kept;
use crate::lab::load::N_FLAGS;
use crate::lab::size;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Contexts in one request for evaluations.
const CONTEXTS: usize = 500;
/// How long an image lies in Redis unless it is renewed, and a little more.
const CACHE_TTL: Duration = Duration::from_secs(35);

/// How many rulesets a replica has read as a whole, from PostgreSQL and from Redis.
async fn loads(admin: &Client) -> [u64; 2] {
    let loads = ["store", "cache"];
    metrics(admin, loads.map(|source| format!("vexil_ruleset_loads_total{{source=\"{source}\"}}")))
        .await
}

/// How many times Redis did not answer a replica, within its 50 ms or at all.
async fn cache_errors(admin: &Client) -> [u64; 1] {
    metrics(admin, ["vexil_cache_errors_total".to_owned()]).await
}

async fn metrics<const N: usize>(admin: &Client, names: [String; N]) -> [u64; N] {
    let text = admin.get("/metrics").await.expect_text();
    names.map(|name| {
        let name = format!("{name} ");
        let figure = text.lines().find_map(|line| line.strip_prefix(&name));
        figure.map_or(0, |figure| figure.parse().unwrap())
    })
}

/// R2: replicas go on and start while Redis is emptied all the time.
#[tokio::test(flavor = "multi_thread")]
async fn emptying_redis_does_not_load_postgres() {
    let started = Instant::now();
    let mut lab = Lab::start("R2 FLUSHALL every 100 ms").await;
    let mut before = Vec::new();
    for replica in &lab.replicas {
        before.push(loads(replica.admin()).await);
    }
    let begun = Instant::now();
    let time = Duration::from_secs(u64::try_from(size(4, 60)).unwrap());
    let mut n_flushes = 0;
    while begun.elapsed() < time {
        lab.redis.run("FLUSHALL").await;
        n_flushes += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    for (replica, before) in lab.replicas.iter().zip(&before) {
        assert_eq!(loads(replica.admin()).await, *before, "replicas that run read whole rulesets");
    }
    // One that starts with an empty disk has to read the ruleset, from wherever it is.
    lab.replicas[2].kill().await;
    lab.replicas[2].forget();
    lab.replicas[2].start().await;
    let [from_store, _] = loads(lab.replicas[2].admin()).await;
    assert!(from_store <= 1, "one environment, read {from_store} times");
    let seconds = begun.elapsed().as_secs();
    lab.judge("none of three replicas read a whole ruleset; one started anew read it once at most")
        .await;
    kept(
        "an empty Redis does not load PostgreSQL: at most one ruleset per environment and 2 s",
        &format!(
            "{n_flushes} × FLUSHALL in {seconds} s, 20 writers, three replicas, of which one is started anew"
        ),
        started,
        &format!("{from_store} rulesets read from PostgreSQL"),
    );
}

/// Replicas that start with nothing on their disks, while changes are made all the time.
#[tokio::test(flavor = "multi_thread")]
async fn redis_answers_for_postgres_when_replicas_start() {
    let started = Instant::now();
    let mut lab = Lab::start_with("replicas start with empty disks", 4).await;
    // The keeper writes what is served behind it.
    eventually("a ruleset is cached", || async { lab.redis.cached_version().await.is_some() })
        .await;
    let n_starts = size(4, 200);
    let (mut from_store, mut from_cache, mut n_errors) = (0, 0, 0);
    for i in 0..n_starts {
        let victim = i % lab.replicas.len();
        lab.replicas[victim].kill().await;
        if is_full() && i % 50 == 0 {
            // What lies in Redis has to be renewed meanwhile.
            tokio::time::sleep(CACHE_TTL).await;
        }
        lab.replicas[victim].forget();
        lab.replicas[victim].start().await;
        let [store, cache] = loads(lab.replicas[victim].admin()).await;
        let [errors] = cache_errors(lab.replicas[victim].admin()).await;
        (from_store, from_cache) = (from_store + store, from_cache + cache);
        n_errors += errors;
        lab.acknowledges().await;
    }
    if is_full() {
        assert!(from_cache * 100 >= (from_store + from_cache) * 99, "{from_store}, {from_cache}");
    } else {
        // Of few starts, one to which Redis did not answer within 50 ms is many.
        assert!(from_store <= n_errors, "{from_store} of the store, with {n_errors} errors");
    }
    lab.judge("a replica killed and started with an empty disk, again and again").await;
    kept(
        "Redis answers at least 99 % of the rulesets that are read as a whole",
        &format!(
            "{n_starts} starts with an empty disk one after another instead of one each minute, 4 writers; every 50th after a rest longer than Redis keeps anything"
        ),
        started,
        &format!("{from_cache} from Redis, {from_store} from PostgreSQL"),
    );
}

/// P1, P3, R1: nothing that is stood on is there.
#[tokio::test(flavor = "multi_thread")]
async fn everything_is_away() {
    let began = Instant::now();
    let mut lab = Lab::start("total loss of PostgreSQL and Redis").await;
    lab.postgres.stop().await;
    lab.redis.stop().await;
    lab.record.is_over.store(true, Ordering::Relaxed);
    let client = lab.replicas[0].admin().with_token(&lab.token);
    let contexts: Vec<_> =
        (0..CONTEXTS).map(|i| json!({"targetingKey": format!("w{i}")})).collect();
    let ask = json!({"contexts": contexts});
    let per_request = CONTEXTS * usize::try_from(N_FLAGS).unwrap();
    let n_evaluations = size(4 * per_request, 1_000_000);
    let first = client.post("/api/v1/evaluate", ask.clone()).await.expect(200);
    for _ in 0..n_evaluations.div_ceil(per_request) {
        assert_eq!(client.post("/api/v1/evaluate", ask.clone()).await.expect(200), first);
    }
    // What was served is kept within about a second, and then a new process serves it.
    lab.last(2_500).await;
    lab.replicas[0].kill().await;
    let started = Instant::now();
    lab.replicas[0].start().await;
    let ready = started.elapsed();
    assert!(!is_full() || ready < Duration::from_secs(1), "ready after {ready:?}");
    let client = lab.replicas[0].admin().with_token(&lab.token);
    let ready_body = client.get("/readyz").await.expect(200);
    assert_eq!(ready_body["source"], "disk");
    assert_eq!(client.post("/api/v1/evaluate", ask.clone()).await.expect(200), first);
    lab.redis.resume();
    lab.postgres.resume().await;
    lab.record.is_over.store(false, Ordering::Relaxed);
    lab.write_again();
    let ready = ready.as_millis();
    lab.judge(&format!("{n_evaluations} evaluations, then restarted without either: ready after {ready} ms with the same answers")).await;
    kept(
        "evaluations need neither PostgreSQL nor Redis, and a start neither",
        &format!(
            "{n_evaluations} evaluations with both stopped, then SIGKILL and a start with both stopped"
        ),
        began,
        &format!("0 failed; ready after {ready} ms with the same answers"),
    );
}

/// Replicas that start at the same moment, with nothing on their disks and nothing in Redis.
#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_start_together_read_postgres_once() {
    let began = Instant::now();
    let mut lab = Lab::start_with("replicas start together", 2).await;
    lab.record.is_over.store(true, Ordering::Relaxed);
    for replica in &mut lab.replicas {
        replica.kill().await;
    }
    // The writers may have been stopped in the middle of a change.
    lab.redis.run("FLUSHALL").await;
    let n_replicas = size(4, 20);
    let redis = format!("redis://127.0.0.1:{}", lab.redis.port);
    let args = ["--redis-url", redis.as_str()];
    let start = async || {
        let folder = Folder::new();
        let server = Server::start_on(folder.path(), Some(&lab.postgres.url), &args).await;
        let figures = loads(&server.admin).await;
        let [errors] = cache_errors(&server.admin).await;
        (figures, errors, server, folder)
    };
    let all = futures_util::future::join_all((0..n_replicas).map(|_| start())).await;
    let from_store: u64 = all.iter().map(|(figures, ..)| figures[0]).sum();
    let from_cache: u64 = all.iter().map(|(figures, ..)| figures[1]).sum();
    // Whoever Redis does not answer within 50 ms reads for itself, which a busy machine may bring about.
    let n_errors: u64 = all.iter().map(|(_, errors, ..)| errors).sum();
    assert_eq!(from_store + from_cache, n_replicas as u64);
    assert!((1..=1 + n_errors).contains(&from_store), "{from_store} with {n_errors} errors");
    drop(all);
    for replica in &mut lab.replicas {
        replica.start().await;
    }
    lab.record.is_over.store(false, Ordering::Relaxed);
    lab.write_again();
    lab.judge("all started at once, with empty disks and an empty Redis").await;
    kept(
        "replicas that start together read PostgreSQL once for each environment",
        &format!("{n_replicas} replicas started at once, with empty disks and an empty Redis"),
        began,
        &format!("{from_store} read from PostgreSQL, {from_cache} from Redis"),
    );
}

/// R3, R5, R8, R9: what Redis has is old, of another Redis, or not taken any more.
#[tokio::test(flavor = "multi_thread")]
async fn redis_has_something_else() {
    let lab = Lab::start_with("R3, R5, R8, R9 Redis is old, another one, full", 6).await;
    let mut dice = Dice::new(3);
    // As an older copy of its file would be: what is in it now is put back later.
    // The keeper writes what is served behind it.
    eventually("a ruleset is cached", || async { lab.redis.cached_version().await.is_some() })
        .await;
    let old = lab.redis.dump().await;
    assert!(old.iter().any(|(key, _)| key.contains(":ruleset:")), "nothing is cached");
    for _ in 0..size(3, 30) {
        lab.acknowledges().await;
        lab.redis.restore(&old).await;
        lab.acknowledges().await;
        // R8: as an overrun of the subscribers' buffers does.
        lab.redis.run("CLIENT KILL TYPE pubsub").await;
        dice.pause(100).await;
    }
    // A newer value replaces what was put back: the fence lets it.
    let newest = lab.record.acknowledged.lock().unwrap().iter().map(|(_, v)| *v).max().unwrap();
    eventually("the cache has what is new", || async {
        lab.redis.cached_version().await.is_some_and(|version| version >= newest)
    })
    .await;
    // R9: every write is refused.
    lab.redis.run("CONFIG SET maxmemory 1").await;
    for _ in 0..size(3, 30) {
        lab.acknowledges().await;
    }
    lab.redis.run("CONFIG SET maxmemory 0").await;
    // R5: half of the replicas speak to another Redis, with older values in it.
    let other = crate::lab::RedisServer::start(crate::harness::free_port());
    eventually("the other Redis answers", || async { other.answers().await }).await;
    other.restore(&old).await;
    for n in 0..size(2, 20) {
        let port = if n % 2 == 0 { other.port } else { lab.redis.port };
        lab.replicas[1].to_redis.lead_to(port);
        lab.replicas[1].to_redis.set(crate::lab::Fault::Reset);
        dice.pause(20).await;
        lab.replicas[1].to_redis.set(crate::lab::Fault::Pass);
        lab.acknowledges().await;
    }
    lab.judge("older values put back, subscribers thrown out, writes refused, one replica led to another Redis")
        .await;
}
