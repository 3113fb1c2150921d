//! Runs one schedule and judges it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::cluster::Cluster;
use crate::judge::{self, Outcome};
use crate::ops::{Op, Schedule};
use crate::script::{Script, Shared};
use crate::{DP, NONE, Setup, job_text};

/// No schedule runs longer than this, ms of virtual time.
const UNTIL_MS: u64 = 40_000;
/// Nor for more attempts than this and, in one schedule of four, two more.
const ATTEMPTS: usize = 2;

/// `reproductions.rs` has it by name: `a_coordinator_whose_silos_are_gone_does_not_call_its_timer_without_pause`.
const KNOWN_SPIN: bool = false;

thread_local! {
    static SETUPS: RefCell<BTreeMap<(u16, bool, bool, u8), Setup>> = const { RefCell::new(BTreeMap::new()) };
}

/// Roster, job and plan of a schedule; made once per thread.
pub fn setup(schedule: &Schedule) -> Setup {
    SETUPS.with_borrow_mut(|setups| {
        let Schedule { n, private, metrics, verify, .. } = *schedule;
        let made = setups.entry((n, private, metrics, verify)).or_insert_with(|| {
            let metrics = if metrics { "held-out" } else { "off" };
            let check = ["off", "sketches", "inputs"][usize::from(verify)];
            let job = job_text(1, if private { DP } else { NONE }, metrics);
            Setup::new(n, &job.replace("metrics =", &format!("verify_sum = \"{check}\"\nmetrics =")))
        });
        made.clone()
    })
}

/// Runs a schedule to its end, with the script's hand on it.
pub fn run(schedule: &Schedule) -> (Cluster, Shared) {
    let setup = setup(schedule);
    let script = Script::new(setup.clone(), schedule.clone());
    let mut cluster = Cluster::new(setup);
    cluster.seed = schedule.seed;
    cluster.tolerates_spinning = KNOWN_SPIN;
    cluster.net = Some(Box::new(script.clone()));
    while cluster.now < UNTIL_MS
        && !cluster.is_over()
        && cluster.opened() <= ATTEMPTS + 2 * usize::from(schedule.seed % 4 == 3)
    {
        let until = cluster.now + 500;
        cluster.run(until);
        if cluster.now < until {
            break;
        }
    }
    {
        let script = script.0.borrow();
        cluster.inputs.extend(script.rogue.inputs.clone());
        cluster.added.extend(script.rogue.added.clone());
    }
    (cluster, script)
}

/// Runs a schedule and asserts every global invariant.
pub fn check(schedule: &Schedule) -> Outcome {
    checked(schedule).1
}

/// The same, with the cluster as the run left it; its coordinator is then killed, and all deadlines have passed.
pub fn checked(schedule: &Schedule) -> (Cluster, Outcome) {
    let (mut cluster, script) = run(schedule);
    judge::coordinator_is_not_lost(&cluster);
    cluster.net = None;
    cluster.kill_coordinator();
    cluster.run(cluster.now + 20_000);
    judge::nobody_waits(&cluster);
    let outcome = judge::judge(&cluster, &script.0.borrow(), schedule);
    (cluster, outcome)
}

/// A run of n silos with these ops alone, the first silos being the faulty ones.
pub fn scenario(n: u16, private: bool, ops: Vec<Op>) -> Schedule {
    Schedule { n, private, metrics: false, verify: 1, adversaries: 0b1111_1000, seed: 5, ops }
}
