//! A limit on ε over jobs that are chosen one after the other, each after the results of those before.
//!
//! An accountant that is told afterwards what was done may not be asked beforehand whether to go on: the number of
//! jobs and their noise would then depend on what they gave. A Rényi filter may (Feldman and Zrnic 2021, theorem 4.3;
//! for one record: section 3): at an order that is fixed before the first job, divergences add up, and the filter refuses
//! whatever would pass the budget at that order. What was let through has that divergence as a whole, in whichever way
//! it was chosen, and so ε at δ.
//!
//! Which order suits depends on jobs that nobody knows yet: one order would cost most jobs several times their ε. So there
//! are four, each at a quarter of δ, and it is enough that one of them holds. Whatever ends with order α holding is, up to
//! there, what the filter of α alone would have let through; so the events that end so are bounded at δ/4, and all of them
//! together at δ.
//!
//! A limit that is changed after results were seen is another filter, with orders of its own: each adds its δ.
//!
//! Contract: pure; the orders follow from ε and δ alone.

use crate::pld::SgdPhase;
use crate::rdp;

/// Orders of a filter.
const ORDERS: usize = 4;
/// Where they lie, as multiples of the least that is of use.
const SPREAD: [f64; ORDERS] = [1.0, 1.5, 2.2, 4.0];
/// An order is of use where so much of ε is left beside what δ takes of it.
const ROOM: f64 = 0.25;

/// The filter of an organisation's limit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filter {
    orders: [f64; ORDERS],
    epsilon: f64,
    delta: f64,
}

/// What was spent, as a filter counts it: divergences at its orders.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct FilterCost([f64; ORDERS]);

impl FilterCost {
    /// So many times this.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        // No step costs nothing, also where a step costs everything.
        FilterCost(self.0.map(|cost| if times == 0 { 0.0 } else { cost * times as f64 }))
    }

    /// This and the other.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        FilterCost(std::array::from_fn(|i| self.0[i] + other.0[i]))
    }

    /// Whether it is nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        self.0 == [0.0; ORDERS]
    }
}

impl Filter {
    /// The filter that keeps `epsilon` at `delta`. Limits without meaning let nothing through.
    pub fn new(epsilon: f64, delta: f64) -> Self {
        let sane = epsilon > 0.0 && epsilon.is_finite() && delta > 0.0 && delta < 1.0;
        let one_step = [SgdPhase { q: 1.0, sigma: 1.0, steps: 1 }];
        let known: Vec<f64> = rdp::totals(&one_step).into_iter().map(|(order, _)| order).collect();
        let from = |least: f64| known.iter().copied().find(|order| *order >= least).unwrap_or(2.0);
        let useful = |order: &&f64| rdp::converted(**order, 0.0, delta / ORDERS as f64) <= (1.0 - ROOM) * epsilon;
        let least = known.iter().find(useful).copied().unwrap_or(2.0);
        let orders = SPREAD.map(|times| from(1.0 + (least - 1.0) * times));
        let (epsilon, delta) = if sane { (epsilon, delta) } else { (f64::NAN, f64::NAN) };
        Filter { orders, epsilon, delta }
    }

    /// Orders at which divergences add up.
    pub fn orders(&self) -> &[f64] {
        &self.orders
    }

    /// What one use of this mechanism costs. Infinite for numbers without meaning.
    pub fn cost(&self, q: f64, sigma: f64) -> FilterCost {
        if !(q > 0.0 && q <= 1.0 && sigma > 0.0) {
            return FilterCost([f64::INFINITY; ORDERS]);
        }
        let costs = rdp::totals(&[SgdPhase { q, sigma, steps: 1 }]);
        let at = |order: f64| costs.iter().find(|(known, _)| *known == order).map_or(f64::INFINITY, |(_, rdp)| *rdp);
        FilterCost(self.orders.map(at))
    }

    /// ε at the filter's δ of what costs so much in all; 0 for nothing.
    pub fn epsilon(&self, cost: FilterCost) -> f64 {
        if cost.is_nothing() {
            return 0.0;
        }
        let part = self.delta / ORDERS as f64;
        let at = self.orders.iter().zip(cost.0).map(|(order, rdp)| rdp::converted(*order, rdp, part));
        at.fold(f64::INFINITY, f64::min).max(0.0)
    }

    /// Whether so much stays within the limit.
    pub fn allows(&self, cost: FilterCost) -> bool {
        self.epsilon(cost) <= self.epsilon
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOBS: [(f64, f64, u64); 5] =
        [(0.02, 0.72, 100), (0.0246, 0.671, 100), (1.0, 3.66, 21), (0.01, 1.2, 500), (0.1, 2.0, 1000)];

    #[test]
    fn what_is_let_through_is_never_less_than_the_accountants_figure() {
        for (limit, delta) in [(1.0, 1e-5), (6.0, 1e-5), (8.0, 1e-6), (20.0, 1e-5)] {
            let filter = Filter::new(limit, delta);
            for (q, sigma, steps) in JOBS {
                let cost = filter.cost(q, sigma).times(steps);
                assert!(filter.epsilon(cost) >= rdp::epsilon(q, sigma, steps, delta), "{limit} {q} {sigma}");
                assert_eq!(filter.allows(cost), filter.epsilon(cost) <= limit);
            }
        }
    }

    #[test]
    fn orders_that_are_fixed_beforehand_lose_little() {
        // Two such jobs one after the other, and the limit that they just reach by the best order of all.
        for (q, sigma, steps) in JOBS {
            let best = rdp::epsilon(q, sigma, 2 * steps, 1e-5);
            let filter = Filter::new(best, 1e-5);
            let found = filter.epsilon(filter.cost(q, sigma).times(2 * steps));
            println!("two jobs of q {q}, noise {sigma}, {steps} steps: ε = {best:.3}, by the filter {found:.3}");
            assert!(found < 1.2 * best, "{q} {sigma}: {found} for {best} at {:?}", filter.orders());
        }
    }

    #[test]
    fn numbers_without_meaning_let_nothing_through() {
        let small = Filter::new(6.0, 1e-5).cost(0.01, 10.0);
        assert!(!Filter::new(f64::NAN, 1e-5).allows(small) && !Filter::new(6.0, 0.0).allows(small));
        assert!(!Filter::new(-1.0, 1e-5).allows(FilterCost::default()));
        // A δ of 1 or more would make whatever was spent look like nothing.
        for (epsilon, delta) in [(6.0, 1.0), (6.0, 1e300), (6.0, f64::INFINITY), (6.0, f64::NAN), (f64::INFINITY, 1e-5)]
        {
            let filter = Filter::new(epsilon, delta);
            assert!(filter.epsilon(small) == f64::INFINITY && !filter.allows(small), "{epsilon} {delta}");
        }
        let filter = Filter::new(6.0, 1e-5);
        assert!(filter.allows(FilterCost::default()) && filter.allows(small) && !filter.allows(small.times(u64::MAX)));
        for (q, sigma) in [(0.5, f64::NAN), (0.0, 1.0), (2.0, 1.0), (f64::NAN, 1.0), (0.5, 0.0)] {
            assert!(!filter.allows(filter.cost(q, sigma).and(small)), "{q} {sigma}");
            assert!(filter.allows(filter.cost(q, sigma).times(0).and(small)), "nothing was done");
        }
    }
}
