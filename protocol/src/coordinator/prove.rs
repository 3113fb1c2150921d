//! P6 at the coordinator, between the sum and the result: collects the survivors' sketches, by which every silo checks the
//! sum before it signs (SA-16).
//!
//! ```text
//! sum fixed ─► SumRequest to survivors ─► sketches ─┬─ add up to those of Σ y ──────────────► Result with proof
//!                                                   └─ do not: read each masked input back, name the liar, show its input
//! ```
//!
//! Contract: a survivor that was restarted gets its masked input back. One that is gone or lies costs no round: its masked
//! input, which it signed, goes whole to everybody instead of its sketch. With more than n − q such silos nobody would be
//! left to sign; then they are waited for, and asked once per deadline: what a silo answers never makes it asked at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use blindsum_crypto::evidence::{FalseSketch, Fault, Over, PackedInput, SumSketch};
use blindsum_crypto::sketch;
use blindsum_crypto::verify::{self, VerifiedAdverts, VerifiedHeaders, VerifiedList, VerifyError};
use blindsum_crypto::{SiloId, Sketch, SumProof, VerifySum, transcript};

use crate::coordinator::api::{CoordinatorEvent, CoordinatorOutput, Phase};
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::state::{Attempt, Busy, CollectSketches, State};
use crate::coordinator::store::StoredResult;
use crate::coordinator::verify::{same, second};
use crate::coordinator::work::{CoordinatorTask, CoordinatorWork};
use crate::message::{AttemptId, CoordinatorMessage, Envelope, MaskedBack, Payload};
use crate::step::Step;

impl CoordinatorMachine {
    /// The sum is fixed and stored: asks the survivors for their sketches.
    pub(super) fn start_sketches(
        &mut self,
        mut attempt: Attempt,
        result: Arc<StoredResult>,
        step: Step,
        (adverts, headers, list): (VerifiedAdverts, VerifiedHeaders, VerifiedList),
        expected: Vec<u32>,
        now_ms: u64,
    ) {
        self.phase_event(attempt.at, Phase::Prove, list.survivors().len());
        let (deadline, grace) = (attempt.deadline, attempt.grace);
        self.next_phase(&mut attempt, now_ms);
        // after a restart silos have longer to find their way back
        attempt.deadline = attempt.deadline.max(deadline);
        attempt.grace = attempt.grace.max(grace);
        let sum_hash = transcript::sum_hash(&result.sum);
        let key = transcript::rows_key(&list.t3(), &sum_hash);
        let (answers, busy) = (BTreeMap::new(), Busy::No);
        let (handed_back, returning, checked) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let liars = BTreeSet::new();
        let mut state = CollectSketches {
            attempt,
            result,
            step,
            adverts,
            headers,
            list,
            key,
            sum_hash,
            expected,
            answers,
            handed_back,
            returning,
            liars,
            checked,
            busy,
        };
        if self.shows_inputs() {
            state.answers = state.list.survivors().iter().map(|&silo| (silo, None)).collect();
        }
        for &silo in state.list.survivors().iter().filter(|silo| !state.answers.contains_key(silo)) {
            self.send_if(silo, state.message_to(silo));
        }
        self.state = Some(State::CollectSketches(Box::new(state)));
    }

    /// Whether the job checks sums against the masked inputs themselves.
    fn shows_inputs(&self) -> bool {
        self.own.plan.verify_sum() == VerifySum::Inputs
    }

    pub(super) fn on_sketch(
        &mut self,
        silo: SiloId,
        at: AttemptId,
        sketch: Option<Sketch>,
    ) -> Result<bool, VerifyError> {
        let own = Arc::clone(&self.own);
        let Some(State::CollectSketches(state)) = &mut self.state else { return Ok(false) };
        let is_survivor = state.list.survivors().binary_search(&silo).is_ok();
        if let (true, Some(Some(first)), Some(sketch)) = (state.attempt.at == at, state.answers.get(&silo), &sketch) {
            same(silo, sketch.silo)?;
            let found = second(silo, first == sketch, "sketch");
            let (t3, sum_hash) = (state.list.t3(), state.sum_hash);
            let two = [first, sketch].map(|sketch| SumSketch { t3, sum_hash, sketch: sketch.clone() });
            return self.judged(found, at, Fault::TwoSketches(Box::new(two)));
        }
        if state.attempt.at != at || !is_survivor || state.answers.contains_key(&silo) {
            return Ok(false);
        }
        if sketch.is_none() && state.handed_back.insert(silo) {
            state.returning.insert(silo);
            self.output(CoordinatorOutput::Fetch { at, silos: vec![silo] });
            return Ok(true);
        }
        if let Some(sketch) = &sketch {
            same(silo, sketch.silo)?;
            let params = own.plan.params(state.attempt.kind);
            verify::sketch(&own.rules(&state.attempt.ctx), sketch, params, &state.list, &state.sum_hash)?;
        }
        state.answers.insert(silo, sketch);
        if matches!(state.busy, Busy::Waiting) && state.silent().len() <= self.limits.most_opened() {
            state.busy = Busy::No;
        }
        let (done, expected) = (state.answers.len(), state.list.survivors().len());
        self.event(CoordinatorEvent::Progress { phase: Phase::Prove, done, expected });
        Ok(true)
    }

    /// Every survivor has answered, or the time is up: who has no sketch has its masked input shown.
    pub(super) fn close_sketches(&mut self, mut state: Box<CollectSketches>, now_ms: u64) {
        let at = state.attempt.at;
        if matches!(state.busy, Busy::Waiting) {
            let CollectSketches { answers, handed_back, liars, .. } = &mut *state;
            answers.retain(|silo, answer| answer.is_some() || liars.contains(silo));
            handed_back.retain(|silo| answers.contains_key(silo));
            for silo in state.silent().into_iter().filter(|silo| !state.liars.contains(silo)) {
                self.send_if(silo, state.message_to(silo));
            }
            state.busy = Busy::No;
            self.rearm(&mut state.attempt.deadline, now_ms);
            self.state = Some(State::CollectSketches(state));
            return;
        }
        let silos = state.silent();
        if silos.len() > self.limits.most_opened() {
            if state.liars.len() > self.limits.most_opened() {
                return self
                    .stuck(format!("{} silos gave false subset sums in {at}: start a new job", state.liars.len()));
            }
            self.event(CoordinatorEvent::Waiting(format!("{at} waits for silos that vouch for its sum")));
            state.busy = Busy::Waiting;
            self.rearm(&mut state.attempt.deadline, now_ms);
            // who is gone has had its time: it is asked for again when the deadline comes round, not at once
            state.attempt.grace = u64::MAX / 4;
            self.state = Some(State::CollectSketches(state));
            return;
        }
        let unexpected = if self.shows_inputs() { &[] } else { &silos[..] };
        for silo in unexpected {
            self.event(CoordinatorEvent::Ignored(*silo, "no sketch of it: its masked input is shown instead".into()));
        }
        state.busy = Busy::Opening(Vec::new());
        self.state = Some(State::CollectSketches(state));
        match silos.is_empty() {
            true => self.on_summed(at, Ok(Vec::new()), now_ms),
            false => self.output(CoordinatorOutput::Fetch { at, silos }),
        }
    }

    pub(super) fn on_fetched(&mut self, at: AttemptId, inputs: Vec<(SiloId, Payload)>) {
        let Some(State::CollectSketches(state)) = &mut self.state else { return };
        if state.attempt.at != at {
            return;
        }
        if let [(silo, payload)] = &inputs[..]
            && state.returning.remove(silo)
        {
            let back = Some(MaskedBack { bind: state.headers.bind(), list: state.list.list().clone() });
            let message = CoordinatorMessage::SumRequest { at, sum_hash: state.sum_hash, back };
            return self.send_envelope(*silo, Envelope::with(message, Arc::clone(payload)));
        }
        match &mut state.busy {
            Busy::Opening(opened) => opened.clone_from(&inputs),
            Busy::Checking(_, masked) => *masked = inputs.first().map(|(_, y)| Arc::clone(y)).unwrap_or_default(),
            Busy::No | Busy::Waiting => {}
        }
        let inputs = inputs.into_iter().map(|(_, input)| input).collect();
        let (kind, plan, key) = (state.attempt.kind, Arc::clone(&self.own.plan), state.key);
        self.output(CoordinatorOutput::Work(CoordinatorWork(CoordinatorTask::Sums { at, kind, plan, key, inputs })));
    }

    /// The subset sums of what was read back are there.
    pub(super) fn on_summed(&mut self, at: AttemptId, values: Result<Vec<Vec<u32>>, String>, now_ms: u64) {
        let mut state = match self.state.take() {
            Some(State::CollectSketches(state)) if state.attempt.at == at => state,
            other => {
                self.state = other;
                return;
            }
        };
        let values = match values {
            Ok(values) => values,
            Err(what) => return self.spoiled(&state.attempt, what, now_ms),
        };
        match std::mem::replace(&mut state.busy, Busy::No) {
            busy @ (Busy::No | Busy::Waiting) => {
                state.busy = busy;
                self.state = Some(State::CollectSketches(state));
            }
            Busy::Checking(silo, masked) => {
                let sketch = state.answers.get(&silo).and_then(Option::as_ref);
                if sketch.map(|s| &s.values) == values.first() {
                    state.checked.insert(silo);
                } else {
                    let fault = sketch.cloned().and_then(|sketch| self.false_sketch(&state, sketch, &masked));
                    let what = "its subset sums are not those of the masked input that it signed (SA-16)";
                    self.blame(silo, at, what, fault);
                    state.answers.insert(silo, None);
                    state.liars.insert(silo);
                }
                self.check_next(state, now_ms);
            }
            Busy::Opening(opened) => {
                let params = self.own.plan.params(state.attempt.kind);
                let mut total = vec![0; state.expected.len()];
                for values in &values {
                    sketch::add(params, &mut total, values);
                }
                for sketch in state.answers.values().flatten() {
                    sketch::add(params, &mut total, &sketch.values);
                }
                if total == state.expected {
                    return self.proven_sum(*state, opened, now_ms);
                }
                self.check_next(state, now_ms);
            }
        }
    }

    /// The sketches do not add up: some silo lies. Reads the masked inputs back one by one, so that one at a time is in
    /// memory.
    fn check_next(&mut self, mut state: Box<CollectSketches>, now_ms: u64) {
        let at = state.attempt.at;
        let unchecked = |(silo, sketch): (&SiloId, &Option<Sketch>)| {
            (sketch.is_some() && !state.checked.contains(silo)).then_some(*silo)
        };
        if let Some(silo) = state.answers.iter().find_map(unchecked) {
            state.busy = Busy::Checking(silo, Payload::default());
            self.state = Some(State::CollectSketches(state));
            return self.output(CoordinatorOutput::Fetch { at, silos: vec![silo] });
        }
        let all_right = state.answers.values().flatten().count() == state.list.survivors().len();
        if all_right {
            return self.spoiled(&state.attempt, "its subset sums do not add up, and every one is right", now_ms);
        }
        self.close_sketches(state, now_ms);
    }

    fn false_sketch(&self, state: &CollectSketches, sketch: Sketch, masked: &Payload) -> Option<Fault> {
        let header = *state.list.list().0.iter().find(|m| m.silo == sketch.silo)?;
        let (t3, sum_hash) = (state.list.t3(), state.sum_hash);
        Some(Fault::FalseSketch(Box::new(FalseSketch {
            params: self.own.plan.params(state.attempt.kind).clone(),
            header: Over { over: state.headers.bind(), message: header },
            masked: PackedInput(masked.to_vec()),
            sketch: SumSketch { t3, sum_hash, sketch },
        })))
    }

    fn proven_sum(&mut self, state: CollectSketches, opened: Vec<(SiloId, Payload)>, now_ms: u64) {
        let CollectSketches { attempt, result, step, adverts, headers, answers, .. } = state;
        let proof = SumProof {
            adverts: adverts.adverts().to_vec(),
            headers: headers.headers().to_vec(),
            secrets: result.secrets.clone(),
            sketches: answers.into_values().flatten().collect(),
            opened: opened.iter().map(|(silo, _)| *silo).collect(),
        };
        let mut payload = Arc::clone(&result.sum);
        for (_, masked) in &opened {
            Arc::make_mut(&mut payload).extend_from_slice(masked);
        }
        self.start_results(attempt, result, step, Some(proof), payload, now_ms);
    }
}
