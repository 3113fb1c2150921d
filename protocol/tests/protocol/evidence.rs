//! Blame: a silo that misbehaves with its own signature leaves evidence that anybody can check, is left out of what comes,
//! and the round goes on or is run again without it. Nothing convicts a silo that kept to the protocol.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::reveal::RevealedShare;
use blindsum_crypto::share::{self, ShareKind};
use blindsum_crypto::verify::{self, Guilt, Rules};
use blindsum_crypto::{
    AbandonVote, Advert, CommitVote, Digest, Evidence, Fault, Hasher, Label, MaskedHeader, Reveal, SiloId, Sketch,
    transcript,
};
use blindsum_protocol::coordinator::{
    CoordinatorEvent, CoordinatorMachine, CoordinatorOutput, CoordinatorSetup, StoreRecord, StoreState,
};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, SiloMessage, codec, evidence};
use blindsum_testkit::cluster::{Cluster, Crash};
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

const VICTIM: SiloId = SiloId(1);
const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

/// What a silo needs to sign something of its own: filled from what passes by, for the first attempt.
#[derive(Default, Clone)]
struct Heard {
    ctx: Option<Digest>,
    adverts: Vec<Advert>,
    bind: Option<Digest>,
    t3: Option<Digest>,
    sum_hash: Option<Digest>,
}

impl Heard {
    fn note(&mut self, message: &CoordinatorMessage) {
        match message {
            CoordinatorMessage::Open(open) if (open.context.round, open.context.attempt) == (1, 1) => {
                self.ctx = Some(open.context.digest());
            }
            CoordinatorMessage::Adverts { at: FIRST, adverts } => self.adverts = adverts.clone(),
            CoordinatorMessage::Shares { at: FIRST, headers, .. } => {
                let t1 = transcript::t1(&self.ctx.unwrap(), &self.adverts);
                self.bind = Some(transcript::bind(&transcript::t2(&t1, headers)));
            }
            CoordinatorMessage::CommitRequest { at: FIRST, list } => {
                self.t3 = Some(transcript::t3(&self.bind.unwrap(), &list.0));
            }
            CoordinatorMessage::SumRequest { at: FIRST, sum_hash, .. } => self.sum_hash = Some(*sum_hash),
            _ => {}
        }
    }
}

/// What a misbehaving silo sends instead of a message.
type Misdeed = fn(&Setup, &Heard, SiloId, Envelope<SiloMessage>) -> Vec<Envelope<SiloMessage>>;

/// A cluster in which these silos misbehave in the first attempt.
fn misbehaving(n: u16, privacy: &str, culprits: &'static [u16], misdeed: Misdeed) -> Cluster {
    let job = job_text(2, privacy, "held-out");
    let (mut cluster, setup) = (Cluster::new(Setup::new(n, &job)), Setup::new(n, &job));
    let heard: Rc<RefCell<Heard>> = Rc::default();
    let note = Rc::clone(&heard);
    cluster.down = Box::new(move |_, envelope| {
        note.borrow_mut().note(&envelope.message);
        vec![envelope]
    });
    cluster.up = Box::new(move |silo, envelope| {
        let first = envelope.message.at() == Some(FIRST);
        if !first || !culprits.contains(&silo.0) {
            return vec![envelope];
        }
        let heard = heard.borrow().clone();
        misdeed(&setup, &heard, silo, envelope)
    });
    cluster
}

fn records(cluster: &Cluster) -> Vec<StoreRecord> {
    cluster.store.iter().map(|r| codec::decode::<StoreRecord>(r, 1 << 24).unwrap()).collect()
}

/// Everybody convicted, as a third party judges: with roster and job, from the stored evidence alone.
fn convicted(cluster: &Cluster) -> Vec<(&'static str, Guilt)> {
    let mut convicted = Vec::new();
    for record in records(cluster) {
        let StoreRecord::Guilty { silo, evidence, .. } = record else { continue };
        let text = serde_json::to_string(evidence.as_ref()).unwrap();
        let read: Evidence = serde_json::from_str(&text).unwrap();
        let guilt = evidence::check(&cluster.setup.roster, cluster.setup.plan.job(), &read).unwrap();
        assert_eq!(guilt.silo, silo);
        convicted.push((read.fault.name(), guilt));
    }
    convicted
}

/// A message and another one after it.
fn both(first: Envelope<SiloMessage>, second: SiloMessage) -> Vec<Envelope<SiloMessage>> {
    let second = Envelope { payload: first.payload.clone(), message: second };
    vec![first, second]
}

fn two_adverts(
    setup: &Setup,
    heard: &Heard,
    silo: SiloId,
    envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    let SiloMessage::Advert { at, advert } = &envelope.message else { return vec![envelope] };
    let ctx = heard.ctx.unwrap();
    let secrets = SessionSecrets::generate(&ctx, &mut blindsum_testkit::rng(99));
    let advert = Advert::sign(&setup.identity(silo), &ctx, silo, &secrets, advert.journal(), advert.counts);
    let second = SiloMessage::Advert { at: *at, advert };
    both(envelope, second)
}

fn two_dealings(
    setup: &Setup,
    heard: &Heard,
    silo: SiloId,
    envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    let SiloMessage::Shares { at, .. } = envelope.message else { return vec![envelope] };
    let (ctx, quorum, mut rng) = (heard.ctx.unwrap(), setup.plan.quorum(), blindsum_testkit::rng(99));
    let rules = Rules { roster: &setup.roster, ctx: &ctx, quorum: &quorum };
    let adverts = verify::adverts(&rules, heard.adverts.clone(), None, &[]).unwrap();
    let secrets = SessionSecrets::generate(&ctx, &mut rng);
    let dealt = share::deal(&setup.identity(silo), silo, &secrets, &adverts, quorum.t, &mut rng);
    both(envelope, SiloMessage::Shares { at, dealing: dealt.unwrap().0 })
}

fn two_inputs(
    setup: &Setup,
    heard: &Heard,
    silo: SiloId,
    envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    let SiloMessage::MaskedInput { at, .. } = envelope.message else { return vec![envelope] };
    let mut packed = envelope.payload.clone().unwrap();
    Arc::make_mut(&mut packed)[0] ^= 1;
    let identity = setup.identity(silo);
    let header = MaskedHeader::sign(&identity, &heard.ctx.unwrap(), &heard.bind.unwrap(), silo, &packed);
    vec![envelope, Envelope::with(SiloMessage::MaskedInput { at, header }, packed)]
}

fn commit_then_abandon(
    setup: &Setup,
    heard: &Heard,
    silo: SiloId,
    envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    let SiloMessage::Commit { at, .. } = envelope.message else { return vec![envelope] };
    let vote = AbandonVote::sign(&setup.identity(silo), &heard.ctx.unwrap(), silo);
    both(envelope, SiloMessage::Abandon { at, vote })
}

fn abandon_then_commit(
    setup: &Setup,
    heard: &Heard,
    silo: SiloId,
    envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    let mut sent = commit_then_abandon(setup, heard, silo, envelope);
    sent.reverse();
    sent
}

/// As the codec writes it: variant (4), peer (2), share (32), nonce (32).
fn share_bytes(share: &RevealedShare) -> Vec<u8> {
    let bytes = codec::encode(share).unwrap();
    assert_eq!(bytes.len(), 70);
    bytes
}

/// A reply with one share altered, signed again.
fn falsified(setup: &Setup, heard: &Heard, reveal: &Reveal) -> Reveal {
    let mut bytes = share_bytes(&reveal.shares[2]);
    bytes[6] ^= 1;
    let mut shares = reveal.shares.clone();
    shares[2] = codec::decode(&bytes, 100).unwrap();
    let hasher = Hasher::new(Label::RevealedShares).u64(shares.len() as u64);
    let hash = shares.iter().fold(hasher, |h, share| {
        let bytes = share_bytes(share);
        let kind = if share.kind() == ShareKind::SelfMask { b'b' } else { b's' };
        h.field(&bytes[4..6]).field(&[kind]).field(&bytes[6..38]).field(&bytes[38..])
    });
    let (t3, hash, silo) = (heard.t3.unwrap(), hash.finish(), reveal.silo);
    let signature = setup.identity(silo).sign(Label::Reveal, &heard.ctx.unwrap(), silo, &[&t3.0, &hash.0]);
    Reveal { silo, shares, signature }
}

fn two_replies(setup: &Setup, heard: &Heard, _: SiloId, envelope: Envelope<SiloMessage>) -> Vec<Envelope<SiloMessage>> {
    let SiloMessage::Reveal { at, reveal } = &envelope.message else { return vec![envelope] };
    let second = SiloMessage::Reveal { at: *at, reveal: falsified(setup, heard, reveal) };
    both(envelope, second)
}

fn bad_reply(
    setup: &Setup,
    heard: &Heard,
    _: SiloId,
    mut envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    if let SiloMessage::Reveal { reveal, .. } = &mut envelope.message {
        *reveal = falsified(setup, heard, reveal);
    }
    vec![envelope]
}

fn lying_sketch(setup: &Setup, heard: &Heard, sketch: &Sketch) -> Sketch {
    let mut values = sketch.values.clone();
    values[9] ^= 1;
    let (ctx, t3, sum_hash) = (heard.ctx.unwrap(), heard.t3.unwrap(), heard.sum_hash.unwrap());
    Sketch::sign(&setup.identity(sketch.silo), &ctx, sketch.silo, &t3, &sum_hash, values)
}

fn two_sketches(
    setup: &Setup,
    heard: &Heard,
    _: SiloId,
    envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    let SiloMessage::Sketch { at, sketch: Some(sketch) } = &envelope.message else { return vec![envelope] };
    let second = SiloMessage::Sketch { at: *at, sketch: Some(lying_sketch(setup, heard, sketch)) };
    both(envelope, second)
}

fn false_sketch(
    setup: &Setup,
    heard: &Heard,
    _: SiloId,
    mut envelope: Envelope<SiloMessage>,
) -> Vec<Envelope<SiloMessage>> {
    if let SiloMessage::Sketch { sketch: Some(sketch), .. } = &mut envelope.message {
        *sketch = lying_sketch(setup, heard, sketch);
    }
    vec![envelope]
}

/// Each misdeed, the evidence that it leaves, the rule broken, and whether its silo is in the first round's sum.
const MISDEEDS: [(&str, &str, bool, Misdeed); 9] = [
    ("two-adverts", "SA-07", false, two_adverts),
    ("two-share-headers", "SA-07", false, two_dealings),
    ("two-masked-inputs", "SA-07", true, two_inputs),
    ("commit-and-abandon", "SA-07", true, commit_then_abandon),
    ("commit-and-abandon", "SA-07", true, abandon_then_commit),
    ("two-reveals", "SA-07", true, two_replies),
    ("bad-reveal", "SA-09", true, bad_reply),
    ("two-sketches", "SA-16", true, two_sketches),
    ("false-sketch", "SA-16", true, false_sketch),
];

#[test]
fn every_signed_misdeed_leaves_evidence_and_costs_its_silo_the_job_and_nobody_else_anything() {
    for (name, rule, in_sum, misdeed) in MISDEEDS {
        for privacy in [DP, NONE] {
            // n = 5: c = 1, q = m = 4, t = 3
            let mut cluster = misbehaving(5, privacy, &[1], misdeed);
            cluster.finish();
            checks::check(&cluster);
            let found = convicted(&cluster);
            assert!(
                matches!(&found[..], [(n, Guilt { silo: VICTIM, check, .. })] if *n == name && check.rule() == rule),
                "{name}: {found:?} {:?}",
                cluster.last_events()
            );
            let reports = &cluster.reports;
            assert_eq!((reports.len(), reports[0].attempt), (3, 1), "{name}");
            assert_eq!(reports[0].survivors.contains(&VICTIM), in_sum, "{name}");
            assert!(reports[1..].iter().all(|r| !r.cohort.contains(&VICTIM) && r.cohort.len() == 4), "{name}");
            assert_eq!(cluster.silos[VICTIM.index()].adopted.len(), 3, "{name}: it still gets the results");
        }
    }
}

#[test]
fn the_same_misdeeds_without_the_silos_signature_convict_nobody() {
    // somebody on the way, or a coordinator, alters what a silo signed
    for (name, .., misdeed) in MISDEEDS {
        if name == "commit-and-abandon" {
            continue;
        }
        let mut cluster = misbehaving(5, DP, &[1], misdeed);
        let mut inner = std::mem::replace(&mut cluster.up, Box::new(|_, e| vec![e]));
        cluster.up = Box::new(move |silo, envelope| {
            let mut sent = inner(silo, envelope.clone());
            let last = sent.last_mut().unwrap();
            if *last != envelope {
                match &mut last.message {
                    SiloMessage::Advert { advert, .. } => advert.signature.0[0] ^= 1,
                    SiloMessage::Shares { dealing, .. } => dealing.header.signature.0[0] ^= 1,
                    SiloMessage::MaskedInput { header, .. } => header.signature.0[0] ^= 1,
                    SiloMessage::Reveal { reveal, .. } => reveal.signature.0[0] ^= 1,
                    SiloMessage::Sketch { sketch: Some(sketch), .. } => sketch.signature.0[0] ^= 1,
                    other => panic!("{}", other.name()),
                }
            }
            sent
        });
        cluster.run(60_000);
        checks::check(&cluster);
        assert_eq!(convicted(&cluster), [], "{name}");
        let blamed = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Misbehaviour(VICTIM, _));
        assert!(cluster.coordinator_events.iter().any(blamed), "{name}: it is logged all the same");
    }
}

#[test]
fn sa09_too_few_good_replies_run_the_round_again_without_the_silos_that_sent_bad_ones() {
    // n = 7: c = 2, q = m = 5, t = 4; two silos are late, two of the five survivors send bad replies
    let mut cluster =
        misbehaving(7, DP, &[3, 4, 5, 6], |setup, heard, silo, envelope| match (silo.0, &envelope.message) {
            (5 | 6, SiloMessage::MaskedInput { .. }) => vec![],
            (3 | 4, _) => bad_reply(setup, heard, silo, envelope),
            _ => vec![envelope],
        });
    cluster.finish();
    checks::check(&cluster);
    let found: Vec<_> = convicted(&cluster).into_iter().map(|(name, guilt)| (name, guilt.silo.0)).collect();
    assert_eq!(found, [("bad-reveal", 3), ("bad-reveal", 4)]);
    let again: Vec<SiloId> = [0, 1, 2, 5, 6].map(SiloId).to_vec();
    assert_eq!((cluster.reports[0].attempt, &cluster.reports[0].survivors), (2, &again));
}

#[test]
fn a_job_with_too_few_silos_left_says_so_and_says_it_again_after_a_restart() {
    // n = 4: m = 3; the round itself is exact, since the first of two masked inputs counts
    let mut cluster = misbehaving(4, NONE, &[1, 2], two_inputs);
    cluster.run(60_000);
    checks::check(&cluster);
    assert_eq!((cluster.reports.len(), cluster.reports[0].survivors.len()), (1, 4));
    let stuck = |e: &&CoordinatorEvent| matches!(e, CoordinatorEvent::Stuck(why) if why.contains("2 silos are proven"));
    assert_eq!(cluster.coordinator_events.iter().filter(stuck).count(), 1, "{:?}", cluster.last_events());
    let said = restored(&cluster, |_| {}).unwrap();
    let again = |o: &&CoordinatorOutput| matches!(o, CoordinatorOutput::Event(e) if stuck(&e));
    assert_eq!(said.iter().filter(again).count(), 1);
}

/// What a coordinator says that starts from the cluster's store, some of it altered.
fn restored(cluster: &Cluster, change: impl Fn(&mut StoreRecord)) -> Result<Vec<CoordinatorOutput>, String> {
    let mut records = records(cluster);
    records.iter_mut().for_each(change);
    let config = CoordinatorSetup {
        roster: Arc::clone(&cluster.setup.roster),
        plan: Arc::clone(&cluster.setup.plan),
        store: StoreState::replay(records).unwrap(),
    };
    let mut machine = CoordinatorMachine::new(config, 0).map_err(|e| e.to_string())?;
    Ok(std::iter::from_fn(|| machine.poll_output()).collect())
}

#[test]
fn a_restarted_coordinator_brings_its_evidence_again_and_refuses_what_it_cannot_check() {
    let mut cluster = misbehaving(5, DP, &[1], bad_reply);
    cluster.finish();
    let said = restored(&cluster, |_| {}).unwrap();
    let brought: Vec<_> = said
        .iter()
        .filter_map(|o| match o {
            CoordinatorOutput::Evidence(conviction) => Some((conviction.at, conviction.guilt.silo)),
            _ => None,
        })
        .collect();
    assert_eq!(brought, [(FIRST, VICTIM)]);
    let stored_again = said.iter().any(|o| matches!(o, CoordinatorOutput::Store(StoreRecord::Guilty { .. })));
    assert!(!stored_again);
    // evidence against one silo kept as a verdict on another, and evidence that proves nothing
    let other = restored(&cluster, |r| {
        if let StoreRecord::Guilty { silo, .. } = r {
            *silo = SiloId(2);
        }
    });
    assert!(other.unwrap_err().contains("is against silo 1"));
    let nothing = restored(&cluster, |r| {
        if let StoreRecord::Guilty { evidence, .. } = r {
            let Fault::BadReveal(bad) = &mut Arc::make_mut(evidence).fault else { panic!() };
            bad.reveal.signature.0[0] ^= 1;
        }
    });
    assert!(nothing.unwrap_err().contains("proves nothing"));
}

#[test]
fn a_coordinator_that_crashes_around_a_conviction_comes_to_the_same_verdict() {
    // a second dealing convicts while dealings are stored: U2 is the same before and after
    for misdeed in [two_dealings as Misdeed, bad_reply] {
        for after in (40..160).step_by(5) {
            let mut cluster = misbehaving(5, DP, &[1], misdeed);
            cluster.coordinator_crash = Some(Crash { after, restart_ms: Some(100) });
            cluster.finish();
            checks::check(&cluster);
            let found = convicted(&cluster);
            assert!(found.iter().all(|(_, guilt)| guilt.silo == VICTIM) && found.len() <= 1, "{after}: {found:?}");
        }
    }
}

#[test]
fn crashes_and_reconnects_of_silos_and_coordinator_convict_nobody() {
    for privacy in [DP, NONE] {
        for after in (2..70).step_by(4) {
            let mut cluster = Cluster::new(Setup::new(5, &job_text(2, privacy, "held-out")));
            cluster.silos[VICTIM.index()].crash = Some(Crash { after, restart_ms: Some(50) });
            cluster.coordinator_crash = Some(Crash { after: 4 * after, restart_ms: Some(70) });
            let mut next = 1_000;
            while !cluster.is_over() && next < 600_000 {
                next += 500 + after as u64;
                cluster.run(next);
                cluster.cut(SiloId((next % 5) as u16));
            }
            checks::check(&cluster);
            assert!(!cluster.reports.is_empty(), "{after}: {:?}", cluster.last_events());
            assert_eq!(convicted(&cluster), [], "killed after output {after}");
        }
    }
}

#[test]
fn sa02_evidence_holds_under_its_own_roster_and_job_only() {
    let mut cluster = misbehaving(5, DP, &[1], two_inputs);
    cluster.finish();
    let all = records(&cluster);
    let evidence = all.iter().find_map(|r| match r {
        StoreRecord::Guilty { evidence, .. } => Some(evidence),
        _ => None,
    });
    let (evidence, setup) = (evidence.unwrap(), &cluster.setup);
    assert!(evidence::check(&setup.roster, setup.plan.job(), evidence).is_ok());
    let other_job = Setup::new(5, &job_text(3, DP, "held-out"));
    let refused = evidence::check(&setup.roster, other_job.plan.job(), evidence).unwrap_err();
    assert!(refused.to_string().contains("another job"), "{refused}");
    let other_roster = Setup::new(6, &job_text(2, DP, "held-out"));
    let refused = evidence::check(&other_roster.roster, setup.plan.job(), evidence).unwrap_err();
    assert!(refused.to_string().contains("another roster"), "{refused}");
    // a job of another federation
    let job = job_text(2, DP, "held-out").replace("\"wards\"", "\"clinics\"");
    let job: blindsum_protocol::Job = toml::from_str(&job).unwrap();
    assert!(evidence::check(&setup.roster, &job, evidence).unwrap_err().to_string().contains("federation"));
}

#[test]
fn sa07_votes_for_two_lists_convict_whoever_brings_them() {
    // no coordinator sees two lists of its own; a silo that was shown another one may
    let setup = Setup::new(4, &job_text(1, NONE, "held-out"));
    let plan = &setup.plan;
    let context = plan.context(FIRST, plan.kind(1).unwrap(), plan.job_digest(), Digest([7; 32]));
    let ctx = context.digest();
    let vote = |t3: Digest| blindsum_crypto::evidence::Over {
        over: t3,
        message: CommitVote::sign(&setup.identity(VICTIM), &ctx, VICTIM, &t3),
    };
    let fault = |a, b| Fault::TwoCommits(Box::new([vote(Digest([a; 32])), vote(Digest([b; 32]))]));
    let check = |fault| evidence::check(&setup.roster, plan.job(), &Evidence { context: context.clone(), fault });
    assert_eq!(check(fault(1, 2)).unwrap().silo, VICTIM);
    assert!(check(fault(1, 1)).is_err());
}
