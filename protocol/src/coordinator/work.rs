//! The CPU-heavy parts of the coordinator's session, as values for a blocking thread.

use std::fmt;
use std::sync::Arc;

use blindsum_crypto::unmask::{self, Masks, Recovery};
use blindsum_crypto::verify::{VerifiedAdverts, VerifiedHeaders, VerifiedList};
use blindsum_crypto::{Digest, OpenedSecret, SiloId, VerifySum, sketch, transcript};

use crate::message::{AttemptId, Payload};
use crate::plan::{Plan, RoundKind};
use crate::silo::work::threads;
use crate::step::{Step, step};

/// Work to run on a blocking thread.
pub struct CoordinatorWork(pub(crate) CoordinatorTask);

pub(crate) enum CoordinatorTask {
    /// Rebuilds the secrets, takes the remaining masks off the sum and applies it.
    Unmask(Box<Unmask>),
    /// Subset sums of masked inputs under the rows of this key.
    Sums { at: AttemptId, kind: RoundKind, plan: Arc<Plan>, key: Digest, inputs: Vec<Payload> },
}

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
    pub(crate) done: CoordinatorDone,
}

pub(crate) enum CoordinatorDone {
    Unmasked(Box<Result<Unmasked, UnmaskError>>),
    /// In the order of the inputs.
    Summed(Result<Vec<Vec<u32>>, String>),
}

pub(crate) struct Unmasked {
    pub t3: Digest,
    pub sum: Payload,
    pub step: Step,
    /// The rebuilt secrets, one per silo of U2.
    pub secrets: Vec<OpenedSecret>,
    pub adverts: VerifiedAdverts,
    pub headers: VerifiedHeaders,
    /// Subset sums of Σ y under the rows of this sum; empty where the job does not ask for them.
    pub expected: Vec<u32>,
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
        match self.0 {
            CoordinatorTask::Unmask(_) => "unmask",
            CoordinatorTask::Sums { .. } => "sums",
        }
    }

    /// Does it, on as many threads as the machine has.
    pub fn run(self) -> CoordinatorWorkDone {
        match self.0 {
            CoordinatorTask::Unmask(unmask) => {
                CoordinatorWorkDone { at: unmask.at, done: CoordinatorDone::Unmasked(Box::new(unmask.run())) }
            }
            CoordinatorTask::Sums { at, kind, plan, key, inputs } => {
                let sums = |input: &Payload| sketch::subset_sums_of(plan.params(kind), &key, input, threads());
                let values = inputs.iter().map(sums).collect::<Result<_, _>>();
                CoordinatorWorkDone { at, done: CoordinatorDone::Summed(values.map_err(|e| e.to_string())) }
            }
        }
    }
}

impl Unmask {
    fn run(self: Box<Self>) -> Result<Unmasked, UnmaskError> {
        let Masks { streams, secrets, guilty } = match self.recovery.streams(&self.adverts, &self.headers) {
            Ok(masks) => masks,
            Err(e) => {
                let (guilty, what) = (e.blamed.into_iter().collect(), e.to_string());
                return Err(UnmaskError { guilty, what, undone: Some(self) });
            }
        };
        let nobody = |what: String| UnmaskError { guilty: guilty.clone(), what, undone: None };
        let params = self.plan.params(self.kind);
        let masked = if params.verify_sum != VerifySum::Off { self.acc.clone() } else { Vec::new() };
        let sum = unmask::unmask(self.acc, &streams, params, threads()).map_err(|e| nobody(e.to_string()))?;
        let mut expected = Vec::new();
        if params.verify_sum != VerifySum::Off {
            let key = transcript::rows_key(&self.list.t3(), &transcript::sum_hash(&sum));
            let sums = sketch::subset_sums(params, &key, &masked, threads());
            expected = sums.map_err(|e| nobody(e.to_string()))?;
        }
        let (t3, survivors) = (self.list.t3(), self.list.survivors().to_vec());
        let step = step(&self.plan, self.at, self.kind, &t3, survivors, &sum, &self.global).map_err(nobody)?;
        let (adverts, headers) = (self.adverts, self.headers);
        Ok(Unmasked { t3, sum: Arc::new(sum), step, secrets, adverts, headers, expected, guilty })
    }
}

impl fmt::Debug for CoordinatorWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CoordinatorWork({})", self.name())
    }
}

impl fmt::Debug for CoordinatorWorkDone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.done {
            CoordinatorDone::Unmasked(_) => "CoordinatorWorkDone(unmask)",
            CoordinatorDone::Summed(_) => "CoordinatorWorkDone(sums)",
        })
    }
}
