//! White-box audit in one run (Steinke et al. 2023; Nasr et al. 2023): canaries with a coordinate each, half of them rows.

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use crate::known::{Known, demo, row, spec};
use crate::statistics::moments;
use crate::{Found, judged};

const CANARIES: usize = 4_000;
/// By how much the shift may miss, relatively: four standard errors.
const TOLERANCE: f64 = 0.10;

/// A canary that was inserted shifts its coordinate by 1/σ standard deviations of the noise: no more, or the accountant's
/// σ is not the one that protects; no less, or the audit does not see.
pub fn shift_by_one_over_sigma() -> Found {
    let sigma = demo()["privacy"]["noise_multiplier"].as_float().unwrap();
    let mut coin = ChaCha12Rng::seed_from_u64(1);
    let inserted: Vec<bool> = (0..CANARIES).map(|_| coin.next_u32() & 1 == 1).collect();
    // far longer than the clip norm, as whoever makes a canary would have it
    let rows = (0..CANARIES).filter(|&i| inserted[i]).map(|i| row(&[i], 7)).collect();
    let released = Known::wide().released(rows, spec(1.0, sigma, 1), 2);
    let of = |wanted| {
        let chosen = released.iter().zip(&inserted).filter(move |(_, inserted)| **inserted == wanted);
        moments(chosen.map(|(x, _)| *x))
    };
    let ((with, spread), (without, other_spread)) = (of(true), of(false));
    let shift = (with - without) / (0.5 * (spread + other_spread)).sqrt();
    let misses = (shift * sigma - 1.0).abs();
    let figure = format!(
        "{CANARIES} canaries: mean shift {shift:.4}, 1/sigma {:.4}: off by {:.2} %",
        1.0 / sigma,
        100.0 * misses
    );
    judged(misses <= TOLERANCE, figure)
}

#[test]
fn an_inserted_canary_shifts_its_coordinate_by_one_over_sigma() {
    println!("{}", shift_by_one_over_sigma().unwrap());
}
