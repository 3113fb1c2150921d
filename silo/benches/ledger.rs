//! How long a million units take to be admitted into the organisation's ledger.
//!
//! ```text
//! cargo bench --profile release -p blindsum-silo --bench ledger
//! ```
//!
//! Contract: the ledger holds one other account of a million units, half of them the same, from which something was
//! debited. What is timed is all that a start does with the ledger: tags, their file, the comparison, the limits, the line
//! on the disk; not the reading of rows. The median of several new jobs; nothing fails on a slow machine or disk.

use std::time::Instant;

use blindsum_crypto::Digest;
use blindsum_engine::data::Identity;
use blindsum_silo::ledger::{Account, Ledger, OverJobs, Purpose};

const UNITS: u64 = 1_000_000;
const RUNS: usize = 5;
const LIMIT: OverJobs = OverJobs { max_epsilon: 8.0, delta: 1e-6 };

fn main() {
    let seconds = (0..RUNS).map(|run| admitted(run as u64));
    let mut seconds: Vec<f64> = seconds.collect();
    seconds.sort_by(f64::total_cmp);
    println!("a million units admitted beside a million others, half of them shared: {:.2} s", seconds[RUNS / 2]);
}

/// Seconds of one admission.
fn admitted(run: u64) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let dir = dir.path().join("ledger");
    let mut ledger = Ledger::open(&dir, LIMIT).expect("a ledger");
    let first = ledger.admit(account(1), &units(run, 0)).expect("an account");
    ledger.debit(first, 1, 1, 10).expect("a debit");
    drop(ledger);
    let second = units(run, UNITS / 2);
    let start = Instant::now();
    let mut ledger = Ledger::open(&dir, LIMIT).expect("the ledger");
    let second = ledger.admit(account(2), &second).expect("an account");
    let seconds = start.elapsed().as_secs_f64();
    let (_, shared) = ledger.inspect(second).expect("its tags");
    assert_eq!(shared.number as u64, UNITS / 2, "units that both accounts hold");
    seconds
}

/// A million different identities, from the number `from`.
fn units(run: u64, from: u64) -> Vec<Identity> {
    let one = |i: u64| {
        let mut bytes = [0; Identity::BYTES];
        bytes[..8].copy_from_slice(&i.to_be_bytes());
        bytes[8..].copy_from_slice(&run.to_be_bytes());
        Identity(bytes)
    };
    (from..from + UNITS).map(one).collect()
}

fn account(job: u8) -> Account {
    Account {
        job: Digest([job; 32]),
        job_name: format!("job-{job}"),
        federation: "clinics".into(),
        silo: "clinic-a".into(),
        purpose: Purpose::Training,
        file: "train.jsonl".into(),
        units: UNITS,
        tags: Digest([0; 32]),
        sampling_rate: 0.001,
        noise_multiplier: 1.0,
        steps: 100,
        epsilon_limit: 3.0,
        delta: 1e-6,
        time_unix_seconds: 0,
    }
}
