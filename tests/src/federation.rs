//! A coordinator and four silos as processes, any of which may die and come back; what the coordinator receives is kept.
//!
//! Contract: every start of a silo gets updates of its own. State directories, records and the tap lie in the site's
//! folder, so that they outlive every process.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::process::Process;
use crate::seams::Pause;
use crate::site::{SILOS, Site, Terms};
use crate::stop::Stop;
use crate::tap::{self, Received};

/// The programs of the harness.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// `blindsum-test-silo`
    pub silo: &'static str,
    /// `blindsum-test-coordinator`
    pub coordinator: &'static str,
}

/// How a silo is started.
#[derive(Debug, Clone, Default)]
pub struct Start {
    /// Steps at which it pauses.
    pub pauses: Vec<Pause>,
    /// Where it is killed.
    pub stop: Option<Stop>,
    /// Its journal is one entry late, as no silo's may be.
    pub late: bool,
    /// Copies its state directory after each journal entry.
    pub copies: bool,
}

/// A running federation.
pub struct Federation {
    /// What it runs on.
    pub site: Site,
    programs: Programs,
    address: String,
    coordinator: Option<Process>,
    silos: BTreeMap<usize, Process>,
    starts: u64,
}

impl Federation {
    /// A coordinator on a free port; no silo yet.
    pub fn new(programs: Programs, terms: Terms) -> Self {
        let site = Site::new(terms);
        site.write_coordinator("127.0.0.1:0");
        let silos = BTreeMap::new();
        let mut federation = Self { site, programs, address: String::new(), coordinator: None, silos, starts: 0 };
        federation.start_coordinator();
        federation.site.write_coordinator(&federation.address);
        federation
    }

    /// Starts the coordinator, again if it was killed before: it listens where it did.
    pub fn start_coordinator(&mut self) {
        let config = self.site.path("coordinator.toml");
        let tap = ["--received".into(), self.received_at().display().to_string()];
        let (process, address) = Process::coordinator_with(self.programs.coordinator, &config, &tap);
        self.coordinator = Some(process);
        self.address = address;
    }

    /// The coordinator's process, to look at or to take.
    pub fn coordinator(&mut self) -> &mut Option<Process> {
        &mut self.coordinator
    }

    /// Starts silo number `i`.
    pub fn start(&mut self, i: usize, start: Start) {
        self.starts += 1;
        let (name, seed) = (SILOS[i], 100 * self.starts + i as u64);
        let mut more = vec!["--trace".to_owned()];
        if let Some(stop) = start.stop {
            more.extend(["--stop".into(), stop.to_string()]);
        }
        if start.late {
            more.push("--journal-late".into());
        }
        if start.copies {
            more.extend(["--copies".into(), self.copies(i).display().to_string()]);
        }
        let config = self.site.write_silo(name, &self.address);
        let record = self.site.record(name);
        let process = Process::silo_with(self.programs.silo, &config, &record, seed, &start.pauses, &more);
        self.silos.insert(i, process);
    }

    /// Silo number `i`, which runs.
    pub fn silo(&mut self, i: usize) -> &mut Process {
        self.silos.get_mut(&i).unwrap()
    }

    /// Takes silo number `i` out.
    pub fn take(&mut self, i: usize) -> Process {
        self.silos.remove(&i).unwrap()
    }

    /// Where the copies of a silo's state directory are.
    pub fn copies(&self, i: usize) -> PathBuf {
        self.site.path("copies").join(SILOS[i])
    }

    fn received_at(&self) -> PathBuf {
        self.site.path("received")
    }

    /// Everything that the coordinator received so far.
    pub fn received(&self) -> Vec<Received> {
        tap::read(&self.received_at())
    }

    /// Waits until everybody who runs has ended in order.
    pub fn finish(&mut self) {
        let silos = std::mem::take(&mut self.silos);
        for process in silos.into_values().chain(self.coordinator.take()) {
            let (code, said) = process.end();
            assert_eq!(code, 0, "{said}");
        }
    }

    /// Kills everybody who runs.
    pub fn kill(&mut self) {
        self.silos.clear();
        self.coordinator = None;
    }
}
