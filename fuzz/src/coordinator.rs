//! The coordinator's machine against four silos in the fuzzer's hands: lists of operations on a [`CoordinatorMachine`].
//!
//! ```text
//! byte 0: bit 0 differential privacy      then six bytes each: what, a, b, three of alteration
//! ```
//! Silos answer what they are sent with real keys, shares and votes ([`silos`]); operations choose who answers, who is
//! gone, who lies, what is altered or said in another's name, and let time pass and the coordinator restart.

mod silos;

pub use silos::LIES;

use std::collections::BTreeSet;
use std::sync::Arc;

use blindsum_crypto::{Evidence, Fault, SiloId};
use blindsum_protocol::coordinator::{
    Conviction, CoordinatorEvent, CoordinatorMachine, CoordinatorOutput, CoordinatorSetup, CoordinatorWork,
    DisconnectReason, StoreRecord, StoreState,
};
use blindsum_protocol::limits::Wire;
use blindsum_protocol::message::DeclineReason;
use blindsum_protocol::{AttemptId, CoordinatorMessage, Envelope, Payload, SiloMessage, codec, evidence};

use crate::input::Input;
use crate::operations::{MOST, OPERATION};
use crate::peers::{Peers, subset};
use crate::tamper::Tamper;
use crate::world::{SILOS, World};

/// Most outputs of one operation: each silo can be sent a few messages per phase, and a few phases can pass at once.
const OUTPUTS: usize = 96;

/// What an operation does; the corpus is written in these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum What {
    /// Silo `a` connects and says Hello, unless `b` is odd.
    Connect,
    /// Silo `a` is gone.
    Disconnect,
    /// Silo `a` answers the oldest message it was sent.
    Answer,
    /// The silos in `a` answer everything, `b` + 1 times over.
    Everybody,
    /// Silo `a` overlooks the oldest message it was sent.
    Overlook,
    /// Time passes: to the coordinator's timer, or by `b` · 100 ms if `a` is odd.
    Tick,
    /// Pending work number `a` is done, or lost if `b` is odd.
    Work,
    /// The coordinator is killed and started again.
    Restart,
    /// Silo `a` sends message number `b` of all that were sent, whoever sent it first.
    Replay,
    /// Silo `a` declines; `b` why.
    Decline,
    /// Silo `a` votes to abandon attempt `b`, or the newest for 0.
    Abandon,
    /// Silo `a` says Hello and claims to remember attempt `b` · 2^24.
    Hello,
    /// Silo `a` complains about silo `b`.
    Complain,
    /// From now on silo `a` lies in the way `b`.
    Lie,
}

impl What {
    /// How many there are.
    pub const KINDS: u8 = Self::ALL.len() as u8;

    const ALL: [What; 14] = [
        What::Connect,
        What::Disconnect,
        What::Answer,
        What::Everybody,
        What::Overlook,
        What::Tick,
        What::Work,
        What::Restart,
        What::Replay,
        What::Decline,
        What::Abandon,
        What::Hello,
        What::Complain,
        What::Lie,
    ];

    /// An operation without alteration.
    pub fn with(self, a: u8, b: u8) -> [u8; OPERATION] {
        [self as u8, a, b, 0, 0, 0]
    }
}

/// Runs a list of operations.
pub fn run(bytes: &[u8]) {
    rounds_done(bytes);
}

/// Runs a list of operations; how many rounds were certified in the end.
pub fn rounds_done(bytes: &[u8]) -> u32 {
    go(bytes).machine.rounds_done()
}

/// Runs a list of operations; what convicts silos in the end.
pub fn convictions(bytes: &[u8]) -> Vec<Evidence> {
    go(bytes).convictions.iter().map(|conviction| Evidence::clone(&conviction.evidence)).collect()
}

fn go(bytes: &[u8]) -> Run {
    let mut input = Input(bytes);
    let mut run = Run::new(World::get(input.byte() & 1 != 0));
    for _ in 0..MOST {
        if input.is_empty() {
            break;
        }
        let (what, a, b) = (input.byte(), input.byte(), input.byte());
        let tamper = Tamper::read(&mut input);
        run.operation(What::ALL[usize::from(what % What::KINDS)], a, b, tamper);
    }
    let rounds = run.machine.rounds_done();
    run.convictions.clear();
    run.restart();
    assert_eq!(run.machine.rounds_done(), rounds, "a certified round is lost in a restart");
    run
}

/// What the driver has been told to do on another thread.
enum Pending {
    Work(CoordinatorWork),
    Fetch(AttemptId, Vec<SiloId>),
}

struct Run {
    world: &'static World,
    machine: CoordinatorMachine,
    now: u64,
    store: Vec<StoreRecord>,
    works: Vec<Pending>,
    silos: Vec<silos::Silo>,
    connected: BTreeSet<SiloId>,
    /// Who ever did what an honest silo does not.
    hostile: BTreeSet<SiloId>,
    /// A silo signs another input than its own, which no check can know.
    poisoned: bool,
    history: Vec<Envelope<SiloMessage>>,
    reported: u32,
    finished: bool,
    convictions: Vec<Conviction>,
}

impl Run {
    fn new(world: &'static World) -> Run {
        let mut run = Run {
            world,
            machine: machine(world, Vec::new(), 1000),
            now: 1000,
            store: Vec::new(),
            works: Vec::new(),
            silos: world.ids().map(|id| silos::Silo::new(world, id)).collect(),
            connected: BTreeSet::new(),
            hostile: BTreeSet::new(),
            poisoned: false,
            history: Vec::new(),
            reported: 0,
            finished: false,
            convictions: Vec::new(),
        };
        run.drain();
        run
    }

    fn operation(&mut self, what: What, a: u8, b: u8, tamper: Tamper) {
        self.now += 1;
        let silo = SiloId(u16::from(a) % SILOS);
        let at = self.silos[silo.index()].at();
        match what {
            What::Connect => {
                self.connected.insert(silo);
                self.silos[silo.index()].inbox.clear();
                self.machine.handle_connected(silo, self.now);
                if b & 1 == 1 {
                    self.hostile.insert(silo);
                } else {
                    let hello = self.silos[silo.index()].hello();
                    self.send(silo, Envelope::bare(hello), tamper);
                }
            }
            What::Disconnect => {
                self.connected.remove(&silo);
                self.machine.handle_disconnected(silo, self.now);
            }
            What::Answer => self.answer(silo, tamper),
            What::Everybody => {
                for _ in 0..=b % 8 {
                    for silo in subset(a) {
                        self.answer(silo, Tamper::default());
                        self.drain();
                    }
                }
            }
            What::Overlook => drop(self.silos[silo.index()].inbox.pop_front()),
            What::Tick => {
                match self.machine.poll_timeout() {
                    Some(at) if a & 1 == 0 => self.now = self.now.max(at),
                    _ => self.now += u64::from(b) * 100,
                }
                self.machine.handle_timeout(self.now);
                let next = self.machine.poll_timeout();
                assert!(next.is_none_or(|at| at > self.now), "the timer does not move on");
            }
            What::Work => {
                if !self.works.is_empty() {
                    let work = self.works.remove(usize::from(a) % self.works.len());
                    match work {
                        _ if b & 1 == 1 => {}
                        Pending::Work(work) => self.machine.handle_work_done(work.run(), self.now),
                        Pending::Fetch(at, silos) => {
                            let inputs = silos.into_iter().map(|silo| (silo, self.masked(at, silo))).collect();
                            self.machine.handle_fetched(at, inputs, self.now);
                        }
                    }
                }
            }
            What::Restart => self.restart(),
            What::Replay => {
                let index = usize::from(b) % self.history.len().max(1);
                if let Some(envelope) = self.history.get(index).cloned() {
                    self.hostile.insert(silo);
                    self.send(silo, envelope, tamper);
                }
            }
            What::Decline => {
                let reasons = [
                    DeclineReason::Mismatch,
                    DeclineReason::AwaitsResult,
                    DeclineReason::CannotTrain,
                    DeclineReason::Refused,
                ];
                let reason = reasons[usize::from(b) % reasons.len()];
                self.send(silo, Envelope::bare(SiloMessage::Decline { at, reason }), tamper);
            }
            What::Abandon => {
                let attempt = if b == 0 { at.attempt } else { u32::from(b) };
                let vote = self.silos[silo.index()].abandon(AttemptId { attempt, ..at });
                self.hostile.insert(silo);
                self.send(silo, Envelope::bare(vote), tamper);
            }
            What::Hello => {
                let hello = self.silos[silo.index()].hello_from(u32::from(b) << 24);
                self.hostile.insert(silo);
                self.send(silo, Envelope::bare(hello), tamper);
            }
            What::Complain => {
                if let Some(complaint) = self.silos[silo.index()].complain(SiloId(u16::from(b) % SILOS)) {
                    self.hostile.insert(silo);
                    self.send(silo, Envelope::bare(complaint), tamper);
                }
            }
            What::Lie => {
                self.hostile.insert(silo);
                self.silos[silo.index()].lie = b % LIES;
                self.poisoned |= b % LIES == 4;
            }
        }
        self.drain();
    }

    fn answer(&mut self, silo: SiloId, tamper: Tamper) {
        if !self.connected.contains(&silo) {
            return;
        }
        let answers = self.silos[silo.index()].answer();
        for (i, envelope) in answers.into_iter().enumerate() {
            self.send(silo, envelope, if i == 0 { tamper } else { Tamper::default() });
        }
    }

    fn send(&mut self, silo: SiloId, envelope: Envelope<SiloMessage>, tamper: Tamper) {
        if tamper.is_some() {
            self.hostile.insert(silo);
        }
        let message = tamper.apply(envelope.message);
        let payload = envelope.payload.and_then(|p| tamper.payload(p));
        let envelope = Envelope { message, payload };
        if self.history.len() < 255 {
            self.history.push(envelope.clone());
        }
        self.machine.handle_message(silo, envelope, self.now);
    }

    /// A masked input, read back from the store.
    fn masked(&self, of: AttemptId, silo: SiloId) -> Payload {
        let found = self.store.iter().find_map(|record| match record {
            StoreRecord::Masked { at, header, payload } if *at == of && header.silo == silo => Some(payload),
            _ => None,
        });
        Payload::clone(found.expect("it asks for what it has stored"))
    }

    fn restart(&mut self) {
        self.machine = machine(self.world, self.store.clone(), self.now);
        self.works.clear();
        self.connected.clear();
        self.silos.iter_mut().for_each(|silo| silo.inbox.clear());
        self.reported = self.reported.saturating_sub(1);
        self.finished = false;
        self.drain();
    }

    /// Executes what the coordinator puts out.
    fn drain(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.machine.poll_output() {
            outputs += 1;
            assert!(outputs <= OUTPUTS, "one operation led to more than {OUTPUTS} outputs");
            assert!(
                !self.finished
                    || matches!(
                        output,
                        CoordinatorOutput::Event(_)
                            | CoordinatorOutput::Send { .. }
                            | CoordinatorOutput::Disconnect { .. }
                    ),
                "{output:?} after the job was over"
            );
            match output {
                CoordinatorOutput::Send { to, envelope } => self.sent(to, envelope),
                CoordinatorOutput::Store(record) => self.stored(record),
                CoordinatorOutput::Work(work) => self.works.push(Pending::Work(work)),
                CoordinatorOutput::Fetch { at, silos } => {
                    assert!(!silos.is_empty() && silos.is_sorted());
                    self.works.push(Pending::Fetch(at, silos));
                }
                CoordinatorOutput::Report(report) => {
                    assert_eq!(report.round, self.reported + 1, "rounds are reported one by one");
                    self.reported = report.round;
                    assert!(report.survivors.len() >= usize::from(self.world.plan().quorum().m), "SA-05");
                }
                CoordinatorOutput::Evidence(conviction) => self.convicted(conviction),
                CoordinatorOutput::Event(event) => self.event(&event),
                CoordinatorOutput::Disconnect { silo, reason } => {
                    let blamed = matches!(reason, DisconnectReason::Misbehaviour(_) | DisconnectReason::Restored);
                    let lawful = !blamed || self.hostile.contains(&silo);
                    assert!(lawful, "silo {silo} did nothing wrong: {reason}");
                    self.connected.remove(&silo);
                }
                CoordinatorOutput::Finished => self.finished = true,
            }
        }
    }

    fn sent(&mut self, to: SiloId, envelope: Envelope<CoordinatorMessage>) {
        let bytes = codec::encode(&envelope.message).unwrap();
        let limits = &self.world.limits;
        assert!(bytes.len() <= CoordinatorMessage::max_len(limits), "SA-12: a message of {} bytes", bytes.len());
        assert_eq!(CoordinatorMessage::decode(&bytes, limits).unwrap(), envelope.message);
        envelope.check_payload(limits).expect("an own payload has its length");
        if self.connected.contains(&to) {
            self.silos[to.index()].inbox.push_back(envelope);
        }
    }

    fn stored(&mut self, record: StoreRecord) {
        let bytes = codec::encode(&record).unwrap();
        assert_eq!(codec::decode::<StoreRecord>(&bytes, 1 << 24).unwrap(), record);
        match &record {
            StoreRecord::Result(result) => {
                let kind = self.world.plan().kind(result.at.round).unwrap();
                let survivors: Vec<SiloId> = result.list.0.iter().map(|m| m.silo).collect();
                let peers = Peers { world: self.world, ctx: &result.bind, kind };
                let sound = self.poisoned || peers.sum(&survivors) == *result.sum;
                assert!(sound, "{}: the sum is not the plain sum over its survivors", result.at);
            }
            StoreRecord::Guilty { silo, .. } => {
                let c = usize::from(self.world.plan().quorum().c);
                assert!(self.hostile.len() > c || self.hostile.contains(silo), "SA-09: silo {silo} is blamed wrongly");
            }
            _ => {}
        }
        self.store.push(record);
    }

    /// What convicts a silo convinces everybody.
    fn convicted(&mut self, conviction: Conviction) {
        let world = self.world;
        let guilt = evidence::check(&world.setup.roster, world.plan().job(), &conviction.evidence);
        assert_eq!(guilt.as_ref().ok(), Some(&conviction.guilt), "the evidence proves something else");
        let c = usize::from(world.plan().quorum().c);
        let silo = conviction.guilt.silo;
        let framed = self.hostile.len() > c && matches!(conviction.evidence.fault, Fault::Complaints(_));
        assert!(framed || self.hostile.contains(&silo), "silo {silo} is convicted wrongly: {}", conviction.guilt.what);
        self.convictions.push(conviction);
    }

    fn event(&self, event: &CoordinatorEvent) {
        assert!(!event.to_string().is_empty());
        if let CoordinatorEvent::Misbehaviour(silo, what) = event {
            let c = usize::from(self.world.plan().quorum().c);
            assert!(self.hostile.len() > c || self.hostile.contains(silo), "silo {silo} is blamed wrongly: {what}");
        }
    }
}

fn machine(world: &World, records: Vec<StoreRecord>, now: u64) -> CoordinatorMachine {
    let store = StoreState::replay(records).expect("a machine's own store replays");
    let (roster, plan) = (Arc::clone(&world.setup.roster), Arc::clone(world.plan()));
    CoordinatorMachine::new(CoordinatorSetup { roster, plan, store }, now).expect("a coordinator starts from its store")
}
