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
use crate::coordinator::state::{Attempt, AwaitAdverts, Busy, Exposed, State};
use crate::coordinator::store::StoreRecord;
use crate::coordinator::verify::{both_votes, same};
use crate::limits::MAX_ABANDONED;
use crate::message::{Abandoned, AttemptId, CoordinatorMessage, DeclineReason, Open};
use crate::plan::RoundKind;

impl CoordinatorMachine {
    /// Changes the state as long as something is due. Called after every input.
    pub(super) fn advance(&mut self, now_ms: u64) {
        // Each turn leaves a phase behind or stops; a failed attempt pauses, so this ends.
        while self.wakes_at().is_some_and(|at| at <= now_ms) || self.is_complete() {
            let before = self.state.phase();
            match std::mem::replace(&mut self.state, State::Finished) {
                State::Gathering { .. } => self.gathered(now_ms),
                State::AwaitAdverts(state) => self.close_adverts(state, now_ms),
                State::AwaitShares(state) => self.close_shares(state, now_ms),
                State::AwaitMasked(state) => self.close_masked(*state, now_ms),
                State::AwaitCommits(state) => self.close_commits(*state, now_ms),
                State::AwaitReveals(state) => self.close_reveals(*state, now_ms),
                State::AwaitSketches(state) => self.close_sketches(state, now_ms),
                State::AwaitResults(state) => self.close_results(*state, now_ms),
                State::AwaitUnmask(state) => self.state = State::AwaitUnmask(state),
                State::Closing { .. } => self.output(CoordinatorOutput::Finished),
                State::Finished => {}
                State::Stuck => self.state = State::Stuck,
            }
            if self.state.phase() == before {
                break;
            }
        }
    }

    /// Whether the state's work is done before its time.
    fn is_complete(&self) -> bool {
        let q = usize::from(self.own.quorum.q);
        match &self.state {
            State::Gathering { .. } | State::AwaitUnmask(_) | State::Finished | State::Stuck => false,
            State::AwaitAdverts(_) | State::AwaitShares(_) => self.state.missing().is_empty(),
            State::AwaitMasked(s) => {
                self.state.missing().is_empty() || self.is_abandoned() || self.guilty_dealer(s).is_some()
            }
            State::AwaitCommits(s) => s.votes.len() >= q || self.is_abandoned(),
            State::AwaitReveals(s) => s.is_ready() || self.state.missing().is_empty(),
            State::AwaitSketches(s) => matches!(s.busy, Busy::No) && self.state.missing().is_empty(),
            State::AwaitResults(s) => s.votes.len() >= q,
            State::Closing { .. } => self.links.iter().all(|l| !l.connected || l.held == Some(self.chain.round())),
        }
    }

    /// When time alone changes the state.
    pub(super) fn wakes_at(&self) -> Option<u64> {
        match &self.state {
            State::Gathering { not_before, proofs_until } => {
                let ready = self.ready();
                if ready.len() < usize::from(self.own.quorum.m) {
                    return None;
                }
                let grace = self.phase_ms(self.kind_in_progress()?);
                let absent = self.own.roster.ids().filter(|id| !ready.contains(id) && !self.excluded.contains(id));
                let patience = absent.map(|id| self.links[id.index()].since + grace).max().unwrap_or(0);
                let proofs = if self.unproven().next().is_some() { *proofs_until } else { 0 };
                Some(patience.max(proofs).max(*not_before))
            }
            State::AwaitUnmask(_) | State::Finished | State::Stuck => None,
            State::Closing { deadline } => Some(*deadline),
            State::AwaitSketches(s) if matches!(s.busy, Busy::Waiting) => Some(s.attempt.deadline),
            State::AwaitSketches(s) if !matches!(s.busy, Busy::No) => None,
            State::AwaitResults(s) => Some(s.attempt.deadline),
            state => {
                let attempt = state.attempt()?;
                let wait = |id: SiloId| {
                    let link = &self.links[id.index()];
                    if link.connected { attempt.deadline } else { attempt.deadline.min(link.since + attempt.grace) }
                };
                state.missing().into_iter().map(wait).max()
            }
        }
    }

    pub(super) fn kind_in_progress(&self) -> Option<RoundKind> {
        self.own.plan.kind(self.round())
    }

    pub(super) fn phase_ms(&self, kind: RoundKind) -> u64 {
        self.own.plan.params(kind).phase_deadline_ms
    }

    /// Everybody who could come is here: opens the next attempt.
    fn gathered(&mut self, now_ms: u64) {
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
        for &silo in &ready {
            self.send_open(silo, at, kind);
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
            AwaitAdverts { attempt, asked, gone: BTreeSet::new(), unable: BTreeSet::new(), adverts: BTreeMap::new() };
        self.state = State::AwaitAdverts(state);
    }

    pub(super) fn send_open(&mut self, silo: SiloId, at: AttemptId, kind: RoundKind) {
        let proofs = self.exposed.iter().rev().filter_map(|e| {
            let certificate = e.certificate.clone()?;
            Some(Abandoned { attempt: e.attempt, certificate })
        });
        let mut abandoned: Vec<Abandoned> = proofs.take(MAX_ABANDONED).collect();
        abandoned.reverse();
        let open = Open { context: self.context(at, kind), abandoned };
        self.send(silo, CoordinatorMessage::Open(open));
    }

    /// A silo is ready, perhaps again: repeats what the state needs of it.
    pub(super) fn resume(&mut self, silo: SiloId) {
        // who was at fault in the round sits out its sessions, but gets its result like everybody; and who survives in an
        // attempt past its commit point is needed, whatever it did
        let over = matches!(
            self.state,
            State::AwaitCommits(_)
                | State::AwaitReveals(_)
                | State::AwaitSketches(_)
                | State::AwaitResults(_)
                | State::Closing { .. }
                | State::Finished
        );
        if self.excluded.contains(&silo) && !over {
            return;
        }
        let unproven: Vec<u32> = self.unproven().collect();
        let current = self.state.attempt().map(|a| a.at.attempt);
        for attempt in unproven.into_iter().filter(|a| Some(*a) != current) {
            let at = AttemptId { round: self.round(), attempt };
            self.send(silo, CoordinatorMessage::AbandonRequest { at });
        }
        match std::mem::replace(&mut self.state, State::Finished) {
            State::AwaitAdverts(mut state) => {
                if !state.adverts.contains_key(&silo) && !state.gone.contains(&silo) {
                    self.send_open(silo, state.attempt.at, state.attempt.kind);
                    state.asked.insert(silo);
                }
                self.state = State::AwaitAdverts(state);
            }
            State::AwaitShares(state) => {
                self.send_adverts(silo, &state.attempt, &state.adverts);
                self.state = State::AwaitShares(state);
            }
            State::AwaitMasked(state) => {
                self.send_shares(silo, &state.shared);
                self.state = State::AwaitMasked(state);
            }
            State::AwaitCommits(state) => {
                self.send_list(silo, state.shared.attempt.at, &state.list);
                self.state = State::AwaitCommits(state);
            }
            State::AwaitReveals(state) => {
                self.send_list(silo, state.shared.attempt.at, &state.list);
                self.send_certificate(silo, state.shared.attempt.at, &state.list, &state.certificate);
                self.state = State::AwaitReveals(state);
            }
            State::AwaitSketches(mut state) => {
                state.handed_back.remove(&silo);
                let has_none = matches!(state.answers.get(&silo), Some(None)) && !state.liars.contains(&silo);
                if matches!(state.busy, Busy::Waiting) && has_none {
                    state.answers.remove(&silo);
                }
                if !state.answers.contains_key(&silo) {
                    self.send_sum_request(silo, &state);
                }
                self.state = State::AwaitSketches(state);
            }
            State::AwaitResults(state) => {
                let (proof, payload) = (state.proof.clone(), Arc::clone(&state.payload));
                self.send_result(silo, &state.result, None, proof, payload);
                self.state = State::AwaitResults(state);
            }
            state @ (State::Closing { .. } | State::Finished) => {
                self.state = state;
                self.send(silo, CoordinatorMessage::Finished);
            }
            state => self.state = state,
        }
    }

    /// An attempt came to nothing: pauses, and asks everybody to abandon it if masked inputs may have gone out.
    pub(super) fn fail(&mut self, attempt: &Attempt, why: impl Into<String>, now_ms: u64) {
        let at = attempt.at;
        self.event(CoordinatorEvent::Failed(at, why.into()));
        self.failures = self.failures.saturating_add(1);
        if self.own.roster.len() - self.excluded.len() < usize::from(self.own.quorum.m) {
            self.excluded = self.guilty.clone();
        }
        if let Some(why) = self.too_few_left() {
            return self.stuck(why);
        }
        let phase = self.phase_ms(attempt.kind);
        let pause = (1000u64 << self.failures.min(16)).min(phase);
        self.state = State::Gathering { not_before: now_ms + pause, proofs_until: now_ms + phase };
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

    /// Whether q silos abandoned the attempt in progress.
    pub(super) fn is_abandoned(&self) -> bool {
        let current = self.state.attempt().map(|a| a.at.attempt);
        self.exposed.iter().any(|e| Some(e.attempt) == current && e.certificate.is_some())
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
        if self.state.attempt().is_none_or(|a| a.at != at) {
            return false;
        }
        self.event(CoordinatorEvent::Declined(at, silo, reason));
        if let (State::AwaitAdverts(state), DeclineReason::CannotTrain) = (&mut self.state, reason) {
            state.unable.insert(silo);
        }
        self.drop_from_phase(silo);
        true
    }

    /// Waits no longer for a silo in the phase in progress.
    pub(super) fn drop_from_phase(&mut self, silo: SiloId) {
        match &mut self.state {
            State::AwaitAdverts(s) => {
                s.adverts.remove(&silo);
                // one that was not asked may still come in with a proper Hello
                if s.asked.contains(&silo) {
                    s.gone.insert(silo);
                }
            }
            State::AwaitShares(s) => {
                s.gone.insert(silo);
            }
            State::AwaitMasked(s) => {
                s.gone.insert(silo);
            }
            // its masked input is shown instead
            State::AwaitSketches(s) if s.list.survivors().contains(&silo) => {
                s.answers.insert(silo, None);
            }
            // past the commit point everybody is needed: a silo that errs may come back with its journaled reply
            _ => {}
        }
    }

    pub(super) fn phase_event(&mut self, at: AttemptId, phase: Phase, silos: usize) {
        self.event(CoordinatorEvent::Phase { at, phase, silos });
    }
}
