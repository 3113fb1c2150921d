//! P0 and P1 at a silo: whether to take part in an attempt, with which update, and the advert that says it is ready.
//!
//! Contract: an attempt is joined only if every field of its opening equals what the silo itself holds, and if it is newer
//! than all that the journal knows (SA-07). An update whose masked input went out before is used again only against q
//! ABANDON votes for every such attempt (SA-13); without them, under DP, a fresh update goes out, and no held-out counts.

use blindsum_crypto::advert::SessionSecrets;
use blindsum_crypto::{Advert, Context};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use crate::message::{AttemptId, DeclineReason, Envelope, Open, SiloMessage};
use crate::plan::RoundKind;
use crate::silo::api::{SiloEvent, SiloOutput, TrainRequest};
use crate::silo::journal::JournalEntry;
use crate::silo::machine::{SiloMachine, Update};
use crate::silo::session::{AwaitAdverts, Session, SessionHead};
use crate::silo::verify;

impl SiloMachine {
    pub(super) fn on_open(&mut self, open: Open, now_ms: u64) {
        let at = AttemptId { round: open.context.round, attempt: open.context.attempt };
        if self.session.head().is_some_and(|head| head.at == at) {
            return self.ignore(format!("a repeated opening of {at}"));
        }
        let kind = match self.check_context(at, &open.context) {
            Ok(kind) => kind,
            Err(why) => return self.decline(at, DeclineReason::Mismatch, why),
        };
        if let Err(why) = verify::above(at, self.journal.newest) {
            return self.decline(at, DeclineReason::Mismatch, why.to_string());
        }
        let ctx = open.context.digest();
        if !self.seen.contains(&at.attempt) {
            self.seen.push(at.attempt);
        }
        let ctx_of = |attempt| self.context(AttemptId { round: at.round, attempt }, kind).digest();
        let unproven = match verify::unproven(&self.journal.masked, &open.abandoned, self.own.rules(&ctx), ctx_of) {
            Ok(unproven) => unproven,
            Err(why) => return self.decline(at, DeclineReason::Mismatch, why.to_string()),
        };
        let silent = !unproven.is_empty();
        if silent {
            // SA-13: two sums over one update give their difference
            if !kind.trains() || !self.own.plan.job().is_private() {
                let why = format!("its masked input of attempt {} may still enter a sum", list(&unproven));
                return self.decline(at, DeclineReason::AwaitsResult, why);
            }
            // fresh noise, charged again by the service; an update that never went out may stay
            if matches!(&self.update, Update::Ready { sent_in, .. } if verify::spent(sent_in, &unproven)) {
                self.update = Update::None;
            }
        }
        self.leave("a later attempt began");
        if !self.write(JournalEntry::Joined { at }) {
            return;
        }
        self.event(SiloEvent::Joined(at));
        let params = self.own.plan.params(kind);
        let deadline = now_ms + params.training_deadline_ms + params.phase_deadline_ms;
        let train_by = now_ms + params.training_deadline_ms;
        self.session =
            Session::AwaitUpdate(SessionHead { at, kind, ctx, silent, deadline: Some(deadline), reply: None });
        if self.update.round() != Some(at.round) {
            self.update = Update::Training { round: at.round };
            let global = self.held.global.clone();
            self.output(SiloOutput::Train(TrainRequest { at, kind, global, deadline_ms: train_by }));
        }
        self.advertise(now_ms);
    }

    /// P0: compares the opening with what this silo itself holds.
    fn check_context(&self, at: AttemptId, offered: &Context) -> Result<RoundKind, String> {
        let adopted = self.journal.adopted.map(|(round, ..)| round);
        verify::round(at, self.held.round, adopted).map_err(|e| e.to_string())?;
        if self.results.is_busy() {
            return Err("the result of this very round is being applied".into());
        }
        let kind = verify::kind(&self.own.plan, at.round)?;
        verify::context(&self.context(at, kind), offered).map_err(|e| e.to_string())?;
        Ok(kind)
    }

    /// P1: if the session waits for the update and the update is there, says so with fresh keys.
    pub(super) fn advertise(&mut self, now_ms: u64) {
        let Session::AwaitUpdate(head) = &self.session else { return };
        if !matches!(&self.update, Update::Ready { round, .. } if *round == head.at.round) {
            return;
        }
        let Some(mut head) = std::mem::replace(&mut self.session, Session::Idle).into_head() else { return };
        let secrets = SessionSecrets::generate(&head.ctx, &mut *self.rng);
        let own = &self.own;
        let advert = Advert::sign(&own.identity, &head.ctx, own.me, &secrets, self.journal.mark, !head.silent);
        let message = SiloMessage::Advert { at: head.at, advert: advert.clone() };
        let phase = own.plan.params(head.kind).phase_deadline_ms;
        // others may train until the deadline of the opening, which lies one phase before this one
        head.deadline = head.deadline.map(|d| d.max(now_ms) + 2 * phase);
        self.reply(head, Envelope::bare(message), "adverts", |head| {
            Session::AwaitAdverts(AwaitAdverts { head, secrets, advert })
        });
    }

    /// A generator for stochastic rounding that can move to another thread.
    pub(super) fn seeded_rng(&mut self) -> ChaCha20Rng {
        let mut seed = Zeroizing::new([0u8; 32]);
        self.rng.fill_bytes(seed.as_mut_slice());
        ChaCha20Rng::from_seed(*seed)
    }
}

fn list(attempts: &[u32]) -> String {
    attempts.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
}
