//! P14: a PgBouncer in transaction mode between a replica and PostgreSQL, which hands each transaction to any session: no
//! notification arrives through it, no prepared statement and no lock outlives a transaction.

use crate::harness::PgBouncer;
use crate::lab::Lab;
use crate::lab::size;

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_is_in_between() {
    let mut lab = Lab::start("P14 PgBouncer before PostgreSQL").await;
    let pooler = PgBouncer::start_to(&lab.postgres.url).await;
    // Two go through it, and the third does not.
    for i in [0, 1] {
        lab.replicas[i].kill().await;
        lab.replicas[i].database_url.clone_from(&pooler.url);
        lab.replicas[i].start().await;
    }
    for _ in 0..size(10, 200) {
        lab.acknowledges().await;
    }
    // It loses its sessions, and gets others.
    for _ in 0..size(1, 10) {
        lab.postgres.stop().await;
        lab.postgres.resume().await;
        lab.acknowledges().await;
    }
    // Neither NOTIFY nor Redis: the poll is left.
    lab.links(|replica| &replica.to_redis, crate::lab::Fault::Blackhole);
    lab.acknowledges().await;
    lab.links(|replica| &replica.to_redis, crate::lab::Fault::Pass);
    lab.judge("two of three replicas go through PgBouncer in transaction mode").await;
}
