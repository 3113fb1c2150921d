//! Makes single faults live, so that a test can show that they are noticed.
//!
//! Contract: this module exists only in tests (`cfg(test)`, or the feature `teeth`, which nothing but dev-dependencies may
//! enable). A fault lives in one thread and for as long as its guard; there is no other way to make it live, in
//! particular none from outside of the process.

use std::cell::Cell;
use std::marker::PhantomData;

use crate::Mutant;

thread_local! {
    static LIVING: Cell<Option<Mutant>> = const { Cell::new(None) };
}

pub(crate) fn lives(mutant: Mutant) -> bool {
    LIVING.get() == Some(mutant)
}

/// Keeps a fault alive in this thread until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Living {
    before: Option<Mutant>,
    /// The switch is this thread's.
    not_send: PhantomData<*const ()>,
}

/// Makes a fault live, and any other of this thread rest meanwhile.
pub fn live(mutant: Mutant) -> Living {
    Living { before: LIVING.replace(Some(mutant)), not_send: PhantomData }
}

impl Drop for Living {
    fn drop(&mut self) {
        LIVING.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_lives_in_one_thread_while_its_guard_does() {
        let all = || Mutant::MECHANISM.iter().filter(|mutant| mutant.lives()).copied().collect::<Vec<_>>();
        assert_eq!(all(), []);
        let first = live(Mutant::NoNoise);
        {
            let _second = live(Mutant::Shuffle);
            assert_eq!(all(), [Mutant::Shuffle]);
            assert!(std::thread::spawn(|| !Mutant::Shuffle.lives()).join().unwrap());
        }
        assert_eq!(all(), [Mutant::NoNoise]);
        drop(first);
        assert_eq!(all(), []);
    }
}
