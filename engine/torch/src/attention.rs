//! Attention on packed rows: who may read whom, rotary positions, grouped heads.
//!
//! Contract: a token reads tokens of its own sequence only; in a decoder only itself and those before it, with a window
//! only so many of them. So nothing that stands beside a sequence in its row changes it.

mod kept;

use blindsum_adapter::BaseShape;
use tch::{Device, Kind, TchError, Tensor};

use super::builder::{Place, on};
use super::lora::cast;
use super::packing::Packed;
use super::{Result, torch_error};

pub(super) use self::kept::Kept;

/// Attention score of a token that must not be read; finite, so that no row of scores is ever empty of numbers, and
/// zero after softmax in either number format.
const FORBIDDEN: f64 = -1e30;

/// Rows wider than this go through `scaled_dot_product_attention`, which keeps no matrix of scores. In bf16 on a
/// processor its backward pass takes several times as long as the products spelt out, so narrower rows do not.
const WIDE: i64 = 1024;

/// How the columns of query, key and value split into heads.
#[derive(Clone, Copy)]
pub(super) struct Heads {
    /// Heads of keys and values.
    pub keys: i64,
    /// Heads of queries that share one of keys and values.
    pub groups: i64,
    /// Width of one head.
    pub width: i64,
}

impl Heads {
    pub(super) fn of(shape: &BaseShape) -> Self {
        let keys = shape.kv_heads() as i64;
        Heads { keys, groups: shape.heads as i64 / keys, width: shape.head_width() as i64 }
    }

    fn queries(self) -> i64 {
        self.keys * self.groups
    }
}

/// Who may read whom.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Reads {
    /// Every token of the sequence.
    All,
    /// Itself and those before it.
    Before,
    /// Itself and so many before it, itself counted.
    Window(i64),
}

/// What to add to the scores, for one micro-batch: 0, or [`FORBIDDEN`].
pub(super) struct Mask {
    /// `[rows·keys, groups·width, width]`, or `[rows, 1, width, width]` where the rows are wide.
    scores: Tensor,
    rows: i64,
    width: i64,
    wide: bool,
}

impl Mask {
    pub(super) fn new(packed: &Packed, heads: Heads, reads: Reads, place: Place) -> Result<Self> {
        let wide = packed.width as i64 > WIDE || place.device != Device::Cpu;
        Mask::of_kind(packed, heads, reads, place, wide)
    }

    fn of_kind(packed: &Packed, heads: Heads, reads: Reads, place: Place, wide: bool) -> Result<Self> {
        let (rows, width) = (packed.rows as i64, packed.width as i64);
        let scores = || {
            let (segments, positions) =
                (Tensor::f_from_slice(&packed.segments)?, Tensor::f_from_slice(&packed.positions)?);
            let scores = scores(packed, &segments, &positions, reads, place.kind)?.f_unsqueeze(1)?;
            if wide {
                return Ok(scores);
            }
            scores.f_expand([rows, heads.queries(), width, width], false)?.f_reshape([
                rows * heads.keys,
                heads.groups * width,
                width,
            ])
        };
        Ok(Mask { scores: place.put(&scores().map_err(torch_error)?)?, rows, width, wide })
    }
}

/// Scores of some tokens that ask, as many in each row, over all tokens of their row: 0 where one may be read, else
/// [`FORBIDDEN`], `[rows, asking, width]`. Those that ask belong to `segments` and stand at `positions`, `[rows·asking]`.
fn scores(
    packed: &Packed,
    segments: &Tensor,
    positions: &Tensor,
    reads: Reads,
    kind: Kind,
) -> std::result::Result<Tensor, TchError> {
    let (rows, width) = (packed.rows as i64, packed.width as i64);
    let asking = |t: &Tensor| t.f_view([rows, -1, 1]);
    let read = |numbers: &[i64]| Tensor::f_from_slice(numbers)?.f_view([rows, 1, width]);
    let mut forbidden = read(&packed.segments)?.f_ne_tensor(&asking(segments)?)?;
    if reads != Reads::All {
        let ahead = read(&packed.positions)?.f_sub(&asking(positions)?)?;
        forbidden = forbidden.f_logical_or(&ahead.f_gt(0)?)?;
        if let Reads::Window(tokens) = reads {
            forbidden = forbidden.f_logical_or(&ahead.f_le(-tokens)?)?;
        }
    }
    Tensor::f_zeros(forbidden.size(), (kind, Device::Cpu))?.f_masked_fill_(&forbidden, FORBIDDEN)
}

/// Attention before its output layer: `[tokens, heads·width]` from query, key and value `[tokens, …]`.
pub(super) fn attend(heads: Heads, query: &Tensor, key: &Tensor, value: &Tensor, mask: &Mask) -> Result<Tensor> {
    let (rows, width) = (mask.rows, mask.width);
    if !mask.wide {
        return products(heads, rows, query, key, value, &mask.scores).map_err(torch_error);
    }
    let Heads { keys, groups, width: per_head } = heads;
    let split = |t: &Tensor| {
        t.f_view([rows, width, keys, -1, per_head])?
            .f_permute([0, 2, 3, 1, 4])?
            .f_expand([rows, keys, groups, width, per_head], false)?
            .f_reshape([rows, keys * groups, width, per_head])
    };
    let context = || {
        let (query, key, value) = (split(query)?, split(key)?, split(value)?);
        Tensor::f_scaled_dot_product_attention(&query, &key, &value, Some(&mask.scores), 0.0, false, None, false)?
            .f_transpose(1, 2)?
            .f_reshape([rows * width, heads.queries() * per_head])
    };
    context().map_err(torch_error)
}

/// Attention spelt out: `query` `[rows·asking, heads·width]` over key and value of all tokens, with `scores` `[rows·keys,
/// groups·asking, width]` added before the softmax.
fn products(
    heads: Heads,
    rows: i64,
    query: &Tensor,
    key: &Tensor,
    value: &Tensor,
    scores: &Tensor,
) -> std::result::Result<Tensor, TchError> {
    let Heads { keys, groups, width: per_head } = heads;
    let split = |t: &Tensor, groups: i64| {
        t.f_view([rows, -1, keys, groups, per_head])?.f_permute([0, 2, 3, 1, 4])?.f_reshape([rows * keys, -1, per_head])
    };
    let (query, key, value) = (split(query, groups)?, split(key, 1)?, split(value, 1)?);
    scores
        .f_baddbmm(&query, &key.f_transpose(1, 2)?, 1.0, (per_head as f64).powf(-0.5))?
        .f_softmax(-1, None)?
        .f_bmm(&value)?
        .f_view([rows, keys, groups, -1, per_head])?
        .f_permute([0, 3, 1, 2, 4])?
        .f_reshape([-1, heads.queries() * per_head])
}

/// Cosine and sine by which each token's query and key are turned (Su et al. 2021): `[tokens, 1, width]` each.
pub(super) struct Turn {
    cos: Tensor,
    sin: Tensor,
}

impl Turn {
    /// For tokens at `positions`; `frequencies` is f32 `[width / 2]`.
    pub(super) fn new(positions: &[i64], frequencies: &Tensor, place: Place) -> Result<Self> {
        let angles = || {
            let positions = Tensor::f_from_slice(positions)?.f_to_dtype(Kind::Float, false, false)?;
            let angles = positions.f_unsqueeze(1)?.f_mul(&frequencies.f_unsqueeze(0)?)?;
            Tensor::f_cat(&[&angles, &angles], 1)?.f_unsqueeze(1)
        };
        let angles = angles().map_err(torch_error)?;
        let part = |t: Tensor| on(&cast(&t, place.kind)?, place.device);
        Ok(Turn { cos: part(angles.f_cos().map_err(torch_error)?)?, sin: part(angles.f_sin().map_err(torch_error)?)? })
    }

    /// The same for the kept tokens alone.
    pub(super) fn select(&self, kept: &Kept) -> Result<Self> {
        Ok(Turn { cos: kept.select(&self.cos)?, sin: kept.select(&self.sin)? })
    }

    /// Turns each head of `x` `[tokens, heads·width]`, halves of a head paired as Hugging Face does.
    pub(super) fn apply(&self, x: &Tensor, per_head: i64) -> Result<Tensor> {
        let turned = || {
            let heads = x.f_view([x.size()[0], -1, per_head])?;
            let half = per_head / 2;
            let (low, high) = (heads.f_narrow(2, 0, half)?, heads.f_narrow(2, half, half)?);
            let crossed = Tensor::f_cat(&[&high.f_neg()?, &low], 2)?;
            heads.f_mul(&self.cos)?.f_add(&crossed.f_mul(&self.sin)?)?.f_view(&x.size()[..])
        };
        turned().map_err(torch_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packing::{RowLimits, pack};
    use crate::values;
    use blindsum_engine::data::Example;

    #[test]
    fn both_ways_of_attention_agree_and_give_the_same_gradients() {
        let owned: Vec<Example> = [40usize, 25, 7, 60].map(|n| Example::text(vec![1; n], 0)).to_vec();
        let batch: Vec<&Example> = owned.iter().collect();
        let limits = RowLimits { tokens: 1000, attention_breakeven: 8, threads: 1 };
        let packed = pack(&batch, limits).remove(0);
        let heads = Heads { keys: 2, groups: 3, width: 8 };
        let place = Place { kind: Kind::Float, device: Device::Cpu };
        let tokens = (packed.rows * packed.width) as i64;
        let random =
            |columns: i64| Tensor::randn([tokens, columns], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let (query, key, value) = (random(48), random(16), random(16));
        let weights = Tensor::randn([tokens, 48], (Kind::Float, Device::Cpu));
        for reads in [Reads::All, Reads::Before, Reads::Window(9)] {
            let outcome = |wide: bool| {
                let mask = Mask::of_kind(&packed, heads, reads, place, wide).unwrap();
                let context = attend(heads, &query, &key, &value, &mask).unwrap();
                let total = (&context * &weights).sum(Kind::Float);
                let mut found = Tensor::run_backward(&[total], &[&query, &key, &value], false, false);
                found.push(context.detach());
                found.iter().flat_map(|t| values(t).unwrap()).collect::<Vec<f32>>()
            };
            let (narrow, wide) = (outcome(false), outcome(true));
            let far = narrow.iter().zip(&wide).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
            assert!(far < 1e-4, "{far}");
        }
    }
}
