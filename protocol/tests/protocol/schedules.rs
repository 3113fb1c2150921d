//! Ten thousand generated schedules of faults, lies and misdeeds, and what must be true after each.
//!
//! ```text
//! number i ─► its own seed ─► proptest strategy: first ops from the table of (phase, fault) in turn, the rest drawn
//!          ─► simulate ─► judge ─► on failure: shrunk, printed as JSON, to be kept in `reproductions.rs`
//! ```
//!
//! Contract: a run is repeatable from `SEED`; where a pair of phase and fault has happened too rarely after the first ten
//! thousand, more schedules are added for it. `BLINDSUM_SCHEDULES` sets another number (fewer show nothing of coverage),
//! `BLINDSUM_SCHEDULES_SEED` another seed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use blindsum_crypto::SiloId;
use blindsum_testkit::judge::{self, BINS, Outcome, chi_square};
use blindsum_testkit::ops::{Actor, Kind, Phase, Schedule, pairs, schedule, table};
use blindsum_testkit::{checks, simulate};
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

const SEED: u64 = 2026;
const SCHEDULES: usize = 10_000;
/// How often each pair must have happened.
const LEAST: usize = 200;
/// 63 degrees of freedom: exceeded by uniform bins with a probability below 1e-9 (Wilson and Hilferty's approximation
/// gives 156.0 there).
const CHI_SQUARE_BOUND: f64 = 160.0;

thread_local! {
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Panics of a schedule are reported once, after it was shrunk; those of other tests of this program as ever.
fn quiet() {
    let ordinary = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| match std::thread::current().name() {
        Some("schedules") => SAID.set(info.to_string()),
        _ => ordinary(info),
    }));
}

fn attempt(schedule: &Schedule) -> Result<Outcome, String> {
    catch_unwind(AssertUnwindSafe(|| simulate::check(schedule))).map_err(|_| SAID.take())
}

/// Draws, runs, and shrinks what fails.
fn one(seed: u64, index: usize, strategy: &BoxedStrategy<Schedule>) -> Result<(Schedule, Outcome), String> {
    let mut bytes = [0u8; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    bytes[8..16].copy_from_slice(&(index as u64).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let mut tree = strategy.new_tree(&mut runner).unwrap();
    let drawn = tree.current();
    let mut said = match attempt(&drawn) {
        Ok(outcome) => return Ok((drawn, outcome)),
        Err(said) => said,
    };
    let mut smallest = drawn;
    let mut more = tree.simplify();
    for _ in 0..300 {
        if !more {
            break;
        }
        let current = tree.current();
        match attempt(&current) {
            Ok(_) => more = tree.complicate(),
            Err(why) => {
                (smallest, said) = (current, why);
                more = tree.simplify();
            }
        }
    }
    let text = serde_json::to_string(&smallest).unwrap();
    Err(format!("seed {seed}, schedule {index}: {said}\n    {smallest:?}\n    {text}"))
}

/// What all schedules together have shown.
#[derive(Default)]
struct Tally {
    run: usize,
    lying: usize,
    summed: usize,
    fired: BTreeMap<(Phase, Kind), usize>,
    bins: Vec<u64>,
    failures: Vec<String>,
}

impl Tally {
    fn add(&mut self, result: Result<(Schedule, Outcome), String>) {
        self.run += 1;
        self.bins.resize(BINS, 0);
        match result {
            Err(failure) => self.failures.push(failure),
            Ok((schedule, outcome)) => {
                // a lie that never got its turn was none
                let ops = schedule.ops.iter().zip(&outcome.fired).filter(|(_, fired)| **fired);
                let lied = ops.clone().any(|(op, _)| op.kind.actor() == Actor::Coordinator);
                self.lying += usize::from(lied);
                self.summed += usize::from(outcome.summed);
                for (op, _) in ops {
                    *self.fired.entry((op.phase, op.kind)).or_default() += 1;
                }
                for mask in outcome.masks {
                    self.bins[mask] += 1;
                }
            }
        }
    }

    fn count(&self, pair: &(Phase, Kind)) -> usize {
        self.fired.get(pair).copied().unwrap_or(0)
    }

    /// Said straight to standard output: it is part of what an ordinary test run shows.
    fn print(&self, seconds: f64) {
        let mut text = format!("\n{} schedules, {} failed, {seconds:.0} s\n", self.run, self.failures.len());
        let share = |part: usize| 100.0 * part as f64 / self.run as f64;
        text += &format!("with a lying coordinator: {} ({:.1} %)\n", self.lying, share(self.lying));
        text += &format!("ending in a sum: {} ({:.1} %)\n", self.summed, share(self.summed));
        let samples: u64 = self.bins.iter().sum();
        let distance = chi_square(&self.bins);
        text += &format!(
            "masked inputs: {samples}, chi-square over {BINS} bins {distance:.1} (bound {CHI_SQUARE_BOUND})\n{:<16}",
            "happened"
        );
        for phase in Phase::ALL {
            text += &format!("{:>10}", phase.label().chars().take(9).collect::<String>());
        }
        for kind in Kind::ALL {
            text += &format!("\n{:<16}", format!("{kind:?}"));
            for phase in Phase::ALL {
                text += &match pairs().contains(&(phase, kind)) {
                    true => format!("{:>10}", self.count(&(phase, kind))),
                    false => format!("{:>10}", "·"),
                };
            }
        }
        text += "\n(·: the coordinator says nothing in P3; what it lies about P3 it says in P4)\n";
        std::io::stdout().write_all(text.as_bytes()).unwrap();
    }
}

/// Runs schedules on all cores. The strategy of each is known from its number alone.
fn run_all(
    seed: u64,
    numbers: std::ops::Range<usize>,
    strategy: impl Fn(usize) -> BoxedStrategy<Schedule> + Sync,
) -> Vec<Result<(Schedule, Outcome), String>> {
    let (next, failed) = (AtomicUsize::new(numbers.start), AtomicUsize::new(0));
    let found = Mutex::new(BTreeMap::new());
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= numbers.end || failed.load(Ordering::Relaxed) > 4 {
                return;
            }
            let started = Instant::now();
            let result = one(seed, index, &strategy(index));
            failed.fetch_add(usize::from(result.is_err()), Ordering::Relaxed);
            if std::env::var_os("BLINDSUM_SCHEDULES_SLOW").is_some_and(|_| started.elapsed().as_millis() > 400) {
                println!(
                    "schedule {index} took {:?}: {:?}",
                    started.elapsed(),
                    result.as_ref().map(|(s, _)| serde_json::to_string(s))
                );
            }
            found.lock().unwrap().insert(index, result);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, |n| n.get()) {
            std::thread::Builder::new().name("schedules".into()).spawn_scoped(scope, work).unwrap();
        }
    });
    found.into_inner().unwrap().into_values().collect()
}

#[test]
fn every_schedule_keeps_the_invariants() {
    quiet();
    let set = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = set("BLINDSUM_SCHEDULES_SEED").unwrap_or(SEED);
    let count = set("BLINDSUM_SCHEDULES").map_or(SCHEDULES, |n| n as usize);
    let (start, pairs) = (Instant::now(), pairs());
    let mut tally = Tally::default();
    // five of each schedule's ops come from the table in turn, so that each pair meets each other sooner or later
    let table = table();
    let place = |i: usize, step: usize| table[(i / table.len() * (step + 2) + i * step) % table.len()];
    let spread = |i: usize| [1, 5, 11, 23, 47].map(|step| place(i, step));
    for result in run_all(seed, 0..count, |i| schedule(&spread(i), 2)) {
        tally.add(result);
    }
    // what comes late in a run happens more rarely: more of it, alone or with one other
    let mut from = count;
    while count >= SCHEDULES && tally.failures.is_empty() {
        let lacking = pairs.iter().map(|pair| (*pair, LEAST.saturating_sub(tally.count(pair))));
        let wanted: Vec<_> = lacking.flat_map(|(pair, n)| std::iter::repeat_n(pair, n.min(50))).collect();
        if wanted.is_empty() || from > 3 * count {
            break;
        }
        let (first, numbers) = (from, from..from + wanted.len());
        from = numbers.end;
        for result in run_all(seed, numbers, |i| schedule(&[wanted[i - first]], 1)) {
            tally.add(result);
        }
    }
    tally.print(start.elapsed().as_secs_f64());
    let failures = tally.failures.join("\n\n");
    assert!(tally.failures.is_empty(), "schedules that broke an invariant, shrunk:\n\n{failures}");
    if count < SCHEDULES {
        return;
    }
    for pair in &pairs {
        assert!(tally.count(pair) >= LEAST, "{pair:?} happened {} times only", tally.count(pair));
    }
    assert!(3 * tally.lying >= tally.run, "fewer than a third with a lying coordinator");
    assert!((20..=80).contains(&(100 * tally.summed / tally.run)), "{} of {} end in a sum", tally.summed, tally.run);
    assert!(chi_square(&tally.bins) < CHI_SQUARE_BOUND, "masked inputs tell something: {:?}", tally.bins);
}

#[test]
fn the_test_on_masked_inputs_fails_without_masks_and_with_masks_that_repeat() {
    let plain = Schedule { n: 4, private: false, metrics: false, verify: 1, adversaries: 0, seed: 0, ops: Vec::new() };
    let (mut repeating, mut off, mut fresh) = (vec![0u64; BINS], vec![0u64; BINS], vec![0u64; BINS]);
    for seed in 0..150 {
        let same = simulate::check(&plain);
        same.masks.iter().for_each(|&bin| repeating[bin] += 1);
        let own = Schedule { seed: seed + 1, ..plain.clone() };
        let (cluster, _) = simulate::run(&own);
        for ((silo, at), input) in &cluster.inputs {
            // a silo whose mask work does nothing
            let x = checks::plain_lanes(&cluster.setup, *at, input)[0];
            off[judge::bin(x.wrapping_sub(x), u32::MAX >> 12)] += u64::from(*silo != SiloId(99));
        }
        simulate::check(&own).masks.iter().for_each(|&bin| fresh[bin] += 1);
    }
    assert!(chi_square(&off) > CHI_SQUARE_BOUND);
    assert!(chi_square(&repeating) > CHI_SQUARE_BOUND, "{repeating:?}");
    assert!(chi_square(&fresh) < CHI_SQUARE_BOUND, "{fresh:?}");
}
