//! A run: numbers, job, rules and bounds, as a model that the checker of the `stateright` crate explores.
//!
//! Contract: [`World::check`] says for every harm whether the checker reached it, by exhausting all states within the
//! bounds; [`World::shortest`] gives a shortest way to one.

use crate::moves::Move;
use crate::rules::{Bounds, Grain, Numbers, Rules, Updates};
use crate::safety::{HARMS, Harm};
use crate::silo::Own;
use crate::state::{MOST_ATTEMPTS, MOST_BINDS, MOST_LISTS, MOST_SILOS, Row, State, Tree};
use stateright::{Checker, CheckerBuilder, HasDiscoveries, Model, Property};

/// A run of the checker.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// What each silo knows.
    pub own: Own,
    /// What the coordinator may do.
    pub bounds: Bounds,
}

/// What the checker found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Different states reached.
    pub states: usize,
    /// Bits of [`Harm`].
    pub harms: u16,
}

impl Verdict {
    /// Whether a harm was reached.
    pub fn has(&self, harm: Harm) -> bool {
        self.harms & harm.bit() != 0
    }

    /// The harms reached.
    pub fn list(&self) -> Vec<Harm> {
        HARMS.into_iter().filter(|&harm| self.has(harm)).collect()
    }
}

impl World {
    /// A run.
    ///
    /// # Panics
    /// Where numbers or bounds are larger than a state holds.
    pub fn new(numbers: Numbers, updates: Updates, rules: Rules, bounds: Bounds) -> World {
        let Bounds { attempts, t1s, t2s, t3s, .. } = bounds;
        assert!(usize::from(numbers.n) <= MOST_SILOS && numbers.c < numbers.n, "{numbers:?}");
        assert!((1..=MOST_ATTEMPTS).contains(&attempts.into()), "{bounds:?}");
        assert!(usize::from(t1s.max(t2s)) <= MOST_BINDS && usize::from(t3s) <= MOST_LISTS, "{bounds:?}");
        World { own: Own { numbers, updates, rules }, bounds }
    }

    /// Explores everything.
    pub fn check(self) -> Verdict {
        self.run(self.checker())
    }

    /// Explores until every harm of `wanted` was reached; everything, if one never is.
    pub fn search(self, wanted: u16) -> Verdict {
        let names = HARMS.into_iter().filter(|harm| wanted & harm.bit() != 0).map(Harm::words).collect();
        self.run(self.checker().finish_when(HasDiscoveries::AllOf(names)))
    }

    /// Explores until any harm of `wanted` is reached.
    pub fn search_any(self, wanted: u16) -> Verdict {
        let names = HARMS.into_iter().filter(|harm| wanted & harm.bit() != 0).map(Harm::words).collect();
        self.run(self.checker().finish_when(HasDiscoveries::AnyOf(names)))
    }

    fn run(self, checker: CheckerBuilder<World>) -> Verdict {
        let checker = checker.spawn_bfs().join();
        let harms = HARMS.into_iter().filter(|harm| checker.discovery(harm.words()).is_some());
        Verdict { states: checker.unique_state_count(), harms: harms.fold(0, |bits, harm| bits | harm.bit()) }
    }

    /// The moves of a shortest way to `harm`, with the states they start from; the last state has none.
    pub fn shortest(self, harm: Harm) -> Option<Vec<(State, Option<Move>)>> {
        if !self.search_any(harm.bit()).has(harm) {
            return None;
        }
        (1..).find_map(|depth| {
            let checker = self.checker().target_max_depth(depth).spawn_bfs().join();
            checker.discovery(harm.words()).map(|path| path.into_vec())
        })
    }
}

/// The condition of the property that a harm is not reached.
fn free_of<const BIT: u16>(_: &World, state: &State) -> bool {
    state.harms & BIT == 0
}

impl Model for World {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        let mut state = State {
            rows: vec![Row::default(); self.own.numbers.honest().into()],
            trees: [Tree::default(); MOST_ATTEMPTS],
            restarts: 0,
            restores: 0,
            harms: 0,
        };
        if self.bounds.grain == Grain::Coarse {
            // joining the first attempt binds a silo to nothing
            state.rows = state.rows.iter().filter_map(|row| self.own.open(row, 0, 0)).collect();
        }
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Move>) {
        // once an input is laid bare, what else may follow is of no interest
        if state.harms & Harm::BARE == 0 {
            self.moves(state, actions);
        }
    }

    fn next_state(&self, state: &State, action: Move) -> Option<State> {
        let next = self.apply(state, &action).canonical().0;
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<World>> {
        macro_rules! free_of {
            ($($harm:ident),*) => {
                vec![$(Property::always(Harm::$harm.words(), free_of::<{ 1 << Harm::$harm as u16 }>)),*]
            };
        }
        free_of!(BothSecrets, LoneInput, LoneCounts, Fork, TwoSums, TwoCounts, Twice, OwnFault)
    }
}
