//! What must have come out: the plaintext sum of the recorded updates over the survivors, coordinate by coordinate.
//!
//! With [`crate::engine`]'s updates the sum of whole grid points is an exact integer. The next adapter is that sum over
//! 2¹⁶, divided by the survivors, on top of the last one, in f64 and rounded once: two different integer sums always
//! give different adapters here (a difference is at least 2⁻¹⁶/4, a rounding at most 2⁻²³), so adapters that are equal bit
//! by bit have equal integer sums.

use blindsum_adapter::server;

use crate::engine::{GRID, grid_points};
use crate::seams;
use crate::site::{SILOS, Site};

/// The adapter after a round: whole grid points summed as integers over `updates`, then the server step.
pub fn next(previous: &[f32], updates: &[Vec<f32>]) -> Vec<f32> {
    let mut sum = vec![0i64; previous.len()];
    for update in updates {
        sum.iter_mut().zip(grid_points(update)).for_each(|(sum, point)| *sum += point);
    }
    let sum: Vec<f64> = sum.into_iter().map(|points| points as f64 / GRID).collect();
    server::fed_avg(previous, &sum, u32::try_from(updates.len()).unwrap())
}

/// Bits, for comparison.
pub fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Checks every finished round of `site` against the records, and returns the survivors of each.
///
/// The adapter that each silo adopted, and in the end the one that the coordinator published, is bit by bit what the
/// recorded updates of the survivors add up to; held-out rows in the sum are those of the survivors.
///
/// # Panics
/// If not.
pub fn check(site: &Site) -> Vec<Vec<String>> {
    let plan = site.plan();
    let mut global = plan.initial_global().to_vec();
    let mut all = Vec::new();
    for line in site.history() {
        let place = |name: &String| SILOS.iter().position(|silo| silo == name).unwrap();
        let held_out: u64 = line.survivors.iter().map(|name| 1 << place(name)).sum();
        assert_eq!(line.held_out_examples, Some(held_out), "round {}: {:?}", line.round, line.survivors);
        if line.kind == "train" {
            let update = |name: &String| {
                let update = seams::read(&site.record(name), &seams::updated(line.round));
                update.unwrap_or_else(|| panic!("{name} is in round {} but trained nothing", line.round))
            };
            let updates: Vec<Vec<f32>> = line.survivors.iter().map(update).collect();
            let moved = updates.iter().all(|update| update.iter().filter(|x| **x != 0.0).count() > 1000);
            assert!(moved, "an update without values would make every sum right");
            global = next(&global, &updates);
        }
        let mut adopters = 0;
        for silo in SILOS {
            if let Some(adopted) = seams::read(&site.record(silo), &seams::adopted(line.round)) {
                assert_eq!(bits(&adopted), bits(&global), "{silo} adopted another adapter in round {}", line.round);
                adopters += 1;
            }
        }
        assert!(adopters >= usize::from(plan.quorum().q), "round {} was adopted by {adopters}", line.round);
        all.push(line.survivors);
    }
    assert_eq!(bits(&site.published()), bits(&global), "the coordinator published another adapter");
    all
}
