//! A silo's machine over a real connection: no training, no disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use blindsum_certs::credentials::IDENTITY_KEY_FILE;
use blindsum_certs::{Credentials, Role, load_identity};
use blindsum_crypto::SiloId;
use blindsum_protocol::silo::{JournalState, MeasuredUpdate, SiloMachine, SiloOutput, SiloSetup, TrainOutcome};
use blindsum_protocol::{HeldOutCounts, Limits};
use blindsum_transport::codec::SiloCodec;
use blindsum_transport::{Connection, Dialer, Settings};
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::federation::{Site, name};

/// A connected silo.
pub struct Silo {
    machine: SiloMachine,
    connection: Connection<SiloCodec>,
    /// Lives as long as the connection.
    _dialer: Dialer<SiloCodec>,
    length: usize,
    number: u16,
    /// Processor time of all silos' work, ns.
    work: Arc<AtomicU64>,
}

impl Silo {
    /// Silo number `i` dials the coordinator.
    pub async fn connect(site: &Site, i: u16, address: &str, work: Arc<AtomicU64>) -> Silo {
        let credentials = Credentials::load(&site.path(&name(i)), Role::Silo).unwrap();
        let identity = load_identity(&site.path(&name(i)).join(IDENTITY_KEY_FILE)).unwrap();
        let codec = SiloCodec::new(Limits::new(&site.plan));
        let mut dialer = Dialer::new(address, &credentials, codec, Settings::default()).unwrap();
        let connection = dialer.connect().await.unwrap();
        let config = SiloSetup {
            me: SiloId(i),
            identity,
            roster: Arc::clone(&site.roster),
            plan: Arc::clone(&site.plan),
            journal: JournalState::default(),
            held: None,
        };
        let machine = SiloMachine::new(config, Box::new(ChaCha20Rng::seed_from_u64(u64::from(i))), 0).unwrap();
        Silo { machine, connection, _dialer: dialer, length: site.plan.layout().len(), number: i, work }
    }

    /// Takes part until the job is over for it.
    pub async fn run(mut self) {
        self.machine.handle_connected(0);
        while !self.execute().await {
            let envelope = self.connection.recv().await.unwrap();
            // time does not matter: nothing here comes near a deadline
            self.machine.handle_message(envelope, 0);
        }
    }

    async fn execute(&mut self) -> bool {
        while let Some(output) = self.machine.poll_output() {
            match output {
                SiloOutput::Send(envelope) => self.connection.send(envelope).await.unwrap(),
                SiloOutput::Train(request) => {
                    let value = |i: usize| ((i * 31 + usize::from(self.number)) % 2001) as f32 - 1000.0;
                    let update = (0..self.length).map(value).collect();
                    let result = Ok(MeasuredUpdate { update, held_out: HeldOutCounts::default() });
                    self.machine.handle_trained(TrainOutcome { round: request.at.round, result }, 0);
                }
                SiloOutput::Work(work) => {
                    let timed = || {
                        let before = thread_cpu_ns();
                        (work.run(), thread_cpu_ns() - before)
                    };
                    let (done, ns) = tokio::task::spawn_blocking(timed).await.unwrap();
                    self.work.fetch_add(ns, Relaxed);
                    self.machine.handle_work_done(done, 0);
                }
                SiloOutput::Disconnect(event) => panic!("silo {}: {event}", self.number),
                SiloOutput::Finished => return true,
                SiloOutput::Journal(_) | SiloOutput::Adopt(_) | SiloOutput::Event(_) => {}
            }
        }
        false
    }
}

/// Processor time of this thread, ns (proc_pid_schedstat in the kernel's documentation: the first field).
fn thread_cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_ascii_whitespace().next().unwrap().parse().unwrap()
}
