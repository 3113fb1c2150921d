//! Draws per second on one core: a row per generator and σ, the median and the best of repeated runs.
//!
//! ```text
//! cargo bench -p blindsum-privacy --bench draws
//! ```
//!
//! Contract: everything runs on the one thread that this program has, through `RoundedGaussian::fill`, with generators
//! seeded by the operating system. A draw's cost includes its random words. Nothing fails on a slow machine; the row
//! that has a target (4 million draws per second) says whether it was met.

use std::hint::black_box;
use std::time::Instant;

use blindsum_privacy::PoissonSampler;
use blindsum_privacy::noise::RoundedGaussian;
use rand::rngs::SysRng;
use rand_chacha::{ChaCha8Rng, ChaCha12Rng, ChaCha20Rng};
use rand_core::{CryptoRng, SeedableRng};

const DRAWS: usize = 1 << 16;
const RUNS: usize = 75;
const TARGET: f64 = 4e6;

fn main() {
    println!("{:<44} {:>12} {:>12}   target", "work", "median/s", "best/s");
    generator::<ChaCha8Rng>("ChaCha8");
    generator::<ChaCha12Rng>("ChaCha12");
    generator::<ChaCha20Rng>("ChaCha20");
    let mut rng = seeded::<ChaCha12Rng>();
    let sampler = PoissonSampler::new(0.01).expect("a rate");
    row("Poisson sampling, records, ChaCha12", None, || drop(black_box(sampler.sample(DRAWS, &mut rng))));
}

fn seeded<R: SeedableRng>() -> R {
    R::try_from_rng(&mut SysRng).expect("randomness of the operating system")
}

fn generator<R: SeedableRng + CryptoRng>(name: &str) {
    let (mut rng, mut noise) = (seeded::<R>(), vec![0; DRAWS]);
    for (label, sigma) in [("1/16", 0.0625), ("4", 4.0), ("64", 64.0), ("2^20", 1_048_576.0), ("2^30", 1_073_741_824.0)]
    {
        let law = RoundedGaussian::new(sigma).expect("a standard deviation");
        row(&format!("rounded Gaussian, sigma = {label}, {name}"), Some(TARGET), || {
            law.fill(&mut rng, black_box(&mut noise));
        });
    }
}

/// Times `work`, which makes [`DRAWS`] of something.
fn row(name: &str, target: Option<f64>, mut work: impl FnMut()) {
    let mut rates: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            DRAWS as f64 / start.elapsed().as_secs_f64()
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    let (median, best) = (rates[RUNS / 2], rates[RUNS - 1]);
    let met = target.map_or("", |target| if median >= target { "met" } else { "missed" });
    println!("{name:<44} {median:>12.0} {best:>12.0}   {met}");
}
