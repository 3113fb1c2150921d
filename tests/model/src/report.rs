//! Each campaign as it is printed: what was run, what was found, and whether that was expected.
//!
//! Contract: a report writes to the writer that it is given, counts every configuration that it ran, and prints each
//! one whose answer is not the expected one.

use crate::campaign::{self, JOBS, ONE_ATTEMPT, Run, TEETH, TWO_ATTEMPTS};
use crate::parallel::in_parallel;
use crate::rules::{Bounds, Numbers, Rules, Snapshot, Switch, Updates};
use crate::safety::Harm;
use crate::words::tell;
use crate::world::{Verdict, World};
use std::io::{self, Write};

/// What a campaign adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Configurations that ran.
    pub runs: usize,
    /// States that were reached, all together.
    pub states: usize,
    /// Configurations in which an attack was found.
    pub attacked: usize,
    /// Configurations whose answer is not the expected one.
    pub odd: usize,
}

impl Tally {
    /// Something ran, and every answer is the expected one.
    pub fn is_good(&self) -> bool {
        self.runs > 0 && self.odd == 0
    }

    /// One campaign or more, and each is good.
    pub fn are_good(tallies: &[Tally]) -> bool {
        !tallies.is_empty() && tallies.iter().all(Tally::is_good)
    }

    /// The sum of runs.
    pub fn of(runs: &[Run]) -> Tally {
        let mut tally = Tally::default();
        for run in runs {
            tally.add(run.verdict.states, run.verdict.harms & Harm::CORE != 0, run.is_as_expected());
        }
        tally
    }

    fn add(&mut self, states: usize, attacked: bool, expected: bool) {
        self.runs += 1;
        self.states += states;
        self.attacked += usize::from(attacked);
        self.odd += usize::from(!expected);
    }

    fn print(self, out: &mut dyn Write) -> io::Result<Tally> {
        let Tally { runs, states, attacked, odd } = self;
        write!(out, "   {runs} configurations, {states} states; in {attacked} an attack is found; ")?;
        match odd {
            0 => writeln!(out, "all as expected")?,
            odd => writeln!(out, "{odd} NOT AS EXPECTED")?,
        }
        Ok(self)
    }
}

fn sum_up(runs: &[Run], out: &mut dyn Write) -> io::Result<Tally> {
    for run in runs.iter().filter(|run| !run.is_as_expected()) {
        unexpected(&run.world, &run.verdict, out)?;
    }
    Tally::of(runs).print(out)
}

fn unexpected(world: &World, verdict: &Verdict, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "   UNEXPECTED {:?} {:?}: {:?}", world.own.numbers, world.own.updates, verdict.list())
}

/// One table for each n and c: rows t, columns q, and in each place the harms reached.
fn frontier(runs: &[Run], letters: &[(u16, char)], out: &mut dyn Write) -> io::Result<()> {
    let numbers = |run: &Run| run.world.own.numbers;
    let most = runs.iter().map(|run| numbers(run).n).max().unwrap_or(0);
    for (n, c) in campaign::federations(most) {
        let here: Vec<&Run> = runs.iter().filter(|run| (numbers(run).n, numbers(run).c) == (n, c)).collect();
        if here.is_empty() {
            continue;
        }
        let own = Numbers::derived(n, c);
        writeln!(out, "   n = {n}, c = {c}; the product's t = {}, q = {}, m = {}", own.t, own.q, own.m)?;
        for t in 1..=n {
            let place = |q: u8| {
                let here = here.iter().filter(|run| (numbers(run).t, numbers(run).q) == (t, q));
                let here = here.filter(|run| numbers(run).m == campaign::minimum(n, c, q));
                let found = here.fold(0, |bits, run| bits | run.verdict.harms);
                let found: String = letters.iter().filter(|(bits, _)| found & bits != 0).map(|(_, l)| l).collect();
                let found = if found.is_empty() { "-".to_owned() } else { found };
                let mark = if (t, q) == (own.t, own.q) { "*" } else { " " };
                format!("{found:>4}{mark}")
            };
            writeln!(out, "      t = {t} | {}", (1..=n).map(place).collect::<String>())?;
        }
    }
    Ok(())
}

/// Campaign `lists` for up to `most` silos.
pub fn lists(most: u8, out: &mut dyn Write) -> io::Result<Tally> {
    let runs = campaign::lists(most);
    writeln!(
        out,
        "   B: an input laid bare (both secrets, or a sum over one); F: a fork; columns q = 1..n, m = max(q, c+2, 3)"
    )?;
    frontier(&runs, &[(Harm::BARE, 'B'), (Harm::Fork.bit(), 'F')], out)?;
    sum_up(&runs, out)
}

/// Campaign `retries` for up to `most` silos.
pub fn retries(most: u8, out: &mut dyn Write) -> io::Result<Tally> {
    let runs = campaign::retries(most);
    writeln!(
        out,
        "   B: an input laid bare; F: a fork; S: two sums over one update; columns q = 1..n, m = max(q, c+2, 3)"
    )?;
    writeln!(out, "   where several are possible the checker may stop at one that lays an input bare")?;
    frontier(&runs, &[(Harm::BARE, 'B'), (Harm::Fork.bit(), 'F'), (Harm::TwoSums.bit(), 'S')], out)?;
    let bare = runs.iter().filter(|run| run.verdict.harms & Harm::BARE != 0).count();
    let closed = runs.iter().filter(|run| run.verdict.harms & (Harm::BARE | Harm::TwoSums.bit()) == 0);
    let forks = closed.filter(|run| run.verdict.has(Harm::Fork)).count();
    writeln!(out, "   an input laid bare in {bare}; nothing but a fork in {forks}")?;
    sum_up(&runs, out)
}

/// Campaign `attack` for up to `most` silos: one silo's held-out counts are expected nowhere as the code is, and in
/// every federation once the rule on them is removed.
pub fn attack(most: u8, out: &mut dyn Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    let removed = Rules::with(&[Switch::CountsAgreed]);
    let federations: Vec<(u8, u8)> = campaign::federations(most).into_iter().filter(|(n, c)| n - c <= 4).collect();
    for (words, rules) in [("as coded", Rules::kept()), ("counts not agreed", removed)] {
        let found = in_parallel(&format!("attack, {words}"), &federations, |&(n, c)| {
            let world = World::new(Numbers::derived(n, c), Updates::Fresh, rules, TWO_ATTEMPTS);
            let verdict = if rules == removed { world.search_any(Harm::LoneCounts.bit()) } else { world.check() };
            (world, verdict)
        });
        let states: usize = found.iter().map(|(_, verdict)| verdict.states).sum();
        let hit = found.iter().filter(|(_, verdict)| verdict.has(Harm::LoneCounts)).count();
        let all = found.len();
        writeln!(out, "   {words}: one silo's held-out counts in {hit} of {all} federations, {states} states")?;
        for (world, verdict) in &found {
            let expected = if rules == removed { verdict.has(Harm::LoneCounts) } else { verdict.harms == 0 };
            tally.add(verdict.states, verdict.harms != 0, expected);
            if !expected {
                unexpected(world, verdict, out)?;
            }
        }
    }
    let world = World::new(Numbers::derived(4, 1), Updates::Fresh, removed, TWO_ATTEMPTS);
    tell_shortest(&world, Harm::LoneCounts, out)?;
    tally.print(out)
}

fn tell_shortest(world: &World, harm: Harm, out: &mut dyn Write) -> io::Result<()> {
    let numbers = world.own.numbers;
    writeln!(out, "   shortest, n = {}, c = {}; every honest silo has joined attempt 1:", numbers.n, numbers.c)?;
    let what = format!("a shortest way to {}", harm.words());
    for path in in_parallel(&what, &[harm], |&harm| world.shortest(harm)).into_iter().flatten() {
        for line in tell(world, &path, harm) {
            writeln!(out, "      {line}")?;
        }
    }
    Ok(())
}

/// Campaign `disks` for up to `most` silos.
pub fn disks(most: u8, out: &mut dyn Write) -> io::Result<Tally> {
    let mended = Rules::with(&[Switch::JoinedIsMasked]);
    let mut tally = Tally::default();
    for (words, snapshot, restores, rules) in [
        ("a copy from within the attempt, as coded", Snapshot::OfThisAttempt, 1, Rules::kept()),
        ("a copy from within the attempt, mended", Snapshot::OfThisAttempt, 1, mended),
        ("two copies from within the attempt, mended", Snapshot::OfThisAttempt, 2, mended),
        ("any copy, mended", Snapshot::Any, 1, mended),
    ] {
        let bounds = Bounds { restores, snapshot, t3s: 1, ..TWO_ATTEMPTS };
        let found = campaign::disks(most, bounds, rules);
        let states: usize = found.iter().map(|(_, verdict)| verdict.states).sum();
        writeln!(out, "   {words}: {} runs, {states} states", found.len())?;
        for (world, verdict) in &found {
            let Numbers { n, c, q, m, .. } = world.own.numbers;
            let names: Vec<&str> = verdict.list().into_iter().map(Harm::words).collect();
            let names = if names.is_empty() { "-".to_owned() } else { names.join("; ") };
            writeln!(out, "      n = {n}, c = {c}, {:?} updates: {names}", world.own.updates)?;
            let many = snapshot == Snapshot::Any && 2 * q <= n + c + restores;
            // where every list holds all silos, two sums over the same updates are one
            let counted = many && (world.own.updates == Updates::Fresh || m < n);
            let core = (verdict.harms & Harm::CORE != 0) == counted;
            let expected = core && (counted || rules == Rules::kept() || !verdict.has(Harm::OwnFault));
            tally.add(verdict.states, verdict.harms != 0, expected);
            if !expected {
                unexpected(world, verdict, out)?;
            }
        }
    }
    let young = Bounds { restores: 1, snapshot: Snapshot::OfThisAttempt, t3s: 1, ..TWO_ATTEMPTS };
    for (updates, harm, bounds, rules) in [
        (Updates::Same, Harm::OwnFault, young, Rules::kept()),
        (Updates::Same, Harm::TwoSums, Bounds { snapshot: Snapshot::Any, ..young }, mended),
    ] {
        tell_shortest(&World::new(Numbers::derived(4, 1), updates, rules, bounds), harm, out)?;
    }
    tally.print(out)
}

/// Campaign `teeth`, in the federations of [`campaign::bites`]; an answer is expected of the one in which the rule
/// shows.
pub fn teeth(out: &mut dyn Write) -> io::Result<Tally> {
    let mut tally = Tally::default();
    for tooth in &TEETH {
        let bites = campaign::bites(tooth);
        let states: usize = bites.iter().map(|bite| bite.states).sum();
        writeln!(out, "   without \"{}\": {} ({states} states)", tooth.words, tooth.harm.words())?;
        for bite in &bites {
            let Numbers { n, c, .. } = bite.world.own.numbers;
            let words = match (bite.kept, bite.removed) {
                (false, true) => "reached, and not with the rule",
                (false, false) => "not reached",
                (true, true) => "reached with the rule too",
                (true, false) => "reached only with the rule",
            };
            let shown = (n, c) == tooth.shown;
            let expected = !shown || (bite.kept, bite.removed) == tooth.expected();
            tally.add(bite.states, bite.removed, expected);
            writeln!(out, "      n = {n}, c = {c}: {words}{}", if expected { "" } else { ": UNEXPECTED" })?;
            if shown && bite.removed {
                let rules = if bite.kept { Rules::with(tooth.added) } else { bite.world.own.rules };
                let world = World::new(bite.world.own.numbers, tooth.updates, rules, tooth.bounds);
                tell_shortest(&world, tooth.harm, out)?;
            }
        }
    }
    tally.print(out)
}

/// Campaign `grains`, with three silos. Here states are those of merged moves.
pub fn grains(out: &mut dyn Write) -> io::Result<Tally> {
    let one = Bounds { restarts: 1, ..ONE_ATTEMPT };
    let mut runs = Vec::new();
    for c in 0..=1 {
        for (t, q, m) in (1..=3).flat_map(|t| (1..=3).flat_map(move |q| (1..=3).map(move |m| (t, q, m)))) {
            runs.push((Numbers { n: 3, c, t, q, m }, one));
        }
        let bounds = Bounds { t3s: 1, ..TWO_ATTEMPTS };
        runs.push((Numbers::derived(3, c), Bounds { restarts: u8::from(c == 1), ..bounds }));
    }
    let answers = in_parallel("grains", &runs, |&(numbers, bounds)| {
        JOBS.map(|updates| campaign::grains(numbers, updates, bounds))
    });
    let (mut fine_states, mut tally) = (0, Tally::default());
    for ((numbers, _), answers) in runs.iter().zip(answers) {
        for (fine, coarse) in answers {
            // past a bare input the two may stop at different places
            let differ = (fine.harms ^ coarse.harms) & !Harm::BARE != 0 && coarse.harms & Harm::BARE == 0;
            let expected = !differ && (fine.harms & Harm::BARE != 0) == (coarse.harms & Harm::BARE != 0);
            fine_states += fine.states;
            tally.add(coarse.states, coarse.harms & Harm::CORE != 0, expected);
            if !expected {
                writeln!(out, "   DIFFER {numbers:?}: single {:?}, merged {:?}", fine.list(), coarse.list())?;
            }
        }
    }
    writeln!(out, "   in single moves {fine_states} states; in merged moves:")?;
    tally.print(out)
}
