//! P4: the survivor list, and a silo's one vote per attempt: COMMIT to a list or ABANDON of the attempt.
//!
//! Contract: a silo signs one of the two, once per (job, round, attempt), after its journal holds the vote (SA-07). q COMMITs
//! over one T3 release shares (SA-08); q ABANDONs of every earlier attempt allow an update to be sent again (SA-13).

use crate::hash::Digest;
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::labels::Label;
use crate::masked::MaskedHeader;
use serde::{Deserialize, Serialize};

/// The survivors' signed hashes in order of id. Unverified until [`crate::verify::survivor_list`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurvivorList(pub Vec<MaskedHeader>);

/// One silo's COMMIT(T3). Unverified until [`crate::verify::commit_vote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitVote {
    /// The silo.
    pub silo: SiloId,
    /// Over T3 under `ctx`.
    pub signature: Signature,
}

impl CommitVote {
    /// Signs COMMIT(T3). Journal T3 and the reply first (SA-07).
    pub fn sign(identity: &IdentityKey, ctx: &Digest, silo: SiloId, t3: &Digest) -> CommitVote {
        CommitVote { silo, signature: identity.sign(Label::Commit, ctx, silo, &[&t3.0]) }
    }
}

/// COMMIT votes in order of id. Unverified until [`crate::verify::commit_certificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitCertificate(pub Vec<CommitVote>);

/// One silo's ABANDON(ctx). Unverified until [`crate::verify::abandon_vote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbandonVote {
    /// The silo.
    pub silo: SiloId,
    /// Over nothing but `ctx`.
    pub signature: Signature,
}

impl AbandonVote {
    /// Signs ABANDON(ctx). Journal it first (SA-07).
    pub fn sign(identity: &IdentityKey, ctx: &Digest, silo: SiloId) -> AbandonVote {
        AbandonVote { silo, signature: identity.sign(Label::Abandon, ctx, silo, &[]) }
    }
}

/// ABANDON votes in order of id. Unverified until [`crate::verify::abandon_certificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbandonCertificate(pub Vec<AbandonVote>);
