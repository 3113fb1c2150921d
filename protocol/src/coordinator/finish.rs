//! P4 to P6 at the coordinator: commit, reveal, unmask, result.
//!
//! Contract: nothing is revealed to the coordinator before q silos have committed to the list that it stored, and then only
//! what that list implies. Once the certificate is in, the attempt is finished however long it takes: silos that vanish
//! come back with their journaled replies.

use std::collections::BTreeMap;
use std::sync::Arc;

use blindsum_crypto::evidence::{Fault, Over};
use blindsum_crypto::unmask::Recovery;
use blindsum_crypto::verify::{self, VerifiedList, VerifyError};
use blindsum_crypto::{
    CommitCertificate, CommitVote, ResultCertificate, ResultVote, Reveal, SiloId, SumProof, VerifySum,
};

use crate::coordinator::api::{CoordinatorEvent, CoordinatorOutput, Phase, RoundReport};
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::state::{
    Attempt, Closing, CollectCommits, CollectResults, CollectReveals, DealtSession, Gathering, State, Stuck, Unmasking,
};
use crate::coordinator::store::{StoreRecord, StoredResult, raise_marks};
use crate::coordinator::verify::{both_votes, same, second};
use crate::coordinator::work::{CoordinatorTask, CoordinatorWork, Unmask, UnmaskError, Unmasked};
use crate::message::{AttemptId, CoordinatorMessage, Payload};
use crate::plan::RoundKind;
use crate::step::Step;

impl CoordinatorMachine {
    pub(super) fn on_commit(&mut self, silo: SiloId, at: AttemptId, vote: CommitVote) -> Result<bool, VerifyError> {
        same(silo, vote.silo)?;
        let own = Arc::clone(&self.own);
        let abandoned = self.exposed_mut(at).and_then(|e| Some((e.t3?, *e.votes.get(&silo)?, e.ctx)));
        if let Some((t3, abandon, ctx)) = abandoned {
            verify::commit_vote(&own.rules(&ctx), &vote, &t3, &[silo])?;
            let commit = Over { over: t3, message: vote };
            return self.judged(both_votes(silo), at, Fault::CommitAndAbandon { commit, abandon });
        }
        let Some(State::CollectCommits(state)) = &mut self.state else { return Ok(false) };
        if state.dealt.attempt.at != at || state.votes.contains_key(&silo) {
            return Ok(false);
        }
        let rules = own.rules(&state.dealt.attempt.ctx);
        verify::commit_vote(&rules, &vote, &state.list.t3(), state.list.survivors())?;
        state.votes.insert(silo, vote);
        if let Some(exposed) = self.exposed_mut(at) {
            exposed.commits.insert(silo, vote);
        }
        let Some(State::CollectCommits(state)) = &self.state else { return Ok(true) };
        let (done, expected) = (state.votes.len(), usize::from(own.quorum.q));
        self.event(CoordinatorEvent::Progress { phase: Phase::Commit, done, expected });
        Ok(true)
    }

    /// q COMMIT votes are in, or will not come.
    pub(super) fn close_commits(&mut self, state: CollectCommits, now_ms: u64) {
        let q = usize::from(self.own.quorum.q);
        let at = state.dealt.attempt.at;
        if state.votes.len() >= q {
            let certificate = CommitCertificate(state.votes.into_values().collect());
            raise_marks(&mut self.marks, |silo| certificate.0.iter().any(|vote| vote.silo == silo));
            let record = StoreRecord::Certificate { at, certificate: certificate.clone() };
            self.output(CoordinatorOutput::Store(record));
            return self.start_reveal(state.dealt, state.list, certificate, now_ms);
        }
        if self.is_abandoned(at.attempt) {
            return self.fail(&state.dealt.attempt, "a quorum abandoned it", now_ms);
        }
        // Without fresh noise what was committed to cannot be sent again, so that giving up helps only where q silos can
        // still abandon the attempt; where they cannot, the missing votes are waited for.
        let can_abandon = usize::from(self.own.quorum.n) - state.votes.len() >= q;
        if can_abandon || self.is_fresh(state.dealt.attempt.kind) {
            let why = format!("{} of {q} needed COMMIT votes came", state.votes.len());
            return self.fail(&state.dealt.attempt, why, now_ms);
        }
        self.event(CoordinatorEvent::Waiting(format!("{at} lacks COMMIT votes; it goes on when the silos come back")));
        let mut state = state;
        self.rearm(&mut state.dealt.attempt.deadline, now_ms);
        // who is gone has had its time: the next look is at the deadline, not at once
        state.dealt.attempt.grace = u64::MAX / 4;
        self.state = Some(State::CollectCommits(Box::new(state)));
    }

    /// Whether a further attempt would carry fresh updates: what was committed to may then be given up. Measurements of the
    /// closing round are the same in every attempt.
    pub(super) fn is_fresh(&self, kind: RoundKind) -> bool {
        kind.trains() && self.own.plan.job().is_private()
    }

    pub(super) fn start_reveal(
        &mut self,
        mut dealt: DealtSession,
        list: VerifiedList,
        certificate: CommitCertificate,
        now_ms: u64,
    ) {
        let at = dealt.attempt.at;
        self.phase_event(at, Phase::Reveal, list.survivors().len());
        // after a restart silos have longer to find their way back
        let (deadline, grace) = (dealt.attempt.deadline, dealt.attempt.grace);
        self.next_phase(&mut dealt.attempt, now_ms);
        dealt.attempt.deadline = dealt.attempt.deadline.max(deadline);
        dealt.attempt.grace = self.phase_ms(dealt.attempt.kind).max(grace);
        let recovery = Recovery::new(self.own.quorum.t, &list);
        self.note_list(at, list.t3());
        if let Some(exposed) = self.exposed_mut(at) {
            exposed.commits.extend(certificate.0.iter().map(|vote| (vote.silo, *vote)));
        }
        let (answered, bad, tried) = (BTreeMap::new(), BTreeMap::new(), 0);
        let state = CollectReveals { dealt, list, certificate, recovery, answered, bad, tried };
        for &silo in state.list.survivors() {
            self.send_if(silo, state.message_to(silo));
        }
        self.state = Some(State::CollectReveals(Box::new(state)));
    }

    pub(super) fn on_reveal(&mut self, silo: SiloId, at: AttemptId, reveal: Reveal) -> Result<bool, VerifyError> {
        same(silo, reveal.silo)?;
        let Some(State::CollectReveals(state)) = &mut self.state else { return Ok(false) };
        if state.dealt.attempt.at != at {
            return Ok(false);
        }
        // SA-07: one reply per silo
        if let Some(first) = state.answered.get(&silo).or_else(|| state.bad.get(&silo)) {
            let found = second(silo, *first == reveal, "reply");
            let t3 = state.list.t3();
            let two = Box::new([first.clone(), reveal].map(|message| Over { over: t3, message }));
            return self.judged(found, at, Fault::TwoReveals(two));
        }
        let own = Arc::clone(&self.own);
        let rules = own.rules(&state.dealt.attempt.ctx);
        let verified = match verify::reveal(&rules, &reveal, &state.list, &state.dealt.dealings) {
            Ok(verified) => verified,
            Err(e) => {
                let DealtSession { adverts, headers, dealings, .. } = &state.dealt;
                let fault = Fault::bad_reveal(&reveal, adverts, headers, &state.list, dealings);
                let proven = self.accuse(at, fault);
                if let (true, Some(State::CollectReveals(state))) = (proven, &mut self.state) {
                    // no good one will come
                    state.bad.insert(silo, reveal);
                }
                return Err(e);
            }
        };
        state.recovery.add(&verified);
        state.answered.insert(silo, reveal);
        let (done, expected) = (state.answered.len(), usize::from(self.own.quorum.t));
        self.event(CoordinatorEvent::Progress { phase: Phase::Reveal, done, expected });
        Ok(true)
    }

    /// Every secret has t shares, or every survivor has answered, or the phase's time is up.
    pub(super) fn close_reveals(&mut self, state: CollectReveals, now_ms: u64) {
        let at = state.dealt.attempt.at;
        if state.is_ready() {
            let CollectReveals { dealt, list, certificate, recovery, answered, bad, .. } = state;
            let DealtSession { attempt, adverts, headers, dealings, acc } = dealt;
            let cohort = adverts.ids().collect();
            let (kind, bind, plan) = (attempt.kind, headers.bind(), Arc::clone(&self.own.plan));
            let global = Arc::clone(&self.chain.global);
            self.phase_event(at, Phase::Unmask, list.survivors().len());
            let list_kept = list.clone();
            self.state = Some(State::Unmasking(Box::new(Unmasking {
                attempt,
                cohort,
                bind,
                adverts: adverts.clone(),
                list: list_kept,
                certificate,
                dealings,
                answered,
                bad,
            })));
            let unmask = Unmask { at, kind, plan, adverts, headers, list, recovery, acc, global };
            return self.output(CoordinatorOutput::Work(CoordinatorWork(CoordinatorTask::Unmask(Box::new(unmask)))));
        }
        let mut state = state;
        if state.unanswered().is_empty() {
            // every reply is in, and still some secret lacks shares: no sum can come of this attempt
            return self.spoiled(&state.dealt.attempt, "its survivors hold too few shares", now_ms);
        }
        if state.tried > 0 && self.is_fresh(state.dealt.attempt.kind) {
            return self.fail(&state.dealt.attempt, "a dealer's shares do not fit, and no more come", now_ms);
        }
        self.event(CoordinatorEvent::Waiting(format!("{at} waits for silos that hold its last shares")));
        for silo in state.unanswered() {
            self.send_if(silo, state.message_to(silo));
        }
        self.rearm(&mut state.dealt.attempt.deadline, now_ms);
        state.dealt.attempt.grace = u64::MAX / 4;
        self.state = Some(State::CollectReveals(Box::new(state)));
    }

    pub(super) fn on_unmasked(&mut self, at: AttemptId, unmasked: Box<Result<Unmasked, UnmaskError>>, now_ms: u64) {
        let state = match self.state.take() {
            Some(State::Unmasking(state)) if state.attempt.at == at => state,
            other => {
                self.state = other;
                return;
            }
        };
        let Unmasking { mut attempt, cohort, bind, adverts: u1, list, certificate, dealings, answered, bad } = *state;
        let t = self.own.quorum.t;
        let fault = |dealer: &SiloId| Fault::off_polynomial(&u1, dealings.get(dealer)?, answered.values(), t);
        let Unmasked { t3, sum, step, secrets, adverts, headers, expected, guilty } = match *unmasked {
            Ok(unmasked) => unmasked,
            Err(UnmaskError { guilty, what, undone }) => {
                for silo in guilty {
                    self.blame(silo, at, &what, fault(&silo));
                }
                let Some(undone) = undone else { return self.spoiled(&attempt, what, now_ms) };
                // t of the shares that are still to come may be good
                self.next_phase(&mut attempt, now_ms);
                attempt.grace = self.phase_ms(attempt.kind);
                let Unmask { adverts, headers, recovery, acc, .. } = *undone;
                let dealt = DealtSession { attempt, adverts, headers, dealings, acc };
                let tried = answered.len();
                let state = CollectReveals { dealt, list, certificate, recovery, answered, bad, tried };
                let more = state.unanswered();
                if more.is_empty() {
                    return self.spoiled(&state.dealt.attempt, what, now_ms);
                }
                for silo in more {
                    self.send_if(silo, state.message_to(silo));
                }
                self.state = Some(State::CollectReveals(Box::new(state)));
                return;
            }
        };
        for silo in guilty {
            self.blame(silo, at, "it signed shares that do not lie on one polynomial (SA-09)", fault(&silo));
        }
        debug_assert_eq!(t3, list.t3());
        let result =
            Arc::new(StoredResult { at, bind, cohort, list: list.list().clone(), commits: certificate, secrets, sum });
        self.output(CoordinatorOutput::Store(StoreRecord::Result(StoredResult::clone(&result))));
        if self.own.plan.verify_sum() != VerifySum::Off {
            return self.start_sketches(attempt, result, step, (adverts, headers, list), expected, now_ms);
        }
        let payload = Arc::clone(&result.sum);
        self.start_results(attempt, result, step, None, payload, now_ms);
    }

    /// P6: the sum goes to everybody.
    pub(super) fn start_results(
        &mut self,
        mut attempt: Attempt,
        result: Arc<StoredResult>,
        step: Step,
        proof: Option<SumProof>,
        payload: Payload,
        now_ms: u64,
    ) {
        self.next_phase(&mut attempt, now_ms);
        let ready: Vec<SiloId> = self.own.roster.ids().filter(|&silo| self.is_ready(silo)).collect();
        self.phase_event(attempt.at, Phase::Result, ready.len());
        let state = CollectResults { attempt, result, step, proof, payload, votes: BTreeMap::new() };
        for silo in ready {
            self.send_envelope(silo, state.message());
        }
        self.state = Some(State::CollectResults(Box::new(state)));
    }

    pub(super) fn on_result_vote(
        &mut self,
        silo: SiloId,
        at: AttemptId,
        vote: ResultVote,
    ) -> Result<bool, VerifyError> {
        same(silo, vote.silo)?;
        let own = Arc::clone(&self.own);
        let Some(State::CollectResults(state)) = &mut self.state else { return Ok(false) };
        if state.attempt.at != at || state.votes.contains_key(&silo) {
            return Ok(false);
        }
        let rules = own.rules(&state.attempt.ctx);
        verify::result_vote(&rules, &vote, &state.step.result_hash, &state.step.model_hash)?;
        state.votes.insert(silo, vote);
        let (done, expected) = (state.votes.len(), usize::from(own.quorum.q));
        self.event(CoordinatorEvent::Progress { phase: Phase::Result, done, expected });
        Ok(true)
    }

    /// q RESULT votes are in: the round is over. Until then it waits, for as long as it takes.
    pub(super) fn close_results(&mut self, state: CollectResults, now_ms: u64) {
        let at = state.attempt.at;
        if state.votes.len() < usize::from(self.own.quorum.q) {
            let count = state.votes.len();
            self.event(CoordinatorEvent::Waiting(format!("{at}: {count} silos signed the result so far")));
            let mut state = state;
            self.rearm(&mut state.attempt.deadline, now_ms);
            self.state = Some(State::CollectResults(Box::new(state)));
            return;
        }
        let CollectResults { attempt, result, step, votes, .. } = state;
        let certificate = ResultCertificate(votes.into_values().collect());
        let marks = self.marks.clone();
        self.output(CoordinatorOutput::Store(StoreRecord::Marks { marks }));
        let record = StoreRecord::Certified { at, certificate: certificate.clone() };
        self.output(CoordinatorOutput::Store(record));
        let ready: Vec<SiloId> = self.own.roster.ids().filter(|&silo| self.is_ready(silo)).collect();
        for silo in ready {
            self.send(silo, CoordinatorMessage::Certified { at, certificate: certificate.clone() });
        }
        let report = RoundReport {
            bytes: self.bytes,
            duration_ms: now_ms.saturating_sub(attempt.opened_ms),
            ..report(&result, step)
        };
        raise_marks(&mut self.marks, |_| true);
        self.certify(result, certificate, &report);
        self.output(CoordinatorOutput::Report(report));
        for link in self.links.iter_mut().filter(|l| l.connected) {
            link.since = now_ms;
        }
        let gathering = Gathering { not_before: now_ms, proofs_until: now_ms };
        self.state = Some(State::Gathering(Box::new(gathering)));
        match (self.kind_in_progress(), self.too_few_left()) {
            (None, _) => self.close_job(now_ms),
            (Some(_), Some(why)) => self.stuck(why),
            (Some(_), None) => {}
        }
    }

    /// Extends the chain by a certified result.
    pub(super) fn certify(&mut self, result: Arc<StoredResult>, certificate: ResultCertificate, report: &RoundReport) {
        self.results.push((result, certificate));
        self.chain.hashes.push(report.result_hash);
        self.chain.model_hash = report.model_hash;
        self.chain.global = Arc::clone(&report.global);
        self.newest = 0;
        self.failures = 0;
        self.exposed.clear();
        self.excluded = self.barred.clone();
    }

    /// A committed attempt can give no sum. Only a round with fresh updates may be tried again.
    pub(super) fn spoiled(&mut self, attempt: &Attempt, why: impl Into<String>, now_ms: u64) {
        if self.is_fresh(attempt.kind) {
            return self.fail(attempt, why, now_ms);
        }
        let why = why.into();
        self.stuck(format!(
            "{} was committed to and gives no sum: {why}. Its silos may not send the same inputs again; start a new job, \
             without the silo at fault if one is named above",
            attempt.at
        ));
    }

    /// The job cannot go on. A restart takes up at the same place and comes to the same end.
    pub(super) fn stuck(&mut self, why: String) {
        self.event(CoordinatorEvent::Stuck(why));
        self.state = Some(State::Stuck(Box::new(Stuck)));
    }

    pub(super) fn close_job(&mut self, now_ms: u64) {
        self.state = Some(State::Closing(Box::new(Closing { deadline: now_ms + self.phase_ms(RoundKind::Evaluate) })));
    }

    pub(super) fn rearm(&self, deadline: &mut u64, now_ms: u64) {
        *deadline = now_ms + self.phase_ms(RoundKind::Evaluate).max(1000);
    }
}

/// What everybody may know of a finished round; bytes and duration are filled in where they are known.
pub(super) fn report(result: &StoredResult, step: Step) -> RoundReport {
    let Step { at, kind, survivors, metrics, saturated_share, global, model_hash, result_hash } = step;
    let dropped = result.cohort.iter().copied().filter(|id| !survivors.contains(id)).collect();
    RoundReport {
        round: at.round,
        attempt: at.attempt,
        kind,
        cohort: result.cohort.clone(),
        survivors,
        dropped,
        held_out: metrics.held_out,
        saturated_share,
        bytes: Default::default(),
        duration_ms: 0,
        result_hash,
        model_hash,
        global,
    }
}
