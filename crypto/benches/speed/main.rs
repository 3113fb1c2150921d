//! The speed of one session's arithmetic: one table, a row per piece of work, median and minimum over repeated runs.
//!
//! ```text
//! make bench                                      the whole table, pinned to one processor
//! cargo bench -p blindsum-crypto -- silo          rows whose name holds "silo"
//! cargo bench -p blindsum-crypto -- --json FILE   the same figures for a script
//! ```
//!
//! Contract: every timed call runs on the one thread that this program has, through the functions that the machines call,
//! on fresh copies of its input (made outside the clock). A row with a target says so; nothing fails on a slow machine.

mod session;
mod table;

use blindsum_crypto::fixed_point::Rounding;
use blindsum_crypto::kernel::{self, Backend, Keystreams};
use blindsum_crypto::mask::{self, MaskSeed, Sign, Stream};
use blindsum_crypto::packing::Values;
use blindsum_crypto::shamir::{self, Interpolation, SecretScalar};
use blindsum_crypto::sketch::ROWS;
use blindsum_crypto::{Segment, SiloId, fixed_point, packing, transcript, unmask};
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};
use session::Session;
use table::Table;

/// Silos of every row.
const SILOS: u16 = 16;
const SMALL: usize = 2_097_152;
const LARGE: usize = 16_777_216;

fn main() {
    let mut table = Table::from_args(std::env::args().skip(1));
    silo(&mut table, SMALL, 16.0);
    coordinator(&mut table, SMALL, Some(40.0));
    silo(&mut table, LARGE, 140.0);
    coordinator(&mut table, LARGE, None);
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

/// Uniform, one in a hundred beyond the bound.
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
    let (mut rng, key) = (rng(), Rounding::draw(&mut rng()));
    let mut encode = || {
        let mut lanes = Vec::with_capacity(d);
        fixed_point::encode(&values, &segment, &mut rng, &mut lanes).expect("finite values");
        lanes
    };
    let lanes = encode();
    table.row("silo: clip, quantise", d).bytes(4 * d).time(&mut encode);
    let add = |mut acc: Vec<u32>| {
        mask::apply(&mut acc, &streams, 1);
        acc
    };
    table.row("silo: self mask + 15 pair masks", d).bytes(64 * d).time_on(|| lanes.clone(), add);
    table.row("silo: pack to 20 bits", d).bytes(4 * d).time(|| packing::pack(&params, &lanes));
    table.row("silo: masks and pack", d).bytes(64 * d).time(|| packing::mask_and_pack(&params, &lanes, &streams, 1));
    table
        .row("silo: clip, quantise, then masks, pack", d)
        .target(target)
        .time(|| packing::mask_and_pack(&params, &encode(), &streams, 1));
    table.row("silo: clip, quantise, masks, pack, by blocks", d).target(target).time(|| {
        let clipped = fixed_point::check(&values, &segment).expect("finite values");
        let packed = packing::encode_mask_and_pack(&params, &[Values::Reals(&values, &key)], &streams, 1);
        (clipped, packed.expect("finite values"))
    });
    let packed = packing::pack(&params, &lanes).expect("lanes");
    table.row("silo: H(y), SHA-256, in no other row", d).bytes(packed.len()).time(|| transcript::masked_hash(&packed));
}

/// P5 at the coordinator: one silo of 16 dropped, from the survivors' replies to S.
fn coordinator(table: &mut Table, d: usize, target: Option<f64>) {
    let session = Session::new(SILOS, d);
    if d == SMALL {
        table.row("silo: derive 16 seeds", 0).time(|| session.seeds());
        table.value("bytes up per coordinate", session.params.packed_bytes() as f64 / d as f64);
    }
    let mut rng = rng();
    let acc: Vec<u32> = (0..d).map(|_| rng.next_u32()).collect();
    let packed = packing::pack(&session.params, &acc).expect("lanes");
    let mut sum = acc.clone();
    table
        .row("coordinator: add one masked input", d)
        .bytes(packed.len())
        .time(|| packing::add_packed(&session.params, &packed, &mut sum));
    table.row("coordinator: check replies, rebuild 15 b and 1 σ", d).time(|| session.masks());
    let masks = session.masks();
    assert_eq!(masks.streams.len(), 30);
    let remove = |acc: Vec<u32>, streams: &[Stream]| unmask::unmask(acc, streams, &session.params, 1);
    table
        .row("coordinator: remove 15 + 15 masks, pack", d)
        .bytes(4 * d * masks.streams.len())
        .time_on(|| acc.clone(), |acc| remove(acc, &masks.streams));
    table
        .row("coordinator: replies to S, one drop of 16", d)
        .target(target)
        .time_on(|| acc.clone(), |acc| remove(acc, &session.masks().streams));
}

/// The same loops on each backend of this processor.
fn kernels(table: &mut Table, d: usize) {
    let (streams, mut lanes) = (streams(SILOS as u8), vec![7u32; d]);
    for backend in Backend::available() {
        let mut keystreams = Keystreams::with(backend, &streams);
        table.row(&format!("{backend:?}: 16 keystreams"), d).bytes(64 * d).time(|| keystreams.apply(&mut lanes, 0));
    }
    for backend in [Backend::Portable, Backend::best()] {
        table.row(&format!("{backend:?}: 128 subset sums"), d).bytes(16 * d).time(|| {
            let mut sums = [0; ROWS];
            kernel::subset_sums_with(backend, &[7; 32], 0, &lanes, &mut sums);
            sums
        });
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
        table.row(&name("deal one secret"), 0).target(target(0)).time(|| shamir::deal(&secret, t, &holders, &mut rng));
        table.row(&name("rebuild one secret"), 0).target(target(1)).time(|| shamir::rebuild(&shares, t));
        let first: Vec<SiloId> = shares.iter().take(usize::from(t)).map(|(id, _)| *id).collect();
        let weights = Interpolation::new(&first, t).expect("t holders");
        table.row(&name("rebuild another, same holders"), 0).time(|| weights.rebuild(&shares));
    }
}
