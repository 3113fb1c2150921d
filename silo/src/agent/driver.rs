//! The loop of the agent: feeds the machine and executes what it puts out, strictly in order.
//!
//! ```text
//! link ─ messages ─┐                ┌─► journal (fsync, then on)
//! timer ───────────┼─► SiloMachine ─┼─► link (send, close)
//! work, training ──┘                ├─► training and work on blocking threads
//!                                   └─► kept adapter, log
//! ```
//!
//! # Contract
//! - A `Journal` output is on the disk before the next output is looked at; if that fails, the agent stops. So it does
//!   when the privacy ledger cannot be written.
//! - One training runs at a time; a newer request cancels an older one at its next step.
//! - A stop ends between two outputs, cancels training at its next step, and loses nothing that was promised.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use blindsum_crypto::Roster;
use blindsum_files::{ExitCode, Exits, StateDir};
use blindsum_protocol::codec;
use blindsum_protocol::plan::{Plan, round_name};
use blindsum_protocol::silo::{
    Adoption, HeldResult, JournalEntry, SiloEvent, SiloMachine, SiloOutput, SiloWorkDone, TrainFailure, TrainOutcome,
    TrainRequest,
};
use blindsum_service::{Ended, Heartbeat, Stop, Work, blocking};
use blindsum_transport::CloseCode;
use tracing::{debug, error, info, warn};
use zeroize::Zeroizing;

use crate::agent::doing::{self, Doing, StepCount};
use crate::agent::error::AgentError;
use crate::agent::events;
use crate::agent::keep::Keep;
use crate::agent::link::{Link, LinkEvent};
use crate::agent::seams::Seams;
use crate::agent::training::{Trained, Trainer};
use crate::journal::JournalFile;

/// Everything that the loop owns.
pub(crate) struct Driver<S: Seams> {
    pub machine: SiloMachine,
    pub plan: Arc<Plan>,
    pub roster: Arc<Roster>,
    pub journal: Option<JournalFile>,
    pub keep: Keep,
    /// Round of the newest result that is kept; 0 before the first.
    pub held_round: u32,
    pub training: Training,
    pub link: Link,
    /// With a thread while that looks through them.
    pub seams: Option<S>,
    pub started: Instant,
    pub stop: Stop,
    pub heartbeat: Heartbeat,
    pub doing: Doing,
    pub work: Work<SiloWorkDone>,
    /// Held for its lock.
    pub _state: StateDir,
}

/// The engine and its rows, at rest or on a thread.
pub(crate) struct Training {
    pub idle: Option<Trainer>,
    pub running: Work<(Trainer, TrainRequest, Trained)>,
    pub cancel: Arc<AtomicBool>,
    pub steps: StepCount,
    /// Asked for while an older one was running.
    pub next: Option<TrainRequest>,
}

impl Training {
    pub fn new(trainer: Trainer, steps: u32) -> Self {
        let (idle, cancel, steps) = (Some(trainer), Arc::default(), StepCount::new(steps));
        Self { idle, running: Work::default(), cancel, steps, next: None }
    }

    fn start(&mut self, request: TrainRequest) {
        let asked = Instant::now();
        let Some(mut trainer) = self.idle.take() else {
            self.cancel.store(true, Ordering::Relaxed);
            self.next = Some(request);
            return;
        };
        self.cancel = Arc::default();
        self.steps.set(0);
        let (cancel, steps) = (self.cancel.clone(), self.steps.clone());
        self.running.start(move || {
            let result = match trainer.run(&request, &cancel, &steps) {
                // A later request must not be a way to see how long this one took.
                Trained::Update(_) | Trained::Failed(_) if !trainer.hold_back(&request, asked, &cancel) => {
                    Trained::Cancelled
                }
                result => result,
            };
            (trainer, request, result)
        });
    }
}

impl<S: Seams> Driver<S> {
    /// Runs until the job is over or a stop is asked for, then lets the threads come to their end.
    pub async fn run(mut self) -> Result<Ended, AgentError> {
        let result = self.serve().await;
        self.training.cancel.store(true, Ordering::Relaxed);
        if !self.training.running.is_empty() {
            // A step at most; the engine's memory is then free when this returns.
            drop(self.training.running.next().await);
        }
        let code = match &result {
            Ok(Ended::Finished) => CloseCode::Finished,
            Ok(Ended::Stopped) => CloseCode::Stopping,
            // What the coordinator should say of this silo is not that its disk is full.
            Err(AgentError::Restored { .. } | AgentError::State { .. }) => CloseCode::StateDiffers,
            Err(error) if error.exit_code() == ExitCode::Storage => CloseCode::Storage,
            Err(_) => CloseCode::Internal,
        };
        self.link.finish(code).await;
        result
    }

    async fn serve(&mut self) -> Result<Ended, AgentError> {
        loop {
            while let Some(output) = self.machine.poll_output() {
                if self.stop.reason().is_some() {
                    break;
                }
                if let Some(ended) = self.execute(output).await? {
                    return Ok(ended);
                }
            }
            if self.stop.reason().is_some() {
                info!(event = "stopping", "stopping; a restart goes on from the journal");
                return Ok(Ended::Stopped);
            }
            let training = !self.training.running.is_empty();
            let timer = self.machine.poll_timeout().map(|at| Duration::from_millis(at.saturating_sub(self.now())));
            tokio::select! {
                () = self.stop.stopped() => {}
                event = self.link.next() => {
                    if let Some(ended) = self.link_event(event)? {
                        return Ok(ended);
                    }
                }
                done = self.work.next() => {
                    let now = self.now();
                    self.machine.handle_work_done(done?, now);
                }
                done = self.training.running.next() => {
                    let (trainer, request, result) = done?;
                    self.trained(trainer, &request, result)?;
                }
                () = self.heartbeat.due(doing::silence(training)) => {
                    self.doing.log(training.then_some(&self.training.steps));
                }
                () = tokio::time::sleep(timer.unwrap_or(Duration::from_secs(3600))) => {
                    let now = self.now();
                    if self.machine.poll_timeout().is_some_and(|at| at <= now) {
                        self.machine.handle_timeout(now);
                    }
                }
            }
        }
    }

    /// Milliseconds on the machine's clock.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn link_event(&mut self, event: LinkEvent) -> Result<Option<Ended>, AgentError> {
        let now = self.now();
        match event {
            LinkEvent::Up(coordinator) => {
                info!(event = "connected", coordinator, "connected to {coordinator}");
                self.now_doing("connected; the coordinator opens the next round when enough silos are there");
                self.machine.handle_connected(now);
            }
            LinkEvent::Message(envelope) => {
                debug!(event = "message", name = envelope.message.name(), "received");
                self.machine.handle_message(envelope, now);
            }
            LinkEvent::Down(why) => {
                warn!(event = "disconnected", why, "{why}");
                self.now_doing("the connection to the coordinator is lost; dialling again");
                self.machine.handle_disconnected(now);
            }
            LinkEvent::Over => return over(self.held_round, self.plan.last_round()).map(Some),
            LinkEvent::Ended(error) => return Err(error),
        }
        Ok(None)
    }

    /// Begins something that was just said in the log.
    fn now_doing(&mut self, what: impl Into<String>) {
        self.doing = Doing::new(what);
        self.heartbeat.spoke();
    }

    /// What a silo waits for after an event, in words.
    fn note(&mut self, event: &SiloEvent) {
        match event {
            SiloEvent::Joined(at) => self.now_doing(format!("{at}: training, or waiting for the others' keys")),
            SiloEvent::Phase(..) => self.now_doing(event.to_string()),
            SiloEvent::Committed(at, _) => self.now_doing(format!("{at}: waiting for the others' votes and the sum")),
            SiloEvent::Declined(..) | SiloEvent::Left(..) | SiloEvent::Abandoned(_) => {
                self.now_doing("waiting for the next attempt to be opened");
            }
            SiloEvent::Ignored(_) | SiloEvent::Misbehaviour(_) | SiloEvent::Restored(..) | SiloEvent::Forked(_) => {}
        }
    }

    async fn execute(&mut self, output: SiloOutput) -> Result<Option<Ended>, AgentError> {
        let output = self
            .look(|seams| {
                seams.before(&output);
                output
            })
            .await?;
        let ended = self.perform(output).await?;
        self.look(S::executed).await?;
        Ok(ended)
    }

    /// Lets the seams do something on a thread for blocking work.
    async fn look<T: Send + 'static>(
        &mut self,
        task: impl FnOnce(&mut S) -> T + Send + 'static,
    ) -> Result<T, AgentError> {
        let mut seams = self.seams.take().ok_or_else(|| AgentError::Internal("the seams are lost".into()))?;
        let (seams, value) = blocking(move || {
            let value = task(&mut seams);
            (seams, value)
        })
        .await?;
        self.seams = Some(seams);
        Ok(value)
    }

    async fn perform(&mut self, output: SiloOutput) -> Result<Option<Ended>, AgentError> {
        match output {
            SiloOutput::Send(envelope) => {
                debug!(event = "send", name = envelope.message.name(), "sending");
                self.link.send(envelope);
            }
            SiloOutput::Journal(entry) => self.write_journal(entry).await?,
            SiloOutput::Train(request) => {
                debug!(event = "train", round = request.at.round, attempt = request.at.attempt, "asked to train");
                self.training.start(request);
            }
            SiloOutput::Work(work) => {
                self.work.start(move || work.run());
            }
            SiloOutput::Adopt(adoption) => self.adopt(adoption).await?,
            SiloOutput::Event(event) => {
                events::log(&event);
                self.note(&event);
                if let SiloEvent::Restored(at, what) = event {
                    return Err(AgentError::Restored { at, what });
                }
            }
            SiloOutput::Disconnect(event) => {
                events::log(&event);
                warn!(event = "closed", "closing the connection: the coordinator did what an honest one cannot do");
                self.link.close_for_misbehaviour(&event.to_string());
                let now = self.now();
                self.machine.handle_disconnected(now);
            }
            SiloOutput::Finished => {
                match &self.keep.output_dir {
                    Some(dir) => info!(event = "finished", "the job is over; the adapter is in {}", dir.display()),
                    None => info!(event = "finished", "the job is over"),
                }
                return Ok(Some(Ended::Finished));
            }
        }
        Ok(None)
    }

    async fn write_journal(&mut self, entry: JournalEntry) -> Result<(), AgentError> {
        let mut journal = self.journal.take().ok_or_else(|| AgentError::Internal("the journal is lost".into()))?;
        let write = move |seams: &mut S| {
            let result = match codec::encode(&entry).map(Zeroizing::new) {
                Ok(body) => seams.append(&mut journal, &body).map_err(AgentError::from),
                Err(e) => Err(AgentError::Internal(format!("a journal entry has no encoding: {e}"))),
            };
            (journal, result)
        };
        let (journal, result) = self.look(write).await?;
        self.journal = Some(journal);
        result
    }

    async fn adopt(&mut self, adoption: Adoption) -> Result<(), AgentError> {
        events::log_adoption(&adoption, &self.roster, self.plan.job().rounds);
        let held =
            HeldResult { round: adoption.at.round, result_hash: adoption.result_hash, global: adoption.global.clone() };
        let (keep, plan) = (self.keep.clone(), self.plan.clone());
        let round = held.round;
        blocking(move || keep.keep(&held, &plan)).await??;
        self.held_round = round;
        self.now_doing(format!(
            "{} is adopted; waiting for the next one to be opened",
            round_name(round, self.plan.job().rounds)
        ));
        Ok(())
    }

    fn trained(&mut self, trainer: Trainer, request: &TrainRequest, result: Trained) -> Result<(), AgentError> {
        self.training.idle = Some(trainer);
        let now = self.now();
        let round = request.at.round;
        match result {
            Trained::Update(mut update) => {
                if let Some(seams) = &mut self.seams {
                    seams.local_update(request, &mut update);
                }
                self.machine.handle_trained(TrainOutcome { round, result: Ok(update) }, now);
            }
            Trained::Failed(why) => {
                error!(event = "training_failed", round, "round {round}: {why}");
                self.machine.handle_trained(TrainOutcome { round, result: Err(TrainFailure) }, now);
            }
            Trained::Fatal(why) => return Err(why),
            Trained::Cancelled => debug!(event = "training_cancelled", round, "training was cancelled"),
        }
        if let Some(next) = self.training.next.take() {
            self.training.start(next);
        }
        Ok(())
    }
}

/// The coordinator says that the job is over. It speaks for itself: what counts is what this silo holds.
fn over(held: u32, last: u32) -> Result<Ended, AgentError> {
    if held >= last { Ok(Ended::Finished) } else { Err(AgentError::Unfinished { held, last }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinators_word_is_no_result() {
        assert_eq!(over(4, 4).unwrap(), Ended::Finished);
        let error = over(3, 4).unwrap_err();
        assert_eq!(error.exit_code(), ExitCode::Network);
        assert!(error.to_string().contains("result 3 of 4"), "{error}");
    }
}
