//! The service itself: feeds the machine and executes what it puts out, strictly in order.
//!
//! ```text
//! links ─ messages ─┐                       ┌─► store (fsync, then on)
//! timer ────────────┼─► CoordinatorMachine ─┼─► links (send, close)
//! work done ────────┘                       ├─► work on a blocking thread
//!                                           └─► output, log
//! ```
//!
//! # Contract
//! - A `Store` output is on the disk before the next output is looked at; if that fails, the service stops.
//! - A slow silo delays nobody: each connection has a bounded queue of its own, and is closed when that is full.
//! - A stop closes every connection with a reason and loses nothing: what counts is in the store.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use blindsum_crypto::SiloId;
use blindsum_files::StateDir;
use blindsum_protocol::Limits;
use blindsum_protocol::coordinator::{
    CoordinatorEvent, CoordinatorMachine, CoordinatorOutput, CoordinatorSetup, CoordinatorWorkDone, StoreState,
};
use blindsum_protocol::message::CoordinatorMessage;
use blindsum_service::{Ended, Heartbeat, Stop, WAITING, Work, blocking};
use blindsum_transport::codec::CoordinatorCodec;
use blindsum_transport::{CloseCode, Connection, Listener, Rejected, Settings, listen};
use tracing::{debug, info, warn};

use crate::error::CoordinatorError;
use crate::events;
use crate::evidence;
use crate::links::{self, LinkEvent, Links, What};
use crate::output::Output;
use crate::presence;
use crate::setup::Prepared;
use crate::store::Store;

/// A coordinator that listens, but does not yet answer.
pub struct Coordinator {
    prepared: Prepared,
    machine: CoordinatorMachine,
    store: Option<Store>,
    output: Option<Output>,
    listener: Listener<CoordinatorCodec>,
    address: SocketAddr,
    links: Links,
    work: Work<CoordinatorWorkDone>,
    started: Instant,
    heartbeat: Heartbeat,
    /// Held for its lock.
    _state: StateDir,
    /// Silos that were told that the job is over.
    told: BTreeSet<SiloId>,
    finished: Option<Instant>,
    stuck: Option<String>,
}

impl Coordinator {
    /// Locks the state directory, takes up what the store says, and listens.
    ///
    /// # Errors
    /// Another process holds the directory, the store is damaged or another job's, the port is in use.
    pub async fn bind(prepared: Prepared) -> Result<Self, CoordinatorError> {
        let started = Instant::now();
        let state = StateDir::open(&prepared.config.state_dir)?;
        let path: PathBuf = prepared.config.state_dir.join("store.sqlite");
        let store = Store::open(&path, prepared.plan.job_digest())?;
        let damaged = |problem: String| CoordinatorError::Config(format!("{}: {problem}", path.display()));
        let records = StoreState::replay(store.records()?).map_err(|e| damaged(e.to_string()))?;
        if records.rounds_done() > 0 {
            info!(
                event = "resumed",
                rounds_done = records.rounds_done(),
                "taking up after {} rounds",
                records.rounds_done()
            );
        }
        let config = &prepared.config;
        let base = config.base_model_name.clone().unwrap_or_else(|| config.base_model_dir.display().to_string());
        let output = Output::open(&config.output_dir, &config.base_model_dir, base, &prepared.plan)?;
        output.fits(u32::try_from(records.rounds_done()).unwrap_or(u32::MAX), &config.state_dir)?;
        let machine = CoordinatorMachine::new(
            CoordinatorSetup { roster: prepared.roster.clone(), plan: prepared.plan.clone(), store: records },
            0,
        )
        .map_err(|e| damaged(e.to_string()))?;
        let plan = &prepared.plan;
        let names = prepared.roster.entries().iter().map(|entry| entry.name.clone());
        let limits = Limits::new(plan);
        let codec = CoordinatorCodec::new(limits.clone());
        let listener = listen(prepared.config.listen, &prepared.credentials, names, codec, settings())?;
        let address = listener.local_addr()?;
        // A silo that comes back gets every result that it lacks, one message each.
        let queue = 256 + 2 * plan.last_round() as usize;
        let queues = links::memory(&limits, prepared.roster.len(), queue);
        let memory_bytes = listener.memory().total.saturating_add(queues);
        info!(
            event = "listening",
            %address,
            memory_bytes,
            "listening on {address} (UDP); all connections and their queues together take at most {} MB",
            memory_bytes / 1_000_000
        );
        let links = Links::new(prepared.roster.clone(), queue);
        Ok(Self {
            prepared,
            machine,
            store: Some(store),
            output: Some(output),
            listener,
            address,
            links,
            work: Work::default(),
            started,
            heartbeat: Heartbeat::default(),
            _state: state,
            told: BTreeSet::new(),
            finished: None,
            stuck: None,
        })
    }

    /// The same service, which shows every message that it receives to `tap`.
    #[cfg(feature = "harness")]
    #[must_use]
    pub fn tapped(mut self, tap: links::Tap) -> Self {
        self.links.tap(tap);
        self
    }

    /// The address that silos dial.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Runs until the job is over or a stop is asked for.
    ///
    /// # Errors
    /// The disk's, and a job that cannot go on without a person. Connections are closed in any case.
    pub async fn run(mut self, stop: &Stop) -> Result<Ended, CoordinatorError> {
        let result = self.serve(stop).await;
        let (code, reason) = match &result {
            Ok(Ended::Finished) => (CloseCode::Finished, ""),
            Ok(Ended::Stopped) => (CloseCode::Stopping, ""),
            Err(CoordinatorError::Store(_)) => (CloseCode::Storage, ""),
            Err(_) => (CloseCode::Internal, ""),
        };
        self.links.finish(code, reason).await;
        self.listener.close(code, reason).await;
        result
    }

    async fn serve(&mut self, stop: &Stop) -> Result<Ended, CoordinatorError> {
        loop {
            while let Some(output) = self.machine.poll_output() {
                self.execute(output).await?;
            }
            if let Some(why) = self.stuck.take() {
                return Err(CoordinatorError::Stuck(why));
            }
            if self.may_leave() {
                info!(event = "finished", "the job is over");
                return Ok(Ended::Finished);
            }
            let timer = self.next_timer();
            let waiting = self.machine.waiting();
            let silence = waiting.as_ref().map_or(WAITING, |w| presence::silence(w, |silo| self.links.is_up(silo)));
            tokio::select! {
                () = stop.stopped() => {
                    info!(event = "stopping", "stopping; a restart goes on from the store");
                    return Ok(Ended::Stopped);
                }
                arrival = self.listener.accept() => match arrival {
                    Some(arrival) => self.arrive(arrival),
                    None => return Err(CoordinatorError::Internal("the endpoint ended by itself".into())),
                },
                Some(event) = self.links.next() => self.link(event),
                done = self.work.next() => {
                    let now = self.now();
                    self.machine.handle_work_done(done?, now);
                }
                () = self.heartbeat.due(silence) => match (waiting, self.finished) {
                    (Some(waiting), _) => {
                        presence::log(&waiting, &self.prepared.roster, |silo| self.links.is_up(silo), self.now());
                    }
                    (None, Some(since)) => {
                        let linger = Duration::from_secs(u64::from(self.prepared.config.linger_seconds));
                        let untold = self.prepared.roster.ids().filter(|silo| !self.told.contains(silo));
                        let untold: Vec<SiloId> = untold.collect();
                        presence::log_lingering(&untold, &self.prepared.roster, linger.saturating_sub(since.elapsed()));
                    }
                    (None, None) => info!(event = "waiting_for", "every round is done; the end of the job is being taken up"),
                },
                () = tokio::time::sleep(timer) => {
                    let now = self.now();
                    if self.machine.poll_timeout().is_some_and(|at| at <= now) {
                        self.machine.handle_timeout(now);
                    }
                }
            }
        }
    }

    /// Milliseconds on the machine's clock.
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn next_timer(&self) -> Duration {
        let now = self.now();
        let machine = self.machine.poll_timeout().map(|at| Duration::from_millis(at.saturating_sub(now)));
        // After the end, look around now and then whether everybody has been told.
        let leaving = self.finished.map(|_| Duration::from_millis(200));
        machine.into_iter().chain(leaving).min().unwrap_or(Duration::from_secs(3600))
    }

    fn arrive(&mut self, arrival: Result<Connection<CoordinatorCodec>, Rejected>) {
        let connection = match arrival {
            Ok(connection) => connection,
            Err(Rejected { address, error }) => {
                return warn!(event = "rejected", %address, %error, "refused {address}: {error}");
            }
        };
        let (now, address) = (self.now(), connection.remote_address());
        let Some((silo, replaced)) = self.links.add(connection) else { return };
        let name = self.prepared.roster.name_of(silo);
        if replaced {
            warn!(
                event = "replaced",
                silo = name,
                %address,
                "{name} connects from {address} while an earlier connection of it is up, which is closed: it lost that one, \
                 or a second process has its keys"
            );
            self.machine.handle_disconnected(silo, now);
        }
        info!(event = "connected", silo = name, %address, "{name} connected from {address}");
        self.machine.handle_connected(silo, now);
    }

    fn link(&mut self, event: LinkEvent) {
        let (now, silo) = (self.now(), event.silo);
        let name = self.prepared.roster.name_of(silo);
        match event.what {
            What::Message(envelope) => {
                debug!(
                    event = "message",
                    silo = name,
                    name = envelope.message.name(),
                    payload_bytes = envelope.payload.as_ref().map_or(0, |payload| payload.len()),
                    "received"
                );
                self.machine.handle_message(silo, envelope, now);
            }
            What::Down(why) => {
                info!(event = "disconnected", silo = name, %why, "{name} is gone: {why}");
                self.machine.handle_disconnected(silo, now);
            }
        }
    }

    async fn execute(&mut self, output: CoordinatorOutput) -> Result<(), CoordinatorError> {
        match output {
            CoordinatorOutput::Send { to, envelope } => {
                debug!(
                    event = "send",
                    silo = self.prepared.roster.name_of(to),
                    name = envelope.message.name(),
                    "sending"
                );
                if matches!(envelope.message, CoordinatorMessage::Finished) && self.links.is_up(to) {
                    self.told.insert(to);
                }
                if !self.links.send(to, envelope) {
                    let (now, name) = (self.now(), self.prepared.roster.name_of(to));
                    warn!(
                        event = "disconnected",
                        silo = name,
                        "{name} does not read its messages; its connection is closed"
                    );
                    self.machine.handle_disconnected(to, now);
                }
            }
            CoordinatorOutput::Store(record) => {
                let mut store =
                    self.store.take().ok_or_else(|| CoordinatorError::Internal("the store is lost".into()))?;
                let (store, result) = blocking(move || {
                    let result = store.append(&record);
                    (store, result)
                })
                .await?;
                self.store = Some(store);
                result?;
            }
            CoordinatorOutput::Work(work) => {
                debug!(event = "work", work = work.name(), "started");
                self.work.start(move || work.run());
            }
            CoordinatorOutput::Fetch { at, silos } => {
                let store = self.store.take().ok_or_else(|| CoordinatorError::Internal("the store is lost".into()))?;
                let (store, inputs) = blocking(move || {
                    let inputs = store.masked(at, &silos);
                    (store, inputs)
                })
                .await?;
                self.store = Some(store);
                let now = self.now();
                self.machine.handle_fetched(at, inputs?, now);
            }
            CoordinatorOutput::Evidence(conviction) => {
                let (dir, roster) = (self.prepared.config.output_dir.clone(), self.prepared.roster.clone());
                let kept = conviction.clone();
                // After a restart the machine brings what it has once more; it is logged when it is written, once.
                if let Some(path) = blocking(move || evidence::keep(&dir, &kept, &roster)).await?? {
                    events::log_conviction(&conviction, &self.prepared.roster, &path);
                }
            }
            CoordinatorOutput::Report(report) => {
                let (plan, roster) = (self.prepared.plan.clone(), self.prepared.roster.clone());
                let mut output =
                    self.output.take().ok_or_else(|| CoordinatorError::Internal("the output is lost".into()))?;
                // After a restart the machine reports the last round once more; it is logged when it is kept, once.
                let (is_new, rounds) = (report.round > output.newest(), plan.job().rounds);
                let kept = report.clone();
                let (output, result) = blocking(move || {
                    let result = output.keep(&kept, &plan, &roster);
                    (output, result)
                })
                .await?;
                self.output = Some(output);
                result?;
                if is_new {
                    events::log_round(&report, &self.prepared.roster, rounds);
                }
            }
            CoordinatorOutput::Event(event) => {
                if events::log(&event, &self.prepared.roster) {
                    self.heartbeat.spoke();
                }
                if let CoordinatorEvent::Stuck(why) = event {
                    self.stuck = Some(why);
                }
            }
            CoordinatorOutput::Disconnect { silo, reason } => {
                warn!(
                    event = "closed",
                    silo = self.prepared.roster.name_of(silo),
                    why = %reason,
                    "closing the connection of {}: {reason}",
                    self.prepared.roster.name_of(silo)
                );
                self.links.close(silo, &reason);
                let now = self.now();
                self.machine.handle_disconnected(silo, now);
            }
            CoordinatorOutput::Finished => {
                if self.finished.is_none() {
                    let last = self.prepared.config.output_dir.join("last");
                    info!(event = "over", adapter = %last.display(), "the job is over; the adapter is in {}", last.display());
                    self.finished = Some(Instant::now());
                }
            }
        }
        Ok(())
    }

    /// Whether the job is over and everybody who can be told has been told, or had the time to come back for it.
    fn may_leave(&self) -> bool {
        let Some(since) = self.finished else { return false };
        let everybody = self.told.len() == self.prepared.roster.len() && self.links.is_empty();
        everybody || since.elapsed() >= Duration::from_secs(u64::from(self.prepared.config.linger_seconds))
    }
}

/// A connection is given up sooner than by default: losing one costs a silo nothing, while one that hangs on to a
/// coordinator that was restarted holds up a round.
fn settings() -> Settings {
    Settings { idle_timeout: Duration::from_secs(15), keep_alive: Duration::from_secs(4), ..Settings::default() }
}
