//! Attention of one token in each example, which is all that a classification head needs of the last layer's queries.
//!
//! ```text
//! row 0 │ a a a a a a a │ d d d · │     slots of row 0: a, d
//! row 1 │ b b b b b │ c c c c │ · │     slots of row 1: b, c
//! ```

use tch::{Device, Tensor};

use super::super::builder::Place;
use super::super::packing::Packed;
use super::super::{Result, indices, torch_error};
use super::{FORBIDDEN, Heads, Reads};

/// The tokens with which the last layer goes on, one of each example.
pub(in super::super) struct Kept {
    /// Their places among all tokens `[examples]`.
    tokens: Tensor,
    heads: Heads,
    rows: i64,
    /// Slots in a row: as many as the fullest row has examples.
    slots: i64,
    /// Example of each slot `[rows·slots]`; an empty slot has example 0, and nobody reads what it gives.
    members: Tensor,
    /// Slot of each example.
    places: Tensor,
    /// What to add to the scores, `[rows·keys, groups·slots, width]`.
    mask: Tensor,
}

impl Kept {
    /// Keeps `tokens[i]` of packed example `i`.
    pub(in super::super) fn new(
        packed: &Packed,
        tokens: &[i64],
        heads: Heads,
        reads: Reads,
        place: Place,
    ) -> Result<Self> {
        let mut by_row: Vec<Vec<usize>> = vec![Vec::new(); packed.rows];
        for (member, start) in packed.starts.iter().enumerate() {
            by_row[start / packed.width].push(member);
        }
        let slots = by_row.iter().map(Vec::len).max().unwrap_or(0);
        let (mut members, mut places) = (vec![0; by_row.len() * slots], vec![0; packed.starts.len()]);
        for (row, own) in by_row.iter().enumerate() {
            for (i, &member) in own.iter().enumerate() {
                members[row * slots + i] = member as i64;
                places[member] = (row * slots + i) as i64;
            }
        }
        let positions: Vec<i64> =
            members.iter().map(|&m| tokens.get(m as usize).map_or(0, |&t| packed.positions[t as usize])).collect();
        let (rows, width, slots) = (packed.rows as i64, packed.width as i64, slots as i64);
        let mask = || {
            let own = Tensor::f_from_slice(&members)?.f_view([rows, slots, 1])?;
            let mut forbidden = Tensor::f_from_slice(&packed.segments)?.f_view([rows, 1, width])?.f_ne_tensor(&own)?;
            if reads != Reads::All {
                let own = Tensor::f_from_slice(&positions)?.f_view([rows, slots, 1])?;
                let ahead = Tensor::f_from_slice(&packed.positions)?.f_view([rows, 1, width])?.f_sub(&own)?;
                forbidden = forbidden.f_logical_or(&ahead.f_gt(0)?)?;
                if let Reads::Window(tokens) = reads {
                    forbidden = forbidden.f_logical_or(&ahead.f_le(-tokens)?)?;
                }
            }
            Tensor::f_zeros([rows, slots, width], (place.kind, Device::Cpu))?
                .f_masked_fill_(&forbidden, FORBIDDEN)?
                .f_unsqueeze(1)?
                .f_expand([rows, heads.queries(), slots, width], false)?
                .f_reshape([rows * heads.keys, heads.groups * slots, width])
        };
        Ok(Kept {
            tokens: indices(tokens, place.device)?,
            heads,
            rows,
            slots,
            members: indices(&members, place.device)?,
            places: indices(&places, place.device)?,
            mask: place.put(&mask().map_err(torch_error)?)?,
        })
    }

    /// The kept rows of `x` `[tokens, …]`: `[examples, …]`.
    pub(in super::super) fn select(&self, x: &Tensor) -> Result<Tensor> {
        x.f_index_select(0, &self.tokens).map_err(torch_error)
    }

    /// What each kept token gathers, `[examples, heads·width]`: `query` is theirs alone, key and value of all tokens.
    pub(in super::super) fn attend(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Result<Tensor> {
        let (rows, slots) = (self.rows, self.slots);
        let Heads { keys, groups, width: per_head } = self.heads;
        let split = |t: &Tensor, groups: i64, columns: i64| {
            t.f_view([rows, columns, keys, groups, per_head])?.f_permute([0, 2, 3, 1, 4])?.f_reshape([
                rows * keys,
                groups * columns,
                per_head,
            ])
        };
        let context = || {
            let width = self.mask.size()[2];
            let query = split(&query.f_index_select(0, &self.members)?, groups, slots)?;
            let (key, value) = (split(key, 1, width)?, split(value, 1, width)?);
            self.mask
                .f_baddbmm(&query, &key.f_transpose(1, 2)?, 1.0, (per_head as f64).powf(-0.5))?
                .f_softmax(-1, None)?
                .f_bmm(&value)?
                .f_view([rows, keys, groups, slots, per_head])?
                .f_permute([0, 3, 1, 2, 4])?
                .f_reshape([rows * slots, keys * groups * per_head])?
                .f_index_select(0, &self.places)
        };
        context().map_err(torch_error)
    }
}
