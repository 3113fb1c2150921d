//! The agent: one organisation's service. It dials the coordinator, trains when asked, and says only what its machine
//! lets it say.
//!
//! ```text
//! config ─► setup (files, policy) ─► Agent ─► driver ◄─► SiloMachine (blindsum-protocol)
//!                                              │ ├─ link: QUIC with reconnect
//!                                              │ ├─ training: engine, ledger (blocking thread)
//!                                              │ └─ journal, kept adapter (state directory)
//! ```
//!
//! # Contract
//! The local update exists in this process's memory only, until the machine has masked it; there is no switch that
//! writes or sends it in clear. The agent opens no port. [`Seams`] are for tests, which have binaries of their own.

mod allowance;
mod check;
mod data;
mod doing;
mod driver;
mod error;
mod events;
mod held;
mod keep;
mod link;
mod seams;
mod setup;
mod torch;
mod training;

use std::path::Path;
use std::time::{Duration, Instant};

use blindsum_adapter::provenance;
use blindsum_engine::{Engine, EngineError};
use blindsum_files::{StateDir, probe};
use blindsum_protocol::codec;
use blindsum_protocol::silo::{JournalEntry, JournalState, SiloMachine, SiloSetup};
use blindsum_service::{Ended, Heartbeat, Stop, Work, blocking};
use tracing::{info, warn};
use zeroize::Zeroizing;

pub(crate) use allowance::{Known, counts_change, measurements};
pub use check::check;
pub use data::Rows;
pub use error::AgentError;
#[cfg(feature = "harness")]
pub use seams::{NoSeams, Seams};
pub use setup::{Prepared, prepare};
pub use torch::{open_torch, torch};

use crate::agent::allowance::{Allowance, Uses};
use crate::agent::doing::Doing;
use crate::agent::driver::{Driver, Training};
use crate::agent::keep::Keep;
use crate::agent::link::Link;
#[cfg(not(feature = "harness"))]
use crate::agent::seams::{NoSeams, Seams};
use crate::agent::training::Trainer;
use crate::config::SiloConfig;
use crate::journal::{self, JournalFile};

/// Makes the training engine: from this configuration, for the layout of this plan.
pub type EngineFactory =
    Box<dyn FnOnce(&SiloConfig, &blindsum_protocol::Plan) -> Result<Box<dyn Engine + Send>, EngineError> + Send>;

/// One organisation's service, ready to run.
pub struct Agent<S: Seams = NoSeams> {
    prepared: Prepared,
    engine: EngineFactory,
    seams: S,
    connect_timeout: Option<Duration>,
}

impl Agent<NoSeams> {
    /// An agent as shipped.
    #[must_use]
    pub fn new(prepared: Prepared, engine: EngineFactory) -> Self {
        Agent { prepared, engine, seams: NoSeams, connect_timeout: None }
    }
}

impl<S: Seams> Agent<S> {
    /// The same agent with other seams.
    #[cfg(feature = "harness")]
    #[must_use]
    pub fn with_seams<T: Seams>(self, seams: T) -> Agent<T> {
        let Agent { prepared, engine, connect_timeout, .. } = self;
        Agent { prepared, engine, seams, connect_timeout }
    }

    /// Gives up when there was no connection for this long; by default it goes on trying.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// Runs until the job is over or a stop is asked for.
    ///
    /// # Errors
    /// See [`AgentError`]; what was promised is in the journal in any case.
    pub async fn run(self, stop: &Stop) -> Result<Ended, AgentError> {
        let stop = stop.clone();
        // Reading state and making the engine takes seconds of disk and processor.
        let driver = blocking(move || self.open(stop)).await??;
        driver.run().await
    }

    /// Locks the state directory, takes up what it holds, and makes engine and machine.
    fn open(self, stop: Stop) -> Result<Driver<S>, AgentError> {
        let Agent { prepared, engine, seams, connect_timeout } = self;
        let Prepared { config, me, identity, roster, plan, credentials, rows, spec, privacy } = prepared;
        let uses = Uses::of(&config, &plan, &rows, privacy)?;
        let state = StateDir::open(&config.state_dir)?;
        if let Some(dir) = &config.output_dir {
            // Before anything is trained and charged.
            provenance::claim(dir, &plan.job().output_name())?;
            probe::writable(dir)?;
        }
        let dir = config.state_dir.clone();
        let rows = rows.kept_in(&dir)?;
        let (journal, entries) = open_journal(&dir.join("journal"))?;
        let known = Known::new(&dir, plan.job(), &entries)?;
        let entries = replayed(&dir.join("journal"), &entries)?;
        let held = held::load_for(&plan, &dir.join("adapter"))?;
        let held_round = held.as_ref().map_or(0, |held| held.round);
        if let Some(held) = &held {
            info!(event = "resumed", rounds_done = held.round, "taking up after round {}", held.round);
        }
        let allowance = match uses {
            Some(uses) => {
                let held_out = rows.held_out.as_ref().map_or(&[][..], |data| &data.identities);
                let allowance = Allowance::open(uses, (&rows.train.identities, held_out), known)?;
                said(&allowance);
                Some(allowance)
            }
            None => None,
        };
        let engine = engine(&config, &plan)?;
        if engine.layout().hash() != plan.layout().hash() {
            return Err(AgentError::Internal("the engine was made for another layout than the plan's".into()));
        }
        let rng = blindsum_engine::local::os_rng()?;
        let machine = SiloMachine::new(
            SiloSetup { me, identity, roster: roster.clone(), plan: plan.clone(), journal: entries, held },
            Box::new(rng),
            0,
        )
        .map_err(|e| AgentError::State { path: dir.clone(), problem: e.to_string() })?;
        let keep = Keep {
            held: dir.join("adapter"),
            output_dir: config.output_dir.clone(),
            base_model: config.model_dir.display().to_string(),
        };
        let trainer = Trainer::new(plan.clone(), engine, rows.stores(), spec, allowance)?;
        let training = Training::new(trainer, plan.job().training.local_steps);
        let link = Link::start(&config.coordinator, &credentials, &plan, connect_timeout, stop.clone())?;
        Ok(Driver {
            machine,
            plan,
            roster,
            journal: Some(journal),
            keep,
            held_round,
            training,
            heartbeat: Heartbeat::default(),
            doing: Doing::new(format!("no connection to {} yet", config.coordinator)),
            link,
            seams: Some(seams),
            started: Instant::now(),
            stop,
            work: Work::default(),
            _state: state,
        })
    }
}

/// What the ledger holds, in the log.
fn said(allowance: &Allowance) {
    let (ledger, account, spent) = (allowance.ledger(), allowance.account(), allowance.spent());
    if ledger.cut_bytes() > 0 {
        warn!(event = "ledger_cut", "the ledger's last line was cut short by a crash; nothing was trained under it");
    }
    info!(
        event = "ledger",
        ledger = %ledger.id(),
        epsilon_so_far = spent.in_job,
        epsilon_over_jobs = spent.over_jobs,
        delta = account.delta,
        "ledger {}: ε so far {:.4} of the job's {:.4}, {:.4} of the organisation's {:.4} over all jobs",
        ledger.path().display(),
        spent.in_job,
        account.epsilon_limit,
        spent.over_jobs,
        ledger.limit().max_epsilon
    );
}

/// Opens the journal and reads it.
fn open_journal(path: &Path) -> Result<(JournalFile, Vec<JournalEntry>), AgentError> {
    let journal::Opened { journal, bodies, cut_bytes } = JournalFile::open(path)?;
    if cut_bytes > 0 {
        warn!(
            event = "journal_cut",
            cut_bytes,
            "the journal's last entry was cut short by a crash and removed; nothing had been sent on its strength"
        );
    }
    Ok((journal, read_journal(path, &bodies)?))
}

/// Whether a journal knows of an attempt: its first entry says whose it is, and no more.
pub(crate) fn took_part(bodies: &[Zeroizing<Vec<u8>>]) -> bool {
    bodies.len() > 1
}

/// The entries of the journal at `path`.
pub(crate) fn read_journal(path: &Path, bodies: &[Zeroizing<Vec<u8>>]) -> Result<Vec<JournalEntry>, AgentError> {
    let read = |(index, body): (usize, &Zeroizing<Vec<u8>>)| {
        codec::decode(body, journal::MAX_BODY).map_err(|e| AgentError::State {
            path: path.to_owned(),
            problem: format!("entry {} is of another version: {e}", index + 1),
        })
    };
    bodies.iter().enumerate().map(read).collect()
}

/// What they add up to.
fn replayed(path: &Path, entries: &[JournalEntry]) -> Result<JournalState, AgentError> {
    JournalState::replay(entries).map_err(|e| AgentError::State { path: path.to_owned(), problem: e.to_string() })
}
