//! The network, the clock and the processes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::{
    CoordinatorEvent, CoordinatorMachine, CoordinatorOutput, CoordinatorSetup, Phase, RoundReport, StoreRecord,
    StoreState,
};
use blindsum_protocol::limits::{Limits, Wire};
use blindsum_protocol::silo::{
    Adoption, HeldResult, JournalEntry, JournalState, MeasuredUpdate, SiloEvent, SiloMachine, SiloOutput, SiloSetup,
    TrainFailure, TrainOutcome,
};
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, HeldOutCounts, SiloMessage, codec};

use crate::Setup;

pub type Up = Envelope<SiloMessage>;
type Down = Envelope<CoordinatorMessage>;
/// Sees each message and says what arrives instead: nothing, itself, several.
pub type UpTap = Box<dyn FnMut(SiloId, Up) -> Vec<Up>>;
pub type DownTap = Box<dyn FnMut(SiloId, Down) -> Vec<Down>>;

/// Takes each message from its sender and says what happens instead of its delivery: a whole script of faults and lies.
pub trait Net {
    /// A silo sent something.
    fn up(&mut self, now: u64, silo: SiloId, envelope: Up) -> Vec<Action>;
    /// The coordinator sent something.
    fn down(&mut self, now: u64, silo: SiloId, envelope: Down) -> Vec<Action>;
    /// The time that an earlier [`Action::Wake`] asked for has come.
    fn wake(&mut self, now: u64, ticket: usize) -> Vec<Action>;
}

/// What happens to a message or a process.
#[derive(Debug)]
pub enum Action {
    /// Arrives at a silo after so many ms, if the connection is still the same.
    ToSilo(SiloId, Down, u64),
    /// Arrives at the coordinator, likewise.
    ToCoordinator(SiloId, Up, u64),
    /// The connection is closed; it opens again by itself.
    Cut(SiloId),
    /// Kills a silo; it starts again after so many ms, from its journal as it is or from an old copy of it, which is as
    /// many tenths as long.
    KillSilo { silo: SiloId, restart_ms: Option<u64>, tenths: Option<u8> },
    /// Kills the coordinator; it starts again after so many ms, perhaps with another store than it kept.
    KillCoordinator { restart_ms: Option<u64>, edit: Option<StoreEdit> },
    /// Calls [`Net::wake`] after so many ms.
    Wake(u64, usize),
}

/// What a lying operator does to the coordinator's store.
#[derive(Debug)]
pub enum StoreEdit {
    /// Forgets all of the attempts in progress but their numbers.
    Forget,
    /// Writes a record of its own.
    Add(Box<StoreRecord>),
}

/// How long a message travels, ms.
pub const TRAVEL_MS: u64 = 5;

enum Event {
    ToSilo(SiloId, u32, Down),
    ToCoordinator(SiloId, u32, Up),
    Trained(SiloId, u32, TrainOutcome),
    StartSilo(SiloId),
    StartCoordinator,
    Connect(SiloId),
    Wake(usize),
}

/// When a process is killed.
#[derive(Debug, Clone, Copy)]
pub struct Crash {
    /// After this many executed outputs of the process, over its whole life.
    pub after: usize,
    /// Back after this time; never, if none.
    pub restart_ms: Option<u64>,
}

/// A silo that dies for good when it sends a certain message, which still arrives or does not.
pub struct KillWhen {
    pub silo: SiloId,
    pub when: fn(&SiloMessage) -> bool,
    pub delivered: bool,
}

#[derive(Default)]
pub struct SiloProcess {
    machine: Option<SiloMachine>,
    pub journal: Vec<Vec<u8>>,
    /// Every entry ever written, also those that an old copy of the journal has lost.
    pub written: Vec<JournalEntry>,
    /// Was started from an old copy of its journal.
    pub restored: bool,
    /// Is to be started again.
    starting: bool,
    pub held: Option<HeldResult>,
    /// Counts process starts, so that what belongs to a dead one is dropped.
    life: u32,
    pub executed: usize,
    pub crash: Option<Crash>,
    /// Its adapter file is lost in a crash.
    pub forgets_adapter: bool,
    restarted: bool,
    /// Trainings run per round.
    pub trainings: BTreeMap<u32, u32>,
    latest: BTreeMap<u32, (Vec<f32>, HeldOutCounts)>,
    pub sent: Vec<Up>,
    pub events: Vec<SiloEvent>,
    pub adopted: Vec<Adoption>,
    pub finished: bool,
}

pub struct Cluster {
    pub setup: Setup,
    pub limits: Limits,
    pub now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    sequence: u64,
    pub silos: Vec<SiloProcess>,
    coordinator: Option<CoordinatorMachine>,
    pub store: Vec<Vec<u8>>,
    /// Every record ever written, also those that a store put in its place has lost.
    pub stored: Vec<StoreRecord>,
    pub coordinator_executed: usize,
    pub coordinator_crash: Option<Crash>,
    /// Connection number per silo; none while down.
    links: Vec<Option<u32>>,
    connections: u32,
    cuts: Vec<u32>,
    pub kill_when: Option<KillWhen>,
    /// Trainings that each silo's budget covers.
    pub budget: Option<u32>,
    /// What each silo's training gives in every coordinate, instead of [`Setup::update`].
    pub trains: Option<fn(SiloId) -> f32>,
    /// What the training of these silos gives instead.
    pub updates: BTreeMap<SiloId, Vec<f32>>,
    /// A silo without held-out rows.
    pub holds_none_out: Option<SiloId>,
    /// Each silo is killed once, when it has sent such a message, and started again.
    pub restart_when: Option<fn(&SiloMessage) -> bool>,
    pub up: UpTap,
    pub down: DownTap,
    /// Stands in for both taps.
    pub net: Option<Box<dyn Net>>,
    /// Makes the silos' randomness differ between runs.
    pub seed: u64,
    /// The coordinator's timer once did not move on, and in which phase.
    pub spins_in: Option<Phase>,
    pub tolerates_spinning: bool,
    /// Longest time that any silo was seen to be willing to wait, ms.
    pub longest_wait_ms: u64,
    pub reports: Vec<RoundReport>,
    pub coordinator_events: Vec<CoordinatorEvent>,
    pub coordinator_finished: bool,
    /// What each silo's y was made from.
    pub inputs: BTreeMap<(SiloId, AttemptId), (Vec<f32>, HeldOutCounts)>,
    /// What a misbehaving silo added to the first coordinate of its y.
    pub added: BTreeMap<(SiloId, AttemptId), u32>,
    /// Whether the adverts that each silo dealt under leave all counts in.
    counted: BTreeMap<(SiloId, AttemptId), bool>,
    listed: BTreeMap<SiloId, bool>,
    /// Attempts that an opening proved abandoned.
    proofs: BTreeMap<(SiloId, AttemptId), Vec<u32>>,
}

impl SiloProcess {
    /// Puts an old copy of the state directory in place: the journal's first entries, and the adapter if it was there.
    fn restore(&mut self, tenths: usize) {
        let keep = (self.journal.len() * tenths / 10).max(1).min(self.journal.len());
        self.restored |= keep < self.journal.len();
        self.journal.truncate(keep);
        let adopted = |bytes: &Vec<u8>| match codec::decode(bytes, 1 << 20).unwrap() {
            JournalEntry::Adopted { at, .. } => Some(at.round),
            _ => None,
        };
        let adopted = self.journal.iter().filter_map(adopted).max();
        self.held = self.held.take().filter(|held| Some(held.round) == adopted);
    }
}

impl Cluster {
    pub fn new(setup: Setup) -> Cluster {
        let n = usize::from(setup.n());
        let mut cluster = Cluster {
            limits: Limits::new(&setup.plan),
            setup,
            now: 1_000,
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            silos: (0..n).map(|_| SiloProcess::default()).collect(),
            coordinator: None,
            store: Vec::new(),
            stored: Vec::new(),
            coordinator_executed: 0,
            coordinator_crash: None,
            links: vec![None; n],
            connections: 0,
            cuts: vec![0; n],
            kill_when: None,
            trains: None,
            updates: BTreeMap::new(),
            holds_none_out: None,
            budget: None,
            restart_when: None,
            up: Box::new(|_, envelope| vec![envelope]),
            down: Box::new(|_, envelope| vec![envelope]),
            net: None,
            seed: 0,
            spins_in: None,
            tolerates_spinning: false,
            longest_wait_ms: 0,
            reports: Vec::new(),
            coordinator_events: Vec::new(),
            coordinator_finished: false,
            inputs: BTreeMap::new(),
            added: BTreeMap::new(),
            counted: BTreeMap::new(),
            listed: BTreeMap::new(),
            proofs: BTreeMap::new(),
        };
        cluster.after(0, Event::StartCoordinator);
        for silo in cluster.setup.roster.ids() {
            cluster.after(u64::from(silo.0), Event::StartSilo(silo));
        }
        cluster
    }

    /// Runs until the job is over for everybody who lives, or virtual time `until` has come.
    pub fn run(&mut self, until: u64) {
        for _ in 0..2_000_000 {
            if self.is_over() {
                return;
            }
            let next = self.queue.peek().map(|Reverse((at, _))| *at);
            let timers = self.silos.iter().filter_map(|s| s.machine.as_ref()?.poll_timeout());
            let spins = self.spins_in.is_some();
            let theirs = self.coordinator.as_ref().and_then(|c| c.poll_timeout());
            let timer = timers.chain(theirs.map(|at| if spins { at.max(self.now + 100) } else { at })).min();
            let Some(at) = next.into_iter().chain(timer).min() else { return };
            if at > until {
                self.now = until;
                return;
            }
            self.now = self.now.max(at);
            if next == Some(at) {
                if let Some(Reverse((_, sequence))) = self.queue.pop() {
                    let event = self.events.remove(&sequence).unwrap();
                    self.dispatch(event);
                }
            } else {
                self.fire_timers();
            }
        }
        panic!("the cluster spins at {} ms", self.now);
    }

    /// Runs and expects the job to finish.
    pub fn finish(&mut self) {
        self.run(3_600_000);
        assert!(self.is_over(), "the job did not finish by {} ms: {:?}", self.now, self.last_events());
    }

    pub fn is_over(&self) -> bool {
        let alive =
            |s: &SiloProcess| s.machine.is_some() || s.starting || s.crash.is_some_and(|c| c.restart_ms.is_some());
        self.coordinator_finished && self.silos.iter().all(|s| s.finished || !alive(s))
    }

    pub fn last_events(&self) -> Vec<String> {
        let skip = self.coordinator_events.len().saturating_sub(12);
        self.coordinator_events[skip..].iter().map(|e| e.to_string()).collect()
    }

    /// Hands a silo a message as if the coordinator had sent it.
    pub fn inject(&mut self, silo: SiloId, message: CoordinatorMessage) {
        self.inject_envelope(silo, Envelope::bare(message));
    }

    pub fn inject_envelope(&mut self, silo: SiloId, envelope: Down) {
        if let CoordinatorMessage::Adverts { adverts, .. } = &envelope.message {
            self.listed.insert(silo, adverts.iter().all(|a| a.counts));
        }
        let now = self.now;
        if let Some(machine) = &mut self.silos[silo.index()].machine {
            machine.handle_message(envelope, now);
        }
        self.pump_silo(silo);
    }

    /// Starts a killed silo again, from whatever its journal now says.
    pub fn start(&mut self, silo: SiloId) {
        self.start_silo(silo);
    }

    /// What the coordinator is at, and until when it waits; nothing while it is dead.
    pub fn coordinator_waits(&self) -> Option<(Phase, Option<u64>)> {
        self.coordinator.as_ref().map(|c| (c.phase(), c.poll_timeout()))
    }

    /// Attempts opened so far.
    pub fn opened(&self) -> usize {
        self.stored.iter().filter(|r| matches!(r, StoreRecord::Opened { .. })).count()
    }

    /// Whether a silo's process runs.
    pub fn is_alive(&self, silo: SiloId) -> bool {
        self.silos[silo.index()].machine.is_some()
    }

    /// Kills the coordinator for good.
    pub fn kill_coordinator(&mut self) {
        self.coordinator = None;
        for silo in self.setup.roster.ids() {
            self.cut(silo);
        }
    }

    /// What a silo is waiting for until when.
    pub fn silo_timeout(&self, silo: SiloId) -> Option<u64> {
        self.silos[silo.index()].machine.as_ref()?.poll_timeout()
    }

    /// Kills a silo for good.
    pub fn kill(&mut self, silo: SiloId) {
        self.silos[silo.index()].machine = None;
        self.silos[silo.index()].life += 1;
        self.cut(silo);
    }

    pub fn cut(&mut self, silo: SiloId) {
        if self.links[silo.index()].take().is_some() {
            let now = self.now;
            if let Some(machine) = &mut self.silos[silo.index()].machine {
                machine.handle_disconnected(now);
            }
            if let Some(machine) = &mut self.coordinator {
                machine.handle_disconnected(silo, now);
            }
            // it backs off as the service does: who is refused each time does not try for ever at once
            let cuts = &mut self.cuts[silo.index()];
            *cuts += 1;
            let delay = if *cuts <= 20 { 40 } else { 1_000 };
            self.after(delay, Event::Connect(silo));
            self.pump_silo(silo);
            self.pump_coordinator();
        }
    }

    fn after(&mut self, delay: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + delay, self.sequence)));
        self.events.insert(self.sequence, event);
    }

    fn fire_timers(&mut self) {
        let now = self.now;
        for silo in self.setup.roster.ids() {
            let due = |m: &&mut SiloMachine| m.poll_timeout().is_some_and(|at| at <= now);
            if let Some(machine) = self.silos[silo.index()].machine.as_mut().filter(due) {
                machine.handle_timeout(now);
                assert!(machine.poll_timeout().is_none_or(|at| at > now), "a silo's timer does not move on");
            }
            self.pump_silo(silo);
        }
        let due = |m: &&mut CoordinatorMachine| m.poll_timeout().is_some_and(|at| at <= now);
        if let Some(machine) = self.coordinator.as_mut().filter(due) {
            machine.handle_timeout(now);
            if machine.poll_timeout().is_some_and(|at| at <= now) {
                // a driver would call it again and again without a pause
                self.spins_in = Some(machine.phase());
                assert!(self.tolerates_spinning, "the coordinator's timer does not move on in {:?}", machine.phase());
            }
        }
        self.pump_coordinator();
    }

    fn dispatch(&mut self, event: Event) {
        let now = self.now;
        match event {
            Event::ToSilo(silo, link, envelope) if self.links[silo.index()] == Some(link) => {
                if let CoordinatorMessage::Open(open) = &envelope.message {
                    let at = AttemptId { round: open.context.round, attempt: open.context.attempt };
                    self.proofs.insert((silo, at), open.abandoned.iter().map(|a| a.attempt).collect());
                }
                self.inject_envelope(silo, envelope);
            }
            Event::ToCoordinator(silo, link, envelope) if self.links[silo.index()] == Some(link) => {
                if let Some(machine) = &mut self.coordinator {
                    machine.handle_message(silo, envelope, now);
                }
                self.pump_coordinator();
            }
            Event::ToSilo(..) | Event::ToCoordinator(..) => {}
            Event::Trained(silo, life, outcome) => {
                let process = &mut self.silos[silo.index()];
                if process.life == life {
                    if let Some(machine) = &mut process.machine {
                        machine.handle_trained(outcome, now);
                    }
                    self.pump_silo(silo);
                }
            }
            Event::StartSilo(silo) => self.start_silo(silo),
            Event::StartCoordinator => self.start_coordinator(),
            Event::Connect(silo) => self.connect(silo),
            Event::Wake(ticket) => self.script(|net, now| net.wake(now, ticket)),
        }
    }

    /// Lets the script say what happens, and does it.
    fn script(&mut self, ask: impl FnOnce(&mut dyn Net, u64) -> Vec<Action>) {
        let Some(mut net) = self.net.take() else { return };
        let actions = ask(&mut *net, self.now);
        self.net = Some(net);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            // a lie may be meant for nobody
            Action::ToSilo(silo, ..) if silo.0 >= self.setup.n() => {}
            Action::ToSilo(silo, envelope, delay) => match (self.links[silo.index()], self.fits(&envelope)) {
                (Some(link), true) => self.after(delay, Event::ToSilo(silo, link, envelope)),
                (Some(_), false) => self.cut(silo),
                (None, _) => {}
            },
            Action::ToCoordinator(silo, envelope, delay) => match (self.links[silo.index()], self.fits(&envelope)) {
                (Some(link), true) => self.after(delay, Event::ToCoordinator(silo, link, envelope)),
                (Some(_), false) => self.cut(silo),
                (None, _) => {}
            },
            Action::Cut(silo) => self.cut(silo),
            Action::KillSilo { silo, restart_ms, tenths } => {
                if self.silos[silo.index()].machine.is_none() {
                    return;
                }
                self.kill(silo);
                if let Some(tenths) = tenths {
                    self.silos[silo.index()].restore(usize::from(tenths));
                }
                if let Some(delay) = restart_ms {
                    self.silos[silo.index()].starting = true;
                    self.after(delay, Event::StartSilo(silo));
                }
            }
            Action::KillCoordinator { restart_ms, edit } => {
                if self.coordinator.is_none() {
                    return;
                }
                self.kill_coordinator();
                match edit {
                    Some(StoreEdit::Forget) => self.store.retain(|bytes| {
                        use StoreRecord::{Certified, Guilty, Marks, Opened, Result};
                        let record = codec::decode(bytes, 1 << 24).unwrap();
                        matches!(record, Opened { .. } | Result(_) | Certified { .. } | Guilty { .. } | Marks { .. })
                    }),
                    Some(StoreEdit::Add(record)) => self.store.push(codec::encode(&*record).unwrap()),
                    None => {}
                }
                if let Some(delay) = restart_ms {
                    self.after(delay, Event::StartCoordinator);
                }
            }
            Action::Wake(delay, ticket) => self.after(delay, Event::Wake(ticket)),
        }
    }

    fn start_silo(&mut self, silo: SiloId) {
        let identity = self.setup.identity(silo);
        let process = &mut self.silos[silo.index()];
        let entries: Vec<JournalEntry> =
            process.journal.iter().map(|bytes| codec::decode(bytes, 1 << 20).unwrap()).collect();
        let config = SiloSetup {
            me: silo,
            identity,
            roster: Arc::clone(&self.setup.roster),
            plan: Arc::clone(&self.setup.plan),
            journal: JournalState::replay(&entries).unwrap(),
            held: process.held.clone(),
        };
        process.life += 1;
        process.starting = false;
        let seed = (self.seed << 24) | (u64::from(silo.0) * 1000 + u64::from(process.life));
        process.machine = Some(SiloMachine::new(config, crate::boxed_rng(seed), self.now).unwrap());
        self.pump_silo(silo);
        self.connect(silo);
    }

    pub fn start_coordinator(&mut self) {
        let records: Vec<StoreRecord> = self.store.iter().map(|bytes| codec::decode(bytes, 1 << 24).unwrap()).collect();
        let config = CoordinatorSetup {
            roster: Arc::clone(&self.setup.roster),
            plan: Arc::clone(&self.setup.plan),
            store: StoreState::replay(records).unwrap(),
        };
        self.coordinator = Some(CoordinatorMachine::new(config, self.now).unwrap());
        self.pump_coordinator();
        for silo in self.setup.roster.ids() {
            self.after(10 + u64::from(silo.0), Event::Connect(silo));
        }
    }

    fn connect(&mut self, silo: SiloId) {
        let now = self.now;
        let process = &mut self.silos[silo.index()];
        if let (Some(machine), Some(coordinator), None) =
            (&mut process.machine, &mut self.coordinator, self.links[silo.index()])
        {
            self.connections += 1;
            self.links[silo.index()] = Some(self.connections);
            coordinator.handle_connected(silo, now);
            machine.handle_connected(now);
            self.pump_coordinator();
            self.pump_silo(silo);
        }
    }

    fn pump_silo(&mut self, silo: SiloId) {
        let deadline = self.silos[silo.index()].machine.as_ref().and_then(|m| m.poll_timeout());
        self.longest_wait_ms = self.longest_wait_ms.max(deadline.map_or(0, |d| d.saturating_sub(self.now)));
        loop {
            let process = &mut self.silos[silo.index()];
            let Some(output) = process.machine.as_mut().and_then(|m| m.poll_output()) else { return };
            self.execute_silo(silo, output);
            let process = &mut self.silos[silo.index()];
            process.executed += 1;
            if let Some(crash) = process.crash.filter(|c| process.executed == c.after) {
                process.machine = None;
                process.life += 1;
                if process.forgets_adapter {
                    process.held = None;
                }
                self.cut(silo);
                if let Some(delay) = crash.restart_ms {
                    self.after(delay, Event::StartSilo(silo));
                }
            }
        }
    }

    fn execute_silo(&mut self, silo: SiloId, output: SiloOutput) {
        let now = self.now;
        let process = &mut self.silos[silo.index()];
        match output {
            SiloOutput::Send(envelope) => {
                if let SiloMessage::MaskedInput { at, .. } = &envelope.message {
                    let (update, mut counts) = process.latest[&at.round].clone();
                    // SA-13: exact counts go out again only where every earlier attempt is proven abandoned
                    let proven = self.proofs.get(&(silo, *at)).cloned().unwrap_or_default();
                    let entries = process.journal.iter().map(|bytes| codec::decode(bytes, 1 << 20).unwrap());
                    let unproven = |entry: JournalEntry| match entry {
                        JournalEntry::Masked { at: a } => {
                            a.round == at.round && a.attempt < at.attempt && !proven.contains(&a.attempt)
                        }
                        _ => false,
                    };
                    if entries.into_iter().any(unproven) || !self.counted[&(silo, *at)] {
                        counts = HeldOutCounts::default();
                    }
                    self.inputs.insert((silo, *at), (update, counts));
                }
                if let SiloMessage::Shares { at, .. } = &envelope.message {
                    // it answers the list that came last
                    self.counted.entry((silo, *at)).or_insert(self.listed[&silo]);
                }
                process.sent.push(envelope.clone());
                let Some(link) = self.links[silo.index()] else { return };
                if let Some(kill) = self.kill_when.take_if(|k| k.silo == silo && (k.when)(&envelope.message)) {
                    process.machine = None;
                    process.life += 1;
                    if let (Some(machine), true) = (&mut self.coordinator, kill.delivered) {
                        machine.handle_message(silo, envelope, now);
                    }
                    return self.cut(silo);
                }
                if self.net.is_some() {
                    return self.script(|net, now| net.up(now, silo, envelope));
                }
                let restart = !process.restarted && self.restart_when.is_some_and(|when| when(&envelope.message));
                process.restarted |= restart;
                for envelope in (self.up)(silo, envelope) {
                    self.check_frame(&envelope);
                    self.after(5, Event::ToCoordinator(silo, link, envelope));
                }
                if restart {
                    self.kill(silo);
                    self.after(60, Event::StartSilo(silo));
                }
            }
            SiloOutput::Journal(entry) => {
                process.journal.push(codec::encode(&entry).unwrap());
                process.written.push(entry);
            }
            SiloOutput::Train(request) => {
                let round = request.at.round;
                let run = process.trainings.entry(round).or_default();
                *run += 1;
                let (mut update, mut held_out) = self.setup.update(silo, round, *run);
                if let Some(trains) = self.trains {
                    update.fill(trains(silo));
                }
                if let Some(given) = self.updates.get(&silo) {
                    update.clone_from(given);
                }
                if self.holds_none_out == Some(silo) {
                    held_out = HeldOutCounts::default();
                }
                process.latest.insert(round, (update.clone(), held_out));
                let spent = self.budget.is_some_and(|budget| process.trainings.values().sum::<u32>() > budget);
                let result = if spent { Err(TrainFailure) } else { Ok(MeasuredUpdate { update, held_out }) };
                let outcome = TrainOutcome { round, result };
                let life = process.life;
                self.after(50 + 7 * u64::from(silo.0), Event::Trained(silo, life, outcome));
            }
            SiloOutput::Work(work) => {
                let done = work.run();
                if let Some(machine) = &mut process.machine {
                    machine.handle_work_done(done, now);
                }
            }
            SiloOutput::Adopt(adoption) => {
                let Adoption { at, global, result_hash, .. } = adoption.clone();
                process.held = Some(HeldResult { round: at.round, result_hash, global });
                process.adopted.push(adoption);
            }
            SiloOutput::Event(event) => {
                let stops = matches!(event, SiloEvent::Restored(..));
                process.events.push(event);
                if stops {
                    self.kill(silo);
                }
            }
            SiloOutput::Disconnect(event) => {
                process.events.push(event);
                self.cut(silo);
            }
            SiloOutput::Finished => process.finished = true,
        }
    }

    fn pump_coordinator(&mut self) {
        while let Some(output) = self.coordinator.as_mut().and_then(|m| m.poll_output()) {
            self.execute_coordinator(output);
            self.coordinator_executed += 1;
            if let Some(crash) = self.coordinator_crash.filter(|c| self.coordinator_executed == c.after) {
                self.coordinator = None;
                for silo in self.setup.roster.ids() {
                    self.cut(silo);
                }
                if let Some(delay) = crash.restart_ms {
                    self.after(delay, Event::StartCoordinator);
                }
            }
        }
    }

    fn execute_coordinator(&mut self, output: CoordinatorOutput) {
        match output {
            CoordinatorOutput::Send { to, envelope } => {
                let Some(link) = self.links[to.index()] else { return };
                if self.net.is_some() {
                    return self.script(|net, now| net.down(now, to, envelope));
                }
                for envelope in (self.down)(to, envelope) {
                    self.check_frame(&envelope);
                    self.after(5, Event::ToSilo(to, link, envelope));
                }
            }
            CoordinatorOutput::Store(record) => {
                self.store.push(codec::encode(&record).unwrap());
                self.stored.push(record);
            }
            CoordinatorOutput::Work(work) => {
                let (done, now) = (work.run(), self.now);
                if let Some(machine) = &mut self.coordinator {
                    machine.handle_work_done(done, now);
                }
            }
            CoordinatorOutput::Fetch { at, silos } => {
                let records: Vec<StoreRecord> = self.store.iter().map(|r| codec::decode(r, 1 << 24).unwrap()).collect();
                let masked = |silo: &SiloId| {
                    let found = records.iter().find_map(|r| match r {
                        StoreRecord::Masked { at: a, header, payload } if *a == at && header.silo == *silo => {
                            Some((*silo, Arc::clone(payload)))
                        }
                        _ => None,
                    });
                    found.expect("it asks for what it has stored")
                };
                let (inputs, now) = (silos.iter().map(masked).collect(), self.now);
                if let Some(machine) = &mut self.coordinator {
                    machine.handle_fetched(at, inputs, now);
                }
            }
            CoordinatorOutput::Evidence(_) => {}
            CoordinatorOutput::Report(report) => self.reports.push(report),
            CoordinatorOutput::Event(event) => self.coordinator_events.push(event),
            CoordinatorOutput::Disconnect { silo, .. } => self.cut(silo),
            CoordinatorOutput::Finished => self.coordinator_finished = true,
        }
    }

    /// Whether a frame is one that a transport would let through: what does not fit closes the connection.
    fn fits<M: Wire + PartialEq>(&self, envelope: &Envelope<M>) -> bool {
        let bytes = codec::encode(&envelope.message).unwrap();
        M::decode(&bytes, &self.limits).is_ok_and(|message| message == envelope.message)
    }

    /// Every message fits its limit and survives the codec.
    fn check_frame<M: Wire + PartialEq + std::fmt::Debug>(&self, envelope: &Envelope<M>) {
        let bytes = codec::encode(&envelope.message).unwrap();
        assert_eq!(bytes.len() as u64, codec::encoded_len(&envelope.message));
        assert_eq!(M::decode(&bytes, &self.limits).unwrap(), envelope.message);
    }
}
