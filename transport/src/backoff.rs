//! When to try again: exponential delays with jitter, up to a cap.

use std::time::Duration;

/// Delays of `base`, 2·base, 4·base, … up to `cap`, each shortened by up to a half at random, so that silos that lost the
/// same coordinator do not come back in one moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    tries: u32,
}

impl Backoff {
    /// The next delay; `random` in [0, 1) shortens it.
    pub fn next(&mut self, random: f64) -> Duration {
        let full = self.base.saturating_mul(1u32 << self.tries.min(20)).min(self.cap);
        self.tries = self.tries.saturating_add(1);
        full.mul_f64(1.0 - 0.5 * random.clamp(0.0, 1.0))
    }

    /// Back to the start, after a success.
    pub fn reset(&mut self) {
        self.tries = 0;
    }
}

impl Default for Backoff {
    /// Half a second to half a minute.
    fn default() -> Backoff {
        Backoff { base: Duration::from_millis(500), cap: Duration::from_secs(30), tries: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_start_again() {
        let mut backoff = Backoff::default();
        let delays: Vec<u128> = (0..8).map(|_| backoff.next(0.0).as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 500);
        assert_eq!(backoff.next(1.0).as_millis(), 500, "jitter halves at most");
        for _ in 0..100 {
            backoff.next(0.5);
        }
        assert_eq!(backoff.next(0.0), Duration::from_secs(30));
    }
}
