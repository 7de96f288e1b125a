//! What is broken, one thing at a time.

use crate::harness::Database;
use crate::harness::eventually;
use crate::lab::Fault;
use crate::lab::Lab;
use crate::lab::is_full;
use crate::lab::scale;
use crate::lab::size;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

/// After so long without the database a replica says so.
const HONEST_AFTER: Duration = Duration::from_secs(10);
/// So long after it can ask again it has caught up.
const FRESH_AFTER: Duration = Duration::from_secs(3);
/// So much longer either may take. Only asserted at full size: a busy machine proves nothing.
const SLACK: Duration = Duration::from_secs(3);
/// Connections that one replica may have to PostgreSQL at once: those of its pools, and the listener's.
const CONNECTIONS_MAX: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn postgres_crashes() {
    let mut lab = Lab::start("P3 PostgreSQL crashes").await;
    for _ in 0..2 * scale() {
        lab.postgres.stop().await;
        lab.last(300).await;
        lab.postgres.resume().await;
        lab.acknowledges().await;
    }
    lab.judge("immediate shutdown and start again, repeatedly").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_is_slow() {
    let lab = Lab::start("P4 PostgreSQL is slow").await;
    lab.links(|replica| &replica.to_postgres, Fault::Delay(400));
    lab.last(3_000).await;
    lab.links(|replica| &replica.to_postgres, Fault::Pass);
    lab.judge("up to 0.4 s more for each piece in each direction").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_stalls() {
    let lab = Lab::start("P5 PostgreSQL stalls").await;
    lab.links(|replica| &replica.to_postgres, Fault::Blackhole);
    lab.last(3_000).await;
    lab.links(|replica| &replica.to_postgres, Fault::Pass);
    lab.judge("connections stay open and nothing passes").await;
}

/// P5 as an operating system does it: every process of PostgreSQL is stopped, and its connections stay open.
#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn postgres_stands_still() {
    let lab = Lab::start("P5 PostgreSQL stands still").await;
    lab.postgres.signal("STOP").await;
    lab.last(3_000).await;
    lab.postgres.signal("CONT").await;
    lab.judge("SIGSTOP for every process of PostgreSQL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_replica_is_cut_off() {
    let lab = Lab::start("P9 one replica is cut off from PostgreSQL").await;
    lab.replicas[1].to_postgres.set(Fault::Blackhole);
    lab.last(3_000).await;
    lab.acknowledges().await;
    lab.replicas[1].to_postgres.set(Fault::Pass);
    lab.judge("nothing passes on one of three links").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_postgres_break() {
    let lab = Lab::start("P13 connections to PostgreSQL break").await;
    for i in 0..10 * scale() {
        let fault = if i % 2 == 0 { Fault::Reset } else { Fault::Truncate(20_000) };
        lab.links(|replica| &replica.to_postgres, fault);
        tokio::time::sleep(Duration::from_millis(50)).await;
        lab.links(|replica| &replica.to_postgres, Fault::Pass);
        lab.acknowledges().await;
    }
    lab.judge("all connections broken off, the listener's too, or cut after 20 KB").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_goes_and_comes() {
    let mut lab = Lab::start("R1 Redis goes and comes").await;
    for _ in 0..size(3, 100) {
        lab.redis.stop().await;
        lab.acknowledges().await;
        lab.redis.resume();
        lab.acknowledges().await;
    }
    lab.judge("killed and started empty, repeatedly").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_is_slow_stalled_and_damaged() {
    let lab = Lab::start("R4, R6 Redis is slow, stalled, damaged").await;
    for fault in [
        Fault::Delay(1_000),
        Fault::Blackhole,
        Fault::Corrupt,
        Fault::Throttle(2_000),
        Fault::Reset,
    ] {
        lab.links(|replica| &replica.to_redis, fault);
        lab.last(400).await;
        lab.acknowledges().await;
    }
    lab.links(|replica| &replica.to_redis, Fault::Pass);
    lab.judge("delayed by 1 s, nothing passes, bytes changed, 2 KB/s, broken off").await;
}

/// P9 and the fifth promise: after ten seconds without the database a replica says so, and no more when it can ask again.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_is_cut_off_says_so_and_catches_up() {
    let lab = Lab::start_with("P9 one replica is cut off for long", 4).await;
    let client = lab.replicas[1].admin().with_token(&lab.token);
    let is_stale = async || {
        let answer = client.evaluate("lab-0", json!({})).await;
        assert_eq!(answer.status, 200);
        answer.headers.contains_key("vexil-stale")
    };
    assert!(!is_stale().await);
    let cut = Instant::now();
    lab.replicas[1].to_postgres.set(Fault::Blackhole);
    eventually("it says that it is not confirmed", || async { is_stale().await }).await;
    let stale_after = cut.elapsed();
    assert!(!is_full() || stale_after < HONEST_AFTER + SLACK, "{stale_after:?}");
    // The last confirmation may have been a poll before.
    assert!(!is_full() || stale_after > HONEST_AFTER - SLACK, "{stale_after:?}");
    let others = lab.replicas[0].admin().with_token(&lab.token).evaluate("lab-0", json!({})).await;
    assert!(!others.headers.contains_key("vexil-stale"), "the others are not");
    lab.last(1_000).await;
    lab.acknowledges().await;
    let newest = lab.record.acknowledged.lock().unwrap().iter().map(|(_, v)| *v).max().unwrap();
    let healed = Instant::now();
    lab.replicas[1].to_postgres.set(Fault::Pass);
    eventually("it has caught up and says nothing more", || async {
        let answer = client.evaluate("lab-0", json!({})).await;
        let at = crate::lab::load::position_of(&answer.headers).unwrap();
        at.1 >= newest && !answer.headers.contains_key("vexil-stale")
    })
    .await;
    let fresh_after = healed.elapsed();
    assert!(!is_full() || fresh_after < FRESH_AFTER + SLACK, "{fresh_after:?}");
    lab.judge(&format!(
        "nothing passes on one of three links: said so after {:.1} s, caught up {:.1} s after it passed again",
        stale_after.as_secs_f64(),
        fresh_after.as_secs_f64()
    ))
    .await;
}

/// P13: the listeners' connections are open on both sides and dead, so that only the poll is left.
#[tokio::test(flavor = "multi_thread")]
async fn listeners_fall_silent() {
    let lab = Lab::start("P13 the listeners' connections fall silent").await;
    lab.links(|replica| &replica.to_redis, Fault::Blackhole);
    for _ in 0..3 * scale() {
        let listening = "select coalesce(string_agg(client_port::text, ','), '') from pg_stat_activity \
            where query ilike 'listen%'";
        let ports: String = Database { url: lab.postgres.url.clone() }.ask(listening).await;
        let ports: Vec<u16> = ports.split(',').filter_map(|port| port.parse().ok()).collect();
        for replica in &lab.replicas {
            replica.to_postgres.silence_ports(&ports);
        }
        lab.acknowledges().await;
        let newest = lab.record.acknowledged.lock().unwrap().iter().map(|(_, v)| *v).max().unwrap();
        for replica in &lab.replicas {
            let client = replica.admin().with_token(&lab.token);
            eventually("the poll finds the change", || async {
                let answer = client.evaluate("lab-0", json!({})).await;
                crate::lab::load::position_of(&answer.headers).is_some_and(|at| at.1 >= newest)
            })
            .await;
        }
    }
    lab.links(|replica| &replica.to_redis, Fault::Pass);
    lab.judge("the connections that listen dead without a word, and Redis silent").await;
}

/// R8 as a network does it: the subscription is dead without a word.
#[tokio::test(flavor = "multi_thread")]
async fn connections_to_redis_fall_silent() {
    let lab = Lab::start("R8 connections to Redis fall silent").await;
    for _ in 0..3 * scale() {
        for replica in &lab.replicas {
            replica.to_redis.silence();
        }
        lab.acknowledges().await;
    }
    lab.judge("all connections dead without a word, while new ones pass").await;
}

/// P4 as it is written: every answer of PostgreSQL takes five seconds longer.
#[tokio::test(flavor = "multi_thread")]
async fn postgres_takes_five_seconds_for_everything() {
    let lab = Lab::start("P4 PostgreSQL takes 5 s for everything").await;
    let before: Vec<u64> = lab.replicas.iter().map(|it| it.to_postgres.n_connections()).collect();
    lab.links(|replica| &replica.to_postgres, Fault::Lag(5_000));
    lab.last(6_000).await;
    let n_waits = 1 + u64::from(scale()) * 6 / 2;
    for (replica, before) in lab.replicas.iter().zip(before) {
        let n_new = replica.to_postgres.n_connections() - before;
        assert!(n_new <= CONNECTIONS_MAX * n_waits, "{n_new} connections were made");
    }
    lab.links(|replica| &replica.to_postgres, Fault::Pass);
    lab.judge("5 s more for each piece of each answer").await;
}
