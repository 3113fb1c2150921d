//! P3: a silo's masked input and the signed hash that stands for it in every survivor list.
//!
//! Contract: y = x + self mask ± pair masks, mod 2^b, packed. The hash is signed under `bind`, so the list of P4 shows each
//! silo that the others saw the same transcript (SA-04).

use crate::advert::SessionSecrets;
use crate::hash::Digest;
use crate::identity::{IdentityKey, Signature, SiloId};
use crate::keys::self_seed;
use crate::labels::Label;
use crate::mask::{Sign, Stream};
use crate::transcript;
use crate::verify::{Check, VerifiedAdverts, VerifiedHeaders, VerifyError};
use serde::{Deserialize, Serialize};

/// A silo's signed hash of its masked input. Unverified until [`crate::verify::masked_header`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedHeader {
    /// The silo.
    pub silo: SiloId,
    /// H(y) over the packed bytes.
    pub hash: Digest,
    /// Over bind and H(y) under `ctx`.
    pub signature: Signature,
}

impl MaskedHeader {
    /// Signs the hash of a packed masked input.
    pub fn sign(identity: &IdentityKey, ctx: &Digest, bind: &Digest, silo: SiloId, packed: &[u8]) -> MaskedHeader {
        let hash = transcript::masked_hash(packed);
        let signature = identity.sign(Label::Masked, ctx, silo, &[&bind.0, &hash.0]);
        MaskedHeader { silo, hash, signature }
    }
}

/// The masks of one silo: its self mask, and one pair mask with every other silo of U2 (the lower id adds, the higher
/// subtracts). Apply them with [`crate::mask::apply`], then erase `secrets`.
///
/// # Errors
/// [`VerifyError`] naming the peer where a key is missing or of low order.
pub fn streams(
    silo: SiloId,
    secrets: &SessionSecrets,
    adverts: &VerifiedAdverts,
    headers: &VerifiedHeaders,
) -> Result<Vec<Stream>, VerifyError> {
    let bind = headers.bind();
    let mut streams = vec![Stream { seed: self_seed(&secrets.b, &bind), sign: Sign::Add }];
    for peer in headers.ids().filter(|&peer| peer != silo) {
        let advert = adverts.get(peer).ok_or_else(|| {
            VerifyError::of(Check::DealerAdvertised, peer, "it dealt shares without having advertised keys".into())
        })?;
        let seed = secrets.mask.pair_seed(&bind, silo, (peer, &advert.mask_key));
        let seed = seed.map_err(|e| VerifyError::of(Check::Contributory, peer, e.to_string()))?;
        streams.push(Stream { seed, sign: pair_sign(silo, peer) });
    }
    Ok(streams)
}

/// The sign with which `silo` applies its mask with `peer`.
pub(crate) fn pair_sign(silo: SiloId, peer: SiloId) -> Sign {
    if silo < peer { Sign::Add } else { Sign::Subtract }
}
