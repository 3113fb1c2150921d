//! A word now and then while nothing happens, so that silence always means that a program is gone.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// How long a service that waits for others may be silent.
pub const WAITING: Duration = Duration::from_secs(10);
/// How long it may be silent while all go about their work.
pub const WORKING: Duration = Duration::from_secs(60);

/// Tells when it is time to say what is waited for.
#[derive(Debug)]
pub struct Heartbeat {
    spoke: Instant,
}

impl Default for Heartbeat {
    fn default() -> Self {
        Heartbeat { spoke: Instant::now() }
    }
}

impl Heartbeat {
    /// Something was said.
    pub fn spoke(&mut self) {
        self.spoke = Instant::now();
    }

    /// Returns when nothing was said for `silence`. May be cancelled.
    pub async fn due(&mut self, silence: Duration) {
        sleep_until(self.spoke + silence).await;
        self.spoke();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_speaks_once_in_each_silence() {
        let start = Instant::now();
        let mut heartbeat = Heartbeat::default();
        heartbeat.due(WAITING).await;
        heartbeat.due(WAITING).await;
        assert_eq!(start.elapsed(), 2 * WAITING);
        tokio::time::advance(Duration::from_secs(7)).await;
        heartbeat.spoke();
        heartbeat.due(WAITING).await;
        assert_eq!(start.elapsed(), 3 * WAITING + Duration::from_secs(7));
    }
}
