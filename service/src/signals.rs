//! Orderly stopping: a token that many tasks watch, pulled by SIGINT, SIGTERM or SIGHUP.
//!
//! Contract: the first signal asks every task to end; a second one ends the process at once with 128 + signal.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::exit::ExitCode;

/// Why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGINT, usually Ctrl-C.
    Interrupt,
    /// SIGTERM, usually the service manager.
    Terminate,
    /// SIGHUP, usually a terminal that was closed; there is nothing to reload.
    HangUp,
    /// The program itself asked.
    Asked,
}

impl Reason {
    /// The exit code after an orderly stop for this reason.
    pub fn exit_code(self) -> ExitCode {
        match self {
            Reason::Interrupt => ExitCode::Interrupted,
            Reason::Terminate => ExitCode::Terminated,
            Reason::HangUp => ExitCode::HungUp,
            Reason::Asked => ExitCode::Done,
        }
    }
}

/// Watches for the stop; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Option<Reason>>);

/// Pulls the stop. When it is dropped without being pulled, nothing stops.
#[derive(Debug)]
pub struct StopTrigger(watch::Sender<Option<Reason>>);

/// A stop and its trigger, not tied to signals: for tests and harnesses.
pub fn manual() -> (StopTrigger, Stop) {
    let (sender, receiver) = watch::channel(None);
    (StopTrigger(sender), Stop(receiver))
}

impl StopTrigger {
    /// Stops; the first reason counts.
    pub fn stop(&self, reason: Reason) {
        self.0.send_if_modified(|state| state.is_none() && state.replace(reason).is_none());
    }
}

impl Stop {
    /// Returns once the stop was pulled; at once if it was already.
    pub async fn stopped(&self) {
        let mut receiver = self.0.clone();
        if receiver.wait_for(Option::is_some).await.is_err() {
            // The trigger is gone: nobody can stop us any more.
            std::future::pending::<()>().await;
        }
    }

    /// The reason, once stopped.
    pub fn reason(&self) -> Option<Reason> {
        *self.0.borrow()
    }
}

/// Takes over SIGINT, SIGTERM and SIGHUP of this process. Call once, inside the runtime.
///
/// # Errors
/// The operating system refuses signal handlers.
pub fn stop() -> std::io::Result<Stop> {
    let (trigger, stop) = manual();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    tokio::spawn(async move {
        loop {
            let reason = tokio::select! {
                _ = interrupt.recv() => Reason::Interrupt,
                _ = terminate.recv() => Reason::Terminate,
                _ = hang_up.recv() => Reason::HangUp,
            };
            if trigger.0.borrow().is_some() {
                tracing::warn!("second signal: ending at once");
                std::process::exit(i32::from(reason.exit_code().number()));
            }
            tracing::info!(?reason, "stopping; a second signal ends at once");
            trigger.stop(reason);
        }
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_sees_the_first_reason() {
        let (trigger, stop) = manual();
        let waiting = tokio::spawn({
            let stop = stop.clone();
            async move { stop.stopped().await }
        });
        assert_eq!(stop.reason(), None);
        trigger.stop(Reason::Terminate);
        trigger.stop(Reason::Interrupt);
        waiting.await.unwrap();
        stop.stopped().await;
        assert_eq!(stop.reason(), Some(Reason::Terminate));
        assert_eq!(Reason::Terminate.exit_code().number(), 143);
    }

    #[tokio::test]
    async fn a_lost_trigger_stops_nothing() {
        let (trigger, stop) = manual();
        drop(trigger);
        let waited = tokio::time::timeout(std::time::Duration::from_millis(20), stop.stopped()).await;
        assert!(waited.is_err());
    }
}
