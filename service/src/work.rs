//! Work on threads of its own, whose end the run loop is sure to hear of.
//!
//! Contract: a task that panics comes back as a [`LostThread`], so that a service ends with code 1 instead of waiting for an
//! outcome that never comes.

use tokio::task::{JoinError, JoinSet};

/// A thread of this program ended in a way that it never should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a thread ended unexpectedly: {0}. This is a bug; please report it with the log")]
pub struct LostThread(String);

impl LostThread {
    /// The operating system gives no thread or no signal handler.
    pub(crate) fn system(error: &std::io::Error) -> LostThread {
        LostThread(error.to_string())
    }
}

impl From<JoinError> for LostThread {
    fn from(error: JoinError) -> LostThread {
        match error.try_into_panic() {
            Ok(panic) => LostThread(panic_text(&*panic)),
            Err(error) => LostThread(error.to_string()),
        }
    }
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without words".to_owned())
}

/// Runs `task` on a thread for blocking work and waits for it.
///
/// # Errors
/// The task panicked.
pub async fn blocking<T: Send + 'static>(task: impl FnOnce() -> T + Send + 'static) -> Result<T, LostThread> {
    Ok(tokio::task::spawn_blocking(task).await?)
}

/// Tasks that run beside the loop, and their outcomes as they come.
#[derive(Debug)]
pub struct Work<T>(JoinSet<T>);

impl<T> Default for Work<T> {
    fn default() -> Self {
        Work(JoinSet::new())
    }
}

impl<T: Send + 'static> Work<T> {
    /// Starts a task on a thread for blocking work.
    pub fn start(&mut self, task: impl FnOnce() -> T + Send + 'static) {
        self.0.spawn_blocking(task);
    }

    /// The next outcome; waits for ever where nothing runs. May be cancelled.
    ///
    /// # Errors
    /// A task panicked.
    pub async fn next(&mut self) -> Result<T, LostThread> {
        match self.0.join_next().await {
            Some(outcome) => Ok(outcome?),
            None => std::future::pending().await,
        }
    }

    /// Whether nothing runs, and nothing that ended waits to be taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outcomes_come_back_and_a_panic_is_a_fault() {
        let mut work = Work::default();
        work.start(|| 7);
        assert_eq!(work.next().await, Ok(7));
        assert!(work.is_empty());
        work.start(|| panic!("the floor is gone"));
        let fault = work.next().await.unwrap_err();
        assert!(fault.to_string().contains("the floor is gone"), "{fault}");
        assert_eq!(blocking(|| 3).await, Ok(3));
        assert!(blocking(|| panic!("again")).await.is_err());
    }
}
