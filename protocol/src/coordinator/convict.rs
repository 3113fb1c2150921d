//! Blame at the coordinator: what proves a silo at fault becomes evidence that anybody can check, and only evidence convicts.
//!
//! Contract: a silo is left out of the rest of the job only after [`crate::evidence`] has named it, with the roster and the
//! job alone; so whoever doubts the coordinator comes to the same verdict. A message whose signature does not verify proves
//! nothing to a third party and convicts nobody: its sender, known by its connection, is logged and dropped from the phase.

use std::sync::Arc;

use blindsum_crypto::verify::VerifyError;
use blindsum_crypto::{Digest, Evidence, Fault, SiloId};

use crate::coordinator::api::{Conviction, CoordinatorEvent, CoordinatorOutput};
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::state::Exposed;
use crate::coordinator::store::StoreRecord;
use crate::evidence;
use crate::message::AttemptId;

impl CoordinatorMachine {
    /// Hands on what a handler found; where a silo broke a rule, `fault` may prove it.
    pub(super) fn judged(
        &mut self,
        found: Result<bool, VerifyError>,
        at: AttemptId,
        fault: Fault,
    ) -> Result<bool, VerifyError> {
        if found.is_err() {
            self.accuse(at, fault);
        }
        found
    }

    /// Convicts the silo that this fault, in an attempt at the round in progress, proves guilty. `false` where it proves
    /// nothing.
    pub(super) fn accuse(&mut self, at: AttemptId, fault: Fault) -> bool {
        let Some(kind) = self.own.plan.kind(at.round) else { return false };
        let evidence = Evidence { context: self.context(at, kind), fault };
        self.convict(at, evidence, true).is_ok()
    }

    /// Convicts the silo that evidence names: out for the whole job. Its first evidence is kept.
    ///
    /// # Errors
    /// The evidence names nobody.
    pub(super) fn convict(&mut self, at: AttemptId, evidence: Evidence, is_new: bool) -> Result<SiloId, VerifyError> {
        let own = Arc::clone(&self.own);
        let guilt = evidence::check_with(&own.roster, own.plan.job_digest(), &own.quorum, &evidence)?;
        let silo = guilt.silo;
        self.excluded.insert(silo);
        if self.barred.insert(silo) {
            let evidence = Arc::new(evidence);
            if is_new {
                let evidence = Arc::clone(&evidence);
                self.output(CoordinatorOutput::Store(StoreRecord::Guilty { at, silo, evidence }));
            }
            self.output(CoordinatorOutput::Evidence(Conviction { at, guilt, evidence }));
            if let Some(state) = &mut self.state {
                state.stage_mut().leave_out(silo);
            }
        }
        Ok(silo)
    }

    /// SA-07: a silo whose journal went backwards sits out the job, since it may have forgotten a vote. That is its operator's
    /// mishap or a lie; two adverts do not say which, so it convicts nobody.
    pub(super) fn bar_restored(&mut self, silo: SiloId, at: AttemptId) {
        self.excluded.insert(silo);
        if self.barred.insert(silo) {
            self.output(CoordinatorOutput::Store(StoreRecord::Restored { at, silo }));
        }
    }

    /// Blames a dealer or a survivor in the log, and convicts it where the fault proves it; else it sits out the round.
    pub(super) fn blame(&mut self, silo: SiloId, at: AttemptId, what: &str, fault: Option<Fault>) {
        self.event(CoordinatorEvent::Misbehaviour(silo, what.to_owned()));
        self.excluded.insert(silo);
        if let Some(fault) = fault {
            self.accuse(at, fault);
        }
    }

    /// The attempt of the round in progress, if masked inputs may have gone out in it.
    pub(super) fn exposed_mut(&mut self, at: AttemptId) -> Option<&mut Exposed> {
        let round = self.round();
        self.exposed.iter_mut().find(|e| at == AttemptId { round, attempt: e.attempt })
    }

    /// The attempt has one survivor list from now on.
    pub(super) fn note_list(&mut self, at: AttemptId, t3: Digest) {
        if let Some(exposed) = self.exposed_mut(at) {
            exposed.t3 = Some(t3);
        }
    }

    /// Why no attempt can have enough silos any more.
    pub(super) fn too_few_left(&self) -> Option<String> {
        let left = self.own.roster.len() - self.barred.len();
        let needed = self.own.quorum.m;
        (left < usize::from(needed)).then(|| {
            format!(
                "{} silos are proven at fault or were restored from a copy, so that {left} are left where {needed} are needed; start a new job",
                self.barred.len()
            )
        })
    }
}
