//! How examples of different lengths share one matrix without padding each to the longest.
//!
//! Sequences are laid one after the other into rows of equal width, and attention is masked so that each sees only
//! itself. Linear layers, layer norms and activations then work on `rows · width` tokens of which nearly all are real.
//!
//! ```text
//! row 0 │ a a a a a a a │ d d d · │      width 12, `·` = filler: its own segment, read by nobody
//! row 1 │ b b b b b │ c c c c │ · · · │
//! ```
//!
//! Contract: any grouping is valid, since gradients are summed and logits are put back in order; results differ by
//! rounding only. Under privacy not even that is allowed: there each example has a row to itself ([`apart`]).

use blindsum_engine::data::Example;

use std::collections::BTreeMap;

/// Rows are a multiple of this wide. Softmax is quickest on 32, a register of bf16, but the filler costs more than that.
const STEP: usize = 8;
/// Rows are at least this wide: narrower ones leave matrix products too small.
const MIN_WIDTH: usize = 64;

/// Bounds on one micro-batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct RowLimits {
    /// Real tokens; a longer single example still makes a micro-batch of its own.
    pub tokens: usize,
    /// Tokens at which attention costs as much as everything else, about half the hidden size.
    pub attention_breakeven: usize,
    /// Threads that share the micro-batches.
    pub threads: usize,
}

/// Some examples laid out in rows.
pub(super) struct Packed {
    /// Indices into the caller's batch; everything below is in this order.
    pub members: Vec<usize>,
    /// First token in the flat matrix of each member, then of each slot that stands empty.
    pub starts: Vec<usize>,
    /// Tokens of each member, then 1 for each slot that stands empty.
    pub lengths: Vec<usize>,
    /// Whether each member has a row to itself, and its numbers must not depend on the others.
    pub apart: bool,
    /// Number of rows.
    pub rows: usize,
    /// Tokens in one row.
    pub width: usize,
    /// Token ids, `rows · width`; filler is 0.
    pub ids: Vec<i64>,
    /// Position of each token in its own sequence.
    pub positions: Vec<i64>,
    /// Which member each token belongs to; −1 for filler.
    pub segments: Vec<i64>,
}

/// Splits a batch into micro-batches of similar lengths and even sizes, as many for each thread.
pub(super) fn pack(batch: &[&Example], limits: RowLimits) -> Vec<Packed> {
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(batch[i].ids.len()));
    let total: usize = batch.iter().map(|e| e.ids.len()).sum();
    let parts = total.div_ceil(limits.tokens.max(1)).max(1).next_multiple_of(limits.threads.max(1));
    let share = total.div_ceil(parts).max(MIN_WIDTH);
    let mut out = Vec::new();
    let (mut start, mut tokens, mut cuts) = (0, 0, 1);
    for (at, &i) in order.iter().enumerate() {
        let length = batch[i].ids.len();
        // cut where the even shares' ends lie, at the nearer end of the example there, so that no crumb is left over
        let middle = tokens + length / 2;
        let even = middle > cuts * share;
        if at > start && even {
            out.push(layout(batch, &order[start..at], limits));
            start = at;
            cuts = middle / share + 1;
        }
        tokens += length;
    }
    if start < order.len() {
        out.push(layout(batch, &order[start..], limits));
    }
    out
}

/// Lays `members` (longest first) into rows of the width that costs least.
fn layout(batch: &[&Example], members: &[usize], limits: RowLimits) -> Packed {
    let lengths: Vec<usize> = members.iter().map(|&i| batch[i].ids.len()).collect();
    let longest = lengths.first().copied().unwrap_or(1).next_multiple_of(STEP).max(MIN_WIDTH);
    let cost = |width: usize, rows: usize| rows * width * (limits.attention_breakeven + width);
    let (width, (rows, starts)) = (longest..=2 * longest)
        .step_by(STEP)
        .map(|width| (width, first_fit(&lengths, width)))
        .min_by_key(|(width, (rows, _))| cost(*width, *rows))
        .unwrap_or_else(|| (longest, first_fit(&lengths, longest)));
    let members = members.to_vec();
    let (ids, positions, segments) = Default::default();
    fill(batch, Packed { members, starts, lengths, apart: false, rows, width, ids, positions, segments })
}

/// First-fit decreasing: how many rows of `width` the lengths fill, and where each starts.
fn first_fit(lengths: &[usize], width: usize) -> (usize, Vec<usize>) {
    let mut used: Vec<usize> = Vec::new();
    let starts = lengths
        .iter()
        .map(|&length| {
            let row = used.iter().position(|u| u + length <= width).unwrap_or_else(|| {
                used.push(0);
                used.len() - 1
            });
            let start = row * width + used[row];
            used[row] += length;
            start
        })
        .collect();
    (used.len(), starts)
}

/// The members of each width that [`apart`] gives rows of that width: the smallest multiple of eight that holds one. Those
/// of one width stay in their order.
pub(super) fn by_width(batch: &[&Example], members: &[usize]) -> BTreeMap<usize, Vec<usize>> {
    let mut by_width: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &i in members {
        by_width.entry(batch[i].ids.len().next_multiple_of(STEP)).or_default().push(i);
    }
    by_width
}

/// Lays each of `members` into a row to itself, of `rows` rows; the last may stand empty.
pub(super) fn apart(batch: &[&Example], members: &[usize], width: usize, rows: usize) -> Packed {
    let mut lengths: Vec<usize> = members.iter().map(|&i| batch[i].ids.len()).collect();
    lengths.resize(rows, 1);
    let members = members.to_vec();
    let starts = (0..rows).map(|row| row * width).collect();
    let (ids, positions, segments) = Default::default();
    fill(batch, Packed { members, starts, lengths, apart: true, rows, width, ids, positions, segments })
}

/// Writes the tokens; an empty slot's one token is a filler that reads itself.
fn fill(batch: &[&Example], mut packed: Packed) -> Packed {
    let tokens = packed.rows * packed.width;
    packed.ids = vec![0; tokens];
    packed.positions = vec![0; tokens];
    packed.segments = vec![-1; tokens];
    for (slot, (&start, &length)) in packed.starts.iter().zip(&packed.lengths).enumerate() {
        packed.segments[start..start + length].fill(slot as i64);
        let Some(&i) = packed.members.get(slot) else { continue };
        for (offset, &id) in batch[i].ids.iter().enumerate() {
            packed.ids[start + offset] = i64::from(id);
            packed.positions[start + offset] = offset as i64;
        }
    }
    packed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: RowLimits = RowLimits { tokens: 512, attention_breakeven: 192, threads: 1 };

    fn examples(lengths: &[usize]) -> Vec<Example> {
        lengths.iter().map(|&n| Example::labelled((1..=n as u32).collect(), 0)).collect()
    }

    proptest! {
        #[test]
        fn every_token_is_laid_once_and_rows_are_not_crossed(lengths in prop::collection::vec(1usize..200, 0..80)) {
            let owned = examples(&lengths);
            let batch: Vec<&Example> = owned.iter().collect();
            let mut seen = vec![false; lengths.len()];
            for packed in pack(&batch, LIMITS) {
                let tokens: usize = packed.lengths.iter().sum();
                // a part begins and ends within half an example of an even share
                prop_assert!(tokens <= LIMITS.tokens + 200 || packed.members.len() == 1);
                prop_assert_eq!(packed.segments.iter().filter(|&&s| s >= 0).count(), tokens);
                for (slot, &i) in packed.members.iter().enumerate() {
                    prop_assert!(!std::mem::replace(&mut seen[i], true));
                    let (start, n) = (packed.starts[slot], packed.lengths[slot]);
                    prop_assert_eq!(n, lengths[i]);
                    prop_assert_eq!(start / packed.width, (start + n - 1) / packed.width);
                    for t in 0..n {
                        prop_assert_eq!(packed.segments[start + t], slot as i64);
                        prop_assert_eq!(packed.positions[start + t], t as i64);
                        prop_assert_eq!(packed.ids[start + t], t as i64 + 1);
                    }
                }
            }
            prop_assert!(seen.into_iter().all(|s| s));
        }
    }

    #[test]
    fn apart_each_has_a_row_as_wide_as_its_own_length_asks_for() {
        let owned = examples(&[3, 17, 8, 24, 9, 20]);
        let batch: Vec<&Example> = owned.iter().collect();
        let widths: Vec<(usize, Vec<usize>)> = by_width(&batch, &[0, 1, 2, 3, 4, 5]).into_iter().collect();
        assert_eq!(widths, [(8, vec![0, 2]), (16, vec![4]), (24, vec![1, 3, 5])]);
        let packed = apart(&batch, &[1, 3, 5], 24, 4);
        assert_eq!((packed.members, packed.starts), (vec![1, 3, 5], vec![0, 24, 48, 72]));
        assert_eq!(packed.lengths, [17, 24, 20, 1], "the last stands empty");
        for (row, length) in packed.lengths.into_iter().enumerate() {
            let cells = 24 * row..24 * (row + 1);
            let own: Vec<i64> = (0..24).map(|t| if t < length { row as i64 } else { -1 }).collect();
            assert_eq!(packed.segments[cells.clone()], own);
            let ids: Vec<i64> = (1..=24).map(|t| if row < 3 && t <= length as i64 { t } else { 0 }).collect();
            assert_eq!(packed.ids[cells], ids);
        }
    }

    #[test]
    fn each_thread_has_a_part_and_no_crumb_is_left() {
        let parts = |lengths: &[usize], tokens| -> Vec<usize> {
            let owned = examples(lengths);
            let batch: Vec<&Example> = owned.iter().collect();
            let parts = pack(&batch, RowLimits { tokens, threads: 2, ..LIMITS });
            parts.iter().map(|p| p.lengths.iter().sum()).collect()
        };
        let mixed: Vec<usize> = (0..32).map(|i| 6 + (i * i) % 65).collect();
        let found = parts(&mixed, 1024);
        assert!(found.len() == 2 && found[0].abs_diff(found[1]) <= 70, "{found:?}");
        // after one that is as long as several shares
        let long: Vec<usize> = std::iter::once(2000).chain([5; 100]).collect();
        assert_eq!(parts(&long, 256)[0], 2000);
        assert!(parts(&long, 256)[1..].iter().all(|&tokens| tokens >= 200), "{:?}", parts(&long, 256));
    }

    #[test]
    fn short_sequences_share_rows() {
        let owned = examples(&[20; 48]);
        let batch: Vec<&Example> = owned.iter().collect();
        let packed = pack(&batch, RowLimits { tokens: 4096, ..LIMITS });
        let cells: usize = packed.iter().map(|p| p.rows * p.width).sum();
        assert!(cells <= 48 * 20 * 11 / 10, "{cells} cells for {} tokens", 48 * 20);
    }
}
