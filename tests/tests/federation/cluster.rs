//! Coordinator and four silos in one process: the aggregate is the plaintext sum over the survivors, whoever drops out.

use std::panic::AssertUnwindSafe;

use blindsum_tests::cluster::{self, Cluster};
use blindsum_tests::expect;
use blindsum_tests::seams::{self, Milestone, Pause};
use blindsum_tests::site::{SILOS, Site, Terms};

async fn cluster(terms: Terms) -> Cluster {
    cluster::log();
    Cluster::start(Site::new(terms)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_silos_complete_a_job_and_adopt_the_plaintext_sum() {
    let mut cluster = cluster(Terms { rounds: 3, ..Terms::default() }).await;
    (0..4).for_each(|i| cluster.start_silo(i, Vec::new()));
    cluster.finish().await;
    let survivors = expect::check(&cluster.site);
    assert_eq!(survivors, vec![SILOS.map(str::to_owned).to_vec(); 4], "three rounds and the closing one");

    // The comparison has teeth: it notices one unit in one coordinate of one silo.
    let path = cluster.site.record("south").join(seams::updated(2));
    let mut update = std::fs::read(&path).unwrap();
    let off = seams::read(&cluster.site.record("south"), &seams::updated(2)).unwrap()[9] + 1.0 / 65536.0;
    update[36..40].copy_from_slice(&off.to_le_bytes());
    std::fs::write(&path, update).unwrap();
    let checked = std::panic::catch_unwind(AssertUnwindSafe(|| expect::check(&cluster.site)));
    assert!(checked.is_err(), "a sum that is off by one went unnoticed");
}

/// Silo 2 crashes in round 1 before it sends `message`; the round completes over `survivors`, and the silo comes back for
/// round 2.
async fn one_crashes_before(message: &str, survivors: &[&str]) {
    // A lost connection costs a quarter of a phase.
    let mut cluster = cluster(Terms { phase_seconds: 16, ..Terms::default() }).await;
    let slow = 0;
    for i in 0..4 {
        let pause = match i {
            2 => Pause::new(message, 1),
            // One of the others holds up round 2 until the crashed silo is back.
            _ if i == slow => Pause::new("advert", 2),
            _ => Pause::new("none", 0),
        };
        cluster.start_silo(i, vec![pause]);
    }
    cluster.reached(2, &Milestone::Paused(message.into(), 1)).await;
    cluster.crash(2).await;
    for i in [0, 1, 3] {
        cluster.reached(i, &Milestone::Adopted(1)).await;
    }
    cluster.start_silo(2, Vec::new());
    cluster.reached(2, &Milestone::Trained(2)).await;
    cluster.reached(slow, &Milestone::Paused("advert".into(), 2)).await;
    cluster.resume(slow);
    cluster.finish().await;
    let all = SILOS.map(str::to_owned).to_vec();
    assert_eq!(expect::check(&cluster.site), [survivors.iter().map(|&s| s.to_owned()).collect(), all.clone(), all]);
    assert_eq!(cluster.site.history()[0].dropped.len(), 4 - survivors.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silo_lost_between_shares_and_masked_input_is_left_out_exactly_and_joins_the_next_round() {
    one_crashes_before("masked-input", &["east", "north", "west"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silo_lost_between_masked_input_and_reveal_is_in_the_sum_and_joins_the_next_round() {
    one_crashes_before("reveal", &SILOS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_restarted_between_masked_inputs_and_votes_finishes_the_attempt() {
    let mut cluster = cluster(Terms::default()).await;
    let vote = || Pause::new("commit", 2);
    (0..4).for_each(|i| cluster.start_silo(i, vec![vote()]));
    for i in 0..4 {
        cluster.reached(i, &Milestone::Paused("commit".into(), 2)).await;
    }
    cluster.stop_coordinator().await;
    cluster.start_coordinator().await;
    (0..4).for_each(|i| cluster.resume(i));
    cluster.finish().await;
    assert_eq!(expect::check(&cluster.site).len(), 3);
    assert_eq!(cluster.site.history()[1].attempt, 1, "the masked inputs of before the restart were used");
}
