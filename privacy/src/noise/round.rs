//! round(σ·(k + x)) for a real x known by its digits, in integers.
//!
//! ```text
//! σ = m / 2^f exactly        σ(k + x) + 1/2  =  (2m·(k·B^n + 0.x₁…xₙ·B^n) + 2^f·B^n) / (2^(f+1)·B^n)  +  less than 2m/(2^(f+1)·B^n)
//!                                              └───────────────── value ─────────────┘                   └── what further digits add
//! ```
//!
//! Contract: the result is the integer nearest to σ(k + x), decided without rounding anything: where the digits seen do
//! not settle whether the sum reaches the next integer, further ones are drawn until they do. A digit of 32 bits leaves
//! it open with probability σ/2³². A tie has probability 0.

use super::digits::{Digits, Uniform};

/// Bits after the binary point of σ's significand, which is 2⁵² to 2⁵³.
const SIGNIFICAND: u32 = 52;

/// A standard deviation in grid steps as the fraction that an f64 is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ExactScale {
    /// m.
    numerator: u64,
    /// f: the denominator is 2^f.
    shift: u32,
}

impl ExactScale {
    /// The exact value of `sigma`, which is 2⁻⁴ to 2³⁰.
    pub(super) fn of(sigma: f64) -> Self {
        let bits = sigma.to_bits();
        let exponent = (bits >> SIGNIFICAND) as u32;
        // sigma is (2⁵² + fraction) · 2^(exponent − 1023 − 52)
        let numerator = 1 << SIGNIFICAND | bits & ((1 << SIGNIFICAND) - 1);
        ExactScale { numerator, shift: 1023 + SIGNIFICAND - exponent }
    }

    /// The integer nearest to σ(k + x); at most σ(k + 1) + 1/2.
    ///
    /// No overflow: 2m is below 2⁵⁴, k + x below 2³² and B^n at most 2^(30 + BITS), as digits are added until B^n ≥ σ.
    #[inline]
    pub(super) fn round<D: Digits>(self, k: u32, x: &Uniform, digits: &mut D) -> i64 {
        let (step, mut seen) = (u128::from(self.numerator) << 1, 1);
        let mut scaled = u128::from(k) << D::BITS | u128::from(x.head());
        // 2^(f+1)·B^n as a power of two
        let mut one = self.shift + 1 + D::BITS;
        while step > 1 << one {
            scaled = scaled << D::BITS | u128::from(x.tail(seen - 1, digits));
            (one, seen) = (one + D::BITS, seen + 1);
        }
        let value = step * scaled + (1 << (one - 1));
        let (whole, rest) = ((value >> one) as i64, value & ((1 << one) - 1));
        // What is missing to the next integer, in units of which the digits to come add less than `step`.
        let missing = (1 << one) - rest;
        if missing >= step { whole } else { whole + i64::from(reaches(missing, step, x, seen, digits)) }
    }
}

/// Whether `step` times the number made of the digits of `x` after the first `seen` reaches `missing`, which is below.
#[cold]
fn reaches<D: Digits>(mut missing: u128, step: u128, x: &Uniform, mut seen: usize, digits: &mut D) -> bool {
    loop {
        let (far, near) = (missing << D::BITS, step * u128::from(x.tail(seen - 1, digits)));
        if far <= near {
            return true;
        }
        missing = far - near;
        if missing >= step {
            return false;
        }
        seen += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::super::RoundedGaussian;
    use super::super::reference::Tape;
    use super::*;

    /// Digits of 32 bits that are known beforehand.
    struct Given<'d>(&'d [u32]);

    impl Digits for Given<'_> {
        const BITS: u32 = 32;

        fn digit(&mut self) -> u32 {
            let (&first, rest) = self.0.split_first().expect("a digit is left");
            self.0 = rest;
            first
        }

        fn bits(&mut self, _: u32) -> u32 {
            unreachable!("rounding asks for digits alone")
        }
    }

    /// What σ(k + x) rounds to for x with these digits, and the digits that were not asked for.
    fn round(sigma: f64, k: u32, x: &[u32]) -> (i64, usize) {
        let mut digits = Given(x);
        let x = Uniform::draw(&mut digits);
        (ExactScale::of(sigma).round(k, &x, &mut digits), digits.0.len())
    }

    #[test]
    fn halves_are_told_apart_by_the_last_digit() {
        const HALF: u32 = 1 << 31;
        // σ = 1: 2.5 less anything, 2.5 more anything; decided by the first digit where that says it all
        assert_eq!(round(1.0, 2, &[HALF - 1, 9]), (2, 1));
        assert_eq!(round(1.0, 2, &[HALF, 0, 0]), (3, 2));
        // σ = 3: 3(1 + 1/6), whose digits never end
        let sixth = u32::MAX / 6;
        assert_eq!(round(3.0, 1, &[sixth, 0xaaaa_aaaa, 0xaaaa_aaaa, 0xaaaa_aaaa, 0]), (3, 0));
        assert_eq!(round(3.0, 1, &[sixth, 0xaaaa_aaaa, 0xaaaa_aaaa, 0xaaaa_aaab]), (4, 0));
        assert_eq!(round(3.0, 1, &[sixth, 0xaaaa_aaaa, 0xaaaa_aaab, 7]), (4, 1));
        // nothing rounds to 0 at the smallest σ for 7 < |Z| < 8
        assert_eq!(round(0.0625, 7, &[u32::MAX, 1]), (0, 1));
        assert_eq!(round(0.0625, 8, &[0, 1]), (1, 1));
    }

    #[test]
    fn an_f64_would_round_wrongly_where_digits_do_not() {
        // 2³⁰(1 + x) = 2³⁰ + 5.5 − 2⁻³⁴: an f64 holds 2³⁰ + 5.5
        let (sigma, low) = (RoundedGaussian::SIGMA_MAX, u32::MAX);
        let x = (21.0 + f64::from(low) * 2f64.powi(-32)) * 2f64.powi(-32);
        assert_eq!((sigma * (1.0 + x)).round() as i64, (1 << 30) + 6);
        assert_eq!(round(sigma, 1, &[21, low]), ((1 << 30) + 5, 1));
        assert_eq!(round(sigma, 1, &[22, 0]), ((1 << 30) + 6, 1));
    }

    #[test]
    fn scales_are_the_exact_value() {
        for sigma in [0.0625, 0.1, 0.5, 1.0, 4.0 / 3.0, 1e9 / 7.0, RoundedGaussian::SIGMA_MAX] {
            let ExactScale { numerator, shift } = ExactScale::of(sigma);
            assert_eq!(numerator as f64 / 2f64.powi(shift as i32), sigma);
            assert!((1 << 52..1 << 53).contains(&numerator) && (22..=56).contains(&shift));
        }
    }

    #[test]
    fn the_largest_draw_that_k_allows_is_in_range() {
        let mut tape = Tape::<32>::new(1);
        let x = Uniform::draw(&mut tape);
        let n = ExactScale::of(RoundedGaussian::SIGMA_MAX).round(u32::MAX, &x, &mut tape);
        assert!(n <= 1 << 62 && n > (1 << 62) - (1 << 31), "{n}");
    }
}
