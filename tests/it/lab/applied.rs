//! `wait=applied` while links and processes are late or stand still: whoever is told that every replica serves a change finds
//! it at every replica.

use crate::harness::Client;
use crate::lab::Dice;
use crate::lab::Fault;
use crate::lab::Lab;
use crate::lab::N_REPLICAS;
use crate::lab::Proxy;
use crate::lab::kept;
use crate::lab::size;
use serde_json::Value;
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use tokio::time::Instant;

/// Trials at the same time, each with a flag of its own.
const N_LANES: usize = 4;

/// What all trials share.
struct Trials {
    clients: Vec<Client>,
    admins: Vec<Client>,
    n_begun: AtomicUsize,
    n_confirmed: AtomicUsize,
    n_unconfirmed: AtomicUsize,
    is_over: AtomicBool,
}

impl Trials {
    /// Changes one flag again and again, each time at any replica, and looks at all of them after each confirmation.
    async fn run(&self, lane: usize, n_trials: usize) {
        let mut dice = Dice::new(10 + lane as u64);
        let flag = format!("own-{lane}");
        let path = format!(
            "/api/v1/projects/shop/environments/production/flags/{flag}?wait=applied&timeout=4s"
        );
        let mut is_on = false;
        while self.n_begun.fetch_add(1, Ordering::Relaxed) < n_trials {
            is_on = !is_on;
            let kind = if is_on { "turnFlagOn" } else { "turnFlagOff" };
            let change = json!({"instructions": [{"kind": kind}]});
            let admin = &self.admins[usize::try_from(dice.below(N_REPLICAS as u64)).unwrap()];
            let answer = admin.patch(&path, change).await;
            if answer.status != 200 {
                assert!([202, 503].contains(&answer.status), "{}", answer.text);
                self.n_unconfirmed.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let asked = self.clients.iter().map(|client| client.value(&flag, json!({})));
            let values = futures_util::future::join_all(asked).await;
            assert_eq!(values, vec![Value::Bool(is_on); N_REPLICAS], "{flag} in lane {lane}");
            self.n_confirmed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Breaks one link of a replica, or stops its process, for another time each time.
    async fn disturb(&self, lane: usize, links: [Proxy; 2], pid: u32) {
        let mut dice = Dice::new(20 + lane as u64);
        while !self.is_over.load(Ordering::Relaxed) {
            let link = &links[usize::try_from(dice.below(2)).unwrap()];
            match dice.below(40) {
                0 => {
                    // Shorter than it takes to be counted as dead.
                    signal("STOP", pid).await;
                    dice.pause(600).await;
                    signal("CONT", pid).await;
                }
                1 | 2 => {
                    link.set(Fault::Blackhole);
                    dice.pause(800).await;
                }
                3 => {
                    link.set(Fault::Reset);
                    dice.pause(20).await;
                }
                4..=9 => {
                    link.set(Fault::Delay(60));
                    dice.pause(300).await;
                }
                10..=29 => {
                    link.set(Fault::Delay(1 + dice.below(10)));
                    dice.pause(300).await;
                }
                _ => dice.pause(300).await,
            }
            link.set(Fault::Pass);
        }
    }
}

async fn signal(name: &str, pid: u32) {
    let args = [format!("-{name}"), pid.to_string()];
    let sent = tokio::process::Command::new("kill").args(args).status().await.unwrap();
    assert!(sent.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_by_all_means_served_by_all() {
    let started = Instant::now();
    let lab = Lab::start_with("wait=applied with random delays", 2).await;
    for lane in 0..N_LANES {
        lab.replicas[0].server().flag(&format!("own-{lane}")).await;
    }
    let n_trials = size(40, 2_000);
    let admins: Vec<Client> = lab.replicas.iter().map(|each| each.admin().clone()).collect();
    let trials = Arc::new(Trials {
        clients: admins.iter().map(|admin| admin.with_token(&lab.token)).collect(),
        admins,
        n_begun: AtomicUsize::new(0),
        n_confirmed: AtomicUsize::new(0),
        n_unconfirmed: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let mut disturbers = Vec::new();
    for (i, replica) in lab.replicas.iter().enumerate() {
        let links = [replica.to_postgres.clone(), replica.to_redis.clone()];
        let (trials, pid) = (Arc::clone(&trials), replica.server().pid());
        disturbers.push(tokio::spawn(async move { trials.disturb(i, links, pid).await }));
    }
    let mut lanes = Vec::new();
    for lane in 0..N_LANES {
        let trials = Arc::clone(&trials);
        lanes.push(tokio::spawn(async move { trials.run(lane, n_trials).await }));
    }
    for lane in lanes {
        lane.await.unwrap();
    }
    trials.is_over.store(true, Ordering::Relaxed);
    for disturber in disturbers {
        disturber.await.unwrap();
    }
    let n_confirmed = trials.n_confirmed.load(Ordering::Relaxed);
    let n_unconfirmed = trials.n_unconfirmed.load(Ordering::Relaxed);
    assert_eq!(n_confirmed + n_unconfirmed, n_trials);
    assert!(n_confirmed > n_trials / 2, "{n_confirmed} of {n_trials} confirmed");
    lab.judge(&format!("{n_confirmed} of {n_trials} changes confirmed, none before all served it"))
        .await;
    kept(
        "`wait=applied`: a 200 means that every live replica serves it",
        &format!(
            "{n_trials} changes at any of three replicas; links late, paused and reset, processes stopped, at random"
        ),
        started,
        &format!(
            "{n_confirmed} answered 200, of which 0 too early; {n_unconfirmed} answered 202 or 503"
        ),
    );
}
