//! Faults, lies and misdeeds as data: what a schedule is made of, and how schedules are drawn.
//!
//! ```text
//! Schedule { n, privacy, metrics, who colludes, ops } ─► script.rs carries it out ─► checks.rs judges the run
//! ```
//!
//! Contract: a schedule says everything about its run, so that a failure is reproduced from its printed text alone.

use std::collections::BTreeSet;

use blindsum_crypto::{Quorum, SiloId};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

/// The phase that a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Phase {
    Open,
    Advertise,
    Share,
    Masked,
    Commit,
    Reveal,
    Sum,
    Result,
    Abandon,
}

impl Phase {
    pub const ALL: [Phase; 9] = [
        Phase::Open,
        Phase::Advertise,
        Phase::Share,
        Phase::Masked,
        Phase::Commit,
        Phase::Reveal,
        Phase::Sum,
        Phase::Result,
        Phase::Abandon,
    ];

    /// As the protocol's page counts them.
    pub fn label(self) -> &'static str {
        match self {
            Phase::Open => "P0 open",
            Phase::Advertise => "P1 advertise",
            Phase::Share => "P2 share",
            Phase::Masked => "P3 masked input",
            Phase::Commit => "P4 commit",
            Phase::Reveal => "P5 reveal",
            Phase::Sum => "P6 sum",
            Phase::Result => "P6 result",
            Phase::Abandon => "abandon",
        }
    }

    /// Names of this phase's messages in one direction; one that occurs twice is chosen twice as often.
    pub fn names(self, up: bool) -> &'static [&'static str] {
        match (self, up) {
            (Phase::Open, true) => &["hello", "hello", "hello", "decline"],
            (Phase::Open, false) => &["open"],
            (Phase::Advertise, true) => &["advert"],
            (Phase::Advertise, false) => &["adverts"],
            (Phase::Share, true) => &["shares", "shares", "shares", "complaint"],
            (Phase::Share, false) => &["shares"],
            (Phase::Masked, true) => &["masked-input"],
            (Phase::Masked, false) => &[],
            (Phase::Commit, true) => &["commit"],
            (Phase::Commit, false) => &["commit-request"],
            (Phase::Reveal, true) => &["reveal"],
            (Phase::Reveal, false) => &["reveal-request"],
            (Phase::Sum, true) => &["sketch"],
            (Phase::Sum, false) => &["sum-request"],
            (Phase::Result, true) => &["result-vote"],
            (Phase::Result, false) => &["result", "certified", "result", "certified", "finished"],
            (Phase::Abandon, true) => &["abandon"],
            (Phase::Abandon, false) => &["abandon-request"],
        }
    }
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Kind {
    // the network
    Drop,
    Delay,
    Duplicate,
    Reorder,
    Replay,
    Tamper,
    Truncate,
    Extend,
    Cut,
    // the processes
    KillSilo,
    KillCoordinator,
    Restore,
    // the coordinator lies
    Equivocate,
    Omit,
    Forge,
    Repeat,
    Collude,
    // a silo misbehaves
    Garbage,
    Second,
    Foreign,
    Length,
}

/// Who does it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actor {
    Network,
    Process,
    Coordinator,
    Silo,
}

impl Kind {
    pub const ALL: [Kind; 21] = [
        Kind::Drop,
        Kind::Delay,
        Kind::Duplicate,
        Kind::Reorder,
        Kind::Replay,
        Kind::Tamper,
        Kind::Truncate,
        Kind::Extend,
        Kind::Cut,
        Kind::KillSilo,
        Kind::KillCoordinator,
        Kind::Restore,
        Kind::Equivocate,
        Kind::Omit,
        Kind::Forge,
        Kind::Repeat,
        Kind::Collude,
        Kind::Garbage,
        Kind::Second,
        Kind::Foreign,
        Kind::Length,
    ];

    pub fn actor(self) -> Actor {
        match self {
            Kind::Drop
            | Kind::Delay
            | Kind::Duplicate
            | Kind::Reorder
            | Kind::Replay
            | Kind::Tamper
            | Kind::Truncate
            | Kind::Extend
            | Kind::Cut => Actor::Network,
            Kind::KillSilo | Kind::KillCoordinator | Kind::Restore => Actor::Process,
            Kind::Equivocate | Kind::Omit | Kind::Forge | Kind::Repeat | Kind::Collude => Actor::Coordinator,
            Kind::Garbage | Kind::Second | Kind::Foreign | Kind::Length => Actor::Silo,
        }
    }
}

/// Every pair of phase and kind that there is. In P3 the coordinator says nothing: what it lies about P3 it says in P4.
pub fn pairs() -> Vec<(Phase, Kind)> {
    let all = Phase::ALL.into_iter().flat_map(|phase| Kind::ALL.into_iter().map(move |kind| (phase, kind)));
    all.filter(|(phase, kind)| *phase != Phase::Masked || kind.actor() != Actor::Coordinator).collect()
}

/// The pairs to draw from: those that come late in a run, or need a silo that may be faulty, more often.
pub fn table() -> Vec<(Phase, Kind)> {
    let times = |(phase, kind): &(Phase, Kind)| {
        let late = usize::from(*phase >= Phase::Commit) + usize::from(*phase >= Phase::Sum);
        2 + late + 2 * usize::from(*kind == Kind::Restore) + usize::from(kind.actor() == Actor::Silo)
    };
    pairs().iter().flat_map(|pair| std::iter::repeat_n(*pair, times(pair))).collect()
}

/// One thing that goes wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Op {
    pub phase: Phase,
    pub kind: Kind,
    /// Silos whose messages it concerns, one bit each; for a lie, the camp that is lied to.
    pub who: u8,
    /// Messages to the coordinator, or from it, where the phase has both.
    pub up: bool,
    /// Only this attempt.
    pub attempt: Option<u32>,
    /// Each such message, or the first alone.
    pub every: bool,
    /// Chooses among the ways to do it.
    pub variant: u32,
}

impl Op {
    /// Of silo `silo` alone, in every attempt.
    pub fn at(phase: Phase, kind: Kind, silo: u16, up: bool, variant: u32) -> Op {
        Op { phase, kind, who: 1 << silo, up, attempt: None, every: false, variant }
    }

    /// The same, each time.
    pub fn always(self) -> Op {
        Op { every: true, ..self }
    }

    /// The same, for all these silos.
    pub fn of(self, silos: impl IntoIterator<Item = u16>) -> Op {
        Op { who: silos.into_iter().fold(0, |who, silo| who | 1 << silo), ..self }
    }

    /// A choice of `of` things; different `shift`s give choices that do not depend on each other.
    pub fn pick(&self, shift: u32, of: usize) -> usize {
        (self.variant >> shift) as usize % of.max(1)
    }

    pub fn concerns(&self, silo: SiloId) -> bool {
        silo.0 < 8 && self.who & (1 << silo.0) != 0
    }
}

/// A run with all that goes wrong in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Schedule {
    pub n: u16,
    /// The job has DP noise: what was committed to may be given up.
    pub private: bool,
    /// With held-out metrics there is a closing round.
    pub metrics: bool,
    /// Candidates for the silos that collude or misbehave, one bit each; see [`Schedule::faulty`].
    pub adversaries: u8,
    /// What a sum is checked against before it is signed: nothing (never under a coordinator that lies), sketches, inputs.
    pub verify: u8,
    /// Of the silos' randomness.
    pub seed: u64,
    pub ops: Vec<Op>,
}

impl Schedule {
    pub fn is_lying(&self) -> bool {
        self.ops.iter().any(|op| op.kind.actor() == Actor::Coordinator)
    }

    /// Silos that collude, misbehave, or are started from an old disk: at most c, or one where the coordinator is honest.
    pub fn faulty(&self) -> BTreeSet<SiloId> {
        let restores = self.ops.iter().any(|op| op.kind == Kind::Restore);
        let rogues = self.ops.iter().any(|op| op.kind.actor() == Actor::Silo);
        if !(restores || rogues || self.is_lying()) {
            return BTreeSet::new();
        }
        let c = usize::from(Quorum::derive(self.n, None, None).unwrap().c);
        let most = if self.is_lying() || restores { c } else { c.max(1) };
        let start = u16::from(self.adversaries) % self.n;
        let order = (0..self.n).map(|i| (start + i) % self.n);
        let chosen = order.filter(|&i| i == start || self.adversaries & (1 << i) != 0);
        chosen.take(most).map(SiloId).collect()
    }
}

/// Draws an operation of one pair.
pub fn op(phase: Phase, kind: Kind) -> BoxedStrategy<Op> {
    let who = prop_oneof![
        6 => (0u8..8).prop_map(|i| 1 << i | 1 << (i % 3)),
        2 => any::<u8>(),
        1 => Just(u8::MAX),
    ];
    let attempt = prop_oneof![5 => Just(None), 4 => Just(Some(1)), 1 => Just(Some(2))];
    let every = prop::bool::weighted(0.35);
    (who, any::<bool>(), attempt, every, any::<u32>())
        .prop_map(move |(who, up, attempt, every, variant)| {
            // every restart repeated for ever is no run
            let every = every && !matches!(kind.actor(), Actor::Process) && kind != Kind::Cut;
            Op { phase, kind, who, up, attempt, every, variant }
        })
        .boxed()
}

/// What lets an attempt fail after P2, so that it is abandoned: the masked inputs of attempt 1 are lost.
pub fn failing_first_attempt() -> Op {
    let (phase, kind) = (Phase::Masked, Kind::Drop);
    Op { phase, kind, who: u8::MAX, up: true, attempt: Some(1), every: true, variant: 0 }
}

/// Draws a schedule whose first operations are of the given pairs.
pub fn schedule(first: &[(Phase, Kind)], more: usize) -> BoxedStrategy<Schedule> {
    let mut fixed: Vec<BoxedStrategy<Op>> = first.iter().map(|&(phase, kind)| op(phase, kind)).collect();
    if first.iter().any(|(phase, kind)| *phase == Phase::Abandon && kind.actor() != Actor::Coordinator) {
        fixed.push(Just(failing_first_attempt()).boxed());
    }
    let drawn = prop::sample::select(table()).prop_flat_map(|(phase, kind)| op(phase, kind));
    let n = prop_oneof![6 => Just(3u16), 10 => Just(4), 2 => Just(5), 1 => Just(6), 1 => Just(7), 1 => Just(8)];
    let settings = (any::<bool>(), prop::bool::weighted(0.1), prop_oneof![4 => Just(0u8), 4 => Just(1), 2 => Just(2)]);
    (n, settings, any::<u8>(), any::<u64>(), fixed, prop::collection::vec(drawn, 0..=more))
        .prop_map(|(n, (private, metrics, verify), adversaries, seed, mut ops, drawn)| {
            ops.extend(drawn);
            let schedule = Schedule { n, private, metrics, verify, adversaries, seed, ops };
            let sums = schedule.ops.iter().any(|op| op.phase == Phase::Sum);
            let least = u8::from(sums || schedule.is_lying());
            Schedule { verify: verify.max(least), ..schedule }
        })
        .boxed()
}
