//! Evaluation compared with LaunchDarkly's own: its Rust library on random flags, and answers of its Go library that are kept.
//!
//! Where the Rust library differs from the Go one, which is the norm, `exception` has the reason. What the parts of an evaluation
//! mean is tested in `eval`.

#![expect(clippy::print_stdout, reason = "what was compared is told with the seed that repeats it")]
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a difference must fail loudly"
)]

mod coverage;
mod dice;
mod exception;
mod ours;
mod theirs;
mod vectors;
mod world;

use coverage::Coverage;
use dice::Dice;
use exception::EXCEPTIONS;
use ours::Ours;
use serde_json::Value;
use std::collections::BTreeMap;
use theirs::Theirs;
use world::World;

const FIXED_SEED: u64 = 2_026;
/// Pairs of a flag and a context that each seed is good for.
const N_PAIRS: usize = 50_000;
/// Contexts for which each environment is evaluated.
const N_CONTEXTS: usize = 20;

#[test]
fn random_flags_evaluate_as_in_launchdarklys_library() {
    // One that is always the same, and one that never is; put a seed that failed here to see it again.
    for seed in [FIXED_SEED, rand::random()] {
        println!("seed {seed}");
        let mut run = Run::default();
        let mut dice = Dice::new(seed);
        while run.coverage.n_pairs < N_PAIRS {
            run.world(&mut dice);
        }
        println!("{} pairs\n{}", run.coverage.n_pairs, run.coverage);
        for (name, why) in EXCEPTIONS.iter().map(|each| (each.name, each.why)) {
            println!("{:>6} × {name}: {why}", run.exceptions.get(name).unwrap_or(&0));
        }
        println!("{:>6} × several of them", run.exceptions.get(SEVERAL).unwrap_or(&0));
        let shown = run.differences.iter().take(3).map(String::as_str).collect::<Vec<_>>();
        assert!(shown.is_empty(), "{} differences\n{}", run.differences.len(), shown.join("\n"));
        run.coverage.assert_is_good();
        for each in EXCEPTIONS.iter().filter(|_| seed == FIXED_SEED) {
            assert!(run.exceptions.contains_key(each.name), "`{}` never occurs", each.name);
        }
    }
}

const SEVERAL: &str = "several";

/// What one seed has shown so far.
#[derive(Default)]
struct Run {
    coverage: Coverage,
    exceptions: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

impl Run {
    fn world(&mut self, dice: &mut Dice) {
        let world = World::new(dice);
        let contexts: Vec<Value> = (0..N_CONTEXTS).map(|_| world::context(dice)).collect();
        let (ours, theirs) = (Ours::new(&world), Theirs::new(&world));
        for context in &contexts {
            let form = world::form(context);
            let (own_context, their_context) = (ours::decoded(context), theirs::decoded(context));
            for key in world.flag_keys() {
                let own = ours.answer_for(key, own_context.as_ref());
                self.coverage.note(form, &own, &ours.steps(key, own_context.as_ref()));
                let other = theirs.answer_for(key, their_context.as_ref());
                if own != other {
                    self.judge(&world, &ours, key, context, &own, &other);
                }
            }
        }
    }

    /// A difference counts under an exception if it vanishes where the other library is given what the exception makes of the
    /// data, and as a failure otherwise.
    fn judge(
        &mut self,
        world: &World,
        ours: &Ours,
        key: &str,
        context: &Value,
        own: &Value,
        other: &Value,
    ) {
        let expected = exception::without_big_segments(own);
        let is_explained =
            |world: &World, context: &Value| Theirs::new(world).answer(key, context) == expected;
        for each in EXCEPTIONS {
            let (mut changed, mut other_context) = (world.clone(), context.clone());
            (each.apply)(&mut changed, &mut other_context, key, ours);
            if changed == *world && other_context == *context {
                continue;
            }
            if is_explained(&changed, &other_context) {
                *self.exceptions.entry(each.name).or_default() += 1;
                return;
            }
        }
        let (mut changed, mut other_context) = (world.clone(), context.clone());
        for each in EXCEPTIONS {
            (each.apply)(&mut changed, &mut other_context, key, ours);
        }
        if is_explained(&changed, &other_context) {
            *self.exceptions.entry(SEVERAL).or_default() += 1;
            return;
        }
        let file = world.file();
        self.differences
            .push(format!("{key} for {context}\nours {own}\ntheirs {other}\nin {file}"));
    }
}
