//! Scenarios of the protocol's page, part 4: runs without faults in all sizes.
//!
//! Two levels: whole jobs through both machines, whose vectors are as long as an adapter is; and single sessions through
//! the crypto crate's functions, with any length.

use std::collections::BTreeMap;

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::params::VerifySum;
use blindsum_crypto::share::{self, HeldShares};
use blindsum_crypto::unmask::{self, Recovery};
use blindsum_crypto::verify::{self, Rules};
use blindsum_crypto::{
    Advert, CommitCertificate, CommitVote, Context, IdentityKey, JournalMark, MaskedHeader, Params, Quorum, Roster,
    RosterEntry, Segment, SiloId, SurvivorList, fixed_point, mask, masked, packing, sha256,
};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{NONE, Setup, checks, job_text, rng};

#[test]
fn scenario_no_fault_for_3_5_and_16_silos_through_the_machines() {
    for n in [3, 5, 16] {
        let mut cluster = Cluster::new(Setup::new(n, &job_text(2, NONE, "held-out")));
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(cluster.reports.len(), 3);
        assert!(cluster.reports.iter().all(|r| r.attempt == 1 && r.survivors.len() == usize::from(n)));
    }
}

#[test]
fn scenario_no_fault_for_100_silos_through_the_machines() {
    let mut cluster = Cluster::new(Setup::new(100, &job_text(1, NONE, "off")));
    cluster.finish();
    checks::check(&cluster);
    assert_eq!((cluster.reports[0].attempt, cluster.reports[0].survivors.len()), (1, 100));
    assert!(cluster.silos.iter().all(|s| s.adopted.len() == 1));
}

#[test]
fn scenario_no_fault_for_every_length_in_one_session() {
    for n in [3, 5, 16] {
        for d in [1, 255, 4_097, 300_000] {
            session(n, d, 0);
        }
    }
    for d in [1, 255, 4_097] {
        session(100, d, 0);
    }
}

#[test]
fn scenario_no_fault_for_100_silos_and_300_000_coordinates_in_one_session() {
    session(100, 300_000, 0);
}

#[test]
fn scenario_as_many_drops_as_m_bears_for_every_length_in_one_session() {
    for (n, drops) in [(4, 1), (5, 1), (16, 5), (100, 33)] {
        for d in [1, 255, 4_097] {
            session(n, d, drops);
        }
    }
}

/// One session of n silos and d coordinates, the last `drops` of them lost before their masked input: S is the plaintext
/// sum. What every silo would verify alike is verified once.
fn session(n: u16, d: u32, drops: u16) {
    let mut rng = rng(u64::from(n) << 32 | u64::from(d));
    let keys: Vec<IdentityKey> = (0..n).map(|_| IdentityKey::generate(&mut rng)).collect();
    let entries = keys.iter().enumerate();
    let entries = entries.map(|(i, k)| RosterEntry { name: format!("ward-{i}"), identity: k.public() }).collect();
    let roster = Roster::new("wards", 1, entries).unwrap();
    let quorum = Quorum::derive(n, None, None).unwrap();
    let params = Params {
        segments: vec![Segment::fixed_point("lora_B", d, 16, 32_767.0, n).unwrap(), Segment::counts("metrics", 2, n)],
        quorum,
        noise: false,
        verify_sum: VerifySum::Sketches,
        training_deadline_ms: 1000,
        phase_deadline_ms: 1000,
    };
    params.check().unwrap();
    let hash = sha256(b"size");
    let context = Context {
        federation_id: "wards".into(),
        roster_hash: roster.hash(),
        roster_version: 1,
        job_digest: hash,
        round: 1,
        attempt: 1,
        params_hash: params.hash(),
        previous_result_hash: hash,
        model_hash: hash,
    };
    let ctx = context.digest();
    let rules = Rules { roster: &roster, ctx: &ctx, quorum: &quorum };
    let id = |i: usize| SiloId(u16::try_from(i).unwrap());
    let mark = JournalMark { length: 2, head: hash };
    let secrets: Vec<SessionSecrets> = keys.iter().map(|_| SessionSecrets::generate(&ctx, &mut rng)).collect();
    let adverts = (0..keys.len()).map(|i| Advert::sign(&keys[i], &ctx, id(i), &secrets[i], mark, true)).collect();
    let adverts = verify::adverts(&rules, adverts, None, &[]).unwrap();
    let mut dealings = BTreeMap::new();
    let mut own = Vec::new();
    for (i, key) in keys.iter().enumerate() {
        let (dealing, pair) = share::deal(key, id(i), &secrets[i], &adverts, quorum.t, &mut rng).unwrap();
        dealings.insert(id(i), verify::dealing(&rules, dealing, &adverts).unwrap());
        own.push(pair);
    }
    let headers = dealings.values().map(|d| d.header().header().clone()).collect();
    let headers = verify::headers(&rules, headers, &adverts, None).unwrap();
    let survivors = keys.len() - usize::from(drops);
    let (mut plain, mut acc) = (vec![0u32; params.lanes()], vec![0u32; params.lanes()]);
    let mut list = Vec::new();
    for i in 0..survivors {
        let values: Vec<f32> = (0..d).map(|k| ((k * 31 + i as u32 * 17) % 65_535) as f32 - 32_767.0).collect();
        let mut lanes = Vec::new();
        fixed_point::encode(&values, &params.segments[0], &mut rng, &mut lanes).unwrap();
        fixed_point::encode_counts(&[1, 0], &params.segments[1], &mut lanes).unwrap();
        plain.iter_mut().zip(&lanes).for_each(|(a, b)| *a = a.wrapping_add(*b));
        let streams = masked::streams(id(i), &secrets[i], &adverts, &headers).unwrap();
        mask::apply(&mut lanes, &streams, 2);
        let packed = packing::pack(&params, &lanes).unwrap();
        let header = MaskedHeader::sign(&keys[i], &ctx, &headers.bind(), id(i), &packed);
        let y = verify::masked(&rules, header, &packed, &params, &headers).unwrap();
        unmask::accumulate(&mut acc, &y, &params).unwrap();
        list.push(header);
    }
    let list = verify::survivor_list(&rules, SurvivorList(list), &headers, None).unwrap();
    let votes = (0..usize::from(quorum.q)).map(|i| CommitVote::sign(&keys[i], &ctx, id(i), &list.t3())).collect();
    let certificate = CommitCertificate(votes);
    let proof = verify::commit_certificate(&rules, &certificate, &list.t3(), list.survivors()).unwrap();
    let mut recovery = Recovery::new(quorum.t, &list);
    for (i, own) in own.into_iter().enumerate().take(usize::from(quorum.t)) {
        let mut held = HeldShares::new(id(i));
        assert!(held.insert(own));
        for dealing in dealings.values().filter(|dealing| dealing.dealer() != id(i)) {
            let delivery = dealing.delivery(id(i)).unwrap();
            let pair = verify::delivery(&delivery, dealing.header(), &adverts, id(i), &secrets[i].channel);
            assert!(held.insert(pair.unwrap()));
        }
        let reply = held.into_reply(&list, &keys[i], &ctx);
        let reveal = verify::reveal(&rules, reply.release(&proof).unwrap(), &list, &dealings).unwrap();
        assert!(recovery.add(&reveal));
    }
    let masks = recovery.streams(&adverts, &headers).unwrap();
    assert!(masks.guilty.is_empty());
    let sum = unmask::unmask(acc, &masks.streams, &params, 2).unwrap();
    let expected = packing::pack(&params, &plain).unwrap();
    assert!(sum == expected, "n = {n}, d = {d}, {drops} drops: S is not the plaintext sum");
}
