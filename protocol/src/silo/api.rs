//! What goes into a silo's machine and what comes out.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::{Digest, IdentityKey, Roster, SiloId};

use crate::message::{AttemptId, DeclineReason, Envelope, SiloMessage};
use crate::metrics::{HeldOut, HeldOutCounts};
use crate::plan::{Plan, RoundKind};
use crate::silo::journal::{JournalEntry, JournalState};
use crate::silo::work::SiloWork;

/// Everything a silo's machine starts from. The organisation's policy (which n, c, m, privacy it accepts) is the
/// service's: it decides before it makes a machine for this plan.
pub struct SiloSetup {
    /// This silo's place in the roster.
    pub me: SiloId,
    /// Its identity key, which must be the roster's.
    pub identity: IdentityKey,
    /// The pinned roster.
    pub roster: Arc<Roster>,
    /// The plan, derived by this silo itself.
    pub plan: Arc<Plan>,
    /// What the journal file of this job says ([`JournalState::replay`]); empty at first.
    pub journal: JournalState,
    /// The last adopted adapter as the service kept it; `None` starts from round 0 and catches up by messages.
    pub held: Option<HeldResult>,
}

/// The last adopted result, as kept across restarts.
#[derive(Debug, Clone, PartialEq)]
pub struct HeldResult {
    /// Its round.
    pub round: u32,
    /// Its result hash.
    pub result_hash: Digest,
    /// The state after it, whole ([`Plan::state`]).
    pub global: Arc<[f32]>,
}

/// Why no machine can be made. All are faults of this machine's own files.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetupError {
    /// Name or key do not match the roster.
    #[error(
        "this silo's identity key is not the one that the roster has at place {0}; use the key made with the roster"
    )]
    Identity(SiloId),
    /// Plan and roster do not belong together.
    #[error("the plan was derived from another roster; derive it from this one")]
    Roster,
    /// The journal belongs to another job, roster or silo.
    #[error(
        "the journal belongs to another job, roster or silo; name a state_dir of its own for this job, and leave that one as it is"
    )]
    ForeignJournal,
    /// The kept adapter is not the one that the journal says was adopted.
    #[error(
        "the kept adapter of round {0} is not the one the journal names; remove it, and the silo will fetch it again"
    )]
    Held(u32),
    /// The kept adapter is newer than the journal.
    #[error(
        "the kept adapter is that of round {kept}, but the journal names {}: it is lost, or an old copy. Remove nothing; put the \
         state directory back as it was when this silo last ran. If that is lost, leave this silo stopped for the rest of \
         the job (docs/operations.md)",
        known.map_or("none".to_owned(), |round| format!("round {round} as the newest"))
    )]
    JournalBehind {
        /// Round of the kept adapter.
        kept: u32,
        /// The last round that the journal names as adopted.
        known: Option<u32>,
    },
    /// A coordinator's store does not add up.
    #[error("the coordinator's store is damaged: {0}; restore it from a backup")]
    Store(String),
}

/// Asks the service to run a round's local steps and held-out evaluation. A later request ends any earlier one, whose
/// outcome nobody waits for any more.
#[derive(Debug, Clone)]
pub struct TrainRequest {
    /// Attempt that asked first; the answer is used for the newest attempt of the same round.
    pub at: AttemptId,
    /// Train: steps and evaluation. Evaluate: evaluation only.
    pub kind: RoundKind,
    /// The state to start from; its adapter is measured ([`Plan::state`]).
    pub global: Arc<[f32]>,
    /// Time (the machine's clock, ms) after which the attempt has no use for it.
    pub deadline_ms: u64,
}

/// The service's answer to a [`TrainRequest`].
#[derive(Debug, Clone)]
pub struct TrainOutcome {
    /// The request's round.
    pub round: u32,
    /// The update, or that there is none (the service logs why).
    pub result: Result<MeasuredUpdate, TrainFailure>,
}

/// A local update. Its `Debug` shows no values.
#[derive(Clone)]
pub struct MeasuredUpdate {
    /// Local minus global adapter, in the order of what the round trains; empty for [`RoundKind::Evaluate`].
    pub update: Vec<f32>,
    /// Held-out counts of the global adapter the round starts from; ignored with metrics off.
    pub held_out: HeldOutCounts,
}

impl fmt::Debug for MeasuredUpdate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeasuredUpdate({} coordinates)", self.update.len())
    }
}

/// The service cannot train this round; the silo declines the attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainFailure;

/// What the driver must do, strictly in order. A `Journal` is durable (fsync) before any later output is executed.
#[derive(Debug)]
pub enum SiloOutput {
    /// Send to the coordinator; drop it if there is no connection (the machine repeats it after the next `Hello`).
    Send(Envelope<SiloMessage>),
    /// Append to the journal file and fsync. If that fails the service must stop.
    Journal(JournalEntry),
    /// Start training; debit the privacy ledger first. Answer with `handle_trained`.
    Train(TrainRequest),
    /// Run on a blocking thread; hand back with `handle_work_done`.
    Work(SiloWork),
    /// The federation has a new global adapter. Keep it durably (it is [`SiloSetup::held`] after a restart).
    Adopt(Adoption),
    /// For the log.
    Event(SiloEvent),
    /// Close the connection: the coordinator did what an honest one cannot do. Reconnecting with backoff is fine.
    Disconnect(SiloEvent),
    /// The job is over and its last result adopted.
    Finished,
}

/// A certified result.
#[derive(Debug, Clone, PartialEq)]
pub struct Adoption {
    /// The attempt that gave it.
    pub at: AttemptId,
    /// What the round did.
    pub kind: RoundKind,
    /// The state after the round ([`Plan::state`]).
    pub global: Arc<[f32]>,
    /// Result hash of the round.
    pub result_hash: Digest,
    /// Hash of the model after the round.
    pub model_hash: Digest,
    /// What the sum says besides.
    pub report: AdoptionReport,
}

/// What every silo learns from the sum.
#[derive(Debug, Clone, PartialEq)]
pub struct AdoptionReport {
    /// Whose updates are in it.
    pub survivors: Vec<SiloId>,
    /// Held-out accuracy of the adapter that the round started from; `None` with metrics off or where nobody measured.
    pub held_out: Option<HeldOut>,
    /// Share of all survivors' coordinates that were clipped to the coordinate bound, 0 to 1.
    pub saturated_share: f64,
}

/// What a silo's log and metrics say. Ids and counts only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SiloEvent {
    /// An attempt was joined (its opening passed every check).
    Joined(AttemptId),
    /// An attempt was declined.
    Declined(AttemptId, DeclineReason, String),
    /// The next phase of the attempt began; names what is awaited.
    Phase(AttemptId, &'static str),
    /// An attempt ended for this silo without its vote.
    Left(AttemptId, String),
    /// Voted ABANDON.
    Abandoned(AttemptId),
    /// Voted COMMIT with this many survivors.
    Committed(AttemptId, usize),
    /// A message was dropped: late, duplicate or out of phase.
    Ignored(String),
    /// Peer or coordinator misbehaved; names who and how.
    Misbehaviour(String),
    /// This silo's own signature stands on something of this attempt that its journal does not hold: the journal is an
    /// old copy or a new one. The machine does nothing more; the service must stop.
    Restored(AttemptId, &'static str),
    /// A certified result differs from the one that this silo computed and signed: somebody showed it another sum.
    Forked(AttemptId),
}

impl fmt::Display for SiloEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SiloEvent::Joined(at) => write!(f, "{at}: joined"),
            SiloEvent::Declined(at, reason, why) => write!(f, "{at}: this silo does not take part: {reason} ({why})"),
            SiloEvent::Phase(at, awaited) => write!(f, "{at}: awaiting {awaited}"),
            SiloEvent::Left(at, why) => write!(f, "{at}: left: {why}"),
            SiloEvent::Abandoned(at) => write!(f, "{at}: voted to abandon"),
            SiloEvent::Committed(at, survivors) => write!(f, "{at}: committed to {survivors} survivors"),
            SiloEvent::Ignored(what) => write!(f, "ignored {what}"),
            SiloEvent::Misbehaviour(what) => write!(f, "{what}"),
            SiloEvent::Restored(at, what) => write!(
                f,
                "{at}: a {what} bears this silo's signature, but its journal does not hold it: the journal is not the one \
                 that this silo last wrote (SA-07)"
            ),
            SiloEvent::Forked(at) => write!(
                f,
                "{at}: the certified result is not the one this silo was shown before; the coordinator gave out two sums"
            ),
        }
    }
}
