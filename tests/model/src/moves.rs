//! The moves: what the coordinator, the disks and the power supply can do in a state, and what comes of it.
//!
//! Contract: `moves` lists what is worth trying, `apply` carries out exactly one move by calling `silo.rs` for every
//! silo concerned, then hands every reply out that a certificate releases. A move names rows of the state it is made
//! in.

use crate::rules::{Grain, Numbers, Snapshot, Switch};
use crate::safety::{abandoned, certified, harms, is_quorum};
use crate::silo::{is_quiet, known_marks, listed_marks};
use crate::state::{Entry, Row, Session, Set, State, members};
use crate::world::World;

/// One move. Sets are of rows; attempts and transcripts count from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "at, t1, t2, t3 and silos say what they are")]
pub enum Move {
    /// Opens an attempt at these silos, with the ABANDON certificates of the attempts `proven`.
    Open { at: u8, proven: Set, silos: Set },
    /// Shows adverts: an old T1, or a new one that lists these adverts (per row which one, from 1; 0 for none).
    Adverts { at: u8, t1: u8, new: Option<Vec<u8>>, silos: Set },
    /// Shows headers and hands out the shares: an old T2, or a new one over a T1 with these headers.
    Shares { at: u8, t1: u8, t2: u8, new: Option<Set>, silos: Set },
    /// Asks for COMMIT: an old T3, or a new one over a T2 with these survivors.
    Commit { at: u8, t2: u8, t3: u8, new: Option<Set>, silos: Set },
    /// Asks for ABANDON, or lets the deadline pass.
    Abandon { at: u8, silos: Set },
    /// A silo's process dies and starts again. `lost`: it dies between a vote and its journal entry.
    Restart { silo: usize, lost: bool },
    /// A silo's disk is replaced by an old copy with `keep` entries, and it starts again.
    Restore { silo: usize, keep: usize },
}

/// The nonempty subsets of `from`, up to renaming equal rows on the same side of `split`; in a fine grain single silos
/// only.
fn choices(rows: &[Row], from: Set, split: Set, grain: Grain) -> Vec<Set> {
    let mut classes: Vec<Vec<usize>> = Vec::new();
    for i in members(from) {
        let alike = |j: usize| rows[i] == rows[j] && (split >> i & 1) == (split >> j & 1);
        match classes.iter_mut().find(|class| alike(class[0])) {
            Some(class) => class.push(i),
            None => classes.push(vec![i]),
        }
    }
    if grain == Grain::Fine {
        return classes.iter().map(|class| 1 << class[0]).collect();
    }
    let mut sets = vec![0];
    for class in classes {
        let prefixes: Vec<Set> = (0..=class.len()).map(|n| class[..n].iter().fold(0, |set, i| set | 1 << i)).collect();
        sets = sets.iter().flat_map(|set| prefixes.iter().map(move |prefix| set | prefix)).collect();
    }
    sets.retain(|&set| set != 0);
    sets
}

/// Every subset up to renaming, also in a fine grain; the empty one included.
fn subsets(rows: &[Row], from: Set, split: Set) -> Vec<Set> {
    let mut sets = choices(rows, from, split, Grain::Coarse);
    sets.push(0);
    sets
}

impl World {
    /// Lists the moves that change something.
    pub fn moves(&self, state: &State, moves: &mut Vec<Move>) {
        let proven = abandoned(&self.own, state);
        for at in 0..self.bounds.attempts {
            self.openings(state, at, proven, moves);
            self.advert_lists(state, at, moves);
            self.header_lists(state, at, moves);
            self.survivor_lists(state, at, moves);
            self.abandonments(state, at, proven, moves);
        }
        self.mishaps(state, moves);
    }

    fn fine(&self) -> bool {
        self.bounds.grain == Grain::Fine
    }

    fn numbers(&self) -> &Numbers {
        &self.own.numbers
    }

    /// A list of honest silos with all colluders is as long as the silos ask.
    fn long_enough(&self, honest: Set) -> bool {
        let least = if self.own.rules.thrown(Switch::Minimum) { 1 } else { self.numbers().m };
        honest.count_ones() + u32::from(self.numbers().c) >= u32::from(least)
    }

    fn openings(&self, state: &State, at: u8, proven: Set, moves: &mut Vec<Move>) {
        let shown = subsets_of(proven & !(1 << at));
        for proven in shown {
            let open = state.rows_where(|row| self.own.open(row, at, proven).is_some_and(|after| after != *row));
            for silos in choices(&state.rows, open, 0, self.bounds.grain) {
                moves.push(Move::Open { at, proven, silos });
            }
        }
    }

    fn advert_lists(&self, state: &State, at: u8, moves: &mut Vec<Move>) {
        let tree = &state.trees[usize::from(at)];
        let waiting = state.rows_where(|row| matches!(row.session, Session::Adverts(a, _) if a == at));
        if waiting == 0 {
            return;
        }
        if self.fine() {
            for t1 in 0..tree.t1s {
                self.show_adverts(state, at, t1, None, waiting, moves);
            }
        }
        if tree.t1s >= self.bounds.t1s {
            return;
        }
        for listed in self.advert_choices(state, at) {
            let honest = state_set(&listed);
            let enough = honest.count_ones() + u32::from(self.numbers().c) >= u32::from(self.numbers().t);
            let same = |t1: u8| {
                (0..listed.len()).all(|i| state.rows[i].facts[usize::from(at)].listed[usize::from(t1)] == listed[i])
            };
            // without a colluder in it, equal lists are one list
            if self.long_enough(honest) && enough && (self.numbers().c > 0 || !(0..tree.t1s).any(same)) {
                self.show_adverts(state, at, tree.t1s, Some(listed), waiting, moves);
            }
        }
    }

    /// Which advert of each silo a new T1 can list. Coarse: an intact silo's is always in, since it can only help.
    fn advert_choices(&self, state: &State, at: u8) -> Vec<Vec<u8>> {
        let mut lists = vec![Vec::new()];
        for row in &state.rows {
            let sent = u8::try_from(row.facts[usize::from(at)].adverts.len()).expect("a few adverts");
            let least = if !self.fine() && sent == 1 && !row.restored { 1 } else { 0 };
            lists = lists
                .into_iter()
                .flat_map(|list| (least..=sent).map(move |which| [list.clone(), vec![which]].concat()))
                .collect();
        }
        lists
    }

    fn show_adverts(&self, state: &State, at: u8, t1: u8, new: Option<Vec<u8>>, to: Set, moves: &mut Vec<Move>) {
        let mut shown = state.clone();
        if let Some(listed) = &new {
            list_adverts(&mut shown, at, t1, listed);
        }
        let accepts = to & rows_that(&shown, |i| self.deal(&shown, i, at, t1).is_some());
        // with one T1 and sound disks, whoever can deal may as well
        let all = !self.fine() && self.bounds.t1s == 1 && self.bounds.restores == 0;
        let split = new.as_ref().map_or(0, |listed| state_set(listed));
        let groups = match (all, accepts) {
            (_, 0) => Vec::new(),
            (true, accepts) => vec![accepts],
            (false, accepts) => choices(&state.rows, accepts, split, self.bounds.grain),
        };
        moves.extend(groups.into_iter().map(|silos| Move::Adverts { at, t1, new: new.clone(), silos }));
    }

    fn deal(&self, state: &State, i: usize, at: u8, t1: u8) -> Option<Row> {
        let (listed, known) = (listed_marks(&state.rows, i, at, t1), known_marks(&state.rows, i));
        self.own.adverts(&state.rows[i], (at, t1), &listed, &known, is_quiet(&state.rows, at, t1))
    }

    fn header_lists(&self, state: &State, at: u8, moves: &mut Vec<Move>) {
        let tree = &state.trees[usize::from(at)];
        let grain = self.bounds.grain;
        for t1 in 0..tree.t1s {
            let waiting = state.rows_where(|row| row.session == Session::Shares(at, t1));
            let dealt = state.rows_where(|row| row.facts[usize::from(at)].dealt >> t1 & 1 == 1);
            for t2 in 0..tree.t2s.len() {
                let to = waiting & headers(state, at, t2);
                if self.fine() && tree.t2s[t2] == t1 && to != 0 {
                    let t2 = small(t2);
                    let groups = choices(&state.rows, to, 0, grain);
                    moves.extend(groups.into_iter().map(|silos| Move::Shares { at, t1, t2, new: None, silos }));
                }
            }
            if tree.t2s.len() >= usize::from(self.bounds.t2s) || waiting == 0 {
                continue;
            }
            // coarse: a header more can only help
            let lists = if self.fine() { subsets(&state.rows, dealt, 0) } else { vec![dealt] };
            for list in lists {
                let same = |t2: usize| tree.t2s[t2] == t1 && headers(state, at, t2) == list;
                if !self.long_enough(list) || (self.numbers().c == 0 && (0..tree.t2s.len()).any(same)) {
                    continue;
                }
                let t2 = small(tree.t2s.len());
                for silos in choices(&state.rows, waiting & list, list, grain) {
                    moves.push(Move::Shares { at, t1, t2, new: Some(list), silos });
                }
            }
        }
    }

    fn survivor_lists(&self, state: &State, at: u8, moves: &mut Vec<Move>) {
        let tree = &state.trees[usize::from(at)];
        let grain = self.bounds.grain;
        let survives = |t3: usize| state.rows_where(|row| row.facts[usize::from(at)].survives >> t3 & 1 == 1);
        for t2 in 0..tree.t2s.len() {
            let waiting = state.rows_where(|row| row.session == Session::List(at, small(t2)));
            if waiting == 0 {
                continue;
            }
            for t3 in (0..tree.t3s.len()).filter(|_| self.fine()) {
                let to = waiting & survives(t3);
                if usize::from(tree.t3s[t3]) == t2 && to != 0 {
                    let (t2, t3) = (small(t2), small(t3));
                    let groups = choices(&state.rows, to, 0, grain);
                    moves.extend(groups.into_iter().map(|silos| Move::Commit { at, t2, t3, new: None, silos }));
                }
            }
            if tree.t3s.len() >= usize::from(self.bounds.t3s) {
                continue;
            }
            let sent = state.rows_where(|row| row.facts[usize::from(at)].sent[t2].is_some());
            for list in subsets(&state.rows, sent, 0) {
                let same = |t3: usize| usize::from(tree.t3s[t3]) == t2 && survives(t3) == list;
                if !self.long_enough(list) || (self.numbers().c == 0 && (0..tree.t3s.len()).any(same)) {
                    continue;
                }
                let (t2, t3) = (small(t2), small(tree.t3s.len()));
                for silos in choices(&state.rows, waiting & list, list, grain) {
                    // coarse: votes that make no certificate only bind the voters
                    if self.fine() || !self.own.rules.is_as_coded() || is_quorum(&self.own, silos) {
                        moves.push(Move::Commit { at, t2, t3, new: Some(list), silos });
                    }
                }
            }
        }
    }

    fn abandonments(&self, state: &State, at: u8, proven: Set, moves: &mut Vec<Move>) {
        let before = state.rows_where(|row| row.facts[usize::from(at)].abandoned);
        let will = state.rows_where(|row| self.own.abandon(row, at).is_some());
        let useful = at + 1 < self.bounds.attempts && proven >> at & 1 == 0;
        for silos in choices(&state.rows, will, 0, self.bounds.grain) {
            let enough = useful && is_quorum(&self.own, before | silos);
            if self.fine() || !self.own.rules.is_as_coded() || enough {
                moves.push(Move::Abandon { at, silos });
            }
        }
    }

    fn mishaps(&self, state: &State, moves: &mut Vec<Move>) {
        let all = rows_that(state, |_| true);
        for one in choices(&state.rows, all, 0, Grain::Fine) {
            let silo = one.trailing_zeros() as usize;
            let row = &state.rows[silo];
            if state.restarts < self.bounds.restarts {
                if self.own.restart(row) != *row {
                    moves.push(Move::Restart { silo, lost: false });
                }
                let voted = matches!(row.journal.last(), Some(Entry::Committed(..) | Entry::Abandoned(_)));
                if voted && self.own.rules.thrown(Switch::JournalFirst) {
                    moves.push(Move::Restart { silo, lost: true });
                }
            }
            if state.restores < self.bounds.restores {
                let joined = row.journal.iter().rposition(|entry| matches!(entry, Entry::Joined(_)));
                let least = match self.bounds.snapshot {
                    Snapshot::Any => 0,
                    Snapshot::OfThisAttempt => joined.map_or(0, |place| place + 1),
                };
                moves.extend((least..row.journal.len()).map(|keep| Move::Restore { silo, keep }));
            }
        }
    }

    /// Carries out a move. The rows of the result are not sorted.
    pub fn apply(&self, state: &State, step: &Move) -> State {
        let mut after = state.clone();
        let mut each = |silos: Set, act: &dyn Fn(&State, usize) -> Option<Row>| {
            for i in members(silos) {
                after.rows[i] = act(&after, i).expect("the move was listed because the silo takes it");
            }
        };
        match *step {
            Move::Open { at, proven, silos } => each(silos, &|s, i| self.own.open(&s.rows[i], at, proven)),
            Move::Adverts { at, t1, ref new, silos } => {
                if let Some(listed) = new {
                    list_adverts(&mut after, at, t1, listed);
                }
                // each silo sees the others' marks as they were advertised, whatever order they act in
                let shown = after.clone();
                for i in members(silos) {
                    after.rows[i] =
                        self.deal(&shown, i, at, t1).expect("the move was listed because the silo takes it");
                }
            }
            Move::Shares { at, t1, t2, new, silos } => {
                if let Some(list) = new {
                    after.trees[usize::from(at)].t2s.push(t1);
                    members(list).for_each(|i| after.rows[i].facts[usize::from(at)].headers |= 1 << t2);
                }
                for i in members(silos) {
                    let row = self.own.shares(&after.rows[i], at, t1, t2);
                    after.rows[i] = row.unwrap_or(after.rows[i]);
                }
            }
            Move::Commit { at, t2, t3, new, silos } => {
                if let Some(list) = new {
                    after.trees[usize::from(at)].t3s.push(t2);
                    members(list).for_each(|i| after.rows[i].facts[usize::from(at)].survives |= 1 << t3);
                }
                for i in members(silos) {
                    let row = self.own.commit(&after.rows[i], at, t2, t3);
                    after.rows[i] = row.unwrap_or(after.rows[i]);
                }
            }
            Move::Abandon { at, silos } => each(silos, &|s, i| self.own.abandon(&s.rows[i], at)),
            Move::Restart { silo, lost } => {
                after.restarts += 1;
                let row = &mut after.rows[silo];
                if lost {
                    row.journal.truncate(row.journal.len() - 1);
                }
                *row = self.own.restart(row);
            }
            Move::Restore { silo, keep } => {
                after.restores += 1;
                let row = &mut after.rows[silo];
                row.journal.truncate(keep);
                row.restored = true;
                *row = self.own.restart(row);
            }
        }
        self.reveal_all(&mut after);
        after.harms = harms(&self.own, &after);
        after
    }

    /// A reply once released binds its silo to nothing more: the coordinator may as well take it at once.
    fn reveal_all(&self, state: &mut State) {
        let certified: Vec<Set> = (0..self.bounds.attempts).map(|at| certified(&self.own, state, at)).collect();
        for i in 0..state.rows.len() {
            if let Some(row) = self.own.reveal(&state.rows[i], |at| certified[usize::from(at)]) {
                state.rows[i] = row;
            }
        }
    }
}

fn small(index: usize) -> u8 {
    u8::try_from(index).expect("a few transcripts")
}

fn subsets_of(set: Set) -> Vec<Set> {
    (0..=set).filter(|sub| sub & !set == 0).collect()
}

fn rows_that(state: &State, holds: impl Fn(usize) -> bool) -> Set {
    (0..state.rows.len()).filter(|&i| holds(i)).fold(0, |set, i| set | 1 << i)
}

fn state_set(listed: &[u8]) -> Set {
    (0..listed.len()).filter(|&i| listed[i] != 0).fold(0, |set, i| set | 1 << i)
}

fn headers(state: &State, at: u8, t2: usize) -> Set {
    state.rows_where(|row| row.facts[usize::from(at)].headers >> t2 & 1 == 1)
}

fn list_adverts(state: &mut State, at: u8, t1: u8, listed: &[u8]) {
    state.trees[usize::from(at)].t1s = t1 + 1;
    for (row, which) in state.rows.iter_mut().zip(listed) {
        row.facts[usize::from(at)].listed[usize::from(t1)] = *which;
    }
}
