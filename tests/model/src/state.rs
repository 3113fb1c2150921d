//! A state: for every honest silo what it holds and what the world has seen of it, and per attempt which transcript
//! grew from which.
//!
//! Contract: everything that is known about a silo stands in its row, so that two silos with equal rows are
//! interchangeable and sorting the rows gives one state for all renamings (exact symmetry reduction). Colluders have no
//! row: they hold whatever they are dealt and sign whatever helps, so only their number matters.

use crate::few::Few;

/// Most silos of a run.
pub const MOST_SILOS: usize = 5;
/// Most attempts of a run.
pub const MOST_ATTEMPTS: usize = 3;
/// Most different T1, and T2, that are shown in one attempt.
pub const MOST_BINDS: usize = 2;
/// Most different T3.
pub const MOST_LISTS: usize = 3;
/// Most journal entries: five for each attempt, one more for each that is joined again.
const MOST_ENTRIES: usize = 20;
/// Most adverts of one silo in one attempt.
const MOST_ADVERTS: usize = 6;

/// A set of rows, attempts or transcripts, as bits.
pub type Set = u8;

/// The members of a set, ascending.
pub fn members(set: Set) -> impl Iterator<Item = usize> {
    (0..8).filter(move |i| set >> i & 1 == 1)
}

/// A journal entry, as `protocol/src/silo/journal.rs` has them. Attempts count from 0 here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Entry {
    /// An opening was accepted.
    Joined(u8),
    /// Adverts with this T1 were accepted; what they say of the peers' journals is remembered.
    Peers(u8, u8),
    /// The masked input goes out.
    Masked(u8),
    /// Voted COMMIT for this T3.
    Committed(u8, u8),
    /// Voted ABANDON.
    Abandoned(u8),
}

impl Default for Entry {
    /// Fills the unused places of a [`Few`].
    fn default() -> Entry {
        Entry::Joined(0)
    }
}

/// How far a journal is: its length and a hash over its entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mark {
    /// Entries.
    pub length: u8,
    /// Stands for the hash chain.
    pub head: u32,
}

/// What a journal adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replay {
    /// One above the newest attempt joined or abandoned; 0 for none.
    pub newest: u8,
    /// The attempt joined last.
    pub joined: Option<u8>,
    /// All attempts joined.
    pub ever_joined: Set,
    /// Attempts in which y went out.
    pub masked: Set,
    /// The newest COMMIT vote: attempt and T3.
    pub committed: Option<(u8, u8)>,
    /// Attempts with a vote.
    pub voted: Set,
}

/// Replays a journal.
pub fn replay(journal: &[Entry]) -> Replay {
    let mut r = Replay::default();
    for entry in journal {
        match *entry {
            Entry::Joined(at) => {
                r.newest = r.newest.max(at + 1);
                r.joined = Some(at);
                r.ever_joined |= 1 << at;
            }
            Entry::Peers(..) => {}
            Entry::Masked(at) => r.masked |= 1 << at,
            Entry::Committed(at, t3) => {
                r.committed = Some((at, t3));
                r.voted |= 1 << at;
            }
            Entry::Abandoned(at) => {
                r.newest = r.newest.max(at + 1);
                r.voted |= 1 << at;
            }
        }
    }
    r
}

/// The mark of a journal.
pub fn mark(journal: &[Entry]) -> Mark {
    let byte = |head: u32, byte: u8| (head ^ u32::from(byte)).wrapping_mul(0x0100_0193);
    let head = journal.iter().fold(0x811c_9dc5, |head, entry| {
        let (kind, at, which) = match *entry {
            Entry::Joined(at) => (1, at, 0),
            Entry::Peers(at, t1) => (2, at, t1),
            Entry::Masked(at) => (3, at, 0),
            Entry::Committed(at, t3) => (4, at, t3),
            Entry::Abandoned(at) => (5, at, 0),
        };
        byte(byte(byte(head, kind), at), which)
    });
    Mark { length: u8::try_from(journal.len()).expect("a journal of a few entries"), head }
}

/// What the running process of a silo awaits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Session {
    /// Nothing.
    #[default]
    Idle,
    /// Sent its advert (the how manieth of this attempt, from 1); awaits the others'.
    Adverts(u8, u8),
    /// Dealt under this T1.
    Shares(u8, u8),
    /// Sent y under this T2.
    List(u8, u8),
    /// Voted COMMIT for this T3; its reply is ready.
    Certificate(u8, u8),
}

impl Session {
    /// The attempt.
    pub fn attempt(self) -> Option<u8> {
        match self {
            Session::Idle => None,
            Session::Adverts(at, _) | Session::Shares(at, _) | Session::List(at, _) | Session::Certificate(at, _) => {
                Some(at)
            }
        }
    }
}

/// A local update that is ready to be masked, with the attempts in which it went out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Update {
    /// Tells a silo's updates of the round apart.
    pub id: u8,
    /// Attempts, as far as the process remembers.
    pub sent_in: Set,
}

/// What is inside a masked input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Input {
    /// The update.
    pub update: u8,
    /// Whether the held-out counts are in.
    pub counts: bool,
}

/// What the world has of a silo in one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Facts {
    /// Its adverts, each with the mark that it carries. A well-behaved silo has one.
    pub adverts: Few<Mark, MOST_ADVERTS>,
    /// Those of its adverts, from bit 0, that say it cannot add held-out counts.
    pub quiet: Set,
    /// Per T1: which of its adverts is listed, from 1; 0 for none.
    pub listed: [u8; MOST_BINDS],
    /// T1 under which it dealt.
    pub dealt: Set,
    /// T2 that hold its header.
    pub headers: Set,
    /// Per T2: the masked input it sent.
    pub sent: [Option<Input>; MOST_BINDS],
    /// T3 that list it as a survivor.
    pub survives: Set,
    /// T3 that it signed.
    pub voted: Set,
    /// T3 for which it sent its reply.
    pub revealed: Set,
    /// It signed ABANDON.
    pub abandoned: bool,
}

/// An honest silo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Row {
    /// On its disk.
    pub journal: Few<Entry, MOST_ENTRIES>,
    /// Its disk was put back once.
    pub restored: bool,
    /// Openings that this process received.
    pub seen: Set,
    /// In memory.
    pub update: Option<Update>,
    /// How many updates it ever trained in this round.
    pub trained: u8,
    /// In memory.
    pub session: Session,
    /// Held-out counts stay out of this session's masked input.
    pub silent: bool,
    /// What the world has of it, per attempt.
    pub facts: [Facts; MOST_ATTEMPTS],
}

/// Which transcripts an attempt has, and which grew from which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Tree {
    /// How many T1.
    pub t1s: u8,
    /// Per T2, its T1.
    pub t2s: Few<u8, MOST_BINDS>,
    /// Per T3, its T2.
    pub t3s: Few<u8, MOST_LISTS>,
}

/// A state of the world.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    /// The honest silos, sorted.
    pub rows: Vec<Row>,
    /// Per attempt.
    pub trees: [Tree; MOST_ATTEMPTS],
    /// Restarts so far.
    pub restarts: u8,
    /// Restored disks so far.
    pub restores: u8,
    /// What has gone wrong: bits of [`crate::safety::Harm`], computed from the rest.
    pub harms: u16,
}

impl State {
    /// Rows for which something holds.
    pub fn rows_where(&self, holds: impl Fn(&Row) -> bool) -> Set {
        self.rows.iter().enumerate().filter(|(_, row)| holds(row)).fold(0, |set, (i, _)| set | 1 << i)
    }

    /// Sorts the rows; returns where each row of the result stood before.
    pub fn canonical(mut self) -> (State, Vec<usize>) {
        let mut order: Vec<usize> = (0..self.rows.len()).collect();
        order.sort_by(|&i, &j| self.rows[i].cmp(&self.rows[j]));
        self.rows = order.iter().map(|&i| self.rows[i]).collect();
        (self, order)
    }
}
