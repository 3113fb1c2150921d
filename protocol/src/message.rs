//! What travels between a silo and the coordinator.
//!
//! ```text
//! silo                              coordinator
//! Hello ──────────────────────────►
//!       ◄────────────────────────── Result* (those it lacks, certified)
//! P0    ◄────────────────────────── Open
//! P1    Advert ───────────────────► Adverts (to all advertised)
//! P2    Shares ───────────────────► Shares (to all sharers: headers, own bundles)
//! P3    MaskedInput + y ──────────►
//! P4    ◄────────────────────────── CommitRequest (to the survivors) ; Commit ►
//! P5    ◄────────────────────────── RevealRequest ; Reveal ►
//! P6    ◄────────────────────────── SumRequest (to the survivors) ; Sketch ►
//!       ◄────────────────────────── Result + S (to all) ; ResultVote ► ; ◄ Certified (to all)
//! ```
//! AbandonRequest / Abandon may come after any failed attempt; Decline answers an Open.
//!
//! Contract: these types hold no counts, losses or accuracies: those travel inside the sum. Big vectors (y and S) are
//! payloads beside the message ([`Envelope`]); their exact length follows from the round ([`crate::limits::Limits`]),
//! never from the sender.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::{
    AbandonCertificate, AbandonVote, Advert, CommitCertificate, CommitVote, Complaint, Context, Dealing, Delivery,
    Digest, MaskedHeader, ResultCertificate, ResultVote, Reveal, ShareHeader, Sketch, SumProof, SurvivorList,
};
use serde::{Deserialize, Serialize};

/// A round and an attempt at it, both counted from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttemptId {
    /// Round within the job.
    pub round: u32,
    /// Attempt within the round.
    pub attempt: u32,
}

impl fmt::Display for AttemptId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {} attempt {}", self.round, self.attempt)
    }
}

/// Raw bytes beside a message: a packed vector. Shared, since S goes to every silo.
pub type Payload = Arc<Vec<u8>>;

/// A message with its payload, if it is one that has one.
#[derive(Debug, Clone, PartialEq)]
pub struct Envelope<M> {
    /// The control message.
    pub message: M,
    /// y for `MaskedInput` and where `SumRequest` hands it back; for `Result` S, then the masked inputs that its proof
    /// opens; else nothing.
    pub payload: Option<Payload>,
}

impl<M> Envelope<M> {
    /// A message without payload.
    pub fn bare(message: M) -> Self {
        Self { message, payload: None }
    }

    /// A message with payload.
    pub fn with(message: M, payload: Payload) -> Self {
        Self { message, payload: Some(payload) }
    }
}

/// First message of a silo on every connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The roster that the silo pinned.
    pub roster_hash: Digest,
    /// The job that it was told to take part in.
    pub job_digest: Digest,
    /// Rounds whose certified result it holds: 0 at first.
    pub results_held: u32,
    /// Result hash of the last of them; the job digest at first.
    pub result_hash: Digest,
    /// The newest attempt that it took note of, so that a coordinator counts on from there.
    pub newest: AttemptId,
}

/// Why a silo does not take part in an attempt. Says nothing about its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeclineReason {
    /// The opening differs from the silo's own job, roster or state.
    Mismatch,
    /// Its masked input went out in an earlier attempt that is not proven abandoned, and a fresh update would differ
    /// too little: it waits for that attempt's result.
    AwaitsResult,
    /// Its training cannot run (policy, ledger or fault; the silo's own log says which).
    CannotTrain,
    /// The phase's message did not pass its checks.
    Refused,
}

impl DeclineReason {
    /// A closed-set name.
    pub fn name(self) -> &'static str {
        match self {
            DeclineReason::Mismatch => "mismatch",
            DeclineReason::AwaitsResult => "awaits-result",
            DeclineReason::CannotTrain => "cannot-train",
            DeclineReason::Refused => "refused",
        }
    }
}

impl fmt::Display for DeclineReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DeclineReason::Mismatch => {
                "the attempt does not continue what it holds, as after a restart; it joins the next one"
            }
            DeclineReason::AwaitsResult => {
                "its update of this round went out in an earlier attempt, and it waits for that one's result"
            }
            DeclineReason::CannotTrain => "it cannot train now (its policy, its privacy ledger, or a fault)",
            DeclineReason::Refused => "a message of this attempt did not pass its checks",
        })
    }
}

/// From a silo to the coordinator.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SiloMessage {
    /// First on each connection.
    Hello(Hello),
    /// Not this time; before the masked input only.
    Decline {
        /// The attempt declined.
        at: AttemptId,
        /// Why.
        reason: DeclineReason,
    },
    /// P1.
    Advert {
        /// Attempt.
        at: AttemptId,
        /// Session keys, signed.
        advert: Advert,
    },
    /// P2.
    Shares {
        /// Attempt.
        at: AttemptId,
        /// Signed commitments, and one sealed pair of shares per silo of U1.
        dealing: Dealing,
    },
    /// A dealer's bundle did not open to what it committed to.
    Complaint {
        /// Attempt.
        at: AttemptId,
        /// Who complains about whom, signed.
        complaint: Complaint,
    },
    /// P3; the payload is y.
    MaskedInput {
        /// Attempt.
        at: AttemptId,
        /// Hash of y, signed.
        header: MaskedHeader,
    },
    /// P4.
    Commit {
        /// Attempt.
        at: AttemptId,
        /// The vote.
        vote: CommitVote,
    },
    /// The other vote.
    Abandon {
        /// Attempt.
        at: AttemptId,
        /// The vote.
        vote: AbandonVote,
    },
    /// P5.
    Reveal {
        /// Attempt.
        at: AttemptId,
        /// Per sharer, one of the two shares.
        reveal: Reveal,
    },
    /// P6: subset sums of the own masked input, or none where this silo no longer holds it.
    Sketch {
        /// Attempt.
        at: AttemptId,
        /// Signed; [`None`] asks the coordinator to show the masked input itself to everybody.
        sketch: Option<Sketch>,
    },
    /// P6.
    ResultVote {
        /// Attempt whose result this is.
        at: AttemptId,
        /// The vote.
        vote: ResultVote,
    },
}

/// P0: what an attempt is about. The silo compares every field with its own state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Open {
    /// What every signature of the session is bound to; holds round and attempt.
    pub context: Context,
    /// Proof, per earlier attempt of this round, that it can never commit; ascending.
    pub abandoned: Vec<Abandoned>,
}

/// Proof that one attempt can never commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Abandoned {
    /// The attempt of the same round.
    pub attempt: u32,
    /// q ABANDON votes.
    pub certificate: AbandonCertificate,
}

/// What shows a silo that a masked input is its own: the list that it voted for holds the hash.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MaskedBack {
    /// H("bind"; T2) of the session.
    pub bind: Digest,
    /// The survivors.
    pub list: SurvivorList,
}

/// P6: a round's result as a silo can check it. The payload is S, packed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundResult {
    /// Attempt that committed.
    pub at: AttemptId,
    /// H("bind"; T2) of the session: lets a silo that was not part of it check the rest.
    pub bind: Digest,
    /// The survivors with the signed hash of each one's masked input.
    pub list: SurvivorList,
    /// q COMMIT votes over that list.
    pub commits: CommitCertificate,
    /// q RESULT votes, once there are; a silo that gets none checks the sum, votes itself and waits for `Certified`.
    pub certificate: Option<ResultCertificate>,
    /// What the sum is checked with, where there are no votes yet and the job asks for it (SA-16).
    pub proof: Option<Box<SumProof>>,
}

impl RoundResult {
    /// Masked inputs that travel whole beside S.
    pub fn opened(&self) -> usize {
        self.proof.as_ref().map_or(0, |proof| proof.opened.len())
    }
}

/// From the coordinator to a silo.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum CoordinatorMessage {
    /// P0.
    Open(Open),
    /// P1: everybody's adverts, ascending by silo.
    Adverts {
        /// Attempt.
        at: AttemptId,
        /// At least m.
        adverts: Vec<Advert>,
    },
    /// P2: everybody's headers, ascending, and what they sealed for this recipient.
    Shares {
        /// Attempt.
        at: AttemptId,
        /// At least m.
        headers: Vec<ShareHeader>,
        /// By dealer, ascending; own one left out.
        deliveries: Vec<Delivery>,
    },
    /// P4.
    CommitRequest {
        /// Attempt.
        at: AttemptId,
        /// Whose masked inputs were accepted.
        list: SurvivorList,
    },
    /// P5.
    RevealRequest {
        /// Attempt.
        at: AttemptId,
        /// q COMMIT votes.
        certificate: CommitCertificate,
    },
    /// The attempt failed: please vote ABANDON unless you voted COMMIT.
    AbandonRequest {
        /// Attempt.
        at: AttemptId,
    },
    /// P6: the sum is fixed; asks a survivor for the subset sums of its masked input.
    SumRequest {
        /// Attempt.
        at: AttemptId,
        /// H(S).
        sum_hash: Digest,
        /// Hands a silo that was restarted its own masked input back, as payload.
        back: Option<MaskedBack>,
    },
    /// P6 and catch-up; the payload is S.
    Result(RoundResult),
    /// P6: q silos agree on the round's result.
    Certified {
        /// Attempt that committed.
        at: AttemptId,
        /// q RESULT votes.
        certificate: ResultCertificate,
    },
    /// The job is over.
    Finished,
}

impl SiloMessage {
    /// A closed-set name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            SiloMessage::Hello(_) => "hello",
            SiloMessage::Decline { .. } => "decline",
            SiloMessage::Advert { .. } => "advert",
            SiloMessage::Shares { .. } => "shares",
            SiloMessage::Complaint { .. } => "complaint",
            SiloMessage::MaskedInput { .. } => "masked-input",
            SiloMessage::Commit { .. } => "commit",
            SiloMessage::Abandon { .. } => "abandon",
            SiloMessage::Reveal { .. } => "reveal",
            SiloMessage::Sketch { .. } => "sketch",
            SiloMessage::ResultVote { .. } => "result-vote",
        }
    }

    /// The attempt that the message belongs to; none for `Hello`.
    pub fn at(&self) -> Option<AttemptId> {
        match self {
            SiloMessage::Hello(_) => None,
            SiloMessage::Decline { at, .. }
            | SiloMessage::Advert { at, .. }
            | SiloMessage::Shares { at, .. }
            | SiloMessage::Complaint { at, .. }
            | SiloMessage::MaskedInput { at, .. }
            | SiloMessage::Commit { at, .. }
            | SiloMessage::Abandon { at, .. }
            | SiloMessage::Reveal { at, .. }
            | SiloMessage::Sketch { at, .. }
            | SiloMessage::ResultVote { at, .. } => Some(*at),
        }
    }
}

impl CoordinatorMessage {
    /// A closed-set name, for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            CoordinatorMessage::Open(_) => "open",
            CoordinatorMessage::Adverts { .. } => "adverts",
            CoordinatorMessage::Shares { .. } => "shares",
            CoordinatorMessage::CommitRequest { .. } => "commit-request",
            CoordinatorMessage::RevealRequest { .. } => "reveal-request",
            CoordinatorMessage::AbandonRequest { .. } => "abandon-request",
            CoordinatorMessage::SumRequest { .. } => "sum-request",
            CoordinatorMessage::Result(_) => "result",
            CoordinatorMessage::Certified { .. } => "certified",
            CoordinatorMessage::Finished => "finished",
        }
    }
}
