//! Micro-batches in which an example's numbers do not depend on its place, nor on how many others there are.
//!
//! ```text
//! width 24: 1 row ─► what an example gets alone
//!           2, 4, 8, 16 rows ─► tried once with one example in every place: the same bits in each? then used
//! ```
//!
//! Libtorch sums the products of a matrix in an order that it chooses by shape, and for the rows at the edge of a block it
//! may choose another. Rounding then differs, and an example's gradient would depend on who stands beside it. Contract: an
//! example contributes what it contributes in a micro-batch of its own. A larger one is used only after its shape gave
//! those bits to an example of this file's own, in each of its places, with the model at hand, on the machine and the
//! libtorch at hand. So what is measured is measured where it matters; where a shape fails, a smaller one is taken, down
//! to each example alone, which is slower and the same numbers.
//!
//! A unit of several examples is added up in an order of its own, by one worker: its micro-batches stand in one load, with
//! those of no more units than memory is set aside for.

use std::collections::BTreeMap;

use blindsum_adapter::{Adapter, RoundKind};
use blindsum_engine::data::Example;
use blindsum_engine::{ComputeDevice, each_alone};

use super::clipped::Units;
use super::packing::{Packed, apart, by_width};
use super::{Result, TorchEngine};

/// Numbers that per-example gradients of one micro-batch may hold (256 MB of f32).
const PER_EXAMPLE_NUMBERS: usize = 1 << 26;
/// Numbers that the sums of one load's units may hold (256 MB of f64).
const PER_UNIT_NUMBERS: usize = 1 << 25;
/// More tokens make a private step no faster on a processor.
const MOST_TOKENS: usize = 512;
/// Tokens that cost as much as a micro-batch costs beside its tokens.
const WORTH_A_MICRO_BATCH: usize = 48;

/// The shapes that were tried: what is trained, folded numbers, width and rows.
#[derive(Clone, Default)]
pub(super) struct Places {
    agree: BTreeMap<(u8, usize, usize, usize), bool>,
}

impl TorchEngine {
    /// Shares a batch out into loads for one worker each: micro-batches in which each example has a row to itself and gets
    /// what it gets alone, with units whole.
    pub(super) fn pack_apart(
        &mut self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        units: &Units<'_>,
    ) -> Result<Vec<Vec<Packed>>> {
        let workers = self.workers.len().max(1);
        let (alone, several): (Vec<_>, Vec<_>) = (0..units.batch.len()).partition(|&i| units.size_of(i) == 1);
        let parts = self.pack_members(adapter, kind, &units.batch, &alone, workers)?;
        let mut loads: Vec<Vec<Packed>> = parts.into_iter().map(|part| vec![part]).collect();
        let several: Vec<&[usize]> = several.chunk_by(|&a, &b| units.of[a] == units.of[b]).collect();
        let open = (PER_UNIT_NUMBERS / self.layout.trained(kind).len().max(1)).max(1);
        for load in several.chunks(several.len().div_ceil(workers).clamp(1, open)) {
            loads.push(self.pack_members(adapter, kind, &units.batch, &load.concat(), 1)?);
        }
        Ok(loads)
    }

    /// Micro-batches of these members, at least one for each of `workers` where there are as many; the narrow ones first.
    fn pack_members(
        &mut self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        batch: &[&Example],
        members: &[usize],
        workers: usize,
    ) -> Result<Vec<Packed>> {
        let by_width = by_width(batch, members);
        let total: usize = by_width.iter().map(|(width, members)| width * members.len()).sum();
        let most = if self.settings.device == ComputeDevice::Cpu { MOST_TOKENS } else { usize::MAX };
        let tokens = most.min(self.settings.micro_batch_tokens).min(total.div_ceil(workers));
        let numbers = (PER_EXAMPLE_NUMBERS / self.layout.trained(kind).len().max(1)).max(1);
        let mut parts = Vec::new();
        for (width, members) in by_width {
            let most = (tokens / width).clamp(1, numbers);
            let mut rest = members.as_slice();
            while !rest.is_empty() {
                let mut rows = rest.len().next_power_of_two();
                while rows > most || rows.saturating_sub(rest.len()) * width > WORTH_A_MICRO_BATCH {
                    rows /= 2;
                }
                while !self.places_agree(adapter, kind, width, rows)? {
                    rows /= 2;
                }
                let (own, after) = rest.split_at(rows.min(rest.len()));
                parts.push(apart(batch, own, width, rows));
                rest = after;
            }
        }
        Ok(parts)
    }

    /// Whether an example gets in every place of this shape what it gets alone.
    fn places_agree(&mut self, adapter: Adapter<'_>, kind: RoundKind, width: usize, rows: usize) -> Result<bool> {
        if rows == 1 {
            return Ok(true);
        }
        let key = (u8::from(kind.trains_a()) + 2 * u8::from(kind.trains_b()), adapter.folded.len(), width, rows);
        if let Some(&agree) = self.places.agree.get(&key) {
            return Ok(agree);
        }
        // numbers of our own: neither rows nor what was learnt from them decides, and nothing is zero
        let numbers = |n: usize| (0..n).map(|i| 0.02 * (1.0 + i as f32).sin()).collect::<Vec<f32>>();
        let (values, folded) = (numbers(adapter.values.len()), numbers(adapter.folded.len()));
        let adapter = Adapter { values: &values, folded: &folded };
        let shape = self.layout.shape();
        let ids = (0..width.min(shape.max_positions)).map(|t| ((t * 7919 + 1) % shape.vocab) as u32).collect();
        let example = if self.layout.labels() > 0 { Example::labelled(ids, 0) } else { Example::text(ids, 0) };
        let batch = vec![&example; rows];
        let units = Units::new(&each_alone(&batch));
        let mut found = Vec::new();
        for rows in [1, rows] {
            let part = apart(&batch, &(0..rows).collect::<Vec<_>>(), width, rows);
            // a clip that is small enough to make use of the whole grid
            let work = |worker: &mut super::Worker, parts| worker.sum_clipped(adapter, kind, &units, parts, 1e-30);
            found.extend(self.share_out(vec![vec![part]], work)?);
        }
        let [alone, together] = found.as_slice() else { return Ok(false) };
        let each = alone.sum.iter().map(|z| z * rows as i64);
        let agree = alone.sum.iter().any(|&z| z != 0) && each.eq(together.sum.iter().copied());
        self.places.agree.insert(key, agree);
        Ok(agree)
    }
}
