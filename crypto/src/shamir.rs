//! Shamir sharing of a uniform scalar over the scalar field of curve25519 (Shamir 1979).
//!
//! Contract: the share of silo i is the value of a random polynomial of degree t−1 at x = i + 1; any t shares rebuild the
//! secret, fewer say nothing about it. A share is 32 bytes, the canonical little-endian scalar.

use crate::identity::SiloId;
use crate::kernel::scalar::Loose;
use curve25519_dalek::scalar::Scalar;
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A secret scalar (`b` or σ of a session). Erased on drop, never shown, compared in constant time (SA-11).
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretScalar(pub(crate) Scalar);

impl SecretScalar {
    /// A uniform scalar.
    pub fn random(rng: &mut (impl CryptoRng + ?Sized)) -> SecretScalar {
        let mut wide = [0u8; 64];
        rng.fill_bytes(&mut wide);
        let scalar = Scalar::from_bytes_mod_order_wide(&wide);
        wide.zeroize();
        SecretScalar(scalar)
    }
}

impl ConstantTimeEq for SecretScalar {
    fn ct_eq(&self, other: &SecretScalar) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl fmt::Debug for SecretScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretScalar(secret)")
    }
}

/// One share. Erased on drop, never shown, compared in constant time (SA-11). Whether its bytes are a canonical scalar is
/// checked when it is used.
#[derive(Clone, Zeroize, ZeroizeOnDrop, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Share(pub(crate) [u8; 32]);

impl PartialEq for Share {
    fn eq(&self, other: &Share) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}
impl Eq for Share {}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Share(secret)")
    }
}

/// Why a secret cannot be rebuilt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShamirError {
    /// Fewer than t shares.
    #[error("{found} shares do not rebuild a secret, {needed} are needed")]
    TooFew {
        /// t.
        needed: usize,
        /// Shares at hand.
        found: usize,
    },
    /// Two shares of one holder.
    #[error("silo {0} appears twice among the holders of shares")]
    Duplicate(SiloId),
    /// Not a canonical scalar.
    #[error("the share held by silo {0} is not a canonical scalar")]
    NotCanonical(SiloId),
    /// A threshold of zero.
    #[error("the threshold must be at least 1")]
    Threshold,
}

/// The place of a silo's share, 1..=2^16.
fn x(id: SiloId) -> u64 {
    u64::from(id.0) + 1
}

/// Deals one share per holder, in their order; any `t` of them rebuild the secret.
///
/// # Errors
/// [`ShamirError`] where t is 0, there are fewer than t holders, or one occurs twice.
pub fn deal(
    secret: &SecretScalar,
    t: u16,
    holders: &[SiloId],
    rng: &mut (impl CryptoRng + ?Sized),
) -> Result<Vec<Share>, ShamirError> {
    check_holders(holders, t)?;
    let constant = Loose::of(&secret.0);
    let higher: Vec<Loose> = (1..t).map(|_| Loose::of(&SecretScalar::random(rng).0)).collect();
    let share = |&id: &SiloId| {
        let (x, mut y) = (x(id), Loose::ZERO);
        higher.iter().rev().for_each(|c| y.multiply_add(x, c));
        y.multiply_add(x, &constant);
        let mut y = y.reduce();
        let share = Share(y.to_bytes());
        y.zeroize();
        share
    };
    Ok(holders.iter().map(share).collect())
}

/// Rebuilds a secret from the first `t` of the shares; the others are not looked at.
///
/// # Errors
/// [`ShamirError`] for fewer than t shares, a repeated holder, or a share that is no canonical scalar.
pub fn rebuild(shares: &[(SiloId, Share)], t: u16) -> Result<SecretScalar, ShamirError> {
    let holders: Vec<SiloId> = shares.iter().take(usize::from(t)).map(|(id, _)| *id).collect();
    Interpolation::new(&holders, t)?.rebuild(shares)
}

/// The Lagrange weights at zero for one set of t holders, worth keeping where several secrets have the same holders.
pub struct Interpolation {
    holders: Vec<SiloId>,
    weights: Vec<Scalar>,
}

impl Interpolation {
    /// Weights for exactly `t` distinct holders.
    ///
    /// # Errors
    /// [`ShamirError`] for another number of holders or a repeated one.
    pub fn new(holders: &[SiloId], t: u16) -> Result<Interpolation, ShamirError> {
        check_holders(holders, t)?;
        let holders = &holders[..usize::from(t)];
        // weight_i = Π_{j≠i} x_j / (x_j − x_i) = Π_j x_j / (x_i Π_{j≠i} (x_j − x_i)); places are public, as are their signs
        let xs: Vec<u64> = holders.iter().map(|&id| x(id)).collect();
        let mut all = Loose::ONE;
        xs.iter().for_each(|&x| all.multiply(x));
        let divisor = |&own: &u64| {
            let mut product = Loose::ONE;
            product.multiply(own);
            xs.iter().filter(|&&x| x != own).for_each(|x| product.multiply(x.abs_diff(own)));
            let negative = xs.iter().filter(|&&x| x < own).count() % 2 == 1;
            if negative { -product.reduce() } else { product.reduce() }
        };
        let mut weights: Vec<Scalar> = xs.iter().map(divisor).collect();
        Scalar::invert_batch_alloc(&mut weights);
        let all = all.reduce();
        weights.iter_mut().for_each(|weight| *weight *= all);
        Ok(Interpolation { holders: holders.to_vec(), weights })
    }

    /// Whether the first t shares come from these holders in this order.
    pub fn fits(&self, shares: &[(SiloId, Share)]) -> bool {
        shares.len() >= self.holders.len() && shares.iter().zip(&self.holders).all(|((id, _), holder)| id == holder)
    }

    /// Rebuilds a secret whose first t shares come from these holders in this order.
    ///
    /// # Errors
    /// [`ShamirError`] where they do not, or a share is no canonical scalar.
    pub fn rebuild(&self, shares: &[(SiloId, Share)]) -> Result<SecretScalar, ShamirError> {
        if !self.fits(shares) {
            return Err(ShamirError::TooFew { needed: self.holders.len(), found: shares.len() });
        }
        let mut secret = SecretScalar(Scalar::ZERO);
        for ((id, share), weight) in shares.iter().zip(&self.weights) {
            let y = Option::<Scalar>::from(Scalar::from_canonical_bytes(share.0));
            let mut y = y.ok_or(ShamirError::NotCanonical(*id))?;
            secret.0 += y * weight;
            y.zeroize();
        }
        Ok(secret)
    }
}

fn check_holders(holders: &[SiloId], t: u16) -> Result<(), ShamirError> {
    if t == 0 {
        return Err(ShamirError::Threshold);
    }
    if holders.len() < usize::from(t) {
        return Err(ShamirError::TooFew { needed: usize::from(t), found: holders.len() });
    }
    let mut sorted = holders.to_vec();
    sorted.sort_unstable();
    match sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(ShamirError::Duplicate(pair[0])),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{ids, rng};
    use proptest::prelude::*;

    fn dealt(t: u16, holders: &[SiloId], seed: u64) -> (SecretScalar, Vec<(SiloId, Share)>) {
        let mut rng = rng(seed);
        let secret = SecretScalar::random(&mut rng);
        let shares = deal(&secret, t, holders, &mut rng).unwrap();
        (secret, holders.iter().copied().zip(shares).collect())
    }

    fn same(a: &SecretScalar, b: &SecretScalar) -> bool {
        a.ct_eq(b).into()
    }

    proptest! {
        #[test]
        fn any_t_shares_rebuild_and_t_minus_one_do_not(
            n in 3u16..20, t in 2u16..20, seed: u64, order in prop::collection::vec(any::<u32>(), 20),
        ) {
            let t = t.min(n);
            let holders: Vec<SiloId> = (0..n).map(|i| SiloId(i * 53)).collect();
            let (secret, mut shares) = dealt(t, &holders, seed);
            shares.sort_by_key(|(id, _)| order[usize::from(id.0 / 53)]); // any subset, in any order
            prop_assert!(same(&rebuild(&shares, t).unwrap(), &secret));
            prop_assert!(same(&rebuild(&shares[..usize::from(t)], t).unwrap(), &secret));
            let few = &shares[..usize::from(t) - 1];
            prop_assert_eq!(rebuild(few, t).unwrap_err(), ShamirError::TooFew { needed: usize::from(t), found: few.len() });
            prop_assert!(!same(&rebuild(few, t - 1).unwrap(), &secret));
        }

        #[test]
        fn a_changed_share_changes_the_secret(seed: u64, which in 0usize..3, bit in 0usize..252) {
            let (secret, mut shares) = dealt(3, &ids(&[0, 4, 9]), seed);
            shares[which].1.0[bit / 8] ^= 1 << (bit % 8);
            if let Ok(other) = rebuild(&shares, 3) {
                prop_assert!(!same(&other, &secret));
            }
        }
    }

    #[test]
    fn t_minus_one_shares_fit_every_secret() {
        // secrecy: whatever secret one guesses, some t-th share makes it come out, so t−1 shares say nothing
        let (_, shares) = dealt(3, &ids(&[0, 1, 2]), 1);
        let mut guesses = rng(2);
        for _ in 0..10 {
            let guess = SecretScalar::random(&mut guesses);
            let weights = Interpolation::new(&ids(&[0, 1, 2]), 3).unwrap().weights;
            let known = Scalar::from_canonical_bytes(shares[0].1.0).unwrap() * weights[0]
                + Scalar::from_canonical_bytes(shares[1].1.0).unwrap() * weights[1];
            let third = Share(((guess.0 - known) * weights[2].invert()).to_bytes());
            let fitted = [shares[0].clone(), shares[1].clone(), (SiloId(2), third)];
            assert!(same(&rebuild(&fitted, 3).unwrap(), &guess));
        }
    }

    #[test]
    fn repeats_non_canonical_shares_and_thresholds_without_sense_are_refused() {
        let (secret, mut shares) = dealt(2, &ids(&[0, 1, 2]), 1);
        assert_eq!(rebuild(&[shares[0].clone(), shares[0].clone()], 2).unwrap_err(), ShamirError::Duplicate(SiloId(0)));
        assert_eq!(rebuild(&shares, 0).unwrap_err(), ShamirError::Threshold);
        assert_eq!(deal(&secret, 0, &ids(&[0]), &mut rng(1)).unwrap_err(), ShamirError::Threshold);
        assert_eq!(deal(&secret, 2, &ids(&[3, 3]), &mut rng(1)).unwrap_err(), ShamirError::Duplicate(SiloId(3)));
        assert!(matches!(deal(&secret, 3, &ids(&[0, 1]), &mut rng(1)), Err(ShamirError::TooFew { .. })));
        shares[1].1 = Share([0xff; 32]);
        assert_eq!(rebuild(&shares, 2).unwrap_err(), ShamirError::NotCanonical(SiloId(1)));
        let weights = Interpolation::new(&ids(&[0, 1]), 2).unwrap();
        assert!(weights.rebuild(&[shares[1].clone(), shares[0].clone()]).is_err(), "holders in another order");
    }

    #[test]
    fn known_polynomial_over_the_field() {
        // f(x) = 7 + 3x: f(1) = 10, f(2) = 13, f(65536) = 196615
        let share = |v: u64| Share(Scalar::from(v).to_bytes());
        let shares = [(SiloId(0), share(10)), (SiloId(u16::MAX), share(196_615))];
        assert!(same(&rebuild(&shares, 2).unwrap(), &SecretScalar(Scalar::from(7u64))));
    }
}
