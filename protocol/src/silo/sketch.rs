//! P6 at a silo, before the result: the subset sums of its own masked input, by which everybody checks the sum (SA-16).
//!
//! Contract: a sketch is made for one sum per attempt and process, of the masked input whose hash stands in the list that
//! this silo voted for. After a restart the silo no longer holds it and says so; the coordinator hands it back. A sketch
//! says nothing that the masked input does not say.

use blindsum_crypto::{Digest, Sketch, transcript};

use crate::message::{AttemptId, MaskedBack, Payload, SiloMessage};
use crate::silo::api::SiloOutput;
use crate::silo::machine::SiloMachine;
use crate::silo::session::{Session, Voted};
use crate::silo::verify;
use crate::silo::work::{SiloTask, SiloWork};

impl SiloMachine {
    /// The coordinator has fixed S.
    pub(super) fn on_sum_request(&mut self, at: AttemptId, sum_hash: Digest, back: Option<(MaskedBack, Payload)>) {
        if at.round != self.held.round.saturating_add(1) {
            return self.ignore(format!("a request for subset sums of {at}, whose round is not in progress"));
        }
        let me = self.own.me;
        let t3 = self.journal.committed.as_ref().filter(|c| c.at == at).map(|c| c.reply.t3());
        let voted = self.session.voted_mut().filter(|voted| voted.head.at == at);
        let (Some(t3), Some(voted)) = (t3, voted) else {
            return self.send(SiloMessage::Sketch { at, sketch: None });
        };
        if let Some((back, packed)) = back.filter(|_| voted.packed.is_none()) {
            if let Err(why) = verify::handed_back(&back, &packed, &t3, me) {
                return self.misbehaviour(format!("{at}: {why}"));
            }
            voted.packed = Some(packed);
        }
        if let Err(why) = verify::one_sum(voted.sketch.as_ref().map(|(made_for, _)| made_for), &sum_hash) {
            return self.misbehaviour(format!("{at}: {why}"));
        }
        match (voted.sketch.as_ref().filter(|(made_for, _)| *made_for == sum_hash), &voted.packed) {
            (Some((_, Some(sketch))), _) => {
                let sketch = Some(sketch.clone());
                self.send(SiloMessage::Sketch { at, sketch });
            }
            (Some((_, None)), _) => self.ignore(format!("a repeated request for subset sums of {at}")),
            (None, None) => self.send(SiloMessage::Sketch { at, sketch: None }),
            (None, Some(packed)) => {
                let (kind, packed) = (voted.head.kind, packed.clone());
                voted.sketch = Some((sum_hash, None));
                let (plan, key) = (self.own.plan.clone(), transcript::rows_key(&t3, &sum_hash));
                let task = SiloTask::Sketch { at, kind, plan, key, sum_hash, packed };
                self.output(SiloOutput::Work(SiloWork(task)));
            }
        }
    }

    /// The subset sums are there: signs and sends them.
    pub(super) fn on_sketched(&mut self, at: AttemptId, sum_hash: Digest, values: Result<Vec<u32>, String>) {
        let t3 = self.journal.committed.as_ref().filter(|c| c.at == at).map(|c| c.reply.t3());
        let own = self.own.clone();
        let voted = self.session.voted_mut().filter(|voted| voted.head.at == at);
        let (Some(t3), Some(Voted { head, sketch: Some((made_for, slot)), .. })) = (t3, voted) else {
            return self.ignore(format!("subset sums of {at}, which is over"));
        };
        if *made_for != sum_hash {
            return self.ignore(format!("subset sums of {at} for another sum"));
        }
        let sketch = values.ok().map(|values| Sketch::sign(&own.identity, &head.ctx, own.me, &t3, &sum_hash, values));
        slot.clone_from(&sketch);
        self.send(SiloMessage::Sketch { at, sketch });
    }
}

impl Session {
    fn voted_mut(&mut self) -> Option<&mut Voted> {
        match self {
            Session::AwaitCertificate(voted) | Session::AwaitResult(voted) => Some(voted),
            _ => None,
        }
    }
}
