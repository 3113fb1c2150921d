//! One step as a distribution on a grid, by connecting the dots, under a tilted law.
//!
//! A loss x between two grid points becomes part of each, so that both its probability and that times exp(−x), which is
//! its probability on the other data set, are kept:
//!
//! ```text
//!           x                    above: (1 − e^(lower − x)) / (1 − e^(−h))
//!   ──┬─────┴───────┬──          below: the rest
//!   lower       lower + h
//! ```
//!
//! Then δ(ε) of the grid equals the true one at the grid points, and between them it is the chord of a convex function
//! of e^ε, hence nowhere below (Doroshenko, Ghazi, Kamath, Kumar and Manurangsi, arXiv 2207.04380). Rounding moves a
//! loss only upwards.
//!
//! Where the loss is steep in the noise, nearly everywhere, a cell is integrated over the loss itself, with a logarithm
//! and an exponential per node; elsewhere, and for groups, over the noise.
//!
//! Masses are held as `p(x)·exp(t·x − K)`: those losses that decide about δ are then the likely ones, and rounding is
//! relative to δ instead of to 1.

use super::fft::UNIT;
use super::loss::Direction;
use super::sketch::{GridPlan, LN_SQRT_TAU, LossSketch, NARROW, WIDE};

/// What a step's masses on the ring say besides.
pub(super) struct GridStep {
    /// Tilted masses that sum to 1; the loss `i·h` lies at place `i mod n`.
    pub(super) ring: Vec<f64>,
    /// ln E exp(t·loss) on the grid, for the plan's tilt.
    pub(super) cumulant: f64,
    /// The same for the plan's tilt of the tail.
    pub(super) tail_cumulant: f64,
    /// Bound on the sum of the absolute errors of `ring`.
    pub(super) error: f64,
}

/// What the cells give, with compensation for rounding.
#[derive(Default)]
struct Sum {
    total: f64,
    lost: f64,
}

impl Sum {
    fn add(&mut self, x: f64) {
        let next = self.total + x;
        self.lost += if self.total.abs() >= x.abs() { (self.total - next) + x } else { (x - next) + self.total };
        self.total = next;
    }

    fn value(&self) -> f64 {
        self.total + self.lost
    }
}

/// The masses of one cell and a bound on their errors.
#[derive(Default)]
struct Cell {
    lower: f64,
    upper: f64,
    error: f64,
}

/// The ring as it fills.
struct Ring<'a> {
    plan: &'a GridPlan,
    masses: Vec<f64>,
    total: Sum,
    tail: Sum,
    error: f64,
    /// Growth of the tilt, and of the tail's tilt against it, over one cell.
    rise: f64,
    tail_rise: f64,
    /// ln of what the tail's tilt is against the plan's, at a loss of 0.
    ln_tail: f64,
}

impl Ring<'_> {
    /// Adds the cell above the grid point `lower`.
    fn add(&mut self, lower: i64, cell: Cell) {
        let mask = self.masses.len() - 1;
        let place = lower as usize & mask;
        let upper = cell.upper * self.rise;
        self.masses[place] += cell.lower;
        self.masses[(place + 1) & mask] += upper;
        self.total.add(cell.lower + upper);
        self.error += cell.error;
        let ln_factor = (self.plan.tail_tilt - self.plan.tilt) * lower as f64 * self.plan.spacing + self.ln_tail;
        self.tail.add((cell.lower + upper * self.tail_rise) * libm::exp(ln_factor));
    }
}

/// Places one step on the plan's grid; `None` where arithmetic fails.
pub(super) fn place(sketch: &LossSketch, plan: &GridPlan) -> Option<GridStep> {
    let h = plan.spacing;
    let loss = &sketch.loss;
    let (from, to) = sketch.tilted_range(plan.tilt);
    let (k, tail_k) = (sketch.cumulant(plan.tilt), sketch.cumulant(plan.tail_tilt));
    let mut ring = Ring {
        plan,
        masses: vec![0.0; plan.points],
        total: Sum::default(),
        tail: Sum::default(),
        error: 0.0,
        rise: libm::exp(plan.tilt * h),
        tail_rise: libm::exp((plan.tail_tilt - plan.tilt) * h),
        ln_tail: k - tail_k,
    };
    let (first, last) = (libm::floor(loss.at(from) / h), libm::floor(loss.at(to) / h));
    if !(first.abs() < 1e12 && last.abs() < 1e12 && ring.rise.is_finite() && ring.tail_rise.is_finite()) {
        return None;
    }
    let (first, last) = (first as i64, last as i64);
    // The grid point below a cell of g, as a loss.
    let lower = |index: i64| match sketch.direction {
        Direction::Remove => index,
        Direction::Add => -index - 1,
    };
    let cells = Cells::new(sketch, plan, k);
    let quick = cells.first_quick().map_or(last, |quick| quick.clamp(first + 1, last.max(first + 1)));
    let mut a = from;
    for index in first..=last {
        let quick = index >= quick && index < last;
        let cell = if quick {
            cells.over_losses(index as f64 * h, lower(index) as f64 * h)
        } else {
            if index == last && last > first {
                a = loss.inverse(index as f64 * h, from, to);
            }
            let b = if index < last { loss.inverse((index + 1) as f64 * h, a, to) } else { to };
            let cell = cells.over_noise((a, b), lower(index) as f64 * h);
            a = b;
            cell
        };
        ring.add(lower(index), cell);
    }
    let (sum, tail) = (ring.total.value(), ring.tail.value());
    if !(sum > 0.0 && sum.is_finite() && tail.is_finite()) {
        return None;
    }
    for mass in &mut ring.masses {
        *mass /= sum;
    }
    let error = ring.error / sum + 16.0 * UNIT;
    let tail_cumulant = tail_k + libm::log(tail) + 4.0 * error;
    Some(GridStep { ring: ring.masses, cumulant: k + libm::log(sum), tail_cumulant, error })
}

/// A node of a narrow cell of g.
struct Node {
    /// Distance from where the cell begins.
    offset: f64,
    /// exp(offset) − 1.
    grown: f64,
    /// Times h.
    weight: f64,
    /// What of its mass the upper grid point has.
    share: f64,
}

/// Integrates cells.
struct Cells<'a> {
    sketch: &'a LossSketch,
    plan: &'a GridPlan,
    k: f64,
    /// The integrand's exponent is this times g, but for the Gaussian.
    growth: f64,
    /// z below which it is constant, and above which g is straight.
    flat: f64,
    straight: f64,
    /// 1 − e^(−h).
    rise: f64,
    /// The rate of a single record, and the nodes of a narrow cell.
    single: Option<(f64, [Node; 2])>,
}

impl<'a> Cells<'a> {
    fn new(sketch: &'a LossSketch, plan: &'a GridPlan, k: f64) -> Self {
        let h = plan.spacing;
        let rise = -libm::expm1(-h);
        let growth = match sketch.direction {
            Direction::Remove => plan.tilt + 1.0,
            Direction::Add => plan.tilt.abs(),
        };
        let node = |i: usize| {
            let (position, weight) = NARROW.1[i];
            let distance = match sketch.direction {
                Direction::Remove => position * h,
                Direction::Add => h - position * h,
            };
            let share = -libm::expm1(-distance) / rise;
            Node { offset: position * h, grown: libm::expm1(position * h), weight: weight * h, share }
        };
        let single = sketch.loss.single_rate().map(|q| (q, [node(0), node(1)]));
        let (flat, straight) = (sketch.loss.flat_below(growth), sketch.loss.straight_above());
        Cells { sketch, plan, k, growth, flat, straight, rise, single }
    }

    /// From which cell of g on [`over_losses`](Self::over_losses) is exact enough.
    fn first_quick(&self) -> Option<i64> {
        let q = self.sketch.loss.single_rate()?;
        let h = self.plan.spacing;
        let needed = h * self.sketch.loss.sigma().max(1.0) / NARROW.0;
        let largest = self.sketch.loss.at(self.sketch.range.1);
        if h * self.growth > NARROW.0 || needed >= 1.0 || largest > 600.0 {
            return None;
        }
        // Where the slope, 1 − (1 − q)·e^(−g), is what is needed.
        Some(libm::ceil((libm::log1p(-q) - libm::log1p(-needed)) / h) as i64)
    }

    /// Integrates over the whole cell of g that begins at `g`, whose losses begin at `lower`: for a single record and
    /// where g is steep, so that the cell is narrow in z.
    fn over_losses(&self, g: f64, lower: f64) -> Cell {
        let mut cell = Cell::default();
        let Some((q, nodes)) = &self.single else { return cell };
        let sigma = self.sketch.loss.sigma();
        let less = libm::expm1(g);
        for Node { offset, grown, weight, share } in nodes {
            // e^g and e^g − (1 − q), without a difference.
            let (ratio, drawn) = ((less + 1.0) * (grown + 1.0), less + q + (less + 1.0) * grown);
            let z = sigma * libm::log(drawn / q) + 0.5 / sigma;
            let own = match self.sketch.direction {
                Direction::Remove => g + offset,
                Direction::Add => 0.0,
            };
            let exponent = own + self.plan.tilt * lower - z * z / 2.0 - LN_SQRT_TAU - self.k;
            let mass = weight * sigma * ratio / drawn * libm::exp(exponent);
            cell.upper += mass * share;
            cell.lower += mass * (1.0 - share);
            let off = 16.0 * UNIT * (1.0 + z.abs() * sigma) * (ratio + 1.0) / drawn;
            cell.error += mass * (off + self.rounding(own, lower, z));
        }
        cell
    }

    /// What rounding of the exponent does to a mass, relative.
    fn rounding(&self, own: f64, lower: f64, z: f64) -> f64 {
        UNIT * (64.0 + 4.0 * (own.abs() + (self.plan.tilt * lower).abs() + z * z + self.k.abs()))
    }

    /// Integrates over z in [a, b], whose losses lie in [`lower`, `lower` + h].
    fn over_noise(&self, (a, b): (f64, f64), lower: f64) -> Cell {
        let loss = &self.sketch.loss;
        let h = self.plan.spacing;
        let slope = loss.slope(b);
        // On what length the integrand changes: the Gaussian, the bend of g, the tilt.
        let steep = (self.growth * slope / loss.sigma()).max(1.0);
        // The shares of a wide cell's ends bend with the loss, too.
        let bent = if a < self.straight || h > 1e-2 { steep.max(1.0 / loss.sigma()) } else { steep };
        let mut cell = Cell::default();
        let mut z = a;
        while z < b {
            let (scale, rest) = if z < self.flat { (1.0, self.flat.min(b) - z) } else { (1.0 / bent, b - z) };
            let (limit, rule) = if rest <= NARROW.0 * scale { NARROW } else { WIDE };
            let width = rest.min(limit * scale);
            for (position, weight) in rule {
                let z = z + position * width;
                let g = loss.at(z);
                let up = loss.rounding(z, g, slope);
                let (x, own) = match self.sketch.direction {
                    Direction::Remove => (g + up, g),
                    Direction::Add => (-g + up, 0.0),
                };
                let exponent = own + self.plan.tilt * lower - z * z / 2.0 - LN_SQRT_TAU - self.k;
                let mass = weight * width * libm::exp(exponent);
                let share = -libm::expm1(-(x - lower).clamp(0.0, h)) / self.rise;
                cell.upper += mass * share;
                cell.lower += mass * (1.0 - share);
                cell.error += mass * (up + self.rounding(own, lower, z));
            }
            z = if z + width > z { z + width } else { b };
        }
        cell
    }
}
