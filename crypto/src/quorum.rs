//! The numbers that decide who must agree: n, c, t, q and m.
//!
//! Contract: every silo derives them itself from n and c; a job may only raise m. All of them count one n, the size of the
//! roster, so that two quorums of one attempt always share an honest silo (no forked survivor lists: SA-08).

use serde::{Deserialize, Serialize};

/// The quorums of a session. Make it with [`Quorum::derive`]; one that came over the wire must pass [`Quorum::check`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Quorum {
    /// Silos in the roster.
    pub n: u16,
    /// Silos that may collude with the coordinator.
    pub c: u16,
    /// Shamir threshold: shares that rebuild a secret.
    pub t: u16,
    /// COMMIT, ABANDON or RESULT signatures that decide.
    pub q: u16,
    /// Fewest survivors of an attempt.
    pub m: u16,
}

/// Why no quorum exists for the numbers given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuorumError {
    /// n outside 3..=1000.
    #[error("secure aggregation needs 3 to 1000 silos, not {0}")]
    Size(u16),
    /// Too many colluders for any quorum.
    #[error("{c} colluding silos among {n} leave no quorum: at most {} are possible", .n - 2)]
    Colluders {
        /// Silos in the roster.
        n: u16,
        /// Colluders asked for.
        c: u16,
    },
    /// m below what safety needs, or above n.
    #[error("the minimum of survivors must be between {least} and {n}, not {m}")]
    Survivors {
        /// m asked for.
        m: u16,
        /// Smallest safe m.
        least: u16,
        /// Silos in the roster.
        n: u16,
    },
    /// The numbers on the wire are not the derived ones.
    #[error("the quorum numbers {0:?} do not follow from n, c and m")]
    NotDerived(Quorum),
}

impl Quorum {
    /// Derives t = max(c+1, ⌊n/2⌋+1), q = ⌊(n+c)/2⌋+1 and m = max(q, c+2, 3) from n and c (default ⌊(n−1)/3⌋); `m` may
    /// raise the minimum of survivors.
    ///
    /// # Errors
    /// [`QuorumError`] where n is outside 3..=1000, c leaves no quorum, or m is out of range.
    pub fn derive(n: u16, c: Option<u16>, m: Option<u16>) -> Result<Quorum, QuorumError> {
        if !(3..=1000).contains(&n) {
            return Err(QuorumError::Size(n));
        }
        let c = c.unwrap_or((n - 1) / 3);
        if c > n - 2 {
            return Err(QuorumError::Colluders { n, c });
        }
        let t = (c + 1).max(n / 2 + 1);
        let q = (n + c) / 2 + 1;
        let least = q.max(c + 2).max(3);
        let m = m.unwrap_or(least);
        if !(least..=n).contains(&m) {
            return Err(QuorumError::Survivors { m, least, n });
        }
        Ok(Quorum { n, c, t, q, m })
    }

    /// Checks that the numbers are the derived ones.
    ///
    /// # Errors
    /// [`QuorumError`] where they are not.
    pub fn check(&self) -> Result<(), QuorumError> {
        if Quorum::derive(self.n, Some(self.c), Some(self.m))? == *self {
            Ok(())
        } else {
            Err(QuorumError::NotDerived(*self))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sa08_quorums_are_those_of_the_protocol_page() {
        for (n, c, q) in [(3, 0, 2), (4, 1, 3), (5, 1, 4), (16, 5, 11), (100, 33, 67)] {
            let quorum = Quorum::derive(n, None, None).unwrap();
            assert_eq!((quorum.c, quorum.q), (c, q), "n = {n}");
        }
    }

    #[test]
    fn sa08_two_quorums_share_an_honest_silo_and_survivors_can_rebuild() {
        for n in 3..=64 {
            for c in 0..=n - 2 {
                let k = Quorum::derive(n, Some(c), None).unwrap();
                assert!(2 * k.q > n + c, "two quorums of {k:?} may share only colluders");
                assert!(k.t > c, "colluders of {k:?} rebuild a secret alone");
                assert!(k.t <= k.m && k.q <= k.m && k.m <= n, "{k:?} cannot finish");
                k.check().unwrap();
            }
        }
    }

    #[test]
    fn numbers_that_are_not_derived_are_refused() {
        let good = Quorum::derive(7, None, None).unwrap();
        for bad in [
            Quorum { t: good.t - 1, ..good },
            Quorum { q: good.q - 1, ..good },
            Quorum { m: good.m - 1, ..good },
            Quorum { m: 8, ..good },
            Quorum { c: 6, ..good },
            Quorum { n: 2, ..good },
            Quorum { n: u16::MAX, c: u16::MAX, ..good },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
        assert_eq!(Quorum::derive(7, None, Some(7)).unwrap().m, 7);
        assert!(Quorum::derive(7, None, Some(8)).is_err());
        assert!(Quorum::derive(7, Some(6), None).is_err());
    }
}
