//! The CPU-heavy part of the coordinator's session, as a value for a blocking thread.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::unmask::{self, Masks, Recovery};
use blindsum_crypto::verify::{VerifiedAdverts, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{Digest, SiloId};

use crate::message::{AttemptId, Payload};
use crate::plan::{Plan, RoundKind};
use crate::silo::work::threads;
use crate::step::{Step, step};

/// Work to run on a blocking thread: rebuilds the secrets, takes the remaining masks off the sum and applies it.
pub struct CoordinatorWork(pub(crate) Box<Unmask>);

pub(crate) struct Unmask {
    pub at: AttemptId,
    pub kind: RoundKind,
    pub plan: Arc<Plan>,
    pub adverts: VerifiedAdverts,
    pub headers: VerifiedHeaders,
    pub list: VerifiedList,
    pub recovery: Recovery,
    /// Σ y over the survivors, one lane per coordinate.
    pub acc: Vec<u32>,
    pub global: Arc<[f32]>,
}

/// Finished work, to be handed back.
pub struct CoordinatorWorkDone {
    pub(crate) at: AttemptId,
    pub(crate) result: Result<Unmasked, UnmaskError>,
}

pub(crate) struct Unmasked {
    pub t3: Digest,
    pub sum: Payload,
    pub step: Step,
    /// Dealers proven at fault.
    pub guilty: Vec<SiloId>,
}

/// Why a committed session gives no sum.
pub(crate) struct UnmaskError {
    /// Dealers proven at fault.
    pub guilty: Vec<SiloId>,
    pub what: String,
    /// The work undone, where more replies may help.
    pub undone: Option<Box<Unmask>>,
}

impl CoordinatorWork {
    /// What it is, for logs.
    pub fn name(&self) -> &'static str {
        "unmask"
    }

    /// Does it, on as many threads as the machine has.
    pub fn run(self) -> CoordinatorWorkDone {
        CoordinatorWorkDone { at: self.0.at, result: self.0.run() }
    }
}

impl Unmask {
    fn run(self: Box<Self>) -> Result<Unmasked, UnmaskError> {
        let Masks { streams, guilty } = match self.recovery.streams(&self.adverts, &self.headers) {
            Ok(masks) => masks,
            Err(e) => {
                let (guilty, what) = (e.blamed.into_iter().collect(), e.to_string());
                return Err(UnmaskError { guilty, what, undone: Some(self) });
            }
        };
        let nobody = |what: String| UnmaskError { guilty: guilty.clone(), what, undone: None };
        let sum = unmask::unmask(self.acc, &streams, self.plan.params(self.kind), threads());
        let sum = sum.map_err(|e| nobody(e.to_string()))?;
        let (t3, survivors) = (self.list.t3(), self.list.survivors().to_vec());
        let step = step(&self.plan, self.at, self.kind, &t3, survivors, &sum, &self.global).map_err(nobody)?;
        Ok(Unmasked { t3, sum: Arc::new(sum), step, guilty })
    }
}

impl fmt::Debug for CoordinatorWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoordinatorWork(unmask)")
    }
}

impl fmt::Debug for CoordinatorWorkDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CoordinatorWorkDone(unmask)")
    }
}
