//! P1: checks on advertised keys.

use super::{Check, Rules, VerifyError, list, signed};
use crate::advert::{Advert, JournalMark};
use crate::hash::Digest;
use crate::identity::SiloId;
use crate::keys::is_sound_public;
use crate::labels::Label;
use crate::transcript;
use std::collections::BTreeSet;

/// U1: the adverts of an attempt, all checked.
#[derive(Debug, Clone)]
pub struct VerifiedAdverts {
    ctx: Digest,
    t1: Digest,
    adverts: Vec<Advert>,
}

impl VerifiedAdverts {
    /// The context that they were checked against.
    pub fn ctx(&self) -> &Digest {
        &self.ctx
    }

    /// T1.
    pub fn t1(&self) -> Digest {
        self.t1
    }

    /// The adverts in order of id.
    pub fn adverts(&self) -> &[Advert] {
        &self.adverts
    }

    /// U1 in order.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = SiloId> + Clone + '_ {
        self.adverts.iter().map(|a| a.silo)
    }

    /// A silo's advert.
    pub fn get(&self, silo: SiloId) -> Option<&Advert> {
        self.position(silo).map(|i| &self.adverts[i])
    }

    /// A silo's place in U1.
    pub fn position(&self, silo: SiloId) -> Option<usize> {
        self.adverts.binary_search_by_key(&silo, |a| a.silo).ok()
    }
}

/// SA-01: one advert on arrival: in the roster, two different sound keys, signature valid under `ctx` (SA-02).
///
/// # Errors
/// [`VerifyError`] blaming the silo.
pub fn advert(rules: &Rules<'_>, advert: &Advert) -> Result<(), VerifyError> {
    let length = advert.journal_length.to_le_bytes();
    let fields = advert.fields(&length);
    signed(rules, Check::AdvertSignature, advert.silo, Label::Advert, &fields, &advert.signature)?;
    for (what, key) in [("channel", &advert.channel_key), ("mask", &advert.mask_key)] {
        if Check::SoundKeys.finds(!is_sound_public(key)) {
            let what = format!("its {what} key is of low order or not canonical, so an exchange with it is no secret");
            return Err(VerifyError::of(Check::SoundKeys, advert.silo, what));
        }
    }
    Ok(())
}

/// SA-01, SA-02, SA-05: the adverts of an attempt: at least m, ascending ids of the roster, every advert sound and signed
/// ([`advert`]), all keys different, `own` (a silo's own advert; the coordinator has none) among them as sent. SA-07: no
/// peer's journal went backwards against `known`, the marks that this checker remembers.
///
/// # Errors
/// [`VerifyError`], blaming a silo where one advert is at fault.
pub fn adverts(
    rules: &Rules<'_>,
    adverts: Vec<Advert>,
    own: Option<&Advert>,
    known: &[(SiloId, JournalMark)],
) -> Result<VerifiedAdverts, VerifyError> {
    let n = rules.roster.len();
    if Check::QuorumOfRoster.finds(n != usize::from(rules.quorum.n)) {
        return Err(VerifyError::new(Check::QuorumOfRoster, "the quorums are not those of the roster"));
    }
    list("adverts", adverts.iter().map(|a| a.silo), usize::from(rules.quorum.m), n)?;
    if Check::OwnAdvert.finds(own.is_some_and(|own| !adverts.contains(own))) {
        return Err(VerifyError::new(Check::OwnAdvert, "this silo's own advert is missing or altered"));
    }
    let mut keys = BTreeSet::new();
    for a in &adverts {
        if Check::DistinctKeys.finds(!(keys.insert(a.channel_key) && keys.insert(a.mask_key))) {
            return Err(VerifyError::of(Check::DistinctKeys, a.silo, "it advertises a key that occurs twice".into()));
        }
        let before = known.iter().find(|(silo, _)| *silo == a.silo).map(|(_, mark)| *mark);
        if let Some(before) = before {
            let forked = a.journal_length == before.length && a.journal_head != before.head;
            if Check::JournalForward.finds(a.journal_length < before.length || forked) {
                let what = "its journal went backwards or was rewritten: it may have been restored from a copy";
                return Err(VerifyError::of(Check::JournalForward, a.silo, what.into()));
            }
        }
    }
    adverts.iter().try_for_each(|a| advert(rules, a))?;
    let t1 = transcript::t1(rules.ctx, &adverts);
    Ok(VerifiedAdverts { ctx: *rules.ctx, t1, adverts })
}
