//! P6: RESULT votes, by which silos say that they computed the same next model from the same sum.
//!
//! Contract: q RESULT votes admit a round's result for latecomers and for export; a silo signs only what it computed itself.

use crate::hash::Digest;
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::labels::Label;
use serde::{Deserialize, Serialize};

/// One silo's RESULT(result_hash, next model_hash). Unverified until [`crate::verify::result_vote`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultVote {
    /// The silo.
    pub silo: SiloId,
    /// Over both hashes under `ctx`.
    pub signature: Signature,
}

impl ResultVote {
    /// Signs a result that this silo has computed from S.
    pub fn sign(
        identity: &IdentityKey,
        ctx: &Digest,
        silo: SiloId,
        result_hash: &Digest,
        next_model_hash: &Digest,
    ) -> ResultVote {
        let signature = identity.sign(Label::Result, ctx, silo, &[&result_hash.0, &next_model_hash.0]);
        ResultVote { silo, signature }
    }
}

/// RESULT votes in order of id. Unverified until [`crate::verify::result_certificate`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultCertificate(pub Vec<ResultVote>);
