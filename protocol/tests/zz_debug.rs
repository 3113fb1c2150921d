//! Debugging aid: runs the schedule in $SCHEDULE and prints what everybody says.
#![allow(clippy::unwrap_used)]
mod common;
use common::{judge, ops, simulate};
#[test]
fn debug() {
    let Ok(text) = std::env::var("SCHEDULE") else { return };
    let schedule: ops::Schedule = serde_json::from_str(&text).unwrap();
    let (mut cluster, script) = simulate::run(&schedule);
    println!("faulty {:?} fired {:?} at {}", script.0.borrow().mind.faulty, script.0.borrow().fired, cluster.now);
    for e in &cluster.coordinator_events {
        println!("C: {e}");
    }
    for (i, s) in cluster.silos.iter().enumerate() {
        for e in &s.events {
            println!("S{i}: {e}");
        }
        println!(
            "S{i} adopted {:?} sent {:?}",
            s.adopted.len(),
            s.sent
                .iter()
                .map(|e| (e.message.name(), e.message.at().map(|a| a.attempt).unwrap_or(0)))
                .collect::<Vec<_>>()
        );
    }
    judge::coordinator_is_not_lost(&cluster);
    cluster.net = None;
    cluster.kill_coordinator();
    cluster.run(cluster.now + 20_000);
    judge::nobody_waits(&cluster);
    judge::judge(&cluster, &script.0.borrow(), &schedule);
}
