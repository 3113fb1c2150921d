//! How a program of the house runs and ends: one `main` around whatever it does.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::cli::{LogArgs, complain};
use crate::signals::{self, Stop};
use crate::work::{LostThread, panic_text};
use crate::{ExitCode, Exits, telemetry};

/// How a service ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// What it was started for is done.
    Finished,
    /// It was asked to stop; a restart goes on.
    Stopped,
}

/// A program, by the name that its users type.
#[derive(Debug, Clone, Copy)]
pub struct Program(pub &'static str);

impl Program {
    /// Starts logging, does `task`, and says on standard error why it failed.
    pub fn run<E>(self, log: &LogArgs, task: impl FnOnce() -> Result<ExitCode, E>) -> ExitCode
    where
        E: Exits + fmt::Display,
    {
        if let Err(error) = telemetry::init(log.log_format, log.log_level.as_deref()) {
            complain(format_args!("{}: {error}", self.0));
            return ExitCode::Usage;
        }
        self.end(catch_unwind(AssertUnwindSafe(task)), |error| {
            // The sentence that says why a program ended is never filtered away.
            if tracing::enabled!(tracing::Level::ERROR) {
                tracing::error!(event = "failed", "{error}");
            } else {
                complain(format_args!("{}: {error}", self.0));
            }
        })
    }

    /// Does `task`, for commands that print instead of logging.
    pub fn command<E>(self, task: impl FnOnce() -> Result<ExitCode, E>) -> ExitCode
    where
        E: Exits + fmt::Display,
    {
        self.end(catch_unwind(AssertUnwindSafe(task)), |error| complain(format_args!("{}: {error}", self.0)))
    }

    fn end<E: Exits>(
        self,
        outcome: Result<Result<ExitCode, E>, Box<dyn Any + Send>>,
        say: impl FnOnce(&E),
    ) -> ExitCode {
        match outcome {
            Ok(Ok(code)) => match crate::cli::lost() {
                Some(why) if code == ExitCode::Done => {
                    complain(format_args!("{}: standard output could not be written: {why}", self.0));
                    ExitCode::Storage
                }
                _ => code,
            },
            Ok(Err(error)) => {
                say(&error);
                error.exit_code()
            }
            Err(panic) => {
                let what = panic_text(&*panic);
                complain(format_args!(
                    "{}: internal error: {what}. This is a bug; please report it with the log",
                    self.0
                ));
                ExitCode::Internal
            }
        }
    }

    /// Runs a service to its end, or until a signal asks it to stop; the code says which.
    ///
    /// # Errors
    /// The service's own, and a [`LostThread`] where the operating system gives no threads or no signals.
    pub fn block_on<E, F, R>(self, service: F) -> Result<ExitCode, E>
    where
        E: From<LostThread>,
        F: FnOnce(Stop) -> R,
        R: Future<Output = Result<Ended, E>>,
    {
        let fault = |e: std::io::Error| E::from(LostThread::system(&e));
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(fault)?;
        runtime.block_on(async {
            let stop = signals::stop().map_err(fault)?;
            let ended = service(stop.clone()).await?;
            Ok(match (ended, stop.reason()) {
                (Ended::Stopped, Some(reason)) => reason.exit_code(),
                _ => ExitCode::Done,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("refused")]
    struct Refused;

    impl Exits for Refused {
        fn exit_code(&self) -> ExitCode {
            ExitCode::Refused
        }
    }

    #[test]
    fn every_end_has_a_code_of_the_table() {
        let program = Program("blindsum-test");
        assert_eq!(program.command(|| Ok::<_, Refused>(ExitCode::Done)), ExitCode::Done);
        assert_eq!(program.command(|| Err(Refused)), ExitCode::Refused);
        assert_eq!(program.command(|| -> Result<ExitCode, Refused> { panic!("no floor") }), ExitCode::Internal);
    }
}
