//! Scenarios of the protocol's page, part 2: a coordinator that lies, with as many colluders as the quorums bear.
//!
//! Contract: whatever it says, the global invariants hold (`testkit/src/judge.rs`), and who was lied to says so.

use blindsum_crypto::SiloId;
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::ops::{Kind, Op, Phase};
use blindsum_testkit::simulate::{checked, scenario};

/// All variants of one lie, told to silo 1 alone and to a camp, in rosters with one colluder and with two.
fn told(phase: Phase, kind: Kind, variants: u32, mut look: impl FnMut(u32, &Cluster, bool)) {
    let mut happened = 0;
    for variant in 0..variants {
        for (n, camp) in [(4, vec![1]), (4, vec![1, 2]), (5, (0..5).collect()), (8, vec![1])] {
            let op = Op::at(phase, kind, 0, false, variant << 4).of(camp.clone());
            let (cluster, outcome) = checked(&scenario(n, (u32::from(n) + variant) % 2 == 0, vec![op]));
            happened += usize::from(outcome.fired[0]);
            look(variant, &cluster, outcome.fired[0] && camp == [1]);
        }
    }
    assert!(happened > 0, "{phase:?} {kind:?} was never told");
}

fn said(cluster: &Cluster, silo: u16, what: &str) -> bool {
    cluster.silos[usize::from(silo)].events.iter().any(|e| e.to_string().contains(what))
}

fn sent(cluster: &Cluster, silo: u16, name: &str) -> usize {
    let first = |e: &&blindsum_protocol::Envelope<blindsum_protocol::SiloMessage>| {
        e.message.name() == name && e.message.at().is_some_and(|at| at.attempt == 1)
    };
    cluster.silos[usize::from(silo)].sent.iter().filter(first).count()
}

#[test]
fn scenario_the_coordinator_lies_about_roster_round_params_and_model() {
    told(Phase::Open, Kind::Forge, 11, |variant, cluster, alone| {
        if alone && variant < 9 {
            assert!(said(cluster, 1, "does not take part"), "variant {variant}");
            assert_eq!(sent(cluster, 1, "advert"), 0, "variant {variant}");
        }
    });
    told(Phase::Open, Kind::Equivocate, 3, |_, _, _| {});
}

#[test]
fn scenario_sa13_a_retry_without_proof_or_with_a_false_one() {
    told(Phase::Open, Kind::Collude, 2, |_, _, _| {});
    told(Phase::Open, Kind::Omit, 1, |_, _, _| {});
    for kind in [Kind::Omit, Kind::Forge, Kind::Collude, Kind::Equivocate] {
        told(Phase::Abandon, kind, 1, |_, _, _| {});
    }
}

#[test]
fn scenario_requests_to_abandon_at_odd_times() {
    told(Phase::Abandon, Kind::Repeat, 12, |_, _, _| {});
}

#[test]
fn scenario_sa01_key_swaps_without_with_a_wrong_and_with_an_old_signature() {
    told(Phase::Advertise, Kind::Forge, 4, |variant, cluster, alone| {
        if alone {
            assert!(said(cluster, 1, "SA-01"), "variant {variant}");
            assert_eq!(sent(cluster, 1, "masked-input"), 0);
        }
    });
}

#[test]
fn scenario_sa01_different_adverts_for_different_camps() {
    told(Phase::Advertise, Kind::Equivocate, 2, |_, _, _| {});
    told(Phase::Advertise, Kind::Omit, 3, |_, _, _| {});
}

#[test]
fn scenario_sa01_low_order_points_and_repeated_keys() {
    told(Phase::Advertise, Kind::Collude, 5, |variant, cluster, alone| {
        if alone {
            assert!(said(cluster, 1, "SA-01"), "variant {variant}");
            assert_eq!(sent(cluster, 1, "shares"), 0, "it dealt shares to a bad key");
        }
    });
    told(Phase::Advertise, Kind::Repeat, 3, |_, _, _| {});
}

#[test]
fn scenario_sa03_headers_and_bundles_altered_missing_misrouted_or_dealt_by_a_colluder() {
    for (kind, variants) in
        [(Kind::Forge, 6), (Kind::Equivocate, 2), (Kind::Omit, 4), (Kind::Repeat, 4), (Kind::Collude, 1)]
    {
        told(Phase::Share, kind, variants, |_, _, _| {});
    }
}

#[test]
fn scenario_sa05_a_list_that_omits_invents_repeats_or_is_too_small() {
    for (kind, variants) in [(Kind::Omit, 2), (Kind::Forge, 4), (Kind::Collude, 2)] {
        told(Phase::Commit, kind, variants, |variant, cluster, alone| {
            // a list that leaves out another silo, or has a colluder's other y, is a list like any
            let honest = (kind, variant) == (Kind::Omit, 1) || (kind, variant) == (Kind::Collude, 0);
            if alone && !honest {
                // one invented makes the list longer than any can be
                let broken = ["SA-04", "SA-05", "SA-12"];
                assert!(broken.iter().any(|rule| said(cluster, 1, rule)), "{kind:?} {variant}");
                assert_eq!(sent(cluster, 1, "commit"), 0, "{kind:?} {variant}");
            }
        });
    }
}

#[test]
fn scenario_a_second_list_before_or_after_the_vote_also_with_a_late_masked_input() {
    told(Phase::Commit, Kind::Repeat, 16, |_, cluster, _| {
        for silo in 0..4 {
            let votes = cluster.silos[silo].sent.iter().filter(|e| e.message.name() == "commit");
            let votes: Vec<_> = votes.filter(|e| e.message.at().is_some_and(|at| at.attempt == 1)).collect();
            assert!(votes.windows(2).all(|pair| pair[0] == pair[1]), "silo {silo} voted twice");
        }
    });
    // y held back until the list went out, then in a second list
    let late = Op::at(Phase::Masked, Kind::Delay, 3, true, (0..64).find(|v| (v >> 3) % 6 == 3).unwrap());
    let second = Op::at(Phase::Commit, Kind::Repeat, 0, false, 1 << 4).of(0..8);
    let (cluster, outcome) = checked(&scenario(5, false, vec![late, second]));
    assert_eq!(outcome.fired, [true, true]);
    assert!(outcome.summed && !cluster.reports[0].survivors.contains(&SiloId(3)));
}

#[test]
fn scenario_sa08_different_lists_to_different_halves_with_c_colluders() {
    // which camp the honest silos fall into decides which list gets its quorum; never both
    for n in [4u16, 5, 7] {
        for camp in (1u8..1 << n).step_by(if n == 7 { 5 } else { 1 }) {
            let op = Op { who: camp, ..Op::at(Phase::Commit, Kind::Equivocate, 0, false, 0) };
            checked(&scenario(n, camp % 2 == 0, vec![op]));
        }
    }
}

#[test]
fn scenario_sa08_certificates_short_repeated_foreign_or_by_outsiders() {
    for (kind, variants) in
        [(Kind::Omit, 3), (Kind::Forge, 3), (Kind::Equivocate, 1), (Kind::Collude, 1), (Kind::Repeat, 6)]
    {
        told(Phase::Reveal, kind, variants, |variant, cluster, alone| {
            // the invented voter of the third forgery needs a silo outside the list
            let asked_twice = kind == Kind::Repeat && variant % 2 == 1;
            if alone && !asked_twice && !said(cluster, 1, "SA-08") {
                let revealed = sent(cluster, 1, "reveal");
                assert_eq!(revealed, 0, "{kind:?} {variant}: {:?}", cluster.silos[1].events);
            }
        });
    }
}

#[test]
fn scenario_sa16_sums_announced_too_early_twice_or_falsely() {
    for (kind, variants) in
        [(Kind::Equivocate, 1), (Kind::Omit, 1), (Kind::Forge, 2), (Kind::Repeat, 2), (Kind::Collude, 3)]
    {
        told(Phase::Sum, kind, variants, |_, _, _| {});
    }
}

#[test]
fn scenario_sa16_false_results_to_one_to_a_camp_and_to_everybody() {
    for (kind, variants) in
        [(Kind::Forge, 8), (Kind::Equivocate, 1), (Kind::Omit, 3), (Kind::Repeat, 4), (Kind::Collude, 1)]
    {
        told(Phase::Result, kind, variants, |variant, cluster, alone| {
            if alone && kind == Kind::Forge && variant < 2 {
                assert_eq!(sent(cluster, 1, "result-vote"), 0, "it signed a false sum");
            }
        });
    }
}
