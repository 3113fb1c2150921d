//! P6 and catch-up at a silo: apply a round's sum, sign what came out, adopt it once q silos agree.
//!
//! Contract: this runs beside the sessions, so that a silo that was dropped, late or restarted gets the result the same
//! way. A silo signs one result per round, ever, and only one that it computed itself from a sum that it checked (SA-16,
//! where the job asks for it); it adopts only with q RESULT votes
//! over exactly what it computed (SA-14). What it signed and what was certified can differ only if somebody gave out two
//! sums; then it follows the certificate and says so.

use blindsum_crypto::verify as stateless;
use blindsum_crypto::{ResultCertificate, ResultVote, SiloId};

use crate::message::{AttemptId, Payload, RoundResult, SiloMessage};
use crate::plan::RoundKind;
use crate::silo::api::{Adoption, AdoptionReport, SiloEvent, SiloOutput};
use crate::silo::journal::JournalEntry;
use crate::silo::machine::{Held, SiloMachine, Update};
use crate::silo::session::Session;
use crate::silo::verify;
use crate::silo::work::{SiloTask, SiloWork, SumCheck};
use crate::step::Step;

/// The round in progress's result, as far as it has got.
#[derive(Default)]
pub(super) struct Results {
    /// A sum is being applied; the certificate may already be there.
    applying: Option<(AttemptId, Option<ResultCertificate>)>,
    /// Applied and signed; awaits the certificate.
    signed: Option<(Step, ResultVote)>,
}

impl Results {
    /// Whether the result of the round in progress is at hand.
    pub fn is_busy(&self) -> bool {
        self.applying.is_some() || self.signed.is_some()
    }

    /// The vote to repeat after a reconnect.
    pub fn vote(&self) -> Option<(AttemptId, ResultVote)> {
        self.signed.as_ref().map(|(step, vote)| (step.at, *vote))
    }
}

impl SiloMachine {
    pub(super) fn on_result(&mut self, result: RoundResult, payload: Payload) {
        let at = result.at;
        if at.round != self.held.round.saturating_add(1) {
            return self.ignore(format!("a result of {at}, which is not the next one"));
        }
        if let Some((applying, certificate)) = &mut self.results.applying {
            if *applying == at && certificate.is_none() {
                *certificate = result.certificate;
            }
            return self.ignore(format!("a repeated result of {at}"));
        }
        match (&self.results.signed, &result.certificate) {
            (Some((step, vote)), None) => {
                let (at, vote) = (step.at, *vote);
                return self.send(SiloMessage::ResultVote { at, vote });
            }
            (Some((step, _)), Some(certificate)) if step.at == at && self.is_certified(step, certificate) => {
                return self.on_certified(at, certificate.clone());
            }
            _ => {}
        }
        match self.check_result(&result) {
            Err(why) => self.misbehaviour(format!("{at}: {why}")),
            Ok(_) if self.forgot(&result).is_some() => {
                let what = self.forgot(&result).unwrap_or_default();
                self.leave("its own journal is an old one");
                self.restored = true;
                self.event(SiloEvent::Restored(at, what));
            }
            Ok((kind, t3, survivors)) => {
                let RoundResult { bind, list, certificate, proof, .. } = result;
                // q RESULT votes say that at least one honest silo checked the sum
                if let Err(why) = verify::has_proof(proof.is_some(), certificate.is_some(), &self.own.plan) {
                    return self.misbehaviour(format!("{at}: {why}"));
                }
                let check = proof.filter(|_| certificate.is_none()).map(|proof| {
                    let (roster, ctx) = (self.own.roster.clone(), self.context(at, kind).digest());
                    Box::new(SumCheck { roster, ctx, bind, list, proof })
                });
                self.results.applying = Some((at, certificate));
                let (plan, global) = (self.own.plan.clone(), self.held.global.clone());
                let task = SiloTask::Apply { at, kind, plan, t3, survivors, payload, check, global };
                self.output(SiloOutput::Work(SiloWork(task)));
            }
        }
    }

    /// SA-05, SA-08: q survivors committed to this list under this silo's own context.
    fn check_result(&self, result: &RoundResult) -> Result<(RoundKind, blindsum_crypto::Digest, Vec<SiloId>), String> {
        let at = result.at;
        let kind = verify::kind(&self.own.plan, at.round)?;
        let ctx = self.context(at, kind).digest();
        let rules = self.own.rules(&ctx);
        let list = stateless::closed_list(&rules, &result.bind, &result.list).map_err(|e| e.to_string())?;
        let t3 = list.t3();
        stateless::commit_certificate(&rules, &result.commits, &t3, list.survivors()).map_err(|e| e.to_string())?;
        let committed = self.journal.committed.as_ref().filter(|c| c.at == at).map(|c| c.reply.t3());
        verify::own_list(committed, &t3).map_err(|e| e.to_string())?;
        Ok((kind, t3, list.survivors().to_vec()))
    }

    /// SA-07: what of a checked result carries this silo's own signature, but is not in its journal: then the journal is
    /// not the one that this silo last wrote.
    fn forgot(&self, result: &RoundResult) -> Option<&'static str> {
        let (at, me) = (result.at, self.own.me);
        // past its adoption the journal no longer lists a round's attempts
        if self.journal.adopted.is_some_and(|(round, ..)| round >= at.round) {
            return None;
        }
        let masked = self.journal.newest.round == at.round && self.journal.masked.contains(&at.attempt);
        if result.list.0.iter().any(|m| m.silo == me) && !masked {
            return Some("masked input");
        }
        let voted = self.journal.commits.contains(&at);
        (result.commits.0.iter().any(|vote| vote.silo == me) && !voted).then_some("COMMIT vote")
    }

    pub(super) fn on_applied(&mut self, at: AttemptId, step: Result<Step, String>) {
        let Some((_, certificate)) = self.results.applying.take_if(|(applying, _)| *applying == at) else {
            return self.ignore(format!("an applied result of {at}, which is over"));
        };
        let step = match step {
            Ok(step) => step,
            Err(why) => return self.misbehaviour(format!("{at}: {why}")),
        };
        if let Some(certificate) = certificate {
            if self.is_certified(&step, &certificate) {
                return self.adopt(step);
            }
            return self.misbehaviour(format!("{at}: the certificate is not over what the sum leads to (SA-14)"));
        }
        let round = at.round;
        let past = self.journal.adopted.is_some_and(|(adopted, ..)| adopted >= round)
            || self.journal.voted.as_ref().is_some_and(|v| v.at.round > round);
        if past {
            return self.ignore(format!("an uncertified result of {at}, a round that this silo has left behind"));
        }
        let before = self.journal.voted.as_ref().filter(|v| v.at.round == round);
        let repeats = match verify::one_result(before, &step) {
            Ok(repeats) => repeats,
            // one result per round, ever: another one needs q others
            Err(_) => return self.event(SiloEvent::Forked(at)),
        };
        let vote = match before.filter(|_| repeats) {
            Some(v) => v.vote,
            None => {
                let ctx = self.context(at, step.kind).digest();
                let own = &self.own;
                let (result_hash, model_hash) = (step.result_hash, step.model_hash);
                let vote = ResultVote::sign(&own.identity, &ctx, own.me, &result_hash, &model_hash);
                if !self.write(JournalEntry::Result { at, result_hash, model_hash, vote }) {
                    return;
                }
                vote
            }
        };
        self.results.signed = Some((step, vote));
        self.send(SiloMessage::ResultVote { at, vote });
    }

    pub(super) fn on_certified(&mut self, at: AttemptId, certificate: ResultCertificate) {
        if let Some((_, slot)) = self.results.applying.as_mut().filter(|(applying, _)| *applying == at) {
            *slot = Some(certificate);
            return;
        }
        match self.results.signed.take() {
            Some((step, _)) if step.at == at && self.is_certified(&step, &certificate) => self.adopt(step),
            Some((step, vote)) if step.at != at => {
                self.results.signed = Some((step, vote));
                self.ignore(format!("a certificate of {at}, whose result this silo was not shown"));
            }
            // without its sum the certified result cannot be adopted; after the next Hello it comes along
            Some(_) => self.misbehaviour(format!("{at}: the certificate is not over what this silo was shown (SA-14)")),
            None => self.ignore(format!("a certificate of {at}, which is not awaited")),
        }
    }

    fn is_certified(&self, step: &Step, certificate: &ResultCertificate) -> bool {
        let ctx = self.context(step.at, step.kind).digest();
        let rules = self.own.rules(&ctx);
        stateless::result_certificate(&rules, certificate, &step.result_hash, &step.model_hash).is_ok()
    }

    fn adopt(&mut self, step: Step) {
        let Step { at, kind, survivors, metrics, saturated_share, global, model_hash, result_hash } = step;
        let signed_other = self.journal.voted.as_ref().filter(|v| v.at.round == at.round);
        let mut forked = signed_other.is_some_and(|v| v.result_hash != result_hash);
        match self.journal.adopted {
            Some((round, hash, _)) if round >= at.round => forked |= round == at.round && hash != result_hash,
            _ => {
                if !self.write(JournalEntry::Adopted { at, result_hash, model_hash }) {
                    return;
                }
            }
        }
        if forked {
            self.event(SiloEvent::Forked(at));
        }
        if self.session.head().is_some_and(|head| head.at.round <= at.round) {
            self.session = Session::Idle;
        }
        if self.update.round().is_some_and(|round| round <= at.round) {
            self.update = Update::None;
        }
        self.seen.clear();
        self.results = Results::default();
        self.held = Held { round: at.round, result_hash, model_hash, global: global.clone() };
        let report = AdoptionReport { survivors, held_out: metrics.held_out, saturated_share };
        self.output(SiloOutput::Adopt(Adoption { at, kind, global, result_hash, model_hash, report }));
        self.hello();
        if at.round >= self.own.plan.last_round() {
            self.finish();
        }
    }
}
