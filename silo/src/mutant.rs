//! What may go wrong around the ledger by a slip that nobody would see in a result: each fault by name.
//!
//! Contract: a test of this crate makes one of them live in its own thread and shows that a check notices. In programs
//! [`SiloMutant::lives`] is the constant `false`, so that nothing of a fault is compiled. The mechanism's own faults are in
//! [`blindsum_privacy::Mutant`].

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SiloMutant {
    /// The ledger is debited when the update is ready, not before the rows are touched.
    DebitAfterTraining,
    /// Where the ledger is gone, another one is begun, whatever journal and mark know.
    LedgerMadeAnew,
    /// An update leaves when it is ready.
    NoReleaseTime,
    /// A tag is the record's identity, which whoever guesses a text can compute.
    TagsWithoutKey,
    /// The counts of held-out rows leave as they are.
    ExactCounts,
}

impl SiloMutant {
    /// Whether a test has made it live in this thread.
    #[inline]
    pub fn lives(self) -> bool {
        lives(self)
    }
}

/// In programs none does.
#[cfg(not(test))]
const fn lives(_: SiloMutant) -> bool {
    false
}

#[cfg(test)]
use living::lives;

#[cfg(test)]
pub(crate) mod living {
    //! The switch.

    use std::cell::Cell;

    use super::SiloMutant;

    thread_local! {
        static LIVING: Cell<Option<SiloMutant>> = const { Cell::new(None) };
    }

    pub(super) fn lives(mutant: SiloMutant) -> bool {
        LIVING.get() == Some(mutant)
    }

    /// Runs `check` while the fault lives in this thread.
    pub fn with<T>(mutant: SiloMutant, check: impl FnOnce() -> T) -> T {
        LIVING.set(Some(mutant));
        let found = check();
        LIVING.set(None);
        found
    }
}
