//! Real processes and SIGKILL at a named point: the round completes, and the sum is exact over the survivors.

use blindsum_tests::expect;
use blindsum_tests::process::Process;
use blindsum_tests::seams::{Milestone, Pause};
use blindsum_tests::site::{SILOS, Site, Terms};

use crate::{COORDINATOR, SILO};

/// Runs a coordinator and four silos as processes and kills "south" in round 1 before it sends `message`. It is started
/// again and takes part in round 2.
fn killed_before(message: &str, survivors: &[&str]) {
    let site = Site::new(Terms { phase_seconds: 12, ..Terms::default() });
    let (coordinator, address) = Process::coordinator(COORDINATOR, &site.write_coordinator("127.0.0.1:0"));
    let start = |name: &str, seed: u64, pauses: &[Pause]| {
        Process::silo(SILO, &site.write_silo(name, &address), &site.record(name), seed, pauses)
    };
    let mut victim = start("south", 1, &[Pause::new(message, 1)]);
    // One of the others holds up round 2 until the killed silo is back.
    let mut slow = start("east", 2, &[Pause::new("advert", 2)]);
    let mut others = [start("north", 3, &[]), start("west", 4, &[])];

    victim.reached(&Milestone::Paused(message.into(), 1));
    victim.kill();
    slow.reached(&Milestone::Adopted(1));
    others.iter_mut().for_each(|silo| silo.reached(&Milestone::Adopted(1)));

    let mut again = start("south", 5, &[]);
    again.reached(&Milestone::Trained(2));
    slow.reached(&Milestone::Paused("advert".into(), 2));
    slow.resume();
    for process in [again, slow].into_iter().chain(others).chain([coordinator]) {
        let (code, said) = process.end();
        assert_eq!(code, 0, "{said}");
    }
    let all = SILOS.map(str::to_owned).to_vec();
    assert_eq!(expect::check(&site), [survivors.iter().map(|&s| s.to_owned()).collect(), all.clone(), all]);
}

#[test]
fn sigkill_between_shares_and_masked_input_leaves_that_silo_out_of_an_exact_sum() {
    killed_before("masked-input", &["east", "north", "west"]);
}

#[test]
fn sigkill_between_masked_input_and_reveal_leaves_that_silo_in_an_exact_sum() {
    killed_before("reveal", &SILOS);
}

/// The coordinator's store holds list and masked inputs by then: what is committed is finished, not begun again.
#[test]
fn sigkill_of_the_coordinator_between_masked_inputs_and_votes_costs_no_attempt() {
    let site = Site::new(Terms::default());
    let (coordinator, address) = Process::coordinator(COORDINATOR, &site.write_coordinator("127.0.0.1:0"));
    let vote = Pause::new("commit", 1);
    let start = |(seed, name)| {
        Process::silo(SILO, &site.write_silo(name, &address), &site.record(name), seed, std::slice::from_ref(&vote))
    };
    let mut silos: Vec<Process> = (0..).zip(SILOS).map(start).collect();
    silos.iter_mut().for_each(|silo| silo.reached(&Milestone::Paused("commit".into(), 1)));
    coordinator.kill();
    let (coordinator, _) = Process::coordinator(COORDINATOR, &site.write_coordinator(&address));
    silos.iter_mut().for_each(Process::resume);
    for process in silos.into_iter().chain([coordinator]) {
        let (code, said) = process.end();
        assert_eq!(code, 0, "{said}");
    }
    assert_eq!(expect::check(&site), vec![SILOS.map(str::to_owned).to_vec(); 3]);
    assert_eq!(site.history()[0].attempt, 1);
}
