//! What an observer reads from the spread of a silo's noise: nothing about how many records the silo has.
//!
//! The attack: a silo's update of rows whose gradients are known, or small, is noise. Whoever sees many coordinates of it
//! measures its variance to √(2/samples); if the noise came from the row count, that tells neighbours apart, whatever ε
//! was claimed.

use blindsum_privacy::Mechanism;

/// Coordinates of one update, and updates of one job.
const SAMPLES: f64 = 36_864.0 * 100.0;

/// How often an observer who orders two updates by their spread is right, one made under each mechanism: the area under
/// the curve of true against false positives. Sums of so many squares are Gaussian to all digits that matter here.
fn told_apart(one: &Mechanism, other: &Mechanism) -> f64 {
    let variances = (one.noise_multiplier / other.noise_multiplier).powi(2);
    let deviations = (variances - 1.0).abs() / (2.0 / SAMPLES).sqrt() / std::f64::consts::SQRT_2;
    0.5 * libm::erfc(-deviations / std::f64::consts::SQRT_2)
}

#[test]
fn noise_from_the_row_count_tells_neighbours_apart_and_the_jobs_does_not() {
    let epsilon = 1.0;
    // Each silo deriving noise from its own rows: ε = 1 allows an area of 0.73 at most.
    let from_rows = |rows| Mechanism::propose(rows, 96, 100, epsilon, 1e-5).unwrap();
    let area = told_apart(&from_rows(1_000), &from_rows(1_001));
    assert!(area > 0.85, "the attack works where noise comes from the row count: {area}");
    // The job's numbers, for silos of any size.
    let job = from_rows(1_000);
    let silo = |records: u64| {
        job.allows(records).unwrap();
        Mechanism::new(job.q, job.noise_multiplier, job.steps, job.delta, job.batch_max)
            .unwrap()
            .keeps(epsilon)
            .unwrap()
    };
    assert_eq!(told_apart(&silo(1_000), &silo(1_001)), 0.5);
}
