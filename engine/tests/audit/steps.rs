//! What the accountant takes for granted about a step, looked at in what is released.

use std::collections::BTreeMap;

use blindsum_engine::Engine;
use blindsum_engine::data::{Columns, Goal, Reading, Tokens, UnitColumn};
use blindsum_engine::local::os_rng;
use blindsum_privacy::Mechanism;
use blindsum_privacy::pld::{self, SgdPhase};
use blindsum_testkit::models::write_tokenizer;

use crate::known::{Known, absent, row, spec};
use crate::statistics::moments;
use crate::{Found, judged};

/// Noise of 17 grid steps: hardly any.
const HARDLY: f64 = 1e-6;

/// A row moves the sum by its own clipped gradient, exactly, whatever the sum of the others: seen under the very same noise.
pub fn a_row_moves_the_sum_by_its_clip() -> Found {
    let mut engine = Known::wide();
    let last = engine.len() - 1;
    let mut sum = |added| {
        let rows = [vec![row(&[0], 1); 20], vec![added]].concat();
        engine.released(rows, spec(1.0, 1.0, 1), 5)
    };
    // far longer than all others together
    let (with, without) = (sum(row(&[0, last], 1_000)), sum(absent()));
    let moved: BTreeMap<usize, f64> =
        with.iter().zip(&without).map(|(a, b)| a - b).enumerate().filter(|(_, moved)| *moved != 0.0).collect();
    let own = |i| moved.get(&i).is_some_and(|by| (by - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-5);
    let norm = moved.values().map(|by| by * by).sum::<f64>().sqrt();
    judged(moved.len() == 2 && own(0) && own(last), format!("a row moved the sum by {norm:.6} of its clip: {moved:?}"))
}

/// One row more moves what is released by one clip norm over the public divisor.
pub fn the_divisor_is_public() -> Found {
    let mut engine = Known::narrow();
    let rows = vec![row(&[0], 9); 20];
    let more = [rows.clone(), vec![row(&[1], 9)]].concat();
    let (with, without) =
        (engine.released(more, spec(1.0, HARDLY, 1), 6), engine.released(rows, spec(1.0, HARDLY, 1), 7));
    let moved = with.iter().zip(&without).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    judged(
        (moved - 1.0).abs() < 1e-3,
        format!("one row more moved the release by {moved:.4} of a clip over the divisor"),
    )
}

/// Silos of different sizes have the same noise. What tells neighbours apart otherwise is in `privacy/tests/neighbours.rs`.
pub fn noise_knows_no_records() -> Found {
    let mut engine = Known::wide();
    let mut spread = |records, seed| {
        let released = engine.released(vec![absent(); records], spec(0.01, 1.0, 1), seed);
        moments(released.into_iter()).1
    };
    let ratio = spread(500, 8) / spread(1_000, 9);
    // five standard errors over 49,152 coordinates
    judged((ratio - 1.0).abs() < 0.045, format!("variance with 500 records is {ratio:.4} of that with 1,000"))
}

/// Batches have binomial sizes.
pub fn batches_are_poisson() -> Found {
    let (mut engine, steps, records, q) = (Known::narrow(), 2_000, 400, 0.05);
    engine.released(vec![absent(); records], spec(q, 1.0, steps), 10);
    let (mean, variance) = moments(engine.batches.iter().map(|&size| size as f64));
    let (due, n) = (records as f64 * q, f64::from(steps));
    let near = (mean - due).abs() < 5.0 * (due / n).sqrt()
        && (variance / due / (1.0 - q) - 1.0).abs() < 5.0 * (2.0 / n).sqrt();
    judged(
        near,
        format!("batches of {mean:.2} on average, {due} due; variance {variance:.2}, {:.2} due", due * (1.0 - q)),
    )
}

/// Two rounds have different noise.
pub fn noise_is_fresh() -> Found {
    let round = || Known::narrow().round(Vec::new(), spec(0.05, 1.0, 1), &mut os_rng().unwrap()).values;
    let (one, other) = (round(), round());
    let same = one.iter().zip(&other).filter(|(a, b)| a == b).count();
    // one of them once in a hundred thousand runs
    judged(same < 3, format!("{same} of {} coordinates have the same noise twice", one.len()))
}

/// A silo whose batches are cut as a rule takes no part; one with four times the guessed rows does.
pub fn cuts_are_charged() -> Found {
    let job = Mechanism::propose(3_900, 96, 100, 6.0, 1e-5).unwrap();
    let allows = |records| job.allows(records).is_ok();
    let mean = |records: u64| job.q * records as f64;
    judged(
        allows(4 * 3_900) && mean(30_000) > f64::from(job.batch_max) && !allows(30_000),
        format!("batches of {:.0} cut at {}: takes part: {}", mean(30_000), job.batch_max, allows(30_000)),
    )
}

/// Where every record is in every step, k records of one person are one whose noise is k times smaller.
pub fn groups_cost_more() -> Found {
    let (sigma, steps, delta) = (4.0, 10, 1e-5);
    let phase = [SgdPhase { q: 1.0, sigma, steps }];
    let pairs: Vec<(f64, f64)> = [2u32, 3, 5]
        .map(|k| (pld::group_epsilon(&phase, k, delta), pld::epsilon(1.0, sigma / f64::from(k), steps, delta)))
        .to_vec();
    judged(
        pairs.iter().all(|(group, exact)| (group / exact - 1.0).abs() < 1e-4),
        format!("groups, exactly: {pairs:.4?}"),
    )
}

/// Of a person with nine rows in a file the job's three count.
pub fn no_person_has_more_rows_than_count() -> Found {
    let dir = tempfile::tempdir().unwrap();
    write_tokenizer(dir.path(), true);
    let tokens = Tokens::open(&dir.path().join("tokenizer.json"), Known::narrow().layout().shape(), 16).unwrap();
    let path = dir.path().join("rows.csv");
    let rows: String = (0..9).map(|i| format!("w{i},ann\nw{i},p{i}\n")).collect();
    std::fs::write(&path, format!("text,who\n{rows}")).unwrap();
    let columns = Columns { unit: Some(UnitColumn { name: "who".to_owned(), rows_max: 3 }), ..Columns::default() };
    let read = Reading { columns: &columns, goal: Goal::Answer, tokens: &tokens }.read(&path).unwrap();
    let most = (0..read.units()).map(|i| read.rows.unit(i).len()).max();
    judged(
        most == Some(3) && read.units() == 10,
        format!("{} rows of {} persons, of one {most:?}", read.len(), read.units()),
    )
}

#[test]
fn steps_are_those_that_are_accounted() {
    let checks = [
        a_row_moves_the_sum_by_its_clip,
        the_divisor_is_public,
        noise_knows_no_records,
        batches_are_poisson,
        noise_is_fresh,
        cuts_are_charged,
        groups_cost_more,
        no_person_has_more_rows_than_count,
    ];
    checks.into_iter().for_each(|check| println!("{}", check().unwrap()));
}
