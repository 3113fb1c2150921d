//! Each fault around the ledger lives once, and a check notices.

use super::*;
use crate::agent::allowance::Known;
use crate::ledger::{LEDGER_FILE, OverJobs};
use crate::mutant::{SiloMutant, living};

/// What a check saw.
type Seen = Result<String, String>;

fn judged(good: bool, seen: impl Into<String>) -> Seen {
    if good { Ok(seen.into()) } else { Err(seen.into()) }
}

/// When the engine first sees a row, the ledger holds the debit.
fn debits_come_first() -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let allowance = Allowance::for_tests(dir.path());
    let (ledger, debits) = (dir.path().join("ledger").join(LEDGER_FILE), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&debits);
    let look = move || {
        let text = std::fs::read_to_string(&ledger).unwrap();
        seen.lock().unwrap().push(text.lines().filter(|line| line.contains("\"steps\":2,")).count());
    };
    let (mut trainer, request) = watched(DP, Some(allowance), look);
    assert!(matches!(trainer.run(&request, &AtomicBool::new(false), &StepCount::new(1)), Trained::Update(_)));
    let debits = debits.lock().unwrap().clone();
    judged(debits == [1, 1], format!("debits of the training in the ledger at each of its two steps: {debits:?}"))
}

/// A silo that took part accepts no ledger that is not there.
fn a_lost_ledger_is_refused() -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let mut allowance = Allowance::for_tests(dir.path());
    allowance.train(1, 1, 2).unwrap();
    drop(allowance);
    std::fs::remove_dir_all(dir.path().join("ledger")).unwrap();
    let job: Job = toml::from_str(include_str!("../../../../../protocol/job.sample.toml")).unwrap();
    let limit = OverJobs { max_epsilon: 8.0, delta: 1e-5 };
    let known = Known::new(dir.path(), &job, &[]).unwrap();
    match known.look(&dir.path().join("ledger"), limit, job.digest(), "silo-0") {
        Err(error) => Ok(error.to_string()),
        Ok(_) => Err("a silo that spent begins a new ledger".to_owned()),
    }
}

/// An update that is ready at once leaves after the job's second.
fn updates_wait_for_their_time() -> Seen {
    let (trainer, request) = trainer(DP, None);
    let asked = Instant::now();
    assert!(trainer.hold_back(&request, asked, &AtomicBool::new(false)));
    let waited = asked.elapsed();
    judged(waited >= Duration::from_secs(1), format!("an update left after {waited:?}"))
}

/// Two organisations have different tags of one record.
fn tags_need_the_key() -> Seen {
    let digest = || Allowance::for_tests(tempfile::tempdir().unwrap().path()).account().tags;
    let (one, other) = (digest(), digest());
    judged(one != other, format!("tags of one record in two ledgers: {one}, {other}"))
}

/// One held-out row is counted as one plus noise.
fn counts_are_noised() -> Seen {
    let dir = tempfile::tempdir().unwrap();
    let (mut trainer, request) = trainer(DP, Some(Allowance::for_tests(dir.path())));
    let mut counted = Vec::new();
    for _ in 0..16 {
        match trainer.run(&request, &AtomicBool::new(false), &StepCount::new(1)) {
            Trained::Update(update) => counted.push((update.held_out.examples, update.held_out.correct)),
            _ => return Err("no update".to_owned()),
        }
    }
    judged(counted.iter().any(|counts| *counts != counted[0]), format!("counts that left: {counted:?}"))
}

/// Who notices what.
const TABLE: [(SiloMutant, fn() -> Seen); 5] = [
    (SiloMutant::DebitAfterTraining, debits_come_first),
    (SiloMutant::LedgerMadeAnew, a_lost_ledger_is_refused),
    (SiloMutant::NoReleaseTime, updates_wait_for_their_time),
    (SiloMutant::TagsWithoutKey, tags_need_the_key),
    (SiloMutant::ExactCounts, counts_are_noised),
];

#[test]
fn each_mutant_around_the_ledger_is_caught() {
    for (mutant, check) in TABLE {
        assert!(check().is_ok(), "{mutant:?} does not live yet: {:?}", check());
        match living::with(mutant, check) {
            Err(seen) => println!("{mutant:?} is caught: {seen}"),
            Ok(missed) => panic!("{mutant:?} is not noticed: {missed}"),
        }
    }
    println!("{0} of {0} mutants around the ledger caught", TABLE.len());
}
