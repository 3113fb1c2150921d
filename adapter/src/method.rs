//! What each method trains in which round, and where that lies among an adapter's values.
//!
//! | method | rounds | trained | A |
//! |---|---|---|---|
//! | `ffa-lora` | all | B | drawn from the seed, never moves; with `refresh_rounds` drawn anew per generation |
//! | `lora` | all | A and B | starts from the same draw |
//! | `rolora` | 1, 3, 5 … | B | waits |
//! | `rolora` | 2, 4, 6 … | A | starts from the same draw |
//!
//! A head that is trained is trained in every round. Contract: since the values lie in the order B, head, A, what a round
//! trains is one range of them, and that range is all that travels in the round's sum.

use std::ops::Range;

use crate::{AdapterLayout, Method};

/// Which of A and B a round trains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// B alone.
    B,
    /// A alone.
    A,
    /// Both.
    Both,
}

impl Phase {
    /// Whether A is trained.
    pub fn a(self) -> bool {
        self != Phase::B
    }

    /// Whether B is trained.
    pub fn b(self) -> bool {
        self != Phase::A
    }
}

impl AdapterLayout {
    /// What round `round` (from 1) trains. Under `rolora` B goes first: while B is zero, A has no gradient.
    pub fn phase(&self, round: u32) -> Phase {
        match self.lora().method {
            Method::FfaLora => Phase::B,
            Method::Lora => Phase::Both,
            Method::RoLora if round.is_multiple_of(2) => Phase::A,
            Method::RoLora => Phase::B,
        }
    }

    /// Whether A is among the values.
    pub fn trains_a(&self) -> bool {
        self.lora().method != Method::FfaLora
    }

    /// The values that a round of this phase trains: what travels in its sum.
    pub fn trained(&self, phase: Phase) -> Range<usize> {
        let start = if phase.b() { 0 } else { self.b_len() };
        let end = if phase.a() { self.len() } else { self.len() - self.a_len() };
        start..end
    }

    /// The segments of such a round's sum in order, names and lengths; lengths add up to that of
    /// [`trained`](Self::trained).
    pub fn segments(&self, phase: Phase) -> Vec<(&'static str, usize)> {
        let head = self.len() - self.a_len() - self.b_len();
        let b = if phase.b() { self.b_len() } else { 0 };
        let a = if phase.a() { self.a_len() } else { 0 };
        [("lora_B", b), ("head", head), ("lora_A", a)].into_iter().filter(|&(_, length)| length > 0).collect()
    }

    /// Coordinates of all A's together where A is among the values, else 0.
    pub fn a_len(&self) -> usize {
        let len = |m: &crate::Module| m.in_features * self.rank();
        if self.trains_a() { self.modules().iter().map(len).sum() } else { 0 }
    }

    /// Where `lora_A` of module `i` lies in the values, row-major `[r, in_features]`; `None` where it is not among them.
    /// Panics if there is no such module.
    pub fn a_range(&self, i: usize) -> Option<Range<usize>> {
        if !self.trains_a() {
            return None;
        }
        let before: usize = self.modules()[..i].iter().map(|m| m.in_features * self.rank()).sum();
        let start = self.len() - self.a_len() + before;
        Some(start..start + self.modules()[i].in_features * self.rank())
    }
}
