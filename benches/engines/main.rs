//! The same flags and the same context, evaluated by three engines in one process: Vexil, the engine of LaunchDarkly's Rust
//! SDK, and the engine of Unleash's SDKs.
//!
//! `cargo bench --bench engines`. Before anything is timed, each engine must give the answer that the case expects. What each
//! engine is asked, and what its question costs besides the evaluation, is said at the top of its file; what the cases are, in
//! `case`. How the figures become a table is in `scripts/bench`.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a case that cannot be built must end the benchmark"
)]

mod case;
mod form;
mod launchdarkly;
mod unleash;
mod vexil;

use crate::case::Case;
use crate::launchdarkly::LaunchDarkly;
use crate::unleash::Unleash;
use crate::vexil::Vexil;
use criterion::Criterion;
use std::hint::black_box;
use std::time::Duration;

fn main() {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    for case in case::all() {
        compare(&mut criterion, &case);
    }
    criterion.final_summary();
}

/// Times one case, each engine in turn.
fn compare(criterion: &mut Criterion, case: &Case) {
    let vexil = Vexil::new(case, "murmur3");
    let vexil_sha1 = Vexil::new(case, "sha1");
    let launchdarkly = LaunchDarkly::new(case);
    let unleash = Unleash::new(case);
    assert_eq!(vexil.answer(), case.expected, "{}: Vexil", case.name);
    assert_eq!(vexil_sha1.answer(), case.expected, "{}: Vexil with SHA-1", case.name);
    assert_eq!(launchdarkly.answer(), case.expected, "{}: LaunchDarkly", case.name);

    let mut group = criterion.benchmark_group(case.name);
    group.bench_function("vexil", |b| b.iter(|| black_box(&vexil).look_up_and_evaluate()));
    if case.has_rollout {
        group.bench_function("vexil-sha1", |b| {
            b.iter(|| black_box(&vexil_sha1).look_up_and_evaluate());
        });
    }
    let flag = vexil.flag();
    group.bench_function("vexil-at-hand", |b| b.iter(|| black_box(&vexil).evaluate(flag)));
    group.bench_function("launchdarkly", |b| b.iter(|| black_box(&launchdarkly).evaluate()));
    if let Some(unleash) = unleash {
        assert_eq!(unleash.answer(), case.expected, "{}: Unleash", case.name);
        if case.is_boolean {
            group.bench_function("unleash", |b| b.iter(|| black_box(&unleash).is_enabled()));
        } else {
            group.bench_function("unleash", |b| b.iter(|| black_box(&unleash).variant()));
        }
    }
    group.finish();
}
