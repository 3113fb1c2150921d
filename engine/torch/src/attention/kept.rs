//! Attention of one token in each example, which is all that a classification head needs of the last layer's queries.
//!
//! ```text
//! row 0 │ a a a a a a a │ d d d · │     slots of row 0: a, d
//! row 1 │ b b b b b │ c c c c │ · │     slots of row 1: b, c
//! ```

use tch::Tensor;

use super::super::builder::Place;
use super::super::packing::Packed;
use super::super::{Result, indices, torch_error};
use super::{Heads, Reads, products, scores};

/// Rows that the last layer has at least where an example's numbers must not depend on others: for fewer, products are
/// summed in another order. What is filled up has no loss and no gradient.
const FEWEST: usize = 8;

/// The tokens with which the last layer goes on, one of each example.
pub(in super::super) struct Kept {
    /// Their places among all tokens `[examples]`; where examples stand apart, filled up to [`FEWEST`] with the first token.
    tokens: Tensor,
    heads: Heads,
    rows: i64,
    /// Example of each slot `[rows·slots]`, where a row has as many slots as the fullest row has examples; an empty slot has
    /// example 0, and nobody reads what it gives.
    members: Tensor,
    /// Slot of each example, filled up alike.
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
            let (own, positions) = (Tensor::f_from_slice(&members)?, Tensor::f_from_slice(&positions)?);
            scores(packed, &own, &positions, reads, place.kind)?
                .f_unsqueeze(1)?
                .f_expand([rows, heads.queries(), slots, width], false)?
                .f_reshape([rows * heads.keys, heads.groups * slots, width])
        };
        let mut tokens = tokens.to_vec();
        if packed.apart {
            let filled = tokens.len().max(FEWEST);
            tokens.resize(filled, 0);
            places.resize(filled, 0);
        }
        Ok(Kept {
            tokens: indices(&tokens, place.device)?,
            heads,
            rows,
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
        let context = || {
            let query = query.f_index_select(0, &self.members)?;
            products(self.heads, self.rows, &query, key, value, &self.mask)?.f_index_select(0, &self.places)
        };
        context().map_err(torch_error)
    }
}
