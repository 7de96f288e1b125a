//! How the engine bears size: rulesets of 1, 1 000 and 100 000 flags.
//!
//! `cargo bench --bench scale` prints one line for each figure, `flags<TAB>what<TAB>value<TAB>unit`; `scripts/bench` makes a
//! table of them. What the flags are is in `flags`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "what cannot be measured must end the benchmark, and figures are printed"
)]

mod flags;

use crate::flags::Flag;
use crate::flags::KEY_BYTES;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;
use std::time::Instant;
use vexil::eval::Ruleset;
use vexil::eval::RulesetChange;
use vexil::eval::compile;
use vexil::eval::evaluate;
use vexil::model::context::Context;

/// The largest first, so that its memory is not that of a smaller one before.
const SIZES: [usize; 3] = [100_000, 1_000, 1];
/// Evaluations that are timed together, because the clock is too coarse for one.
const BATCH: usize = 20_000;
/// Batches, of which the median counts.
const BATCHES: usize = 25;
/// One-flag changes that are installed.
const CHANGES: usize = 200;

fn main() {
    for n_flags in SIZES {
        let flags = flags::all(n_flags);
        let print = |what, value: f64, unit| println!("{n_flags}\t{what}\t{value}\t{unit}");
        let before = resident_bytes();
        let started = Instant::now();
        let ruleset = load(&flags);
        print("compile all", millis(started.elapsed()), "ms");
        let grown = resident_bytes().saturating_sub(before);
        if n_flags > 1_000 {
            print("resident memory per flag", grown as f64 / n_flags as f64, "B");
        }
        let rollouts: Vec<&Flag> = flags.iter().filter(|flag| flag.is_rollout()).collect();
        let hot = vec![rollouts[0]];
        print("one 3-way rollout", nanos_each(&ruleset, &hot), "ns");
        print("random 3-way rollouts", nanos_each(&ruleset, &rollouts), "ns");
        print("random flags", nanos_each(&ruleset, &flags.iter().collect::<Vec<_>>()), "ns");
        let mut installed = install_times(ruleset, &flags);
        installed.sort();
        print("install one change, median", millis(installed[CHANGES / 2]), "ms");
        print("install one change, 95 of 100 within", millis(installed[CHANGES * 95 / 100]), "ms");
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Compiles all flags and puts them into a ruleset, as a replica does when it starts.
fn load(flags: &[Flag]) -> Ruleset {
    let mut change = RulesetChange::default();
    for flag in flags {
        let compiled = Arc::new(compile(&flag.definition, &flag.config, 1));
        change.flags.push((compiled.key.clone(), Some(compiled)));
    }
    Ruleset::default().with(1, 1, &change)
}

/// The time of one evaluation with the look-up, of flags in random order.
fn nanos_each(ruleset: &Ruleset, flags: &[&Flag]) -> f64 {
    let context = Context::decode(flags::context()).unwrap();
    let mut random = flags::Random::new();
    // The keys stand side by side, as a request's key is in the cache when it is looked up.
    let pick = |_| flags[random.below(flags.len())].definition.key.as_str();
    let keys: String = (0..BATCH * BATCHES).map(pick).collect();
    let mut times: Vec<Duration> = keys
        .as_bytes()
        .chunks_exact(BATCH * KEY_BYTES)
        .map(|batch| {
            let keys = std::str::from_utf8(batch).unwrap();
            let started = Instant::now();
            for i in 0..BATCH {
                let key = keys.get(i * KEY_BYTES..(i + 1) * KEY_BYTES).unwrap();
                let flag = ruleset.flag(key).unwrap();
                black_box(evaluate(ruleset, flag, black_box(&context)));
            }
            started.elapsed()
        })
        .collect();
    times.sort();
    times[BATCHES / 2].as_secs_f64() * 1e9 / BATCH as f64
}

/// The times of installing changes of one flag each, without compiling it; what the old ruleset frees is included.
fn install_times(mut ruleset: Ruleset, flags: &[Flag]) -> Vec<Duration> {
    let mut random = flags::Random::new();
    (0..CHANGES)
        .map(|_| {
            let flag = &flags[random.below(flags.len())];
            let compiled = Arc::new(compile(&flag.definition, &flag.config, ruleset.version + 1));
            let change = RulesetChange {
                flags: vec![(compiled.key.clone(), Some(compiled))],
                segments: Vec::new(),
            };
            let started = Instant::now();
            ruleset = ruleset.with(1, ruleset.version + 1, &change);
            started.elapsed()
        })
        .collect()
}

/// The process's resident memory. Source: proc(5), `/proc/pid/statm`, whose second figure is in pages.
fn resident_bytes() -> usize {
    const PAGE_BYTES: usize = 4_096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * PAGE_BYTES
}
