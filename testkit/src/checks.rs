//! What must be true after every run, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};

use blindsum_crypto::share::ShareKind;
use blindsum_crypto::{SegmentKind, SiloId, packing};
use blindsum_protocol::coordinator::StoreRecord;
use blindsum_protocol::{AttemptId, HeldOutCounts, SiloMessage, codec};

use crate::Setup;
use crate::cluster::Cluster;

/// All invariants.
pub fn check(cluster: &Cluster) {
    sums_are_exact(cluster);
    no_silo_contradicts_itself(cluster);
    everybody_adopts_the_same(cluster);
}

/// One silo's coordinates as integers mod 2^b, before any mask. The plans of these tests have a scale of 1.
pub fn plain_lanes(setup: &Setup, at: AttemptId, (update, counts): &(Vec<f32>, HeldOutCounts)) -> Vec<u32> {
    let params = setup.plan.params(setup.plan.kind(at.round).unwrap());
    let accuracy = (f64::from(counts.correct) / f64::from(counts.examples.max(1)) * 1e6).round() as u32;
    let held_out = [1, counts.examples, counts.correct, accuracy, u32::from(counts.examples > 0), 0];
    let mut lanes = Vec::with_capacity(params.lanes());
    for (segment, range) in params.ranges() {
        match segment.kind {
            SegmentKind::FixedPoint { .. } => {
                lanes.extend(update[range].iter().map(|&x| x as i64 as u32 & segment.ring_mask()));
            }
            SegmentKind::Counts { .. } if range.len() == held_out.len() => lanes.extend(held_out),
            SegmentKind::Counts { .. } => lanes.extend([1, 0]),
        }
    }
    lanes
}

/// Σ over the survivors of what each put into its masked input.
pub fn plain_sum(cluster: &Cluster, at: AttemptId, survivors: &[SiloId]) -> Vec<u32> {
    let setup = &cluster.setup;
    let params = setup.plan.params(setup.plan.kind(at.round).unwrap());
    let mut sum = vec![0u32; params.lanes()];
    for silo in survivors {
        let lanes = plain_lanes(setup, at, &cluster.inputs[&(*silo, at)]);
        sum.iter_mut().zip(lanes).for_each(|(a, b)| *a = a.wrapping_add(b));
        let added = cluster.added.get(&(*silo, at)).copied().unwrap_or(0);
        sum[0] = sum[0].wrapping_add(added);
    }
    for (segment, range) in params.ranges() {
        sum[range].iter_mut().for_each(|lane| *lane &= segment.ring_mask());
    }
    sum
}

/// Every sum that the coordinator stored equals the plaintext sum over its survivors, in integers mod 2^b.
pub fn sums_are_exact(cluster: &Cluster) {
    let plan = &cluster.setup.plan;
    for record in &cluster.stored {
        let StoreRecord::Result(result) = record else { continue };
        let params = plan.params(plan.kind(result.at.round).unwrap());
        let lanes = packing::unpack(params, &result.sum).unwrap();
        let survivors: Vec<SiloId> = result.list.0.iter().map(|m| m.silo).collect();
        assert!(survivors.len() >= usize::from(plan.quorum().m), "SA-05");
        let expected = plain_sum(cluster, result.at, &survivors);
        for (segment, range) in params.ranges() {
            let (at, name) = (result.at, &segment.name);
            assert_eq!(lanes[range.clone()], expected[range], "{at}: segment {name} is not the plaintext sum");
        }
    }
}

/// SA-06, SA-07: over its whole life, restarts included, a silo sent at most one advert, dealing, y, vote and reveal per
/// attempt, never released both kinds of share of one peer, and signed at most one result per round.
pub fn no_silo_contradicts_itself(cluster: &Cluster) {
    for (index, process) in cluster.silos.iter().enumerate() {
        // an old copy of a disk has forgotten what was sent: `judge.rs` says what must hold all the same
        if process.restored {
            continue;
        }
        let mut once: BTreeMap<(AttemptId, &str), Vec<u8>> = BTreeMap::new();
        let mut kinds: BTreeMap<(AttemptId, SiloId), BTreeSet<ShareKind>> = BTreeMap::new();
        let mut results: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        let mut committed = BTreeSet::new();
        for envelope in &process.sent {
            let name = match &envelope.message {
                SiloMessage::Commit { at, .. } => {
                    committed.insert(*at);
                    "vote"
                }
                SiloMessage::Abandon { .. } => "vote",
                SiloMessage::Advert { .. } => "advert",
                SiloMessage::Shares { .. } => "shares",
                SiloMessage::MaskedInput { .. } => "masked input",
                SiloMessage::Reveal { at, reveal } => {
                    assert!(committed.contains(at), "silo {index} revealed without its COMMIT");
                    for share in &reveal.shares {
                        let seen = kinds.entry((*at, share.peer())).or_default();
                        seen.insert(share.kind());
                        assert_eq!(seen.len(), 1, "SA-06: silo {index} released both shares of {}", share.peer());
                    }
                    "reveal"
                }
                SiloMessage::ResultVote { at, vote } => {
                    let bytes = codec::encode(vote).unwrap();
                    let first = results.entry(at.round).or_insert_with(|| bytes.clone());
                    assert_eq!(*first, bytes, "silo {index} signed two results of round {}", at.round);
                    continue;
                }
                SiloMessage::Sketch { .. }
                | SiloMessage::Hello(_)
                | SiloMessage::Decline { .. }
                | SiloMessage::Complaint { .. } => continue,
            };
            let at = envelope.message.at().unwrap();
            let bytes = codec::encode(&envelope.message).unwrap();
            let first = once.entry((at, name)).or_insert_with(|| bytes.clone());
            assert_eq!(*first, bytes, "SA-07: silo {index} sent two different {name}s in {at}");
        }
    }
}

/// Every silo adopted the same adapter in every round that it adopted at all, and the coordinator reported the same.
pub fn everybody_adopts_the_same(cluster: &Cluster) {
    let mut rounds = BTreeMap::new();
    for report in &cluster.reports {
        let seen = rounds.entry(report.round).or_insert((report.result_hash, report.model_hash));
        assert_eq!(*seen, (report.result_hash, report.model_hash), "two reports of round {}", report.round);
    }
    for process in &cluster.silos {
        for adoption in &process.adopted {
            let hashes = (adoption.result_hash, adoption.model_hash);
            assert_eq!(rounds.get(&adoption.at.round), Some(&hashes), "round {} forked", adoption.at.round);
        }
    }
}
