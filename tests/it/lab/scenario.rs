//! What is broken, one thing at a time.

use crate::lab::Fault;
use crate::lab::Lab;
use crate::lab::scale;
use std::time::Duration;

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
    for _ in 0..3 * scale() {
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
