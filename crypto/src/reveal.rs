//! P5: the one reply of a survivor, b-shares of survivors and s-shares of dropped silos.
//!
//! Contract: both shares of one peer cannot be expressed (SA-06); a reply waits in the journal as a [`PendingReveal`] and
//! comes out only against a verified certificate over its own T3 (SA-08), the same bytes every time (SA-07). It is signed,
//! so that a bad share is evidence against its holder and against nobody else.

use crate::hash::{Digest, Hasher};
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::labels::Label;
use crate::share::{ShareKind, ShareOpening};
use crate::verify::{VerifiedCertificate, VerifiedList, VerifyError};
use serde::{Deserialize, Serialize};

/// One share of one peer: of its self-mask secret, or of its mask secret, never both.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RevealedShare {
    /// The peer survived: a share of its `b`.
    OfSurvivor {
        /// The dealer of the share.
        peer: SiloId,
        /// Share and nonce of its b-leaf.
        b: ShareOpening,
    },
    /// The peer was dropped: a share of its σ.
    OfDropped {
        /// The dealer of the share.
        peer: SiloId,
        /// Share and nonce of its s-leaf.
        s: ShareOpening,
    },
}

impl RevealedShare {
    /// The dealer of the share.
    pub fn peer(&self) -> SiloId {
        match self {
            RevealedShare::OfSurvivor { peer, .. } | RevealedShare::OfDropped { peer, .. } => *peer,
        }
    }

    /// Which secret it is a share of.
    pub fn kind(&self) -> ShareKind {
        match self {
            RevealedShare::OfSurvivor { .. } => ShareKind::SelfMask,
            RevealedShare::OfDropped { .. } => ShareKind::MaskSecret,
        }
    }

    pub(crate) fn opening(&self) -> &ShareOpening {
        match self {
            RevealedShare::OfSurvivor { b, .. } => b,
            RevealedShare::OfDropped { s, .. } => s,
        }
    }
}

/// A survivor's reply, at most one share per peer in order of id. Unverified until [`crate::verify::reveal`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reveal {
    /// The holder of the shares.
    pub silo: SiloId,
    /// One share per dealer.
    pub shares: Vec<RevealedShare>,
    /// Over T3 and the shares under `ctx`.
    pub signature: Signature,
}

impl Reveal {
    /// Signs a reply to the list with this T3.
    pub(crate) fn sign(
        identity: &IdentityKey,
        ctx: &Digest,
        silo: SiloId,
        t3: &Digest,
        shares: Vec<RevealedShare>,
    ) -> Reveal {
        let signature = identity.sign(Label::Reveal, ctx, silo, &[&t3.0, &shares_hash(&shares).0]);
        Reveal { silo, shares, signature }
    }
}

/// Hash over the shares of a reply in their order.
pub(crate) fn shares_hash(shares: &[RevealedShare]) -> Digest {
    let hasher = Hasher::new(Label::RevealedShares).u64(shares.len() as u64);
    let add = |h: Hasher, s: &RevealedShare| {
        let opening = s.opening();
        h.field(&s.peer().to_bytes()).field(&[s.kind().byte()]).field(&opening.share.0).field(&opening.nonce)
    };
    shares.iter().fold(hasher, add).finish()
}

/// A reply that waits for its certificate; what the journal stores with the vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingReveal {
    t3: Digest,
    survivors: Vec<SiloId>,
    reveal: Reveal,
}

impl PendingReveal {
    pub(crate) fn new(list: &VerifiedList, reveal: Reveal) -> PendingReveal {
        PendingReveal { t3: list.t3(), survivors: list.survivors().to_vec(), reveal }
    }

    /// The list that the reply belongs to.
    pub fn t3(&self) -> Digest {
        self.t3
    }

    /// The survivors of that list, who may sign its certificate.
    pub fn survivors(&self) -> &[SiloId] {
        &self.survivors
    }

    /// SA-08: the reply, against a verified certificate over the same T3.
    ///
    /// # Errors
    /// [`VerifyError`] where the certificate is over another T3.
    pub fn release(&self, certificate: &VerifiedCertificate) -> Result<&Reveal, VerifyError> {
        if certificate.t3() != self.t3 {
            let what = "the commit certificate is over another survivor list than the one this silo voted for";
            return Err(VerifyError::new("SA-08", what));
        }
        Ok(&self.reveal)
    }
}
