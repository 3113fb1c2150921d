//! A coordinator that lies, and what each lie comes to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::share::{self, ShareKind};
use blindsum_crypto::verify::{self, Rules};
use blindsum_crypto::{
    AbandonCertificate, Advert, CommitCertificate, CommitVote, Digest, MaskedHeader, SiloId, SurvivorList, transcript,
};
use blindsum_protocol::coordinator::{CoordinatorEvent, StoreRecord};
use blindsum_protocol::message::{Abandoned, DeclineReason, Open};
use blindsum_protocol::silo::SiloEvent;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, SiloMessage, codec};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

const VICTIM: SiloId = SiloId(1);
const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

fn cluster(n: u16) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(1, NONE, "held-out")))
}

fn events(cluster: &Cluster, silo: SiloId) -> Vec<String> {
    cluster.silos[silo.index()].events.iter().map(|e| e.to_string()).collect()
}

fn reveals(cluster: &Cluster, silo: SiloId, at: AttemptId) -> Vec<(SiloId, ShareKind)> {
    let sent = cluster.silos[silo.index()].sent.iter();
    sent.filter_map(|e| match &e.message {
        SiloMessage::Reveal { at: a, reveal } if *a == at => Some(reveal.shares.iter().map(|s| (s.peer(), s.kind()))),
        _ => None,
    })
    .flatten()
    .collect()
}

#[test]
fn sa02_an_opening_that_differs_in_any_field_is_declined() {
    let other = Digest([9; 32]);
    type Lie = fn(&mut Open, Digest);
    let lies: [(&str, Lie); 9] = [
        ("federation", |o, _| o.context.federation_id.push('x')),
        ("roster", |o, d| o.context.roster_hash = d),
        ("roster", |o, _| o.context.roster_version += 1),
        ("job", |o, d| o.context.job_digest = d),
        ("parameters", |o, d| o.context.params_hash = d),
        ("previous result", |o, d| o.context.previous_result_hash = d),
        ("model", |o, d| o.context.model_hash = d),
        ("opens round", |o, _| o.context.round += 1),
        ("count from 1", |o, _| o.context.attempt = 0),
    ];
    for (named, lie) in lies {
        let mut cluster = cluster(4);
        cluster.down = Box::new(move |silo, mut envelope| {
            match (silo, &mut envelope.message) {
                (VICTIM, CoordinatorMessage::Open(open)) if open.context.round == 1 => lie(open, other),
                _ => {}
            }
            vec![envelope]
        });
        cluster.finish();
        checks::check(&cluster);
        assert!(!cluster.reports[0].survivors.contains(&VICTIM));
        let declined = cluster.silos[VICTIM.index()].events.iter().find_map(|e| match e {
            SiloEvent::Declined(_, DeclineReason::Mismatch, why) => Some(why.clone()),
            _ => None,
        });
        let why = declined.unwrap_or_else(|| panic!("joined in spite of another {named}"));
        assert!(why.contains(named), "{why} does not name {named}");
    }
}

#[test]
fn sa07_an_old_attempt_is_not_joined_again() {
    let mut cluster = cluster(4);
    let opens: Rc<RefCell<Vec<CoordinatorMessage>>> = Rc::default();
    let kept = Rc::clone(&opens);
    cluster.down = Box::new(move |silo, envelope| {
        if let (VICTIM, CoordinatorMessage::Open(_)) = (silo, &envelope.message) {
            kept.borrow_mut().push(envelope.message.clone());
        }
        vec![envelope]
    });
    cluster.silos[VICTIM.index()].crash = Some(blindsum_testkit::cluster::Crash { after: 12, restart_ms: Some(5) });
    cluster.run(1_300);
    let adverts = |c: &Cluster| {
        c.silos[VICTIM.index()].sent.iter().filter(|e| matches!(e.message, SiloMessage::Advert { .. })).count()
    };
    let before = adverts(&cluster);
    let open = opens.borrow()[0].clone();
    cluster.inject(VICTIM, open);
    assert_eq!(adverts(&cluster), before);
    cluster.finish();
    checks::check(&cluster);
}

#[test]
fn sa07_an_attempt_declined_and_abandoned_does_not_upset_the_one_in_progress() {
    let mut cluster = Cluster::new(Setup::new(4, &job_text(1, DP, "held-out")));
    let second = AttemptId { round: 1, attempt: 2 };
    let third = AttemptId { round: 1, attempt: 3 };
    let held_back: Rc<RefCell<Vec<CoordinatorMessage>>> = Rc::default();
    let opened: Rc<RefCell<Option<Open>>> = Rc::default();
    let (hold, open) = (Rc::clone(&held_back), Rc::clone(&opened));
    cluster.down = Box::new(move |silo, envelope| match &envelope.message {
        CoordinatorMessage::Shares { at, .. } if silo == VICTIM && *at == second => {
            hold.borrow_mut().push(envelope.message.clone());
            vec![]
        }
        CoordinatorMessage::Open(o) if o.context.attempt == 2 => {
            *open.borrow_mut() = Some(o.clone());
            vec![envelope]
        }
        _ => vec![envelope],
    });
    cluster.up = Box::new(|_, envelope| match &envelope.message {
        SiloMessage::MaskedInput { at: FIRST, .. } | SiloMessage::Abandon { at: FIRST, .. } => vec![],
        _ => vec![envelope],
    });
    while held_back.borrow().is_empty() {
        let next = cluster.now + 1;
        cluster.run(next);
        assert!(cluster.now < 60_000, "attempt 2 never dealt its shares");
    }
    let mut open = opened.borrow().clone().unwrap();
    open.context.attempt = 3;
    open.abandoned = vec![Abandoned { attempt: 1, certificate: AbandonCertificate(Vec::new()) }];
    cluster.inject(VICTIM, CoordinatorMessage::Open(open));
    cluster.inject(VICTIM, CoordinatorMessage::AbandonRequest { at: third });
    let shares = held_back.borrow()[0].clone();
    cluster.inject(VICTIM, shares);
    let masked = |e: &Envelope<SiloMessage>| matches!(e.message, SiloMessage::MaskedInput { at, .. } if at == second);
    assert!(cluster.silos[VICTIM.index()].sent.iter().any(masked), "{:?}", events(&cluster, VICTIM));
    cluster.down = Box::new(|_, envelope| vec![envelope]);
    cluster.finish();
    checks::check(&cluster);
    assert_eq!(cluster.reports[0].survivors.len(), 4);
}

#[test]
fn sa01_adverts_that_differ_between_silos_end_in_no_sum_with_the_victim() {
    // the victim sees another silo's key swapped: the signature fails; it sees its own advert missing: it leaves
    for swap in [true, false] {
        let mut cluster = cluster(4);
        cluster.down = Box::new(move |silo, mut envelope| {
            if let (VICTIM, CoordinatorMessage::Adverts { adverts, .. }) = (silo, &mut envelope.message) {
                if swap {
                    adverts[0].mask_key[3] ^= 1;
                } else {
                    adverts.retain(|a| a.silo != VICTIM);
                }
            }
            vec![envelope]
        });
        cluster.run(60_000);
        checks::check(&cluster);
        assert!(events(&cluster, VICTIM).iter().any(|e| e.contains("SA-01")), "{:?}", events(&cluster, VICTIM));
        let masked = |e: &Envelope<SiloMessage>| matches!(e.message, SiloMessage::MaskedInput { .. });
        assert!(!cluster.silos[VICTIM.index()].sent.iter().any(masked));
    }
}

#[test]
fn sa02_sa14_a_subset_of_adverts_shown_to_one_half_never_gives_a_sum() {
    // every signature is right, but T1 differs: shares do not open, headers do not verify
    let mut cluster = Cluster::new(Setup::new(8, &job_text(1, NONE, "held-out")));
    cluster.down = Box::new(|silo, mut envelope| {
        match &mut envelope.message {
            CoordinatorMessage::Adverts { at: FIRST, adverts } if silo.0 >= 4 => {
                adverts.retain(|a| a.silo != SiloId(0));
            }
            _ => {}
        }
        vec![envelope]
    });
    cluster.run(60_000);
    checks::check(&cluster);
    assert!(cluster.reports.iter().all(|r| r.round > 1 || r.attempt > 1), "two transcripts gave a sum");
}

#[test]
fn sa04_sa05_a_survivor_list_without_the_silo_or_with_a_forged_entry_gets_no_vote() {
    type Lie = fn(&mut SurvivorList);
    let lies: [(&str, Lie); 5] = [
        ("omits it", |l| l.0.retain(|m| m.silo != VICTIM)),
        ("another hash of its own", |l| l.0[1].hash = Digest([1; 32])),
        ("another hash of a peer", |l| l.0[0].hash = Digest([1; 32])),
        ("a repeated entry", |l| l.0[3] = l.0[2]),
        ("too short", |l| l.0.truncate(2)),
    ];
    for (name, lie) in lies {
        let mut cluster = cluster(4);
        cluster.down = Box::new(move |silo, mut envelope| {
            if let (VICTIM, CoordinatorMessage::CommitRequest { list, .. }) = (silo, &mut envelope.message) {
                lie(list);
            }
            vec![envelope]
        });
        cluster.finish();
        checks::check(&cluster);
        let voted = |e: &Envelope<SiloMessage>| matches!(e.message, SiloMessage::Commit { .. });
        assert!(!cluster.silos[VICTIM.index()].sent.iter().any(voted), "voted for a list that {name}");
    }
}

/// Shows `{all}` to the lower half and `{all without silo 0}` to the upper half, with `colluders` signing both lists, and
/// gives each half a certificate made of every vote that exists for its list. Who then holds which shares of silo 0?
fn two_lists(colluders: &[u16]) -> (Vec<(SiloId, ShareKind)>, bool) {
    let mut cluster = cluster(4);
    let (q, roster) = (usize::from(cluster.setup.plan.quorum().q), Arc::clone(&cluster.setup.roster));
    let lists: Rc<RefCell<Option<SurvivorList>>> = Rc::default();
    let votes: Rc<RefCell<BTreeMap<(bool, SiloId), CommitVote>>> = Rc::default();
    let contexts: Rc<RefCell<Option<Digest>>> = Rc::default();
    let binds: Rc<RefCell<Option<Digest>>> = Rc::default();
    let upper = |silo: SiloId| silo.0 >= 2;
    let (list, ctx, bind) = (Rc::clone(&lists), Rc::clone(&contexts), Rc::clone(&binds));
    let t1: RefCell<Option<Digest>> = RefCell::default();
    cluster.down = Box::new(move |silo, mut envelope| {
        match &mut envelope.message {
            CoordinatorMessage::Open(open) => *ctx.borrow_mut() = Some(open.context.digest()),
            CoordinatorMessage::Adverts { adverts, .. } => {
                *t1.borrow_mut() = ctx.borrow().map(|ctx| transcript::t1(&ctx, adverts));
            }
            CoordinatorMessage::Shares { headers, .. } => {
                *bind.borrow_mut() = t1.borrow().map(|t1| transcript::bind(&transcript::t2(&t1, headers)));
            }
            CoordinatorMessage::CommitRequest { list: full, .. } => {
                *list.borrow_mut() = Some(full.clone());
                if upper(silo) {
                    full.0.remove(0);
                }
            }
            _ => {}
        }
        vec![envelope]
    });
    let cast = Rc::clone(&votes);
    cluster.up = Box::new(move |silo, envelope| {
        if let SiloMessage::Commit { vote, .. } = &envelope.message {
            cast.borrow_mut().insert((upper(silo), silo), *vote);
            return vec![];
        }
        vec![envelope]
    });
    while lists.borrow().is_none() || votes.borrow().len() < 4 {
        let next = cluster.now + 1;
        cluster.run(next);
        assert!(cluster.now < 10_000, "the lists never went out");
    }
    let full = lists.borrow().clone().unwrap();
    let (ctx, bind) = (contexts.borrow().unwrap(), binds.borrow().unwrap());
    let mut all_certified = true;
    for half in [false, true] {
        let mut list = full.clone();
        if half {
            list.0.remove(0);
        }
        let t3 = transcript::t3(&bind, &list.0);
        let mut signed: BTreeMap<SiloId, CommitVote> =
            votes.borrow().iter().filter(|((h, _), _)| *h == half).map(|((_, s), v)| (*s, *v)).collect();
        for &colluder in colluders {
            let silo = SiloId(colluder);
            signed.insert(silo, CommitVote::sign(&cluster.setup.identity(silo), &ctx, silo, &t3));
        }
        all_certified &= signed.len() >= q;
        let certificate = CommitCertificate(signed.into_values().collect());
        for silo in roster.ids().filter(|&s| upper(s) == half && !colluders.contains(&s.0)) {
            cluster.inject(silo, CoordinatorMessage::RevealRequest { at: FIRST, certificate: certificate.clone() });
        }
    }
    let honest = roster.ids().filter(|s| !colluders.contains(&s.0));
    let shares = honest.flat_map(|s| reveals(&cluster, s, FIRST)).filter(|(peer, _)| *peer == SiloId(0)).collect();
    (shares, all_certified)
}

#[test]
fn sa08_two_survivor_lists_release_at_most_one_kind_of_share_and_the_bound_is_sharp() {
    let kinds = |shares: &[(SiloId, ShareKind)]| {
        let b = shares.iter().any(|(_, k)| *k == ShareKind::SelfMask);
        (b, shares.iter().any(|(_, k)| *k == ShareKind::MaskSecret))
    };
    // n = 4, c = 1, q = 3
    let (shares, _) = two_lists(&[]);
    assert_eq!(kinds(&shares), (false, false), "without colluders neither list has a quorum");
    let (shares, certified) = two_lists(&[1]);
    assert_eq!((kinds(&shares), certified), ((false, true), false), "c colluders get one list through, not both");
    let (shares, certified) = two_lists(&[1, 2]);
    assert_eq!((kinds(&shares), certified), ((true, true), true), "2q − n colluders break it: the test has teeth");
}

#[test]
fn sa08_a_certificate_that_is_short_repeated_foreign_or_over_another_list_releases_nothing() {
    type Lie = fn(&mut CommitCertificate, &Setup);
    let lies: [(&str, Lie); 4] = [
        ("short", |c, _| c.0.truncate(2)),
        ("repeated", |c, _| {
            let vote = c.0[0];
            c.0 = vec![vote; 3];
        }),
        ("over another list", |c, setup| {
            for vote in &mut c.0 {
                *vote = CommitVote::sign(&setup.identity(vote.silo), &Digest([2; 32]), vote.silo, &Digest([3; 32]));
            }
        }),
        ("by an outsider", |c, _| c.0[2].silo = SiloId(77)),
    ];
    for (name, lie) in lies {
        let mut cluster = cluster(4);
        let setup = Setup::new(4, &job_text(1, NONE, "held-out"));
        cluster.down = Box::new(move |silo, mut envelope| {
            if let (VICTIM, CoordinatorMessage::RevealRequest { certificate, .. }) = (silo, &mut envelope.message) {
                lie(certificate, &setup);
            }
            vec![envelope]
        });
        cluster.finish();
        checks::check(&cluster);
        assert!(reveals(&cluster, VICTIM, FIRST).is_empty(), "a certificate that is {name} released shares");
    }
}

#[test]
fn sa07_a_second_list_after_the_vote_changes_nothing() {
    let mut cluster = cluster(4);
    cluster.down = Box::new(|silo, envelope| {
        if let (VICTIM, CoordinatorMessage::CommitRequest { at, list }) = (silo, &envelope.message) {
            let mut other = list.clone();
            other.0.remove(0);
            let second = CoordinatorMessage::CommitRequest { at: *at, list: other };
            return vec![envelope.clone(), Envelope::bare(second)];
        }
        vec![envelope]
    });
    cluster.finish();
    checks::check(&cluster);
    assert!(reveals(&cluster, VICTIM, FIRST).iter().all(|(_, kind)| *kind == ShareKind::SelfMask));
}

#[test]
fn a_dealer_whose_shares_do_not_open_is_found_out_and_the_round_goes_on_without_it() {
    // sealed with another channel key than the one advertised, signed by the dealer itself: all others complain
    let mut cluster = Cluster::new(Setup::new(4, &job_text(1, DP, "held-out")));
    let setup = Setup::new(4, &job_text(1, DP, "held-out"));
    type Keys = Option<(Digest, Vec<Advert>)>;
    let keys: Rc<RefCell<Keys>> = Rc::default();
    let seen = Rc::clone(&keys);
    let ctx: RefCell<Option<Digest>> = RefCell::default();
    cluster.down = Box::new(move |_, envelope| {
        match &envelope.message {
            CoordinatorMessage::Open(open) => *ctx.borrow_mut() = Some(open.context.digest()),
            CoordinatorMessage::Adverts { adverts, .. } => {
                *seen.borrow_mut() = ctx.borrow().map(|ctx| (ctx, adverts.clone()));
            }
            _ => {}
        }
        vec![envelope]
    });
    cluster.up = Box::new(move |silo, mut envelope| {
        if let (VICTIM, SiloMessage::Shares { at: FIRST, dealing }) = (silo, &mut envelope.message) {
            let (ctx, adverts) = keys.borrow().clone().unwrap();
            let (roster, quorum) = (&setup.roster, setup.plan.quorum());
            let rules = Rules { roster, ctx: &ctx, quorum: &quorum };
            let adverts = verify::adverts(&rules, adverts, None, &[]).unwrap();
            let mut rng = blindsum_testkit::rng(99);
            let secrets = SessionSecrets::generate(&ctx, &mut rng);
            let identity = setup.identity(VICTIM);
            *dealing = share::deal(&identity, VICTIM, &secrets, &adverts, quorum.t, &mut rng).unwrap().0;
        }
        vec![envelope]
    });
    cluster.run(200_000);
    checks::sums_are_exact(&cluster);
    let blamed = cluster.coordinator_events.iter().any(|e| e.to_string().contains("silo 1 dealt shares"));
    assert!(blamed, "{:?}", cluster.last_events());
    assert_eq!(cluster.reports[0].survivors, [SiloId(0), SiloId(2), SiloId(3)]);
    assert_eq!(cluster.reports[0].attempt, 2);
}

/// What a test needs to speak in a silo's name: filled from what passes by, for attempt 1.
#[derive(Default)]
struct Heard {
    ctx: Option<Digest>,
    adverts: Vec<Advert>,
    bind: Option<Digest>,
}

impl Heard {
    fn note(&mut self, message: &CoordinatorMessage) {
        match message {
            CoordinatorMessage::Open(open) if open.context.round == 1 && open.context.attempt == 1 => {
                self.ctx = Some(open.context.digest());
            }
            CoordinatorMessage::Adverts { at: FIRST, adverts } => self.adverts = adverts.clone(),
            CoordinatorMessage::Shares { at: FIRST, headers, .. } => {
                let t1 = transcript::t1(&self.ctx.unwrap(), &self.adverts);
                self.bind = Some(transcript::bind(&transcript::t2(&t1, headers)));
            }
            _ => {}
        }
    }
}

#[test]
fn sa09_a_dealer_off_its_polynomial_is_left_out_of_the_whole_job_which_ends_only_where_nothing_is_fresh() {
    for (privacy, fresh) in [(DP, true), (NONE, false)] {
        let mut cluster = Cluster::new(Setup::new(4, &job_text(2, privacy, "held-out")));
        let setup = Setup::new(4, &job_text(2, privacy, "held-out"));
        let heard: Rc<RefCell<Heard>> = Rc::default();
        let note = Rc::clone(&heard);
        let own: Rc<RefCell<Option<Advert>>> = Rc::default();
        let (shown, kept) = (Rc::clone(&own), Rc::clone(&own));
        cluster.down = Box::new(move |silo, mut envelope| {
            note.borrow_mut().note(&envelope.message);
            if let (VICTIM, CoordinatorMessage::Adverts { at: FIRST, adverts }) = (silo, &mut envelope.message) {
                // the dealer's machine is shown what it sent, so that it deals at all
                adverts.iter_mut().filter(|a| a.silo == VICTIM).for_each(|a| *a = shown.borrow().clone().unwrap());
            }
            vec![envelope]
        });
        let secrets: RefCell<Option<SessionSecrets>> = RefCell::default();
        cluster.up = Box::new(move |silo, mut envelope| {
            let (identity, quorum) = (setup.identity(VICTIM), setup.plan.quorum());
            match (silo, &mut envelope.message) {
                (VICTIM, SiloMessage::Advert { at: FIRST, advert }) => {
                    let ctx = heard.borrow().ctx.unwrap();
                    let made = SessionSecrets::generate(&ctx, &mut blindsum_testkit::rng(99));
                    *kept.borrow_mut() = Some(advert.clone());
                    *advert = Advert::sign(&identity, &ctx, VICTIM, &made, advert.journal(), advert.counts);
                    *secrets.borrow_mut() = Some(made);
                }
                (VICTIM, SiloMessage::Shares { at: FIRST, dealing }) => {
                    let ctx = heard.borrow().ctx.unwrap();
                    let rules = Rules { roster: &setup.roster, ctx: &ctx, quorum: &quorum };
                    let adverts = verify::adverts(&rules, heard.borrow().adverts.clone(), None, &[]).unwrap();
                    let (secrets, mut rng) = (secrets.borrow(), blindsum_testkit::rng(98));
                    // a polynomial of one degree more: t shares rebuild something else
                    let dealt =
                        share::deal(&identity, VICTIM, secrets.as_ref().unwrap(), &adverts, quorum.t + 1, &mut rng);
                    *dealing = dealt.unwrap().0;
                }
                _ => {}
            }
            vec![envelope]
        });
        cluster.run(100_000);
        checks::sums_are_exact(&cluster);
        let store = cluster.store.iter().map(|r| codec::decode::<StoreRecord>(r, 1 << 24).unwrap());
        let convicted = store.filter(|r| matches!(r, StoreRecord::Guilty { at: FIRST, silo: VICTIM, .. })).count();
        assert_eq!(convicted, 1, "{:?}", cluster.last_events());
        let stuck = cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Stuck(_)));
        assert_eq!(stuck, !fresh, "{:?}", cluster.last_events());
        assert_eq!(cluster.reports.len(), if fresh { 3 } else { 0 });
        assert!(cluster.reports.iter().all(|r| r.cohort == [SiloId(0), SiloId(2), SiloId(3)]), "it came back");
    }
}

#[test]
fn a_silo_that_adds_a_canary_ends_a_job_without_fresh_updates_with_the_cause() {
    let mut cluster = cluster(4);
    let setup = Setup::new(4, &job_text(1, NONE, "held-out"));
    let heard: Rc<RefCell<Heard>> = Rc::default();
    let note = Rc::clone(&heard);
    cluster.down = Box::new(move |_, envelope| {
        note.borrow_mut().note(&envelope.message);
        vec![envelope]
    });
    cluster.up = Box::new(move |silo, mut envelope| {
        if let (VICTIM, SiloMessage::MaskedInput { at: FIRST, header }) = (silo, &mut envelope.message) {
            let mut packed = envelope.payload.clone().unwrap().to_vec();
            let canary = packed.len() - 24..packed.len() - 20;
            let lane = u32::from_le_bytes(packed[canary.clone()].try_into().unwrap()).wrapping_add(1);
            packed[canary].copy_from_slice(&lane.to_le_bytes());
            let heard = heard.borrow();
            let identity = setup.identity(VICTIM);
            *header = MaskedHeader::sign(&identity, &heard.ctx.unwrap(), &heard.bind.unwrap(), VICTIM, &packed);
            envelope.payload = Some(Arc::new(packed));
        }
        vec![envelope]
    });
    cluster.run(30_000);
    assert!(cluster.reports.is_empty());
    let stuck = cluster.coordinator_events.iter().filter(|e| matches!(e, CoordinatorEvent::Stuck(_)));
    let said: Vec<String> = stuck.map(|e| e.to_string()).collect();
    assert!(said.len() == 1 && said[0].contains("canary"), "{:?}", cluster.last_events());
}
