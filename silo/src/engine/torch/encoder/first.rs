//! Self-attention of each example's first token alone, which is all that the last layer needs of its queries.
//!
//! ```text
//! row 0 │ a a a a a a a │ d d d · │     slots of row 0: a, d
//! row 1 │ b b b b b │ c c c c │ · │     slots of row 1: b, c
//! ```

use tch::Tensor;

use super::super::attention::{FORBIDDEN, Heads};
use super::super::packing::Packed;
use super::super::{Result, indices, torch_error};

/// Where the first tokens of the packed examples go: each row has as many slots as the fullest row has examples.
struct Slots {
    /// Slots in a row.
    width: i64,
    /// Example of each slot; an empty slot has example 0, and nobody reads what it gives.
    members: Vec<i64>,
    /// Slot of each example.
    places: Vec<i64>,
}

impl Slots {
    fn new(packed: &Packed) -> Self {
        let mut rows: Vec<Vec<i64>> = vec![Vec::new(); packed.rows];
        for (member, start) in packed.starts.iter().enumerate() {
            rows[start / packed.width].push(member as i64);
        }
        let width = rows.iter().map(Vec::len).max().unwrap_or(0);
        let (mut members, mut places) = (vec![0; rows.len() * width], vec![0; packed.starts.len()]);
        for (row, own) in rows.iter().enumerate() {
            for (i, &member) in own.iter().enumerate() {
                members[row * width + i] = member;
                places[member as usize] = (row * width + i) as i64;
            }
        }
        Slots { width: width as i64, members, places }
    }
}

/// What each example's first token gathers, `[examples, hidden]`: `query` is of the first tokens `[examples, hidden]`, key
/// and value of all tokens `[tokens, hidden]`.
pub(super) fn attend(heads: Heads, query: &Tensor, key: &Tensor, value: &Tensor, packed: &Packed) -> Result<Tensor> {
    let slots = Slots::new(packed);
    let (rows, width, count) = (packed.rows as i64, packed.width as i64, heads.keys * heads.groups);
    let device = key.device();
    let members = indices(&slots.members, device)?;
    let places = indices(&slots.places, device)?;
    let segments = indices(&packed.segments, device)?;
    let context = || {
        let own = members.f_view([rows, slots.width, 1])?;
        let across = segments.f_view([rows, 1, width])?.f_ne_tensor(&own)?;
        let mask = Tensor::f_zeros([rows, slots.width, width], (key.kind(), device))?
            .f_masked_fill_(&across, FORBIDDEN)?
            .f_unsqueeze(1)?
            .f_expand([rows, count, slots.width, width], false)?
            .f_reshape([rows * count, slots.width, width])?;
        let split = |x: &Tensor, tokens: i64| {
            x.f_view([rows, tokens, count, heads.width])?.f_transpose(1, 2)?.f_reshape([
                rows * count,
                tokens,
                heads.width,
            ])
        };
        let (query, key, value) =
            (split(&query.f_index_select(0, &members)?, slots.width)?, split(key, width)?, split(value, width)?);
        mask.f_baddbmm(&query, &key.f_transpose(1, 2)?, 1.0, (heads.width as f64).powf(-0.5))?
            .f_softmax(-1, None)?
            .f_bmm(&value)?
            .f_view([rows, count, slots.width, heads.width])?
            .f_transpose(1, 2)?
            .f_reshape([rows * slots.width, count * heads.width])?
            .f_index_select(0, &places)
    };
    context().map_err(torch_error)
}
