//! The loop of the benchmark: one round's machines, messages handed over by value, virtual time where somebody is lost.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Instant;

use blindsum_adapter::{AdapterLayout, BaseShape, Task};
use blindsum_crypto::SiloId;
use blindsum_protocol::coordinator::{
    CoordinatorEvent, CoordinatorMachine, CoordinatorOutput, CoordinatorSetup, StoreRecord, StoreState,
};
use blindsum_protocol::job::Job;
use blindsum_protocol::silo::{JournalState, MeasuredUpdate, SiloMachine, SiloOutput, SiloSetup, TrainOutcome};
use blindsum_protocol::{CoordinatorMessage, Envelope, HeldOutCounts, SiloMessage, codec};

use super::owner;
use blindsum_testkit::{NONE, Setup, boxed_rng, job_text};

/// What one session took.
pub struct Run {
    pub seconds: f64,
    /// Seconds in each of the coordinator's phases.
    pub phases: Vec<(&'static str, f64)>,
    /// Most that the coordinator held at once.
    pub peak_bytes: u64,
    /// What it held when the last share had come.
    pub shares_bytes: u64,
    /// Of one surviving silo, bytes.
    pub payload_up: u64,
    pub control_up: u64,
    pub control_down: u64,
}

/// A roster of n and a plan of d coordinates (4096 or a multiple of 32,768).
pub fn setup(n: u16, d: u64) -> Setup {
    let (layers, hidden, r) = match d {
        4096 => (1, 128, 16),
        _ => (d / 32_768, 1024, 16),
    };
    assert_eq!(layers * 2 * hidden * r, d, "d must be 4096 or a multiple of 32768");
    let config = format!(
        r#"{{"model_type": "bert", "hidden_size": {hidden}, "num_hidden_layers": {layers}, "num_attention_heads": 2,
        "intermediate_size": 16, "vocab_size": 32, "max_position_embeddings": 64, "type_vocab_size": 2,
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "initializer_range": 0.02, "pad_token_id": 0}}"#
    );
    let text = job_text(1, NONE, "off").replace("r = 2", &format!("r = {r}"));
    let text =
        text.replace("phase_seconds = 2", "phase_seconds = 600").replace("head = \"trained\"", "head = \"frozen\"");
    let job: Job = toml::from_str(&text).unwrap();
    let layout =
        AdapterLayout::new(&BaseShape::from_config_json(&config).unwrap(), &job.lora, Task::classify(2)).unwrap();
    assert_eq!(layout.len() as u64, d);
    Setup::over("wards", n, &job, &layout)
}

struct Bench<'a> {
    setup: &'a Setup,
    coordinator: CoordinatorMachine,
    silos: Vec<Option<SiloMachine>>,
    up: VecDeque<(SiloId, Envelope<SiloMessage>)>,
    down: VecDeque<(SiloId, Envelope<CoordinatorMessage>)>,
    /// Lost when they get their shares.
    losing: u16,
    store: File,
    masked: BTreeMap<SiloId, (u64, usize)>,
    now: u64,
    started: Instant,
    phases: Vec<(&'static str, f64)>,
    shares_bytes: u64,
    up_bytes: (u64, u64),
    down_bytes: u64,
    done: bool,
}

/// Runs one round to its certified result; the last `drops` silos are lost after P2.
pub fn run(setup: &Arc<Setup>, drops: u16) -> Run {
    owner::reset();
    let (roster, plan) = (Arc::clone(&setup.roster), Arc::clone(&setup.plan));
    let config = CoordinatorSetup { roster, plan, store: StoreState::default() };
    let coordinator = owner::counted(|| CoordinatorMachine::new(config, 0)).unwrap();
    let mut bench = Bench {
        setup,
        coordinator,
        silos: Vec::new(),
        up: VecDeque::new(),
        down: VecDeque::new(),
        losing: setup.n() - drops,
        store: tempfile::tempfile().unwrap(),
        masked: BTreeMap::new(),
        now: 0,
        started: Instant::now(),
        phases: Vec::new(),
        shares_bytes: 0,
        up_bytes: (0, 0),
        down_bytes: 0,
        done: false,
    };
    for silo in setup.roster.ids() {
        let config = SiloSetup {
            me: silo,
            identity: setup.identity(silo),
            roster: Arc::clone(&setup.roster),
            plan: Arc::clone(&setup.plan),
            journal: JournalState::default(),
            held: None,
        };
        let machine = SiloMachine::new(config, boxed_rng(u64::from(silo.0)), 0).unwrap();
        bench.silos.push(Some(machine));
    }
    bench.started = Instant::now();
    for silo in setup.roster.ids() {
        owner::counted(|| bench.coordinator.handle_connected(silo, 0));
        bench.silo(silo, |machine| machine.handle_connected(0));
    }
    while !bench.done {
        bench.step();
    }
    bench.mark("end");
    let phases = bench.phases.windows(2).map(|pair| (pair[0].0, pair[1].1 - pair[0].1)).collect();
    let seconds = bench.started.elapsed().as_secs_f64();
    Run {
        seconds,
        phases,
        peak_bytes: owner::peak(),
        shares_bytes: bench.shares_bytes,
        payload_up: bench.up_bytes.1,
        control_up: bench.up_bytes.0,
        control_down: bench.down_bytes,
    }
}

impl Bench<'_> {
    fn step(&mut self) {
        self.coordinator_outputs();
        if let Some((silo, envelope)) = self.up.pop_front() {
            owner::counted(|| self.coordinator.handle_message(silo, envelope, self.now));
        } else if let Some((silo, envelope)) = self.down.pop_front() {
            if silo.0 >= self.losing && matches!(envelope.message, CoordinatorMessage::Shares { .. }) {
                self.silos[silo.index()] = None;
                owner::counted(|| self.coordinator.handle_disconnected(silo, self.now));
            }
            let now = self.now;
            self.silo(silo, |machine| machine.handle_message(envelope, now));
        } else if !self.done {
            // nobody has anything to say: somebody is waited for
            self.now = self.coordinator.poll_timeout().expect("it waits for something");
            owner::counted(|| self.coordinator.handle_timeout(self.now));
        }
    }

    fn silo(&mut self, silo: SiloId, input: impl FnOnce(&mut SiloMachine)) {
        let now = self.now;
        let Some(machine) = &mut self.silos[silo.index()] else { return };
        input(machine);
        while let Some(output) = machine.poll_output() {
            match output {
                SiloOutput::Send(envelope) => {
                    if silo.0 == 0 {
                        self.up_bytes.0 += codec::encoded_len(&envelope.message);
                        self.up_bytes.1 += envelope.payload.as_ref().map_or(0, |p| p.len() as u64);
                    }
                    self.up.push_back((silo, envelope));
                }
                SiloOutput::Journal(entry) => drop(codec::encode(&entry).unwrap()),
                SiloOutput::Train(request) => {
                    let value = |i: usize| ((i * 31 + usize::from(silo.0)) % 2001) as f32 - 1000.0;
                    let update = (0..self.setup.plan.layout().len()).map(value).collect();
                    let result = Ok(MeasuredUpdate { update, held_out: HeldOutCounts::default() });
                    machine.handle_trained(TrainOutcome { round: request.at.round, result }, now);
                }
                SiloOutput::Work(work) => machine.handle_work_done(work.run(), now),
                SiloOutput::Disconnect(event) => panic!("silo {silo}: {event}"),
                SiloOutput::Adopt(_) | SiloOutput::Event(_) | SiloOutput::Finished => {}
            }
        }
    }

    fn coordinator_outputs(&mut self) {
        while let Some(output) = owner::counted(|| self.coordinator.poll_output()) {
            match output {
                CoordinatorOutput::Send { to, envelope } => {
                    if to.0 == 0 {
                        self.down_bytes += codec::encoded_len(&envelope.message);
                    }
                    self.down.push_back((to, envelope));
                }
                CoordinatorOutput::Store(record) => self.keep(&record),
                CoordinatorOutput::Work(work) => owner::counted(|| {
                    let done = work.run();
                    self.coordinator.handle_work_done(done, self.now);
                }),
                CoordinatorOutput::Fetch { at, silos } => {
                    let read = |silo: &SiloId| {
                        let (place, length) = self.masked[silo];
                        let mut bytes = vec![0; length];
                        self.store.read_exact_at(&mut bytes, place).unwrap();
                        (*silo, Arc::new(bytes))
                    };
                    owner::counted(|| {
                        let inputs = silos.iter().map(read).collect();
                        self.coordinator.handle_fetched(at, inputs, self.now);
                    });
                }
                CoordinatorOutput::Event(CoordinatorEvent::Phase { phase, .. }) => self.mark(phase.name()),
                CoordinatorOutput::Event(CoordinatorEvent::Failed(at, why)) => panic!("{at}: {why}"),
                CoordinatorOutput::Disconnect { silo, reason } => panic!("silo {silo}: {reason}"),
                CoordinatorOutput::Evidence(conviction) => panic!("{:?}", conviction.guilt),
                CoordinatorOutput::Report(_) => self.done = true,
                CoordinatorOutput::Event(_) | CoordinatorOutput::Finished => {}
            }
        }
    }

    fn mark(&mut self, phase: &'static str) {
        if phase == "masked-input" {
            self.shares_bytes = owner::live();
        }
        self.phases.push((phase, self.started.elapsed().as_secs_f64()));
    }

    /// As the service does: on the disk before anything that depends on it.
    fn keep(&mut self, record: &StoreRecord) {
        if let StoreRecord::Masked { header, payload, .. } = record {
            let place = self.store.seek(SeekFrom::End(0)).unwrap();
            self.store.write_all(payload).unwrap();
            self.masked.insert(header.silo, (place, payload.len()));
        } else {
            self.store.write_all(&codec::encode(record).unwrap()).unwrap();
        }
    }
}
