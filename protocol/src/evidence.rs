//! Evidence against a silo, as anybody can check it who holds the federation's roster and the job.
//!
//! Contract: no model is needed. The job's digest and the roster's hash stand in the evidence's context, so that the
//! quorums derived here are those that the silo itself derived before it signed.

use blindsum_crypto::verify::{self, Check, Guilt, Rules, VerifyError};
use blindsum_crypto::{Digest, Evidence, Quorum, Roster};

use crate::job::{Job, JobError};
use crate::plan;

/// Why evidence convicts nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvidenceError {
    /// Job and roster do not belong together.
    #[error(transparent)]
    Job(#[from] JobError),
    /// It proves nothing.
    #[error(transparent)]
    Refused(#[from] VerifyError),
}

/// Names the silo that the evidence proves at fault.
///
/// # Errors
/// [`EvidenceError`] where it proves nothing, or job and roster do not belong together.
pub fn check(roster: &Roster, job: &Job, evidence: &Evidence) -> Result<Guilt, EvidenceError> {
    Ok(check_with(roster, job.digest(), &plan::quorum(job, roster)?, evidence)?)
}

/// As [`check`], by a party that has derived the quorums of this job and roster already.
pub(crate) fn check_with(
    roster: &Roster,
    job_digest: Digest,
    quorum: &Quorum,
    evidence: &Evidence,
) -> Result<Guilt, VerifyError> {
    if Check::EvidenceSession.finds(evidence.context.job_digest != job_digest) {
        let what = "this proves nothing: it is about a session of another job";
        return Err(VerifyError::new(Check::EvidenceSession, what));
    }
    let ctx = evidence.context.digest();
    verify::evidence(&Rules { roster, ctx: &ctx, quorum }, evidence)
}
