//! The campaigns: which runs make up a verdict.
//!
//! ```text
//! lists      one attempt, two T1, two T2, two T3, a restart           every n, c, t, q, m    (a) and (b)
//! retries    two attempts, two T3 in each, a restart                  every n, c, t, q       (a) to (d)
//! attack     two attempts, the rule on held-out counts kept, removed  every n, c             lone counts; kept: all
//! disks      the product's numbers, one or two restored disks         every n, c             (a) to (d)
//! teeth      the product's numbers, one rule removed                  three or four n, c     (a) to (d)
//! grains     single moves against merged ones                         n = 3                  the same harms
//! ```
//! Contract: every run is exhaustive within its bounds, except where attacks are expected: it may stop once all of them
//! are found.

use crate::expect::expected;
use crate::parallel::in_parallel;
use crate::rules::{Bounds, Grain, Numbers, Rules, Snapshot, Switch, Updates};
use crate::safety::Harm;
use crate::world::{Verdict, World};

/// Both kinds of job.
pub const JOBS: [Updates; 2] = [Updates::Fresh, Updates::Same];

/// Two attempts, each with one bind and two lists.
pub const TWO_ATTEMPTS: Bounds = Bounds {
    attempts: 2,
    t1s: 1,
    t2s: 1,
    t3s: 2,
    restarts: 0,
    restores: 0,
    snapshot: Snapshot::Any,
    grain: Grain::Coarse,
};

/// One attempt with two of everything, and a restart.
pub const ONE_ATTEMPT: Bounds = Bounds { attempts: 1, t1s: 2, t2s: 2, restarts: 1, ..TWO_ATTEMPTS };

/// A run with the answer that was expected of it.
#[derive(Debug, Clone, Copy)]
pub struct Run {
    /// What ran.
    pub world: World,
    /// What the checker found.
    pub verdict: Verdict,
    /// Bits of [`Harm`] that were to be found, and no others.
    pub expected: u16,
    /// Bits that were looked at.
    pub compared: u16,
}

impl Run {
    /// Found and expected agree. Once an input is laid bare nothing more is compared.
    pub fn is_as_expected(&self) -> bool {
        let (found, expected) = (self.verdict.harms, self.expected);
        match (found & Harm::BARE != 0, expected & Harm::BARE != 0) {
            (true, true) => true,
            (false, false) => (found ^ expected) & self.compared == 0,
            _ => false,
        }
    }
}

/// n and c of every federation up to `most` silos that the product admits.
pub fn federations(most: u8) -> Vec<(u8, u8)> {
    (3..=most).flat_map(|n| (0..=n - 2).map(move |c| (n, c))).collect()
}

/// What the product makes m, for a q that need not be its own.
pub fn minimum(n: u8, c: u8, q: u8) -> u8 {
    q.max(c + 2).max(3).min(n)
}

/// One attempt, every transcript: both secrets, lone inputs and forks, for every t, q and m.
pub fn lists(most: u8) -> Vec<Run> {
    let mut numbers = Vec::new();
    for (n, c) in federations(most) {
        for (t, q, m) in all_of(n) {
            numbers.push(Numbers { n, c, t, q, m });
        }
    }
    in_parallel("lists", &numbers, |&numbers| {
        let world = World::new(numbers, Updates::Same, Rules::kept(), ONE_ATTEMPT);
        let compared = Harm::BARE | Harm::Fork.bit() | Harm::Twice.bit();
        Run { world, verdict: world.check(), expected: expected(numbers, Updates::Same) & compared, compared }
    })
}

fn all_of(n: u8) -> impl Iterator<Item = (u8, u8, u8)> {
    (1..=n).flat_map(move |t| (1..=n).flat_map(move |q| (1..=n).map(move |m| (t, q, m))))
}

/// Two attempts with restarts between, for every t and q, m as the product makes it; at most four honest silos.
///
/// With four, a run stops once all that is expected is found (to the end it is six times the states); with fewer, no
/// run does.
pub fn retries(most: u8) -> Vec<Run> {
    let mut worlds = Vec::new();
    // five honest silos take more than 20 GB
    for (n, c) in federations(most).into_iter().filter(|(n, c)| n - c <= 4) {
        let bounds = Bounds { restarts: 1, ..TWO_ATTEMPTS };
        for (t, q) in (1..=n).flat_map(|t| (1..=n).map(move |q| (t, q))) {
            let numbers = Numbers { n, c, t, q, m: minimum(n, c, q) };
            worlds.extend(JOBS.map(|updates| World::new(numbers, updates, Rules::kept(), bounds)));
        }
    }
    // the long ones first
    worlds.sort_by_key(|world| std::cmp::Reverse(world.own.numbers.honest()));
    in_parallel("retries", &worlds, |world| {
        let expected = expected(world.own.numbers, world.own.updates);
        if expected == 0 || world.own.numbers.honest() < 4 {
            Run { world: *world, verdict: world.check(), expected, compared: u16::MAX }
        } else {
            Run { world: *world, verdict: world.search(expected), expected, compared: expected }
        }
    })
}

/// The product's numbers with restored disks, for every n and c with at most three honest silos.
pub fn disks(most: u8, bounds: Bounds, rules: Rules) -> Vec<(World, Verdict)> {
    let mut worlds = Vec::new();
    for (n, c) in federations(most) {
        worlds.extend(JOBS.map(|updates| World::new(Numbers::derived(n, c), updates, rules, bounds)));
    }
    worlds.retain(|world| world.own.numbers.honest() <= 3);
    in_parallel("disks", &worlds, |world| {
        let Numbers { n, c, q, .. } = world.own.numbers;
        let many = bounds.snapshot == Snapshot::Any && 2 * q <= n + c + bounds.restores;
        let verdict = if many { world.search_any(Harm::CORE) } else { world.check() };
        // without restored disks the held-out counts are at stake too: campaign `attack`
        (*world, Verdict { harms: verdict.harms & (Harm::CORE | Harm::OwnFault.bit()), ..verdict })
    })
}

/// A rule that is removed, and what then becomes possible.
#[derive(Debug, Clone, Copy)]
pub struct Tooth {
    /// The rule in words.
    pub words: &'static str,
    /// Removed rules.
    pub removed: &'static [Switch],
    /// Rules added besides, with and without the removal.
    pub added: &'static [Switch],
    /// The job.
    pub updates: Updates,
    /// Bounds.
    pub bounds: Bounds,
    /// What is sought.
    pub harm: Harm,
    /// n and c of a small federation in which it is to be found without the rule and not with it.
    pub shown: (u8, u8),
}

const RESTART: Bounds = Bounds { restarts: 1, t3s: 1, ..TWO_ATTEMPTS };
const YOUNG_DISK: Bounds = Bounds { restores: 1, snapshot: Snapshot::OfThisAttempt, t3s: 1, ..TWO_ATTEMPTS };
const OLD_DISK: Bounds = Bounds { restores: 1, t3s: 1, ..TWO_ATTEMPTS };
const LISTS: Bounds = Bounds { t1s: 1, t2s: 1, restarts: 0, ..ONE_ATTEMPT };

const fn tooth(words: &'static str, removed: &'static [Switch], bounds: Bounds, harm: Harm, shown: (u8, u8)) -> Tooth {
    Tooth { words, removed, added: &[], updates: Updates::Fresh, bounds, harm, shown }
}

/// All of them.
pub const TEETH: [Tooth; 12] = [
    tooth("votes are journaled", &[Switch::VoteJournaled], RESTART, Harm::TwoSums, (3, 1)),
    Tooth {
        updates: Updates::Same,
        ..tooth("votes are journaled before they are sent", &[Switch::JournalFirst], RESTART, Harm::Twice, (3, 1))
    },
    tooth(
        "the last, and no ABANDON after a restart",
        &[Switch::JournalFirst, Switch::AbandonOnlySeen],
        RESTART,
        Harm::TwoSums,
        (3, 0),
    ),
    tooth(
        "no ABANDON after a restart, where a disk is restored",
        &[Switch::AbandonOnlySeen],
        YOUNG_DISK,
        Harm::TwoSums,
        (3, 0),
    ),
    tooth("one vote per attempt", &[Switch::OneVote], RESTART, Harm::TwoSums, (3, 1)),
    tooth("reveal only over one's own T3", &[Switch::OwnList], LISTS, Harm::BothSecrets, (5, 2)),
    tooth("reveal only on a certificate", &[Switch::Certificate], LISTS, Harm::BothSecrets, (5, 2)),
    tooth("an attempt is above all earlier ones", &[Switch::AttemptsRise], RESTART, Harm::Twice, (3, 1)),
    Tooth {
        added: &[Switch::JoinedIsMasked],
        ..tooth(
            "peers refuse a journal that went backwards",
            &[Switch::PeersRemember],
            OLD_DISK,
            Harm::OwnFault,
            (4, 1),
        )
    },
    tooth("a retry needs q ABANDON votes", &[Switch::RetryProven], RESTART, Harm::TwoSums, (3, 1)),
    tooth("at least m survivors", &[Switch::Minimum], LISTS, Harm::LoneInput, (5, 2)),
    tooth("held-out counts go out once", &[Switch::CountsOnce], RESTART, Harm::TwoCounts, (4, 1)),
];

impl Tooth {
    /// Whether the harm is to be reached with the rule and without, in the federation `shown`.
    pub fn expected(&self) -> (bool, bool) {
        match self.removed {
            // q votes by members of the list are at least c + 2 of them: the rule is covered by another
            [Switch::Minimum] => (false, false),
            // the coordinator opens one attempt more at the restored silo, and its journal is long enough again
            [Switch::PeersRemember] => (true, true),
            _ => (false, true),
        }
    }
}

/// What a removed rule leads to.
#[derive(Debug, Clone, Copy)]
pub struct Bite {
    /// The run without the rule.
    pub world: World,
    /// States of both runs.
    pub states: usize,
    /// Whether the harm is reached with the rule kept.
    pub kept: bool,
    /// Whether it is reached without.
    pub removed: bool,
}

/// The product's numbers with and without a rule: n = 3, the usual four silos, and where the rule shows best.
///
/// Other federations are the same games: only h, q − c, t − c and m − c matter.
pub fn bites(tooth: &Tooth) -> Vec<Bite> {
    let mut federations = vec![(3, 0), (3, 1), (4, 1), tooth.shown];
    federations.sort_unstable();
    federations.dedup();
    in_parallel(&format!("without \"{}\"", tooth.words), &federations, |&federation| bite(tooth, federation))
}

/// The product's numbers with and without a rule, for one n and c.
pub fn bite(tooth: &Tooth, (n, c): (u8, u8)) -> Bite {
    let rules = Rules::with(&[tooth.removed, tooth.added].concat());
    let world = World::new(Numbers::derived(n, c), tooth.updates, rules, tooth.bounds);
    let mut kept = world;
    kept.own.rules = Rules::with(tooth.added);
    let (kept, removed) = (kept.search_any(tooth.harm.bit()), world.search_any(tooth.harm.bit()));
    let states = kept.states + removed.states;
    Bite { world, states, kept: kept.has(tooth.harm), removed: removed.has(tooth.harm) }
}

/// The same run in both grains.
pub fn grains(numbers: Numbers, updates: Updates, bounds: Bounds) -> (Verdict, Verdict) {
    let world = |grain| World::new(numbers, updates, Rules::kept(), Bounds { grain, ..bounds });
    (world(Grain::Fine).check(), world(Grain::Coarse).check())
}
