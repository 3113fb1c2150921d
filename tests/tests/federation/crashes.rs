//! SIGKILL at every journal and send point of a silo, one process each time: nothing is said twice, nothing is said that
//! the journal does not hold, and the job goes on.
//!
//! The points come from a run without a kill. One training round and the closing round; "south" is the one that dies.
//! Two of the others hold their RESULT votes back until south has sent its own or is dead: otherwise the quorum of three
//! might be there without it, and it would have nothing to sign.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use blindsum_crypto::SiloId;
use blindsum_protocol::message::SiloMessage;
use blindsum_protocol::silo::JournalEntry;
use blindsum_tests::federation::{Federation, Programs, Start};
use blindsum_tests::seams::{self, Pause};
use blindsum_tests::site::{SILOS, Terms};
use blindsum_tests::stop::{Label, Stop, When};
use blindsum_tests::tap::Received;
use blindsum_tests::{PATIENCE, expect, promises};

use crate::{COORDINATOR, SILO};

const PROGRAMS: Programs = Programs { silo: SILO, coordinator: COORDINATOR };
/// South: neither the first nor the last in the roster.
const VICTIM: usize = 2;
/// Holds nothing back.
const EARLY: usize = 0;
/// Those that hold their RESULT votes back; the second one also its advert, until the others have joined.
const HOLDING: [usize; 2] = [1, 3];
const ROUNDS: u32 = 2;
/// Federations at a time. They mostly wait: for processes to start, and for deadlines.
const AT_ONCE: usize = 4;

/// Where a crash inside the write leaves the journal's last record.
#[derive(Debug, Clone, Copy)]
enum Torn {
    No,
    /// This share of it is there, in percent; at least a byte is, and a byte is missing.
    At(u64),
}

/// What came of a run.
struct Run {
    federation: Federation,
    /// South's journal at the kill.
    at_crash: Vec<JournalEntry>,
    /// Number of its last connection before.
    link: u64,
}

impl Run {
    fn victims(&self) -> (Vec<Received>, Vec<Received>) {
        let received = self.federation.received().into_iter().filter(|r| r.silo == victim());
        received.partition(|r| r.link <= self.link)
    }

    /// Everything that is wrong, besides sums.
    fn broken(&self) -> Vec<String> {
        let received = self.federation.received();
        let (before, after) = self.victims();
        let mut broken = promises::contradictions(&received);
        broken.extend(promises::not_journaled(victim(), &before, &self.at_crash));
        broken.extend(promises::not_repeated(&self.at_crash, &after.iter().collect::<Vec<_>>()));
        for (i, name) in SILOS.iter().enumerate() {
            let silo = SiloId(u16::try_from(i).unwrap());
            let journal = promises::journal(&self.federation.site.state(name));
            broken.extend(promises::not_journaled(silo, &received, &journal));
        }
        broken
    }
}

fn victim() -> SiloId {
    SiloId(u16::try_from(VICTIM).unwrap())
}

/// Runs a federation whose south is killed at `stop`, and started again. [`None`] where it never came there. With a late
/// journal the run ends at the kill: what becomes of such a job is nobody's promise.
fn run(stop: Option<&Stop>, late: bool, torn: Torn) -> Option<Run> {
    // a silo that comes back says what it is no longer good for, so that nothing waits for a deadline
    let terms = Terms { rounds: ROUNDS - 1, local_steps: 1, linger_seconds: 60, ..Terms::default() };
    let mut federation = Federation::new(PROGRAMS, terms);
    federation.start(VICTIM, Start { stop: stop.cloned(), late, ..Start::default() });
    let mut crash = None;
    let lives_to = |federation: &mut Federation, crash: &mut Option<Crash>, line: &str| -> Option<()> {
        if crash.is_none() && !lives_to(federation, line) {
            *crash = Some(bury(federation, stop?, torn)?);
        }
        Some(())
    };
    lives_to(&mut federation, &mut crash, "done send:hello:0")?;
    federation.start(EARLY, Start::default());
    federation.start(HOLDING[0], Start { pauses: pauses(&["result-vote"]), ..Start::default() });
    federation.start(HOLDING[1], Start { pauses: pauses(&["advert", "result-vote"]), ..Start::default() });
    for round in 1..=ROUNDS {
        // all four are in, if they live: with three, of whom one dies before its vote, an attempt can come to no end
        lives_to(&mut federation, &mut crash, &format!("done journal:joined:{round}"))?;
        for i in [EARLY, HOLDING[0]] {
            federation.silo(i).line(|line| line == format!("done journal:joined:{round}"));
        }
        federation.silo(HOLDING[1]).resume();
        lives_to(&mut federation, &mut crash, &format!("done send:result-vote:{round}"))?;
        if late && crash.is_some() {
            break;
        }
        HOLDING.into_iter().for_each(|i| federation.silo(i).resume());
    }
    if stop.is_some() {
        // past its last vote
        lives_to(&mut federation, &mut crash, "")?;
    }
    if !late {
        federation.finish();
    }
    let state = federation.site.state(SILOS[VICTIM]);
    let Crash { at_crash, link } =
        crash.unwrap_or_else(|| Crash { at_crash: promises::journal(&state), link: u64::MAX });
    Some(Run { federation, at_crash, link })
}

/// Before each of these messages of each round, in their order.
fn pauses(before: &[&str]) -> Vec<Pause> {
    (1..=ROUNDS).flat_map(|round| before.iter().map(move |name| Pause::new(name, round))).collect()
}

/// What a kill left.
struct Crash {
    /// South's journal.
    at_crash: Vec<JournalEntry>,
    /// Number of its last connection before.
    link: u64,
}

/// Whether south says `line` before it dies, or says that it waits to be killed.
fn lives_to(federation: &mut Federation, line: &str) -> bool {
    let said = federation.silo(VICTIM).line_or_end(|said| said == line || said.starts_with("stopped "));
    said.is_some_and(|said| said == line)
}

/// South is dead, or waits for it: looks at what it left, tears its journal, and starts it again. [`None`] if it ended
/// otherwise.
fn bury(federation: &mut Federation, stop: &Stop, torn: Torn) -> Option<Crash> {
    let process = federation.take(VICTIM);
    if stop.when == When::Arrived {
        let arrived = |r: &Received| r.silo == victim() && of(&r.message) == stop.label;
        let deadline = Instant::now() + PATIENCE;
        while !federation.received().iter().any(arrived) {
            assert!(Instant::now() < deadline, "{stop}: it does not arrive");
            std::thread::sleep(Duration::from_millis(10));
        }
        process.kill();
    } else {
        process.killed()?;
    }
    let state = federation.site.state(SILOS[VICTIM]);
    if let Torn::At(percent) = torn {
        tear(&state, percent);
    }
    let at_crash = promises::journal(&state);
    let link = federation.received().iter().filter(|r| r.silo == victim()).map(|r| r.link).max().unwrap_or(0);
    federation.start(VICTIM, Start::default());
    Some(Crash { at_crash, link })
}

/// The label of a message.
fn of(message: &SiloMessage) -> Label {
    let round = match message {
        SiloMessage::Hello(hello) => hello.results_held,
        message => message.at().map_or(0, |at| at.round),
    };
    Label::new("send", message.name(), round)
}

/// Cuts the last record of a journal.
fn tear(state: &std::path::Path, percent: u64) {
    let path = state.join("journal");
    let whole = std::fs::metadata(&path).unwrap().len();
    let last = promises::last_record(state);
    let keep = (last * percent / 100).clamp(1, last - 1);
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(whole - last + keep).unwrap();
}

/// What south did after the kill in the attempt that it was killed in.
fn outcome(run: &Run) -> &'static str {
    let (_, after) = run.victims();
    let joined = run.at_crash.iter().rev().find_map(|e| match e {
        JournalEntry::Joined { at } => Some(*at),
        _ => None,
    });
    let Some(at) = joined else { return "joined afresh" };
    if run.at_crash.iter().any(|e| matches!(e, JournalEntry::Adopted { at: a, .. } if *a == at)) {
        return "was between rounds";
    }
    let spoke = |m: &SiloMessage| matches!(m, SiloMessage::Commit { .. } | SiloMessage::Reveal { .. });
    match after.iter().any(|r| r.message.at() == Some(at) && spoke(&r.message)) {
        true => "repeated its journaled vote or reply",
        false => "abstained",
    }
}

/// The journal and send points of south, in order.
fn points() -> Vec<Label> {
    let dry = run(None, false, Torn::No).unwrap();
    let broken = dry.broken();
    assert!(broken.is_empty(), "{broken:#?}");
    assert_eq!(expect::check(&dry.federation.site), vec![SILOS.map(str::to_owned).to_vec(); ROUNDS as usize]);
    seams::outputs(&dry.federation.site.record(SILOS[VICTIM]))
}

fn check(stop: &Stop, torn: Torn) -> &'static str {
    // a label that this run's timing did not bring: another run will
    let run = (0..3).find_map(|_| run(Some(stop), false, torn)).unwrap_or_else(|| panic!("{stop} was never reached"));
    let broken = run.broken();
    assert!(broken.is_empty(), "killed {stop}, {torn:?}: {broken:#?}");
    let rounds = expect::check(&run.federation.site);
    assert_eq!(rounds.len(), ROUNDS as usize, "killed {stop}");
    outcome(&run)
}

/// Does `task` for all of `items`, several at a time.
fn each<T: Send, R: Send>(items: Vec<T>, task: impl Fn(&T) -> R + Sync) -> Vec<(T, R)> {
    let (queue, done) = (Mutex::new(items.into_iter()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let Some(item) = queue.lock().unwrap().next() else { break };
                    let result = task(&item);
                    done.lock().unwrap().push((item, result));
                }
            });
        }
    });
    done.into_inner().unwrap()
}

#[test]
fn sa07_a_silo_killed_at_any_journal_or_send_point_never_contradicts_itself_and_the_job_finishes() {
    let began = Instant::now();
    let labels = points();
    let mut kills: Vec<(Stop, Torn)> = Vec::new();
    let mut kill = |when, label: &Label, torn| kills.push((Stop { when, label: label.clone() }, torn));
    for (i, label) in labels.iter().enumerate() {
        if label.is_journal() {
            kill(When::Before, label, Torn::No);
            kill(When::After, label, Torn::No);
            // in the header of the record, or in its body
            kill(When::After, label, Torn::At([0, 10, 50, 100][i % 4]));
        } else if label.is_send() {
            kill(When::Before, label, Torn::No);
            kill(When::After, label, Torn::No);
            kill(When::Arrived, label, Torn::No);
        } else if label.round == 1 {
            kill(When::After, label, Torn::No);
        }
    }
    // BLINDSUM_CRASH=committed runs the points that have this in their name, BLINDSUM_CRASH=none the dry run alone
    let only = std::env::var("BLINDSUM_CRASH").unwrap_or_default();
    kills.retain(|(stop, _)| stop.to_string().contains(&only));
    let count = kills.len();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (_, outcome) in each(kills, |(stop, torn)| check(stop, *torn)) {
        *outcomes.entry(outcome).or_default() += 1;
    }
    let of = |name: &str| labels.iter().filter(|label| label.kind == name).count();
    println!(
        "{count} kills at {} journal entries, {} messages and {} other outputs in {:.0} s: {outcomes:?}",
        of("journal"),
        of("send"),
        labels.len() - of("journal") - of("send"),
        began.elapsed().as_secs_f64()
    );
    if !only.is_empty() {
        return;
    }
    for wanted in ["abstained", "joined afresh", "repeated its journaled vote or reply", "was between rounds"] {
        assert!(outcomes.contains_key(wanted), "no kill left the silo to what is called: {wanted}");
    }
    let every = ["begin", "joined", "peers", "masked", "committed", "result", "adopted"];
    assert!(every.iter().all(|name| labels.iter().any(|l| l.is_journal() && l.name == *name)), "{labels:?}");
}

/// The comparison has teeth: a silo whose journal is written after the send is found out at each of its promises.
#[test]
fn a_silo_that_sends_before_it_journals_is_found_out_at_every_promise() {
    let sent = ["advert", "shares", "masked-input", "commit", "result-vote"];
    let stop = |name: &&str| Stop { when: When::Arrived, label: Label::new("send", name, 1) };
    for (stop, broken) in each(sent.iter().map(stop).collect(), |stop| {
        run(Some(stop), true, Torn::No).unwrap_or_else(|| panic!("{stop} was not reached")).broken()
    }) {
        let wanted = format!("sent a {} of round 1 attempt 1 that its journal does not hold", stop.label.name);
        assert!(broken.iter().any(|b| b.contains(&wanted)), "{stop} went unnoticed: {broken:?}");
    }
}
