//! The phases of the coordinator's machine, each named for what it collects and holding only what is legal there. What they
//! answer is in `stage.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindsum_crypto::unmask::Recovery;
use blindsum_crypto::verify::{VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{
    AbandonCertificate, AbandonVote, Advert, CommitCertificate, CommitVote, Complaint, Digest, MaskedHeader,
    ResultVote, Reveal, SiloId, Sketch, SumProof,
};

use crate::coordinator::stage::Stage;
use crate::coordinator::store::StoredResult;
use crate::message::{AttemptId, CoordinatorMessage, Envelope, Payload};
use crate::plan::RoundKind;
use crate::step::Step;

/// What every state of an attempt carries.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    pub at: AttemptId,
    pub kind: RoundKind,
    pub ctx: Digest,
    pub opened_ms: u64,
    /// When the phase ends for silos that are connected.
    pub deadline: u64,
    /// How long a silo without connection is waited for.
    pub grace: u64,
}

/// The phase that the machine is in.
pub(super) enum State {
    Gathering(Box<Gathering>),
    CollectAdverts(Box<CollectAdverts>),
    CollectShares(Box<CollectShares>),
    CollectMasked(Box<CollectMasked>),
    CollectCommits(Box<CollectCommits>),
    CollectReveals(Box<CollectReveals>),
    Unmasking(Box<Unmasking>),
    CollectSketches(Box<CollectSketches>),
    CollectResults(Box<CollectResults>),
    Closing(Box<Closing>),
    Finished(Box<Finished>),
    Stuck(Box<Stuck>),
}

/// The same for whichever phase it is.
macro_rules! each {
    ($state:expr, $stage:ident => $then:expr) => {
        match $state {
            State::Gathering($stage) => $then,
            State::CollectAdverts($stage) => $then,
            State::CollectShares($stage) => $then,
            State::CollectMasked($stage) => $then,
            State::CollectCommits($stage) => $then,
            State::CollectReveals($stage) => $then,
            State::Unmasking($stage) => $then,
            State::CollectSketches($stage) => $then,
            State::CollectResults($stage) => $then,
            State::Closing($stage) => $then,
            State::Finished($stage) => $then,
            State::Stuck($stage) => $then,
        }
    };
}

impl State {
    pub fn stage(&self) -> &dyn Stage {
        each!(self, stage => stage.as_ref())
    }

    pub fn stage_mut(&mut self) -> &mut dyn Stage {
        each!(self, stage => stage.as_mut())
    }

    pub fn into_stage(self) -> Box<dyn Stage> {
        each!(self, stage => stage)
    }
}

/// Waits for silos, for the end of the pause after a failed attempt, and for proofs that attempts are abandoned.
pub(super) struct Gathering {
    pub not_before: u64,
    pub proofs_until: u64,
}

/// All rounds are certified; silos fetch the last result.
pub(super) struct Closing {
    pub deadline: u64,
}

pub(super) struct Finished;

/// Only a person can help.
pub(super) struct Stuck;

pub(super) struct CollectAdverts {
    pub attempt: Attempt,
    /// Silos that the attempt was opened to.
    pub asked: BTreeSet<SiloId>,
    /// Silos that declined or were dropped.
    pub gone: BTreeSet<SiloId>,
    /// Silos that declined because they cannot train.
    pub unable: BTreeSet<SiloId>,
    pub adverts: BTreeMap<SiloId, Advert>,
}

pub(super) struct CollectShares {
    pub attempt: Attempt,
    pub adverts: VerifiedAdverts,
    pub gone: BTreeSet<SiloId>,
    pub dealings: BTreeMap<SiloId, VerifiedDealing>,
}

impl CollectShares {
    /// P1: everybody's adverts, to those who advertised.
    pub fn message_to(&self, silo: SiloId) -> Option<CoordinatorMessage> {
        self.adverts.get(silo)?;
        Some(CoordinatorMessage::Adverts { at: self.attempt.at, adverts: self.adverts.adverts().to_vec() })
    }
}

/// A session past P2.
pub(super) struct DealtSession {
    pub attempt: Attempt,
    pub adverts: VerifiedAdverts,
    pub headers: VerifiedHeaders,
    pub dealings: BTreeMap<SiloId, VerifiedDealing>,
    /// Σ y of the accepted masked inputs, one lane per coordinate.
    pub acc: Vec<u32>,
}

impl DealtSession {
    /// P2: everybody's headers and what is sealed for this silo, to those who dealt.
    pub fn message_to(&self, silo: SiloId) -> Option<CoordinatorMessage> {
        self.headers.get(silo)?;
        let headers = self.headers.headers().to_vec();
        let deliveries = self.dealings.values().filter_map(|d| d.delivery(silo)).collect();
        Some(CoordinatorMessage::Shares { at: self.attempt.at, headers, deliveries })
    }
}

pub(super) struct CollectMasked {
    pub dealt: DealtSession,
    pub gone: BTreeSet<SiloId>,
    pub masked: BTreeMap<SiloId, MaskedHeader>,
    /// Dealer → who complains about it, and how.
    pub complaints: BTreeMap<SiloId, BTreeMap<SiloId, Complaint>>,
}

pub(super) struct CollectCommits {
    pub dealt: DealtSession,
    pub list: VerifiedList,
    pub votes: BTreeMap<SiloId, CommitVote>,
}

impl CollectCommits {
    /// P4: the survivor list, to the survivors.
    pub fn message_to(&self, silo: SiloId) -> Option<CoordinatorMessage> {
        list_message(self.dealt.attempt.at, &self.list, silo)
    }
}

fn list_message(at: AttemptId, list: &VerifiedList, silo: SiloId) -> Option<CoordinatorMessage> {
    list.survivors().contains(&silo).then(|| CoordinatorMessage::CommitRequest { at, list: list.list().clone() })
}

pub(super) struct CollectReveals {
    pub dealt: DealtSession,
    pub list: VerifiedList,
    pub certificate: CommitCertificate,
    pub recovery: Recovery,
    /// Good replies.
    pub answered: BTreeMap<SiloId, Reveal>,
    /// Replies that convicted their senders.
    pub bad: BTreeMap<SiloId, Reveal>,
    /// Replies that a try to rebuild the secrets has failed with; the next one needs more.
    pub tried: usize,
}

impl CollectReveals {
    /// P4 once more, for a survivor that is back.
    pub fn list_message_to(&self, silo: SiloId) -> Option<CoordinatorMessage> {
        list_message(self.dealt.attempt.at, &self.list, silo)
    }

    /// P5: the certificate, to the survivors.
    pub fn message_to(&self, silo: SiloId) -> Option<CoordinatorMessage> {
        let (at, certificate) = (self.dealt.attempt.at, &self.certificate);
        let survives = self.list.survivors().contains(&silo);
        survives.then(|| CoordinatorMessage::RevealRequest { at, certificate: certificate.clone() })
    }

    /// Survivors whose reply is not in.
    pub fn unanswered(&self) -> Vec<SiloId> {
        let replied = |id: &SiloId| self.answered.contains_key(id) || self.bad.contains_key(id);
        self.list.survivors().iter().copied().filter(|id| !replied(id)).collect()
    }

    /// Whether the secrets can be tried (again).
    pub fn is_ready(&self) -> bool {
        self.recovery.is_ready() && self.answered.len() > self.tried
    }
}

pub(super) struct Unmasking {
    pub attempt: Attempt,
    pub cohort: Vec<SiloId>,
    pub bind: Digest,
    pub adverts: VerifiedAdverts,
    pub list: VerifiedList,
    pub certificate: CommitCertificate,
    pub dealings: BTreeMap<SiloId, VerifiedDealing>,
    pub answered: BTreeMap<SiloId, Reveal>,
    pub bad: BTreeMap<SiloId, Reveal>,
}

/// A sum for which the survivors vouch with sketches (SA-16).
pub(super) struct CollectSketches {
    pub attempt: Attempt,
    pub result: Arc<StoredResult>,
    pub step: Step,
    pub adverts: VerifiedAdverts,
    pub headers: VerifiedHeaders,
    pub list: VerifiedList,
    /// Key of the rows: H("rows"; T3, H(S)).
    pub key: Digest,
    pub sum_hash: Digest,
    /// Subset sums of Σ y under these rows.
    pub expected: Vec<u32>,
    /// Sketches, or none from survivors that cannot or do not make one.
    pub answers: BTreeMap<SiloId, Option<Sketch>>,
    /// Silos that were restarted and got, or are getting, their masked input back.
    pub handed_back: BTreeSet<SiloId>,
    /// Of them, those whose masked input is being read back.
    pub returning: BTreeSet<SiloId>,
    /// Silos whose sketch was found false: they are not asked again.
    pub liars: BTreeSet<SiloId>,
    /// Silos whose sketch was found right by itself.
    pub checked: BTreeSet<SiloId>,
    pub busy: Busy,
}

impl CollectSketches {
    /// P6: asks a survivor for its sketch.
    pub fn message_to(&self, silo: SiloId) -> Option<CoordinatorMessage> {
        self.list.survivors().binary_search(&silo).ok()?;
        Some(CoordinatorMessage::SumRequest { at: self.attempt.at, sum_hash: self.sum_hash, back: None })
    }

    /// Survivors without a sketch, ascending.
    pub fn silent(&self) -> Vec<SiloId> {
        let silent = |id: &SiloId| !matches!(self.answers.get(id), Some(Some(_)));
        self.list.survivors().iter().copied().filter(silent).collect()
    }
}

/// What the driver does for [`CollectSketches`] at the moment.
pub(super) enum Busy {
    No,
    /// Too many silos vouch for nothing: until the deadline, who comes back is asked, then everybody is.
    Waiting,
    /// Reads back, then adds up, the masked inputs of the silos without a sketch.
    Opening(Vec<(SiloId, Payload)>),
    /// Reads back one masked input, then compares it with its silo's sketch.
    Checking(SiloId, Payload),
}

pub(super) struct CollectResults {
    pub attempt: Attempt,
    pub result: Arc<StoredResult>,
    pub step: Step,
    /// What silos check the sum with, if the job asks for it.
    pub proof: Option<SumProof>,
    /// S, then the masked inputs that the proof opens.
    pub payload: Payload,
    pub votes: BTreeMap<SiloId, ResultVote>,
}

impl CollectResults {
    /// P6: the sum with what it is checked with, to everybody.
    pub fn message(&self) -> Envelope<CoordinatorMessage> {
        self.result.envelope(None, self.proof.clone(), Arc::clone(&self.payload))
    }
}

/// An attempt of the round in progress in which masked inputs may have gone out.
pub(super) struct Exposed {
    pub attempt: u32,
    pub ctx: Digest,
    pub votes: BTreeMap<SiloId, AbandonVote>,
    pub certificate: Option<AbandonCertificate>,
    /// T3, where the attempt came to a survivor list.
    pub t3: Option<Digest>,
    /// COMMIT votes over it.
    pub commits: BTreeMap<SiloId, CommitVote>,
}

impl Exposed {
    /// Without votes yet.
    pub fn new(attempt: u32, ctx: Digest, certificate: Option<AbandonCertificate>) -> Exposed {
        Exposed { attempt, ctx, votes: BTreeMap::new(), certificate, t3: None, commits: BTreeMap::new() }
    }
}
