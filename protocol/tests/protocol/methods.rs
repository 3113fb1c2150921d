//! Whole jobs under each method and server optimiser: with a silo lost for good, a silo restarted from what it kept, and a
//! coordinator restarted from its store, everybody ends with the state that the survivors' updates lead to.

use std::sync::Arc;

use blindsum_crypto::SiloId;
use blindsum_protocol::job::Job;
use blindsum_protocol::silo::{HeldResult, JournalState, SiloMachine, SiloSetup};
use blindsum_protocol::{Plan, RoundKind, SiloMessage, codec};
use blindsum_testkit::cluster::{Cluster, Crash, KillWhen};
use blindsum_testkit::{NONE, Setup, boxed_rng, checks, job_text};

const ROUNDS: u32 = 4;
const ADAM: &str = "[server]\noptimizer = \"fedadam\"\nlearning_rate = 0.5\n";
const MOMENTUM: &str = "[server]\noptimizer = \"fedavgm\"\n";

/// A job of this `[lora]` method, with these tables at its end.
fn setup(method: &str, server: &str) -> Setup {
    let text = job_text(ROUNDS, NONE, "held-out").replace("method = \"ffa-lora\"", method);
    Setup::new(7, &format!("{text}{server}"))
}

fn all() -> [Setup; 5] {
    let refresh = "method = \"ffa-lora\"\nrefresh_rounds = 1";
    [
        setup("method = \"ffa-lora\"", MOMENTUM),
        setup(refresh, ADAM),
        setup(refresh, ""),
        setup("method = \"lora\"", ADAM),
        setup("method = \"rolora\"", ADAM),
    ]
}

/// Checks the whole run, and that each round's state is what the survivors' updates lead to.
fn check(cluster: &Cluster, lost: SiloId) {
    checks::check(cluster);
    let plan = &cluster.setup.plan;
    let mut state = plan.initial_global();
    let mut round = 0;
    for report in &cluster.reports {
        if report.round == round {
            continue; // told again after a restart
        }
        round += 1;
        assert_eq!(report.round, round);
        if report.kind.trains() {
            let range = plan.layout().trained(plan.layout().training_kind(round));
            let mut sum = vec![0.0; range.len()];
            for &silo in &report.survivors {
                let (update, _) = cluster.setup.update(silo, round, 1);
                assert_eq!(update.len(), sum.len());
                sum.iter_mut().zip(&update).for_each(|(sum, x)| *sum += f64::from(*x));
            }
            state = plan.state().step(&state, &sum, report.survivors.len() as u32, round).into();
        }
        assert_eq!(report.survivors.contains(&lost), round == 1, "round {round}");
        assert_eq!(report.model_hash, plan.model_hash(&state), "round {round}");
        assert_eq!(state.len(), plan.state().len(round));
        for process in &cluster.silos {
            for adoption in process.adopted.iter().filter(|a| a.at.round == round) {
                assert_eq!(adoption.global, state, "round {round}");
            }
        }
    }
    assert_eq!(round, ROUNDS + 1, "and the closing round");
    for (i, process) in cluster.silos.iter().enumerate().filter(|(i, _)| *i != lost.index()) {
        assert_eq!(process.held.as_ref().unwrap().global, state, "silo {i}");
    }
}

/// Silo 3 of 7 dies when it would send its masked input of round 2; a second one may be away at any time.
fn losing(setup: &Setup) -> Cluster {
    let mut cluster = Cluster::new(setup.clone());
    let when = |message: &SiloMessage| matches!(message, SiloMessage::MaskedInput { at, .. } if at.round == 2);
    cluster.kill_when = Some(KillWhen { silo: SiloId(3), when, delivered: false });
    cluster
}

#[test]
fn a_lost_silo_and_restarts_of_a_silo_and_of_the_coordinator_lead_to_the_same_state() {
    for setup in all() {
        let mut undisturbed = losing(&setup);
        undisturbed.finish();
        check(&undisturbed, SiloId(3));
        for after in (1..undisturbed.silos[1].executed).step_by(29) {
            let mut cluster = losing(&setup);
            cluster.silos[1].crash = Some(Crash { after, restart_ms: Some(30) });
            cluster.silos[1].forgets_adapter = after % 2 == 0;
            cluster.finish();
            check(&cluster, SiloId(3));
        }
        for after in (1..undisturbed.coordinator_executed).step_by(83) {
            let mut cluster = losing(&setup);
            cluster.coordinator_crash = Some(Crash { after, restart_ms: Some(200) });
            cluster.finish();
            check(&cluster, SiloId(3));
        }
    }
}

#[test]
fn under_rolora_only_the_matrix_that_was_trained_travels() {
    let setup = setup("method = \"rolora\"", "");
    let plan = &setup.plan;
    let kinds: Vec<RoundKind> = (1..=5).map(|round| plan.kind(round).unwrap()).collect();
    use RoundKind::{Evaluate, TrainA, TrainB};
    assert_eq!(kinds, [TrainB, TrainA, TrainB, TrainA, Evaluate]);
    let names = |kind| plan.params(kind).segments.iter().map(|s| s.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(TrainB), ["lora_B", "head", "metrics"]);
    assert_eq!(names(TrainA), ["head", "lora_A", "metrics"]);
    assert_ne!(plan.params(TrainB).hash(), plan.params(TrainA).hash());
    let both = self::setup("method = \"lora\"", "").plan;
    assert_eq!(both.kind(2), Some(RoundKind::TrainBoth));
    assert_eq!(both.params(RoundKind::TrainBoth).segments.len(), 4);
}

#[test]
fn a_kept_state_of_another_round_is_refused() {
    let setup = setup("method = \"ffa-lora\"\nrefresh_rounds = 1", ADAM);
    let mut cluster = Cluster::new(setup.clone());
    cluster.finish();
    let process = &cluster.silos[1];
    let entries: Vec<_> = process.journal.iter().map(|bytes| codec::decode(bytes, 1 << 20).unwrap()).collect();
    let start = |held: HeldResult| {
        let config = SiloSetup {
            me: SiloId(1),
            identity: setup.identity(SiloId(1)),
            roster: Arc::clone(&setup.roster),
            plan: Arc::clone(&setup.plan),
            journal: JournalState::replay(&entries).unwrap(),
            held: Some(held),
        };
        SiloMachine::new(config, boxed_rng(1), 0).map(|_| ())
    };
    let held = process.held.clone().unwrap();
    assert!(start(held.clone()).is_ok());
    let mut moved = held.global.to_vec();
    let moment = setup.plan.layout().len() + 3;
    moved[moment] += 1.0;
    assert!(start(HeldResult { global: moved.into(), ..held.clone() }).is_err(), "moments are hashed");
    let mut moved = held.global.to_vec();
    *moved.last_mut().unwrap() += 1.0;
    assert!(start(HeldResult { global: moved.into(), ..held.clone() }).is_err(), "folded parts are hashed");
    let short = held.global[..setup.plan.state().len(1)].into();
    assert!(start(HeldResult { global: short, ..held }).is_err());
}

#[test]
fn a_plan_names_the_key_that_makes_too_many_parts() {
    let setup = setup("method = \"ffa-lora\"", "");
    let text = job_text(100, NONE, "off").replace("seed = 7", "seed = 7\nrefresh_rounds = 1");
    let job: Job = toml::from_str(&text).unwrap();
    let error = Plan::derive(&job, &setup.roster, &blindsum_testkit::layout(&job)).unwrap_err();
    assert_eq!(error.key, "lora.refresh_rounds");
    assert!(error.to_string().contains("at most 64"), "{error}");
}
