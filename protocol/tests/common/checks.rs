//! What must be true after every run, whatever went wrong in it.

use std::collections::{BTreeMap, BTreeSet};

use blindsum_crypto::share::ShareKind;
use blindsum_crypto::{SegmentKind, SiloId, packing};
use blindsum_protocol::coordinator::StoreRecord;
use blindsum_protocol::{AttemptId, SiloMessage, codec};

use super::cluster::Cluster;

/// All invariants.
pub fn check(cluster: &Cluster) {
    sums_are_exact(cluster);
    no_silo_contradicts_itself(cluster);
    everybody_adopts_the_same(cluster);
}

/// Every sum that the coordinator stored equals the plaintext sum over its survivors, in integers mod 2^b.
pub fn sums_are_exact(cluster: &Cluster) {
    let plan = &cluster.setup.plan;
    for record in &cluster.store {
        let StoreRecord::Result(result) = codec::decode(record, 1 << 24).unwrap() else { continue };
        let params = plan.params(plan.kind(result.at.round).unwrap());
        let lanes = packing::unpack(params, &result.sum).unwrap();
        let survivors: Vec<SiloId> = result.list.0.iter().map(|m| m.silo).collect();
        assert!(survivors.len() >= usize::from(plan.quorum().m), "SA-05");
        for (segment, range) in params.ranges() {
            let mask = segment.ring_mask();
            let fixed = matches!(segment.kind, SegmentKind::FixedPoint { .. });
            let expected: Vec<u32> = range
                .clone()
                .enumerate()
                .map(|(i, lane)| {
                    let term = |silo: &SiloId| {
                        let (update, counts) = &cluster.inputs[&(*silo, result.at)];
                        if fixed {
                            return update[lane] as i64;
                        }
                        let measured = i64::from(counts.examples > 0);
                        let share = f64::from(counts.correct) / f64::from(counts.examples.max(1));
                        let accuracy = (share * 1e6).round() as i64;
                        [1, i64::from(counts.examples), i64::from(counts.correct), accuracy, measured, 0][i]
                    };
                    (survivors.iter().map(term).sum::<i64>() as u32) & mask
                })
                .collect();
            assert_eq!(
                &lanes[range],
                &expected[..],
                "{}: segment {} is not the plaintext sum",
                result.at,
                segment.name
            );
        }
    }
}

/// SA-06, SA-07: over its whole life, restarts included, a silo sent at most one advert, dealing, y, vote and reveal per
/// attempt, never released both kinds of share of one peer, and signed at most one result per round.
pub fn no_silo_contradicts_itself(cluster: &Cluster) {
    for (index, process) in cluster.silos.iter().enumerate() {
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
