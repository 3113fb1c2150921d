//! Shamir sharing of a uniform scalar over the scalar field of curve25519 (Shamir 1979).
//!
//! Contract: the share of silo i is the value of a random polynomial of degree t−1 at x = i + 1; any t shares rebuild the
//! secret, fewer say nothing about it. A share is 32 bytes, the canonical little-endian scalar.

use crate::identity::SiloId;
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

fn x(id: SiloId) -> Scalar {
    Scalar::from(u64::from(id.0) + 1)
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
    let mut higher: Vec<SecretScalar> = (1..t).map(|_| SecretScalar::random(rng)).collect();
    let shares = holders
        .iter()
        .map(|&id| {
            let x = x(id);
            let mut y = higher.iter().rev().fold(Scalar::ZERO, |y, c| (y + c.0) * x) + secret.0;
            let share = Share(y.to_bytes());
            y.zeroize();
            share
        })
        .collect();
    higher.zeroize();
    Ok(shares)
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
        // weight_i = Π_{j≠i} x_j / (x_j − x_i)
        let xs: Vec<Scalar> = holders.iter().map(|&id| x(id)).collect();
        let product = |i: usize, f: &dyn Fn(usize) -> Scalar| -> Scalar {
            (0..xs.len()).filter(|&j| j != i).map(f).fold(Scalar::ONE, |a, b| a * b)
        };
        let mut weights: Vec<Scalar> = (0..xs.len()).map(|i| product(i, &|j| xs[j] - xs[i])).collect();
        Scalar::invert_batch_alloc(&mut weights);
        for (i, weight) in weights.iter_mut().enumerate() {
            *weight *= product(i, &|j| xs[j]);
        }
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
