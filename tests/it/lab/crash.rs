//! Processes that are killed with SIGKILL at any moment while twenty writers change flags: what was acknowledged is there
//! afterwards.

use crate::harness::Client;
use crate::harness::Folder;
use crate::harness::Server;
use crate::lab::Dice;
use crate::lab::Lab;
use crate::lab::N_WRITERS;
use crate::lab::kept;
use crate::lab::load;
use crate::lab::load::Record;
use crate::lab::size;
use crate::lab::with_flags;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;
use tokio::time::Instant;

/// The longest rest, in milliseconds, between an acknowledgement and the next kill.
const REST_MS: u64 = 60;

/// C1, and P3 with SIGKILL.
#[tokio::test(flavor = "multi_thread")]
#[cfg(target_os = "linux")]
async fn kills_of_replicas_and_postgres_lose_nothing() {
    let started = Instant::now();
    let mut lab = Lab::start("C1 kill -9 of replicas, of PostgreSQL, of both").await;
    let mut dice = Dice::new(1);
    let n_kills = size(4, 500);
    for i in 0..n_kills {
        dice.pause(REST_MS).await;
        let victim = i % lab.replicas.len();
        let (takes_replica, takes_postgres) = (i % 3 != 1, i % 3 != 0);
        if takes_replica {
            lab.replicas[victim].kill().await;
        }
        if takes_postgres {
            lab.postgres.kill().await;
            lab.postgres.resume().await;
        }
        if takes_replica {
            lab.replicas[victim].start().await;
        }
        lab.acknowledges().await;
    }
    let record = Arc::clone(&lab.record);
    lab.judge("a replica, PostgreSQL, or both, in turn, under 20 writers").await;
    let n_acknowledged = record.acknowledged.lock().unwrap().len();
    kept(
        "no acknowledged change is lost (PostgreSQL)",
        &format!("{n_kills} × SIGKILL of a replica, of PostgreSQL, or of both, under 20 writers"),
        started,
        &format!("{n_acknowledged} acknowledged, 0 lost"),
    );
}

/// C5.
#[tokio::test(flavor = "multi_thread")]
async fn kills_of_a_process_on_sqlite_lose_nothing() {
    let started = Instant::now();
    let folder = Folder::new();
    let mut server = Server::start_on(folder.path(), None, &[]).await;
    let token = with_flags(&server).await;
    let record = Arc::new(Record::default());
    let place = watch::Sender::new(Some(server.admin.clone()));
    let mut tasks = Vec::new();
    for _ in 0..N_WRITERS {
        tasks.push(tokio::spawn(load::write(Arc::clone(&record), place.subscribe())));
    }
    let probe = load::probe(Arc::clone(&record), place.subscribe(), token.clone(), 0);
    tasks.push(tokio::spawn(probe));
    let mut dice = Dice::new(2);
    let n_kills = size(6, 200);
    for _ in 0..n_kills {
        record.acknowledges().await;
        dice.pause(REST_MS).await;
        place.send_replace(None);
        server.kill().await;
        server = Server::start_on(folder.path(), None, &[]).await;
        // Whatever a client asks for after an acknowledgement is there at once.
        record.lost_nothing(&server.admin.with_token(&token)).await;
        place.send_replace(Some(server.admin.clone()));
    }
    record.acknowledges().await;
    record.is_over.store(true, Ordering::Relaxed);
    for task in tasks {
        task.await.unwrap();
    }
    record.lost_nothing(&Client::new(&server.url, &token)).await;
    let violations = record.violations.lock().unwrap().clone();
    assert!(violations.is_empty(), "{violations:#?}");
    let n_acknowledged = record.acknowledged.lock().unwrap().len();
    kept(
        "no acknowledged change is lost (SQLite)",
        &format!("{n_kills} × SIGKILL of the process, under 20 writers"),
        started,
        &format!("{n_acknowledged} acknowledged, 0 lost"),
    );
}
