//! The silo's machine: what it holds, and where each input goes.
//!
//! ```text
//!            Open ok                update ready           Adverts               Shares
//! Idle ───────────────► AwaitUpdate ───────────► AwaitAdverts ─────► AwaitShares ─────► AwaitMask
//!  ▲                                                                                       │ mask work done
//!  │ result adopted,           RevealRequest               CommitRequest                   ▼
//!  │ attempt left   AwaitResult ◄──────── AwaitCertificate ◄──────────────────────────  AwaitList
//!  └────────────────────────────────────────────────────────────────────────────────────────┘ deadline: ABANDON
//! ```
//! Results run beside the sessions (`result.rs`): a silo that was not part of an attempt learns its result all the same.
//!
//! Contract: see [`crate`]. A session state holds only the secrets that its phase still needs; transitions consume it, so
//! that leaving a state erases them (SA-11).

use std::collections::VecDeque;
use std::sync::Arc;

use blindsum_crypto::verify::Rules;
use blindsum_crypto::{Context, Digest, IdentityKey, Quorum, Roster, SiloId};
use rand_core::CryptoRng;

use crate::limits::Limits;
use crate::message::{AttemptId, CoordinatorMessage, DeclineReason, Envelope, Hello, Payload, SiloMessage};
use crate::plan::{Plan, RoundKind};
use crate::silo::api::{SetupError, SiloEvent, SiloOutput, SiloSetup, TrainOutcome};
use crate::silo::journal::{JournalEntry, JournalState};
use crate::silo::result::Results;
use crate::silo::session::{Session, SessionHead};
use crate::silo::verify;
use crate::silo::work::{Input, SiloDone, SiloTask, SiloWork, SiloWorkDone};

/// What never changes while the machine runs.
pub(super) struct SiloTerms {
    pub me: SiloId,
    pub identity: IdentityKey,
    pub roster: Arc<Roster>,
    pub plan: Arc<Plan>,
    pub quorum: Quorum,
}

impl SiloTerms {
    pub fn rules<'a>(&'a self, ctx: &'a Digest) -> Rules<'a> {
        Rules { roster: &self.roster, ctx, quorum: &self.quorum }
    }
}

/// The state that this silo holds.
pub(super) struct Held {
    pub round: u32,
    pub result_hash: Digest,
    pub model_hash: Digest,
    pub global: Arc<[f32]>,
}

/// The local update of the round in progress.
pub(super) enum Update {
    None,
    /// The service is training.
    Training {
        round: u32,
    },
    /// Being checked; how it is rounded is being drawn.
    Preparing {
        round: u32,
    },
    /// Ready to be masked; kept for a retry that SA-13 allows, with the attempts in which it went out.
    Ready {
        round: u32,
        input: Input,
        sent_in: Vec<u32>,
    },
}

impl Update {
    pub fn round(&self) -> Option<u32> {
        match self {
            Update::None => None,
            Update::Training { round } | Update::Preparing { round } | Update::Ready { round, .. } => Some(*round),
        }
    }
}

/// The silo's machine. See [`crate`] for how a driver runs it.
pub struct SiloMachine {
    pub(super) own: Arc<SiloTerms>,
    pub(super) rng: Box<dyn CryptoRng + Send>,
    pub(super) journal: JournalState,
    pub(super) held: Held,
    /// Attempts of the round in progress whose opening this process received. Only these may it abandon.
    pub(super) seen: Vec<u32>,
    pub(super) update: Update,
    pub(super) session: Session,
    pub(super) results: Results,
    limits: Limits,
    connected: bool,
    finished: bool,
    /// Its journal was found to be an old one: it does nothing more.
    pub(super) restored: bool,
    outputs: VecDeque<SiloOutput>,
}

impl SiloMachine {
    /// Makes the machine from what the silo kept. A journaled COMMIT vote of an unfinished attempt is taken up again.
    ///
    /// # Errors
    /// [`SetupError`] where key, roster, plan, journal and kept adapter do not belong together.
    pub fn new(config: SiloSetup, rng: Box<dyn CryptoRng + Send>, _now_ms: u64) -> Result<SiloMachine, SetupError> {
        let SiloSetup { me, identity, roster, plan, journal, held } = config;
        if roster.entry(me).is_none_or(|entry| entry.identity != identity.public()) {
            return Err(SetupError::Identity(me));
        }
        if plan.roster_hash() != roster.hash() {
            return Err(SetupError::Roster);
        }
        let owner = (plan.roster_hash(), plan.job_digest(), me);
        verify::own_journal(&journal, &owner)?;
        let held = match held {
            None => {
                let global = plan.initial_global();
                Held { round: 0, result_hash: plan.job_digest(), model_hash: plan.model_hash(&global), global }
            }
            Some(kept) => {
                let model_hash = verify::held_adapter(&plan, &journal, &kept)?;
                Held { round: kept.round, result_hash: kept.result_hash, model_hash, global: kept.global }
            }
        };
        let limits = Limits::new(&plan);
        let quorum = plan.quorum();
        let mut machine = SiloMachine {
            own: Arc::new(SiloTerms { me, identity, roster, plan, quorum }),
            rng,
            journal,
            held,
            seen: Vec::new(),
            update: Update::None,
            session: Session::Idle,
            results: Results::default(),
            limits,
            connected: false,
            finished: false,
            restored: false,
            outputs: VecDeque::new(),
        };
        if machine.journal.owner.is_none() {
            let (roster_hash, job_digest, silo) = owner;
            if !machine.write(JournalEntry::Begin { roster_hash, job_digest, silo }) {
                return Err(SetupError::ForeignJournal);
            }
        }
        machine.session = machine.restored_session();
        if machine.held.round >= machine.own.plan.last_round() {
            machine.finish();
        }
        Ok(machine)
    }

    /// A connection to the coordinator is up: says Hello, and repeats what may not have arrived.
    pub fn handle_connected(&mut self, _now_ms: u64) {
        self.connected = true;
        self.hello();
        if let Some(reply) = self.session.head().and_then(|head| head.reply.clone()) {
            self.output(SiloOutput::Send(reply));
        }
        if let Some((at, vote)) = self.results.vote() {
            self.send(SiloMessage::ResultVote { at, vote });
        }
    }

    /// The connection is gone. The session goes on: the silo may be back before its deadline.
    pub fn handle_disconnected(&mut self, _now_ms: u64) {
        self.connected = false;
    }

    /// Takes a message. Anything late, repeated or out of phase is ignored with an event; what an honest coordinator
    /// cannot send closes the connection.
    pub fn handle_message(&mut self, envelope: Envelope<CoordinatorMessage>, now_ms: u64) {
        if self.restored {
            return;
        }
        if let Err(e) = envelope.check_payload(&self.limits) {
            return self.misbehaviour(format!("the coordinator sent a {}: {e}", envelope.message.name()));
        }
        let Envelope { message, payload } = envelope;
        match message {
            CoordinatorMessage::Open(open) => self.on_open(open, now_ms),
            CoordinatorMessage::Adverts { at, adverts } => self.on_adverts(at, adverts, now_ms),
            CoordinatorMessage::Shares { at, headers, deliveries } => self.on_shares(at, headers, deliveries, now_ms),
            CoordinatorMessage::CommitRequest { at, list } => self.on_commit_request(at, list),
            CoordinatorMessage::RevealRequest { at, certificate } => self.on_reveal_request(at, certificate),
            CoordinatorMessage::AbandonRequest { at } => self.on_abandon_request(at),
            CoordinatorMessage::SumRequest { at, sum_hash, back } => {
                self.on_sum_request(at, sum_hash, back.zip(payload));
            }
            CoordinatorMessage::Result(result) => {
                let payload = payload.unwrap_or_else(|| Payload::new(Vec::new()));
                self.on_result(result, payload);
            }
            CoordinatorMessage::Certified { at, certificate } => self.on_certified(at, certificate),
            CoordinatorMessage::Finished => {
                if self.held.round >= self.own.plan.last_round() {
                    self.finish();
                } else {
                    self.ignore("the end of the job, which still has rounds");
                }
            }
        }
    }

    /// Takes the answer to a `Train` output.
    pub fn handle_trained(&mut self, outcome: TrainOutcome, _now_ms: u64) {
        if !matches!(self.update, Update::Training { round } if round == outcome.round) {
            return self.ignore("an update of a round that is over");
        }
        let round = outcome.round;
        let kind = self.own.plan.kind(round).unwrap_or(RoundKind::Evaluate);
        match outcome.result {
            Ok(update) => {
                self.update = Update::Preparing { round };
                let rng = Box::new(self.seeded_rng());
                let plan = Arc::clone(&self.own.plan);
                self.output(SiloOutput::Work(SiloWork(SiloTask::Prepare { round, kind, plan, update, rng })));
            }
            Err(_) => self.no_update("training failed; the reason is above in this log"),
        }
    }

    /// Takes finished work.
    pub fn handle_work_done(&mut self, done: SiloWorkDone, now_ms: u64) {
        match done.0 {
            SiloDone::Prepared { round, input } => {
                if !matches!(self.update, Update::Preparing { round: r } if r == round) {
                    return self.ignore("a prepared update of a round that is over");
                }
                match input {
                    Ok(input) => {
                        self.update = Update::Ready { round, input, sent_in: Vec::new() };
                        self.advertise(now_ms);
                    }
                    Err(why) => self.no_update(&why),
                }
            }
            SiloDone::Masked { at, packed } => self.on_masked(at, packed, now_ms),
            SiloDone::Sketched { at, sum_hash, values } => self.on_sketched(at, sum_hash, values),
            SiloDone::Applied { at, step } => self.on_applied(at, step),
        }
    }

    /// When [`SiloMachine::handle_timeout`] wants to be called next, ms.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.session.head().and_then(|head| head.deadline)
    }

    /// Time has passed: a session past its deadline is left, with an ABANDON vote if its masked input went out.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        let Some(at) = self.session.head().filter(|h| h.deadline.is_some_and(|d| d <= now_ms)).map(|h| h.at) else {
            return;
        };
        if matches!(self.session, Session::AwaitList(_)) {
            self.abandon(at);
        } else {
            self.leave("its deadline passed");
        }
    }

    /// The next thing to do, in order; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<SiloOutput> {
        self.outputs.pop_front()
    }

    pub(super) fn hello(&mut self) {
        let hello = Hello {
            roster_hash: self.own.plan.roster_hash(),
            job_digest: self.own.plan.job_digest(),
            results_held: self.held.round,
            result_hash: self.held.result_hash,
            newest: self.journal.newest,
        };
        self.send(SiloMessage::Hello(hello));
    }

    /// The context of an attempt at the round in progress, from what this silo itself holds.
    pub(super) fn context(&self, at: AttemptId, kind: RoundKind) -> Context {
        self.own.plan.context(at, kind, self.held.result_hash, self.held.model_hash)
    }

    /// Writes a journal entry, or, where the journal admits none such, does nothing of what depends on it: leaves the
    /// session and the connection. An honest coordinator never leads there.
    #[must_use]
    pub(super) fn write(&mut self, entry: JournalEntry) -> bool {
        if let Err(problem) = self.journal.apply(&entry) {
            self.leave("its journal admits no next step");
            self.misbehaviour(format!("the coordinator led to a step that {problem} (SA-07)"));
            return false;
        }
        self.output(SiloOutput::Journal(entry));
        true
    }

    pub(super) fn send(&mut self, message: SiloMessage) {
        self.output(SiloOutput::Send(Envelope::bare(message)));
    }

    pub(super) fn output(&mut self, output: SiloOutput) {
        if !self.connected && matches!(output, SiloOutput::Send(_)) {
            return;
        }
        self.outputs.push_back(output);
    }

    pub(super) fn event(&mut self, event: SiloEvent) {
        self.output(SiloOutput::Event(event));
    }

    pub(super) fn ignore(&mut self, what: impl Into<String>) {
        self.event(SiloEvent::Ignored(what.into()));
    }

    pub(super) fn misbehaviour(&mut self, what: String) {
        self.output(SiloOutput::Disconnect(SiloEvent::Misbehaviour(what)));
    }

    pub(super) fn decline(&mut self, at: AttemptId, reason: DeclineReason, why: impl Into<String>) {
        self.event(SiloEvent::Declined(at, reason, why.into()));
        self.send(SiloMessage::Decline { at, reason });
    }

    /// Ends the session, erasing its secrets. Whoever already sent its masked input must vote instead.
    pub(super) fn leave(&mut self, why: &str) {
        if let Some(head) = std::mem::replace(&mut self.session, Session::Idle).into_head() {
            self.event(SiloEvent::Left(head.at, why.to_owned()));
        }
    }

    pub(super) fn finish(&mut self) {
        if !std::mem::replace(&mut self.finished, true) {
            self.output(SiloOutput::Finished);
        }
    }

    fn no_update(&mut self, why: &str) {
        self.update = Update::None;
        if let Session::AwaitUpdate(SessionHead { at, .. }) = &self.session {
            let at = *at;
            self.session = Session::Idle;
            self.decline(at, DeclineReason::CannotTrain, why);
        }
    }
}
