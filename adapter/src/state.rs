//! The state of a job between two rounds: everything that the next server step depends on, as one vector.
//!
//! ```text
//! [ values: B | trained head | trained A ][ server's moments ][ folded B of generation 0 | of generation 1 | … ]
//!   └── AdapterLayout, constant ────────┘  0, 1 or 2 × values   grows by one B every `refresh_rounds` rounds
//!
//! state ──► step(state, sum, survivors, round) ──► state         coordinator and every silo alike
//!   └────► adapter(state): what the engine computes with, and what is exported
//! ```
//!
//! **Refresh.** With `lora.refresh_rounds = P`, after rounds P, 2P, … (not after the last) the product B·A becomes a
//! frozen part, A is drawn anew from the next public seed ([`init_a`](crate::init_a) of the next generation), and B and the
//! server's moments start afresh. Folded parts are not added to the base model's weights, which may be bf16 and would
//! lose small updates: they stay factors, and count beside the newest (`W = W0 + s·Σ Bₖ·Aₖ`).
//!
//! Contract: pure; scalar f64 in index order, IEEE `+ − × ÷ √` only, each stored number rounded once to f32. With
//! `fedavg` and without refresh the state is the vector of values alone.

use crate::server::ServerStep;
use crate::{AdapterLayout, LayoutError, initial_values};

/// Generations of A that an adapter may have: the exported rank is their number times r.
pub const MAX_GENERATIONS: usize = 64;
/// Numbers in a state: 4 GiB of `f32`.
const MAX_STATE: usize = 1 << 30;

/// An adapter as the engine and the export see it: the values, and the folded parts before them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Adapter<'a> {
    /// In the order of [`AdapterLayout`].
    pub values: &'a [f32],
    /// B of each generation before the newest, each as long as [`AdapterLayout::b_len`], oldest first.
    pub folded: &'a [f32],
}

impl<'a> Adapter<'a> {
    /// An adapter of the first generation.
    pub fn of(values: &'a [f32]) -> Self {
        Adapter { values, folded: &[] }
    }

    /// Generations of A that it uses, at least 1; `None` where its lengths are not this layout's.
    pub fn generations(&self, layout: &AdapterLayout) -> Option<usize> {
        let folded = self.folded.len() / layout.b_len();
        let fits = self.values.len() == layout.len()
            && self.folded.len().is_multiple_of(layout.b_len())
            && folded < MAX_GENERATIONS
            && (folded == 0 || layout.lora().refresh_rounds.is_some());
        fits.then_some(folded + 1)
    }

    /// B of module `i` beside its folded parts, `[out_features, generations·r]` row-major, oldest first: the columns
    /// that go with the rows of [`a_stack`](crate::a_stack). Lengths must be the layout's.
    pub fn b_stack(&self, layout: &AdapterLayout, i: usize) -> Vec<f32> {
        let (range, r) = (layout.b_range(i), layout.rank());
        let folded = self.folded.chunks_exact(layout.b_len());
        let parts: Vec<&[f32]> = folded.chain([self.values]).map(|part| &part[range.clone()]).collect();
        let rows = 0..layout.modules()[i].out_features;
        rows.flat_map(|row| parts.iter().flat_map(move |part| &part[row * r..(row + 1) * r])).copied().collect()
    }
}

/// The order of a job's state, and how it moves.
#[derive(Clone, Debug, PartialEq)]
pub struct StateLayout {
    layout: AdapterLayout,
    server: ServerStep,
    rounds: u32,
}

impl StateLayout {
    /// The state of a job of `rounds` training rounds.
    ///
    /// # Errors
    /// Names the key where the state would be too large.
    pub fn new(layout: AdapterLayout, server: ServerStep, rounds: u32) -> Result<Self, LayoutError> {
        let state = StateLayout { layout, server, rounds };
        let generations = state.generations();
        if generations > MAX_GENERATIONS {
            let value = state.layout.lora().refresh_rounds.unwrap_or_default().to_string();
            let why = format!(
                "{rounds} rounds would stack {generations} parts, at most {MAX_GENERATIONS}: choose a larger number"
            );
            return Err(LayoutError::Value { key: "refresh_rounds", value, why });
        }
        if state.len(rounds) > MAX_STATE {
            return Err(LayoutError::TooLarge(state.len(rounds)));
        }
        Ok(state)
    }

    /// The adapter's layout.
    pub fn layout(&self) -> &AdapterLayout {
        &self.layout
    }

    /// Folded parts after `round` training rounds.
    fn folded(&self, round: u32) -> usize {
        // nothing is folded after the last round: the part after it would stay empty
        let round = round.min(self.rounds.saturating_sub(1));
        self.layout.lora().refresh_rounds.map_or(0, |every| round / every.max(1)) as usize
    }

    /// Generations of A that the job reaches, at least 1.
    pub fn generations(&self) -> usize {
        self.folded(self.rounds) + 1
    }

    /// Numbers in the state after `round` rounds; 0 for the state that the job starts from.
    pub fn len(&self, round: u32) -> usize {
        self.layout.len() * (1 + self.server.moments()) + self.folded(round) * self.layout.b_len()
    }

    /// The state that the first round starts from.
    pub fn initial(&self) -> Vec<f32> {
        let mut state = initial_values(&self.layout);
        state.extend(self.server.initial_moments(self.layout.len()));
        state
    }

    /// The adapter in a state.
    ///
    /// # Panics
    /// If the state is shorter than any of this job; whoever takes one from outside compares its length with
    /// [`len`](Self::len).
    pub fn adapter<'a>(&self, state: &'a [f32]) -> Adapter<'a> {
        let len = self.layout.len();
        Adapter { values: &state[..len], folded: &state[len * (1 + self.server.moments())..] }
    }

    /// The state after round `round`, whose survivors' updates add up to `sum`, in the order of
    /// [`AdapterLayout::trained`].
    ///
    /// # Panics
    /// If `state` or `sum` has another length than that round's, or nobody survived: the caller decoded `sum` by the
    /// same layout, holds the survivors' certificate, and made `state` here, so each is a bug, not something that a peer
    /// can bring about.
    #[must_use]
    pub fn step(&self, state: &[f32], sum: &[f64], survivors: u32, round: u32) -> Vec<f32> {
        assert_eq!(state.len(), self.len(round.saturating_sub(1)), "the state is not that before round {round}");
        let mut state = state.to_vec();
        let len = self.layout.len();
        // folded parts stand behind the moments and stay
        let (values, moments) = state.split_at_mut(len);
        let moments = &mut moments[..len * self.server.moments()];
        let trained = self.layout.trained(self.layout.training_kind(round));
        self.server.step(values, moments, trained, sum, survivors);
        if self.folded(round) > self.folded(round.saturating_sub(1)) {
            self.fold(&mut state);
        }
        state
    }

    /// Appends B as a folded part and starts B and the moments afresh; a trained head goes on.
    fn fold(&self, state: &mut Vec<f32>) {
        let (len, b_len) = (self.layout.len(), self.layout.b_len());
        state.extend_from_within(..b_len);
        state[..b_len].fill(0.0);
        let moments = self.server.initial_moments(len);
        state[len..len + moments.len()].copy_from_slice(&moments);
    }
}
