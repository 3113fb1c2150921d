//! The verified sum between machines (SA-16): false sums, lost, lying and restarted survivors.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;

use blindsum_crypto::{Digest, SiloId, Sketch, transcript};
use blindsum_protocol::coordinator::{CoordinatorEvent, StoreRecord};
use blindsum_protocol::message::RoundResult;
use blindsum_protocol::silo::SiloEvent;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, SiloMessage, codec};
use blindsum_testkit::cluster::{Cluster, KillWhen};
use blindsum_testkit::{DP, NONE, Setup, checks, job_text};

const VICTIM: SiloId = SiloId(1);
const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

fn cluster(n: u16) -> Cluster {
    Cluster::new(Setup::new(n, &job_text(1, NONE, "held-out")))
}

/// Silos that sign what they compute from any sum.
fn trusting(n: u16) -> Cluster {
    let job = job_text(1, NONE, "held-out").replace("metrics =", "verify_sum = \"off\"\nmetrics =");
    Cluster::new(Setup::new(n, &job))
}

fn events(cluster: &Cluster, silo: SiloId) -> Vec<String> {
    cluster.silos[silo.index()].events.iter().map(|e| e.to_string()).collect()
}

fn votes(cluster: &Cluster, silo: SiloId) -> usize {
    let voted = |e: &&Envelope<SiloMessage>| matches!(e.message, SiloMessage::ResultVote { at: FIRST, .. });
    cluster.silos[silo.index()].sent.iter().filter(voted).count()
}

/// A result and its payload.
type Shown = (RoundResult, Vec<u8>);

/// The first Result of an honest run, which the same seeds give again.
fn honest_result() -> Shown {
    let seen: Rc<RefCell<Option<Shown>>> = Rc::default();
    let note = Rc::clone(&seen);
    let mut dry = cluster(4);
    dry.down = Box::new(move |_, envelope| {
        if let (CoordinatorMessage::Result(result), Some(sum)) = (&envelope.message, &envelope.payload) {
            note.borrow_mut().get_or_insert_with(|| (result.clone(), sum.to_vec()));
        }
        vec![envelope]
    });
    dry.finish();
    checks::check(&dry);
    seen.borrow_mut().take().unwrap()
}

#[test]
fn sa16_one_false_sum_for_everybody_is_signed_by_nobody() {
    // the whole attack: S' is fixed first, all silos make their sketches for it, and all get the same proof
    let (mut result, mut sum) = honest_result();
    sum[5] ^= 4;
    let false_hash = transcript::sum_hash(&sum);
    let collected: Rc<RefCell<BTreeMap<SiloId, Sketch>>> = Rc::default();
    let keep = Rc::clone(&collected);
    let mut cluster = cluster(4);
    cluster.down = Box::new(move |_, mut envelope| {
        if let CoordinatorMessage::SumRequest { sum_hash, .. } = &mut envelope.message {
            *sum_hash = false_hash;
        }
        vec![envelope]
    });
    cluster.up = Box::new(move |silo, envelope| {
        if let SiloMessage::Sketch { sketch: Some(sketch), .. } = envelope.message {
            keep.borrow_mut().insert(silo, sketch);
            return vec![];
        }
        vec![envelope]
    });
    while collected.borrow().len() < 4 {
        let next = cluster.now + 1;
        cluster.run(next);
        assert!(cluster.now < 10_000, "the sketches never came");
    }
    result.proof.as_mut().unwrap().sketches = collected.borrow().values().cloned().collect();
    let payload = Arc::new(sum);
    for silo in cluster.setup.roster.ids() {
        let message = CoordinatorMessage::Result(result.clone());
        cluster.inject_envelope(silo, Envelope::with(message, Arc::clone(&payload)));
        assert_eq!(votes(&cluster, silo), 0);
        let said = events(&cluster, silo);
        assert!(said.iter().any(|e| e.contains("false one") && e.contains("SA-16")), "{said:?}");
    }
}

#[test]
fn sa16_without_the_check_the_same_lie_gets_every_signature() {
    let mut cluster = trusting(4);
    cluster.down = Box::new(|_, mut envelope| {
        if let CoordinatorMessage::Result(_) = &envelope.message {
            Arc::make_mut(envelope.payload.as_mut().unwrap())[5] ^= 4;
        }
        vec![envelope]
    });
    cluster.run(3_000);
    for silo in cluster.setup.roster.ids() {
        assert!(votes(&cluster, silo) > 0, "the attack does not reach silo {silo}: {:?}", events(&cluster, silo));
    }
}

#[test]
fn sa16_two_false_sums_for_two_halves_are_signed_by_nobody() {
    let mut cluster = cluster(4);
    cluster.down = Box::new(|silo, mut envelope| {
        if let CoordinatorMessage::Result(_) = &envelope.message {
            Arc::make_mut(envelope.payload.as_mut().unwrap())[usize::from(silo.0 % 2)] ^= 1;
        }
        vec![envelope]
    });
    cluster.run(20_000);
    checks::check(&cluster);
    assert!(cluster.reports.is_empty());
    assert!(cluster.setup.roster.ids().all(|silo| votes(&cluster, silo) == 0));
}

#[test]
fn sa16_a_sum_without_proof_or_with_another_sessions_is_not_signed() {
    type Lie = fn(&mut RoundResult);
    let lies: [(&str, Lie); 4] = [
        ("without proof", |r| r.proof = None),
        ("(SA-16)", |r| drop(r.proof.as_mut().unwrap().sketches.pop())),
        ("(SA-09)", |r| r.proof.as_mut().unwrap().secrets.swap(0, 1)),
        ("(SA-04)", |r| r.bind = Digest([7; 32])),
    ];
    for (named, lie) in lies {
        let mut cluster = cluster(4);
        cluster.down = Box::new(move |silo, mut envelope| {
            match &mut envelope.message {
                CoordinatorMessage::Result(result) if silo == VICTIM && result.certificate.is_none() => lie(result),
                _ => {}
            }
            vec![envelope]
        });
        cluster.finish();
        checks::check(&cluster);
        assert_eq!(votes(&cluster, VICTIM), 0);
        let said = events(&cluster, VICTIM);
        assert!(said.iter().any(|e| e.contains(named)), "{named}: {said:?}");
        assert_eq!(cluster.silos[VICTIM.index()].adopted.len(), 2, "it adopts what q others checked");
    }
}

#[test]
fn sa16_with_inputs_shown_every_silo_checks_all_of_them_and_nobody_is_asked_for_a_sketch() {
    let job = job_text(1, DP, "held-out").replace("metrics =", "verify_sum = \"inputs\"\nmetrics =");
    for lost in [false, true] {
        let mut cluster = Cluster::new(Setup::new(4, &job));
        let when = |m: &SiloMessage| matches!(m, SiloMessage::Reveal { .. });
        cluster.kill_when = lost.then_some(KillWhen { silo: VICTIM, when, delivered: true });
        cluster.down = Box::new(|_, envelope| {
            assert!(!matches!(envelope.message, CoordinatorMessage::SumRequest { .. }));
            match &envelope.message {
                CoordinatorMessage::Result(result) if result.at.round == 1 && result.certificate.is_none() => {
                    assert_eq!(result.opened(), result.list.0.len());
                }
                _ => {}
            }
            vec![envelope]
        });
        cluster.finish();
        checks::check(&cluster);
        assert_eq!((cluster.reports[0].attempt, cluster.reports[0].survivors.len()), (1, 4));
    }
}

#[test]
fn sa16_a_survivor_that_is_gone_before_its_sketch_costs_no_attempt() {
    for n in [4, 5, 8] {
        for delivered in [false, true] {
            let mut cluster = cluster(n);
            let when = |m: &SiloMessage| matches!(m, SiloMessage::Sketch { .. });
            cluster.kill_when = Some(KillWhen { silo: VICTIM, when, delivered });
            cluster.finish();
            checks::check(&cluster);
            let first = &cluster.reports[0];
            assert_eq!((first.attempt, first.survivors.len()), (1, usize::from(n)));
            let adopted = cluster.silos.iter().enumerate().filter(|(i, _)| *i != VICTIM.index());
            assert!(adopted.clone().all(|(_, s)| s.adopted.len() == 2));
        }
    }
}

#[test]
fn sa16_silos_restarted_before_their_sketch_get_their_masked_input_back() {
    let back: Rc<RefCell<usize>> = Rc::default();
    let count = Rc::clone(&back);
    let mut cluster = cluster(4);
    cluster.restart_when = Some(|m| matches!(m, SiloMessage::Reveal { .. }));
    cluster.down = Box::new(move |_, envelope| {
        *count.borrow_mut() +=
            usize::from(matches!(envelope.message, CoordinatorMessage::SumRequest { back: Some(_), .. }));
        if let CoordinatorMessage::Result(result) = &envelope.message {
            assert_eq!(result.opened(), 0, "nobody's masked input had to be shown");
        }
        vec![envelope]
    });
    cluster.finish();
    checks::check(&cluster);
    assert!(*back.borrow() >= 4, "{back:?}");
    assert_eq!(cluster.reports[0].attempt, 1);
}

#[test]
fn sa04_a_masked_input_handed_back_must_be_the_silos_own() {
    let mut cluster = cluster(4);
    cluster.restart_when = Some(|m| matches!(m, SiloMessage::Reveal { .. }));
    cluster.down = Box::new(|silo, mut envelope| {
        let back = matches!(envelope.message, CoordinatorMessage::SumRequest { back: Some(_), .. });
        if silo == VICTIM && back {
            Arc::make_mut(envelope.payload.as_mut().unwrap())[0] ^= 1;
        }
        vec![envelope]
    });
    cluster.finish();
    checks::check(&cluster);
    let signed = |e: &&Envelope<SiloMessage>| matches!(&e.message, SiloMessage::Sketch { at: FIRST, sketch: Some(_) });
    assert_eq!(cluster.silos[VICTIM.index()].sent.iter().filter(signed).count(), 0);
    assert!(events(&cluster, VICTIM).iter().any(|e| e.contains("not this silo's masked input")));
    assert_eq!(cluster.reports[0].attempt, 1, "its masked input is shown instead");
}

#[test]
fn sa16_a_second_sum_of_one_attempt_gets_no_sketch() {
    let mut cluster = cluster(4);
    cluster.down = Box::new(|silo, envelope| match &envelope.message {
        CoordinatorMessage::SumRequest { at, .. } if silo == VICTIM => {
            let second = CoordinatorMessage::SumRequest { at: *at, sum_hash: Digest([3; 32]), back: None };
            vec![envelope.clone(), Envelope::bare(second)]
        }
        _ => vec![envelope],
    });
    cluster.finish();
    checks::check(&cluster);
    assert!(events(&cluster, VICTIM).iter().any(|e| e.contains("two sums")));
}

/// Five silos, of which these alter one value of their sketch in the first attempt.
fn with_liars(privacy: &str, liars: &'static [SiloId]) -> Cluster {
    let mut cluster = Cluster::new(Setup::new(5, &job_text(1, privacy, "held-out")));
    let setup = Setup::new(5, &job_text(1, privacy, "held-out"));
    /// ctx, then T3 and H(S).
    type Heard = (Option<Digest>, Option<(Digest, Digest)>);
    let heard: Rc<RefCell<Heard>> = Rc::default();
    let (note, known) = (Rc::clone(&heard), heard);
    let adverts: RefCell<Option<Digest>> = RefCell::default();
    let bind: RefCell<Option<Digest>> = RefCell::default();
    let t3: RefCell<Option<Digest>> = RefCell::default();
    cluster.down = Box::new(move |_, envelope| {
        let mut note = note.borrow_mut();
        match &envelope.message {
            CoordinatorMessage::Open(open) if open.context.round == 1 => note.0 = Some(open.context.digest()),
            CoordinatorMessage::Adverts { at: FIRST, adverts: all } => {
                *adverts.borrow_mut() = Some(transcript::t1(&note.0.unwrap(), all));
            }
            CoordinatorMessage::Shares { at: FIRST, headers, .. } => {
                *bind.borrow_mut() = Some(transcript::bind(&transcript::t2(&adverts.borrow().unwrap(), headers)));
            }
            CoordinatorMessage::CommitRequest { at: FIRST, list } => {
                *t3.borrow_mut() = Some(transcript::t3(&bind.borrow().unwrap(), &list.0));
            }
            CoordinatorMessage::SumRequest { at: FIRST, sum_hash, .. } => {
                note.1 = Some((t3.borrow().unwrap(), *sum_hash));
            }
            _ => {}
        }
        vec![envelope]
    });
    cluster.up = Box::new(move |silo, mut envelope| {
        if let (true, SiloMessage::Sketch { at: FIRST, sketch: Some(sketch) }) =
            (liars.contains(&silo), &mut envelope.message)
        {
            let (ctx, Some((t3, sum_hash))) = *known.borrow() else { panic!("no sum was announced") };
            let mut values = sketch.values.clone();
            values[9 + silo.index()] ^= 1;
            *sketch = Sketch::sign(&setup.identity(silo), &ctx.unwrap(), silo, &t3, &sum_hash, values);
        }
        vec![envelope]
    });
    cluster
}

#[test]
fn sa16_a_silo_that_lies_in_its_sketch_is_named_and_the_round_goes_on() {
    // two liars whose lies cancel would pass: they change nothing then
    for privacy in [NONE, DP] {
        let mut cluster = with_liars(privacy, &[VICTIM]);
        cluster.finish();
        checks::check(&cluster);
        assert_eq!((cluster.reports[0].attempt, cluster.reports[0].survivors.len()), (1, 5));
        let store = cluster.store.iter().map(|r| codec::decode::<StoreRecord>(r, 1 << 24).unwrap());
        let convicted: Vec<_> = store.filter(|r| matches!(r, StoreRecord::Guilty { .. })).collect();
        assert!(matches!(convicted[..], [StoreRecord::Guilty { at: FIRST, silo: VICTIM, .. }]), "{convicted:?}");
        let named = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Misbehaviour(VICTIM, _));
        assert!(cluster.coordinator_events.iter().any(named));
        assert!(!cluster.reports[1].cohort.contains(&VICTIM), "it is left out of what comes");
    }
}

#[test]
fn sa16_with_more_liars_than_may_be_silent_the_job_ends_and_they_are_convicted() {
    // q = 4 of 5 must be left to sign; two is more than c = 1
    let mut cluster = with_liars(NONE, &[VICTIM, SiloId(4)]);
    cluster.run(120_000);
    let store = cluster.store.iter().map(|r| codec::decode::<StoreRecord>(r, 1 << 24).unwrap());
    let convicted: Vec<SiloId> = store
        .filter_map(|r| match r {
            StoreRecord::Guilty { silo, .. } => Some(silo),
            _ => None,
        })
        .collect();
    assert_eq!(convicted, [VICTIM, SiloId(4)]);
    let ends = |e: &CoordinatorEvent| matches!(e, CoordinatorEvent::Stuck(why) if why.contains("2 silos gave false"));
    assert!(cluster.coordinator_events.iter().any(ends), "{:?}", cluster.last_events());
    assert!(cluster.reports.is_empty());
}

#[test]
fn sa14_without_the_check_a_false_sum_given_to_one_silo_is_not_adopted_and_is_noticed() {
    let mut cluster = trusting(4);
    cluster.down = Box::new(|silo, mut envelope| {
        match &envelope.message {
            CoordinatorMessage::Result(result) if silo == VICTIM && result.certificate.is_none() => {
                let mut sum = envelope.payload.clone().unwrap().to_vec();
                sum[0] ^= 1;
                envelope.payload = Some(Arc::new(sum));
            }
            _ => {}
        }
        vec![envelope]
    });
    cluster.finish();
    checks::check(&cluster);
    assert!(cluster.silos[VICTIM.index()].events.iter().any(|e| matches!(e, SiloEvent::Forked(_))));
    assert_eq!(cluster.silos[VICTIM.index()].adopted.len(), 2, "it adopts what q others signed");
}

#[test]
fn without_the_check_a_sum_whose_canary_is_wrong_is_signed_by_nobody() {
    let mut cluster = trusting(4);
    cluster.down = Box::new(|_, mut envelope| {
        if let CoordinatorMessage::Result(_) = &envelope.message {
            let mut sum = envelope.payload.clone().unwrap().to_vec();
            let canary = sum.len() - 24;
            sum[canary] ^= 1;
            envelope.payload = Some(Arc::new(sum));
        }
        vec![envelope]
    });
    cluster.run(20_000);
    checks::check(&cluster);
    assert!(cluster.reports.is_empty());
    assert!(events(&cluster, VICTIM).iter().any(|e| e.contains("canary")));
    let voted = |e: &Envelope<SiloMessage>| matches!(e.message, SiloMessage::ResultVote { .. });
    assert!(cluster.silos.iter().all(|s| !s.sent.iter().any(voted)));
}
