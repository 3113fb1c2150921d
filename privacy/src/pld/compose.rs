//! Many steps in one direction: powers of spectra, and δ and ε of the result.
//!
//! ```text
//! each phase: tilted masses on a ring ─► spectrum ─► its power, as many as there are steps ─┐ multiplied
//! ε or δ ◄─ sums over the losses above ε ◄─ tilted masses of the total loss ◄─ inverse ─────┘
//! ```
//!
//! On a ring of n points what lies outside the window wraps around and adds to what is inside, never takes away. So δ
//! is bounded by three parts, each from above: the window's own, the tail above it (Chernoff's bound, at a tilt of its
//! own), and the losses beyond the range of one step, which count as infinite. To the masses comes a bound on their
//! errors: of z^T it is `|a^T − b^T| ≤ T·|a − b|·max(|a|, |b|)^(T−1)`, which goes through the inverse by Parseval's
//! equation.

use super::fft::{Complex, Transform, UNIT};
use super::sketch::{GridPlan, LossSketch};
use super::step;

/// What a number too small for `f64` may have been, generously.
const UNDERFLOW: f64 = 1e-200;

/// The total loss in one direction.
pub(super) struct Composed {
    plan: GridPlan,
    /// Tilted masses on the ring.
    ring: Vec<f64>,
    /// ln E exp(t·total loss), rounded up.
    cumulant: f64,
    /// Index of the window's top grid point.
    top: i64,
    /// Probability of a loss above the window.
    beyond: f64,
    /// What the errors of the masses may add to δ, in the units of [`Sweep`].
    error: f64,
}

/// Composes; `None` where arithmetic fails.
pub(super) fn compose(sketches: &[LossSketch], plan: GridPlan) -> Option<Composed> {
    let transform = Transform::new(plan.points);
    let mut spectrum = Spectrum::one(plan.points / 2);
    let (mut cumulant, mut tail_cumulant, mut beyond) = (0.0, 0.0, 0.0);
    for sketch in sketches {
        let steps = sketch.steps as f64;
        let step = step::place(sketch, &plan)?;
        cumulant += steps * (step.cumulant + 8.0 * UNIT * (1.0 + step.cumulant.abs()));
        tail_cumulant += steps * (step.tail_cumulant + 8.0 * UNIT * (1.0 + step.tail_cumulant.abs()));
        beyond += steps * sketch.beyond;
        let ff = transform.forward(&step.ring);
        spectrum.multiply(&ff, sketch.steps, transform.rounding() + step.error);
    }
    let (each, spread) = spectrum.error_of_masses(transform.rounding());
    let weights = Weights::new(&plan);
    let error = weights.sum * each + weights.norm * spread;

    let top = libm::ceil((tail_cumulant - plan.ln_tail) / plan.tail_tilt / plan.spacing);
    if top.is_nan() || top.abs() > 1e15 {
        return None;
    }
    let ln_tail = tail_cumulant - plan.tail_tilt * top * plan.spacing;
    let slack = 8.0 * UNIT * (tail_cumulant.abs() + (plan.tail_tilt * top * plan.spacing).abs());
    beyond += libm::exp(ln_tail + slack) * (1.0 + 1e-9);
    let ring = transform.inverse(spectrum.values);
    let good = cumulant.is_finite() && beyond.is_finite() && error.is_finite();
    good.then_some(Composed { plan, ring, cumulant, top: top as i64, beyond, error })
}

/// A product of powers of spectra, in the order of [`Transform::forward`].
struct Spectrum {
    values: Vec<Complex>,
    /// Bounds on the errors.
    errors: Vec<f64>,
}

impl Spectrum {
    fn one(length: usize) -> Self {
        let mut values = vec![Complex::ONE; length];
        values[0].im = 1.0;
        Spectrum { values, errors: vec![0.0; length] }
    }

    /// Multiplies by the power of a spectrum whose values are off by at most `error`.
    fn multiply(&mut self, factor: &[Complex], steps: u64, error: f64) {
        // The first place holds two frequencies, both real.
        let real = |re: f64| Complex { re, im: 0.0 };
        let (low, low_error) = power(real(factor[0].re), steps, error);
        let (high, high_error) = power(real(factor[0].im), steps, error);
        let pair = &mut self.values[0];
        let both = self.errors[0];
        self.errors[0] =
            bound(both, pair.re.abs(), low_error, low.abs()).max(bound(both, pair.im.abs(), high_error, high.abs()));
        *pair = Complex { re: pair.re * low.re, im: pair.im * high.re };
        for ((value, own), &factor) in self.values.iter_mut().zip(&mut self.errors).zip(factor).skip(1) {
            let (powered, powered_error) = power(factor, steps, error);
            *own = bound(*own, value.abs(), powered_error, powered.abs());
            *value = *value * powered;
        }
    }

    /// Bounds on the errors of the inverse: of each value, and of the Euclidean norm of all.
    fn error_of_masses(&self, rounding: f64) -> (f64, f64) {
        let n = 2.0 * self.values.len() as f64;
        let ends = self.values[0].re.abs() + self.values[0].im.abs();
        let sum = ends + 2.0 * self.values[1..].iter().map(|value| value.abs()).sum::<f64>();
        let squares = 2.0 * self.errors.iter().map(|error| error * error).sum::<f64>();
        (rounding * sum / n * (1.0 + 1e-9), (squares / n).sqrt() * (1.0 + 1e-9))
    }
}

/// Error of a product of two values.
fn bound(error_a: f64, a: f64, error_b: f64, b: f64) -> f64 {
    error_a * (b + error_b) + a * error_b + 4.0 * UNIT * a * b
}

/// `value`^`steps` and a bound on its error, where `value` is off by at most `error` and stands for a number of at most
/// 1 + `error`.
fn power(value: Complex, steps: u64, error: f64) -> (Complex, f64) {
    let size = value.abs();
    let count = steps as f64;
    let mut result = Complex::ONE;
    let mut square = value;
    let mut rest = steps;
    loop {
        if rest & 1 == 1 {
            result = result * square;
        }
        rest >>= 1;
        if rest == 0 {
            break;
        }
        // Subnormal numbers are slow, and nothing comes of them.
        if square.re.abs() + square.im.abs() < 1e-100 {
            result = Complex { re: 0.0, im: 0.0 };
            break;
        }
        square = square * square;
    }
    // Each multiplication is off by less than 3 u, and there are as good as `steps` of them, counted by their weight.
    let growth = count * (error / size + 6.0 * UNIT);
    let off = if growth < 0.5 {
        1.3 * growth * result.abs()
    } else {
        libm::exp(count * (libm::log(size + error).min(error) + 6.0 * UNIT)) + result.abs()
    };
    (result, off + UNDERFLOW)
}

/// Weights with which masses above ε enter δ: `e^(−t·y)·(1 − e^(−y))` at distance y.
struct Weights {
    sum: f64,
    norm: f64,
}

impl Weights {
    fn new(plan: &GridPlan) -> Self {
        let (fall, ratio) = (libm::exp(-plan.tilt * plan.spacing), libm::exp(-plan.spacing));
        let (mut tilted, mut rest) = (1.0, 1.0);
        let (mut sum, mut squares) = (0.0, 0.0);
        for _ in 0..plan.points {
            tilted *= fall;
            rest *= ratio;
            let weight: f64 = tilted * (1.0 - rest);
            sum += weight;
            squares += weight * weight;
            if tilted < 1e-30 {
                break;
            }
        }
        Weights { sum: sum * (1.0 + 1e-9), norm: squares.sqrt() * (1.0 + 1e-9) }
    }
}

/// δ at the grid points from the top downwards, in units of `exp(cumulant − t·ε)`.
struct Sweep<'a> {
    composed: &'a Composed,
    /// Grid point.
    index: i64,
    /// δ here, from the masses alone.
    delta: f64,
    /// Tilted masses from here on, likewise in the units of this point.
    mass: f64,
    fall: f64,
    ratio: f64,
    rise: f64,
}

impl<'a> Sweep<'a> {
    fn new(composed: &'a Composed) -> Self {
        let h = composed.plan.spacing;
        let (fall, ratio) = (libm::exp(-composed.plan.tilt * h), libm::exp(-h));
        let rise = -libm::expm1(-h);
        let mass = composed.mass(composed.top);
        Sweep { composed, index: composed.top, delta: 0.0, mass, fall, ratio, rise }
    }

    fn down(&mut self) {
        // 1 − e^(−y − h) = (1 − e^(−h)) + e^(−h)·(1 − e^(−y)): no difference is taken.
        self.delta = self.fall * (self.rise * self.mass + self.ratio * self.delta);
        self.index -= 1;
        self.mass = self.composed.mass(self.index) + self.fall * self.mass;
    }

    /// With everything that errors may add.
    fn bound(&self) -> f64 {
        self.delta * (1.0 + 1e-9) + self.composed.error
    }
}

/// An ε, and whether another grid would say less.
pub(super) struct ReadOff {
    pub(super) epsilon: f64,
    /// The window had no smaller one to offer.
    pub(super) narrow: bool,
    /// −d ln δ/dε there, where it is known.
    pub(super) steepness: f64,
}

impl Composed {
    fn mass(&self, index: i64) -> f64 {
        self.ring[index as usize & (self.ring.len() - 1)].max(0.0)
    }

    /// Loss at a grid point.
    fn loss(&self, index: i64) -> f64 {
        index as f64 * self.plan.spacing
    }

    /// Logarithm of the unit of [`Sweep`] at a grid point, rounded up.
    fn ln_unit(&self, index: i64) -> f64 {
        let tilted = self.plan.tilt * self.loss(index);
        self.cumulant - tilted + 8.0 * UNIT * (self.cumulant.abs() + tilted.abs())
    }

    /// The smallest ε of the window that holds with `delta`; infinite where none does.
    pub(super) fn epsilon(&self, delta: f64) -> ReadOff {
        let none = ReadOff { epsilon: f64::INFINITY, narrow: false, steepness: 0.0 };
        let left = (delta - self.beyond) * (1.0 - 1e-12);
        if left.is_nan() || left <= 0.0 {
            return none;
        }
        let ln_left = libm::log(left);
        let mut scan = Sweep::new(self);
        let mut before = f64::INFINITY;
        let bottom = (self.top - self.ring.len() as i64 + 2).max(0);
        loop {
            let allowed = libm::exp(ln_left - self.ln_unit(scan.index));
            let here = scan.bound();
            if here > allowed || here.is_nan() || allowed.is_nan() {
                if before == f64::INFINITY {
                    return none;
                }
                // δ is a chord in e^ε between this point and the one before.
                let share = (here - allowed) / (here - before * scan.fall);
                let grown = libm::log1p(share.clamp(0.0, 1.0) * libm::expm1(self.plan.spacing));
                let epsilon = self.loss(scan.index) + grown.min(self.plan.spacing);
                let steepness = (1.0 - before * scan.fall / here) / self.plan.spacing;
                let epsilon = if epsilon.is_nan() { f64::INFINITY } else { epsilon };
                return ReadOff { epsilon, narrow: false, steepness };
            }
            if scan.index <= bottom {
                return ReadOff { epsilon: self.loss(scan.index).max(0.0), narrow: bottom > 0, steepness: 0.0 };
            }
            before = here;
            scan.down();
        }
    }

    /// δ at `epsilon` ≥ 0, at most 1.
    pub(super) fn delta(&self, epsilon: f64) -> f64 {
        let position = libm::floor(epsilon / self.plan.spacing);
        let bottom = self.top - self.ring.len() as i64 + 2;
        // Above the window only its tail is known, and below it nothing.
        if position.is_nan() || position < bottom as f64 {
            return 1.0;
        }
        if position >= self.top as f64 {
            return self.beyond.min(1.0);
        }
        let mut scan = Sweep::new(self);
        while scan.index > position as i64 + 1 {
            scan.down();
        }
        let above = scan.bound() * scan.fall;
        scan.down();
        let rest = epsilon - self.loss(scan.index);
        let share = (libm::expm1(rest) / libm::expm1(self.plan.spacing)).clamp(0.0, 1.0);
        let unit = libm::exp(self.ln_unit(scan.index));
        let delta = self.beyond + unit * (scan.bound() * (1.0 - share) + above * share) * (1.0 + 1e-12);
        if delta.is_nan() { 1.0 } else { delta.min(1.0) }
    }
}
