//! The server step: how the sum of the survivors' updates moves the global adapter.
//!
//! With Δ = sum / survivors, per trained coordinate x, first moment m and second moment v:
//!
//! | optimiser | step | source |
//! |---|---|---|
//! | `fedavg` | `x ← x + Δ` | McMahan et al. 2017 |
//! | `fedavgm` | `m ← β·m + Δ`, `x ← x + η·m`, m₀ = 0 | Hsu et al. 2019 (arXiv 1909.06335) |
//! | `fedadam` | `m ← β₁·m + (1−β₁)·Δ`, `v ← β₂·v + (1−β₂)·Δ²`, `x ← x + η·m / (√v + τ)`, m₀ = 0, v₀ = τ² | Reddi et al. 2021 (arXiv 2003.00295), Algorithm 2 |
//!
//! As in that algorithm there is no bias correction: v₀ = τ² takes its place.
//!
//! Coordinator and silos each run it on the same sum and compare the hash of what comes out, so it is scalar `f64` in
//! index order, with one rounding to `f32` for each stored number; x moves by the unrounded moments.

use std::ops::Range;

/// A server optimiser with its constants; the caller has checked them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServerStep {
    /// Federated averaging.
    FedAvg,
    /// Averaging with momentum.
    FedAvgM {
        /// η.
        learning_rate: f64,
        /// β, 0 to below 1.
        momentum: f64,
    },
    /// Adam on the mean of the updates.
    FedAdam {
        /// η.
        learning_rate: f64,
        /// β₁, 0 to below 1.
        beta1: f64,
        /// β₂, 0 to below 1.
        beta2: f64,
        /// τ, above 0.
        tau: f64,
    },
}

impl ServerStep {
    /// Numbers that are kept for each value.
    pub fn moments(&self) -> usize {
        match self {
            ServerStep::FedAvg => 0,
            ServerStep::FedAvgM { .. } => 1,
            ServerStep::FedAdam { .. } => 2,
        }
    }

    /// The moments of `len` values before the first round: all first ones, then all second ones.
    pub(crate) fn initial_moments(&self, len: usize) -> Vec<f32> {
        let mut moments = vec![0.0; len * self.moments().min(1)];
        if let ServerStep::FedAdam { tau, .. } = self {
            moments.resize(2 * len, (tau * tau) as f32);
        }
        moments
    }

    /// Moves the values in `trained` and their moments by the sum of the survivors' updates; the others stay.
    pub(crate) fn step(
        &self,
        values: &mut [f32],
        moments: &mut [f32],
        trained: Range<usize>,
        sum: &[f64],
        survivors: u32,
    ) {
        let len = values.len();
        let values = &mut values[trained.clone()];
        match *self {
            ServerStep::FedAvg => {
                let averaged = fed_avg(values, sum, survivors);
                values.copy_from_slice(&averaged);
            }
            ServerStep::FedAvgM { learning_rate, momentum } => {
                let mean = means(values, sum, survivors);
                for ((x, first), mean) in values.iter_mut().zip(&mut moments[trained]).zip(mean) {
                    let m = momentum * f64::from(*first) + mean;
                    *first = m as f32;
                    *x = (f64::from(*x) + learning_rate * m) as f32;
                }
            }
            ServerStep::FedAdam { learning_rate, beta1, beta2, tau } => {
                let mean = means(values, sum, survivors);
                let (first, second) = moments.split_at_mut(len);
                let moments = first[trained.clone()].iter_mut().zip(&mut second[trained]);
                for ((x, (first, second)), mean) in values.iter_mut().zip(moments).zip(mean) {
                    let m = beta1 * f64::from(*first) + (1.0 - beta1) * mean;
                    let v = beta2 * f64::from(*second) + (1.0 - beta2) * (mean * mean);
                    (*first, *second) = (m as f32, v as f32);
                    *x = (f64::from(*x) + learning_rate * m / (v.sqrt() + tau)) as f32;
                }
            }
        }
    }
}

/// Federated averaging: `global + sum / survivors`, coordinate by coordinate.
///
/// `sum` is the sum over the survivors of their updates (local − global), `survivors` their number. The result always
/// has `global`'s length.
///
/// # Panics
/// If `sum` has another length than `global` or nobody survived; the caller decoded `sum` by the same layout and has
/// the survivors' certificate in hand, so either is a bug here, not something that a peer can bring about.
pub fn fed_avg(global: &[f32], sum: &[f64], survivors: u32) -> Vec<f32> {
    global.iter().zip(means(global, sum, survivors)).map(|(&global, mean)| (f64::from(global) + mean) as f32).collect()
}

/// The mean of the updates, coordinate by coordinate.
fn means<'a>(values: &[f32], sum: &'a [f64], survivors: u32) -> impl Iterator<Item = f64> + 'a {
    assert_eq!(values.len(), sum.len(), "the sum has another length than the adapter");
    assert!(survivors > 0, "a round without survivors has no average");
    let survivors = f64::from(survivors);
    sum.iter().map(move |&sum| sum / survivors)
}

#[cfg(test)]
mod tests {
    use super::fed_avg;

    #[test]
    fn is_the_mean_of_the_updates_on_top_of_the_global_adapter() {
        assert_eq!(fed_avg(&[1.0, -2.0, 0.5], &[3.0, -6.0, 0.0], 3), [2.0, -4.0, 0.5]);
    }

    #[test]
    fn averaging_b_averages_the_products() {
        // The point of FFA-LoRA: with A shared, mean(Bᵢ)·A = mean(Bᵢ·A). One-dimensional, exact in binary.
        let (a, updates) = (0.75f32, [0.5f64, -0.25, 1.0, 0.75]);
        let mean = fed_avg(&[0.0], &[updates.iter().sum()], 4)[0];
        let products: f64 = updates.iter().map(|b| b * f64::from(a)).sum();
        assert_eq!(f64::from(mean * a), products / 4.0);
    }

    #[test]
    fn rounds_once_after_adding_in_f64() {
        // 1 + 2⁻²⁴ + 2⁻⁴⁰ lies just above the midpoint between 1 and its f32 successor; f32 arithmetic would lose it.
        let sum = 2f64.powi(-24) + 2f64.powi(-40);
        assert_eq!(fed_avg(&[1.0], &[sum], 1), [1.0 + f32::EPSILON]);
    }
}
