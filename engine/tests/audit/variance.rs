//! The noise at the end of the way: through clip, optimiser, rounding to fixed point, masks, and the decoded sum.

use blindsum_engine::Engine;
use blindsum_engine::local::{StepPrivacy, TrainSpec};
use blindsum_testkit::cluster::Cluster;
use blindsum_testkit::{DP, Setup, job_text};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use crate::known::{Known, row, unit};
use crate::statistics::moments;
use crate::{Found, judged};

const SILOS: u16 = 4;
const ROWS: usize = 640;
/// By how much the variance may miss, relatively: 4.7 standard errors over 49,151 coordinates.
const TOLERANCE: f64 = 0.03;

/// Bits of a value on the way: as jobs have it, and so few that rounding counts.
const BITS: [u32; 2] = [16, 6];

/// A job over the adapter that `Known` has, with the bound that a plan computes.
fn job(bits: u32) -> String {
    job_text(1, DP, "off")
        .replace("coordinate_bound = 32767.0\n", "")
        .replace("r = 2\nlora_alpha = 4.0", "r = 32\nlora_alpha = 8.0")
        .replace("\"value\"]", "\"value\", \"key\"]")
        .replace("\"trained\"", "\"frozen\"")
        .replace("value_bits = 16", &format!("value_bits = {bits}"))
}

/// The variance of the decoded sum is n · steps · (σ · C · learning rate / divisor)², and what rounding adds.
pub fn of_the_decoded_sum() -> Found {
    let figures: Vec<String> = BITS.into_iter().map(measured).collect::<Result<_, _>>()?;
    Ok(figures.join("\n"))
}

fn measured(bits: u32) -> Found {
    let mut engine = Known::wide();
    let job = toml::from_str(&job(bits)).unwrap();
    let setup = Setup::over("wards", SILOS, &job, engine.layout());
    let spec = TrainSpec::derive(&job.local_training()).unwrap().0;
    let bound = setup.plan.coordinate_bound();
    let mut cluster = Cluster::new(setup);
    let mut drawn = 0;
    for silo in cluster.setup.roster.ids() {
        // all that the rows add is in the first coordinate
        let mut rng = ChaCha12Rng::seed_from_u64(10 + u64::from(silo.0));
        let update = engine.round(vec![row(&[0], 7); ROWS], spec, &mut rng);
        drawn += update.drawn;
        cluster.updates.insert(silo, update.values);
    }
    cluster.finish();
    let report = &cluster.reports[0];
    assert!(report.survivors.len() == usize::from(SILOS) && report.saturated_share == 0.0, "{report:?}");
    // the mean of the silos' updates moves an adapter of zeros
    let sum: Vec<f64> = report.global.iter().map(|&x| f64::from(x) * f64::from(SILOS)).collect();
    assert_eq!(sum.len(), engine.len());
    let StepPrivacy::RecordDp { noise_multiplier, .. } = spec.privacy else { panic!("the job is private") };
    let n = f64::from(SILOS);
    let noise = n * f64::from(spec.local_steps) * (noise_multiplier * unit(&spec)).powi(2);
    // a fraction f of a step is rounded up with probability f: variance f(1 − f), which is 1/6 on average
    let rounding = n * (bound / f64::from((1 << (bits - 1)) - 1)).powi(2) / 6.0;
    let (_, variance) = moments(sum[1..].iter().copied());
    let misses = (variance / (noise + rounding) - 1.0).abs();
    let moved = (sum[0] - drawn as f64 * unit(&spec)).abs() / (noise + rounding).sqrt();
    let figure = format!(
        "{} coordinates of a decoded sum of {SILOS}, {bits} bits: variance off by {:.2} % (rounding is {:.1e} of it); {drawn} \
         rows moved theirs by their clip, within {moved:.2} standard deviations",
        sum.len() - 1,
        100.0 * misses,
        rounding / (noise + rounding)
    );
    judged(misses <= TOLERANCE && moved < 5.0, figure)
}

#[test]
fn the_decoded_sum_has_the_variance_that_is_accounted() {
    println!("{}", of_the_decoded_sum().unwrap());
}
