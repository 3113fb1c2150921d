//! Between attempts: who is there, what must be abandoned first, and the opening of the next attempt.
//!
//! Contract: an attempt opens to every silo that is ready, once at least m are, everybody else has had its time to come
//! back, and the ABANDON votes of failed attempts are in or overdue.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindsum_crypto::evidence::{Fault, Over};
use blindsum_crypto::verify::{self, VerifyError};
use blindsum_crypto::{AbandonCertificate, AbandonVote, SiloId};

use crate::coordinator::api::{CoordinatorEvent, CoordinatorOutput, Phase, RoundBytes};
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::state::{Attempt, CollectAdverts, Exposed, Gathering, State};
use crate::coordinator::store::StoreRecord;
use crate::coordinator::verify::{both_votes, same};
use crate::limits::MAX_ABANDONED;
use crate::message::{Abandoned, AttemptId, CoordinatorMessage, DeclineReason, Open};
use crate::plan::RoundKind;

impl CoordinatorMachine {
    /// Leads from phase to phase as long as something is due. Called after every input.
    pub(super) fn advance(&mut self, now_ms: u64) {
        // Each turn leaves a phase behind or stops; a failed attempt pauses, so this ends.
        while self.wakes_at().is_some_and(|at| at <= now_ms) || self.stage().is_some_and(|s| s.is_complete(self)) {
            let before = self.phase();
            let Some(state) = self.state.take() else { return };
            state.into_stage().close(self, now_ms);
            if self.phase() == before {
                break;
            }
        }
    }

    /// When time alone changes the phase.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        self.stage().and_then(|stage| stage.wakes_at(self))
    }

    /// How long a silo is waited for in a phase of an attempt.
    pub(super) fn waits_until(&self, attempt: &Attempt, silo: SiloId) -> u64 {
        let link = &self.links[silo.index()];
        if link.connected { attempt.deadline } else { attempt.deadline.min(link.since + attempt.grace) }
    }

    pub(super) fn kind_in_progress(&self) -> Option<RoundKind> {
        self.own.plan.kind(self.round())
    }

    pub(super) fn phase_ms(&self, kind: RoundKind) -> u64 {
        self.own.plan.params(kind).phase_deadline_ms
    }

    /// Everybody who could come is here: opens the next attempt.
    pub(super) fn gathered(&mut self, now_ms: u64) {
        let Some(kind) = self.kind_in_progress() else {
            return self.close_job(now_ms);
        };
        let round = self.round();
        // SA-07: count on from what silos remember, should the store be older; c colluders cannot raise it
        let mut remembered: Vec<u32> =
            self.links.iter().filter(|l| l.newest.round == round).map(|l| l.newest.attempt).collect();
        remembered.sort_unstable_by(|a, b| b.cmp(a));
        let remembered = remembered.get(usize::from(self.own.quorum.c)).copied().unwrap_or(0);
        let Some(number) = self.newest.max(remembered).checked_add(1) else {
            return self.stuck("the round's attempts are used up".into());
        };
        self.newest = number;
        let at = AttemptId { round, attempt: number };
        self.bytes = RoundBytes::default();
        self.output(CoordinatorOutput::Store(StoreRecord::Opened { at }));
        let ready = self.ready();
        self.phase_event(at, Phase::Advertise, ready.len());
        let open = self.open_message(at, kind);
        for &silo in &ready {
            self.send(silo, open.clone());
        }
        let attempt = Attempt {
            at,
            kind,
            ctx: self.context(at, kind).digest(),
            opened_ms: now_ms,
            deadline: now_ms + self.own.plan.params(kind).training_deadline_ms,
            grace: self.phase_ms(kind),
        };
        let asked = ready.into_iter().collect();
        let state =
            CollectAdverts { attempt, asked, gone: BTreeSet::new(), unable: BTreeSet::new(), adverts: BTreeMap::new() };
        self.state = Some(State::CollectAdverts(Box::new(state)));
    }

    pub(super) fn open_message(&self, at: AttemptId, kind: RoundKind) -> CoordinatorMessage {
        let proofs = self.exposed.iter().rev().filter_map(|e| {
            let certificate = e.certificate.clone()?;
            Some(Abandoned { attempt: e.attempt, certificate })
        });
        let mut abandoned: Vec<Abandoned> = proofs.take(MAX_ABANDONED).collect();
        abandoned.reverse();
        CoordinatorMessage::Open(Open { context: self.context(at, kind), abandoned })
    }

    /// A silo is ready, perhaps again: repeats what the phase needs of it.
    pub(super) fn resume(&mut self, silo: SiloId) {
        let Some(state) = &mut self.state else { return };
        if self.excluded.contains(&silo) && !state.stage().is_for_all() {
            return;
        }
        state.stage_mut().welcome(silo);
        let unproven: Vec<u32> = self.unproven().collect();
        let current = self.attempt().map(|a| a.at.attempt);
        for attempt in unproven.into_iter().filter(|a| Some(*a) != current) {
            let at = AttemptId { round: self.round(), attempt };
            self.send(silo, CoordinatorMessage::AbandonRequest { at });
        }
        for envelope in self.stage().map(|stage| stage.repeats(silo, self)).unwrap_or_default() {
            self.send_envelope(silo, envelope);
        }
    }

    /// An attempt came to nothing: pauses, and asks everybody to abandon it if masked inputs may have gone out.
    pub(super) fn fail(&mut self, attempt: &Attempt, why: impl Into<String>, now_ms: u64) {
        let at = attempt.at;
        self.event(CoordinatorEvent::Failed(at, why.into()));
        self.failures = self.failures.saturating_add(1);
        if self.own.roster.len() - self.excluded.len() < usize::from(self.own.quorum.m) {
            self.excluded = self.barred.clone();
        }
        if let Some(why) = self.too_few_left() {
            return self.stuck(why);
        }
        let phase = self.phase_ms(attempt.kind);
        let pause = (1000u64 << self.failures.min(16)).min(phase);
        let gathering = Gathering { not_before: now_ms + pause, proofs_until: now_ms + phase };
        self.state = Some(State::Gathering(Box::new(gathering)));
        if self.unproven().any(|a| a == at.attempt) {
            self.phase_event(at, Phase::Abandon, self.ready().len());
            for silo in self.ready() {
                self.send(silo, CoordinatorMessage::AbandonRequest { at });
            }
        }
    }

    /// SA-13: attempts that masked inputs may have gone out in and that are not proven abandoned.
    pub(super) fn unproven(&self) -> impl Iterator<Item = u32> + '_ {
        self.exposed.iter().filter(|e| e.certificate.is_none()).map(|e| e.attempt)
    }

    /// Whether q silos abandoned this attempt at the round in progress.
    pub(super) fn is_abandoned(&self, attempt: u32) -> bool {
        self.exposed.iter().any(|e| e.attempt == attempt && e.certificate.is_some())
    }

    pub(super) fn expose(&mut self, attempt: &Attempt) {
        let (ctx, attempt) = (attempt.ctx, attempt.at.attempt);
        self.exposed.push(Exposed::new(attempt, ctx, None));
    }

    pub(super) fn on_abandon(&mut self, silo: SiloId, at: AttemptId, vote: AbandonVote) -> Result<bool, VerifyError> {
        same(silo, vote.silo)?;
        let own = Arc::clone(&self.own);
        let Some(exposed) = self.exposed_mut(at) else { return Ok(false) };
        verify::abandon_vote(&own.rules(&exposed.ctx), &vote)?;
        if let (Some(commit), Some(t3)) = (exposed.commits.get(&silo), exposed.t3) {
            let commit = Over { over: t3, message: *commit };
            return self.judged(both_votes(silo), at, Fault::CommitAndAbandon { commit, abandon: vote });
        }
        exposed.votes.insert(silo, vote);
        if exposed.certificate.is_none() && exposed.votes.len() >= usize::from(own.quorum.q) {
            let certificate = AbandonCertificate(exposed.votes.values().copied().collect());
            exposed.certificate = Some(certificate.clone());
            self.output(CoordinatorOutput::Store(StoreRecord::Abandoned { at, certificate }));
        }
        Ok(true)
    }

    pub(super) fn on_decline(&mut self, silo: SiloId, at: AttemptId, reason: DeclineReason) -> bool {
        if self.attempt().is_none_or(|a| a.at != at) {
            return false;
        }
        self.event(CoordinatorEvent::Declined(at, silo, reason));
        if let (Some(State::CollectAdverts(state)), DeclineReason::CannotTrain) = (&mut self.state, reason) {
            state.unable.insert(silo);
        }
        self.drop_from_phase(silo);
        true
    }

    /// Waits no longer for a silo in the phase in progress.
    pub(super) fn drop_from_phase(&mut self, silo: SiloId) {
        if let Some(state) = &mut self.state {
            state.stage_mut().drop_silo(silo);
        }
    }

    pub(super) fn phase_event(&mut self, at: AttemptId, phase: Phase, silos: usize) {
        self.event(CoordinatorEvent::Phase { at, phase, silos });
    }
}
