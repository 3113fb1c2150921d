//! What goes into the coordinator's machine and what comes out.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::verify::Guilt;
use blindsum_crypto::{Digest, Evidence, Roster, SiloId};

use crate::coordinator::store::{StoreRecord, StoreState};
use crate::coordinator::work::CoordinatorWork;
use crate::message::{AttemptId, CoordinatorMessage, Envelope};
use crate::metrics::HeldOut;
use crate::plan::{Plan, RoundKind};

/// Everything the coordinator's machine starts from.
pub struct CoordinatorSetup {
    /// The roster.
    pub roster: Arc<Roster>,
    /// The plan.
    pub plan: Arc<Plan>,
    /// What the store of this job says ([`StoreState::replay`]); empty at first.
    pub store: StoreState,
}

/// What the driver must do, strictly in order. A `Store` is durable before any later output is executed.
#[derive(Debug)]
pub enum CoordinatorOutput {
    /// Send to a silo; drop it if it has no connection (the machine repeats what matters after its next `Hello`).
    Send {
        /// Recipient.
        to: SiloId,
        /// Message and payload.
        envelope: Envelope<CoordinatorMessage>,
    },
    /// Append to the store and make durable. If that fails the service must stop.
    Store(StoreRecord),
    /// Run on a blocking thread; hand back with `handle_work_done`.
    Work(CoordinatorWork),
    /// Read the masked inputs of these silos back from the attempt's `Masked` records and hand them to `handle_fetched` with
    /// their silos, in this order. If one is not there the service must stop.
    Fetch {
        /// The attempt.
        at: AttemptId,
        /// Ascending; not empty.
        silos: Vec<SiloId>,
    },
    /// A round is over: its result is certified by q silos.
    Report(RoundReport),
    /// A silo is proven at fault. Keep the evidence where people find it; after a restart it comes once more.
    Evidence(Conviction),
    /// For the log, metrics and progress display.
    Event(CoordinatorEvent),
    /// Close this silo's connection.
    Disconnect {
        /// Which silo.
        silo: SiloId,
        /// Why; goes into the log and the close code.
        reason: DisconnectReason,
    },
    /// The job is over.
    Finished,
}

/// Why a silo's connection is closed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DisconnectReason {
    /// It pinned another roster.
    #[error("this silo pinned another roster ({0}); give every party the same roster file")]
    OtherRoster(Digest),
    /// It was told another job.
    #[error("this silo was given another job ({0}); give every party the same job file")]
    OtherJob(Digest),
    /// Its history is not a beginning of this coordinator's.
    #[error(
        "it holds a result of round {0} that this coordinator never gave out; one of the two has lost or changed state"
    )]
    OtherHistory(u32),
    /// SA-07: its journal is shorter than what it sent before, or another one.
    #[error("its journal went backwards: its state directory was restored or removed; it sits out the rest of the job")]
    Restored,
    /// It sent what an honest silo cannot send.
    #[error("it misbehaved: {0}")]
    Misbehaviour(String),
}

/// A silo proven at fault, with the proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Conviction {
    /// The attempt that proved it.
    pub at: AttemptId,
    /// Who, which rule, and what it did.
    pub guilt: Guilt,
    /// What anybody can check.
    pub evidence: Arc<Evidence>,
}

/// A finished round, as everybody may know it.
#[derive(Debug, Clone, PartialEq)]
pub struct RoundReport {
    /// Round.
    pub round: u32,
    /// The attempt that succeeded.
    pub attempt: u32,
    /// What the round did.
    pub kind: RoundKind,
    /// Silos that advertised (U1).
    pub cohort: Vec<SiloId>,
    /// Silos whose updates are in the sum (U3).
    pub survivors: Vec<SiloId>,
    /// Cohort without survivors.
    pub dropped: Vec<SiloId>,
    /// Held-out accuracy of the adapter that the round *started* from; `None` with metrics off or where nobody
    /// measured.
    pub held_out: Option<HeldOut>,
    /// Share of the survivors' coordinates that were clipped to the coordinate bound, 0 to 1.
    pub saturated_share: f64,
    /// What travelled in the successful attempt.
    pub bytes: RoundBytes,
    /// From the attempt's opening to its certificate, ms.
    pub duration_ms: u64,
    /// The round's result hash.
    pub result_hash: Digest,
    /// Hash of the model after the round.
    pub model_hash: Digest,
    /// The state after the round ([`Plan::state`]).
    pub global: Arc<[f32]>,
}

/// Bytes of one attempt, application level (no QUIC or TLS overhead).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RoundBytes {
    /// One masked input.
    pub masked_input: u64,
    /// Control messages from all silos together.
    pub control_up: u64,
    /// Control messages to all silos together.
    pub control_down: u64,
    /// Masked inputs from all silos together.
    pub payload_up: u64,
    /// Sums to all silos together.
    pub payload_down: u64,
}

/// The phases as shown to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Waiting until enough silos are connected.
    Gathering,
    /// P0/P1: open; silos train, then advertise.
    Advertise,
    /// P2.
    Share,
    /// P3.
    MaskedInput,
    /// P4.
    Commit,
    /// P5.
    Reveal,
    /// Rebuilding secrets and unmasking.
    Unmask,
    /// P6: collecting what the sum is checked with.
    Prove,
    /// P6.
    Result,
    /// Collecting ABANDON votes after a failed attempt.
    Abandon,
    /// Waiting before the next attempt.
    Backoff,
    /// The job is over.
    Finished,
}

impl Phase {
    /// A closed-set name.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Gathering => "gathering",
            Phase::Advertise => "advertise",
            Phase::Share => "share",
            Phase::MaskedInput => "masked-input",
            Phase::Commit => "commit",
            Phase::Reveal => "reveal",
            Phase::Unmask => "unmask",
            Phase::Prove => "prove",
            Phase::Result => "result",
            Phase::Abandon => "abandon",
            Phase::Backoff => "backoff",
            Phase::Finished => "finished",
        }
    }
}

/// What the coordinator's log, metrics and display say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CoordinatorEvent {
    /// A phase began.
    Phase {
        /// Attempt (the coming one while gathering or backing off).
        at: AttemptId,
        /// Which.
        phase: Phase,
        /// Silos that are part of it.
        silos: usize,
    },
    /// A silo passed its Hello.
    Ready(SiloId),
    /// A silo declined an attempt.
    Declined(AttemptId, SiloId, crate::message::DeclineReason),
    /// One silo did its part of the current phase: `done` of `expected`.
    Progress {
        /// Which phase.
        phase: Phase,
        /// Silos that did their part.
        done: usize,
        /// Silos that can.
        expected: usize,
    },
    /// A silo was dropped from the attempt.
    Dropped(AttemptId, SiloId, String),
    /// A silo complains about a dealer's shares.
    Complaint(AttemptId, SiloId, SiloId),
    /// The attempt failed.
    Failed(AttemptId, String),
    /// A message was dropped: late, duplicate or out of phase.
    Ignored(SiloId, String),
    /// A silo misbehaved.
    Misbehaviour(SiloId, String),
    /// An attempt past its commit point lacks silos; it goes on by itself when they come back.
    Waiting(String),
    /// Something is wrong that waiting does not mend: the job cannot go on without a person. The service ends.
    Stuck(String),
}

impl fmt::Display for CoordinatorEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoordinatorEvent::Phase { at, phase, silos } => write!(f, "{at}: {} with {silos} silos", phase.name()),
            CoordinatorEvent::Ready(silo) => write!(f, "silo {silo}: ready"),
            CoordinatorEvent::Declined(at, silo, reason) => write!(f, "{at}: silo {silo} does not take part: {reason}"),
            CoordinatorEvent::Progress { phase, done, expected } => write!(f, "{}: {done} of {expected}", phase.name()),
            CoordinatorEvent::Dropped(at, silo, why) => write!(f, "{at}: dropped silo {silo}: {why}"),
            CoordinatorEvent::Complaint(at, by, dealer) => {
                write!(f, "{at}: silo {by} complains that silo {dealer} sent it shares that do not open")
            }
            CoordinatorEvent::Failed(at, why) => write!(f, "{at}: failed: {why}"),
            CoordinatorEvent::Ignored(silo, what) => write!(f, "silo {silo}: ignored {what}"),
            CoordinatorEvent::Misbehaviour(silo, what) => write!(f, "silo {silo}: {what}"),
            CoordinatorEvent::Waiting(what) => write!(f, "waiting: {what}"),
            CoordinatorEvent::Stuck(why) => write!(f, "the job cannot go on: {why}"),
        }
    }
}
