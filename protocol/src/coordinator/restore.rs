//! A coordinator from its store: replays the results, and takes up an attempt that had reached its commit point.
//!
//! Contract: what the store holds is checked as if it had just been received; a store that does not add up is an error and
//! never repaired by guessing.

use std::collections::BTreeMap;
use std::sync::Arc;

use blindsum_crypto::verify::{self, VerifiedList};
use blindsum_crypto::{CommitCertificate, ShareHeader, VerifySum, sketch, transcript, unmask};

use crate::coordinator::api::{CoordinatorOutput, CoordinatorSetup, RoundReport};
use crate::coordinator::finish::report;
use crate::coordinator::machine::{Chain, CoordinatorMachine, CoordinatorTerms};
use crate::coordinator::state::{Attempt, CollectCommits, DealtSession, Exposed, Gathering, State};
use crate::coordinator::store::{StoreState, StoredAttempt, StoredResult};
use crate::message::AttemptId;
use crate::silo::SetupError;
use crate::silo::work::threads;
use crate::step::{Step, step};

impl CoordinatorMachine {
    /// Makes the machine from its store. The report of the last certified round is put out once more (with bytes and
    /// duration 0), since the service may have stopped before it dealt with it.
    ///
    /// # Errors
    /// [`SetupError`] where plan and roster, or the store's records, do not belong together.
    pub fn new(config: CoordinatorSetup, now_ms: u64) -> Result<CoordinatorMachine, SetupError> {
        let CoordinatorSetup { roster, plan, store } = config;
        if plan.roster_hash() != roster.hash() {
            return Err(SetupError::Roster);
        }
        let global = plan.initial_global();
        let chain = Chain { hashes: vec![plan.job_digest()], model_hash: plan.model_hash(&global), global };
        let quorum = plan.quorum();
        let mut machine = CoordinatorMachine::from_parts(CoordinatorTerms { roster, plan, quorum }, chain, now_ms);
        machine.replay(store, now_ms).map_err(SetupError::Store)?;
        Ok(machine)
    }

    fn replay(&mut self, store: StoreState, now_ms: u64) -> Result<(), String> {
        let StoreState { results, guilty, restored, marks, newest, exposed, abandoned, attempt } = store;
        self.marks = marks;
        for (at, silo, evidence) in guilty {
            let named = self.convict(at, Arc::unwrap_or_clone(evidence), false).map_err(|e| format!("{at}: {e}"))?;
            if named != silo {
                return Err(format!("{at}: the evidence against silo {silo} is against silo {named}"));
            }
        }
        let n = self.own.roster.len();
        for silo in restored.into_iter().filter(|silo| silo.index() < n) {
            self.barred.insert(silo);
            self.excluded.insert(silo);
        }
        let mut uncertified = None;
        let mut last: Option<RoundReport> = None;
        for (result, certificate) in results {
            let step = self.recompute(&result)?;
            match certificate {
                Some(certificate) => {
                    let ctx = self.context(result.at, step.kind).digest();
                    let own = Arc::clone(&self.own);
                    verify::result_certificate(&own.rules(&ctx), &certificate, &step.result_hash, &step.model_hash)
                        .map_err(|e| format!("{}: {e}", result.at))?;
                    let report = report(&result, step);
                    self.certify(result, certificate, &report);
                    last = Some(report);
                }
                None => uncertified = Some((result, step)),
            }
        }
        if let Some(report) = last {
            self.output(CoordinatorOutput::Report(report));
        }
        let Some(kind) = self.kind_in_progress() else {
            self.close_job(now_ms);
            return Ok(());
        };
        let round = self.round();
        if let Some(newest) = newest.filter(|at| at.round == round) {
            self.newest = newest.attempt;
            for attempt in exposed {
                let ctx = self.context(AttemptId { round, attempt }, kind).digest();
                let certificate = abandoned.iter().find(|(a, _)| *a == attempt).map(|(_, c)| c.clone());
                self.exposed.push(Exposed::new(attempt, ctx, certificate));
            }
        }
        let phase = self.phase_ms(kind);
        let gathering = Gathering { not_before: now_ms, proofs_until: now_ms + phase };
        self.state = Some(State::Gathering(Box::new(gathering)));
        let resumed = |at: AttemptId, ctx| Attempt {
            at,
            kind,
            ctx,
            opened_ms: now_ms,
            // silos have to find their way back first
            deadline: now_ms + 2 * phase,
            grace: 2 * phase,
        };
        if let Some((result, step)) = uncertified {
            let at = result.at;
            let resumed = resumed(at, self.context(at, kind).digest());
            if self.own.plan.verify_sum() == VerifySum::Off {
                let payload = Arc::clone(&result.sum);
                self.start_results(resumed, result, step, None, payload, now_ms);
                return Ok(());
            }
            let stored = attempt.filter(|a| a.at == at).ok_or_else(|| format!("{at}: its session is missing"))?;
            let (dealt, list, _) = self.rebuild(resumed, stored)?;
            let key = transcript::rows_key(&list.t3(), &transcript::sum_hash(&result.sum));
            let params = self.own.plan.params(kind);
            let expected =
                sketch::subset_sums(params, &key, &dealt.acc, threads()).map_err(|e| format!("{at}: {e}"))?;
            let DealtSession { attempt, adverts, headers, .. } = dealt;
            self.start_sketches(attempt, result, step, (adverts, headers, list), expected, now_ms);
        } else if let Some(stored) =
            attempt.filter(|a| a.at.round == round && a.list.is_some()).filter(|a| !self.is_abandoned(a.at.attempt))
        {
            let attempt = resumed(stored.at, self.context(stored.at, kind).digest());
            self.take_up(attempt, stored, now_ms)?;
        } else if let Some(why) = self.too_few_left() {
            self.stuck(why);
        }
        Ok(())
    }

    fn recompute(&self, result: &StoredResult) -> Result<Step, String> {
        let at = result.at;
        let kind = self.own.plan.kind(at.round).ok_or_else(|| format!("the job has no round {}", at.round))?;
        let t3 = transcript::t3(&result.bind, &result.list.0);
        let survivors = result.list.0.iter().map(|m| m.silo).collect();
        step(&self.own.plan, at, kind, &t3, survivors, &result.sum, &self.chain.global)
            .map_err(|e| format!("{at}: {e}"))
    }

    /// P4 or P5 of a stored attempt.
    fn take_up(&mut self, attempt: Attempt, stored: StoredAttempt, now_ms: u64) -> Result<(), String> {
        let own = Arc::clone(&self.own);
        let (dealt, list, certificate) = self.rebuild(attempt, stored)?;
        match certificate {
            Some(certificate) => {
                let (t3, survivors) = (list.t3(), list.survivors());
                verify::commit_certificate(&own.rules(&dealt.attempt.ctx), &certificate, &t3, survivors)
                    .map_err(|e| format!("{}: {e}", dealt.attempt.at))?;
                self.start_reveal(dealt, list, certificate, now_ms);
            }
            None => {
                self.note_list(dealt.attempt.at, list.t3());
                let votes = BTreeMap::new();
                self.state = Some(State::CollectCommits(Box::new(CollectCommits { dealt, list, votes })));
            }
        }
        Ok(())
    }

    /// A stored attempt past P3, every part checked.
    fn rebuild(
        &self,
        attempt: Attempt,
        stored: StoredAttempt,
    ) -> Result<(DealtSession, VerifiedList, Option<CommitCertificate>), String> {
        let own = Arc::clone(&self.own);
        let StoredAttempt { at, adverts, dealings, masked, list, certificate } = stored;
        let wrong = |e: verify::VerifyError| format!("{at}: {e}");
        let rules = own.rules(&attempt.ctx);
        // the marks have passed these adverts long since
        let adverts = verify::adverts(&rules, adverts, None, &[]).map_err(wrong)?;
        let headers: Vec<ShareHeader> = dealings.iter().map(|d| d.header.clone()).collect();
        let headers = verify::headers(&rules, headers, &adverts, None).map_err(wrong)?;
        let mut by_dealer = BTreeMap::new();
        for dealing in dealings {
            let dealing = verify::dealing(&rules, dealing, &adverts).map_err(wrong)?;
            by_dealer.insert(dealing.dealer(), dealing);
        }
        let list = list.ok_or_else(|| format!("{at}: the survivor list is missing"))?;
        let list = verify::survivor_list(&rules, list, &headers, None).map_err(wrong)?;
        let params = own.plan.params(attempt.kind);
        let mut acc = vec![0; params.lanes()];
        let mut found = Vec::new();
        for (header, payload) in masked.into_iter().filter(|(h, _)| list.list().0.contains(h)) {
            let masked = verify::masked(&rules, header, &payload, params, &headers);
            unmask::accumulate(&mut acc, &masked.map_err(wrong)?, params).map_err(|e| format!("{at}: {e}"))?;
            found.push(header.silo);
        }
        found.sort_unstable();
        if found != list.survivors() {
            return Err(format!("{at}: not every survivor's masked input is there exactly once"));
        }
        Ok((DealtSession { attempt, adverts, headers, dealings: by_dealer, acc }, list, certificate))
    }
}
