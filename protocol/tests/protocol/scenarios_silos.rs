//! Scenarios of the protocol's page, part 3: silos that misbehave under an honest coordinator. Who did it is named, the
//! others keep their sum where their number allows it, and the sum is exact.

use std::collections::BTreeSet;

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::{CoordinatorEvent, DisconnectReason, StoreRecord};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::ops::{Kind, Op, Phase, Schedule};
use blindsum_testkit::scripted::Misdealing;
use blindsum_testkit::simulate::{checked, scenario};
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

/// Silos that the coordinator holds responsible for something, in words.
fn blamed(cluster: &Cluster) -> BTreeSet<SiloId> {
    let mut blamed = convicted(cluster);
    for event in &cluster.coordinator_events {
        match event {
            CoordinatorEvent::Misbehaviour(silo, _) => drop(blamed.insert(*silo)),
            CoordinatorEvent::Dropped(_, silo, why) if why.contains("SA-") || why.contains("key") => {
                blamed.insert(*silo);
            }
            _ => {}
        }
    }
    blamed
}

fn convicted(cluster: &Cluster) -> BTreeSet<SiloId> {
    let guilty = cluster.stored.iter().filter_map(|r| match r {
        StoreRecord::Guilty { silo, .. } => Some(*silo),
        _ => None,
    });
    guilty.collect()
}

/// Runs a misdeed in all its variants; gives each run to `look` with the silo that did it.
fn misdeed(phase: Phase, kind: Kind, variants: u32, mut look: impl FnMut(&Schedule, &Cluster, u32, SiloId, bool)) {
    let mut happened = 0;
    for n in [4, 5, 8] {
        for variant in 0..variants {
            for private in [false, true] {
                let op = Op { attempt: Some(1), ..Op::at(phase, kind, 0, true, variant << 4) };
                let mut ops = vec![op];
                if kind == Kind::Second && matches!(phase, Phase::Share | Phase::Masked) {
                    // the phase lasts until the second one is there too
                    ops.push(Op::at(phase, Kind::Delay, 1, true, 0));
                }
                if phase == Phase::Abandon {
                    ops.push(blindsum_testkit::ops::failing_first_attempt());
                }
                // the faulty silo is the first to be heard, so that none of its messages comes too late to count
                let schedule = Schedule { adversaries: 0b10_1000, ..scenario(n, private, ops) };
                let (cluster, outcome) = checked(&schedule);
                let culprits: Vec<SiloId> = schedule.faulty().into_iter().collect();
                if outcome.fired[0] {
                    happened += 1;
                    assert!(blamed(&cluster).iter().all(|s| culprits.contains(s)), "an honest silo is blamed");
                    look(&schedule, &cluster, variant, culprits[0], outcome.summed);
                }
            }
        }
    }
    assert!(happened > 0, "{phase:?} {kind:?} never happened");
}

fn is_blamed(cluster: &Cluster, culprits: &BTreeSet<SiloId>) -> bool {
    blamed(cluster).intersection(culprits).next().is_some()
}

#[test]
fn scenario_sa09_garbage_shares_from_holders_do_no_harm_while_t_good_ones_remain_and_the_liar_is_named() {
    misdeed(Phase::Reveal, Kind::Garbage, 4, |schedule, cluster, variant, _, summed| {
        assert!(summed && cluster.reports[0].attempt == 1, "variant {variant}: {:?}", cluster.last_events());
        assert!(is_blamed(cluster, &schedule.faulty()), "{:?}", cluster.last_events());
    });
}

#[test]
fn scenario_sa06_the_same_silo_in_both_reveal_sets_or_too_many_or_too_few_shares() {
    misdeed(Phase::Reveal, Kind::Length, 4, |schedule, cluster, variant, _, summed| {
        assert!(summed, "variant {variant}: {:?}", cluster.last_events());
        // a reply with fewer shares is a reply with fewer shares
        if variant % 2 == 1 {
            assert!(is_blamed(cluster, &schedule.faulty()), "variant {variant}: {:?}", cluster.last_events());
        }
    });
}

#[test]
fn scenario_a_second_reveal_with_another_share() {
    misdeed(Phase::Reveal, Kind::Second, 4, |_, _, _, _, summed| assert!(summed));
}

#[test]
fn scenario_sa09_a_dealer_off_its_polynomial_or_commitment_or_with_bundles_that_do_not_open_is_named() {
    misdeed(Phase::Share, Kind::Garbage, 5, |schedule, cluster, variant, _, summed| {
        let misdealing = Misdealing::ALL[variant as usize];
        let culprits = schedule.faulty();
        let complained =
            |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Complaint(_, _, dealer) if culprits.contains(dealer));
        let named = is_blamed(cluster, &culprits) || cluster.coordinator_events.iter().any(complained);
        assert!(named, "{misdealing:?} n = {}: {:?}", schedule.n, cluster.last_events());
        match misdealing {
            // one bad share of many: the sum comes in the first attempt, and is exact
            Misdealing::OneShare | Misdealing::OneBundle => {
                assert!(summed && cluster.reports[0].attempt == 1, "{misdealing:?} n = {}", schedule.n);
            }
            // found out before anybody voted
            Misdealing::Channel => assert!(summed, "n = {}: {:?}", schedule.n, cluster.last_events()),
            // found out after the votes: only fresh updates may follow
            Misdealing::Degree | Misdealing::Commitment => {
                assert_eq!(summed, schedule.private, "{misdealing:?} n = {}: {:?}", schedule.n, cluster.last_events());
            }
        }
    });
}

#[test]
fn scenario_sa03_complaints_about_honest_dealers_do_no_harm() {
    misdeed(Phase::Share, Kind::Foreign, 4, |_, cluster, variant, _, summed| {
        assert!(summed, "variant {variant}: {:?}", cluster.last_events());
        assert!(convicted(cluster).is_empty());
    });
}

#[test]
fn scenario_sa03_dealings_unsigned_doubled_foreign_or_of_wrong_length() {
    misdeed(Phase::Share, Kind::Second, 1, |schedule, cluster, _, _, summed| {
        assert!(summed && is_blamed(cluster, &schedule.faulty()), "{:?}", cluster.coordinator_events);
    });
    misdeed(Phase::Share, Kind::Length, 4, |schedule, cluster, _, _, summed| {
        assert!(summed && is_blamed(cluster, &schedule.faulty()));
    });
}

#[test]
fn scenario_sa04_masked_inputs_of_wrong_length_over_quota_or_sent_twice() {
    misdeed(Phase::Masked, Kind::Length, 4, |schedule, cluster, variant, _, summed| {
        assert!(summed && is_blamed(cluster, &schedule.faulty()), "variant {variant} {:?}", cluster.coordinator_events);
        assert!(cluster.reports[0].survivors.iter().any(|s| !schedule.faulty().contains(s)));
    });
    misdeed(Phase::Masked, Kind::Second, 1, |schedule, cluster, _, _, summed| {
        assert!(summed && is_blamed(cluster, &schedule.faulty()));
    });
    misdeed(Phase::Masked, Kind::Foreign, 2, |_, _, _, _, summed| assert!(summed));
}

#[test]
fn scenario_a_silo_may_send_any_update_it_likes_and_the_sum_holds_it() {
    misdeed(Phase::Masked, Kind::Garbage, 2, |schedule, cluster, variant, _, summed| {
        assert!(summed);
        let altered = variant == 1;
        assert_eq!(cluster.added.is_empty(), !altered);
        assert_eq!(is_blamed(cluster, &schedule.faulty()), !altered, "bytes that it did not sign");
    });
}

#[test]
fn scenario_sa01_low_order_points_repeated_keys_and_journals_that_go_backwards() {
    for (kind, variants) in [(Kind::Garbage, 5), (Kind::Second, 1), (Kind::Length, 2)] {
        misdeed(Phase::Advertise, kind, variants, |schedule, cluster, variant, _, summed| {
            assert!(summed, "{kind:?} {variant}: {:?}", cluster.last_events());
            // in the first attempt nobody knows yet how long its journal was
            if kind != Kind::Length {
                assert!(is_blamed(cluster, &schedule.faulty()), "{kind:?} {variant}: {:?}", cluster.last_events());
            }
        });
    }
}

#[test]
fn scenario_votes_that_are_false_doubled_foreign_or_over_quota() {
    for phase in [Phase::Commit, Phase::Result, Phase::Abandon] {
        for (kind, variants) in [(Kind::Garbage, 2), (Kind::Second, 2), (Kind::Foreign, 3), (Kind::Length, 1)] {
            misdeed(phase, kind, variants, |schedule, cluster, variant, _, summed| {
                let said = cluster.last_events();
                assert!(summed, "{phase:?} {kind:?} {variant} n = {}: {said:?}", schedule.n);
                if kind == Kind::Garbage {
                    assert!(is_blamed(cluster, &schedule.faulty()), "{phase:?} {variant} n = {}: {said:?}", schedule.n);
                }
            });
        }
    }
}

#[test]
fn scenario_sa16_subset_sums_that_are_false_doubled_or_of_wrong_length() {
    for (kind, variants) in [(Kind::Garbage, 2), (Kind::Second, 2), (Kind::Foreign, 3), (Kind::Length, 4)] {
        misdeed(Phase::Sum, kind, variants, |schedule, cluster, variant, _, summed| {
            assert!(summed, "{kind:?} {variant}: {:?}", cluster.last_events());
            if kind == Kind::Garbage {
                assert!(is_blamed(cluster, &schedule.faulty()), "{variant}");
            }
        });
    }
}

#[test]
fn scenario_greetings_that_lie_about_roster_job_history_and_attempts() {
    misdeed(Phase::Open, Kind::Garbage, 4, |_, _, _, _, summed| assert!(summed));
    misdeed(Phase::Open, Kind::Second, 1, |_, cluster, _, _, summed| {
        assert!(summed && cluster.reports[0].attempt < 3, "a colluder raised the attempts");
    });
    misdeed(Phase::Open, Kind::Length, 1, |_, cluster, _, _, summed| {
        assert!(summed && cluster.reports[0].attempt < 3, "a colluder raised the attempts");
    });
    misdeed(Phase::Open, Kind::Foreign, 1, |_, _, _, _, summed| assert!(summed));
    let why = DisconnectReason::Misbehaviour("x".into()).to_string();
    assert!(why.contains("misbehaved"));
}

#[test]
fn scenario_sa10_all_silos_at_the_clip_bound() {
    for n in [3, 4, 5, 8, 16] {
        for trains in [(|_| 32_767.0) as fn(SiloId) -> f32, |_| -32_767.0, |s| [32_767.0, -32_767.0][s.index() % 2]] {
            let mut cluster = Cluster::new(Setup::new(n, &job_text(1, NONE, "held-out")));
            cluster.trains = Some(trains);
            cluster.finish();
            checks::check(&cluster);
            assert_eq!(cluster.reports[0].survivors.len(), usize::from(n));
            let mean: f32 = (0..n).map(|s| trains(SiloId(s))).sum::<f32>() / f32::from(n);
            let before = cluster.setup.plan.initial_global();
            let moved = cluster.reports[0].global[0] - before[0];
            assert!((moved - mean).abs() < 0.01, "n = {n}: {moved} is not {mean}");
        }
    }
}

#[test]
fn scenario_an_update_that_is_no_number_is_refused_before_it_is_rounded() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(!bad.is_finite());
    }
    for trains in
        [
            (|s| if s.0 == 1 { f32::NAN } else { 7.0 }) as fn(SiloId) -> f32,
            |s| {
                if s.0 == 1 { f32::INFINITY } else { 7.0 }
            },
        ]
    {
        for privacy in [NONE, DP] {
            let mut cluster = Cluster::new(Setup::new(4, &job_text(1, privacy, "off")));
            cluster.trains = Some(trains);
            cluster.finish();
            checks::check(&cluster);
            assert_eq!(cluster.reports[0].survivors, [SiloId(0), SiloId(2), SiloId(3)]);
            assert!(cluster.silos[1].events.iter().any(|e| e.to_string().contains("cannot train")));
        }
    }
    let mut cluster = Cluster::new(Setup::new(4, &job_text(1, NONE, "off")));
    cluster.trains = Some(|_| f32::NAN);
    cluster.run(60_000);
    assert!(cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Stuck(_))));
}
