//! What the coordinator waits for: asked by whoever shows it to people; the machine itself never looks at it.

use blindsum_crypto::SiloId;

use crate::coordinator::api::Phase;
use crate::coordinator::machine::CoordinatorMachine;
use crate::coordinator::stage::Stage;

/// Whom and what the machine waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The phase in progress.
    pub phase: Phase,
    /// Its round.
    pub round: u32,
    /// Its attempt; none while silos gather.
    pub attempt: Option<u32>,
    /// Silos that may take part in this phase.
    pub expected: Vec<SiloId>,
    /// Those of them that are not ready, or have not done their part of it.
    pub missing: Vec<SiloId>,
    /// Fewest silos with which it goes on.
    pub needed: u16,
    /// When it goes on or fails without those that are missing, ms; none where it waits until they come.
    pub until_ms: Option<u64>,
}

impl CoordinatorMachine {
    /// What is waited for; nothing once the job is over.
    pub fn waiting(&self) -> Option<Waiting> {
        let (phase, round) = (self.phase(), self.round());
        let taking_part = self.own.roster.ids().filter(|id| !self.excluded.contains(id) && !self.barred.contains(id));
        let (expected, missing, attempt): (Vec<SiloId>, Vec<SiloId>, _) = match phase {
            Phase::Finished => return None,
            Phase::Gathering => {
                let all: Vec<SiloId> = taking_part.collect();
                let missing = all.iter().copied().filter(|&id| !self.is_ready(id)).collect();
                (all, missing, None)
            }
            _ => {
                let missing = self.stage().map(Stage::missing).unwrap_or_default();
                (taking_part.collect(), missing, self.attempt().map(|attempt| attempt.at.attempt))
            }
        };
        Some(Waiting { phase, round, attempt, expected, missing, needed: self.own.quorum.m, until_ms: self.wakes_at() })
    }
}
