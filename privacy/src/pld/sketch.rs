//! A rough picture of the loss distributions, from which tilt, window and grid are chosen.
//!
//! The numbers here decide how tight and how quick the answer is, never whether it holds: every choice of tilt, window
//! and grid gives a valid bound, and what the bound needs is computed anew, exactly, in [`super::step`].

use super::loss::{Direction, Loss};

/// Nodes and weights of Gauss and Legendre on [0, 1], for panels that are at most so wide, in units of the length on
/// which the integrand changes: the error is below 1e-15 of the integral.
pub(super) const NARROW: (f64, &[(f64, f64)]) =
    (1e-3, &[(0.211_324_865_405_187_13, 0.5), (0.788_675_134_594_812_9, 0.5)]);
pub(super) const WIDE: (f64, &[(f64, f64)]) = (
    0.2,
    &[
        (0.046_910_077_030_668_0, 0.118_463_442_528_094_54),
        (0.230_765_344_947_158_45, 0.239_314_335_249_683_24),
        (0.5, 0.284_444_444_444_444_44),
        (0.769_234_655_052_841_5, 0.239_314_335_249_683_24),
        (0.953_089_922_969_332, 0.118_463_442_528_094_54),
    ],
);
/// ½·ln 2π.
pub(super) const LN_SQRT_TAU: f64 = 0.918_938_533_204_672_7;
/// Where a standard Gaussian has less than 1e-20 left.
const FAR: f64 = 9.5;
/// Widest range of the noise that is integrated over: so that a noise multiplier below 1e-5 takes no time.
const WIDEST_RANGE: f64 = 1e5;
/// Most panels of a sketch.
const MOST_PANELS: f64 = 1000.0;
/// Range of the tilts that are tried.
const TILTS: (f64, f64) = (1e-4, 1e8);

/// One step in one direction: its loss under its own law, by nodes.
pub(super) struct LossSketch {
    pub(super) loss: Loss,
    pub(super) direction: Direction,
    pub(super) steps: u64,
    /// Range of z outside which only [`beyond`](Self::beyond) lies on the side of large losses.
    pub(super) range: (f64, f64),
    /// Probability of a larger loss than the range has, in one step.
    pub(super) beyond: f64,
    /// z, loss and the logarithm of its probability; ascending in z.
    nodes: Vec<(f64, f64, f64)>,
}

impl LossSketch {
    /// `None` where the noise is too small for arithmetic. At most `budget` lies beyond.
    pub(super) fn new(loss: Loss, direction: Direction, steps: u64, budget: f64) -> Option<Self> {
        let far = loss.farthest_mean();
        // Bisection to where the tail is within the budget, on the side where the loss is large.
        let tail = |z: f64| match direction {
            Direction::Remove => loss.above(z),
            Direction::Add => 0.5 * libm::erfc(z / std::f64::consts::SQRT_2) * (1.0 + 1e-9),
        };
        let (mut low, mut high) = (0.0, far + 38.0);
        for _ in 0..60 {
            let middle = 0.5 * (low + high);
            if tail(middle) <= budget {
                high = middle;
            } else {
                low = middle;
            }
        }
        let beyond = tail(high);
        let range = match direction {
            Direction::Remove => (-FAR, high),
            Direction::Add => (-high, FAR),
        };
        let width = range.1 - range.0;
        if width.is_nan() || width > WIDEST_RANGE || beyond.is_nan() {
            return None;
        }
        let mut sketch = LossSketch { loss, direction, steps, range, beyond, nodes: Vec::new() };
        sketch.place_nodes();
        sketch.nodes.iter().all(|node| node.1.is_finite() && node.2.is_finite()).then_some(sketch)
    }

    fn place_nodes(&mut self) {
        let (from, to) = self.range;
        let (flat, straight) = (self.loss.flat_below(1.0), self.loss.straight_above());
        let mut z = from;
        while z < to {
            let width = match z {
                z if z < flat => 0.25f64.min(flat - z),
                z if z < straight => 0.25 * self.loss.sigma().min(1.0),
                _ => 0.25,
            };
            let width = width.max((to - from) / MOST_PANELS).min(to - z);
            for (position, weight) in WIDE.1 {
                let z = z + position * width;
                let g = self.loss.at(z);
                let ln_mass = libm::log(weight * width) - LN_SQRT_TAU - z * z / 2.0;
                self.nodes.push(match self.direction {
                    Direction::Remove => (z, g, ln_mass + g),
                    Direction::Add => (z, -g, ln_mass),
                });
            }
            // Where the width is lost in z, the end is as near.
            z = if z + width > z { z + width } else { to };
        }
    }

    /// ln E exp(t·loss).
    pub(super) fn cumulant(&self, t: f64) -> f64 {
        let largest = self.nodes.iter().map(|&(_, x, ln_mass)| ln_mass + t * x).fold(f64::MIN, f64::max);
        let sum: f64 = self.nodes.iter().map(|&(_, x, ln_mass)| libm::exp(ln_mass + t * x - largest)).sum();
        largest + libm::log(sum)
    }

    /// Variance of the loss under the law tilted by exp(t·loss).
    fn variance(&self, t: f64) -> f64 {
        let k = self.cumulant(t);
        let (mut mean, mut square) = (0.0, 0.0);
        for &(_, x, ln_mass) in &self.nodes {
            let mass = libm::exp(ln_mass + t * x - k);
            mean += mass * x;
            square += mass * x * x;
        }
        (square - mean * mean).max(0.0)
    }

    /// The range of z without the side of small losses where the tilted law has less than 1e-18.
    pub(super) fn tilted_range(&self, t: f64) -> (f64, f64) {
        let k = self.cumulant(t);
        let mut sum = 0.0;
        let mut small = |node: &&(f64, f64, f64)| {
            sum += libm::exp(node.2 + t * node.1 - k);
            sum < 1e-18
        };
        let (from, to) = self.range;
        match self.direction {
            Direction::Remove => (self.nodes.iter().take_while(&mut small).last().map_or(from, |n| n.0), to),
            Direction::Add => (from, self.nodes.iter().rev().take_while(&mut small).last().map_or(to, |n| n.0)),
        }
    }
}

/// Logarithm of the part of δ that tails and wrapping may make up, negative.
const LN_MILLION: f64 = 14.0;
/// Steps for which rounding stays below a millionth of δ at the best tilt; fewer leave room for another.
const DIGITS_KEPT: f64 = 2e6;
/// Logarithm of a δ that is as good as 0.
const LN_NOTHING: f64 = -600.0;

/// How fine the answer is to be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fineness {
    /// What the grid may add to ε, relative.
    pub(super) tolerance: f64,
    /// Most grid points: a power of two.
    pub(super) most_points: usize,
}

/// Tilt, window and grid for one question.
#[derive(Clone, Copy, Debug)]
pub(super) struct GridPlan {
    /// t: the law is tilted by exp(t·loss), so that the losses that decide are the likely ones.
    pub(super) tilt: f64,
    /// The tilt at which the tail above the window is bounded.
    pub(super) tail_tilt: f64,
    /// Logarithm of what that tail may have.
    pub(super) ln_tail: f64,
    /// Distance of the grid points, a power of two.
    pub(super) spacing: f64,
    /// Grid points on the ring, a power of two.
    pub(super) points: usize,
    /// Steps of all phases.
    pub(super) count: f64,
}

/// Smallest value of a function that falls and then rises, over positive arguments: argument and value,
/// to a share of 0.62^`turns` of the range's logarithm.
fn minimum(f: impl Fn(f64) -> f64, range: (f64, f64), turns: u32) -> (f64, f64) {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    let f = |ln_t: f64| {
        let value = f(libm::exp(ln_t));
        if value.is_nan() { f64::INFINITY } else { value }
    };
    let (mut low, mut high) = (libm::log(range.0), libm::log(range.1));
    let (mut a, mut b) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
    let (mut at_a, mut at_b) = (f(a), f(b));
    for _ in 0..turns {
        if at_a <= at_b {
            (high, b, at_b) = (b, a, at_a);
            a = high - GOLDEN * (high - low);
            at_a = f(a);
        } else {
            (low, a, at_a) = (a, b, at_b);
            b = low + GOLDEN * (high - low);
            at_b = f(b);
        }
    }
    if at_a <= at_b { (libm::exp(a), at_a) } else { (libm::exp(b), at_b) }
}

/// ln E exp(t·total loss).
fn total_cumulant(sketches: &[LossSketch], t: f64) -> f64 {
    sketches.iter().map(|sketch| sketch.steps as f64 * sketch.cumulant(t)).sum()
}

/// ln of the largest weight `e^(−t·y)·(1 − e^(−y))` of a loss y above ε in δ, against e^(−t·y) alone.
fn ln_largest_weight(t: f64) -> f64 {
    -t * libm::log1p(1.0 / t) - libm::log1p(t)
}

/// A bound on ln δ at `epsilon` of Chernoff's kind, at most 0, and its tilt.
fn chernoff(sketches: &[LossSketch], epsilon: f64) -> (f64, f64) {
    // Where losses are bounded, δ may be as good as 0: any tilt that shows it will do.
    let ln_delta = |t| total_cumulant(sketches, t) - t * epsilon + ln_largest_weight(t);
    let (tilt, ln_delta) = minimum(|t| ln_delta(t).max(LN_NOTHING), TILTS, 36);
    (tilt, ln_delta.min(0.0))
}

/// Standard deviation of the total loss under the tilted law.
fn deviation(sketches: &[LossSketch], t: f64) -> f64 {
    sketches.iter().map(|sketch| sketch.steps as f64 * sketch.variance(t)).sum::<f64>().sqrt()
}

/// By how much δ is likely to lie below that bound at this tilt, as a factor of at least 1.
fn sharpness(sketches: &[LossSketch], t: f64) -> f64 {
    1.0 + (2.0 * std::f64::consts::PI).sqrt() * deviation(sketches, t) * (t + 1.0)
}

/// A tilt for δ at `epsilon`, and the logarithm of a number that δ is likely to exceed: one step with a heavy tail has
/// a δ far below Chernoff's bound.
pub(super) fn likely_delta(sketches: &[LossSketch], epsilon: f64) -> (f64, f64) {
    let (tilt, ln_chernoff) = chernoff(sketches, epsilon);
    (tilt, (2.5 * (ln_chernoff - libm::log(sharpness(sketches, tilt)))).max(LN_NOTHING))
}

/// How wide the window must be at this tilt.
fn needed_window(sketches: &[LossSketch], tilt: f64, ln_delta: f64, epsilon: f64, top: f64) -> f64 {
    let here = total_cumulant(sketches, tilt);
    // By how much δ is smaller than the unit in which tilted masses enter it.
    let margin = LN_MILLION + (here - tilt * epsilon - ln_delta).max(0.0);
    let up = (1e-3 * tilt, 1e3 * tilt + 1.0);
    let (_, above) = minimum(|s| (total_cumulant(sketches, tilt + s) - here + margin) / s, up, 20);
    let down = (1e-3 * tilt, tilt + 0.99);
    let (_, below) = minimum(|s| (total_cumulant(sketches, tilt - s) - here + margin) / s, down, 20);
    // From below the window it comes with a factor of exp(−t·window), too.
    (top.max(above) - epsilon).max((top + below).min((LN_MILLION - ln_delta) / tilt))
}

impl GridPlan {
    /// For ε at a δ.
    pub(super) fn for_delta(sketches: &[LossSketch], delta: f64, fineness: Fineness) -> Option<Self> {
        let ln_delta = libm::log(delta);
        let epsilon = |t| (total_cumulant(sketches, t) + ln_largest_weight(t) - ln_delta) / t;
        let (tilt, chernoff) = minimum(epsilon, TILTS, 36);
        // ε lies below the bound by what the bound is blunt, and hardly below all the likely losses.
        let blunt = (1.5 * libm::log(sharpness(sketches, tilt)) + 0.5) / tilt;
        let low = chernoff - blunt.min(8.0 * deviation(sketches, tilt));
        Self::around(sketches, tilt, ln_delta, (low.max(0.0), chernoff), fineness)
    }

    /// A window four times as wide; `None` where it is wide enough.
    pub(super) fn wider(mut self, fineness: Fineness) -> Option<Self> {
        self.points *= 4;
        while self.points > fineness.most_points {
            self.points /= 2;
            self.spacing *= 2.0;
        }
        self.checked()
    }

    /// A finer grid for the same window, where the grid adds more to ε than it may: the law is steeper there than the
    /// tilt suggested. `None` where it does not, or none is to be had.
    pub(super) fn finer(mut self, epsilon: f64, steepness: f64, fineness: Fineness) -> Option<Self> {
        // No ε is small enough for its last digits to matter then.
        const SMALLEST: f64 = 1e-5;
        let allowed = 2.0 * fineness.tolerance * epsilon.max(SMALLEST);
        let mut added = self.count * self.spacing * self.spacing / 12.0 * (steepness + 1.0);
        let before = self.points;
        while added > allowed && self.points < fineness.most_points.min(8 * before) {
            self.points *= 2;
            self.spacing /= 2.0;
            added /= 4.0;
        }
        (self.points > before).then_some(self)
    }

    /// Refuses a grid so coarse that a tilt over one cell overflows.
    fn checked(mut self) -> Option<Self> {
        const STEEPEST: f64 = 30.0;
        self.tail_tilt = self.tail_tilt.min(STEEPEST / self.spacing);
        (self.spacing * self.tilt < STEEPEST && self.spacing < 1e12).then_some(self)
    }

    /// For δ at an ε.
    pub(super) fn for_epsilon(sketches: &[LossSketch], epsilon: f64, fineness: Fineness) -> Option<Self> {
        let (tilt, ln_delta) = likely_delta(sketches, epsilon);
        Self::around(sketches, tilt, ln_delta, (epsilon, epsilon), fineness)
    }

    /// The window must hold what lies between the first of `epsilons`, which is the answer or a little less, and where
    /// the tail is a millionth of δ, and be so wide that what wraps around it matters as little. The second is where
    /// `best` is the best tilt. A smaller tilt often needs a much smaller window, and costs digits, of which there are
    /// enough.
    fn around(
        sketches: &[LossSketch],
        best: f64,
        ln_delta: f64,
        (epsilon, centre): (f64, f64),
        fineness: Fineness,
    ) -> Option<Self> {
        let count: f64 = sketches.iter().map(|sketch| sketch.steps as f64).sum();
        let ln_tail = ln_delta - LN_MILLION;
        let (tail_tilt, top) = minimum(|t| (total_cumulant(sketches, t) - ln_tail) / t, TILTS, 36);
        let exponent = |t: f64| total_cumulant(sketches, t) - t * centre;
        let lost = libm::log(DIGITS_KEPT / count).max(0.0);
        let (mut tilt, mut window) = (best, f64::INFINITY);
        for share in [1.0, 0.85, 0.7, 0.55, 0.4] {
            let t = share * best;
            if exponent(t) > exponent(best) + lost {
                break;
            }
            let needed = needed_window(sketches, t, ln_delta, epsilon, top);
            if needed < window {
                (tilt, window) = (t, needed);
            }
            if window < 1.1 * (top - epsilon) {
                break;
            }
        }
        if !(window > 0.0 && window.is_finite()) {
            return None;
        }
        // Two neighbours stand for a loss between them with the same mean of exp(−loss): its variance grows by h²/6,
        // and so ε at tilt t by steps·(t + 1)·h²/12.
        let least = if centre > 0.0 { 0.05 * fineness.tolerance * centre } else { f64::INFINITY };
        let allowed = (fineness.tolerance * epsilon.max(0.0)).max(least.min(1e-6 / tilt));
        let spacing = (12.0 * allowed / count / (tilt + 1.0)).sqrt().min(window / 512.0);
        let most = fineness.most_points as f64;
        let mut spacing = power_of_two_below(spacing)?;
        let widest = sketches.iter().map(|sketch| {
            let (from, to) = sketch.tilted_range(tilt);
            sketch.loss.at(to) - sketch.loss.at(from)
        });
        let widest = widest.fold(0.0, f64::max);
        if !widest.is_finite() {
            return None;
        }
        while window / spacing > most - 2.0 || widest / spacing > most {
            spacing *= 2.0;
        }
        let points = ((window / spacing) as usize + 2).next_power_of_two();
        GridPlan { tilt, tail_tilt, ln_tail, spacing, points, count }.checked()
    }
}

/// The largest power of two that is not above `x`; `None` where `x` is no normal positive number.
fn power_of_two_below(x: f64) -> Option<f64> {
    (x > 0.0 && x.is_normal()).then(|| f64::from_bits(x.to_bits() & !((1 << 52) - 1)))
}
