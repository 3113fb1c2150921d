//! Small factors in the scalar field of curve25519: y·x + c for x up to 2^17, some twenty times as fast as a product of two
//! scalars. Shamir's places x are small, and so are their differences.
//!
//! ```text
//! ℓ = 2^252 + δ    t = y·x + c = low + q·2^252 ≡ low − q·δ    (q below 2^20, δ below 2^125)
//! ```
//!
//! Contract: no branch and no place in memory depends on y or c. Values between steps are below 2^254, not reduced;
//! [`Loose::reduce`] reduces. Erased on drop (SA-11).

use curve25519_dalek::scalar::Scalar;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// The largest factor.
pub(crate) const MOST: u64 = 1 << 17;
/// δ = ℓ − 2^252, two limbs.
const DELTA: [u64; 2] = [0x5812_631a_5cf5_d3ed, 0x14de_f9de_a2f7_9cd6];
const LOW_60: u64 = (1 << 60) - 1;

/// A scalar in four limbs, the lowest first, up to a multiple of ℓ; below 2^254.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Loose([u64; 4]);

impl Loose {
    pub(crate) const ZERO: Loose = Loose([0; 4]);
    pub(crate) const ONE: Loose = Loose([1, 0, 0, 0]);

    /// The limbs of a scalar.
    pub(crate) fn of(scalar: &Scalar) -> Loose {
        let bytes = scalar.as_bytes().as_chunks::<8>().0;
        Loose(std::array::from_fn(|i| u64::from_le_bytes(bytes[i])))
    }

    /// Becomes `self·x + c`, where x ≤ [`MOST`].
    #[inline]
    pub(crate) fn multiply_add(&mut self, x: u64, c: &Loose) {
        debug_assert!(x <= MOST);
        let mut t = [0u64; 5];
        let mut carry = 0u128;
        for ((t, y), c) in t.iter_mut().zip(&self.0).zip(&c.0) {
            carry += u128::from(*y) * u128::from(x) + u128::from(*c);
            *t = carry as u64;
            carry >>= 64;
        }
        t[4] = carry as u64;
        let q = t[4] << 4 | t[3] >> 60;
        t[3] &= LOW_60;
        // q·δ, below 2^145
        let low = u128::from(q) * u128::from(DELTA[0]);
        let high = u128::from(q) * u128::from(DELTA[1]) + (low >> 64);
        let take = [low as u64, high as u64, (high >> 64) as u64, 0];
        // low + ℓ − q·δ: positive, and below 2^252 + ℓ
        let give = [DELTA[0], DELTA[1], 0, 1 << 60];
        let mut carry = 0i128;
        for (((y, low), give), take) in self.0.iter_mut().zip(&t).zip(&give).zip(&take) {
            carry += i128::from(*low) + i128::from(*give) - i128::from(*take);
            *y = carry as u64;
            carry >>= 64;
        }
    }

    /// Becomes `self·x`, where x ≤ [`MOST`].
    pub(crate) fn multiply(&mut self, x: u64) {
        self.multiply_add(x, &Loose::ZERO);
    }

    /// The scalar.
    pub(crate) fn reduce(&self) -> Scalar {
        let mut bytes = [0u8; 32];
        for (to, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *to = limb.to_le_bytes();
        }
        let scalar = Scalar::from_bytes_mod_order(bytes);
        bytes.zeroize();
        scalar
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scalar() -> impl Strategy<Value = Scalar> {
        prop_oneof![
            any::<[u8; 32]>().prop_map(Scalar::from_bytes_mod_order),
            (0u64..3).prop_map(|x| -Scalar::from(x)), // ℓ − 1, ℓ − 2 and zero
            (0u64..3).prop_map(Scalar::from),
        ]
    }

    proptest! {
        #[test]
        fn steps_are_those_of_the_library(start in scalar(), steps in prop::collection::vec((0..=MOST, scalar()), 0..50)) {
            let (mut loose, mut expected) = (Loose::of(&start), start);
            for (x, c) in steps {
                loose.multiply_add(x, &Loose::of(&c));
                expected = expected * Scalar::from(x) + c;
                prop_assert_eq!(loose.reduce(), expected);
                prop_assert!(loose.0[3] >> 62 == 0);
            }
        }

        #[test]
        fn any_value_within_the_bound_is_stepped_right(limbs: [u64; 4], x in 0..=MOST, c in scalar()) {
            let mut loose = Loose(limbs);
            loose.0[3] >>= 2;
            let expected = loose.reduce() * Scalar::from(x) + c;
            loose.multiply_add(x, &Loose::of(&c));
            prop_assert_eq!(loose.reduce(), expected);
            prop_assert!(loose.0[3] >> 62 == 0);
        }
    }

    #[test]
    fn the_extremes_are_stepped_right() {
        for limbs in [[u64::MAX, u64::MAX, u64::MAX, u64::MAX >> 2], [0, 0, 0, 1 << 60], [0, 0, 0, (1 << 60) - 1]] {
            for x in [0, 1, MOST - 1, MOST] {
                for c in [Scalar::ZERO, -Scalar::ONE] {
                    let mut loose = Loose(limbs);
                    let expected = loose.reduce() * Scalar::from(x) + c;
                    loose.multiply_add(x, &Loose::of(&c));
                    assert_eq!(loose.reduce(), expected);
                    assert!(loose.0[3] >> 62 == 0);
                }
            }
        }
    }
}
