//! What the agent is about, for the lines that break its silence.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use blindsum_service::{WAITING, WORKING};
use tracing::info;

/// What goes on, and since when.
#[derive(Debug)]
pub(crate) struct Doing {
    what: String,
    since: Instant,
}

impl Doing {
    /// From now on, this.
    pub fn new(what: impl Into<String>) -> Self {
        Doing { what: what.into(), since: Instant::now() }
    }

    /// Writes it to the log; `training` has the steps that are done, while the engine works.
    pub fn log(&self, training: Option<&StepCount>) {
        let seconds = self.since.elapsed().as_secs();
        match training {
            Some(steps) => {
                let (done, all) = (steps.done(), steps.all);
                info!(event = "working", done, steps = all, seconds, "training: {done} of {all} steps done");
            }
            None => info!(event = "waiting_for", what = %self.what, seconds, "{}, for {seconds} s now", self.what),
        }
    }
}

/// How long nothing need be said.
pub(crate) fn silence(training: bool) -> std::time::Duration {
    if training { WORKING } else { WAITING }
}

/// How far a training is; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct StepCount {
    done: Arc<AtomicU32>,
    /// Of one round.
    pub all: u32,
}

impl StepCount {
    /// None done of `all`.
    pub fn new(all: u32) -> Self {
        StepCount { done: Arc::default(), all }
    }

    /// So many are done.
    pub fn set(&self, done: u32) {
        self.done.store(done, Ordering::Relaxed);
    }

    fn done(&self) -> u32 {
        self.done.load(Ordering::Relaxed)
    }
}
