//! The sum of clipped gradients: each unit's own gradient, truncated onto the public grid and added as integers.
//!
//! ```text
//! slot 0 │ a a a · │ ─► gradient of a ────────────────────────► z(a) ──┐
//! slot 1 │ b b b b │ ─► gradient of b ─┐                               ├─► Σ z
//! slot 2 │ · · · · │     (empty)       ├─► gradient of {b, c} ─► z(bc) ─┘
//! slot 0 │ c c c c c c c c │ ──────────┘      b and c are one unit's, in micro-batches of widths 4 and 8
//! ```
//!
//! Contract: z of a unit is bit for bit what it is alone. What is proven and what is measured:
//! - *clipping and summing* of units are exact in integers ([`grid`]);
//! - *a unit's own sum* is in f64, in an order of its own: by width, then as its examples stand in it. One worker has all
//!   of it ([`super::places`]);
//! - *other examples' numbers* enter none of an example's own: it has a row of the attention to itself, and every other
//!   operation works row by row;
//! - *rounding* could still tell whether an example stands alone, where libtorch chooses another order of summation for
//!   another shape, or for another place in the same shape. The width of a slot follows from an example's own length; that
//!   neither the number of slots nor the place changes a bit is measured, before a shape is used: [`super::places`].

use std::collections::BTreeMap;
use std::ops::Range;

use blindsum_adapter::{Adapter, AdapterLayout, RoundKind};
use blindsum_engine::data::Example;
use blindsum_engine::grid;
use tch::{TchError, Tensor};

use super::lora::{Loras, RowsAre};
use super::packing::Packed;
use super::step::{Backward, Product, shifted};
use super::{Result, Worker, torch_error, values};

/// A batch, unit after unit.
pub(super) struct Units<'a> {
    /// The examples of all units.
    pub batch: Vec<&'a Example>,
    /// The unit of each.
    pub of: Vec<usize>,
    /// Examples of each unit.
    pub sizes: Vec<usize>,
}

impl<'a> Units<'a> {
    pub(super) fn new(units: &[&'a [Example]]) -> Self {
        let of = units.iter().enumerate().flat_map(|(i, unit)| unit.iter().map(move |_| i)).collect();
        let sizes = units.iter().map(|unit| unit.len()).collect();
        Units { batch: units.iter().copied().flatten().collect(), of, sizes }
    }

    /// How many examples stand in the unit of this one.
    pub(super) fn size_of(&self, example: usize) -> usize {
        self.sizes[self.of[example]]
    }
}

/// Units of which some examples' gradients are added up and others are still to come.
#[derive(Default)]
struct OpenUnit {
    units: BTreeMap<usize, (usize, Vec<f64>)>,
}

impl OpenUnit {
    /// Adds the gradient of one of `size` examples; returns the unit's with the last.
    fn add(&mut self, unit: usize, size: usize, own: &[&[f32]]) -> Option<Vec<f64>> {
        let trained = own.iter().map(|piece| piece.len()).sum();
        let (added, sum) = self.units.entry(unit).or_insert_with(|| (0, vec![0.0; trained]));
        sum.iter_mut().zip(own.iter().copied().flatten()).for_each(|(sum, &x)| *sum += f64::from(x));
        *added += 1;
        if *added < size { None } else { self.units.remove(&unit).map(|(_, sum)| sum) }
    }
}

/// What one worker's share of a batch contributes.
pub(super) struct ClippedShare {
    /// Sum of the clipped gradients on the grid, in the adapter's layout; zero where nothing is trained.
    pub sum: Vec<i64>,
    /// Index in the batch and loss of each example.
    pub losses: Vec<(usize, f32)>,
    /// Index and norm before clipping of each unit.
    pub norms: Vec<(usize, f64)>,
}

/// The gradients of one matrix or bias, those of each slot flattened one after the other.
struct Piece {
    /// Where it lies in the adapter's values.
    range: Range<usize>,
    /// Rows of the matrix, if it lies there turned.
    turned: Option<usize>,
    numbers: Vec<f32>,
}

impl Piece {
    fn new(range: Range<usize>, turned: Option<usize>, each: std::result::Result<Tensor, TchError>) -> Result<Self> {
        Ok(Piece { range, turned, numbers: values(&each.map_err(torch_error)?)? })
    }

    /// A slot's own.
    fn of(&self, slot: usize) -> &[f32] {
        let width = self.range.len();
        &self.numbers[slot * width..(slot + 1) * width]
    }

    /// Puts `sum`, in the order of the slots' own numbers, into its place among `values`.
    fn lay(&self, sum: &[i64], values: &mut [i64]) {
        let place = &mut values[self.range.clone()];
        match self.turned {
            None => place.copy_from_slice(sum),
            Some(rows) => {
                for (i, row) in sum.chunks_exact(sum.len() / rows).enumerate() {
                    place[i..].iter_mut().step_by(rows).zip(row).for_each(|(place, &z)| *place = z);
                }
            }
        }
    }
}

impl Worker {
    /// Sums over the units that `parts` have all examples of.
    pub(super) fn sum_clipped(
        &self,
        adapter: Adapter<'_>,
        kind: RoundKind,
        units: &Units<'_>,
        parts: Vec<Packed>,
        clip_norm: f64,
    ) -> Result<ClippedShare> {
        let mut loras = Loras::new(&self.layout, &self.a, adapter, Some(kind))?;
        let head = self.head(adapter)?;
        // in the order of the pieces, which is that of the layers, until the end
        let (mut sum, mut pieces, mut open) = (vec![0i64; adapter.values.len()], Vec::new(), OpenUnit::default());
        let (mut losses, mut norms) = (Vec::new(), Vec::new());
        for packed in parts {
            let back = self.backward(&mut loras, &head, packed, &units.batch)?;
            let _guard = tch::no_grad_guard();
            pieces = pieces_of(&back, &self.layout)?;
            losses.extend(back.packed.members.iter().copied().zip(values(&back.losses)?));
            for (slot, &i) in back.packed.members.iter().enumerate() {
                let own: Vec<&[f32]> = pieces.iter().map(|piece| piece.of(slot)).collect();
                let (unit, size) = (units.of[i], units.size_of(i));
                let norm = match size {
                    1 => Some(grid::add_clipped(&mut sum, &own, clip_norm)),
                    _ => open.add(unit, size, &own).map(|whole| grid::add_clipped(&mut sum, &[&whole], clip_norm)),
                };
                norms.extend(norm.map(|norm| (unit, norm)));
            }
        }
        let mut laid = vec![0; adapter.values.len()];
        let mut rest = sum.as_slice();
        for piece in &pieces {
            let (own, after) = rest.split_at(piece.range.len());
            piece.lay(own, &mut laid);
            rest = after;
        }
        Ok(ClippedShare { sum: laid, losses, norms })
    }
}

/// Each slot's own gradients.
fn pieces_of(back: &Backward, layout: &AdapterLayout) -> Result<Vec<Piece>> {
    let (slots, tokens) = (back.packed.rows as i64, back.packed.width as i64);
    let mut pieces = Vec::with_capacity(back.products.len() + 2 * back.head.len());
    for Product { range, narrow, wide, rows, turned } in &back.products {
        let (r, width) = (narrow.size()[1], wide.size()[1]);
        let each = match rows {
            RowsAre::Tokens => narrow
                .f_reshape([slots, tokens, r])
                .and_then(|narrow| narrow.f_transpose(1, 2)?.f_bmm(&wide.f_reshape([slots, tokens, width])?)),
            RowsAre::Examples => narrow.f_unsqueeze(2).and_then(|n| n.f_mul(&wide.f_unsqueeze(1)?)),
        };
        pieces.push(Piece::new(range.clone(), turned.then_some(r as usize), each)?);
    }
    let Some(ranges) = layout.head_ranges() else { return Ok(pieces) };
    for (layer, part) in back.head.iter().zip(layout.head_parts()) {
        let weight = layer.y.f_unsqueeze(2).and_then(|y| y.f_mul(&layer.x.f_unsqueeze(1)?));
        pieces.push(Piece::new(shifted(part.weight, ranges.weight.start), None, weight)?);
        if layer.bias {
            pieces.push(Piece::new(shifted(part.bias, ranges.bias.start), None, Ok(layer.y.shallow_clone()))?);
        }
    }
    Ok(pieces)
}
