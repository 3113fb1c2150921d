//! The absolute value of a standard normal number, exactly: Karney's algorithm N.
//!
//! ```text
//! k  with weight e^(−k²/2):  runs of half_exp (N1, N2) ─┐
//! x  uniform on [0, 1)                                  ├─► kept with probability e^(−x(2k+x)/2) (N4), else from the start
//!                                                       ┘    k + x then has density ∝ e^(−(k+x)²/2)
//! ```
//!
//! Contract: no constant, no float and no rounding takes part: each decision compares uniform numbers with one another
//! or draws integers. Source: Karney (ACM TOMS 42(1), 2016; arXiv 1303.6257), algorithms N, H, B and C, whose letters
//! stand beside the functions. An attempt succeeds with probability 0.49 and its time depends on k and x: not constant.

use super::digits::{Digits, Uniform};

/// |Z| for a standard normal Z, as its integer part and its fraction.
#[inline]
pub(super) fn absolute<D: Digits>(digits: &mut D) -> (u32, Uniform) {
    loop {
        let k = integer(digits);
        let mut x = Uniform::draw(digits);
        if keeps(k, &mut x, digits) {
            return (k, x);
        }
    }
}

/// An integer k ≥ 0 with probability proportional to e^(−k²/2) (N1 and N2).
///
/// A k beyond 2³² would take as many successes in a row.
#[inline]
pub(super) fn integer<D: Digits>(digits: &mut D) -> u32 {
    loop {
        let mut k = 0u32;
        while half_exp(digits) {
            k += 1;
        }
        // geometric so far, e^(−k/2): k(k − 1) more for e^(−k²/2)
        let more = u64::from(k) * u64::from(k.saturating_sub(1));
        if (0..more).all(|_| half_exp(digits)) {
            return k;
        }
    }
}

/// True with probability e^(−1/2) (H).
///
/// The length of the longest decreasing run 1/2 > u₁ > u₂ > … is at least n with probability (1/2)ⁿ/n!, hence even with
/// probability Σ (−1/2)ⁿ/n!.
#[inline]
pub(super) fn half_exp<D: Digits>(digits: &mut D) -> bool {
    let (mut least, mut next) = (Uniform::draw(digits), Uniform::draw(digits));
    // Two words settle seven cases of eight. The second is drawn though half of the time the first says it all: a word
    // costs less than a branch that no processor foresees.
    let below = least.is_below_half(digits);
    if !(below & (next.head() <= least.head())) {
        return !below;
    }
    let mut even = false;
    while next.is_below(&mut least, digits) {
        (least, next, even) = (next, Uniform::draw(digits), !even);
    }
    even
}

/// True with probability e^(−x(2k + x)/2) (N4): k + 1 times B.
#[inline]
pub(super) fn keeps<D: Digits>(k: u32, x: &mut Uniform, digits: &mut D) -> bool {
    (0..=k).all(|_| run_is_even(k, x, digits))
}

/// True with probability e^(−x(2k + x)/(2k + 2)) (B): as [`half_exp`], with a run below x whose every member is also
/// let through with probability (2k + x)/(2k + 2).
#[inline]
fn run_is_even<D: Digits>(k: u32, x: &mut Uniform, digits: &mut D) -> bool {
    if !passes(k, x, digits) {
        return true;
    }
    let mut least = Uniform::draw(digits);
    if !least.is_below(x, digits) {
        return true;
    }
    let mut even = false;
    loop {
        if !passes(k, x, digits) {
            return even;
        }
        let mut next = Uniform::draw(digits);
        if !next.is_below(&mut least, digits) {
            return even;
        }
        (least, even) = (next, !even);
    }
}

/// True with probability (2k + x)/(2k + 2) (C): always in 2k of 2k + 2 cases, in one as x says, in one never.
#[inline]
fn passes<D: Digits>(k: u32, x: &mut Uniform, digits: &mut D) -> bool {
    if k > 0 && digits.below(k + 1) < k {
        return true;
    }
    digits.bits(1) == 0 && Uniform::draw(digits).is_below(x, digits)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::super::digits::Words;
    use super::super::reference::enumerate;
    use super::*;

    /// ∫ e^(−x(2k + x)/2·share) dx from 0 to `end`, by Simpson's rule.
    fn kept(k: u32, share: f64, end: f64) -> f64 {
        let f = |x: f64| libm::exp(-x * (2.0 * f64::from(k) + x) / 2.0 * share);
        let h = end / 2000.0;
        let inner = (1..2000).map(|i| f(f64::from(i) * h) * if i % 2 == 1 { 4.0 } else { 2.0 }).sum::<f64>();
        (f(0.0) + inner + f(end)) * h / 3.0
    }

    /// Asserts that `expected` lies between the probability of the strings that decided so, and that plus the open ones.
    fn within(found: Option<&f64>, open: f64, expected: f64, widest: f64) {
        let found = found.copied().unwrap_or(0.0);
        assert!(open < widest, "{open} is undecided");
        assert!(found <= expected + 1e-12 && expected <= found + open + 1e-12, "{found} + {open}: not {expected}");
    }

    #[test]
    fn all_strings_of_bits_give_the_exact_probabilities() {
        let (decided, open) = enumerate(24, half_exp);
        within(decided.get(&true), open, libm::exp(-0.5), 1e-3);
        for k in [0, 1, 2, 3] {
            let (decided, open) = enumerate(24, |s| run_is_even(k, &mut Uniform::draw(s), s));
            within(decided.get(&true), open, kept(k, 1.0 / f64::from(k + 1), 1.0), 0.05);
        }
        let (decided, open) = enumerate(20, integer);
        let weights: f64 = (0..20).map(|k| libm::exp(-f64::from(k * k) / 2.0)).sum();
        for k in 0..4u32 {
            within(decided.get(&k), open, libm::exp(-f64::from(k * k) / 2.0) / weights, 0.27);
        }
    }

    #[test]
    fn far_tails_have_their_shape() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let mut words = Words::new(&mut rng);
        for k in [4, 5, 6, 8, 12] {
            let (draws, mut cells) = (400_000, [0u32; 8]);
            for _ in 0..draws {
                let mut x = Uniform::draw(&mut words);
                if keeps(k, &mut x, &mut words) {
                    cells[(x.head() >> 29) as usize] += 1;
                }
            }
            for (i, &count) in (0u32..).zip(&cells) {
                let share = kept(k, 1.0, f64::from(i + 1) / 8.0) - kept(k, 1.0, f64::from(i) / 8.0);
                let expected = share * f64::from(draws);
                // Bernstein at e^(−23) on either side: exceeded with a probability below 1e-9.
                let most = (46.0 * expected).sqrt() + 46.0 / 3.0;
                assert!((f64::from(count) - expected).abs() < most, "k {k}, cell {i}: {count}, not {expected}");
            }
        }
    }

    #[test]
    fn integers_have_gaussian_weights() {
        let mut rng = ChaCha12Rng::seed_from_u64(6);
        let mut words = Words::new(&mut rng);
        let (draws, mut counts) = (3_000_000, [0u32; 16]);
        (0..draws).for_each(|_| counts[integer(&mut words) as usize] += 1);
        let weight = |k: usize| libm::exp(-((k * k) as f64) / 2.0);
        let weights: f64 = (0..16).map(weight).sum();
        for (k, &count) in counts.iter().enumerate() {
            let expected = weight(k) / weights * f64::from(draws);
            let most = (46.0 * expected).sqrt() + 46.0 / 3.0;
            assert!((f64::from(count) - expected).abs() < most, "k {k}: {count}, not {expected}");
        }
    }
}
