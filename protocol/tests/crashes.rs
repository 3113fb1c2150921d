//! A process killed after each of its outputs in turn, then restarted from what it had made durable.

mod common;

use blindsum_crypto::SiloId;
use common::cluster::{Cluster, Crash};
use common::{DP, NONE, Setup, checks, job_text};

fn cluster(n: u16, privacy: &str) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(1, privacy, "held-out")))
}

#[test]
fn sa07_a_silo_restarted_at_any_point_never_contradicts_itself_and_the_job_finishes() {
    for privacy in [NONE, DP] {
        let outputs = {
            let mut dry = cluster(4, privacy);
            dry.finish();
            dry.silos[1].executed
        };
        for after in 1..=outputs {
            let mut cluster = cluster(4, privacy);
            cluster.silos[1].crash = Some(Crash { after, restart_ms: Some(30) });
            cluster.finish();
            checks::check(&cluster);
            assert_eq!(cluster.reports.len(), 2, "killed after output {after}");
            let rounds: Vec<u32> = cluster.silos[1].adopted.iter().map(|a| a.at.round).collect();
            assert_eq!(rounds, [1, 2], "killed after output {after}: it missed a result");
            assert!(cluster.reports.iter().all(|r| r.attempt == 1), "one lost silo of four costs no attempt");
        }
    }
}

#[test]
fn a_silo_that_lost_its_adapter_file_fetches_every_result_again() {
    let mut cluster = cluster(4, NONE);
    cluster.silos[1].crash = Some(Crash { after: 24, restart_ms: Some(30) });
    cluster.silos[1].forgets_adapter = true;
    cluster.finish();
    checks::check(&cluster);
}

#[test]
fn a_coordinator_restarted_at_any_point_finishes_every_round() {
    for privacy in [NONE, DP] {
        let outputs = {
            let mut dry = cluster(4, privacy);
            dry.finish();
            dry.coordinator_executed
        };
        for after in 1..outputs {
            let mut cluster = cluster(4, privacy);
            cluster.coordinator_crash = Some(Crash { after, restart_ms: Some(200) });
            cluster.finish();
            checks::check(&cluster);
            let mut rounds: Vec<u32> = cluster.reports.iter().map(|r| r.round).collect();
            rounds.dedup();
            assert_eq!(rounds, [1, 2], "killed after output {after}");
            for process in &cluster.silos {
                assert!(process.trainings.values().all(|&runs| runs == 1), "killed after {after}: trained in vain");
            }
        }
    }
}

#[test]
fn two_silos_restarted_together_cost_an_attempt_at_most() {
    // n = 8, c = 2, q = 6: two lost silos are within what a session bears
    for after in (1..60).step_by(3) {
        let mut cluster = cluster(8, DP);
        for silo in [SiloId(2), SiloId(5)] {
            cluster.silos[silo.index()].crash = Some(Crash { after, restart_ms: Some(100) });
        }
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(cluster.reports.len(), 2, "killed after output {after}");
    }
}
