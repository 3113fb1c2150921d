//! The accountant against independent reference figures, and properties that any accountant has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use blindsum_privacy::rdp::{CalibrateError, calibrate, epsilon};
use blindsum_privacy::{Mechanism, MechanismError};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// One line of `dp_reference.csv`; its head says where the figures come from.
struct Row {
    q: f64,
    sigma: f64,
    steps: u64,
    delta: f64,
    eps: Option<f64>,
    eps_exact: Option<f64>,
    target: Option<f64>,
}

fn reference() -> Vec<Row> {
    let text = include_str!("dp_reference.csv");
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let number = |i: usize| record[i].parse::<f64>().ok();
        let (q, sigma, delta) = (number(0).unwrap(), number(1).unwrap(), number(3).unwrap());
        let steps = record[2].parse().unwrap();
        Row { q, sigma, steps, delta, eps: number(4), eps_exact: number(5), target: number(6) }
    });
    rows.collect()
}

#[test]
fn epsilon_agrees_with_the_reference() {
    let mut checked = 0;
    let mut worst: f64 = 0.0;
    for row in reference() {
        let Some(expected) = row.eps else { continue };
        let found = epsilon(row.q, row.sigma, row.steps, row.delta);
        let error = if expected == 0.0 { found } else { (found / expected - 1.0).abs() };
        assert!(error < 1e-6, "q {} sigma {} steps {}: {found} for {expected}", row.q, row.sigma, row.steps);
        worst = worst.max(error);
        checked += 1;
    }
    println!("{checked} figures, largest relative difference {worst:.1e}");
    assert_eq!(checked, 55);
}

#[test]
fn epsilon_is_never_below_the_truth() {
    let rows = reference();
    let exact: Vec<_> = rows.iter().filter_map(|row| row.eps_exact.map(|exact| (row, exact))).collect();
    assert_eq!(exact.len(), 15);
    for (row, exact) in exact {
        assert!(epsilon(row.q, row.sigma, row.steps, row.delta) >= exact, "q {} sigma {}", row.q, row.sigma);
    }
}

#[test]
fn calibration_agrees_with_the_reference_and_keeps_the_target() {
    let mut checked = 0;
    for row in reference() {
        let Some(target) = row.target else { continue };
        let sigma = calibrate(row.q, row.steps, target, row.delta).unwrap();
        // The reference prints six digits.
        assert!((sigma / row.sigma - 1.0).abs() < 5e-6, "q {} target {target}: {sigma} for {}", row.q, row.sigma);
        let spent = epsilon(row.q, sigma, row.steps, row.delta);
        assert!(spent <= target, "{spent} above {target}");
        assert!(spent > target * (1.0 - 1e-5), "noise is wasted: {spent} of {target}");
        checked += 1;
    }
    assert_eq!(checked, 45);
}

#[test]
fn calibration_is_quick() {
    let start = Instant::now();
    calibrate(0.0089, 10_000, 6.0, 1e-5).unwrap();
    let took = start.elapsed();
    println!("one calibration: {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
}

#[test]
fn the_ends_are_what_they_must_be() {
    assert_eq!(epsilon(0.01, 1.0, 0, 1e-5), 0.0);
    assert_eq!(epsilon(0.0, 1.0, 1000, 1e-5), 0.0);
    for q in [1e-300, 1e-9, 0.01, 0.999_999_999, 1.0] {
        for sigma in [f64::MIN_POSITIVE, 1e-200, 1e-160] {
            assert_eq!(epsilon(q, sigma, 1, 1e-5), f64::INFINITY, "q {q} sigma {sigma}");
        }
        assert!(epsilon(q, 1e-3, u64::MAX, 1e-5) > 1e6);
        assert!(epsilon(q, 1e300, 1, 1e-5) < 0.01);
    }
    assert!(epsilon(1e-9, 1.0, 1000, 1e-5).is_finite());
    for (q, sigma, delta) in [
        (-0.1, 1.0, 1e-5),
        (1.1, 1.0, 1e-5),
        (f64::NAN, 1.0, 1e-5),
        (0.1, 0.0, 1e-5),
        (0.1, -1.0, 1e-5),
        (0.1, f64::NAN, 1e-5),
        (0.1, 1.0, 0.0),
        (0.1, 1.0, 1.0),
        (0.1, 1.0, f64::NAN),
    ] {
        assert_eq!(epsilon(q, sigma, 1, delta), f64::INFINITY, "{q} {sigma} {delta}");
    }
}

/// Where integration gives way to chords, ε may only become larger, and by little.
#[test]
fn the_bound_below_the_quadrature_floor_continues_the_curve() {
    for q in [1e-6, 0.01, 0.5, 0.99] {
        let above = epsilon(q, 0.1, 1, 1e-5);
        let below = epsilon(q, 0.1 - 1e-12, 1, 1e-5);
        assert!(below >= above * (1.0 - 1e-9) && below < above * 3.0, "q {q}: {below} after {above}");
    }
}

/// For q = 1 the quadrature is not used; approaching it must meet the closed form.
#[test]
fn sampling_almost_everything_is_close_to_no_sampling() {
    for sigma in [0.5, 1.0, 7.0] {
        let (all, most) = (epsilon(1.0, sigma, 3, 1e-6), epsilon(1.0 - 1e-12, sigma, 3, 1e-6));
        assert!((most / all - 1.0).abs() < 1e-8, "{most} {all}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, rng_seed: RngSeed::Fixed(2019), ..ProptestConfig::default() })]

    #[test]
    fn epsilon_is_monotone(
        ln_q in -12.0f64..0.0, ln_sigma in -4.0f64..4.0, steps in 1u64..100_000, ln_delta in -25.0f64..-2.0,
        more in 1.0f64..3.0,
    ) {
        let (q, sigma, delta) = (ln_q.exp(), ln_sigma.exp(), ln_delta.exp());
        let here = epsilon(q, sigma, steps, delta) * (1.0 - 1e-9) - 1e-9;
        prop_assert!(epsilon((q * more).min(1.0), sigma, steps, delta) >= here, "in q");
        prop_assert!(epsilon(q, sigma / more, steps, delta) >= here, "in sigma");
        prop_assert!(epsilon(q, sigma, (steps as f64 * more) as u64, delta) >= here, "in steps");
        prop_assert!(epsilon(q, sigma, steps, delta / more) >= here, "in delta");
    }

    #[test]
    fn calibration_stays_within_its_target(
        ln_q in -8.0f64..0.0, steps in 1u64..20_000, target in 0.05f64..20.0, ln_delta in -18.0f64..-4.0,
    ) {
        let (q, delta) = (ln_q.exp(), ln_delta.exp());
        match calibrate(q, steps, target, delta) {
            Ok(sigma) => prop_assert!(epsilon(q, sigma, steps, delta) <= target),
            Err(error) => prop_assert!(false, "{error}"),
        }
    }
}

#[test]
fn targets_out_of_reach_are_refused() {
    let error = calibrate(0.01, 1000, 1e-4, 1e-9).unwrap_err();
    assert!(matches!(error, CalibrateError::Unreachable { .. }), "{error}");
    for (q, steps, target, delta) in [
        (0.0, 1, 1.0, 1e-5),
        (2.0, 1, 1.0, 1e-5),
        (0.1, 0, 1.0, 1e-5),
        (0.1, 1, 0.0, 1e-5),
        (0.1, 1, f64::INFINITY, 1e-5),
    ] {
        assert!(matches!(calibrate(q, steps, target, delta), Err(CalibrateError::Argument { .. })));
    }
    assert!(matches!(calibrate(0.1, 1, 1.0, f64::NAN), Err(CalibrateError::Argument { name: "delta", .. })));
}

#[test]
fn what_is_proposed_keeps_what_it_says() {
    let job = Mechanism::propose(2300, 96, 100, 6.0, 1e-5).unwrap();
    assert_eq!(job.q, 0.04174);
    assert!(job.epsilon() <= 6.0 && job.epsilon() > 5.99, "{}", job.epsilon());
    assert_eq!(job.spent(0), 0.0);
    assert!(job.spent(50) < job.spent(100) && job.spent(102) > 6.0);
    assert!(Mechanism::propose(8000, 96, 100, 6.0, 1e-5).unwrap().noise_multiplier < job.noise_multiplier);
    assert_eq!(job.keeps(6.0), Ok(job));
    let error = job.keeps(5.9).unwrap_err().to_string();
    assert!(error.contains("stated as 5.9") && error.contains("blindsum-silo plan"), "{error}");
    assert!(matches!(Mechanism::propose(95, 96, 100, 6.0, 1e-5), Err(MechanismError::Batch { .. })));
    assert!(matches!(Mechanism::propose(96, 0, 100, 6.0, 1e-5), Err(MechanismError::Batch { .. })));
    assert!(matches!(Mechanism::propose(960, 96, 100, 6.0, f64::NAN), Err(MechanismError::Calibrate(_))));
}

#[test]
fn numbers_that_protect_nobody_are_refused_and_weak_ones_remarked() {
    for (q, noise, delta) in
        [(0.0, 1.0, 1e-5), (1.1, 1.0, 1e-5), (0.1, 0.0, 1e-5), (0.1, f64::NAN, 1e-5), (0.1, 1.0, 1.0)]
    {
        assert!(matches!(Mechanism::new(q, noise, 100, delta, 100), Err(MechanismError::Number { .. })));
    }
    let job = Mechanism::new(0.1, 1.0, 100, 1e-3, 1000).unwrap();
    assert_eq!(job.allows(1000), Err(MechanismError::Delta { delta: 1e-3, records: 1000, unit: "record" }));
    assert_eq!(job.allows(999), Ok(()));
    assert_eq!(job.remarks(50), [""; 0]);
    assert!(job.remarks(990)[0].contains("99 % of 1/990"), "{:?}", job.remarks(990));
    assert!(Mechanism::new(0.1, 0.3, 100, 1e-5, 100).unwrap().remarks(50)[0].contains("weak promise"));
    assert_eq!(Mechanism::new(1.0, 1e-9, 1, 1e-5, 100).unwrap().keeps(f64::INFINITY).map(|m| m.q), Ok(1.0));
}

#[test]
fn a_silo_whose_batches_would_be_cut_is_refused() {
    let job = Mechanism::propose(2300, 96, 100, 6.0, 1e-5).unwrap();
    assert!(job.batch_max > 4 * 96 && job.batch_max < 6 * 96, "{}", job.batch_max);
    assert_eq!(job.allows(4 * 2300), Ok(()));
    let error = job.allows(6 * 2300).unwrap_err();
    assert!(matches!(error, MechanismError::Cut { .. }) && error.to_string().contains("batch_max = "), "{error}");
    // What the bound says against the exact probability, term by term.
    let (n, q, most) = (1000u64, 0.05, 90u64);
    let ln_term = |k: u64| {
        let ln_choose = libm::lgamma((n + 1) as f64) - libm::lgamma((k + 1) as f64) - libm::lgamma((n - k + 1) as f64);
        ln_choose + k as f64 * f64::ln(q) + (n - k) as f64 * f64::ln(1.0 - q)
    };
    let exact: f64 = (most + 1..=n).map(|k| ln_term(k).exp()).sum();
    let narrow = |batch_max| Mechanism::new(q, 2.0, 1, 1e-3, batch_max).unwrap().allows(n - 1);
    // The cost that is allowed is a hundredth of δ, 1e-5; (1 + e^ε)·τ must be below it.
    let cost = exact * (1.0 + Mechanism::new(q, 2.0, 1, 1e-3, 90).unwrap().epsilon().exp());
    assert!(cost < 1e-5 && narrow(90).is_ok() && narrow(60).is_err(), "{cost:e}");
}

#[test]
fn noise_on_counts_keeps_what_it_is_calibrated_for() {
    for (times, epsilon, delta) in [(1, 6.0, 1e-5), (23, 6.0, 1e-5), (120, 1.0, 1e-6), (3, 20.0, 1e-5)] {
        let noise = blindsum_privacy::counts_noise(times, epsilon, delta).unwrap();
        let spent = |noise| blindsum_privacy::spent(1.0, noise, u64::from(times), delta);
        assert!(spent(noise) <= epsilon && spent(0.99 * noise) > epsilon, "{times} {epsilon}");
    }
    assert!(blindsum_privacy::counts_noise(0, f64::NAN, 1e-5).is_err());
}
