//! The privacy loss of one step, as a function of the noise.
//!
//! ```text
//! with the records:    z ~ Σⱼ wⱼ·N(j/σ, 1)     wⱼ: probability that j of the k records are drawn
//! without them:        z ~ N(0, 1)
//! g(z) = ln(density with / density without) = ln Σⱼ wⱼ·exp(j·z/σ − j²/2σ²)
//! ```
//!
//! z is the noised sum along the records' common direction in units of the noise; records that point apart are easier
//! to hide than these (Choquette-Choo, Ganesh, Steinke and Thakurta, arXiv 2310.15526, section 4, with groups as in
//! Chua et al., "Mind the privacy unit!", arXiv 2406.14322). g increases. Losing the records gives the loss g under the
//! first law, gaining them the loss −g under the second.

use super::fft::UNIT;

/// Most records of a group that may be drawn together, with a probability that matters; more gives no answer.
const MOST_DRAWN: usize = 256;
/// What the weights that are left out may sum to.
const LEFT_OUT: f64 = 1e-20;

/// Which of the two neighbouring data sets the loss is seen from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Direction {
    /// The records are in the data, and are taken out.
    Remove,
    /// They are not, and are put in.
    Add,
}

/// j ≥ 1 records drawn.
struct Drawn {
    count: f64,
    weight: f64,
    ln_weight: f64,
}

/// g and what is needed about it.
pub(super) struct Loss {
    sigma: f64,
    /// Probability that no record is drawn.
    none: f64,
    ln_none: f64,
    drawn: Vec<Drawn>,
    /// Probability of what was left out of `drawn`.
    left_out: f64,
}

impl Loss {
    /// `k` ≥ 1 records at rate 0 < `q` ≤ 1, noise multiplier `sigma` > 0; `None` where the group is too large.
    pub(super) fn new(q: f64, sigma: f64, k: u32) -> Option<Self> {
        let all = f64::from(k);
        if q == 1.0 {
            // All at once: the same as one record with so much less noise.
            let drawn = vec![Drawn { count: 1.0, weight: 1.0, ln_weight: 0.0 }];
            let sigma = sigma / all * (1.0 - 4.0 * UNIT);
            return Some(Loss { sigma, none: 0.0, ln_none: f64::NEG_INFINITY, drawn, left_out: 0.0 });
        }
        let (ln_q, ln_not_q) = (libm::log(q), libm::log1p(-q));
        let mut ln_binomial = 0.0;
        let mut drawn = Vec::new();
        let mut left_out = 0.0;
        for j in 1..=k {
            let count = f64::from(j);
            ln_binomial += libm::log((all - count + 1.0) / count);
            let ln_weight = if k == 1 { ln_q } else { ln_binomial + count * ln_q + (all - count) * ln_not_q };
            let weight = if k == 1 { q } else { libm::exp(ln_weight) };
            drawn.push(Drawn { count, weight, ln_weight });
            // Once the weights fall, each is less than the one before by a factor that only shrinks.
            let falls = (all - count) / (count + 1.0) * q / (1.0 - q);
            if falls < 0.5 && j < k {
                left_out = 2.0 * falls * weight;
                if left_out < LEFT_OUT {
                    break;
                }
                left_out = 0.0;
            }
            if drawn.len() == MOST_DRAWN && j < k {
                return None;
            }
        }
        let ln_none = all * ln_not_q;
        let none = if k == 1 { 1.0 - q } else { libm::exp(ln_none) };
        Some(Loss { sigma, none, ln_none, drawn, left_out })
    }

    /// The exponent of one term without its weight.
    fn exponent(&self, count: f64, z: f64) -> f64 {
        count / self.sigma * (z - count / (2.0 * self.sigma))
    }

    /// g(z).
    pub(super) fn at(&self, z: f64) -> f64 {
        // Small rates lose nothing near g = 0 this way; large ones lose nothing near the lower end the other way.
        if self.none >= 0.5 {
            let excess: f64 = self.drawn.iter().map(|d| d.weight * libm::expm1(self.exponent(d.count, z))).sum();
            if excess < 1e12 {
                return libm::log1p(excess);
            }
        }
        let largest = self.drawn.iter().map(|d| d.ln_weight + self.exponent(d.count, z)).fold(self.ln_none, f64::max);
        let term = |d: &Drawn| libm::exp(d.ln_weight + self.exponent(d.count, z) - largest);
        largest + libm::log(self.drawn.iter().map(term).sum::<f64>() + libm::exp(self.ln_none - largest))
    }

    /// σ·g′(z): the mean number of records drawn, as it looks from z. It increases.
    pub(super) fn slope(&self, z: f64) -> f64 {
        let g = self.at(z);
        self.drawn.iter().map(|d| d.count * libm::exp(d.ln_weight + self.exponent(d.count, z) - g)).sum()
    }

    /// The z at which g reaches `value`, in [`from`, `to`], where it does.
    pub(super) fn inverse(&self, value: f64, from: f64, to: f64) -> f64 {
        if let [one] = self.drawn.as_slice() {
            let exponent = if value < 30.0 {
                libm::log1p((libm::expm1(value)) / one.weight)
            } else {
                value - one.ln_weight + libm::log1p(-self.none * libm::exp(-value))
            };
            return (self.sigma * exponent + 0.5 / self.sigma).clamp(from, to);
        }
        let (mut low, mut high) = (from, to);
        let mut z = from;
        for _ in 0..200 {
            let miss = self.at(z) - value;
            if miss > 0.0 {
                high = z;
            } else {
                low = z;
            }
            let newton = z - miss * self.sigma / self.slope(z);
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            if (next - z).abs() <= 4.0 * UNIT * z.abs().max(1.0) {
                return next;
            }
            z = next;
        }
        z
    }

    /// The z below which even `growth`·g is constant to the last bit.
    pub(super) fn flat_below(&self, growth: f64) -> f64 {
        if self.none == 0.0 {
            return f64::NEG_INFINITY;
        }
        let first = &self.drawn[0];
        let exponent = libm::log(1e-18 * self.none / growth.max(1.0)) - first.ln_weight;
        self.sigma * exponent + 0.5 / self.sigma
    }

    /// The z above which g is a straight line to the last bit.
    pub(super) fn straight_above(&self) -> f64 {
        if self.drawn.len() > 1 { f64::INFINITY } else { self.flat_below(1.0) + 100.0 * self.sigma }
    }

    /// By how much rounding may have moved g(z) where the slope is at most `slope`.
    pub(super) fn rounding(&self, z: f64, g: f64, slope: f64) -> f64 {
        16.0 * UNIT * (g.abs() + (1.0 - self.none).max(UNIT) + slope * (z.abs() + 1.0 / self.sigma) / self.sigma)
    }

    /// Probability of a z above this one with the records, and of what was left out: bounded from above.
    pub(super) fn above(&self, z: f64) -> f64 {
        let tail = |mean: f64| 0.5 * libm::erfc((z - mean) / std::f64::consts::SQRT_2);
        let sum: f64 = self.drawn.iter().map(|d| d.weight * tail(d.count / self.sigma)).sum();
        (sum + self.none * tail(0.0)) * (1.0 + 1e-9) + self.left_out
    }

    /// Where the mean of the most drawn records lies.
    pub(super) fn farthest_mean(&self) -> f64 {
        self.drawn.last().map_or(0.0, |d| d.count) / self.sigma
    }

    /// The rate, where the group is one record that is not always drawn.
    pub(super) fn single_rate(&self) -> Option<f64> {
        (self.none > 0.0 && self.drawn.len() == 1).then(|| self.drawn[0].weight)
    }

    /// Noise multiplier, of one record.
    pub(super) fn sigma(&self) -> f64 {
        self.sigma
    }
}
