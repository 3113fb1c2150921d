//! P2 disputes: a recipient complains about a pair that its dealer sealed wrongly.
//!
//! Contract: an honest recipient complains only about a dealer that broke the rules, since it first checks that the
//! ciphertext is the one under the dealer's root. So an honest dealer meets at most c complainers, all colluding, and more
//! of them convict it. A bad pair is a share less; the dealer answers nothing, and nobody's shares are opened.

use crate::hash::Digest;
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::labels::Label;
use crate::share::Delivery;
use crate::verify::VerifiedHeader;
use serde::{Deserialize, Serialize};

/// A signed complaint. Unverified until [`crate::verify::complaint`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Complaint {
    /// Who complains.
    pub silo: SiloId,
    /// About whom.
    pub dealer: SiloId,
    /// Hash of the ciphertext that did not hold what it should.
    pub ciphertext: Digest,
    /// Over T1, dealer, its root and the ciphertext hash under `ctx`.
    pub signature: Signature,
}

impl Complaint {
    /// Signs a complaint about a delivery of which [`crate::verify::delivery`] said that its dealer is at fault.
    pub fn sign(identity: &IdentityKey, silo: SiloId, header: &VerifiedHeader, delivery: &Delivery) -> Complaint {
        let dealer = header.header().silo;
        let ciphertext = delivery.sealed.hash();
        let fields: [&[u8]; 4] = [&header.t1().0, &dealer.to_bytes(), &header.header().root.0, &ciphertext.0];
        let signature = identity.sign(Label::Complaint, header.ctx(), silo, &fields);
        Complaint { silo, dealer, ciphertext, signature }
    }
}
