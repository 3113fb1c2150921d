//! The coordinator's own checks: what one lying silo can do to the others, and bytes without bound.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::teeth::bites;
use blindsum_crypto::verify::{self, Check, Rules};
use blindsum_crypto::{
    AbandonVote, Advert, CommitCertificate, CommitVote, Digest, MaskedHeader, SiloId, SumProof, SurvivorList, share,
    transcript,
};
use blindsum_protocol::coordinator::{
    CoordinatorEvent, CoordinatorMachine, CoordinatorOutput, CoordinatorSetup, StoreState,
};
use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::message::{Hello, RoundResult};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, SiloMessage, codec};

use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{NONE, Setup, job_text, rng};

const LIAR: SiloId = SiloId(1);
const FIRST: AttemptId = AttemptId { round: 1, attempt: 1 };

fn setup() -> Setup {
    Setup::new(4, &job_text(1, NONE, "held-out"))
}

#[test]
fn sa01_teeth_another_silos_vote_sent_in_its_name_stops_the_job() {
    bites(&[Check::SameSender], || {
        let mut cluster = Cluster::new(setup());
        let stolen: Rc<RefCell<Option<CommitVote>>> = Rc::default();
        cluster.up = Box::new(move |silo, mut envelope| {
            if let SiloMessage::Commit { at: FIRST, vote } = &mut envelope.message {
                match silo {
                    LIAR => *vote = stolen.borrow().unwrap(),
                    _ => *stolen.borrow_mut() = Some(*vote),
                }
            }
            vec![envelope]
        });
        cluster.run(60_000);
        cluster.reports.is_empty()
    });
}

#[test]
fn sa07_teeth_a_silo_that_sends_two_masked_inputs_goes_without_blame() {
    bites(&[Check::OneMessage], || {
        let mut cluster = Cluster::new(setup());
        cluster.up = Box::new(|silo, envelope| {
            let mut second = envelope.clone();
            match &mut second.message {
                SiloMessage::MaskedInput { at: FIRST, header } if silo == LIAR => header.hash = Digest([1; 32]),
                _ => return vec![envelope],
            }
            vec![envelope, second]
        });
        cluster.finish();
        !cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Misbehaviour(LIAR, _)))
    });
}

/// What a liar needs to sign in its own name: filled from what passes by, for attempt 1.
#[derive(Default)]
struct Heard {
    ctx: Option<Digest>,
    adverts: Vec<Advert>,
    bind: Option<Digest>,
}

fn listening(setup: Setup) -> (Cluster, Rc<RefCell<Heard>>) {
    let (mut cluster, heard) = (Cluster::new(setup), Rc::<RefCell<Heard>>::default());
    let note = Rc::clone(&heard);
    cluster.down = Box::new(move |_, envelope| {
        let mut heard = note.borrow_mut();
        match &envelope.message {
            CoordinatorMessage::Open(o) if (o.context.round, o.context.attempt) == (1, 1) => {
                heard.ctx = Some(o.context.digest());
            }
            CoordinatorMessage::Adverts { at: FIRST, adverts } => heard.adverts = adverts.clone(),
            CoordinatorMessage::Shares { at: FIRST, headers, .. } => {
                let t1 = transcript::t1(&heard.ctx.unwrap(), &heard.adverts);
                heard.bind = Some(transcript::bind(&transcript::t2(&t1, headers)));
            }
            _ => {}
        }
        drop(heard);
        vec![envelope]
    });
    (cluster, heard)
}

#[test]
fn sa07_teeth_a_silo_that_votes_both_ways_goes_without_blame() {
    bites(&[Check::OneVote], || {
        let ((mut cluster, heard), setup) = (listening(setup()), setup());
        cluster.up = Box::new(move |silo, envelope| {
            if let (LIAR, SiloMessage::Commit { at: FIRST, .. }) = (silo, &envelope.message) {
                let vote = AbandonVote::sign(&setup.identity(LIAR), &heard.borrow().ctx.unwrap(), LIAR);
                return vec![envelope, Envelope::bare(SiloMessage::Abandon { at: FIRST, vote })];
            }
            vec![envelope]
        });
        cluster.finish();
        !cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Misbehaviour(LIAR, _)))
    });
}

#[test]
fn sa03_sa09_teeth_a_dealer_of_bad_shares_ends_the_job() {
    // sealed with another key than the one advertised: nobody can open them, and everybody complains
    bites(&[Check::ComplaintsConvict, Check::EnoughGoodShares], || {
        let ((mut cluster, heard), setup) = (listening(setup()), setup());
        cluster.up = Box::new(move |silo, mut envelope| {
            if let (LIAR, SiloMessage::Shares { at: FIRST, dealing }) = (silo, &mut envelope.message) {
                let (heard, quorum) = (heard.borrow(), setup.plan.quorum());
                let ctx = heard.ctx.unwrap();
                let rules = Rules { roster: &setup.roster, ctx: &ctx, quorum: &quorum };
                let adverts = verify::adverts(&rules, heard.adverts.clone(), None, &[]).unwrap();
                let secrets = SessionSecrets::generate(&ctx, &mut rng(99));
                let identity = setup.identity(LIAR);
                *dealing = share::deal(&identity, LIAR, &secrets, &adverts, quorum.t, &mut rng(98)).unwrap().0;
            }
            vec![envelope]
        });
        cluster.run(60_000);
        let stuck = cluster.coordinator_events.iter().any(|e| matches!(e, CoordinatorEvent::Stuck(_)));
        stuck && cluster.reports.is_empty()
    });
}

#[test]
fn sa12_sa04_teeth_a_short_masked_input_brings_the_coordinator_down() {
    bites(&[Check::PayloadLength, Check::ExactLength], || {
        let ((mut cluster, heard), setup) = (listening(setup()), setup());
        cluster.up = Box::new(move |silo, mut envelope| {
            if let (LIAR, SiloMessage::MaskedInput { at: FIRST, header }) = (silo, &mut envelope.message) {
                let short = vec![0; 5];
                let heard = heard.borrow();
                let identity = setup.identity(LIAR);
                *header = MaskedHeader::sign(&identity, &heard.ctx.unwrap(), &heard.bind.unwrap(), LIAR, &short);
                envelope.payload = Some(Arc::new(short));
            }
            vec![envelope]
        });
        catch_unwind(AssertUnwindSafe(|| cluster.run(60_000))).is_err()
    });
}

/// Does a coordinator count a silo with this Hello among those ready for a session?
fn is_welcome(change: fn(&mut Hello)) -> bool {
    let setup = setup();
    let (roster, plan) = (Arc::clone(&setup.roster), Arc::clone(&setup.plan));
    let mut machine =
        CoordinatorMachine::new(CoordinatorSetup { roster, plan, store: StoreState::default() }, 0).unwrap();
    let mut hello = Hello {
        roster_hash: setup.plan.roster_hash(),
        job_digest: setup.plan.job_digest(),
        results_held: 0,
        result_hash: setup.plan.job_digest(),
        newest: AttemptId { round: 0, attempt: 0 },
    };
    change(&mut hello);
    machine.handle_connected(LIAR, 0);
    machine.handle_message(LIAR, Envelope::bare(SiloMessage::Hello(hello)), 0);
    let outputs = std::iter::from_fn(|| machine.poll_output());
    outputs.into_iter().any(|o| matches!(o, CoordinatorOutput::Event(CoordinatorEvent::Ready(LIAR))))
}

#[test]
fn sa01_sa02_sa14_teeth_a_silo_of_another_roster_job_or_history_is_counted_as_ready() {
    assert!(is_welcome(|_| {}));
    bites(&[Check::HelloRoster], || is_welcome(|h| h.roster_hash = Digest([3; 32])));
    bites(&[Check::HelloJob], || is_welcome(|h| h.job_digest = Digest([3; 32])));
    bites(&[Check::HelloHistory], || is_welcome(|h| h.result_hash = Digest([3; 32])));
}

#[test]
fn sa12_teeth_a_coordinator_makes_a_silo_wait_for_any_number_of_bytes() {
    bites(&[Check::MostOpened], || {
        let (setup, none) = (setup(), Vec::new());
        let limits = Limits::new(&setup.plan);
        let opened = (0..1000).map(SiloId).collect();
        let proof = SumProof { adverts: none, headers: Vec::new(), secrets: Vec::new(), sketches: Vec::new(), opened };
        let result = RoundResult {
            at: FIRST,
            bind: Digest([0; 32]),
            list: SurvivorList(Vec::new()),
            commits: CommitCertificate(Vec::new()),
            certificate: None,
            proof: Some(Box::new(proof)),
        };
        let announced = CoordinatorMessage::Result(result).payload_len(&limits);
        announced.is_ok_and(|length| length > Some(CoordinatorMessage::max_payload(&limits)))
    });
}

#[test]
fn sa12_teeth_a_message_longer_than_any_of_the_job_is_decoded() {
    bites(&[Check::FrameLength], || {
        let limits = Limits::new(&setup().plan);
        let votes = vec![CommitVote { silo: LIAR, signature: blindsum_crypto::Signature([0; 64]) }; 10_000];
        let message = CoordinatorMessage::RevealRequest { at: FIRST, certificate: CommitCertificate(votes) };
        let bytes = codec::encode(&message).unwrap();
        bytes.len() > limits.from_coordinator() && CoordinatorMessage::decode(&bytes, &limits).is_ok()
    });
}
