//! The coordinator's machine: what it holds, and where each input goes.
//!
//! ```text
//! Gathering ─► CollectAdverts ─► CollectShares ─► CollectMasked ─► CollectCommits ─► CollectReveals ─► Unmasking
//!  ▲   ▲             │ too few         │                │               │ ABANDON                          │
//!  │   └─────────────┴─────────────────┴────────────────┴───────────────┘                                  ▼
//!  └──────────────────────────────────── certified ──────────────────────── CollectResults ◄─ CollectSketches
//! ```
//!
//! Contract: see [`crate`]. A handler checks a message and records it; [`CoordinatorMachine::advance`] alone leads from
//! phase to phase, by what the phase itself answers (`stage.rs`). The coordinator learns names, times, sizes and S; it is trusted with nothing else, and what it checks here it
//! checks to name who misbehaves and to finish in spite of it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use blindsum_crypto::verify::Rules;
use blindsum_crypto::{Context, Digest, JournalMark, Quorum, ResultCertificate, Roster, SiloId};

use crate::codec;
use crate::coordinator::api::{CoordinatorEvent, CoordinatorOutput, DisconnectReason, Phase, RoundBytes};
use crate::coordinator::stage::Stage;
use crate::coordinator::state::{Attempt, Exposed, Gathering, State};
use crate::coordinator::store::StoredResult;
use crate::coordinator::verify;
use crate::coordinator::work::{CoordinatorDone, CoordinatorWorkDone};
use crate::limits::Limits;
use crate::message::{AttemptId, CoordinatorMessage, Envelope, Hello, Payload, SiloMessage};
use crate::plan::{Plan, RoundKind};

/// What never changes while the machine runs.
pub(super) struct CoordinatorTerms {
    pub roster: Arc<Roster>,
    pub plan: Arc<Plan>,
    pub quorum: Quorum,
}

impl CoordinatorTerms {
    pub fn rules<'a>(&'a self, ctx: &'a Digest) -> Rules<'a> {
        Rules { roster: &self.roster, ctx, quorum: &self.quorum }
    }
}

/// One silo's connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct SiloLink {
    pub connected: bool,
    /// When it last connected, disconnected, or had to catch up.
    pub since: u64,
    /// Results it holds, by its Hello on this connection.
    pub held: Option<u32>,
    pub newest: AttemptId,
}

/// What the certified results add up to.
pub(super) struct Chain {
    /// Result hash after each round; at 0 the job digest.
    pub hashes: Vec<Digest>,
    pub model_hash: Digest,
    pub global: Arc<[f32]>,
}

impl Chain {
    pub fn round(&self) -> u32 {
        u32::try_from(self.hashes.len() - 1).unwrap_or(u32::MAX)
    }

    pub fn result_hash(&self) -> Digest {
        self.hashes[self.hashes.len() - 1]
    }
}

/// The coordinator's machine. See [`crate`] for how a driver runs it.
pub struct CoordinatorMachine {
    pub(super) own: Arc<CoordinatorTerms>,
    pub(super) links: Vec<SiloLink>,
    /// Certified results by round.
    pub(super) results: Vec<(Arc<StoredResult>, ResultCertificate)>,
    pub(super) chain: Chain,
    /// Newest attempt of the round in progress.
    pub(super) newest: u32,
    pub(super) exposed: Vec<Exposed>,
    /// Silos that sit out the round in progress.
    pub(super) excluded: BTreeSet<SiloId>,
    /// Silos that are out for the whole job: proven at fault, or restored from a copy.
    pub(super) barred: BTreeSet<SiloId>,
    pub(super) marks: Vec<(SiloId, JournalMark)>,
    pub(super) failures: u32,
    pub(super) bytes: RoundBytes,
    /// The phase in progress; gone while a transition has it in hand.
    pub(super) state: Option<State>,
    pub(super) limits: Limits,
    outputs: VecDeque<CoordinatorOutput>,
}

impl CoordinatorMachine {
    pub(super) fn from_parts(own: CoordinatorTerms, chain: Chain, now_ms: u64) -> CoordinatorMachine {
        let newest = AttemptId { round: 0, attempt: 0 };
        let link = SiloLink { connected: false, since: now_ms, held: None, newest };
        CoordinatorMachine {
            links: vec![link; own.roster.len()],
            limits: Limits::new(&own.plan),
            own: Arc::new(own),
            results: Vec::new(),
            chain,
            newest: 0,
            exposed: Vec::new(),
            excluded: BTreeSet::new(),
            barred: BTreeSet::new(),
            marks: Vec::new(),
            failures: 0,
            bytes: RoundBytes::default(),
            state: Some(State::Gathering(Box::new(Gathering { not_before: now_ms, proofs_until: now_ms }))),
            outputs: VecDeque::new(),
        }
    }

    /// A silo, known by its certificate's name, has connected. Its Hello comes next.
    pub fn handle_connected(&mut self, silo: SiloId, now_ms: u64) {
        if let Some(link) = self.links.get_mut(silo.index()) {
            *link = SiloLink { connected: true, since: now_ms, held: None, newest: link.newest };
        }
        self.advance(now_ms);
    }

    /// A silo's connection is gone.
    pub fn handle_disconnected(&mut self, silo: SiloId, now_ms: u64) {
        if let Some(link) = self.links.get_mut(silo.index()) {
            *link = SiloLink { connected: false, since: now_ms, held: None, newest: link.newest };
        }
        self.advance(now_ms);
    }

    /// Takes a message of a silo. Anything late, repeated or out of phase is ignored with an event; what an honest silo
    /// cannot send drops it from the attempt and closes its connection.
    pub fn handle_message(&mut self, silo: SiloId, envelope: Envelope<SiloMessage>, now_ms: u64) {
        let Some(link) = self.links.get(silo.index()).filter(|link| link.connected) else {
            return self.ignore(silo, "a message without a connection");
        };
        let greeted = link.held.is_some();
        if let Err(e) = envelope.check_payload(&self.limits) {
            return self.misbehaviour(silo, format!("its {}: {e}", envelope.message.name()), now_ms);
        }
        self.count_up(&envelope);
        let Envelope { message, payload } = envelope;
        if !greeted && !matches!(message, SiloMessage::Hello(_)) {
            return self.misbehaviour(silo, "it sent something before its Hello".into(), now_ms);
        }
        let name = message.name();
        let outcome = match message {
            SiloMessage::Hello(hello) => {
                self.on_hello(silo, hello, now_ms);
                Ok(true)
            }
            SiloMessage::Decline { at, reason } => Ok(self.on_decline(silo, at, reason)),
            SiloMessage::Advert { at, advert } => self.on_advert(silo, at, advert),
            SiloMessage::Shares { at, dealing } => self.on_dealing(silo, at, dealing),
            SiloMessage::Complaint { at, complaint } => self.on_complaint(silo, at, complaint),
            SiloMessage::MaskedInput { at, header } => {
                let payload = payload.unwrap_or_default();
                self.on_masked(silo, at, header, payload)
            }
            SiloMessage::Commit { at, vote } => self.on_commit(silo, at, vote),
            SiloMessage::Abandon { at, vote } => self.on_abandon(silo, at, vote),
            SiloMessage::Reveal { at, reveal } => self.on_reveal(silo, at, reveal),
            SiloMessage::Sketch { at, sketch } => self.on_sketch(silo, at, sketch),
            SiloMessage::ResultVote { at, vote } => self.on_result_vote(silo, at, vote),
        };
        match outcome {
            Ok(true) => {}
            Ok(false) => self.ignore(silo, format!("a {name} that is late, repeated or out of phase")),
            Err(e) => self.misbehaviour(silo, e.to_string(), now_ms),
        }
        self.advance(now_ms);
    }

    /// Takes finished work.
    pub fn handle_work_done(&mut self, done: CoordinatorWorkDone, now_ms: u64) {
        let at = done.at;
        match done.done {
            CoordinatorDone::Unmasked(result) => self.on_unmasked(at, result, now_ms),
            CoordinatorDone::Summed(values) => self.on_summed(at, values, now_ms),
        }
        self.advance(now_ms);
    }

    /// Takes the masked inputs that a `Fetch` asked for, packed, in its order.
    pub fn handle_fetched(&mut self, at: AttemptId, inputs: Vec<(SiloId, Payload)>, now_ms: u64) {
        self.on_fetched(at, inputs);
        self.advance(now_ms);
    }

    /// When [`CoordinatorMachine::handle_timeout`] wants to be called next, ms. It may lie in the past.
    pub fn poll_timeout(&self) -> Option<u64> {
        self.wakes_at()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now_ms: u64) {
        self.advance(now_ms);
    }

    /// The next thing to do, in order; `None` when there is nothing left.
    pub fn poll_output(&mut self) -> Option<CoordinatorOutput> {
        self.outputs.pop_front()
    }

    /// The phase in progress.
    pub fn phase(&self) -> Phase {
        self.stage().map_or(Phase::Finished, Stage::phase)
    }

    /// Rounds with a certified result.
    pub fn rounds_done(&self) -> u32 {
        self.chain.round()
    }

    /// The state after the last certified round ([`Plan::state`]).
    pub fn global(&self) -> Arc<[f32]> {
        Arc::clone(&self.chain.global)
    }

    fn on_hello(&mut self, silo: SiloId, hello: Hello, now_ms: u64) {
        let plan = Arc::clone(&self.own.plan);
        if let Err(reason) = verify::hello(&hello, &plan, &self.chain.hashes) {
            return self.disconnect(silo, reason, now_ms);
        }
        let link = &mut self.links[silo.index()];
        *link = SiloLink { held: Some(hello.results_held), newest: hello.newest, ..*link };
        if let Some((result, certificate)) = self.results.get(hello.results_held as usize) {
            let envelope = result.envelope(Some(certificate.clone()), None, Arc::clone(&result.sum));
            return self.send_envelope(silo, envelope);
        }
        self.event(CoordinatorEvent::Ready(silo));
        self.resume(silo);
    }

    /// The phase in progress; none while a transition has it in hand.
    pub(super) fn stage(&self) -> Option<&dyn Stage> {
        self.state.as_ref().map(State::stage)
    }

    /// The attempt in progress.
    pub(super) fn attempt(&self) -> Option<&Attempt> {
        self.stage().and_then(Stage::attempt)
    }

    /// Whether a silo is connected and holds every certified result.
    pub(super) fn is_ready(&self, silo: SiloId) -> bool {
        self.links[silo.index()].held == Some(self.chain.round())
    }

    pub(super) fn ready(&self) -> Vec<SiloId> {
        self.own.roster.ids().filter(|&silo| self.is_ready(silo) && !self.excluded.contains(&silo)).collect()
    }

    /// The context of an attempt at the round in progress.
    pub(super) fn context(&self, at: AttemptId, kind: RoundKind) -> Context {
        self.own.plan.context(at, kind, self.chain.result_hash(), self.chain.model_hash)
    }

    /// The round in progress.
    pub(super) fn round(&self) -> u32 {
        self.chain.round().saturating_add(1)
    }

    pub(super) fn send(&mut self, to: SiloId, message: CoordinatorMessage) {
        self.send_envelope(to, Envelope::bare(message));
    }

    pub(super) fn send_envelope(&mut self, to: SiloId, envelope: Envelope<CoordinatorMessage>) {
        if !self.links[to.index()].connected {
            return;
        }
        self.bytes.control_down += codec::encoded_len(&envelope.message);
        self.bytes.payload_down += envelope.payload.as_ref().map_or(0, |p| p.len() as u64);
        self.output(CoordinatorOutput::Send { to, envelope });
    }

    fn count_up(&mut self, envelope: &Envelope<SiloMessage>) {
        self.bytes.control_up += codec::encoded_len(&envelope.message);
        if let Some(payload) = &envelope.payload {
            self.bytes.payload_up += payload.len() as u64;
            self.bytes.masked_input = payload.len() as u64;
        }
    }

    pub(super) fn output(&mut self, output: CoordinatorOutput) {
        self.outputs.push_back(output);
    }

    pub(super) fn event(&mut self, event: CoordinatorEvent) {
        self.output(CoordinatorOutput::Event(event));
    }

    fn ignore(&mut self, silo: SiloId, what: impl Into<String>) {
        self.event(CoordinatorEvent::Ignored(silo, what.into()));
    }

    /// Blames a silo: out of the attempt, connection closed. It may come back for the next attempt.
    pub(super) fn misbehaviour(&mut self, silo: SiloId, what: String, now_ms: u64) {
        self.event(CoordinatorEvent::Misbehaviour(silo, what.clone()));
        self.drop_from_phase(silo);
        self.disconnect(silo, DisconnectReason::Misbehaviour(what), now_ms);
        self.advance(now_ms);
    }

    pub(super) fn disconnect(&mut self, silo: SiloId, reason: DisconnectReason, now_ms: u64) {
        let link = &mut self.links[silo.index()];
        *link = SiloLink { connected: false, since: now_ms, held: None, newest: link.newest };
        self.output(CoordinatorOutput::Disconnect { silo, reason });
    }
}
