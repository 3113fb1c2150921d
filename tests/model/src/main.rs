//! `make model`: runs every campaign and prints its verdicts.
//!
//! Contract: exits with 1 where the checker's answer is not the expected one. An argument runs one campaign alone:
//! `lists`, `retries`, `attack`, `disks`, `teeth` or `grains`; a number bounds n.

use blindsum_model::campaign::{self, JOBS, ONE_ATTEMPT, Run, TEETH, TWO_ATTEMPTS};
use blindsum_model::rules::{Bounds, Numbers, Rules, Snapshot, Switch, Updates};
use blindsum_model::safety::Harm;
use blindsum_model::words::tell;
use blindsum_model::world::World;
use std::process::ExitCode;
use std::time::Instant;

/// Name, title, and what runs it up to so many silos and says whether all is as expected.
type Campaign = (&'static str, &'static str, fn(u8) -> bool);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let most = args.iter().find_map(|arg| arg.parse().ok()).unwrap_or(5);
    let named: Vec<&str> = args.iter().filter(|arg| arg.parse::<u8>().is_err()).map(String::as_str).collect();
    let campaigns: [Campaign; 6] = [
        ("lists", "one attempt, different transcripts and lists: every n, c, t, q, m", lists),
        ("retries", "two attempts with ABANDON, retry and restarts: every n, c, t, q", retries),
        ("attack", "the product's numbers: what a coordinator reaches all the same", attack),
        ("disks", "the product's numbers, with restored disks", disks),
        ("teeth", "the product's numbers, with one rule removed", teeth),
        ("grains", "merged moves against single ones", grains),
    ];
    let mut good = true;
    for (name, title, run) in campaigns.into_iter().filter(|(name, ..)| named.is_empty() || named.contains(name)) {
        println!("== {name}: {title}");
        let start = Instant::now();
        good &= run(most.clamp(3, 5));
        println!("   {:.1} s\n", start.elapsed().as_secs_f64());
    }
    println!("{}", if good { "every verdict is as expected" } else { "A VERDICT IS NOT AS EXPECTED" });
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn sum_up(runs: &[Run]) -> bool {
    let states: usize = runs.iter().map(|run| run.verdict.states).sum();
    let attacked = runs.iter().filter(|run| run.verdict.harms & Harm::CORE != 0).count();
    println!("   {} configurations, {states} states; in {attacked} an attack is found", runs.len());
    let odd: Vec<&Run> = runs.iter().filter(|run| !run.is_as_expected()).collect();
    for run in &odd {
        println!("   UNEXPECTED {:?} {:?}: {:?}", run.world.own.numbers, run.world.own.updates, run.verdict.list());
    }
    odd.is_empty()
}

/// One table for each n and c: rows t, columns q, and in each place the harms reached.
fn frontier(runs: &[Run], letters: &[(u16, char)]) {
    let numbers = |run: &Run| run.world.own.numbers;
    for (n, c) in campaign::federations(runs.iter().map(|run| numbers(run).n).max().unwrap_or(0)) {
        let own = Numbers::derived(n, c);
        println!("   n = {n}, c = {c}; the product's t = {}, q = {}, m = {}", own.t, own.q, own.m);
        for t in 1..=n {
            let place = |q: u8| {
                let here = runs.iter().filter(|run| (numbers(run).n, numbers(run).c) == (n, c));
                let here = here.filter(|run| (numbers(run).t, numbers(run).q) == (t, q));
                let here = here.filter(|run| numbers(run).m == campaign::minimum(n, c, q));
                let found = here.fold(0, |bits, run| bits | run.verdict.harms);
                let found: String = letters.iter().filter(|(bits, _)| found & bits != 0).map(|(_, l)| l).collect();
                let found = if found.is_empty() { "-".to_owned() } else { found };
                let mark = if (t, q) == (own.t, own.q) { "*" } else { " " };
                format!("{found:>4}{mark}")
            };
            println!("      t = {t} | {}", (1..=n).map(place).collect::<String>());
        }
    }
}

fn lists(most: u8) -> bool {
    let runs = campaign::lists(most);
    println!(
        "   B: an input laid bare (both secrets, or a sum over one); F: a fork; columns q = 1..n, m = max(q, c+2, 3)"
    );
    frontier(&runs, &[(Harm::BARE, 'B'), (Harm::Fork.bit(), 'F')]);
    sum_up(&runs)
}

fn retries(most: u8) -> bool {
    let runs = campaign::retries(most);
    println!("   B: an input laid bare; F: a fork; S: two sums over one update; columns q = 1..n, m = max(q, c+2, 3)");
    println!("   where several are possible the checker may stop at one that lays an input bare");
    frontier(&runs, &[(Harm::BARE, 'B'), (Harm::Fork.bit(), 'F'), (Harm::TwoSums.bit(), 'S')]);
    let own = runs.iter().filter(|run| {
        let k = run.world.own.numbers;
        k == Numbers::derived(k.n, k.c) && run.verdict.harms & Harm::CORE != 0
    });
    let broken = own.count();
    println!("   at the product's numbers: {broken} attacks on updates, forks or votes");
    sum_up(&runs) && broken == 0
}

/// The held-out counts of one silo: expected nowhere as the code is, and in every federation once the rule is removed.
fn attack(most: u8) -> bool {
    let mut good = true;
    let removed = Rules::with(&[Switch::CountsAgreed]);
    let federations: Vec<(u8, u8)> = campaign::federations(most).into_iter().filter(|(n, c)| n - c <= 4).collect();
    for (words, rules) in [("as coded", Rules::kept()), ("counts not agreed", removed)] {
        let found = campaign::in_parallel(&federations, |&(n, c)| {
            World::new(Numbers::derived(n, c), Updates::Fresh, rules, TWO_ATTEMPTS).check()
        });
        let states: usize = found.iter().map(|verdict| verdict.states).sum();
        let hit = found.iter().filter(|verdict| verdict.has(Harm::LoneCounts)).count();
        println!("   {words}: one silo's held-out counts in {hit} of {} federations, {states} states", found.len());
        good &= hit == if rules == removed { found.len() } else { 0 };
    }
    let world = World::new(Numbers::derived(4, 1), Updates::Fresh, removed, TWO_ATTEMPTS);
    tell_shortest(&world, Harm::LoneCounts);
    good
}

fn tell_shortest(world: &World, harm: Harm) {
    let numbers = world.own.numbers;
    println!("   shortest, n = {}, c = {}; every honest silo has joined attempt 1:", numbers.n, numbers.c);
    for line in world.shortest(harm).map(|path| tell(world, &path, harm)).unwrap_or_default() {
        println!("      {line}");
    }
}

fn disks(most: u8) -> bool {
    let mended = Rules::with(&[Switch::JoinedIsMasked]);
    let mut good = true;
    for (words, snapshot, restores, rules) in [
        ("a copy from within the attempt, as coded", Snapshot::OfThisAttempt, 1, Rules::kept()),
        ("a copy from within the attempt, mended", Snapshot::OfThisAttempt, 1, mended),
        ("two copies from within the attempt, mended", Snapshot::OfThisAttempt, 2, mended),
        ("any copy, mended", Snapshot::Any, 1, mended),
    ] {
        let bounds = Bounds { restores, snapshot, t3s: 1, ..TWO_ATTEMPTS };
        let found = campaign::disks(most, bounds, rules);
        let states: usize = found.iter().map(|(_, verdict)| verdict.states).sum();
        println!("   {words}: {} runs, {states} states", found.len());
        for (world, verdict) in &found {
            let Numbers { n, c, q, m, .. } = world.own.numbers;
            let names: Vec<&str> = verdict.list().into_iter().map(Harm::words).collect();
            let names = if names.is_empty() { "-".to_owned() } else { names.join("; ") };
            println!("      n = {n}, c = {c}, {:?} updates: {names}", world.own.updates);
            let many = snapshot == Snapshot::Any && 2 * q <= n + c + restores;
            // where every list holds all silos, two sums over the same updates are one
            let counted = many && (world.own.updates == Updates::Fresh || m < n);
            good &= (verdict.harms & Harm::CORE != 0) == counted;
            good &= counted || rules == Rules::kept() || !verdict.has(Harm::OwnFault);
        }
    }
    let young = Bounds { restores: 1, snapshot: Snapshot::OfThisAttempt, t3s: 1, ..TWO_ATTEMPTS };
    for (updates, harm, bounds, rules) in [
        (Updates::Same, Harm::OwnFault, young, Rules::kept()),
        (Updates::Same, Harm::TwoSums, Bounds { snapshot: Snapshot::Any, ..young }, mended),
    ] {
        tell_shortest(&World::new(Numbers::derived(4, 1), updates, rules, bounds), harm);
    }
    good
}

fn teeth(_: u8) -> bool {
    let mut good = true;
    for tooth in &TEETH {
        let bites = campaign::bites(tooth);
        let states: usize = bites.iter().map(|bite| bite.states).sum();
        println!("   without \"{}\": {} ({states} states)", tooth.words, tooth.harm.words());
        for bite in &bites {
            let Numbers { n, c, .. } = bite.world.own.numbers;
            let words = match (bite.kept, bite.removed) {
                (false, true) => "reached, and not with the rule",
                (false, false) => "not reached",
                (true, true) => "reached with the rule too",
                (true, false) => "reached only with the rule",
            };
            println!("      n = {n}, c = {c}: {words}");
            let own = (n, c) == tooth.shown;
            good &= !own || (bite.kept, bite.removed) == tooth.expected();
            if own && bite.removed {
                let rules = if bite.kept { Rules::with(tooth.added) } else { bite.world.own.rules };
                let world = World::new(bite.world.own.numbers, tooth.updates, rules, tooth.bounds);
                tell_shortest(&world, tooth.harm);
            }
        }
    }
    good
}

fn grains(_: u8) -> bool {
    let mut good = true;
    let one = Bounds { restarts: 1, ..ONE_ATTEMPT };
    let mut runs = Vec::new();
    for c in 0..=1 {
        for (t, q, m) in (1..=3).flat_map(|t| (1..=3).flat_map(move |q| (1..=3).map(move |m| (t, q, m)))) {
            runs.push((Numbers { n: 3, c, t, q, m }, one));
        }
        let bounds = Bounds { t3s: 1, ..TWO_ATTEMPTS };
        runs.push((Numbers::derived(3, c), Bounds { restarts: u8::from(c == 1), ..bounds }));
    }
    let answers = campaign::in_parallel(&runs, |&(numbers, bounds)| {
        JOBS.map(|updates| campaign::grains(numbers, updates, bounds))
    });
    let (mut fine_states, mut coarse_states) = (0, 0);
    for ((numbers, _), answers) in runs.iter().zip(answers) {
        for (fine, coarse) in answers {
            fine_states += fine.states;
            coarse_states += coarse.states;
            // past a bare input the two may stop at different places
            let differ = (fine.harms ^ coarse.harms) & !Harm::BARE != 0 && coarse.harms & Harm::BARE == 0;
            if differ || (fine.harms & Harm::BARE != 0) != (coarse.harms & Harm::BARE != 0) {
                println!("   DIFFER {numbers:?}: single {:?}, merged {:?}", fine.list(), coarse.list());
                good = false;
            }
        }
    }
    println!(
        "   {} configurations twice: {fine_states} states in single moves, {coarse_states} merged",
        2 * runs.len()
    );
    good
}
