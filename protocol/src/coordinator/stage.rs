//! What every phase of the coordinator answers, each in one place.
//!
//! Contract: answers change nothing but the phase itself; [`Stage::close`] alone leads on. A phase that a transition has in
//! hand is gone from the machine until the transition puts it, or the next one, back.

use std::collections::{BTreeMap, BTreeSet};

use blindsum_crypto::SiloId;

use crate::coordinator::api::{CoordinatorOutput, Phase};
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::state::{
    Attempt, Busy, Closing, CollectAdverts, CollectCommits, CollectMasked, CollectResults, CollectReveals,
    CollectShares, CollectSketches, Finished, Gathering, State, Stuck, Unmasking,
};
use crate::coordinator::verify::convicted;
use crate::message::{CoordinatorMessage, Envelope};

/// A phase's answers to the machine.
pub(super) trait Stage {
    /// As it is shown to people.
    fn phase(&self) -> Phase;

    /// The attempt that it is part of.
    fn attempt(&self) -> Option<&Attempt> {
        None
    }

    /// The silos that have not done their part yet.
    fn missing(&self) -> Vec<SiloId> {
        Vec::new()
    }

    /// Whether its work is done before its time.
    fn is_complete(&self, _: &CoordinatorMachine) -> bool {
        false
    }

    /// When time alone ends it: in an attempt, when no silo that is missing can be waited for any longer.
    fn wakes_at(&self, machine: &CoordinatorMachine) -> Option<u64> {
        let attempt = self.attempt()?;
        self.missing().into_iter().map(|id| machine.waits_until(attempt, id)).max()
    }

    /// Waits no longer for a silo. Past the commit point everybody is needed: a silo that errs may come back with its
    /// journaled reply.
    fn drop_silo(&mut self, _: SiloId) {}

    /// As long as the attempt's cohort can still be chosen, it is chosen without a silo that is proven at fault.
    fn leave_out(&mut self, _: SiloId) {}

    /// Whether it also concerns silos that sit out the round: who was at fault in it gets its result like everybody, and who
    /// survives in an attempt past its commit point is needed, whatever it did.
    fn is_for_all(&self) -> bool {
        false
    }

    /// A silo is ready, perhaps again: notes it.
    fn welcome(&mut self, _: SiloId) {}

    /// What a silo that is ready, perhaps again, is told of it.
    fn repeats(&self, _: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        Vec::new()
    }

    /// Its work is done or its time is up: what comes next.
    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64);
}

/// Who of these silos neither did its part nor is gone.
fn without<V>(
    ids: impl Iterator<Item = SiloId>,
    done: &BTreeMap<SiloId, V>,
    gone: Option<&BTreeSet<SiloId>>,
) -> Vec<SiloId> {
    ids.filter(|id| !done.contains_key(id) && !gone.is_some_and(|gone| gone.contains(id))).collect()
}

fn bare(message: Option<CoordinatorMessage>) -> Vec<Envelope<CoordinatorMessage>> {
    message.map(Envelope::bare).into_iter().collect()
}

impl Stage for Gathering {
    fn phase(&self) -> Phase {
        Phase::Gathering
    }

    fn wakes_at(&self, machine: &CoordinatorMachine) -> Option<u64> {
        let ready = machine.ready();
        if ready.len() < usize::from(machine.own.quorum.m) {
            return None;
        }
        let grace = machine.phase_ms(machine.kind_in_progress()?);
        let absent = machine.own.roster.ids().filter(|id| !ready.contains(id) && !machine.excluded.contains(id));
        let patience = absent.map(|id| machine.links[id.index()].since + grace).max().unwrap_or(0);
        let proofs = if machine.unproven().next().is_some() { self.proofs_until } else { 0 };
        Some(patience.max(proofs).max(self.not_before))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.gathered(now_ms);
    }
}

impl Stage for CollectAdverts {
    fn phase(&self) -> Phase {
        Phase::Advertise
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.attempt)
    }

    fn missing(&self) -> Vec<SiloId> {
        without(self.asked.iter().copied(), &self.adverts, Some(&self.gone))
    }

    fn is_complete(&self, _: &CoordinatorMachine) -> bool {
        self.missing().is_empty()
    }

    fn drop_silo(&mut self, silo: SiloId) {
        self.adverts.remove(&silo);
        // one that was not asked may still come in with a proper Hello
        if self.asked.contains(&silo) {
            self.gone.insert(silo);
        }
    }

    fn leave_out(&mut self, silo: SiloId) {
        self.adverts.remove(&silo);
        self.gone.insert(silo);
    }

    fn welcome(&mut self, silo: SiloId) {
        if !self.gone.contains(&silo) {
            self.asked.insert(silo);
        }
    }

    fn repeats(&self, silo: SiloId, machine: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        let has_said = self.adverts.contains_key(&silo) || self.gone.contains(&silo);
        bare((!has_said).then(|| machine.open_message(self.attempt.at, self.attempt.kind)))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_adverts(*self, now_ms);
    }
}

impl Stage for CollectShares {
    fn phase(&self) -> Phase {
        Phase::Share
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.attempt)
    }

    fn missing(&self) -> Vec<SiloId> {
        without(self.adverts.ids(), &self.dealings, Some(&self.gone))
    }

    fn is_complete(&self, _: &CoordinatorMachine) -> bool {
        self.missing().is_empty()
    }

    fn drop_silo(&mut self, silo: SiloId) {
        self.gone.insert(silo);
    }

    fn leave_out(&mut self, silo: SiloId) {
        self.dealings.remove(&silo);
        self.gone.insert(silo);
    }

    fn repeats(&self, silo: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        bare(self.message_to(silo))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_shares(*self, now_ms);
    }
}

impl Stage for CollectMasked {
    fn phase(&self) -> Phase {
        Phase::MaskedInput
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.dealt.attempt)
    }

    fn missing(&self) -> Vec<SiloId> {
        without(self.dealt.headers.ids(), &self.masked, Some(&self.gone))
    }

    fn is_complete(&self, machine: &CoordinatorMachine) -> bool {
        let convicts = || convicted(&self.complaints, machine.own.quorum.c).is_some();
        self.missing().is_empty() || machine.is_abandoned(self.dealt.attempt.at.attempt) || convicts()
    }

    fn drop_silo(&mut self, silo: SiloId) {
        self.gone.insert(silo);
    }

    fn repeats(&self, silo: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        bare(self.dealt.message_to(silo))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_masked(*self, now_ms);
    }
}

impl Stage for CollectCommits {
    fn phase(&self) -> Phase {
        Phase::Commit
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.dealt.attempt)
    }

    fn missing(&self) -> Vec<SiloId> {
        without(self.list.survivors().iter().copied(), &self.votes, None)
    }

    fn is_complete(&self, machine: &CoordinatorMachine) -> bool {
        let enough = self.votes.len() >= usize::from(machine.own.quorum.q);
        enough || machine.is_abandoned(self.dealt.attempt.at.attempt)
    }

    fn is_for_all(&self) -> bool {
        true
    }

    fn repeats(&self, silo: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        bare(self.message_to(silo))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_commits(*self, now_ms);
    }
}

impl Stage for CollectReveals {
    fn phase(&self) -> Phase {
        Phase::Reveal
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.dealt.attempt)
    }

    fn missing(&self) -> Vec<SiloId> {
        self.unanswered()
    }

    fn is_complete(&self, _: &CoordinatorMachine) -> bool {
        self.is_ready() || self.missing().is_empty()
    }

    fn is_for_all(&self) -> bool {
        true
    }

    fn repeats(&self, silo: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        let list = self.list_message_to(silo);
        list.into_iter().chain(self.message_to(silo)).map(Envelope::bare).collect()
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_reveals(*self, now_ms);
    }
}

impl Stage for Unmasking {
    fn phase(&self) -> Phase {
        Phase::Unmask
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.attempt)
    }

    /// Only its work ends it.
    fn wakes_at(&self, _: &CoordinatorMachine) -> Option<u64> {
        None
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, _: u64) {
        machine.state = Some(State::Unmasking(self));
    }
}

impl Stage for CollectSketches {
    fn phase(&self) -> Phase {
        Phase::Prove
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.attempt)
    }

    fn missing(&self) -> Vec<SiloId> {
        without(self.list.survivors().iter().copied(), &self.answers, None)
    }

    fn is_complete(&self, _: &CoordinatorMachine) -> bool {
        matches!(self.busy, Busy::No) && self.missing().is_empty()
    }

    fn wakes_at(&self, machine: &CoordinatorMachine) -> Option<u64> {
        match self.busy {
            Busy::Waiting => Some(self.attempt.deadline),
            Busy::Opening(_) | Busy::Checking(..) => None,
            Busy::No => self.missing().into_iter().map(|id| machine.waits_until(&self.attempt, id)).max(),
        }
    }

    /// Its masked input is shown instead.
    fn drop_silo(&mut self, silo: SiloId) {
        if self.list.survivors().contains(&silo) {
            self.answers.insert(silo, None);
        }
    }

    fn is_for_all(&self) -> bool {
        true
    }

    fn welcome(&mut self, silo: SiloId) {
        self.handed_back.remove(&silo);
        let has_none = matches!(self.answers.get(&silo), Some(None)) && !self.liars.contains(&silo);
        if matches!(self.busy, Busy::Waiting) && has_none {
            self.answers.remove(&silo);
        }
    }

    fn repeats(&self, silo: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        bare(self.message_to(silo).filter(|_| !self.answers.contains_key(&silo)))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_sketches(self, now_ms);
    }
}

impl Stage for CollectResults {
    fn phase(&self) -> Phase {
        Phase::Result
    }

    fn attempt(&self) -> Option<&Attempt> {
        Some(&self.attempt)
    }

    fn is_complete(&self, machine: &CoordinatorMachine) -> bool {
        self.votes.len() >= usize::from(machine.own.quorum.q)
    }

    fn wakes_at(&self, _: &CoordinatorMachine) -> Option<u64> {
        Some(self.attempt.deadline)
    }

    fn is_for_all(&self) -> bool {
        true
    }

    fn repeats(&self, _: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        vec![self.message()]
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, now_ms: u64) {
        machine.close_results(*self, now_ms);
    }
}

impl Stage for Closing {
    fn phase(&self) -> Phase {
        Phase::Finished
    }

    fn is_complete(&self, machine: &CoordinatorMachine) -> bool {
        machine.links.iter().all(|l| !l.connected || l.held == Some(machine.chain.round()))
    }

    fn wakes_at(&self, _: &CoordinatorMachine) -> Option<u64> {
        Some(self.deadline)
    }

    fn is_for_all(&self) -> bool {
        true
    }

    fn repeats(&self, _: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        bare(Some(CoordinatorMessage::Finished))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, _: u64) {
        machine.state = Some(State::Finished(Box::new(Finished)));
        machine.output(CoordinatorOutput::Finished);
    }
}

impl Stage for Finished {
    fn phase(&self) -> Phase {
        Phase::Finished
    }

    fn is_for_all(&self) -> bool {
        true
    }

    fn repeats(&self, _: SiloId, _: &CoordinatorMachine) -> Vec<Envelope<CoordinatorMessage>> {
        bare(Some(CoordinatorMessage::Finished))
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, _: u64) {
        machine.state = Some(State::Finished(self));
    }
}

impl Stage for Stuck {
    fn phase(&self) -> Phase {
        Phase::Finished
    }

    fn close(self: Box<Self>, machine: &mut CoordinatorMachine, _: u64) {
        machine.state = Some(State::Stuck(self));
    }
}
