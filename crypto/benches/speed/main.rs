//! The speed of one session's arithmetic: one table, a row per piece of work, median and minimum over repeated runs.
//!
//! ```text
//! make bench-crypto                               the whole table
//! cargo bench -p blindsum-crypto -- silo          rows whose name holds "silo"
//! cargo bench -p blindsum-crypto -- --json FILE   the same figures for a script
//! ```
//!
//! Contract: every timed call runs on the one thread that this program has, through the functions that the machines call,
//! on fresh copies of its input (made outside the clock). A row with a target says so; nothing fails on a slow machine.

mod session;
mod table;

use blindsum_crypto::kernel::{self, Backend, Keystreams, ROWS};
use blindsum_crypto::mask::{self, MaskSeed, Sign, Stream};
use blindsum_crypto::shamir::{self, Interpolation, SecretScalar};
use blindsum_crypto::unmask;
use blindsum_crypto::{Segment, SiloId, fixed_point, packing, transcript};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use session::Session;
use std::hint::black_box;
use table::Table;

/// Silos of every row.
const SILOS: u16 = 16;
const SMALL: usize = 2_097_152;
const LARGE: usize = 16_777_216;

fn main() {
    let mut table = Table::from_args(std::env::args().skip(1));
    for (d, targets) in [(SMALL, [16.0, 40.0]), (LARGE, [140.0, 320.0])] {
        silo(&mut table, d, targets[0]);
        coordinator(&mut table, d, (d == SMALL).then_some(targets[1]));
    }
    kernels(&mut table, SMALL);
    shamir_rows(&mut table);
    table.finish();
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

fn segment(d: usize) -> Segment {
    Segment::fixed_point("lora_B", d as u32, 16, 0.5, SILOS).expect("parameters of the benchmark")
}

fn values(d: usize) -> Vec<f32> {
    let mut rng = rng();
    (0..d).map(|_| (f64::from(rng.next_u32()) / f64::from(u32::MAX) - 0.5) as f32 * 1.01).collect()
}

fn streams(count: u8) -> Vec<Stream> {
    let sign = |i| if i % 2 == 0 { Sign::Add } else { Sign::Subtract };
    (0..count).map(|i| Stream { seed: MaskSeed::from_bytes([i + 1; 32]), sign: sign(i) }).collect()
}

/// P3 at a silo: clip and quantise, self mask and a pair mask with each of 15 peers, pack.
fn silo(table: &mut Table, d: usize, target: f64) {
    let (params, segment, values, streams) = (session::params(d, SILOS), segment(d), values(d), streams(SILOS as u8));
    let mut rng = rng();
    let mut encode = || {
        let mut lanes = Vec::with_capacity(d);
        fixed_point::encode(&values, &segment, &mut rng, &mut lanes).expect("finite values");
        lanes
    };
    let lanes = encode();
    table.row("silo: clip, quantise", d, None, 4 * d, || (), |()| black_box(encode()));
    table.row(
        "silo: self mask + 15 pair masks",
        d,
        None,
        64 * d,
        || lanes.clone(),
        |mut acc| {
            mask::apply(&mut acc, &streams, 1);
            acc
        },
    );
    table.row(
        "silo: masks and pack at once",
        d,
        None,
        64 * d,
        || (),
        |()| packing::mask_and_pack(&params, &lanes, &streams, 1).expect("lanes"),
    );
    table.row("silo: pack to 20 bits", d, None, 4 * d, || (), |()| packing::pack(&params, &lanes).expect("lanes"));
    table.row(
        "silo: clip, quantise, masks, pack",
        d,
        Some(target),
        0,
        || (),
        |()| {
            let mut acc = encode();
            mask::apply(&mut acc, &streams, 1);
            packing::pack(&params, &acc).expect("lanes")
        },
    );
    let packed = packing::pack(&params, &lanes).expect("lanes");
    table.row(
        "silo: H(y), SHA-256 (not in the rows above)",
        d,
        None,
        packed.len(),
        || (),
        |()| transcript::masked_hash(&packed),
    );
}

/// P5 at the coordinator: one silo of 16 dropped, from the survivors' replies to S.
fn coordinator(table: &mut Table, d: usize, target: Option<f64>) {
    let session = Session::new(SILOS, d);
    if d == SMALL {
        table.row("silo: derive 16 seeds", 0, None, 0, || (), |()| session.seeds());
        table.value("bytes up per coordinate", session.params.packed_bytes() as f64 / d as f64);
    }
    let mut rng = rng();
    let acc: Vec<u32> = (0..d).map(|_| rng.next_u32()).collect();
    let packed = packing::pack(&session.params, &acc).expect("lanes");
    table.row(
        "coordinator: add one masked input",
        d,
        None,
        packed.len(),
        || acc.clone(),
        |mut acc| {
            packing::add_packed(&session.params, &packed, &mut acc).expect("packed");
            acc
        },
    );
    table.row("coordinator: check replies, rebuild 15 b and 1 σ", d, None, 0, || (), |()| session.masks());
    let masks = session.masks();
    assert_eq!(masks.streams.len(), 30);
    let bytes = 4 * d * masks.streams.len();
    table.row(
        "coordinator: remove 15 + 15 masks, pack",
        d,
        None,
        bytes,
        || acc.clone(),
        |acc| unmask::unmask(acc, &masks.streams, &session.params, 1).expect("lanes"),
    );
    table.row(
        "coordinator: replies to S, one drop of 16",
        d,
        target,
        0,
        || acc.clone(),
        |acc| {
            let masks = session.masks();
            unmask::unmask(acc, &masks.streams, &session.params, 1).expect("lanes")
        },
    );
}

/// The same loops on each backend of this processor.
fn kernels(table: &mut Table, d: usize) {
    let (streams, mut lanes) = (streams(SILOS as u8), vec![7u32; d]);
    for backend in Backend::available() {
        let mut keystreams = Keystreams::with(backend, &streams);
        table.row(&format!("{backend:?}: 16 keystreams"), d, None, 64 * d, || (), |()| keystreams.apply(&mut lanes, 0));
        table.row(
            &format!("{backend:?}: 128 subset sums"),
            d,
            None,
            16 * d,
            || (),
            |()| {
                let mut sums = [0; ROWS];
                kernel::subset_sums_with(backend, &[7; 32], 0, &lanes, &mut sums);
                sums
            },
        );
    }
}

fn shamir_rows(table: &mut Table) {
    let mut rng = rng();
    for (n, t, targets) in [(16u16, 11u16, None), (64, 43, Some([1.0, 0.5])), (1000, 667, None)] {
        let holders: Vec<SiloId> = (0..n).map(SiloId).collect();
        let secret = SecretScalar::random(&mut rng);
        let shares = shamir::deal(&secret, t, &holders, &mut rng).expect("t of n");
        let shares: Vec<_> = holders.iter().copied().zip(shares).rev().collect();
        let name = |what: &str| format!("Shamir n={n} t={t}: {what}");
        let target = |i: usize| targets.map(|t| t[i]);
        table.row(
            &name("deal one secret"),
            0,
            target(0),
            0,
            || (),
            |()| shamir::deal(&secret, t, &holders, &mut rng).expect("t of n"),
        );
        table.row(
            &name("rebuild one secret"),
            0,
            target(1),
            0,
            || (),
            |()| shamir::rebuild(&shares, t).expect("t shares"),
        );
        let first: Vec<SiloId> = shares.iter().take(usize::from(t)).map(|(id, _)| *id).collect();
        let weights = Interpolation::new(&first, t).expect("t holders");
        table.row(
            &name("rebuild another, same holders"),
            0,
            target(1),
            0,
            || (),
            |()| weights.rebuild(&shares).expect("t shares"),
        );
    }
}
