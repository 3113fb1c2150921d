//! The accountant against independent reference figures, and properties that any accountant has.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use blindsum_privacy::rdp::{CalibrateError, calibrate, epsilon};
use blindsum_privacy::{DeriveError, SiloPrivacy};
use proptest::prelude::*;

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
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

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
fn a_silo_derives_its_own_rate_and_noise() {
    let silo = SiloPrivacy::derive(2000, 96, 100, 6.0, 1e-5).unwrap();
    assert_eq!(silo.q, 0.048);
    assert!(silo.spent(100) <= 6.0 && silo.spent(100) > 5.99);
    assert_eq!(silo.spent(0), 0.0);
    assert!(silo.spent(50) < silo.spent(100) && silo.spent(101) > 6.0);
    let larger = SiloPrivacy::derive(8000, 96, 100, 6.0, 1e-5).unwrap();
    assert!(larger.noise_multiplier < silo.noise_multiplier);
    assert_eq!(silo.within(silo.noise_multiplier), Ok(silo));
    let error = silo.within(silo.noise_multiplier - 0.01).unwrap_err().to_string();
    assert!(error.contains("4.80 % of the training records") && error.contains("noise_multiplier_max"), "{error}");
}

#[test]
fn a_silo_refuses_what_would_not_protect_its_records() {
    let derive = |records, batch, delta| SiloPrivacy::derive(records, batch, 100, 6.0, delta);
    assert_eq!(derive(1000, 96, 1e-3), Err(DeriveError::Delta { delta: 1e-3, records: 1000 }));
    assert!(derive(1000, 96, 0.999e-3).is_ok());
    assert!(matches!(derive(959, 96, 1e-5), Err(DeriveError::TooFewRecords { .. })));
    assert!(derive(960, 96, 1e-5).is_ok());
    assert!(matches!(derive(0, 96, 1e-5), Err(DeriveError::TooFewRecords { .. })));
    assert!(matches!(derive(u64::MAX, u64::MAX, 1e-30), Err(DeriveError::TooFewRecords { .. })));
    assert_eq!(derive(1000, 0, 1e-5), Err(DeriveError::ExpectedBatch(0)));
    assert!(matches!(derive(1000, 96, f64::NAN), Err(DeriveError::Calibrate(_))));
}
