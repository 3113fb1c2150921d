//! P4 to P6: checks on COMMIT, ABANDON and RESULT votes and on certificates made of q of them.

use super::{Check, Rules, VerifyError, bounded_list, signed};
use crate::commit::{AbandonCertificate, AbandonVote, CommitCertificate, CommitVote};
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::labels::Label;
use crate::result::{ResultCertificate, ResultVote};

/// Proof that q survivors of one list have committed to it. Releases a [`crate::PendingReveal`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedCertificate {
    t3: Digest,
}

impl VerifiedCertificate {
    /// The list committed to.
    pub fn t3(&self) -> Digest {
        self.t3
    }
}

/// Proof that q silos have abandoned an attempt, so that it can never commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedAbandon {
    ctx: Digest,
}

impl VerifiedAbandon {
    /// The attempt abandoned.
    pub fn ctx(&self) -> Digest {
        self.ctx
    }
}

/// Proof that q silos computed the same result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedResult {
    result_hash: Digest,
    next_model_hash: Digest,
}

impl VerifiedResult {
    /// The result hash.
    pub fn result_hash(&self) -> Digest {
        self.result_hash
    }

    /// Hash of the global adapter after the round.
    pub fn next_model_hash(&self) -> Digest {
        self.next_model_hash
    }
}

/// SA-08: one COMMIT vote over T3 by one of its survivors.
///
/// # Errors
/// [`VerifyError`] blaming the voter.
pub fn commit_vote(rules: &Rules<'_>, vote: &CommitVote, t3: &Digest, survivors: &[SiloId]) -> Result<(), VerifyError> {
    if Check::CommitBySurvivor.finds(survivors.binary_search(&vote.silo).is_err()) {
        let what = "it committed without being a survivor of the list".into();
        return Err(VerifyError::of(Check::CommitBySurvivor, vote.silo, what));
    }
    signed(rules, Check::CommitSignature, vote.silo, Label::Commit, &[&t3.0], &vote.signature)
}

/// SA-08: a commit certificate over the checker's own T3: at least q votes, ascending by silo, all of its survivors (in
/// order), every signature valid.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one vote is at fault.
pub fn commit_certificate(
    rules: &Rules<'_>,
    certificate: &CommitCertificate,
    t3: &Digest,
    survivors: &[SiloId],
) -> Result<VerifiedCertificate, VerifyError> {
    quorum(rules, Check::CommitQuorum, "COMMIT votes", certificate.0.iter().map(|v| v.silo))?;
    certificate.0.iter().try_for_each(|v| commit_vote(rules, v, t3, survivors))?;
    Ok(VerifiedCertificate { t3: *t3 })
}

/// SA-08: a certificate releases the reply to the very list that it is over; `t3` is the list that the reply belongs to.
///
/// # Errors
/// [`VerifyError`] where the certificate is over another list.
pub fn own_list(certificate: &VerifiedCertificate, t3: &Digest) -> Result<(), VerifyError> {
    if Check::OwnList.finds(certificate.t3 != *t3) {
        let what = "the commit certificate is over another survivor list than the one this silo voted for";
        return Err(VerifyError::new(Check::OwnList, what));
    }
    Ok(())
}

/// SA-13: one ABANDON vote for `rules.ctx`.
///
/// # Errors
/// [`VerifyError`] blaming the voter.
pub fn abandon_vote(rules: &Rules<'_>, vote: &AbandonVote) -> Result<(), VerifyError> {
    signed(rules, Check::AbandonSignature, vote.silo, Label::Abandon, &[], &vote.signature)
}

/// SA-13: an abandon certificate for the attempt `rules.ctx`, by that context's roster and quorums: at least q votes,
/// ascending by silo, every signature valid.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one vote is at fault.
pub fn abandon_certificate(
    rules: &Rules<'_>,
    certificate: &AbandonCertificate,
) -> Result<VerifiedAbandon, VerifyError> {
    quorum(rules, Check::AbandonQuorum, "ABANDON votes", certificate.0.iter().map(|v| v.silo))?;
    certificate.0.iter().try_for_each(|v| abandon_vote(rules, v))?;
    Ok(VerifiedAbandon { ctx: *rules.ctx })
}

/// SA-14: one RESULT vote over both hashes.
///
/// # Errors
/// [`VerifyError`] blaming the voter.
pub fn result_vote(
    rules: &Rules<'_>,
    vote: &ResultVote,
    result_hash: &Digest,
    next_model_hash: &Digest,
) -> Result<(), VerifyError> {
    let fields: [&[u8]; 2] = [&result_hash.0, &next_model_hash.0];
    signed(rules, Check::ResultSignature, vote.silo, Label::Result, &fields, &vote.signature)
}

/// SA-14: a result certificate: at least q votes of distinct silos of the roster, ascending, every signature valid over
/// both hashes. The latecomer then checks the model that it computes from S against `next_model_hash`.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one vote is at fault.
pub fn result_certificate(
    rules: &Rules<'_>,
    certificate: &ResultCertificate,
    result_hash: &Digest,
    next_model_hash: &Digest,
) -> Result<VerifiedResult, VerifyError> {
    quorum(rules, Check::ResultQuorum, "RESULT votes", certificate.0.iter().map(|v| v.silo))?;
    certificate.0.iter().try_for_each(|v| result_vote(rules, v, result_hash, next_model_hash))?;
    Ok(VerifiedResult { result_hash: *result_hash, next_model_hash: *next_model_hash })
}

/// A certificate: at least q votes (`enough` is the check), ascending, so that none is counted twice.
fn quorum(
    rules: &Rules<'_>,
    enough: Check,
    what: &str,
    voters: impl ExactSizeIterator<Item = SiloId> + Clone,
) -> Result<(), VerifyError> {
    let bounds = [(enough, usize::from(rules.quorum.q)), (Check::AtMost, rules.roster.len())];
    bounded_list(what, voters, bounds, enough)
}
