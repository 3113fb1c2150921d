//! The server step: how the sum of the survivors' updates becomes the next global adapter.
//!
//! Coordinator and silos each run it on the same sum and compare the hash of what comes out, so it is scalar `f64` in
//! index order, with one rounding to `f32` at the end.

/// Federated averaging: `global + sum / survivors`, coordinate by coordinate.
///
/// `sum` is the sum over the survivors of their updates (local − global), `survivors` their number. The result always
/// has `global`'s length.
///
/// # Panics
/// If `sum` has another length than `global` or nobody survived; the caller decoded `sum` by the same layout and has
/// the survivors' certificate in hand, so either is a bug here, not something that a peer can bring about.
pub fn fed_avg(global: &[f32], sum: &[f64], survivors: u32) -> Vec<f32> {
    assert_eq!(global.len(), sum.len(), "the sum has another length than the adapter");
    assert!(survivors > 0, "a round without survivors has no average");
    let survivors = f64::from(survivors);
    global.iter().zip(sum).map(|(&global, &sum)| (f64::from(global) + sum / survivors) as f32).collect()
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
