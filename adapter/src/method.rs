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

/// What a round does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RoundKind {
    /// Trains B alone.
    TrainB,
    /// Trains A alone.
    TrainA,
    /// Trains both.
    TrainBoth,
    /// Trains nothing: measures the last adapter.
    Evaluate,
}

impl RoundKind {
    /// Whether A is trained.
    pub fn trains_a(self) -> bool {
        matches!(self, RoundKind::TrainA | RoundKind::TrainBoth)
    }

    /// Whether B is trained.
    pub fn trains_b(self) -> bool {
        matches!(self, RoundKind::TrainB | RoundKind::TrainBoth)
    }

    /// Whether such a round trains, so that its update carries the silo's privacy and its noise.
    pub fn trains(self) -> bool {
        self != RoundKind::Evaluate
    }
}

impl AdapterLayout {
    /// What training round `round` (from 1) does. Under `rolora` B goes first: while B is zero, A has no gradient.
    pub fn training_kind(&self, round: u32) -> RoundKind {
        match self.lora().method {
            Method::FfaLora => RoundKind::TrainB,
            Method::Lora => RoundKind::TrainBoth,
            Method::RoLora if round.is_multiple_of(2) => RoundKind::TrainA,
            Method::RoLora => RoundKind::TrainB,
        }
    }

    /// Whether A is among the values.
    pub fn trains_a(&self) -> bool {
        self.lora().method != Method::FfaLora
    }

    /// The values that such a round trains: what travels in its sum.
    pub fn trained(&self, kind: RoundKind) -> Range<usize> {
        if !kind.trains() {
            return 0..0;
        }
        let start = if kind.trains_b() { 0 } else { self.b_len() };
        let end = if kind.trains_a() { self.len() } else { self.len() - self.a_len() };
        start..end
    }

    /// The segments of such a round's sum in order, names and lengths; lengths add up to that of
    /// [`trained`](Self::trained).
    pub fn segments(&self, kind: RoundKind) -> Vec<(&'static str, usize)> {
        let head = if kind.trains() { self.len() - self.a_len() - self.b_len() } else { 0 };
        let b = if kind.trains_b() { self.b_len() } else { 0 };
        let a = if kind.trains_a() { self.a_len() } else { 0 };
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
