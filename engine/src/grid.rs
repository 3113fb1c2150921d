//! Clipped gradients as integers on a public grid, so that their sum is exact.
//!
//! ```text
//! g ─► norm in f64 ─► × 2²⁴ ÷ max(C, ‖g‖) ─► truncated towards zero ─► z, with Σ z² ≤ 2⁴⁸ in integers ─► sum of z
//! ```
//!
//! One grid step is C · 2⁻²⁴, where C is the clip norm: public, and as fine as an f32 near C. Contract, for whatever
//! gradient comes in:
//! - **‖z‖ ≤ 2²⁴ steps = C**, as a comparison of integers, not of rounded numbers: where rounding in f64 would exceed it,
//!   the gradient is scaled down until it does not. A gradient that is not finite gives z = 0.
//! - **z depends on that gradient and C alone**, so the sum is bit for bit the same in any order and any grouping, and a
//!   data set with one example more has a sum that differs by that example's z.
//! - **Nothing overflows**: |z| ≤ 2²⁴ in each coordinate, so sums of [`MOST_UNITS`] stay below 2⁴⁴, exact in f64 too.
//!
//! What truncation takes is below one step in each coordinate, towards zero: over n coordinates less than √n · 2⁻²⁴ C.

use blindsum_privacy::Mutant;

use crate::mutants;

/// Binary digits of the grid: 2²⁴ steps are one clip norm.
const BITS: u32 = 24;

/// Grid steps in one clip norm.
pub const STEPS: u32 = 1 << BITS;

/// Gradients that one sum may have.
pub const MOST_UNITS: usize = 1 << 20;

/// Largest squared norm in grid steps.
const MOST: u64 = 1 << (2 * BITS);

const _: () = assert!((MOST_UNITS as u64) << BITS < 1 << 53, "sums must be exact in i64 and in f64");

/// What a gradient is scaled down by where its integers come out too long: more than f64 loses over 2²² coordinates.
const DOWN: f64 = 1.0 - 1.0 / (1u64 << 30) as f64;

/// The length of a grid step.
pub fn step(clip_norm: f64) -> f64 {
    clip_norm / f64::from(STEPS)
}

/// Clips one unit's gradient to `clip_norm`, truncates it onto the grid and adds it to `sum`; returns its norm before
/// clipping. The gradient comes in pieces, which lie in `sum` one after the other: as f32 where it is one example's, as
/// f64 where it is a sum.
///
/// # Panics
/// If `sum` is shorter than the pieces together.
pub fn add_clipped<T: Copy + Into<f64>>(sum: &mut [i64], gradient: &[&[T]], clip_norm: f64) -> f64 {
    let norm = square_norm(gradient).sqrt();
    if !norm.is_finite() {
        return norm;
    }
    if Mutant::PerLayerClip.lives() && gradient.len() > 1 {
        gradient.iter().fold(sum, |rest, piece| {
            add_clipped(rest, &[piece], clip_norm);
            &mut rest[piece.len()..]
        });
        return norm;
    }
    let factor = mutants::factor(fitting(gradient, f64::from(STEPS) / norm.max(clip_norm)), clip_norm);
    let mut rest = sum;
    for piece in gradient {
        let (own, after) = rest.split_at_mut(piece.len());
        own.iter_mut().zip(*piece).for_each(|(sum, &x)| *sum += i64::from(truncated(x, factor)));
        rest = after;
    }
    norm
}

/// The factor, or the next smaller one that keeps the integers within the clip.
fn fitting<T: Copy + Into<f64>>(gradient: &[&[T]], mut factor: f64) -> f64 {
    while gradient.iter().map(|piece| square(piece, factor)).sum::<u64>() > MOST {
        factor *= DOWN;
    }
    factor
}

/// Towards zero; at most a little over 2²⁴, since `factor` scales the whole vector to 2²⁴ or below. The factor is infinite
/// only where all is zero, and then this is zero too.
fn truncated(x: impl Into<f64>, factor: f64) -> i32 {
    (x.into() * factor) as i32
}

/// Squared norm in grid steps, exactly: no more than a little over 2⁴⁸.
fn square<T: Copy + Into<f64>>(piece: &[T], factor: f64) -> u64 {
    piece.iter().map(|&x| u64::from(truncated(x, factor).unsigned_abs()).pow(2)).sum()
}

/// Squared norm in f64, added in a fixed order.
fn square_norm<T: Copy + Into<f64>>(gradient: &[&[T]]) -> f64 {
    const LANES: usize = 8;
    let mut lanes = [0.0f64; LANES];
    for piece in gradient {
        for chunk in piece.chunks(LANES) {
            lanes.iter_mut().zip(chunk).for_each(|(lane, &x)| *lane += x.into() * x.into());
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn on_grid(gradient: &[f32], clip_norm: f64) -> Vec<i64> {
        let mut sum = vec![0; gradient.len()];
        add_clipped(&mut sum, &[gradient], clip_norm);
        sum
    }

    fn square_of(z: &[i64]) -> u128 {
        z.iter().map(|z| u128::from(z.unsigned_abs()).pow(2)).sum()
    }

    proptest! {
        /// Any bits at all, so infinities, subnormal numbers and numbers that are none as well.
        #[test]
        fn no_gradient_is_longer_than_the_clip(
            bits in prop::collection::vec(any::<u32>(), 0..300),
            clip_norm in prop_oneof![1e-300..1e-290, 1e-3..10.0, 1e30..1e300],
        ) {
            let gradient: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();
            let z = on_grid(&gradient, clip_norm);
            prop_assert!(square_of(&z) <= u128::from(MOST));
            if gradient.iter().any(|x| !x.is_finite()) {
                prop_assert!(z.iter().all(|&z| z == 0));
            }
        }

        /// Numbers of similar size, where rounding decides, in any dimension.
        #[test]
        fn what_is_lost_is_less_than_a_step(
            gradient in prop::collection::vec(-1f32..1.0, 1..300),
            clip_norm in prop_oneof![1e-3..0.1, 0.1..100.0],
        ) {
            let norm = gradient.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            for (z, &x) in on_grid(&gradient, clip_norm).into_iter().zip(&gradient) {
                let exact = f64::from(x) * (clip_norm / norm).min(1.0) / step(clip_norm);
                prop_assert!((exact - z as f64).abs() < 1.1 && z.unsigned_abs() as f64 <= exact.abs() + 1e-6);
            }
        }

        #[test]
        fn order_and_pieces_change_nothing(
            rows in prop::collection::vec(prop::collection::vec(-3f32..3.0, 24), 0..20),
            cut in 0usize..24,
        ) {
            let sum = |rows: &mut dyn Iterator<Item = &Vec<f32>>, cut: usize| {
                let mut sum = vec![0; 24];
                rows.for_each(|row| { add_clipped(&mut sum, &[&row[..cut], &row[cut..]], 1.0); });
                sum
            };
            prop_assert_eq!(sum(&mut rows.iter(), 8), sum(&mut rows.iter().rev(), 8));
            let apart: Vec<i64> = rows.iter().fold(vec![0; 24], |sum, row| {
                sum.iter().zip(on_grid(row, 1.0)).map(|(s, z)| s + z).collect()
            });
            prop_assert_eq!(sum(&mut rows.iter(), 8 * (cut / 8)), apart);
        }
    }

    #[test]
    fn norms_are_those_before_the_clip() {
        let mut sum = vec![5, 5];
        assert_eq!(add_clipped(&mut sum, &[&[3.0], &[-4.0]], 1.0), 5.0);
        // 0.6 and 0.8 of 2²⁴ are no integers
        assert_eq!(sum, [5 + 10_066_329, 5 - 13_421_772]);
        assert_eq!(add_clipped(&mut sum, &[&[f32::NAN], &[1.0]], 1.0).to_bits(), f64::NAN.to_bits());
        assert_eq!(sum, [5 + 10_066_329, 5 - 13_421_772]);
        assert_eq!(on_grid(&[0.0, -0.0], 1e-320), [0, 0]);
        assert_eq!(on_grid(&[7.0, 0.0], 7.0), [i64::from(STEPS), 0]);
    }

    /// Numbers that are whole multiples of a step leave nothing to truncation.
    #[test]
    fn a_factor_that_was_rounded_up_is_taken_back() {
        let (gradient, exact) = ([1.0f32; 16], f64::from(STEPS) / 4.0);
        assert_eq!(fitting(&[&gradient], exact), exact);
        let above = exact + 1.0;
        assert!(square(&gradient, above) > MOST, "the case must be reached");
        let found = fitting(&[&gradient], above);
        assert!(square(&gradient, found) <= MOST && found > exact - 1.0, "{found}");
    }
}
