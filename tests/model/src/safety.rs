//! What the coordinator and its colluders can compute in a state, and which of it breaks a promise.
//!
//! In one bind, let N be the honest silos with a header there whose σ the coordinator cannot rebuild. The pair masks
//! between two of N are unknown to it; every other pair mask is known from one of its ends. So it learns
//! - the input of a silo outside N whose y and b it has: both secrets of one silo, the worst case; and
//! - the sum over N, if it has y and b of every silo in N,
//!
//! and nothing else: any other combination of the y keeps a self mask or a pair mask that is uniform to it. (Where two
//! T2 grew from one T1, their masks come from the same secrets under another salt, so sums of two binds do not cancel.)
//! Secrets count as known with t shares: those of the c colluders, who are dealt to in every list, and those revealed.

use crate::rules::Updates;
use crate::silo::Own;
use crate::state::{Row, Set, State, Tree, members};

/// A promise that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Harm {
    /// SA-06, (a): b and σ of one honest silo are known, and y with them.
    BothSecrets,
    /// SA-05, (a): a sum over one honest input, the others in it being colluders'.
    LoneInput,
    /// (a) for the coordinates without noise: a sum in which one honest silo alone has its held-out counts.
    LoneCounts,
    /// (b): two T3 of one attempt have q signatures.
    Fork,
    /// SA-13, (c): two sums over different sets share an update of an honest silo.
    TwoSums,
    /// SA-13 for held-out counts: two sums over different sets share a silo's counts.
    TwoCounts,
    /// SA-07, (d): a silo sent two adverts, two masked inputs or two votes in one attempt. Not counted for a silo whose
    /// disk was put back, which cannot know better.
    Twice,
    /// As `TwoSums` or `TwoCounts`, but only for updates and counts of silos whose own disk was put back.
    OwnFault,
}

/// All of them.
pub const HARMS: [Harm; 8] = [
    Harm::BothSecrets,
    Harm::LoneInput,
    Harm::LoneCounts,
    Harm::Fork,
    Harm::TwoSums,
    Harm::TwoCounts,
    Harm::Twice,
    Harm::OwnFault,
];

impl Harm {
    /// An honest silo's own input is known. What may follow is not explored.
    pub const BARE: u16 = 1 << Harm::BothSecrets as u16 | 1 << Harm::LoneInput as u16;
    /// What the quorums are there to prevent.
    pub const CORE: u16 = Harm::BARE | 1 << Harm::Fork as u16 | 1 << Harm::TwoSums as u16 | 1 << Harm::Twice as u16;

    /// Its bit in [`State::harms`].
    pub fn bit(self) -> u16 {
        1 << self as u16
    }

    /// A few words.
    pub fn words(self) -> &'static str {
        match self {
            Harm::BothSecrets => "both secrets of one silo",
            Harm::LoneInput => "sum over one honest input",
            Harm::LoneCounts => "held-out counts of one silo",
            Harm::Fork => "two certified lists of one attempt",
            Harm::TwoSums => "two sums over one update",
            Harm::TwoCounts => "two sums over one silo's counts",
            Harm::Twice => "two votes, adverts or inputs in one attempt",
            Harm::OwnFault => "two sums over a restored silo's own update or counts",
        }
    }
}

/// A sum that the coordinator has: over which updates, and whose counts are in.
struct Sum {
    silos: Set,
    updates: Vec<(usize, u8)>,
    counts: Set,
}

/// Whether `votes` honest votes and all colluders' make a certificate.
pub fn is_quorum(own: &Own, votes: Set) -> bool {
    votes.count_ones() + u32::from(own.numbers.c) >= u32::from(own.numbers.q)
}

/// T3 of an attempt that hold q COMMIT votes.
pub fn certified(own: &Own, state: &State, at: u8) -> Set {
    let votes = |t3: usize| state.rows_where(|row| row.facts[usize::from(at)].voted >> t3 & 1 == 1);
    (0..state.trees[usize::from(at)].t3s.len()).filter(|&t3| is_quorum(own, votes(t3))).fold(0, |set, t3| set | 1 << t3)
}

/// Attempts that hold q ABANDON votes.
pub fn abandoned(own: &Own, state: &State) -> Set {
    let votes = |at: usize| state.rows_where(|row| row.facts[at].abandoned);
    (0..state.trees.len()).filter(|&at| is_quorum(own, votes(at))).fold(0, |set, at| set | 1 << at)
}

/// Whether t shares of a silo's secret are known, given the T3 whose replies hold one.
fn rebuilt(own: &Own, state: &State, at: usize, replies: Set) -> bool {
    let holders = state.rows_where(|row| row.facts[at].revealed & replies != 0);
    holders.count_ones() + u32::from(own.numbers.c) >= u32::from(own.numbers.t)
}

/// Computes the harms of a state.
pub fn harms(own: &Own, state: &State) -> u16 {
    let mut found = 0;
    let mut sums = Vec::new();
    for (at, tree) in state.trees.iter().enumerate() {
        for t2 in 0..tree.t2s.len() {
            found |= look_at_bind(own, state, at, tree, t2, &mut sums);
        }
        if certified(own, state, u8::try_from(at).unwrap_or(u8::MAX)).count_ones() > 1 {
            found |= Harm::Fork.bit();
        }
        let twice = |row: &Row| {
            let facts = &row.facts[at];
            let votes = facts.voted.count_ones() + u32::from(facts.abandoned);
            let sent = facts.sent.iter().flatten().count();
            !row.restored && (votes > 1 || facts.adverts.len() > 1 || sent > 1)
        };
        if state.rows.iter().any(twice) {
            found |= Harm::Twice.bit();
        }
    }
    found | compare(own, state, &sums)
}

fn look_at_bind(own: &Own, state: &State, at: usize, tree: &Tree, t2: usize, sums: &mut Vec<Sum>) -> u16 {
    // shares are of the secrets dealt under T1: replies of every T2 and T3 above it count
    let grown: Vec<usize> =
        (0..tree.t3s.len()).filter(|&t3| tree.t2s[usize::from(tree.t3s[t3])] == tree.t2s[t2]).collect();
    let mut found = 0;
    let (mut hidden, mut open) = (0, true);
    for i in members(state.rows_where(|row| row.facts[at].headers >> t2 & 1 == 1)) {
        let facts = &state.rows[i].facts[at];
        let (mut b, mut sigma) = (0, 0);
        for &t3 in &grown {
            if facts.survives >> t3 & 1 == 1 {
                b |= 1 << t3;
            } else if facts.headers >> tree.t3s[t3] & 1 == 1 {
                sigma |= 1 << t3;
            }
        }
        let bare = facts.sent[t2].is_some() && rebuilt(own, state, at, b);
        if !rebuilt(own, state, at, sigma) {
            hidden |= 1 << i;
            open &= bare;
        } else if bare {
            found |= Harm::BothSecrets.bit();
        }
    }
    if open && hidden != 0 {
        let input = |i: usize| state.rows[i].facts[at].sent[t2];
        let updates = members(hidden).filter_map(|i| input(i).map(|x| (i, x.update))).collect();
        let counts = members(hidden).filter(|&i| input(i).is_some_and(|x| x.counts)).fold(0, |s, i| s | 1 << i);
        sums.push(Sum { silos: hidden, updates, counts });
    }
    found
}

fn compare(own: &Own, state: &State, sums: &[Sum]) -> u16 {
    let intact = state.rows_where(|row| !row.restored);
    let blame = |harm: Harm, victims: Set| match victims {
        0 => 0,
        v if v & intact != 0 => harm.bit(),
        _ => Harm::OwnFault.bit(),
    };
    let mut found = 0;
    for (i, sum) in sums.iter().enumerate() {
        if sum.silos.count_ones() < 2 {
            found |= Harm::LoneInput.bit();
        }
        if own.updates == Updates::Fresh && sum.counts.count_ones() == 1 {
            found |= Harm::LoneCounts.bit();
        }
        for other in &sums[..i] {
            if sum.updates != other.updates {
                let both = sum.updates.iter().filter(|u| other.updates.contains(u)).fold(0, |s, (i, _)| s | 1 << i);
                found |= blame(Harm::TwoSums, both);
            }
            if own.updates == Updates::Fresh && sum.counts != other.counts {
                found |= blame(Harm::TwoCounts, sum.counts & other.counts);
            }
        }
    }
    found
}
