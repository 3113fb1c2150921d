//! Accuracy over several sources, and a paired bootstrap for the difference between two arms.
//!
//! An arm's predictions are kept as one bit per test row and seed, so that arms are compared on the same rows.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha20Rng;

/// Which test rows an arm got right: `[seed][source][row]`.
pub type Hits = Vec<Vec<Vec<bool>>>;

/// Share of `true` in `rows`, 0 for none.
pub fn accuracy(rows: &[bool]) -> f64 {
    if rows.is_empty() {
        return 0.0;
    }
    rows.iter().filter(|hit| **hit).count() as f64 / rows.len() as f64
}

/// Mean of the sources' accuracies: every institution counts the same, whatever its size.
pub fn macro_accuracy(sources: &[Vec<bool>]) -> f64 {
    sources.iter().map(|rows| accuracy(rows)).sum::<f64>() / sources.len().max(1) as f64
}

/// Mean over seeds of [`macro_accuracy`].
pub fn mean_macro_accuracy(hits: &Hits) -> f64 {
    hits.iter().map(|sources| macro_accuracy(sources)).sum::<f64>() / hits.len().max(1) as f64
}

/// The middle 95 % of `mean_macro_accuracy(a) − mean_macro_accuracy(b)` when the test rows are drawn again with
/// replacement, source by source and the same draw for both arms and all seeds (paired, stratified bootstrap).
///
/// Both arms must hold the same seeds, sources and rows.
pub fn paired_bootstrap(a: &Hits, b: &Hits, draws: usize) -> (f64, f64) {
    let mut rng = ChaCha20Rng::seed_from_u64(1);
    let sizes: Vec<usize> = a[0].iter().map(Vec::len).collect();
    // per row: mean over seeds of the difference, so that one draw costs one pass
    let difference: Vec<Vec<f64>> = sizes
        .iter()
        .enumerate()
        .map(|(source, &rows)| {
            (0..rows)
                .map(|row| {
                    let sum: f64 = a
                        .iter()
                        .zip(b)
                        .map(|(x, y)| f64::from(u8::from(x[source][row])) - f64::from(u8::from(y[source][row])))
                        .sum();
                    sum / a.len() as f64
                })
                .collect()
        })
        .collect();
    let mut found: Vec<f64> = (0..draws)
        .map(|_| {
            let total: f64 = difference
                .iter()
                .map(|rows| {
                    (0..rows.len()).map(|_| rows[rng.random_range(0..rows.len())]).sum::<f64>() / rows.len() as f64
                })
                .sum();
            total / sizes.len() as f64
        })
        .collect();
    found.sort_by(f64::total_cmp);
    let at = |share: f64| found[((draws - 1) as f64 * share).round() as usize];
    (at(0.025), at(0.975))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_the_same_whatever_their_size() {
        let sources = vec![vec![true; 10], vec![false; 1000]];
        assert!((macro_accuracy(&sources) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn the_interval_holds_the_difference_and_narrows_with_rows() {
        let arm = |right: usize, rows: usize| vec![vec![(0..rows).map(|row| row % 100 < right).collect::<Vec<_>>()]];
        let (low, high) = paired_bootstrap(&arm(80, 200), &arm(70, 200), 2000);
        assert!(low < 0.10 && 0.10 < high, "{low} {high}");
        let (near, far) = paired_bootstrap(&arm(80, 20_000), &arm(70, 20_000), 2000);
        assert!(far - near < (high - low) / 3.0);
    }

    #[test]
    fn equal_arms_differ_by_nothing() {
        let arm = vec![vec![vec![true, false, true, true]]];
        assert_eq!(paired_bootstrap(&arm, &arm, 100), (0.0, 0.0));
    }
}
