//! What is broken, one thing at a time.

use crate::harness::Client;
use crate::harness::eventually;
use crate::lab::Fault;
use crate::lab::Lab;
use crate::lab::scale;
use serde_json::json;
use std::time::Duration;
use tokio::time::Instant;

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
async fn redis_is_emptied_again_and_again() {
    let mut lab = Lab::start("R2 FLUSHALL every 100 ms").await;
    let before = loads(&lab).await;
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(2) * scale() {
        lab.redis.run("FLUSHALL").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(before, loads(&lab).await, "replicas that run read whole rulesets");
    // One that starts with an empty disk has to read them, from wherever they are.
    lab.replicas[2].kill().await;
    lab.replicas[2].forget();
    lab.replicas[2].start().await;
    let from_store = loads(&lab).await[2];
    assert!(from_store <= 1, "one environment, read {from_store} times");
    lab.judge("none of three replicas read a whole ruleset; one started anew read it once at most")
        .await;
}

/// Whole rulesets that each replica has read from PostgreSQL.
async fn loads(lab: &Lab) -> Vec<u64> {
    let mut figures = Vec::new();
    for replica in &lab.replicas {
        let text = replica.admin().get("/metrics").await.text;
        let name = "vexil_ruleset_loads_total{source=\"store\"} ";
        let figure = text.lines().find_map(|line| line.strip_prefix(name));
        figures.push(figure.map_or(0, |figure| figure.parse().unwrap()));
    }
    figures
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

#[tokio::test(flavor = "multi_thread")]
async fn replicas_and_postgres_are_killed() {
    let mut lab = Lab::start("C1 kill -9 of replicas, of PostgreSQL, of both").await;
    for i in 0..4 * usize::try_from(scale()).unwrap() {
        let victim = i % lab.replicas.len();
        let (takes_replica, takes_postgres) = (i % 3 != 1, i % 3 != 0);
        if takes_replica {
            lab.replicas[victim].kill().await;
        }
        if takes_postgres {
            lab.postgres.stop().await;
            lab.postgres.resume().await;
        }
        if takes_replica {
            lab.replicas[victim].start().await;
        }
        lab.acknowledges().await;
    }
    lab.judge("a replica, PostgreSQL, or both, in turn, under 20 writers").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_by_all_means_served_by_all() {
    let lab = Lab::start("wait=applied with random delays").await;
    let clients: Vec<Client> =
        lab.replicas.iter().map(|replica| replica.admin().with_token(&lab.token)).collect();
    let admin = lab.replicas[0].admin().clone();
    // A flag of its own, so that nobody else changes it. Under the writers, creating it may be refused for a while.
    eventually("the flag is created", || async {
        let flag = json!({"key": "own", "kind": "boolean"});
        let answer = admin.post("/api/v1/projects/shop/flags", flag).await;
        assert!([201, 409, 503].contains(&answer.status), "{}", answer.text);
        answer.status != 503
    })
    .await;
    lab.links(|replica| &replica.to_postgres, Fault::Delay(20));
    let mut n_confirmed = 0;
    for i in 0..15 * scale() {
        let kind = if i % 2 == 0 { "turnFlagOn" } else { "turnFlagOff" };
        let path =
            "/api/v1/projects/shop/environments/production/flags/own?wait=applied&timeout=5s";
        let change = json!({"instructions": [{"kind": kind}]});
        let answer = admin.patch(path, change).await;
        if answer.status != 200 {
            assert!([202, 503].contains(&answer.status), "{}", answer.text);
            continue;
        }
        n_confirmed += 1;
        for client in &clients {
            assert_eq!(client.value("own", json!({})).await, i % 2 == 0, "trial {i}");
        }
    }
    assert!(n_confirmed > 0);
    lab.links(|replica| &replica.to_postgres, Fault::Pass);
    lab.judge(&format!(
        "{n_confirmed} of {} changes confirmed, none before all served it",
        15 * scale()
    ))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_away() {
    let mut lab = Lab::start("total loss of PostgreSQL and Redis").await;
    lab.postgres.stop().await;
    lab.redis.stop().await;
    lab.record.is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    let client = lab.replicas[0].admin().with_token(&lab.token);
    let contexts: Vec<_> = (0..500).map(|i| json!({"targetingKey": format!("w{i}")})).collect();
    let ask = json!({"contexts": contexts});
    let mut n_evaluations = 0_usize;
    let first = client.post("/api/v1/evaluate", ask.clone()).await.expect(200);
    for _ in 0..4 * scale() {
        assert_eq!(client.post("/api/v1/evaluate", ask.clone()).await.expect(200), first);
        n_evaluations += 500 * usize::try_from(crate::lab::load::N_FLAGS).unwrap();
    }
    // What was served is kept within about a second, and then a new process serves it.
    lab.last(2_500).await;
    lab.replicas[0].kill().await;
    let started = Instant::now();
    lab.replicas[0].start().await;
    let ready = started.elapsed();
    let client = lab.replicas[0].admin().with_token(&lab.token);
    let ready_body = client.get("/readyz").await.expect(200);
    assert_eq!(ready_body["source"], "disk");
    assert_eq!(client.post("/api/v1/evaluate", ask.clone()).await.expect(200), first);
    lab.redis.resume();
    lab.postgres.resume().await;
    lab.record.is_over.store(false, std::sync::atomic::Ordering::Relaxed);
    lab.write_again();
    let ready = ready.as_millis();
    lab.judge(&format!("{n_evaluations} evaluations, then restarted without either: ready after {ready} ms with the same answers")).await;
}
