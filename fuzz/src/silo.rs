//! One silo against a coordinator that has the keys of all other silos: lists of operations on a [`SiloMachine`].
//!
//! ```text
//! byte 0: bit 0 differential privacy, bits 1-2 which silo      then six bytes each: what, a, b, three of alteration
//! ```
//! The coordinator composes what an honest one would send next (out of real keys, shares and votes of the other three),
//! chooses who takes part, alters it, repeats what it sent before, and lets time pass, trainings fail and the silo
//! restart. What the silo puts out is held against [`crate::silo::watch`] after every operation.

mod hostile;
mod watch;

use std::sync::Arc;

use blindsum_crypto::{IdentityKey, SiloId};
use blindsum_protocol::silo::{
    HeldResult, JournalEntry, JournalState, MeasuredUpdate, SetupError, SiloMachine, SiloOutput, SiloSetup, SiloWork,
    TrainFailure, TrainOutcome, TrainRequest,
};
use blindsum_protocol::{CoordinatorMessage, Envelope, HeldOutCounts};

use crate::input::Input;
use crate::operations::{MOST, OPERATION};
use crate::silo::watch::Watch;
use crate::tamper::Tamper;
use crate::world::World;

/// What an operation does; the corpus is written in these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// The connection is up.
    Connect,
    /// The connection is gone.
    Disconnect,
    /// Opens an attempt: `a` which number, `b` which proofs that earlier ones are abandoned.
    Open,
    /// Adverts of the silos in `a`; `b` is the peers' salt.
    Adverts,
    /// Headers and deliveries of the silos in `a`; `b` who lies and how.
    Shares,
    /// The survivors in `a`.
    CommitRequest,
    /// COMMIT votes of the silos in `a`, over the list before last if `b` is odd.
    RevealRequest,
    /// Asks to abandon: `a` which attempt.
    AbandonRequest,
    /// A sum is fixed: `a` bit 0 hands the silo its masked input back, bit 1 names another sum.
    SumRequest,
    /// A sum over the survivors in `a`; `b`: bit 0 with certificate instead of proof, others alter it.
    Result,
    /// RESULT votes of the silos in `a`.
    Certified,
    /// The job is over.
    Finished,
    /// A training ends: `a` how.
    Trained,
    /// Pending work number `a` is done, or lost if `b` is odd.
    Work,
    /// Time passes: to the silo's deadline, or `b` · 100 ms.
    Tick,
    /// The silo is killed and started again; without its adapter file if `a` is odd.
    Restart,
    /// A message from before, number `a`.
    Replay,
}

impl What {
    /// How many there are.
    pub const KINDS: u8 = Self::ALL.len() as u8;

    const ALL: [What; 17] = [
        What::Connect,
        What::Disconnect,
        What::Open,
        What::Adverts,
        What::Shares,
        What::CommitRequest,
        What::RevealRequest,
        What::AbandonRequest,
        What::SumRequest,
        What::Result,
        What::Certified,
        What::Finished,
        What::Trained,
        What::Work,
        What::Tick,
        What::Restart,
        What::Replay,
    ];

    /// An operation without alteration.
    pub fn with(self, a: u8, b: u8) -> [u8; OPERATION] {
        [self as u8, a, b, 0, 0, 0]
    }
}

/// Runs a list of operations.
pub fn run(bytes: &[u8]) {
    rounds_held(bytes);
}

/// Runs a list of operations; how many rounds the silo held in the end.
pub fn rounds_held(bytes: &[u8]) -> u32 {
    let mut input = Input(bytes);
    let head = input.byte();
    let mut run = Run::new(World::get(head & 1 != 0), SiloId(u16::from(head >> 1 & 3)));
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let (what, a, b) = (input.byte(), input.byte(), input.byte());
        let tamper = Tamper::read(&mut input);
        run.operation(What::ALL[usize::from(what % What::KINDS)], a, b, tamper);
    }
    let rounds = run.held.as_ref().map_or(0, |held| held.round);
    run.end();
    rounds
}

struct Run {
    world: &'static World,
    me: SiloId,
    machine: SiloMachine,
    life: u64,
    now: u64,
    journal: Vec<JournalEntry>,
    held: Option<HeldResult>,
    works: Vec<SiloWork>,
    trainings: Vec<TrainRequest>,
    hostile: hostile::Coordinator,
    watch: Watch,
}

impl Run {
    fn new(world: &'static World, me: SiloId) -> Run {
        let machine = machine(world, me, JournalState::default(), None, 0).unwrap();
        let mut run = Run {
            world,
            me,
            machine,
            life: 0,
            now: 1000,
            journal: Vec::new(),
            held: None,
            works: Vec::new(),
            trainings: Vec::new(),
            hostile: hostile::Coordinator::new(world, me),
            watch: Watch::new(world, me),
        };
        run.drain();
        run
    }

    fn operation(&mut self, what: What, a: u8, b: u8, tamper: Tamper) {
        self.now += 1;
        match what {
            What::Connect => self.machine.handle_connected(self.now),
            What::Disconnect => self.machine.handle_disconnected(self.now),
            What::Trained => self.train(a, b),
            What::Work => {
                if !self.works.is_empty() {
                    let work = self.works.remove(usize::from(a) % self.works.len());
                    if b & 1 == 0 {
                        self.machine.handle_work_done(work.run(), self.now);
                    }
                }
            }
            What::Tick => self.tick(a, b),
            What::Restart => self.restart(a & 1 != 0),
            _ => {
                if let Some(envelope) = self.hostile.compose(what, a, b) {
                    let message = tamper.apply(envelope.message);
                    let payload = envelope.payload.and_then(|p| tamper.payload(p));
                    self.deliver(Envelope { message, payload });
                }
            }
        }
        self.drain();
    }

    fn deliver(&mut self, envelope: Envelope<CoordinatorMessage>) {
        self.hostile.sent(&envelope);
        self.watch.received(&envelope);
        self.machine.handle_message(envelope, self.now);
    }

    fn train(&mut self, a: u8, b: u8) {
        let Some(request) = self.trainings.pop() else { return };
        let plan = self.world.plan();
        let length = plan.kind(request.at.round).map_or(0, |kind| plan.params(kind).lanes() - plan.metrics_len());
        let value = match a % 8 {
            3 => f32::NAN,
            4 => f32::INFINITY,
            5 => f32::MAX,
            _ => f32::from(b) - 100.0,
        };
        let length = if a % 8 == 2 { length + 1 } else { length };
        let held_out = HeldOutCounts { examples: u32::from(b) * 0x0101_0101, correct: u32::MAX };
        let result =
            if a % 8 == 1 { Err(TrainFailure) } else { Ok(MeasuredUpdate { update: vec![value; length], held_out }) };
        let round = if a % 8 == 6 { request.at.round + 1 } else { request.at.round };
        self.machine.handle_trained(TrainOutcome { round, result }, self.now);
        if a % 8 == 7 {
            self.trainings.push(request);
        }
    }

    fn tick(&mut self, a: u8, b: u8) {
        match self.machine.poll_timeout() {
            Some(at) if a & 1 == 0 => self.now = self.now.max(at),
            _ => self.now += u64::from(b) * 100,
        }
        self.machine.handle_timeout(self.now);
        assert!(self.machine.poll_timeout().is_none_or(|at| at > self.now), "the timer does not move on");
    }

    fn restart(&mut self, forget: bool) {
        self.life += 1;
        if forget {
            self.held = None;
        }
        let journal = JournalState::replay(&self.journal).expect("a machine's own journal replays");
        let made = machine(self.world, self.me, journal.clone(), self.held.clone(), self.life);
        self.machine = made.unwrap_or_else(|e| {
            // q silos certified two results of one round: the silo followed the second, but its journal names the first
            assert!(
                matches!(e, SetupError::Held(_) | SetupError::JournalBehind { .. }) && self.watch.has_forked(),
                "a silo starts from its own files: {e}"
            );
            self.held = None;
            machine(self.world, self.me, journal, None, self.life).unwrap()
        });
        self.works.clear();
        self.trainings.clear();
        self.watch.restarted();
        self.hostile.restarted(self.held.as_ref());
    }

    /// Executes what the silo puts out.
    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.machine.poll_output() {
            outputs += 1;
            assert!(outputs <= 24, "one operation led to {outputs} outputs");
            self.watch.output(&output);
            match output {
                SiloOutput::Send(envelope) => self.hostile.received(&envelope),
                SiloOutput::Journal(entry) => self.journal.push(entry),
                SiloOutput::Train(request) => {
                    self.trainings.clear();
                    self.trainings.push(request);
                }
                SiloOutput::Work(work) => self.works.push(work),
                SiloOutput::Adopt(adoption) => {
                    let (round, result_hash) = (adoption.at.round, adoption.result_hash);
                    self.hostile.adopted(&adoption);
                    self.held = Some(HeldResult { round, result_hash, global: adoption.global });
                }
                SiloOutput::Event(_) | SiloOutput::Finished => {}
                SiloOutput::Disconnect(_) => self.machine.handle_disconnected(self.now),
            }
        }
        assert!(self.works.len() <= MOST);
    }

    /// The journal of every run replays, and a silo started from it repeats itself.
    fn end(mut self) {
        self.restart(false);
        self.drain();
        self.machine.handle_connected(self.now);
        self.drain();
        self.tick(0, 0);
        self.drain();
    }
}

fn machine(
    world: &World,
    me: SiloId,
    journal: JournalState,
    held: Option<HeldResult>,
    life: u64,
) -> Result<SiloMachine, SetupError> {
    let config = SiloSetup {
        me,
        identity: IdentityKey::from_bytes(&world.setup.seeds[me.index()]),
        roster: Arc::clone(&world.setup.roster),
        plan: Arc::clone(world.plan()),
        journal,
        held,
    };
    let rng = blindsum_testkit::boxed_rng(0x51_10 + life);
    SiloMachine::new(config, rng, 0)
}
