//! P5: checks on revealed shares and on the secrets rebuilt from them.

use super::{
    Check, Rules, VerifiedAdverts, VerifiedDealing, VerifiedHeaders, VerifiedList, VerifyError, bounded_list, signed,
};
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::keys::MaskSecret;
use crate::labels::Label;
use crate::reveal::{Reveal, shares_hash};
use crate::shamir::{SecretScalar, Share};
use crate::share::{ShareKind, self_commitment};
use std::collections::BTreeMap;
use subtle::ConstantTimeEq;

/// A survivor's reply in which every share is the one that was dealt to it.
#[derive(Debug)]
pub struct VerifiedReveal {
    t3: Digest,
    silo: SiloId,
    shares: Vec<(SiloId, Share)>,
}

impl VerifiedReveal {
    /// The list that it was checked against.
    pub fn t3(&self) -> Digest {
        self.t3
    }

    /// The holder.
    pub fn silo(&self) -> SiloId {
        self.silo
    }

    /// Each dealer with the share of its secret (`b` of survivors, σ of dropped silos).
    pub fn shares(&self) -> &[(SiloId, Share)] {
        &self.shares
    }
}

/// SA-05, SA-06, SA-09: a reply as it reaches the coordinator: its holder is a survivor and signed it, ascending dealers,
/// b-shares of survivors and s-shares of dropped silos only, and every share opens the leaf that its dealer signed for this
/// holder. A reply with one wrong share counts for nothing.
///
/// # Errors
/// [`VerifyError`] blaming the holder.
pub fn reveal(
    rules: &Rules<'_>,
    reveal: &Reveal,
    survivors: &VerifiedList,
    dealings: &BTreeMap<SiloId, VerifiedDealing>,
) -> Result<VerifiedReveal, VerifyError> {
    let holder = reveal.silo;
    let wrong = |check, what: String| Err(VerifyError::of(check, holder, what));
    if Check::RevealBySurvivor.finds(survivors.survivors().binary_search(&holder).is_err()) {
        return wrong(Check::RevealBySurvivor, "it revealed shares without being a survivor".into());
    }
    let most = survivors.survivors().len() + survivors.dropped().len();
    let (peers, bounds) = (reveal.shares.iter().map(|s| s.peer()), [(Check::AtLeastM, 0), (Check::AtMost, most)]);
    bounded_list("revealed shares", peers, bounds, Check::RevealedOnce)
        .map_err(|e| VerifyError::of(e.check, holder, format!("its reply is malformed: {}", e.what)))?;
    let fields: [&[u8]; 2] = [&survivors.t3().0, &shares_hash(&reveal.shares).0];
    signed(rules, Check::RevealSignature, holder, Label::Reveal, &fields, &reveal.signature)?;
    let mut shares = Vec::with_capacity(reveal.shares.len());
    for share in &reveal.shares {
        let (peer, kind) = (share.peer(), share.kind());
        let implied = match kind {
            ShareKind::SelfMask => survivors.survivors(),
            ShareKind::MaskSecret => survivors.dropped(),
        };
        if Check::RevealKind.finds(implied.binary_search(&peer).is_err()) {
            return wrong(Check::RevealKind, format!("it revealed the wrong kind of share of silo {peer}"));
        }
        let leaf = dealings.get(&peer).filter(|d| d.dealer() == peer).and_then(|d| {
            let leaves = d.leaves(holder)?;
            let leaf = if kind == ShareKind::SelfMask { leaves.b } else { leaves.s };
            Some((d.header().t1(), leaf))
        });
        let Some((t1, leaf)) = leaf else {
            return wrong(Check::RevealLeaf, format!("it revealed a share of silo {peer}, which dealt it none"));
        };
        if Check::RevealLeaf.finds(share.opening().leaf(&t1, peer, holder, kind) != leaf) {
            return wrong(Check::RevealLeaf, format!("its share of silo {peer} is not the one that it was dealt"));
        }
        shares.push((peer, share.opening().share.clone()));
    }
    Ok(VerifiedReveal { t3: survivors.t3(), silo: holder, shares })
}

/// SA-09: a rebuilt `b` against the dealer's signed H(b).
///
/// # Errors
/// [`VerifyError`] blaming the dealer: since every share opened its leaf, the dealer dealt off its polynomial.
pub fn self_secret(dealer: SiloId, b: SecretScalar, headers: &VerifiedHeaders) -> Result<SecretScalar, VerifyError> {
    let commitment = self_commitment(&b, &headers.t1(), dealer);
    let matches = headers.get(dealer).is_some_and(|h| bool::from(h.commitment_b.0.ct_eq(&commitment.0)));
    if Check::SelfSecret.finds(!matches) {
        let what = "the self-mask secret rebuilt from its shares is not the one that it committed to";
        return Err(VerifyError::of(Check::SelfSecret, dealer, what.into()));
    }
    Ok(b)
}

/// SA-09: the mask secret made from a rebuilt σ against the dealer's advertised mask key.
///
/// # Errors
/// [`VerifyError`] blaming the dealer, as [`self_secret`].
pub fn mask_secret(dealer: SiloId, sigma: &SecretScalar, adverts: &VerifiedAdverts) -> Result<MaskSecret, VerifyError> {
    let secret = MaskSecret::from_sigma(sigma, adverts.ctx());
    let matches = adverts.get(dealer).is_some_and(|advert| advert.mask_key == secret.public());
    if Check::MaskSecret.finds(!matches) {
        let what = "the mask secret rebuilt from its shares is not that of the mask key that it advertised";
        return Err(VerifyError::of(Check::MaskSecret, dealer, what.into()));
    }
    Ok(secret)
}
