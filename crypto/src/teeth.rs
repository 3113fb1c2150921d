//! Switches single checks off, so that a test can show what each of them is good for.
//!
//! Contract: this module exists only in tests (`cfg(test)`, or the feature `teeth`, which nothing but dev-dependencies may
//! enable). A check is off for one thread and for as long as its guard lives; there is no other way to switch it, in
//! particular none from outside of the process.

use crate::hash::{Digest, sha256};
use crate::identity::BadSignature;
use crate::verify::Check;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::marker::PhantomData;

thread_local! {
    /// One bit per check that is off.
    static OFF: Cell<u128> = const { Cell::new(0) };
}

const fn bit(check: Check) -> u128 {
    1 << check as u8
}

/// Whether a check is on in this thread.
pub fn on(check: Check) -> bool {
    OFF.get() & bit(check) == 0
}

/// The outcome of verifying this signature, which is a pure function, the first time; the same outcome from then on. In a
/// test all n silos of a session live in one thread and verify the same signatures, which is most of what a run costs.
pub(crate) fn remembered(
    key: &[u8; 32],
    message: &[u8],
    signature: &[u8; 64],
    verified: impl FnOnce() -> Result<(), BadSignature>,
) -> Result<(), BadSignature> {
    thread_local! {
        static SEEN: RefCell<HashMap<Digest, bool>> = RefCell::default();
    }
    let name = sha256(&[&key[..], &signature[..], message].concat());
    if let Some(good) = SEEN.with_borrow(|seen| seen.get(&name).copied()) {
        return if good { Ok(()) } else { Err(BadSignature) };
    }
    let found = verified();
    SEEN.with_borrow_mut(|seen| {
        if seen.len() >= 1 << 14 {
            seen.clear();
        }
        seen.insert(name, found.is_ok());
    });
    found
}

/// Keeps checks switched off in this thread until it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Off {
    before: u128,
    /// The switch is this thread's.
    not_send: PhantomData<*const ()>,
}

/// Switches checks off, besides those that are off already.
pub fn off(checks: &[Check]) -> Off {
    let before = OFF.get();
    OFF.set(checks.iter().fold(before, |bits, check| bits | bit(*check)));
    Off { before, not_send: PhantomData }
}

impl Drop for Off {
    fn drop(&mut self) {
        OFF.set(self.before);
    }
}

/// Shows that each of `checks` stops `attack`, which says whether its goal was reached: it is not reached with all of them
/// on, nor with any one of them alone, and it is reached with all of them off. More than one check is named where they
/// stand behind each other.
///
/// # Panics
/// Where one of that does not hold.
pub fn bites(checks: &[Check], attack: impl Fn() -> bool) {
    assert!(!attack(), "the attack succeeds although every check is on");
    for alone in checks {
        let others: Vec<Check> = checks.iter().copied().filter(|check| check != alone).collect();
        if !others.is_empty() {
            let _off = off(&others);
            assert!(!attack(), "{alone:?} alone does not stop the attack");
        }
    }
    let _off = off(checks);
    assert!(attack(), "the attack fails although {checks:?} are off: what stops it?");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_off_in_one_thread_while_its_guard_lives() {
        assert!(Check::ALL.len() <= 128 && Check::ALL.iter().all(|c| on(*c)));
        let first = off(&[Check::Headroom]);
        {
            let _second = off(&[Check::SumRows]);
            assert!(!on(Check::Headroom) && !on(Check::SumRows) && on(Check::OwnList));
            assert!(std::thread::spawn(|| on(Check::Headroom)).join().unwrap());
        }
        assert!(!on(Check::Headroom) && on(Check::SumRows));
        assert!(!Check::Headroom.finds(true) && Check::SumRows.finds(true) && !Check::SumRows.finds(false));
        drop(first);
        assert!(Check::ALL.iter().all(|c| on(*c)));
    }

    #[test]
    #[should_panic(expected = "alone does not stop")]
    fn a_check_that_stops_nothing_is_noticed() {
        bites(&[Check::SumRows, Check::Headroom], || !on(Check::SumRows));
    }

    #[test]
    #[should_panic(expected = "what stops it")]
    fn an_attack_that_something_else_stops_is_noticed() {
        bites(&[Check::SumRows], || false);
    }
}
