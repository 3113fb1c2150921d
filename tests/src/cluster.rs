//! Coordinator and silos as libraries in one process, over real QUIC on 127.0.0.1.
//!
//! Contract: [`Cluster::crash`] ends a silo as a crash does (nothing is flushed, the journal stays as it is), except that
//! its sockets close, so that the coordinator notices at once. For SIGKILL see [`crate::process`].

use std::collections::VecDeque;
use std::sync::mpsc as threads;
use std::time::Duration;

use blindsum_coordinator::{Coordinator, CoordinatorError};
use blindsum_service::Ended;
use blindsum_service::signals::{self, Reason, StopTrigger};
use blindsum_silo::agent::{Agent, AgentError, EngineFactory};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::PATIENCE;
use crate::engine::GridEngine;
use crate::seams::{HarnessSeams, Milestone, Pause};
use crate::site::{SILOS, Site};

/// A running federation.
pub struct Cluster {
    /// What it runs on.
    pub site: Site,
    address: String,
    coordinator: Option<(StopTrigger, JoinHandle<Result<Ended, CoordinatorError>>)>,
    silos: Vec<Option<Silo>>,
    /// Starts of each silo so far: gives every start its own updates.
    starts: u64,
}

struct Silo {
    _stop: StopTrigger,
    task: JoinHandle<Result<Ended, AgentError>>,
    milestones: mpsc::UnboundedReceiver<Milestone>,
    seen: VecDeque<Milestone>,
    /// Dropped or told, a paused silo goes on.
    resume: threads::Sender<()>,
}

/// The engine of most tests, with updates of its own for each seed.
pub fn grid(seed: u64) -> EngineFactory {
    Box::new(move |_, plan| Ok(Box::new(GridEngine::new(plan.layout(), seed))))
}

impl Cluster {
    /// A coordinator on a free port; no silo yet.
    pub async fn start(site: Site) -> Self {
        site.write_coordinator("127.0.0.1:0");
        let silos = SILOS.map(|_| None).into();
        let mut cluster = Cluster { site, address: String::new(), coordinator: None, silos, starts: 0 };
        cluster.start_coordinator().await;
        let address = cluster.address.clone();
        cluster.site.write_coordinator(&address);
        for name in SILOS {
            cluster.site.write_silo(name, &address);
        }
        cluster
    }

    /// Starts the coordinator, again if it was stopped before: it listens where it did.
    pub async fn start_coordinator(&mut self) {
        let (config, document) = self.site.coordinator_config();
        let prepared = blindsum_coordinator::prepare(config, &document).unwrap();
        let coordinator = Coordinator::bind(prepared).await.unwrap();
        self.address = coordinator.local_addr().to_string();
        let (trigger, stop) = signals::manual();
        let task = tokio::spawn(async move { coordinator.run(&stop).await });
        self.coordinator = Some((trigger, task));
    }

    /// Stops the coordinator in order.
    pub async fn stop_coordinator(&mut self) {
        let (trigger, task) = self.coordinator.take().unwrap();
        trigger.stop(Reason::Asked);
        assert_eq!(within("the coordinator's stop", task).await.unwrap().unwrap(), Ended::Stopped);
    }

    /// Starts silo number `i` with the exact engine.
    pub fn start_silo(&mut self, i: usize, pauses: Vec<Pause>) {
        self.starts += 1;
        self.start_silo_with(i, pauses, grid(100 * self.starts + i as u64));
    }

    /// Starts silo number `i`.
    pub fn start_silo_with(&mut self, i: usize, pauses: Vec<Pause>, engine: EngineFactory) {
        let (config, document) = self.site.silo_config(SILOS[i]);
        let (sink, milestones) = mpsc::unbounded_channel();
        let (resume, resumed) = threads::channel::<()>();
        let tell = move |milestone: Milestone| {
            let pause = matches!(milestone, Milestone::Paused(..));
            drop(sink.send(milestone));
            if pause {
                let _ = resumed.recv();
            }
        };
        let seams = HarnessSeams::new(&self.site.record(SILOS[i]), pauses, tell);
        let (stop, stopped) = signals::manual();
        let task = tokio::spawn(async move {
            let prepare = move || blindsum_silo::agent::prepare(config, &document);
            let prepared = tokio::task::spawn_blocking(prepare).await.unwrap()?;
            Agent::new(prepared, engine).with_seams(seams).run(&stopped).await
        });
        let seen = VecDeque::new();
        self.silos[i] = Some(Silo { _stop: stop, task, milestones, seen, resume });
    }

    /// Waits until silo `i` has reached `milestone`.
    pub async fn reached(&mut self, i: usize, milestone: &Milestone) {
        let silo = self.silos[i].as_mut().unwrap();
        let what = format!("{}: {milestone}", SILOS[i]);
        within(&what, async {
            while !silo.seen.contains(milestone) {
                let next = silo.milestones.recv().await;
                silo.seen.push_back(next.unwrap_or_else(|| panic!("the silo ended before {what}")));
            }
        })
        .await;
    }

    /// Lets a paused silo go on.
    pub fn resume(&self, i: usize) {
        self.silos[i].as_ref().unwrap().resume.send(()).unwrap();
    }

    /// Ends silo `i` where it stands.
    pub async fn crash(&mut self, i: usize) {
        let mut silo = self.silos[i].take().unwrap();
        silo.task.abort();
        assert!(within("a crash", &mut silo.task).await.unwrap_err().is_cancelled());
        // Only now may a pause end: nobody is left to go on after it.
        drop(silo.resume);
    }

    /// Waits until the job is over for the coordinator and every silo that runs.
    pub async fn finish(&mut self) {
        for (i, silo) in self.silos.iter_mut().enumerate() {
            if let Some(Silo { task, .. }) = silo {
                let ended = within(&format!("the end of {}", SILOS[i]), task).await.unwrap();
                assert_eq!(ended.unwrap_or_else(|e| panic!("{}: {e}", SILOS[i])), Ended::Finished);
            }
        }
        let (_, task) = self.coordinator.as_mut().unwrap();
        assert_eq!(within("the end of the coordinator", task).await.unwrap().unwrap(), Ended::Finished);
    }
}

/// Waits, but not for ever.
async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    within_time(what, PATIENCE, future).await
}

async fn within_time<T>(what: &str, time: Duration, future: impl Future<Output = T>) -> T {
    timeout(time, future).await.unwrap_or_else(|_| panic!("waited {time:?} for {what}"))
}

/// Logs of this process to standard error where RUST_LOG asks for them.
pub fn log() {
    if std::env::var_os("RUST_LOG").is_some() {
        drop(blindsum_service::telemetry::init(blindsum_service::telemetry::LogFormat::Text, None));
    }
}
