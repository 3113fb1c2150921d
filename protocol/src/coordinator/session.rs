//! P1 to P3 at the coordinator: adverts, shares, masked inputs, each collected until all are in or time is up.
//!
//! Contract: what a silo sends is checked on arrival and blamed on it; a phase that closes with fewer than m silos fails
//! the attempt. Masked inputs are stored as they come and added up at once; no silo's y stays in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindsum_crypto::evidence::{Complaints, Fault, Over};
use blindsum_crypto::verify::{self, Check, VerifyError};
use blindsum_crypto::{Advert, Complaint, Dealing, MaskedHeader, ShareHeader, SiloId, SurvivorList, unmask};

use crate::coordinator::api::{CoordinatorEvent, CoordinatorOutput, DisconnectReason, Phase};
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::state::{
    Attempt, CollectAdverts, CollectCommits, CollectMasked, CollectShares, DealtSession, State,
};
use crate::coordinator::store::{StoreRecord, note_marks, raise_marks};
use crate::coordinator::verify::{convicted, same, second, too_few_shares};
use crate::message::{AttemptId, CoordinatorMessage, Payload};

impl CoordinatorMachine {
    pub(super) fn on_advert(&mut self, silo: SiloId, at: AttemptId, advert: Advert) -> Result<bool, VerifyError> {
        same(silo, advert.silo)?;
        let own = Arc::clone(&self.own);
        let Some(State::CollectAdverts(state)) = &mut self.state else { return Ok(false) };
        if state.attempt.at != at || !state.asked.contains(&silo) || state.gone.contains(&silo) {
            return Ok(false);
        }
        if let Some(first) = state.adverts.get(&silo) {
            let found = second(silo, *first == advert, "advert");
            let two = Box::new([first.clone(), advert]);
            return self.judged(found, at, Fault::TwoAdverts(two));
        }
        verify::advert(&own.rules(&state.attempt.ctx), &advert)?;
        state.adverts.insert(silo, advert);
        let (done, expected) = (state.adverts.len(), state.asked.len().saturating_sub(state.gone.len()));
        self.event(CoordinatorEvent::Progress { phase: Phase::Advertise, done, expected });
        Ok(true)
    }

    /// P1 is over: U1.
    pub(super) fn close_adverts(&mut self, state: CollectAdverts, now_ms: u64) {
        let CollectAdverts { mut attempt, asked, unable, mut adverts, .. } = state;
        let own = Arc::clone(&self.own);
        let at = attempt.at;
        // SA-01, SA-07: whoever repeats a key or comes with an older journal is left out, the others go on
        let verified = loop {
            let list: Vec<Advert> = adverts.values().cloned().collect();
            match verify::adverts(&own.rules(&attempt.ctx), list, None, &self.marks) {
                Ok(verified) => break verified,
                Err(VerifyError { check, blamed: Some(silo), what }) if adverts.remove(&silo).is_some() => {
                    self.event(CoordinatorEvent::Dropped(at, silo, what.clone()));
                    if check == Check::JournalForward {
                        // its journal grows with every attempt it joins: refused only once, it would soon be long enough
                        self.bar_restored(silo, at);
                        self.disconnect(silo, DisconnectReason::Restored, now_ms);
                    }
                }
                Err(e) => {
                    let out = unable.union(&self.barred).count();
                    let (left, m) = (own.roster.len() - out, usize::from(own.quorum.m));
                    if !unable.is_empty() && left < m {
                        return self.stuck(format!(
                            "{at}: {} silos cannot train any more, so that {left} are left where {m} are needed; their logs \
                             say why (a spent privacy budget among others: see privacy.spare_rounds)",
                            unable.len()
                        ));
                    }
                    let why = format!("{e} (of {} silos asked)", asked.len());
                    return self.fail(&attempt, why, now_ms);
                }
            }
        };
        for silo in asked.iter().filter(|id| !adverts.contains_key(id)) {
            self.event(CoordinatorEvent::Dropped(at, *silo, "its update was not ready".into()));
        }
        let adverts: Vec<Advert> = adverts.into_values().collect();
        note_marks(&mut self.marks, &adverts);
        self.output(CoordinatorOutput::Store(StoreRecord::Adverts { at, adverts }));
        self.phase_event(at, Phase::Share, verified.adverts().len());
        self.next_phase(&mut attempt, now_ms);
        let (gone, dealings) = (BTreeSet::new(), BTreeMap::new());
        let state = CollectShares { attempt, adverts: verified, gone, dealings };
        for silo in state.adverts.ids() {
            self.send_if(silo, state.message_to(silo));
        }
        self.state = Some(State::CollectShares(Box::new(state)));
    }

    pub(super) fn on_dealing(&mut self, silo: SiloId, at: AttemptId, dealing: Dealing) -> Result<bool, VerifyError> {
        same(silo, dealing.header.silo)?;
        let own = Arc::clone(&self.own);
        let Some(State::CollectShares(state)) = &mut self.state else { return Ok(false) };
        if state.attempt.at != at || state.gone.contains(&silo) {
            return Ok(false);
        }
        if let Some(first) = state.dealings.get(&silo) {
            let found = second(silo, first.is(&dealing), "dealing");
            let over = |message: &ShareHeader| Over { over: state.adverts.t1(), message: message.clone() };
            let two = Box::new([over(first.header().header()), over(&dealing.header)]);
            return self.judged(found, at, Fault::TwoHeaders(two));
        }
        let verified = verify::dealing(&own.rules(&state.attempt.ctx), dealing.clone(), &state.adverts)?;
        state.dealings.insert(silo, verified);
        let (done, expected) = (state.dealings.len(), state.adverts.adverts().len());
        raise_marks(&mut self.marks, |id| id == silo);
        self.output(CoordinatorOutput::Store(StoreRecord::Dealing { at, dealing }));
        self.event(CoordinatorEvent::Progress { phase: Phase::Share, done, expected });
        Ok(true)
    }

    /// P2 is over: U2. From here on masked inputs may go out.
    pub(super) fn close_shares(&mut self, state: CollectShares, now_ms: u64) {
        let CollectShares { mut attempt, adverts, dealings, .. } = state;
        let own = Arc::clone(&self.own);
        let at = attempt.at;
        let headers = dealings.values().map(|d| d.header().header().clone()).collect();
        let headers = match verify::headers(&own.rules(&attempt.ctx), headers, &adverts, None) {
            Ok(headers) => headers,
            Err(e) => return self.fail(&attempt, e.to_string(), now_ms),
        };
        for silo in adverts.ids().filter(|id| !dealings.contains_key(id)) {
            self.event(CoordinatorEvent::Dropped(at, silo, "it sent no shares".into()));
        }
        self.expose(&attempt);
        self.output(CoordinatorOutput::Store(StoreRecord::Sharers { at }));
        self.phase_event(at, Phase::MaskedInput, dealings.len());
        self.next_phase(&mut attempt, now_ms);
        let acc = vec![0; own.plan.params(attempt.kind).lanes()];
        let dealt = DealtSession { attempt, adverts, headers, dealings, acc };
        for silo in dealt.headers.ids() {
            self.send_if(silo, dealt.message_to(silo));
        }
        let (gone, masked, complaints) = (BTreeSet::new(), BTreeMap::new(), BTreeMap::new());
        self.state = Some(State::CollectMasked(Box::new(CollectMasked { dealt, gone, masked, complaints })));
    }

    /// A complaint is recorded; whoever holds a bad share has one share less to reveal.
    pub(super) fn on_complaint(
        &mut self,
        silo: SiloId,
        at: AttemptId,
        complaint: Complaint,
    ) -> Result<bool, VerifyError> {
        same(silo, complaint.silo)?;
        let own = Arc::clone(&self.own);
        let Some(State::CollectMasked(state)) = &mut self.state else { return Ok(false) };
        let dealer = complaint.dealer;
        let Some(dealing) = state.dealt.dealings.get(&dealer).filter(|_| state.dealt.attempt.at == at) else {
            return Ok(false);
        };
        let rules = own.rules(&state.dealt.attempt.ctx);
        verify::complaint(&rules, &complaint, dealing.header(), &state.dealt.adverts)?;
        state.complaints.entry(dealer).or_default().entry(silo).or_insert(complaint);
        self.event(CoordinatorEvent::Complaint(at, silo, dealer));
        Ok(true)
    }

    pub(super) fn on_masked(
        &mut self,
        silo: SiloId,
        at: AttemptId,
        header: MaskedHeader,
        payload: Payload,
    ) -> Result<bool, VerifyError> {
        same(silo, header.silo)?;
        let own = Arc::clone(&self.own);
        let Some(State::CollectMasked(state)) = &mut self.state else { return Ok(false) };
        if state.dealt.attempt.at != at || state.gone.contains(&silo) {
            return Ok(false);
        }
        // SA-04, SA-07: one y per silo
        if let Some(first) = state.masked.get(&silo) {
            let found = second(silo, first.hash == header.hash, "masked input");
            let bind = state.dealt.headers.bind();
            let two = Box::new([*first, header].map(|message| Over { over: bind, message }));
            return self.judged(found, at, Fault::TwoMaskedInputs(two));
        }
        let DealtSession { attempt, headers, acc, .. } = &mut state.dealt;
        let params = own.plan.params(attempt.kind);
        let masked = verify::masked(&own.rules(&attempt.ctx), header, &payload, params, headers)?;
        unmask::accumulate(acc, &masked, params).map_err(|e| VerifyError::of(e.check(), silo, e.to_string()))?;
        state.masked.insert(silo, header);
        raise_marks(&mut self.marks, |id| id == silo);
        let (done, expected) = (state.masked.len(), headers.headers().len());
        self.output(CoordinatorOutput::Store(StoreRecord::Masked { at, header, payload }));
        self.event(CoordinatorEvent::Progress { phase: Phase::MaskedInput, done, expected });
        Ok(true)
    }

    /// P3 is over: U3. The list is stored, and from here on the attempt can only finish.
    pub(super) fn close_masked(&mut self, state: CollectMasked, now_ms: u64) {
        let proven = convicted(&state.complaints, self.own.quorum.c);
        let survivors: Vec<SiloId> = state.masked.keys().copied().collect();
        let left_out = proven.or_else(|| too_few_shares(&state.complaints, &survivors, self.own.quorum.t));
        let CollectMasked { mut dealt, masked, mut complaints, .. } = state;
        let at = dealt.attempt.at;
        if let Some(dealer) = left_out {
            self.excluded.insert(dealer);
            if let (true, Some(by), Some(dealing)) =
                (proven.is_some(), complaints.remove(&dealer), dealt.dealings.get(&dealer))
            {
                let (adverts, header) = (dealt.adverts.adverts().to_vec(), dealing.header().header().clone());
                let fault = Complaints { adverts, header, complaints: by.into_values().collect() };
                let what = "more silos than can collude complain about its shares";
                self.blame(dealer, at, what, Some(Fault::Complaints(Box::new(fault))));
            }
            let why = format!("silo {dealer} dealt shares that do not open; it is left out");
            return self.fail(&dealt.attempt, why, now_ms);
        }
        if self.is_abandoned(at.attempt) {
            return self.fail(&dealt.attempt, "a quorum abandoned it", now_ms);
        }
        let own = Arc::clone(&self.own);
        let list = SurvivorList(masked.into_values().collect());
        let list = match verify::survivor_list(&own.rules(&dealt.attempt.ctx), list, &dealt.headers, None) {
            Ok(list) => list,
            Err(e) => return self.fail(&dealt.attempt, e.to_string(), now_ms),
        };
        for silo in list.dropped() {
            self.event(CoordinatorEvent::Dropped(at, *silo, "its masked input did not come in time".into()));
        }
        self.output(CoordinatorOutput::Store(StoreRecord::List { at, list: list.list().clone() }));
        self.note_list(at, list.t3());
        self.phase_event(at, Phase::Commit, list.survivors().len());
        self.next_phase(&mut dealt.attempt, now_ms);
        // a silo without connection still holds its vote: it has the whole phase to come back
        dealt.attempt.grace = self.phase_ms(dealt.attempt.kind);
        let state = CollectCommits { dealt, list, votes: BTreeMap::new() };
        for &silo in state.list.survivors() {
            self.send_if(silo, state.message_to(silo));
        }
        self.state = Some(State::CollectCommits(Box::new(state)));
    }

    /// Starts a phase's clock.
    pub(super) fn next_phase(&self, attempt: &mut Attempt, now_ms: u64) {
        let phase = self.phase_ms(attempt.kind);
        attempt.deadline = now_ms + phase;
        // a session takes about a second: who is lost inside it is recovered, not waited for
        attempt.grace = phase / 4;
    }

    pub(super) fn send_if(&mut self, silo: SiloId, message: Option<CoordinatorMessage>) {
        if let Some(message) = message {
            self.send(silo, message);
        }
    }
}
