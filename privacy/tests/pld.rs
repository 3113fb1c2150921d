//! Privacy loss distributions against others' accountants, against exact integrals, and under hostile arguments.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use blindsum_privacy::pld::{SgdPhase, calibrate, compose, delta, epsilon, group_epsilon};
use blindsum_privacy::rdp::{self, CalibrateError};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

/// One line of `pld_reference.csv`; its head says where the figures come from.
struct Row {
    q: f64,
    sigma: Option<f64>,
    steps: u64,
    delta: f64,
    pessimistic: Option<f64>,
    /// Others' lower bounds, and the exact value.
    lower: Vec<f64>,
    exact: Option<f64>,
    target: Option<f64>,
    sigma_pld: Option<f64>,
}

fn reference() -> Vec<Row> {
    let text = include_str!("pld_reference.csv");
    let mut reader = csv::ReaderBuilder::new().comment(Some(b'#')).from_reader(text.as_bytes());
    let rows = reader.records().map(|record| {
        let record = record.unwrap();
        let number = |i: usize| record[i].parse::<f64>().ok();
        let lower = [4, 7, 10].into_iter().filter_map(number).collect();
        let steps = record[2].parse().unwrap();
        Row {
            q: number(0).unwrap(),
            sigma: number(1),
            steps,
            delta: number(3).unwrap(),
            pessimistic: number(5),
            lower,
            exact: number(10),
            target: number(11),
            sigma_pld: number(12),
        }
    });
    rows.collect()
}

/// The reference rounds to 8 digits.
const PRINTED: f64 = 5e-8;

#[test]
fn epsilon_agrees_with_the_reference() {
    let (mut checked, mut close, mut exact) = (0, 0, 0);
    for row in reference() {
        let (Some(sigma), Some(pessimistic)) = (row.sigma, row.pessimistic) else { continue };
        let found = epsilon(row.q, sigma, row.steps, row.delta);
        let at = format!("q {} sigma {sigma} steps {}: {found}", row.q, row.steps);
        assert!(found <= pessimistic * (1.0 + 1e-4), "{at} above {pessimistic}");
        for lower in row.lower {
            assert!(found >= lower * (1.0 - PRINTED), "{at} below {lower}");
        }
        if let Some(truth) = row.exact {
            assert!(found <= truth * (1.0 + 1e-4), "{at} far above {truth}");
            exact += 1;
        }
        assert!(found <= rdp::epsilon(row.q, sigma, row.steps, row.delta), "{at} above Rényi accounting");
        close += usize::from(found >= pessimistic * (1.0 - 1e-4));
        checked += 1;
    }
    println!("{checked} figures, {close} within 1e-4 of the reference's upper bound, the others closer to the truth");
    // In nine rows the reference's own grid is coarser than that: many steps, or ε far below 1.
    assert_eq!((checked, close, exact), (55, 46, 15));
}

#[test]
fn calibration_agrees_with_the_reference_and_keeps_the_target() {
    let mut checked = 0;
    // Every third, for time.
    for row in reference().into_iter().step_by(3) {
        let (Some(target), Some(expected)) = (row.target, row.sigma_pld) else { continue };
        let sigma = calibrate(row.q, row.steps, target, row.delta).unwrap();
        assert!((sigma / expected - 1.0).abs() < 2e-4, "q {} target {target}: {sigma} for {expected}", row.q);
        let spent = epsilon(row.q, sigma, row.steps, row.delta);
        assert!(spent <= target && spent > target * (1.0 - 1e-4), "q {}: {spent} of {target}", row.q);
        assert_eq!(sigma, format!("{sigma:.5e}").parse().unwrap(), "more than six digits");
        assert!(sigma < rdp::calibrate(row.q, row.steps, target, row.delta).unwrap());
        checked += 1;
    }
    assert_eq!(checked, 15);
}

/// Losses of one step, exactly.
struct Exact {
    sigma: f64,
    weights: Vec<f64>,
}

fn tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

impl Exact {
    fn new(q: f64, sigma: f64, k: i32) -> Self {
        let mut binomial = 1.0;
        let weight = |j: i32| {
            if j > 0 {
                binomial *= f64::from(k - j + 1) / f64::from(j);
            }
            binomial * q.powi(j) * (1.0 - q).powi(k - j)
        };
        Exact { sigma, weights: (0..=k).map(weight).collect() }
    }

    fn sum(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.weights.iter().enumerate().map(|(j, weight)| weight * f(j as f64)).sum()
    }

    fn g(&self, z: f64) -> f64 {
        self.sum(|j| (j * z / self.sigma - j * j / 2.0 / self.sigma / self.sigma).exp()).ln()
    }

    /// Where g reaches a value; minus infinity where it is above it everywhere.
    fn inverse(&self, value: f64) -> f64 {
        let (mut low, mut high) = (-60.0, 60.0 + 60.0 / self.sigma);
        if self.weights[0] > 0.0 && value <= self.weights[0].ln() {
            return f64::NEG_INFINITY;
        }
        for _ in 0..100 {
            let middle = 0.5 * (low + high);
            if self.g(middle) < value { low = middle } else { high = middle }
        }
        high
    }

    /// δ(ε) for taking records out and for putting them in.
    fn deltas(&self, epsilon: f64) -> [f64; 2] {
        let z = self.inverse(epsilon);
        let removed = self.sum(|j| tail(z - j / self.sigma)) - epsilon.exp() * tail(z);
        let z = self.inverse(-epsilon);
        let added = tail(-z) - epsilon.exp() * self.sum(|j| tail(j / self.sigma - z));
        [removed, added]
    }

    /// δ(ε) of this step and another, in both directions, by the trapezoidal rule over this one's noise.
    fn deltas_with(&self, other: &Exact, epsilon: f64) -> [f64; 2] {
        let step = 1e-2 * self.sigma.min(1.0);
        let count = ((20.0 + 3.0 / self.sigma) / step) as usize;
        let mut sums = [0.0; 2];
        for i in 0..count {
            let z = i as f64 * step - 10.0;
            let g = self.g(z);
            let density = (-z * z / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt() * step;
            sums[0] += density * g.exp() * other.deltas(epsilon - g)[0];
            sums[1] += density * other.deltas(epsilon + g)[1];
        }
        sums
    }
}

/// ε holds, and one that is less by 1e-4 does not.
fn assert_tight(found: f64, delta: f64, exact: impl Fn(f64) -> [f64; 2], at: &str) {
    let larger = |epsilon: f64| exact(epsilon).into_iter().fold(f64::MIN, f64::max);
    assert!(larger(found) <= delta * (1.0 + 1e-9), "{at}: {found} has δ {}", larger(found));
    let less = found * (1.0 - 1e-4) - 1e-9;
    assert!(less < 0.0 || larger(less) >= delta * (1.0 - 1e-9), "{at}: {found} is loose: δ {}", larger(less));
}

#[test]
fn two_different_steps_compose_as_their_integral_says() {
    for ((q1, s1), (q2, s2), delta) in [
        ((0.1, 1.0), (0.1, 1.0), 1e-5),
        ((0.01, 0.7), (0.2, 2.0), 1e-6),
        ((0.5, 1.5), (0.02, 0.6), 1e-4),
        ((1.0, 2.0), (0.3, 1.0), 1e-5),
        ((0.9, 3.0), (1.0, 4.0), 1e-3),
    ] {
        let phases = [(q1, s1), (q2, s2)].map(|(q, sigma)| SgdPhase { q, sigma, steps: 1 });
        let (first, second) = (Exact::new(q1, s1, 1), Exact::new(q2, s2, 1));
        let found = compose(&phases, delta);
        assert_tight(found, delta, |epsilon| first.deltas_with(&second, epsilon), &format!("{phases:?}"));
    }
}

#[test]
fn groups_compose_as_their_integral_says() {
    for (q, sigma, k, delta) in [(0.05, 1.0, 3, 1e-5), (0.3, 4.0, 10, 1e-6), (0.9, 6.0, 2, 1e-4), (1.0, 5.0, 2, 1e-5)] {
        let exact = Exact::new(q, sigma, k as i32);
        let group = |steps| group_epsilon(&[SgdPhase { q, sigma, steps }], k, delta);
        assert_tight(group(1), delta, |epsilon| exact.deltas(epsilon), "one step");
        assert_tight(group(2), delta, |epsilon| exact.deltas_with(&exact, epsilon), "two steps");
    }
}

/// The demo's silo of 2,464 records, 96 expected in each of 100 steps; its noise was calibrated by Rényi accounting.
#[test]
fn the_demo_spends_less_than_renyi_accounting_says() {
    let q = 96.0 / 2464.0;
    let sigma = rdp::calibrate(q, 100, 6.0, 1e-5).unwrap();
    let phases = [SgdPhase { q, sigma, steps: 100 }];
    let groups = [1, 2, 3, 5].map(|k| (group_epsilon(&phases, k, 1e-5) * 100.0).round() / 100.0);
    assert_eq!(groups, [5.10, 10.90, 17.14, 30.91]);
    assert_eq!(calibrate(q, 100, 6.0, 1e-5).unwrap(), 0.717997);
}

#[test]
fn phases_join_and_order_does_not_matter() {
    let phase = |q, sigma, steps| SgdPhase { q, sigma, steps };
    let whole = epsilon(0.02, 1.0, 300, 1e-6);
    assert_eq!(compose(&[phase(0.02, 1.0, 100), phase(0.0, 1.0, 9), phase(0.02, 1.0, 200)], 1e-6), whole);
    let (a, b) = (phase(0.02, 1.0, 100), phase(0.05, 2.0, 50));
    let (ab, ba) = (compose(&[a, b], 1e-6), compose(&[b, a], 1e-6));
    assert!((ab / ba - 1.0).abs() < 1e-9 && ab > compose(&[a], 1e-6) && ab < compose(&[a], 5e-7) + compose(&[b], 5e-7));
    // As a phase fades, it costs nothing.
    let faint = compose(&[a, phase(0.02, 1e5, 50)], 1e-6);
    assert!((faint / compose(&[a], 1e-6) - 1.0).abs() < 1e-4);
}

#[test]
fn small_deltas_are_no_smaller_epsilons() {
    // Where all are drawn, the loss is Gaussian: δ(ε) in closed form, far below what a plain FFT resolves.
    for exponent in [12, 30, 100, 250] {
        let small = 10f64.powi(-exponent);
        let found = epsilon(1.0, 20.0, 50, small);
        let s = 20.0 / 50f64.sqrt();
        let exact = |e: f64| {
            let (a, b) = (e * s - 0.5 / s, e * s + 0.5 / s);
            [tail(a) - e.exp() * tail(b); 2]
        };
        assert_tight(found, small, exact, &format!("1e-{exponent}"));
        let sampled = epsilon(0.05, 1.0, 50, small);
        assert!(sampled.is_finite() && sampled > found / 100.0);
        assert!(sampled < rdp::epsilon(0.05, 1.0, 50, small));
    }
}

#[test]
fn what_has_no_meaning_is_infinite_and_what_does_nothing_is_free() {
    for (q, sigma, d) in [
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
        assert_eq!(epsilon(q, sigma, 1, d), f64::INFINITY, "{q} {sigma} {d}");
        assert_eq!(group_epsilon(&[SgdPhase { q, sigma, steps: 1 }], 2, d), f64::INFINITY, "{q} {sigma} {d}");
    }
    assert_eq!([delta(2.0, 1.0, 1, 1.0), delta(0.1, 0.0, 1, 1.0), delta(0.1, 1.0, 1, f64::NAN)], [1.0; 3]);
    assert_eq!(delta(0.1, 1.0, 1, -1.0), 1.0);
    assert_eq!([epsilon(0.0, 1.0, 10, 1e-5), epsilon(0.1, 1.0, 0, 1e-5), compose(&[], 1e-5)], [0.0; 3]);
    assert_eq!([delta(0.0, 1.0, 10, 0.0), delta(0.1, 1.0, 0, 1.0)], [0.0; 2]);
    assert_eq!(group_epsilon(&[SgdPhase { q: 0.1, sigma: 1.0, steps: 5 }], 0, 1e-5), 0.0);
}

#[test]
fn hostile_arguments_neither_panic_nor_say_less() {
    for q in [1e-300, 0.01, 1.0] {
        for sigma in [f64::MIN_POSITIVE, 1e-3, 1.0, 1e6, f64::INFINITY] {
            for (steps, d) in [(1, 1e-300), (1, 0.999), (1_000_000_000, 1e-5), (u64::MAX, 1e-5)] {
                let found = epsilon(q, sigma, steps, d);
                assert!(found >= 0.0, "q {q} sigma {sigma} steps {steps} delta {d}: {found}");
                // One step at this rate alone spends as much.
                if sigma.is_normal() && sigma > 1e-2 && q > 1e-100 {
                    let least = Exact::new(q, sigma, 1).deltas(found).into_iter().fold(0.0, f64::max);
                    assert!(least <= d * (1.0 + 1e-6) + 1e-15, "q {q} sigma {sigma}: {found} has δ {least}");
                }
            }
        }
        assert!(delta(q, 1e-3, 1_000_000_000, 1.0) >= 0.0);
        let group = group_epsilon(&[SgdPhase { q, sigma: 1.0, steps: 10 }], u32::MAX, 1e-5);
        assert!(group >= 0.0);
    }
    assert!(epsilon(0.5, 1e-3, 1_000_000_000, 1e-5) > 1e12);
    assert_eq!(epsilon(1.0, 1e-170, 1, 1e-5), f64::INFINITY);
    let many: Vec<_> = (1..1000).map(|i| SgdPhase { q: 0.01, sigma: f64::from(i), steps: 1 }).collect();
    assert_eq!(compose(&many, 1e-5), f64::INFINITY);
}

#[test]
fn targets_out_of_reach_are_refused() {
    for (q, steps, target, d) in
        [(0.0, 1, 1.0, 1e-5), (2.0, 1, 1.0, 1e-5), (0.1, 0, 1.0, 1e-5), (0.1, 1, 0.0, 1e-5), (0.1, 1, 1.0, f64::NAN)]
    {
        assert!(matches!(calibrate(q, steps, target, d), Err(CalibrateError::Argument { .. })));
    }
    let error = calibrate(1.0, u64::MAX, 1.0, 1e-5).unwrap_err();
    assert!(matches!(error, CalibrateError::Unreachable { .. }), "{error}");
    assert_eq!(calibrate(1e-9, 1, 1.0, 1e-5), Ok(0.1));
}

proptest! {
    // The same cases everywhere: the library's own arithmetic is.
    #![proptest_config(ProptestConfig {
        cases: 12,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(2022),
        ..ProptestConfig::default()
    })]

    #[test]
    fn epsilon_is_monotone(
        ln_q in -9.0f64..0.0, ln_sigma in -1.0f64..3.0, steps in 1u64..5_000, ln_delta in -25.0f64..-3.0,
        more in 1.0f64..2.0,
    ) {
        let (q, sigma, delta) = (ln_q.exp(), ln_sigma.exp(), ln_delta.exp());
        // Another grid changes ε by what the grid adds.
        let here = epsilon(q, sigma, steps, delta) * (1.0 - 2e-5) - 1e-7;
        prop_assert!(epsilon((q * more).min(1.0), sigma, steps, delta) >= here, "in q");
        prop_assert!(epsilon(q, sigma / more, steps, delta) >= here, "in sigma");
        prop_assert!(epsilon(q, sigma, (steps as f64 * more) as u64, delta) >= here, "in steps");
        prop_assert!(epsilon(q, sigma, steps, delta / more) >= here, "in delta");
        let phase = SgdPhase { q, sigma, steps };
        prop_assert!(group_epsilon(&[phase], 2, delta) >= here, "in the size of a group");
    }

    #[test]
    fn one_step_is_exact(ln_q in -9.0f64..0.0, ln_sigma in -1.0f64..3.0, ln_delta in -25.0f64..-3.0) {
        let (q, sigma, d) = (ln_q.exp(), ln_sigma.exp(), ln_delta.exp());
        let exact = Exact::new(q, sigma, 1);
        let found = epsilon(q, sigma, 1, d);
        assert_tight(found, d, |epsilon| exact.deltas(epsilon), &format!("{q} {sigma} {d}"));
        let (truth, said) = (exact.deltas(0.5).into_iter().fold(0.0, f64::max), delta(q, sigma, 1, 0.5));
        // Near the largest loss of a direction no grid may be found, and δ is 1 then.
        let holds = said >= truth * (1.0 - 1e-9) && (said <= truth * 1.001 + 1e-15 || said == 1.0);
        prop_assert!(holds, "{} {} δ {} for {}", q, sigma, said, truth);
    }

    #[test]
    fn delta_undoes_epsilon(ln_q in -6.0f64..0.0, ln_sigma in -0.5f64..2.0, steps in 2u64..2_000) {
        let (q, sigma) = (ln_q.exp(), ln_sigma.exp());
        let found = epsilon(q, sigma, steps, 1e-6);
        prop_assume!(found > 1e-3 && found < 1e3);
        let back = delta(q, sigma, steps, found);
        prop_assert!((back / 1e-6 - 1.0).abs() < 5e-3, "{} {} {}: {} has {}", q, sigma, steps, found, back);
    }

    #[test]
    fn calibration_stays_within_its_target(
        ln_q in -6.0f64..0.0, steps in 1u64..3_000, target in 0.1f64..15.0, ln_delta in -18.0f64..-5.0,
    ) {
        let (q, delta) = (ln_q.exp(), ln_delta.exp());
        let sigma = calibrate(q, steps, target, delta).unwrap();
        let spent = epsilon(q, sigma, steps, delta);
        prop_assert!(spent <= target && (sigma == 0.1 || spent > target * (1.0 - 1e-3)), "{} of {}", spent, target);
    }
}
