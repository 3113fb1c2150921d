//! What a run of the checker fixes: the numbers, what the coordinator may do, and which rules of the silo are off.
//!
//! Contract: with [`Rules::kept`] the transitions of `silo.rs` are those of the code; every switch either removes one
//! rule (to see that the checker misses it) or adds one that the code does not have (to see what it would mend).

use blindsum_crypto::Quorum;

/// n, c, t, q and m, each free. [`Numbers::derived`] gives the product's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Numbers {
    /// Silos in the roster, at most [`crate::state::MOST_SILOS`].
    pub n: u8,
    /// Of them, how many collude with the coordinator.
    pub c: u8,
    /// Shares that rebuild a secret.
    pub t: u8,
    /// Votes of a certificate.
    pub q: u8,
    /// Fewest entries of every list.
    pub m: u8,
}

impl Numbers {
    /// What every silo computes for itself: `blindsum_crypto::Quorum::derive`.
    ///
    /// # Panics
    /// Where the product refuses n and c, that is n < 3 or c > n − 2.
    pub fn derived(n: u8, c: u8) -> Numbers {
        let k = Quorum::derive(n.into(), Some(c.into()), None).expect("n and c of this run admit a quorum");
        let small = |number: u16| u8::try_from(number).expect("the numbers are at most n");
        Numbers { n, c, t: small(k.t), q: small(k.q), m: small(k.m) }
    }

    /// Silos that do not collude.
    pub fn honest(&self) -> u8 {
        self.n - self.c
    }
}

/// What goes into an attempt that SA-13 does not let carry the old update.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Updates {
    /// The job has privacy: a fresh update with fresh noise, and no held-out counts.
    Fresh,
    /// The job has none, or it is the closing round: whatever the silo trains again is as good as the same update, and
    /// it declines where an earlier attempt is not proven abandoned.
    Same,
}

/// From when the copy of a silo's disk may be that is put back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Snapshot {
    /// Any earlier moment.
    Any,
    /// Not before the silo joined its newest attempt.
    OfThisAttempt,
}

/// How far moves are merged. See the crate's head for why merging loses no attack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grain {
    /// One silo at a time, every list, votes that lead nowhere included.
    Fine,
    /// Several silos at once, and only lists and votes that can be of use to the coordinator.
    Coarse,
}

/// How much the coordinator may do; the checker tries everything within.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bounds {
    /// Attempts at the round, 1 to 3.
    pub attempts: u8,
    /// Different T1 that it shows in one attempt, 1 or 2.
    pub t1s: u8,
    /// Different T2, 1 or 2.
    pub t2s: u8,
    /// Different T3, 1 to 3.
    pub t3s: u8,
    /// Restarts of silos, all together.
    pub restarts: u8,
    /// Restored disks, all together.
    pub restores: u8,
    /// From when the copies are.
    pub snapshot: Snapshot,
    /// Merging of moves.
    pub grain: Grain,
}

/// A rule of the silo that can be removed, or one that it does not have and that can be added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Switch {
    /// Removed: a vote goes into the journal at all.
    VoteJournaled,
    /// Removed: a vote is in the journal before it is sent. A crash may fall between.
    JournalFirst,
    /// Removed: whoever voted does not vote otherwise in the same attempt.
    OneVote,
    /// Removed: shares only against a certificate over one's own T3; any certificate of the attempt will do.
    OwnList,
    /// Removed: shares only against a certificate.
    Certificate,
    /// Removed: no ABANDON for an attempt whose opening this process did not receive.
    AbandonOnlySeen,
    /// Removed: an attempt is above all earlier ones.
    AttemptsRise,
    /// Removed: a peer whose journal went backwards is refused.
    PeersRemember,
    /// Removed: the same update only with q ABANDON votes for every attempt in which it went out.
    RetryProven,
    /// Removed: the list holds at least m.
    Minimum,
    /// Removed: an update that may be in another sum goes without held-out counts.
    CountsOnce,
    /// Added: after a restart an attempt that the journal only says was joined counts as one in which y went out.
    JoinedIsMasked,
    /// Removed: held-out counts are added where every advert of the session says that its silo can.
    CountsAgreed,
}

/// A set of switches that are thrown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Rules(u16);

impl Rules {
    /// As the code is.
    pub fn kept() -> Rules {
        Rules(0)
    }

    /// With these switches thrown.
    pub fn with(switches: &[Switch]) -> Rules {
        Rules(switches.iter().fold(0, |bits, s| bits | 1 << *s as u8))
    }

    /// Whether a switch is thrown.
    pub fn thrown(self, switch: Switch) -> bool {
        self.0 & 1 << switch as u8 != 0
    }

    /// Whether no rule is removed; an addition does not count.
    pub fn is_as_coded(self) -> bool {
        self.0 & !(1 << Switch::JoinedIsMasked as u8) == 0
    }
}
