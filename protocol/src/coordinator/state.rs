//! The states of the coordinator's machine, each named for what it awaits and holding only what is legal there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindsum_crypto::unmask::Recovery;
use blindsum_crypto::verify::{VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{
    AbandonCertificate, AbandonVote, Advert, CommitCertificate, CommitVote, Complaint, Digest, MaskedHeader,
    ResultVote, Reveal, SiloId, Sketch, SumProof,
};

use crate::coordinator::api::Phase;
use crate::coordinator::store::StoredResult;
use crate::message::{AttemptId, Payload};
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

/// The state of the machine.
pub(super) enum State {
    /// Waits for silos, for the end of the pause after a failed attempt, and for proofs that attempts are abandoned.
    Gathering {
        not_before: u64,
        proofs_until: u64,
    },
    AwaitAdverts(AwaitAdverts),
    AwaitShares(AwaitShares),
    AwaitMasked(Box<AwaitMasked>),
    AwaitCommits(Box<AwaitCommits>),
    AwaitReveals(Box<AwaitReveals>),
    AwaitUnmask(Box<AwaitUnmask>),
    AwaitSketches(Box<AwaitSketches>),
    AwaitResults(Box<AwaitResults>),
    /// All rounds are certified; silos fetch the last result.
    Closing {
        deadline: u64,
    },
    Finished,
    /// Only a person can help.
    Stuck,
}

pub(super) struct AwaitAdverts {
    pub attempt: Attempt,
    /// Silos that the attempt was opened to.
    pub asked: BTreeSet<SiloId>,
    /// Silos that declined or were dropped.
    pub gone: BTreeSet<SiloId>,
    /// Silos that declined because they cannot train.
    pub unable: BTreeSet<SiloId>,
    pub adverts: BTreeMap<SiloId, Advert>,
}

pub(super) struct AwaitShares {
    pub attempt: Attempt,
    pub adverts: VerifiedAdverts,
    pub gone: BTreeSet<SiloId>,
    pub dealings: BTreeMap<SiloId, VerifiedDealing>,
}

/// A session past P2.
pub(super) struct Shared {
    pub attempt: Attempt,
    pub adverts: VerifiedAdverts,
    pub headers: VerifiedHeaders,
    pub dealings: BTreeMap<SiloId, VerifiedDealing>,
    /// Σ y of the accepted masked inputs, one lane per coordinate.
    pub acc: Vec<u32>,
}

pub(super) struct AwaitMasked {
    pub shared: Shared,
    pub gone: BTreeSet<SiloId>,
    pub masked: BTreeMap<SiloId, MaskedHeader>,
    /// Dealer → who complains about it, and how.
    pub complaints: BTreeMap<SiloId, BTreeMap<SiloId, Complaint>>,
}

pub(super) struct AwaitCommits {
    pub shared: Shared,
    pub list: VerifiedList,
    pub votes: BTreeMap<SiloId, CommitVote>,
}

pub(super) struct AwaitReveals {
    pub shared: Shared,
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

impl AwaitReveals {
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

pub(super) struct AwaitUnmask {
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
pub(super) struct AwaitSketches {
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

impl AwaitSketches {
    /// Survivors without a sketch, ascending.
    pub fn silent(&self) -> Vec<SiloId> {
        let silent = |id: &SiloId| !matches!(self.answers.get(id), Some(Some(_)));
        self.list.survivors().iter().copied().filter(silent).collect()
    }
}

/// What the driver does for [`AwaitSketches`] at the moment.
pub(super) enum Busy {
    No,
    /// Too many silos vouch for nothing: until the deadline, who comes back is asked, then everybody is.
    Waiting,
    /// Reads back, then adds up, the masked inputs of the silos without a sketch.
    Opening(Vec<(SiloId, Payload)>),
    /// Reads back one masked input, then compares it with its silo's sketch.
    Checking(SiloId, Payload),
}

pub(super) struct AwaitResults {
    pub attempt: Attempt,
    pub result: Arc<StoredResult>,
    pub step: Step,
    /// What silos check the sum with, if the job asks for it.
    pub proof: Option<SumProof>,
    /// S, then the masked inputs that the proof opens.
    pub payload: Payload,
    pub votes: BTreeMap<SiloId, ResultVote>,
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

impl State {
    pub fn phase(&self) -> Phase {
        match self {
            State::Gathering { .. } => Phase::Gathering,
            State::AwaitAdverts(_) => Phase::Advertise,
            State::AwaitShares(_) => Phase::Share,
            State::AwaitMasked(_) => Phase::MaskedInput,
            State::AwaitCommits(_) => Phase::Commit,
            State::AwaitReveals(_) => Phase::Reveal,
            State::AwaitUnmask(_) => Phase::Unmask,
            State::AwaitSketches(_) => Phase::Prove,
            State::AwaitResults(_) => Phase::Result,
            State::Closing { .. } | State::Finished | State::Stuck => Phase::Finished,
        }
    }

    pub fn attempt(&self) -> Option<&Attempt> {
        match self {
            State::AwaitAdverts(s) => Some(&s.attempt),
            State::AwaitShares(s) => Some(&s.attempt),
            State::AwaitMasked(s) => Some(&s.shared.attempt),
            State::AwaitCommits(s) => Some(&s.shared.attempt),
            State::AwaitReveals(s) => Some(&s.shared.attempt),
            State::AwaitUnmask(s) => Some(&s.attempt),
            State::AwaitSketches(s) => Some(&s.attempt),
            State::AwaitResults(s) => Some(&s.attempt),
            State::Gathering { .. } | State::Closing { .. } | State::Finished | State::Stuck => None,
        }
    }

    /// The silos of the phase that have not done their part yet.
    pub fn missing(&self) -> Vec<SiloId> {
        fn without<'a, V>(
            ids: impl Iterator<Item = SiloId>,
            done: &'a BTreeMap<SiloId, V>,
            gone: &'a BTreeSet<SiloId>,
        ) -> Vec<SiloId> {
            ids.filter(|id| !done.contains_key(id) && !gone.contains(id)).collect()
        }
        let none = BTreeSet::new();
        match self {
            State::AwaitAdverts(s) => without(s.asked.iter().copied(), &s.adverts, &s.gone),
            State::AwaitShares(s) => without(s.adverts.ids(), &s.dealings, &s.gone),
            State::AwaitMasked(s) => without(s.shared.headers.ids(), &s.masked, &s.gone),
            State::AwaitCommits(s) => without(s.list.survivors().iter().copied(), &s.votes, &none),
            State::AwaitReveals(s) => s.unanswered(),
            State::AwaitSketches(s) => without(s.list.survivors().iter().copied(), &s.answers, &none),
            _ => Vec::new(),
        }
    }
}
